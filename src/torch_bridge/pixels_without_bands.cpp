/* pixels_without_bands.cpp - see pixels_without_bands.h. */
#include "pixels_without_bands.h"

#include <algorithm>

namespace bridge {

std::optional<PixelsWithoutBands::Form> PixelsWithoutBands::form_of(const Subject &subject) {
    const Program &p = subject.program;
    const at::ScalarType dtype = subject.images.scalar_type();
    std::optional<Form> found;
    if (subject.trial.gradient || !subject.model.device.is_cpu() || subject.bands != 0 ||
        (dtype != at::kFloat && dtype != at::kDouble) || !ByPlace::behind(p, 0, false)) {
        return found;
    }
    /* As far as the program is affine: in the cache no values at the cut have to be written to memory and read again. */
    for (size_t position : affine_positions(p)) {
        if (const std::optional<ByPlace> rest = ByPlace::behind(p, position, false)) {
            found = {position, *rest, bytes_of(p.values[static_cast<size_t>(rest->value())])};
        }
    }
    const bool taken = found && p.values[static_cast<size_t>(found->rest.value())].dtype == dtype &&
                       static_cast<double>(subject.images.size(0)) * found->bytes <= MOST_KEPT_BYTES;
    return taken ? found : std::nullopt;
}

double PixelsWithoutBands::seconds(const Subject &subject, const Form &form, double part) {
    return IN_CACHE * (std::min(part, 1 - part) * subject.cost(0, form.cut) + subject.cost(form.cut, form.rest.tail()));
}

PixelsWithoutBands::PixelsWithoutBands(const Inputs &inputs, const Form &form, bool in_double)
    : inputs_(inputs), form_(form), in_double_(in_double) {
    const at::NoGradGuard off;
    const std::vector<int> live{form.rest.value()};
    const int64_t bands = inputs_.images.size(1);
    const at::Tensor one_band_each = at::eye(bands, bands + 1, inputs_.images.options()).view({1, bands, bands + 1, 1});
    const at::Tensor found = as_places(values_of(inputs_, one_band_each, live, form.cut, is_narrow(inputs_))[0], false);
    matrix_ = found.slice(0, 0, bands).sub(found.slice(0, bands)).to(inputs_.images.scalar_type()).contiguous();
    images_ = behind(inputs_.images);
}

std::vector<at::Tensor> PixelsWithoutBands::behind(const at::Tensor &images) const {
    const std::vector<int> live{form_.rest.value()};
    const at::Tensor values =
        narrowed(inputs_.program, values_of(inputs_, images, live, form_.cut, in_double_), live)[0];
    std::vector<at::Tensor> found;
    for (int64_t row = 0; row < values.size(0); row++) {
        found.push_back(as_places(values.slice(0, row, row + 1), false).contiguous());
    }
    return found;
}

PixelsWithoutBands::Sample PixelsWithoutBands::sample_of(const std::vector<uint8_t> &replaced) {
    const auto all = static_cast<std::ptrdiff_t>(replaced.size());
    const bool most = 2 * std::count(replaced.begin(), replaced.end(), 1) > all;
    std::vector<int64_t> bands;
    for (size_t b = 0; b < replaced.size(); b++) {
        if ((replaced[b] != 0) != most) {
            bands.push_back(static_cast<int64_t>(b));
        }
    }
    if (most && baselines_.empty()) {
        baselines_ = behind(inputs_.baselines);
    }
    const at::Tensor index = at::tensor(bands, at::kLong);
    return {most, index, matrix_.index_select(0, index)};
}

at::Tensor PixelsWithoutBands::values(const std::vector<Sample> &samples, int64_t row, int64_t first,
                                      int64_t places) const {
    const auto at_row = static_cast<size_t>(row);
    const auto some = [&](const at::Tensor &images) { return images[row].flatten(1).slice(1, first, first + places); };
    const at::Tensor change = some(inputs_.baselines) - some(inputs_.images);
    at::Tensor found = at::empty({static_cast<int64_t>(samples.size()), places, matrix_.size(1)}, matrix_.options());
    for (size_t k = 0; k < samples.size(); k++) {
        const Sample &s = samples[k];
        const at::Tensor own = (s.of_baseline ? baselines_ : images_)[at_row].slice(0, first, first + places);
        at::Tensor out = found[static_cast<int64_t>(k)];
        at::addmm_out(out, own, change.index_select(0, s.bands).t(), s.matrix, 1, s.of_baseline ? -1 : 1);
    }
    return found;
}

int64_t PixelsWithoutBands::tile(size_t samples) const {
    return form_.rest.tile(samples * static_cast<size_t>(matrix_.size(1)) * matrix_.element_size());
}

} // namespace bridge
