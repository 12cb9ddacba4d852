/* pool.cpp - maximum and average pools, and adaptive ones that are such pools. */
#include "max_pool.h"
#include "region/rules.h"

#include <limits>

namespace bridge::region {
namespace {

bool begins(const std::string &text, const char *with) {
    return text.rfind(with, 0) == 0;
}

/* A pool of two or three axes for one of any number of them. */
struct Pool : Separable, PoolForm { /* along the spatial axes, which are the last ones */
    bool average = false, counts_padding = true;
    std::optional<int64_t> divisor;
    size_t first = 1; /* of the box's axes, that is spatial */

    double beyond() const override { return average ? 0 : -std::numeric_limits<double>::infinity(); }

    /* How many values of the input, or of that and its padding, window o covers along spatial axis d. */
    int64_t covered(size_t d, int64_t o) const {
        const int64_t size = operands[0].shape[first + 1 + d];
        const int64_t from = o * stride[d] - padding[d];
        const int64_t to = std::min(from + kernel[d], size + padding[d]);
        return counts_padding ? to - from : std::min(to, size) - std::max<int64_t>(from, 0);
    }

    Ints counts(size_t d, const Range &at) const {
        Ints found;
        for (int64_t o = at.first; o < at.last; o++) {
            found.push_back(covered(d, o));
        }
        return found;
    }

    bool is_even(size_t d, const Range &at) const {
        const Ints found = counts(d, at);
        return std::all_of(found.begin(), found.end(), [&](int64_t n) { return n == kernel[d]; });
    }

    void phase(const Changes &, const Box &out, size_t, Ints *key) const override {
        for (size_t d = 0; d < kernel.size() && average && !divisor; d++) {
            const bool even = is_even(d, out[first + d]);
            key->push_back(even);
            key->push_back(even ? 0 : out[first + d].first);
        }
    }

    at::Tensor pooled(const at::Tensor &x, const Ints &k, const Ints &s, const Ints &dil) const {
        const Ints zeros(k.size(), 0);
        if (!average && k.size() == 2 && dil == Ints{1, 1} && MaxPool::takes(x)) {
            return MaxPool({k[0], k[1]}, {s[0], s[1]}, {0, 0})(x);
        }
        if (!average) {
            return k.size() == 2 ? at::max_pool2d(x, k, s, zeros, dil) : at::max_pool3d(x, k, s, zeros, dil);
        }
        return k.size() == 2 ? at::avg_pool2d(x, k, s, zeros, false, true, divisor)
                             : at::avg_pool3d(x, k, s, zeros, false, true, divisor);
    }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        const bool flat = kernel.size() == 1;
        auto two = [flat](const Ints &amounts) { return flat ? Ints{1, amounts[0]} : amounts; };
        const at::Tensor x = flat ? patches[0].unsqueeze(-2) : patches[0];
        at::Tensor y = pooled(x, two(kernel), two(stride), two(dilation));
        y = flat ? y.squeeze(-2) : y;
        for (size_t d = 0; d < kernel.size() && average && !divisor; d++) {
            if (!is_even(d, out[first + d])) { /* it was divided by the kernel's size */
                Ints shape(static_cast<size_t>(y.dim()), 1);
                shape[first + 1 + d] = -1;
                const at::Tensor n = at::tensor(counts(d, out[first + d]), at::kDouble).reciprocal();
                y = y * (n * static_cast<double>(kernel[d])).to(y.options()).view(shape);
            }
        }
        return y;
    }
};

std::unique_ptr<Rule> with_axes(std::unique_ptr<Pool> rule, const Operand &input, const Ints &shape) {
    std::vector<Axis> along;
    for (size_t d = 0; d + 1 < shape.size(); d++) {
        const auto out = static_cast<int>(d);
        if (d < rule->first) {
            along.push_back(Axis::same(out, shape[d + 1]));
        } else {
            const size_t s = d - rule->first;
            along.push_back(Axis::window(out, input.shape[d + 1], shape[d + 1], rule->stride[s], rule->padding[s],
                                         rule->dilation[s] * (rule->kernel[s] - 1)));
        }
    }
    rule->operands.push_back(input);
    rule->shapes.push_back(shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

/* The number of spatial axes that "avg_pool2d" tells. */
size_t spatial_of(const std::string &name) {
    const size_t at = name.find("pool");
    return static_cast<size_t>(name.at(at + 4) - '0');
}

} // namespace

PoolForm pool_form(const Node &node, size_t n) {
    PoolForm form{integers_of(node, "kernel_size", n, 1), integers_of(node, "stride", n, 0),
                  integers_of(node, "padding", n, 0), integers_of(node, "dilation", n, 1)};
    for (size_t d = 0; d < n; d++) { /* none given */
        form.stride[d] = form.stride[d] == 0 ? form.kernel[d] : form.stride[d];
    }
    return form;
}

std::unique_ptr<Rule> pool(const Program &p, const Node &node) {
    if (!begins(node.name, "max_pool") && !begins(node.name, "avg_pool")) {
        return nullptr;
    }
    const size_t n = spatial_of(node.name);
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (!input || !shape || n < 1 || n > 3 || shape->size() != n + 2) {
        return nullptr;
    }
    auto rule = std::make_unique<Pool>();
    rule->average = begins(node.name, "avg_pool");
    static_cast<PoolForm &>(*rule) = pool_form(node, n);
    rule->counts_padding = flag_of(node, "count_include_pad", true);
    const c10::IValue divisor = fixed_of(node, "divisor_override");
    rule->divisor = divisor.isInt() ? std::optional<int64_t>(divisor.toInt()) : std::nullopt;
    return with_axes(std::move(rule), *input, *shape);
}

std::unique_ptr<Rule> adaptive_pool(const Program &p, const Node &node) {
    if (!begins(node.name, "adaptive_avg_pool") && !begins(node.name, "adaptive_max_pool")) {
        return nullptr;
    }
    const size_t n = spatial_of(node.name);
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (!input || !shape || shape->size() != n + 2) {
        return nullptr;
    }
    auto rule = std::make_unique<Pool>();
    rule->average = begins(node.name, "adaptive_avg_pool");
    rule->padding.assign(n, 0);
    rule->dilation.assign(n, 1);
    for (size_t d = 0; d < n; d++) {
        const int64_t in = input->shape[d + 2], out = (*shape)[d + 2];
        if (out == 0 || in % out != 0) {
            return nullptr;
        }
        rule->kernel.push_back(in / out);
    }
    rule->stride = rule->kernel;
    return with_axes(std::move(rule), *input, *shape);
}

} // namespace bridge::region
