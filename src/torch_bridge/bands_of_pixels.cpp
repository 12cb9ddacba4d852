/*
 * bands_of_pixels.cpp - samples without some bands, for models that look at each pixel by itself from the image to a mean or
 * sum over places.
 */
#include "pixels_without_bands.h"
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
    BandsOfPixels(const Subject &subject, const PixelsWithoutBands::Form &form, double seconds);
    std::string name() const override { return "affine prefix, pixel by pixel"; }
    size_t together() const override { return TOGETHER_BY_PLACE; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    const Inputs inputs_;
    std::optional<PixelsWithoutBands> pixels_; /* nothing: only planned */
};

BandsOfPixels::BandsOfPixels(const Subject &subject, const PixelsWithoutBands::Form &form, double seconds)
    : inputs_(subject) {
    stop = form.rest.stop();
    planned = seconds;
    if (!subject.only_planned) {
        pixels_.emplace(subject, form, is_narrow(subject) && is_cheap_in_double(subject, form.cut, 1));
    }
}

std::vector<at::Tensor> BandsOfPixels::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    const ThreadsBeside threads;
    const ByPlace &rest = pixels_->rest();
    std::vector<at::Tensor> found;
    for (size_t from = 0, to; from < rows.size(); from = to) {
        const int64_t row = rows[from], origin = inputs_.origins[static_cast<size_t>(row)];
        std::vector<PixelsWithoutBands::Sample> samples;
        for (to = from; to < rows.size() && rows[to] == row; to++) {
            samples.push_back(pixels_->sample_of(replaced_bands(s[to], inputs_.bands, inputs_.images.size(1))));
        }
        const at::Tensor mean = rest.mean_of(pixels_->tile(samples.size()), [&](int64_t first, int64_t places, size_t) {
            const at::NoGradGuard on_this_thread;
            return rest.run(inputs_, origin, pixels_->values(samples, row, first, places));
        });
        found.push_back(rest.of_mean(inputs_, origin, mean));
    }
    return live_values(inputs_.program, rest.mean(), {at::cat(found)});
}

} // namespace

std::unique_ptr<Features> bands_of_pixels(const Subject &subject) {
    const std::optional<PixelsWithoutBands::Form> form = PixelsWithoutBands::form_of(subject);
    if (!form) {
        return nullptr;
    }
    const auto bands = static_cast<double>(subject.images.size(1));
    double planned = 0;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const std::vector<uint8_t> flags =
            replaced_bands(subject.trial.samples[i], subject.bands, subject.images.size(1));
        const double part = static_cast<double>(std::count(flags.begin(), flags.end(), 1)) / bands;
        planned = std::max(planned, PixelsWithoutBands::seconds(subject, *form, part));
    }
    const bool small = form->rest.places() * subject.images.size(1) < LEAST_VALUES;
    const bool saves = !small && planned < LARGEST_PART * subject.cost(0, subject.program.nodes.size());
    if (!saves && !subject.trial.always) {
        return nullptr;
    }
    return std::make_unique<BandsOfPixels>(subject, *form, planned);
}

} // namespace bridge
