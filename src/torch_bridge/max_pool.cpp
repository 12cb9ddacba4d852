/* max_pool.cpp - see max_pool.h. */
#include "max_pool.h"

#include "clones.h"
#include "region/rules.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <limits>

namespace bridge {
namespace {

/* Taps of a window are numbered in bytes. */
const int64_t MOST_TAPS = 255;
/* Values that are worth another thread. */
const int64_t GRAIN = 32768;

/* Along one axis: windows of `kernel` places every `stride`, the first of which begins `padding` before place 0. */
struct Axis {
    int64_t size, kernel, stride, padding;

    /* Places [first, last) of window o. */
    int64_t first(int64_t o) const { return std::max<int64_t>(o * stride - padding, 0); }
    int64_t last(int64_t o) const { return std::min(o * stride - padding + kernel, size); }
    /* The number of a place in window o. */
    int64_t tap(int64_t o, int64_t place) const { return place - o * stride + padding; }
    /* Windows [begin, end) of `n` that have a place. */
    int64_t begin(int64_t place) const {
        const int64_t before = place + padding - kernel;
        return before < 0 ? 0 : before / stride + 1;
    }
    int64_t end(int64_t place, int64_t n) const { return std::min((place + padding) / stride + 1, n); }
};

/* out (columns, channels): the maxima of one row of windows, over rows [first, last) of an image x (rows, columns, channels). */
CLONES void largest_of_row(const float *x, const Axis &across, int64_t first, int64_t last, int64_t columns,
                           int64_t channels, float *out) {
    for (int64_t o = 0; o < columns; o++, out += channels) {
        for (int64_t row = first; row < last; row++) {
            for (int64_t column = across.first(o); column < across.last(o); column++) {
                const float *from = x + (row * across.size + column) * channels;
                if (row == first && column == across.first(o)) {
                    std::copy(from, from + channels, out);
                    continue;
                }
                for (int64_t c = 0; c < channels; c++) {
                    const float v = from[c], m = out[c];
                    out[c] = v > m || v != v ? v : m; /* what is not a number stays */
                }
            }
        }
    }
}

/* The same, and the number of the window's tap that each is; `down`, `o_down`: the axis and the number of that row. */
CLONES_FOR_BYTES void largest_of_row_with_taps(const float *x, const Axis &down, int64_t o_down, const Axis &across,
                                               int64_t columns, int64_t channels, float *out, uint8_t *taps) {
    for (int64_t o = 0; o < columns; o++, out += channels, taps += channels) {
        bool begun = false;
        for (int64_t row = down.first(o_down); row < down.last(o_down); row++) {
            for (int64_t column = across.first(o); column < across.last(o); column++) {
                const float *from = x + (row * across.size + column) * channels;
                const auto tap = static_cast<uint8_t>(down.tap(o_down, row) * across.kernel + across.tap(o, column));
                if (!begun) {
                    std::copy(from, from + channels, out);
                    std::fill(taps, taps + channels, tap);
                    begun = true;
                    continue;
                }
                for (int64_t c = 0; c < channels; c++) {
                    const float v = from[c], m = out[c];
                    const bool more = v > m || v != v;
                    out[c] = more ? v : m;
                    taps[c] = more ? tap : taps[c];
                }
            }
        }
    }
}

/*
 * The gradient (columns, channels) at one row of an image from those of the maxima (rows of windows, columns, channels): a
 * place gets those of the windows that it is the maximum of, added in their order.
 */
CLONES_FOR_BYTES void gradient_of_row(const float *of_result, const uint8_t *taps, const Axis &down, int64_t row,
                                      int64_t windows_down, const Axis &across, int64_t windows_across,
                                      int64_t channels, float *out) {
    for (int64_t column = 0; column < across.size; column++, out += channels) {
        std::fill(out, out + channels, 0.0F);
        for (int64_t i = down.begin(row); i < down.end(row, windows_down); i++) {
            for (int64_t j = across.begin(column); j < across.end(column, windows_across); j++) {
                const auto tap = static_cast<uint8_t>(down.tap(i, row) * across.kernel + across.tap(j, column));
                const int64_t at = (i * windows_across + j) * channels;
                for (int64_t c = 0; c < channels; c++) {
                    out[c] += taps[at + c] == tap ? of_result[at + c] : 0.0F;
                }
            }
        }
    }
}

class Differentiable : public torch::autograd::Function<Differentiable> {
  public:
    /* The pool outlives the graph: both belong to what was prepared for one call. */
    static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &x, const MaxPool *pool) {
        at::Tensor taps;
        at::Tensor y = (*pool)(x, &taps);
        context->saved_data["pool"] = reinterpret_cast<int64_t>(pool);
        context->saved_data["taps"] = taps;
        context->saved_data["sizes"] = x.sizes().vec();
        return y;
    }
    static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                   const torch::autograd::variable_list &of_results) {
        const auto *pool = reinterpret_cast<const MaxPool *>(context->saved_data["pool"].toInt());
        return {pool->gradient(of_results[0], context->saved_data["taps"].toTensor(),
                               context->saved_data["sizes"].toIntVector()),
                at::Tensor()};
    }
};

} // namespace

bool MaxPool::takes(const at::Tensor &x) {
    return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.layout() == at::kStrided && x.dim() == 4 &&
           x.numel() > 0 && x.size(1) > 1 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

/* Windows along an axis, as torch counts them. */
int64_t MaxPool::count(int64_t size, size_t axis) const {
    const int64_t room = size + 2 * padding_[axis] - kernel_[axis], stride = stride_[axis];
    const int64_t n = (room + (ceil_ ? stride - 1 : 0)) / stride + 1;
    return ceil_ && (n - 1) * stride >= size + padding_[axis] ? n - 1 : n;
}

at::Tensor MaxPool::operator()(const at::Tensor &x, at::Tensor *taps) const {
    const at::NoGradGuard off;
    const int64_t n = x.size(0), channels = x.size(1);
    const Axis down{x.size(2), kernel_[0], stride_[0], padding_[0]},
        across{x.size(3), kernel_[1], stride_[1], padding_[1]};
    const int64_t rows = count(down.size, 0), columns = count(across.size, 1), width = columns * channels;
    at::Tensor y = at::empty({n, channels, rows, columns}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
    uint8_t *tap = nullptr;
    if (taps != nullptr) {
        *taps = at::empty({n, rows, columns, channels}, x.options().dtype(at::kByte));
        tap = taps->mutable_data_ptr<uint8_t>();
    }
    const float *from = x.const_data_ptr<float>();
    auto *out = y.mutable_data_ptr<float>();
    at::parallel_for(0, n * rows, std::max<int64_t>(GRAIN / width, 1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            const float *image = from + i / rows * down.size * across.size * channels;
            const int64_t row = i % rows;
            if (tap == nullptr) {
                largest_of_row(image, across, down.first(row), down.last(row), columns, channels, out + i * width);
            } else {
                largest_of_row_with_taps(image, down, row, across, columns, channels, out + i * width, tap + i * width);
            }
        }
    });
    return y;
}

at::Tensor MaxPool::differentiable(const at::Tensor &x) const {
    return Differentiable::apply(x, this);
}

at::Tensor MaxPool::gradient(const at::Tensor &of_result, const at::Tensor &taps, at::IntArrayRef sizes) const {
    const at::NoGradGuard off;
    const at::Tensor given = of_result.contiguous(at::MemoryFormat::ChannelsLast);
    const int64_t n = sizes[0], channels = sizes[1], rows = given.size(2), columns = given.size(3);
    const Axis down{sizes[2], kernel_[0], stride_[0], padding_[0]},
        across{sizes[3], kernel_[1], stride_[1], padding_[1]};
    at::Tensor x = at::empty(sizes, given.options().memory_format(at::MemoryFormat::ChannelsLast));
    const float *from = given.const_data_ptr<float>();
    const uint8_t *tap = taps.const_data_ptr<uint8_t>();
    auto *out = x.mutable_data_ptr<float>();
    const int64_t width = across.size * channels, windows = rows * columns * channels;
    at::parallel_for(0, n * down.size, std::max<int64_t>(GRAIN / width, 1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            const int64_t image = i / down.size;
            gradient_of_row(from + image * windows, tap + image * windows, down, i % down.size, rows, across, columns,
                            channels, out + i * width);
        }
    });
    return x;
}

std::unique_ptr<MaxPool> max_pool_of(const Program &p, const Node &node) {
    using namespace region;
    const bool known = node.name == "max_pool2d" && !node.opaque && !node.autocast && node.reads.size() == 1 &&
                       node.is_value(0) && node.makes.size() == 1 && node.makes[0] >= 0;
    if (!known || !are_fixed(node, {"kernel_size", "stride", "padding", "dilation", "ceil_mode"})) {
        return nullptr;
    }
    const Value &x = p.values[static_cast<size_t>(node.reads[0])];
    const PoolForm form = pool_form(node, 2);
    const bool fits = x.dtype == at::kFloat && x.shape.size() == 4 && form.dilation == Ints{1, 1} &&
                      form.kernel[0] * form.kernel[1] <= MOST_TAPS;
    return fits ? std::make_unique<MaxPool>(MaxPool::Two{form.kernel[0], form.kernel[1]},
                                            MaxPool::Two{form.stride[0], form.stride[1]},
                                            MaxPool::Two{form.padding[0], form.padding[1]}, flag_of(node, "ceil_mode"))
                : nullptr;
}

} // namespace bridge
