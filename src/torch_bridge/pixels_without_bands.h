/* pixels_without_bands.h - pixels of images without some bands, for models that look at each pixel by itself. */
#ifndef METEORS_C_PIXELS_WITHOUT_BANDS_H
#define METEORS_C_PIXELS_WITHOUT_BANDS_H

#include "by_place.h"

#include <optional>
#include <vector>

namespace bridge {

/*
 * Behind the part that is affine in the input a pixel has its values for the image, and what the replaced bands change by
 * times a matrix, which that part gives for pixels that hold one band each. So few pixels at a time are taken through all
 * samples, while they lie in the cache (by_place.h).
 */
class PixelsWithoutBands {
  public:
    /* Where a program is affine in pixels, and what is behind that. */
    struct Form {
        size_t cut;
        ByPlace rest;
        double bytes; /* kept of one image */
    };
    /* As far as the program is affine; nothing: it does not look at each pixel by itself from the image to a mean or sum. */
    static std::optional<Form> form_of(const Subject &subject);
    /* Planned seconds of a sample up to the mean, if that part of the bands is replaced. */
    static double seconds(const Subject &subject, const Form &form, double part);

    /* `in_double`: what images give behind the affine part. */
    PixelsWithoutBands(const Inputs &inputs, const Form &form, bool in_double);

    /* A sample as the image without some bands, or as the baseline with some. */
    struct Sample {
        bool of_baseline;
        at::Tensor bands;  /* indices of those that differ */
        at::Tensor matrix; /* (those bands, channels), by what is added of their change */
    };
    /* That in which the flagged bands take the baseline's values. */
    Sample sample_of(const std::vector<uint8_t> &replaced);
    /* Values (samples, places, channels) of some pixels of an image behind the affine part, as rest() takes them. */
    at::Tensor values(const std::vector<Sample> &samples, int64_t row, int64_t first, int64_t places) const;
    const ByPlace &rest() const { return form_.rest; }
    /* Pixels that are taken through so many samples at a time. */
    int64_t tile(size_t samples) const;

  private:
    std::vector<at::Tensor> behind(const at::Tensor &images) const;

    const Inputs inputs_;
    Form form_;
    bool in_double_;
    at::Tensor matrix_; /* (bands, channels) */
    /* Behind the affine part, (places, channels) each; the baselines' are made when they are needed. */
    std::vector<at::Tensor> images_, baselines_;
};

} // namespace bridge

#endif
