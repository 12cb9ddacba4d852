/* packed.h - convolutions by oneDNN with weights that are laid out for its kernels once. */
#ifndef METEORS_C_PACKED_H
#define METEORS_C_PACKED_H

#include "program.h"

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace bridge {

/* A convolution along one, two or three axes. */
struct ConvolutionForm {
    at::Tensor weight, bias; /* bias: may be undefined */
    std::vector<int64_t> stride, padding, dilation;
    int64_t groups = 1;
    bool transposed = false;
    bool symmetric = true; /* else there is one zero more at the end of an axis than `padding` says */
};

/* The form of a node whose weight is a constant. Convolutions differ in the names of their arguments, not in what they say. */
std::optional<ConvolutionForm> convolution_form(const Node &node);

class PackedConvolution {
  public:
    /* Whether this torch has the kernels, and whether they take weights like these. */
    static bool takes(const at::Tensor &weight);

    explicit PackedConvolution(ConvolutionForm form);

    /* The convolution of x (n, channels, ...), with the channels of each place side by side. Autograd does not see it. */
    at::Tensor operator()(const at::Tensor &x) const { return (*this)(x, form_.padding); }
    /* The same with other zeros around x. */
    at::Tensor operator()(const at::Tensor &x, const std::vector<int64_t> &padding) const;

    /* The same for autograd, which gets gradients with respect to x only. */
    at::Tensor differentiable(const at::Tensor &x) const;
    /* The gradient at inputs of those sizes and that layout from that of the result. */
    at::Tensor gradient(const at::Tensor &of_result, at::IntArrayRef sizes, at::MemoryFormat layout) const;

  private:
    at::Tensor weight_for(const at::Tensor &x) const;

    ConvolutionForm form_;
    bool one_axis_; /* which is run as the second of two */
    mutable std::once_flag once_, once_back_;
    mutable std::unique_ptr<PackedConvolution> back_; /* gives gradients; NULL: torch's own operator does */
    mutable at::Tensor weight_;                       /* laid out */
};

/* The convolution of a node; NULL where its kernels would not take it. */
std::unique_ptr<PackedConvolution> packed_convolution(const Program &p, const Node &node);

/*
 * Lay the weights of a program's convolutions out once for images that have their channels last; torch would do that in
 * every call. `gradient`: whether gradients will be asked for. `channels_last`: or none of it.
 */
void lay_out_weights(Program *p, bool channels_last, bool gradient);

} // namespace bridge

#endif
