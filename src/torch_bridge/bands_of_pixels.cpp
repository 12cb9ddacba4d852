/*
 * bands_of_pixels.cpp - samples without some bands, for models that look at each pixel by itself from the image to a mean or
 * sum over places.
 *
 * Behind the part that is affine in the input a pixel has its values for the image, and what the replaced bands change by
 * times a matrix, which that part gives for pixels that hold one band each. So few pixels at a time are taken through all
 * samples, while they lie in the cache (by_place.h).
 */
#include "by_place.h"
#include "threads.h"

#include <algorithm>

namespace bridge {
namespace {

/* Fewer values of pixels are not worth it: they lie in the cache as a whole. */
const int64_t LEAST_VALUES = 1 << 16;
/* Taken where a sample is planned to take less than this part of an evaluation. */
const double LARGEST_PART = 0.9;

class BandsOfPixels : public Features {
  public:
    BandsOfPixels(const Subject &subject, size_t cut, const ByPlace &rest, double seconds);
    std::string name() const override { return "affine prefix, pixel by pixel"; }
    size_t together() const override { return TOGETHER_BY_PLACE; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    /* A sample as the image without some bands, or as the baseline with some. */
    struct Sample {
        bool of_baseline;
        at::Tensor bands;  /* indices of those that differ */
        at::Tensor matrix; /* (those bands, channels) */
    };

    std::vector<at::Tensor> behind(const at::Tensor &images) const;
    Sample sample_of(const met_sample &s) const;
    at::Tensor mean_of(const std::vector<Sample> &samples, int64_t row) const;

    const Inputs inputs_;
    ByPlace rest_;
    size_t cut_;
    bool in_double_;
    at::Tensor matrix_; /* (bands, channels) */
    /* Behind the affine part, (places, channels) each; the baselines' are made when they are needed. */
    std::vector<at::Tensor> images_, baselines_;
};

BandsOfPixels::BandsOfPixels(const Subject &subject, size_t cut, const ByPlace &rest, double seconds)
    : inputs_(subject), rest_(rest), cut_(cut), in_double_(is_narrow(subject) && is_cheap_in_double(subject, cut, 1)) {
    stop = rest.stop();
    planned = seconds;
    if (subject.only_planned) {
        return;
    }
    const at::NoGradGuard off;
    const std::vector<int> live{rest.value()};
    const int64_t bands = inputs_.images.size(1);
    const at::Tensor one_band_each = at::eye(bands, bands + 1, inputs_.images.options()).view({1, bands, bands + 1, 1});
    const at::Tensor found = as_places(values_of(inputs_, one_band_each, live, cut, is_narrow(subject))[0], false);
    matrix_ = found.slice(0, 0, bands).sub(found.slice(0, bands)).to(inputs_.images.scalar_type()).contiguous();
    images_ = behind(inputs_.images);
}

std::vector<at::Tensor> BandsOfPixels::behind(const at::Tensor &images) const {
    const std::vector<int> live{rest_.value()};
    const at::Tensor values = narrowed(inputs_.program, values_of(inputs_, images, live, cut_, in_double_), live)[0];
    std::vector<at::Tensor> found;
    for (int64_t row = 0; row < values.size(0); row++) {
        found.push_back(as_places(values.slice(0, row, row + 1), false).contiguous());
    }
    return found;
}

BandsOfPixels::Sample BandsOfPixels::sample_of(const met_sample &s) const {
    const int64_t all = inputs_.images.size(1);
    const std::vector<uint8_t> replaced = replaced_bands(s, inputs_.bands, all);
    const bool most = 2 * std::count(replaced.begin(), replaced.end(), 1) > all;
    std::vector<int64_t> bands;
    for (size_t b = 0; b < replaced.size(); b++) {
        if ((replaced[b] != 0) != most) {
            bands.push_back(static_cast<int64_t>(b));
        }
    }
    const at::Tensor index = at::tensor(bands, at::kLong);
    return {most, index, matrix_.index_select(0, index)};
}

/* Of samples of one image, what is read in front of the mean, as that. */
at::Tensor BandsOfPixels::mean_of(const std::vector<Sample> &samples, int64_t row) const {
    const auto at_row = static_cast<size_t>(row), channels = static_cast<size_t>(matrix_.size(1));
    const at::Tensor image = inputs_.images[row].flatten(1), baseline = inputs_.baselines[row].flatten(1);
    const size_t bytes = samples.size() * channels * matrix_.element_size();
    return rest_.mean_of(rest_.tile(bytes), [&](int64_t first, int64_t places) {
        const at::NoGradGuard off;
        const at::Tensor change = baseline.slice(1, first, first + places) - image.slice(1, first, first + places);
        const at::Tensor values =
            at::empty({static_cast<int64_t>(samples.size()), places, matrix_.size(1)}, matrix_.options());
        for (size_t k = 0; k < samples.size(); k++) {
            const Sample &s = samples[k];
            const at::Tensor &own = s.of_baseline ? baselines_[at_row] : images_[at_row];
            at::Tensor out = values[static_cast<int64_t>(k)];
            at::addmm_out(out, own.slice(0, first, first + places), change.index_select(0, s.bands).t(), s.matrix, 1,
                          s.of_baseline ? -1 : 1);
        }
        return rest_.run(inputs_, inputs_.origins[at_row], values);
    });
}

std::vector<at::Tensor> BandsOfPixels::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    const ThreadsBeside threads;
    std::vector<at::Tensor> found;
    for (size_t from = 0, to; from < rows.size(); from = to) {
        std::vector<Sample> samples;
        for (to = from; to < rows.size() && rows[to] == rows[from]; to++) {
            samples.push_back(sample_of(s[to]));
            if (samples.back().of_baseline && baselines_.empty()) {
                baselines_ = behind(inputs_.baselines);
            }
        }
        const int64_t origin = inputs_.origins[static_cast<size_t>(rows[from])];
        found.push_back(rest_.of_mean(inputs_, origin, mean_of(samples, rows[from])));
    }
    return live_values(inputs_.program, rest_.mean(), {at::cat(found)});
}

} // namespace

std::unique_ptr<Features> bands_of_pixels(const Subject &subject) {
    const Program &p = subject.program;
    const at::ScalarType dtype = subject.images.scalar_type();
    if (subject.trial.gradient || !subject.model.device.is_cpu() || subject.bands != 0 ||
        (dtype != at::kFloat && dtype != at::kDouble) || !ByPlace::behind(p, 0, false)) {
        return nullptr;
    }
    const auto bands = static_cast<double>(subject.images.size(1));
    double replaced = 0;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const std::vector<uint8_t> flags =
            replaced_bands(subject.trial.samples[i], subject.bands, subject.images.size(1));
        const double part = static_cast<double>(std::count(flags.begin(), flags.end(), 1)) / bands;
        replaced = std::max(replaced, std::min(part, 1 - part));
    }
    /* As far as the program is affine: in the cache no values at the cut have to be written to memory and read again. */
    size_t cut = 0;
    std::optional<ByPlace> rest;
    for (size_t position : affine_positions(p)) {
        if (std::optional<ByPlace> further = ByPlace::behind(p, position, false)) {
            cut = position;
            rest = further;
        }
    }
    if (!rest || p.values[static_cast<size_t>(rest->value())].dtype != dtype) {
        return nullptr;
    }
    const double bytes = bytes_of(p.values[static_cast<size_t>(rest->value())]);
    const double planned = IN_CACHE * (replaced * subject.cost(0, cut) + subject.cost(cut, rest->tail()));
    const bool small = rest->places() * subject.images.size(1) < LEAST_VALUES;
    const bool saves = !small && planned < LARGEST_PART * subject.cost(0, p.nodes.size());
    if ((!saves && !subject.trial.always) || static_cast<double>(subject.images.size(0)) * bytes > MOST_KEPT_BYTES) {
        return nullptr;
    }
    return std::make_unique<BandsOfPixels>(subject, cut, *rest, planned);
}

} // namespace bridge
