/* block_gradients.h - gradients of convolutions with respect to their input, as convolutions that give whole blocks. */
#ifndef METEORS_C_BLOCK_GRADIENTS_H
#define METEORS_C_BLOCK_GRADIENTS_H

#include <ATen/ATen.h>

namespace bridge {

/*
 * As long as this lives and `wanted`, what autograd computes in the calling thread takes gradients of convolutions by
 * blocks where that is much faster: the same numbers but for rounding. Which ones depends on shapes alone, so that runs
 * repeat bit for bit.
 */
class BlockGradients {
  public:
    explicit BlockGradients(bool wanted);
    ~BlockGradients();
    BlockGradients(const BlockGradients &) = delete;
    BlockGradients &operator=(const BlockGradients &) = delete;
    /* Whether any was taken so since this began. */
    bool taken() const;

  private:
    bool wanted_before_, taken_before_;
};

/* A convolution's layout, by spatial axis. */
struct ConvolutionShape {
    at::IntArrayRef input, stride, padding; /* input: its extent */
};

/*
 * The gradient (n, channels, ...) with respect to the input of a convolution that is neither dilated nor grouped:
 * `gradient` (n, outputs, ...) with respect to its output, `weight` (outputs, channels, ...). Computed in blocks of
 * block[a] x stride[a] values along each axis a.
 */
at::Tensor gradient_by_blocks(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape,
                              at::IntArrayRef block);

} // namespace bridge

#endif
