/* max_pool.h - maximum pools over two axes, of float32 images whose channels lie together. */
#ifndef METEORS_C_MAX_POOL_H
#define METEORS_C_MAX_POOL_H

#include "program.h"

#include <array>
#include <memory>
#include <vector>

namespace bridge {

/*
 * Torch's operator writes where each maximum lies as eight bytes, whether or not gradients are wanted, and takes gradients
 * back in one thread. The values, and which of equal ones gets the gradient, are the same to the last bit.
 */
class MaxPool {
  public:
    using Two = std::array<int64_t, 2>;

    /* Without dilation; `ceil`: windows may begin before the end and reach beyond it. */
    MaxPool(Two kernel, Two stride, Two padding, bool ceil = false)
        : kernel_(kernel), stride_(stride), padding_(padding), ceil_(ceil) {}

    /* Whether x is such images; others are for torch's operator. */
    static bool takes(const at::Tensor &x);

    /*
     * The maxima of x (n, channels, height, width), and where wanted which tap of its window each is. Autograd does not see
     * it.
     */
    at::Tensor operator()(const at::Tensor &x, at::Tensor *taps = nullptr) const;
    /* The same for autograd. */
    at::Tensor differentiable(const at::Tensor &x) const;
    /* The gradient at an input of `sizes`. */
    at::Tensor gradient(const at::Tensor &of_result, const at::Tensor &taps, at::IntArrayRef sizes) const;

  private:
    int64_t count(int64_t size, size_t axis) const;

    Two kernel_, stride_, padding_;
    bool ceil_;
};

/* The pool that a node is; NULL: it is another operator, or one with dilation or very large windows. */
std::unique_ptr<MaxPool> max_pool_of(const Program &p, const Node &node);

} // namespace bridge

#endif
