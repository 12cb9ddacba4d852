/*
 * block_gradients.cpp - see block_gradients.h.
 *
 * The first layers of networks for spectra have few input channels (one, where a 3-D convolution runs over the
 * bands) and often strides. Torch's gradients with respect to such inputs fill vectors of 16 channels with one, and run
 * over the zeros between strided outputs: measured, a tenth to a half of what the convolution itself reaches.
 *
 * Values of the input that lie in one block see the same outputs, so a block is a pixel with as many channels as it has
 * values. With D = position + padding = stride (m b + t) + kernel index, the gradient of block b is a convolution of the
 * output's gradient with stride m and a kernel of m + floor((kernel - 1) / stride) taps, into channels that are put side by
 * side afterwards: the sub-pixel form of a transposed convolution (Shi et al., "Is the deconvolution layer the same as a
 * convolutional layer?", 2016), with blocks that are larger than the stride where channels are few.
 */
#include "block_gradients.h"

#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <vector>

namespace bridge {
namespace {

using Sizes = std::vector<int64_t>;

/* Channels that the convolution kernels of the machine work on at once; fewer take as long. */
const int64_t VECTOR = 16;
/* Taken where so many times fewer operations are done; at least so many fewer, and so many for each byte that is moved. */
const double FEWER = 1.6;
const double WORTH = 5e7;
const double WORTH_A_BYTE = 60;
/* What torch's kernels take for strided outputs, times the operations that count. */
const double ZEROS = 2, ZEROS_3D = 2.4;
/* More channels than this slow convolutions down. */
const int64_t MOST_CHANNELS = 64;
const int64_t LARGEST_BLOCK = 16;

int64_t product(at::IntArrayRef values) {
    int64_t result = 1;
    for (int64_t v : values) {
        result *= v;
    }
    return result;
}

/* One axis of the convolution that gives blocks. */
struct Axis {
    Axis(int64_t extent, int64_t given, int64_t kernel, int64_t stride, int64_t padding, int64_t m)
        : values(m * stride), taps(m + (kernel - 1) / stride), step(m) {
        const int64_t first = padding / values;
        count = (padding + extent - 1) / values - first + 1;
        crop = padding - first * values;
        zeros = (kernel - 1) / stride - m * first;
        behind = std::max<int64_t>((count - 1) * m + taps - 2 * zeros - given, 0);
    }
    int64_t values;        /* of a block */
    int64_t taps, step;    /* kernel and stride */
    int64_t count;         /* of blocks */
    int64_t crop;          /* values of the first block before the input */
    int64_t zeros, behind; /* on both sides, and as many more behind the gradient */
};

/* The weights (channels x values of a block, outputs, taps ...) of that convolution. */
at::Tensor block_weights(const at::Tensor &weight, at::IntArrayRef stride, const std::vector<Axis> &axes) {
    at::Tensor w = weight;
    Sizes order{1}, shape{weight.size(1), weight.size(0)};
    for (size_t a = 0; a < axes.size(); a++) {
        const int64_t kernel = weight.size(2 + static_cast<int64_t>(a)), place = 2 + 2 * static_cast<int64_t>(a);
        const int64_t before = (kernel - 1) / stride[a];
        std::vector<int64_t> taken;
        std::vector<uint8_t> outside;
        for (int64_t j = 0; j < axes[a].values; j++) {
            for (int64_t t = 0; t < axes[a].taps; t++) {
                const int64_t k = j - stride[a] * (t - before);
                taken.push_back(std::clamp<int64_t>(k, 0, kernel - 1));
                outside.push_back(k < 0 || k >= kernel);
            }
        }
        Sizes around(static_cast<size_t>(w.dim()) + 1, 1);
        around[static_cast<size_t>(place)] = axes[a].values;
        around[static_cast<size_t>(place) + 1] = axes[a].taps;
        w = w.index_select(place, at::tensor(taken)).unflatten(place, {axes[a].values, axes[a].taps});
        w = w.masked_fill(at::tensor(outside, at::kByte).to(at::kBool).view(around), 0);
        order.push_back(place);
        shape[0] *= axes[a].values;
        shape.push_back(axes[a].taps);
    }
    order.push_back(0);
    for (size_t a = 0; a < axes.size(); a++) {
        order.push_back(3 + 2 * static_cast<int64_t>(a));
    }
    return w.permute(order).reshape(shape);
}

/* Blocks (n, channels x values, blocks ...) side by side: (n, channels, values ...), without what is beyond the input. */
at::Tensor side_by_side(at::Tensor blocks, int64_t channels, const std::vector<Axis> &axes, at::IntArrayRef input) {
    Sizes apart{blocks.size(0), channels}, order{0, 1}, joined = apart;
    const auto dims = static_cast<int64_t>(axes.size());
    for (const Axis &axis : axes) {
        apart.push_back(axis.values);
    }
    for (int64_t a = 0; a < dims; a++) {
        const Axis &axis = axes[static_cast<size_t>(a)];
        blocks = blocks.narrow(2 + a, 0, axis.count);
        apart.push_back(axis.count);
        order.push_back(2 + dims + a);
        order.push_back(2 + a);
        joined.push_back(axis.count * axis.values);
    }
    at::Tensor whole =
        blocks.unflatten(1, at::IntArrayRef(apart).slice(1, 1 + axes.size())).permute(order).reshape(joined);
    for (int64_t a = 0; a < dims; a++) {
        whole = whole.narrow(2 + a, axes[static_cast<size_t>(a)].crop, input[static_cast<size_t>(a)]);
    }
    return whole;
}

std::vector<Axis> axes_of(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape,
                          at::IntArrayRef block) {
    std::vector<Axis> axes;
    for (size_t a = 0; a < shape.input.size(); a++) {
        const auto axis = static_cast<int64_t>(2 + a);
        axes.emplace_back(shape.input[a], gradient.size(axis), weight.size(axis), shape.stride[a], shape.padding[a],
                          block[a]);
    }
    return axes;
}

} // namespace

at::Tensor gradient_by_blocks(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape,
                              at::IntArrayRef block) {
    const std::vector<Axis> axes = axes_of(gradient, weight, shape, block);
    Sizes step, zeros, behind;
    for (const Axis &axis : axes) {
        step.push_back(axis.step);
        zeros.push_back(axis.zeros);
        behind.insert(behind.begin(), {0, axis.behind}); /* the last axis first */
    }
    const Sizes one(axes.size(), 1);
    const bool fits = std::all_of(behind.begin(), behind.end(), [](int64_t count) { return count == 0; });
    const at::Tensor given = fits ? gradient : at::constant_pad_nd(gradient, behind);
    const at::Tensor blocks =
        at::mkldnn_convolution(given, block_weights(weight, shape.stride, axes), {}, zeros, step, one, 1);
    return side_by_side(blocks, weight.size(1), axes, shape.input);
}

namespace {

/* Channels in whole vectors. */
double in_vectors(int64_t channels) {
    return static_cast<double>((channels + VECTOR - 1) / VECTOR * VECTOR);
}

/*
 * Operations for one sample and output channel, as convolution kernels do them: zeros around the gradient are skipped but
 * for those along the last axis. Infinite where blocks can't be made.
 */
double operations(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape,
                  at::IntArrayRef block) {
    const std::vector<Axis> axes = axes_of(gradient, weight, shape, block);
    int64_t channels = weight.size(1);
    double count = 1;
    for (size_t a = 0; a < axes.size(); a++) {
        const Axis &axis = axes[a];
        if (axis.zeros < 0) { /* padded by more than the kernel's extent */
            return std::numeric_limits<double>::infinity();
        }
        const auto all = static_cast<double>(axis.count * axis.taps);
        const double given = static_cast<double>(gradient.size(static_cast<int64_t>(2 + a)) * axis.taps) /
                             static_cast<double>(axis.step);
        count *= a + 1 == axes.size() ? all : std::min(all, given);
        channels *= axis.values;
    }
    return count * in_vectors(channels);
}

/* The same as torch's own kernels do it: over zeros between strided outputs too, of which they skip some. */
double usual_operations(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape) {
    const size_t axes = shape.stride.size();
    double count = 1, strided = 1;
    for (size_t a = 0; a < axes; a++) {
        const auto axis = static_cast<int64_t>(2 + a);
        const int64_t kernel = weight.size(axis), stride = shape.stride[a];
        const auto all = static_cast<double>(shape.input[a] * kernel) / static_cast<double>(stride);
        count *= a + 1 == axes ? all : static_cast<double>(gradient.size(axis) * kernel);
        strided = stride > 1 && kernel > stride ? (axes == 3 ? ZEROS_3D : ZEROS) : strided;
    }
    return count * strided * in_vectors(weight.size(1));
}

/*
 * Whether operations take the time: not where the kernel has one axis (memory does then), nor where the gradient is less
 * wide than the kernel (most of what is done is at its edges then).
 */
bool is_bound_by_operations(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape) {
    int axes = 0;
    for (size_t a = 0; a < shape.stride.size(); a++) {
        const auto axis = static_cast<int64_t>(2 + a);
        if (gradient.size(axis) * shape.stride[a] < weight.size(axis)) {
            return false;
        }
        axes += weight.size(axis) > 1 ? 1 : 0;
    }
    return axes > 1;
}

/* The blocks in which a gradient is computed; empty: torch's own kernel is as fast. */
Sizes chosen_block(const at::Tensor &gradient, const at::Tensor &weight, const ConvolutionShape &shape) {
    const int64_t channels = weight.size(1), strides = product(shape.stride);
    const double usual = usual_operations(gradient, weight, shape);
    const double bytes =
        sizeof(float) * static_cast<double>(gradient.numel() + gradient.size(0) * channels * product(shape.input));
    const double worth = std::max(WORTH, WORTH_A_BYTE * bytes);
    const double each = 2.0 * static_cast<double>(gradient.size(0) * weight.size(0));
    if (!is_bound_by_operations(gradient, weight, shape) || each * usual <= worth) { /* whatever blocks would take */
        return Sizes();
    }
    double least = std::numeric_limits<double>::infinity();
    Sizes best;
    for (size_t a = 0; a < shape.input.size(); a++) {
        for (int64_t m = 1; m <= LARGEST_BLOCK; m *= 2) {
            Sizes block(shape.input.size(), 1);
            block[a] = m;
            const double cost = operations(gradient, weight, shape, block);
            if (cost < least && (m == 1 || channels * strides * m <= MOST_CHANNELS)) {
                least = cost;
                best = block;
            }
        }
    }
    return usual > FEWER * least && each * (usual - least) > worth ? best : Sizes();
}

/* Whether a tensor is one of float32 in the machine's memory, without anything special about it. */
bool is_plain(const at::Tensor &tensor) {
    return tensor.device().is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == at::kFloat &&
           !tensor.is_mkldnn() && tensor.numel() > 0;
}

thread_local bool wanted_here = false, taken_here = false;

using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

/* Torch's operator. Outside of our own gradients, and where blocks gain nothing, it does what it always does. */
Three convolution_backward(const at::Tensor &gradient, const at::Tensor &input, const at::Tensor &weight,
                           at::OptionalIntArrayRef bias, at::IntArrayRef stride, at::IntArrayRef padding,
                           at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
                           std::array<bool, 3> mask) {
    const bool here = wanted_here && mask[0] && !mask[1] && !mask[2] && !transposed && groups == 1 &&
                      product(dilation) == 1 && is_plain(gradient) && is_plain(weight) && input.dim() == weight.dim() &&
                      at::globalContext().hasMKLDNN() && at::globalContext().userEnabledMkldnn();
    if (here) {
        const auto dims = static_cast<size_t>(weight.dim() - 2);
        const Sizes strides(stride.size() == dims ? stride.vec() : Sizes(dims, stride[0]));
        const Sizes paddings(padding.size() == dims ? padding.vec() : Sizes(dims, padding[0]));
        const ConvolutionShape shape{input.sizes().slice(2), strides, paddings};
        const Sizes block = chosen_block(gradient, weight, shape);
        at::Tensor found = block.empty() ? at::Tensor() : gradient_by_blocks(gradient, weight, shape, block);
        /* Blocks would spread what is not finite over all that they hold. */
        if (found.defined() && std::isfinite(found.sum().item<double>())) {
            taken_here = true;
            return {found, at::Tensor(), at::Tensor()};
        }
    }
    return at::compositeexplicitautograd::convolution_backward(gradient, input, weight, bias, stride, padding, dilation,
                                                               transposed, output_padding, groups, mask);
}

/* Becomes torch's kernel on the CPU once the first gradient wants it; a process that wants none has torch as it is. */
void put_in_place() {
    static std::once_flag once;
    std::call_once(once, [] {
        static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
        library.impl("convolution_backward", TORCH_FN(convolution_backward));
    });
}

} // namespace

BlockGradients::BlockGradients(bool wanted) : wanted_before_(wanted_here), taken_before_(taken_here) {
    if (wanted) {
        put_in_place();
    }
    wanted_here = wanted;
    taken_here = false;
}

BlockGradients::~BlockGradients() {
    wanted_here = wanted_before_;
    taken_here = taken_before_;
}

bool BlockGradients::taken() const {
    return taken_here;
}

} // namespace bridge
