/* packed.h - convolutions by oneDNN with weights that are laid out for its kernels once. */
#ifndef METEORS_C_PACKED_H
#define METEORS_C_PACKED_H

#include "program.h"

#include <map>
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

    /* `by_planes`: by torch's own operator, with each channel's places side by side instead. */
    explicit PackedConvolution(ConvolutionForm form, bool by_planes = false);
    bool by_planes() const { return by_planes_; }

    /* The convolution of x (n, channels, ...), with the channels of each place side by side. Autograd does not see it. */
    at::Tensor operator()(const at::Tensor &x) const { return (*this)(x, form_.padding); }
    /* The same with other zeros around x. */
    at::Tensor operator()(const at::Tensor &x, const std::vector<int64_t> &padding) const;

    /* The same for autograd, which gets gradients with respect to x only. */
    at::Tensor differentiable(const at::Tensor &x) const;
    /* The gradient at inputs of those sizes and that layout from that of the result. */
    at::Tensor gradient(const at::Tensor &of_result, at::IntArrayRef sizes, at::MemoryFormat layout) const;

  private:
    at::Tensor weight_for(const at::Tensor &x, const std::vector<int64_t> &padding) const;
    at::Tensor product(const at::Tensor &x) const;

    ConvolutionForm form_;
    bool one_axis_; /* which is run as the second of two */
    bool by_planes_;
    bool is_product_; /* of matrices */
    mutable std::once_flag once_back_;
    mutable std::unique_ptr<PackedConvolution> back_;            /* gives gradients; NULL: torch's own operator does */
    mutable std::mutex alone_;                                   /* of what follows */
    mutable std::map<std::vector<int64_t>, at::Tensor> weights_; /* laid out, by forms of images and threads */
};

/*
 * `other` + the convolution of x, in one pass and rounded as in two, by weights that are used once; undefined where the
 * kernels would not take that.
 */
at::Tensor added_convolution(const ConvolutionForm &form, const at::Tensor &x, const at::Tensor &other);

/* The convolution of a node; NULL where its kernels would not take it. `exact`: by planes where it adds up many terms. */
std::unique_ptr<PackedConvolution> packed_convolution(const Program &p, const Node &node, bool exact);

/* How many terms a convolution over two axes adds up for each result, by its weight; 0: it has no windows. */
int64_t terms_of_windows(const at::Tensor &weight);

/*
 * Whether those are many, over 512. Torch's kernels for channels that
 * lie together add one after the other, so that their rounding grows with the root of that number: it is 1.4 times the
 * other kernels' at 288 terms, 1.9 times at 576 and 3.5 times at 2,304. Where an input of a ReLU is nearer to 0 than its
 * rounding, the gradient is another one.
 */
bool is_long_sum(const at::Tensor &weight);

/*
 * Lay the weights of a program's convolutions out once for images that have their channels last; torch would do that in
 * every call. Where gradients will be asked for, convolutions that add up many terms keep the usual layout.
 * `channels_last`: or none of it.
 */
void lay_out_weights(Program *p, bool channels_last, const met_trial &trial);

} // namespace bridge

#endif
