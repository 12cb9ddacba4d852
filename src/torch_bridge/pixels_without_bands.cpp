/* pixels_without_bands.cpp - see pixels_without_bands.h. */
#include "pixels_without_bands.h"

#include "clones.h"

#include <algorithm>

namespace bridge {
namespace {

/* So few bands are added up here: a matrix product takes longer to call than to compute. */
const int64_t FEW_BANDS = 16;

/* out (places, channels) = own + what `n` bands change by, times their rows of a matrix (n, channels). */
template <typename T>
INSIDE void add_bands(const T *own, const T *const *change, const T *__restrict matrix, int64_t n, int64_t places,
                      int64_t channels, T *__restrict out) {
    for (int64_t place = 0; place < places; place++, own += channels, out += channels) {
        const T first = change[0][place];
        for (int64_t c = 0; c < channels; c++) {
            out[c] = own[c] + first * matrix[c];
        }
        int64_t b = 1;
        for (; b + 1 < n; b += 2) { /* two at a time: `out` is read and written half as often */
            const T v = change[b][place], w = change[b + 1][place];
            const T *of_v = matrix + b * channels, *of_w = of_v + channels;
            for (int64_t c = 0; c < channels; c++) {
                out[c] += v * of_v[c] + w * of_w[c];
            }
        }
        for (; b < n; b++) {
            const T v = change[b][place];
            for (int64_t c = 0; c < channels; c++) {
                out[c] += v * matrix[b * channels + c];
            }
        }
    }
}

CLONES void add(const float *own, const float *const *change, const float *matrix, int64_t n, int64_t places,
                int64_t channels, float *out) {
    add_bands(own, change, matrix, n, places, channels, out);
}

CLONES void add(const double *own, const double *const *change, const double *matrix, int64_t n, int64_t places,
                int64_t channels, double *out) {
    add_bands(own, change, matrix, n, places, channels, out);
}

/* The same for tensors; change (all bands, places). */
template <typename T>
void add_few(const at::Tensor &own, const at::Tensor &change, const at::Tensor &bands, const at::Tensor &matrix,
             T *out) {
    const T *rows[FEW_BANDS];
    for (int64_t b = 0; b < bands.size(0); b++) {
        rows[b] = change.const_data_ptr<T>() + bands.const_data_ptr<int64_t>()[b] * change.size(1);
    }
    add(own.const_data_ptr<T>(), rows, matrix.const_data_ptr<T>(), bands.size(0), own.size(0), own.size(1), out);
}

} // namespace

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
    const at::Tensor index = at::tensor(bands, at::kLong), matrix = matrix_.index_select(0, index);
    return {most, index, most ? matrix.neg() : matrix};
}

at::Tensor PixelsWithoutBands::values(const std::vector<Sample> &samples, int64_t row, int64_t first,
                                      int64_t places) const {
    const auto at_row = static_cast<size_t>(row);
    const auto some = [&](const at::Tensor &images) { return images[row].flatten(1).slice(1, first, first + places); };
    const at::Tensor change = (some(inputs_.baselines) - some(inputs_.images)).contiguous();
    const int64_t channels = matrix_.size(1);
    at::Tensor found = at::empty({static_cast<int64_t>(samples.size()), places, channels}, matrix_.options());
    for (size_t k = 0; k < samples.size(); k++) {
        const Sample &s = samples[k];
        const int64_t n = s.bands.size(0), from = static_cast<int64_t>(k) * places * channels;
        const at::Tensor own = (s.of_baseline ? baselines_ : images_)[at_row].slice(0, first, first + places);
        if (n == 0 || n > FEW_BANDS) {
            at::Tensor out = found[static_cast<int64_t>(k)];
            at::addmm_out(out, own, change.index_select(0, s.bands).t(), s.matrix);
        } else if (change.scalar_type() == at::kFloat) {
            add_few(own, change, s.bands, s.matrix, found.mutable_data_ptr<float>() + from);
        } else {
            add_few(own, change, s.bands, s.matrix, found.mutable_data_ptr<double>() + from);
        }
    }
    return found;
}

int64_t PixelsWithoutBands::tile(size_t samples) const {
    return form_.rest.tile(samples * static_cast<size_t>(matrix_.size(1)) * matrix_.element_size());
}

} // namespace bridge
