/* local.h - what changes behind a convolution where a part of the image takes the baseline. */
#ifndef METEORS_C_LOCAL_H
#define METEORS_C_LOCAL_H

#include "bridge.h"

#include <torch/csrc/autograd/function.h>

namespace bridge {

/*
 * The convolution at the beginning of a stem, with whatever scales its outputs one by one folded into the weight. Its
 * input is the image, whose first axis is that of the channels (2-D), or the image as the only channel (3-D).
 */
class Convolution {
  public:
    /*
     * Reads it from the beginning of `chain`; `length` is how many of the chain's operations it stands for. Throws
     * Declined where the chain begins otherwise.
     */
    Convolution(const std::vector<torch::autograd::Node *> &chain, size_t *length);

    /* Images (n, d0, d1, d2) as the convolution reads them, laid out in memory like `features`. */
    at::Tensor as_input(const at::Tensor &images, const at::Tensor &features) const;

    /*
     * Features of n samples of kind MET_BOX or MET_IDENTITY: those of their images, changed where the boxes reach.
     *   images  (images, ...) features of the images
     *   change  (images, ...) baseline - image, as the convolution reads it
     *   rows    (n,) which image each sample belongs to
     */
    at::Tensor with_boxes(const at::Tensor &images, const at::Tensor &change, const met_sample *s,
                          const std::vector<int64_t> &rows) const;

    /* The same for samples of kind MET_BANDS; `baselines` are the features of the baselines, `axis` that of the bands. */
    at::Tensor with_bands(const at::Tensor &images, const at::Tensor &baselines, const at::Tensor &change,
                          const met_sample *s, const std::vector<int64_t> &rows, int axis) const;

  private:
    struct Reach;
    Reach reach_of(const met_box &box, const at::Tensor &features) const;
    at::Tensor run(const at::Tensor &input, const at::Tensor &weight, const std::vector<int64_t> &padding) const;

    at::Tensor weight_; /* (outputs, channels, extents ...) */
    std::vector<int64_t> stride_, padding_, dilation_;
    int64_t first_; /* the image's axis that is the convolution's first spatial one */
};

} // namespace bridge

#endif
