/* resample.cpp - linear and cubic upsampling: along each axis, a place is a weighted sum of a few. */
#include "region/rules.h"

#include <array>

namespace bridge::region {
namespace {

struct Resampled : Separable {
    struct Weights {
        Ints first;                            /* of each place, the first one that counts */
        std::vector<std::vector<double>> taps; /* [tap][place] */
    };
    std::vector<Weights> weights; /* of each spatial axis, the last ones */

    size_t axis(size_t d) const { return shapes[0].size() - 1 - weights.size() + d; }

    /* Weights are the same at the same places only. */
    void phase(const Changes &, const Box &out, size_t, Ints *key) const override {
        for (size_t d = 0; d < weights.size(); d++) {
            const Range at = out[axis(d)], from = of(0, 0)[axis(d)].reads(at);
            for (int64_t o = at.first; o < at.last; o++) {
                const auto place = static_cast<size_t>(o);
                key->push_back(weights[d].first[place] - from.first);
                for (const std::vector<double> &tap : weights[d].taps) {
                    key->push_back(static_cast<int64_t>(tap[place] * (int64_t{1} << 60)));
                }
            }
        }
    }

    at::Tensor along(const at::Tensor &x, size_t d, const Range &at, int64_t from) const {
        const auto dim = static_cast<int64_t>(axis(d)) + 1;
        Ints shape(static_cast<size_t>(x.dim()), 1);
        shape[static_cast<size_t>(dim)] = -1;
        at::Tensor sum;
        for (size_t t = 0; t < weights[d].taps.size(); t++) {
            Ints places;
            std::vector<double> factors;
            for (int64_t o = at.first; o < at.last; o++) {
                const auto place = static_cast<size_t>(o);
                const int64_t source = weights[d].first[place] - from + static_cast<int64_t>(t);
                places.push_back(std::min(source, x.size(dim) - 1)); /* beyond, the weight is 0 */
                factors.push_back(weights[d].taps[t][place]);
            }
            const at::Tensor w = at::tensor(factors, at::kDouble).to(x.options()).view(shape);
            const at::Tensor part = x.index_select(dim, at::tensor(places, at::kLong).to(x.device()));
            sum = sum.defined() ? sum.addcmul_(part, w) : part * w;
        }
        return sum;
    }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        at::Tensor x = patches[0];
        for (size_t d = weights.size(); d-- > 0;) {
            x = along(x, d, out[axis(d)], of(0, 0)[axis(d)].reads(out[axis(d)]).first);
        }
        return x;
    }
};

/* The scale that the operator was given for spatial axis d of n. */
std::optional<double> scale_of(const Node &node, size_t d, size_t n) {
    static const std::array<const char *, 3> names = {"scales_d", "scales_h", "scales_w"};
    const c10::IValue all = fixed_of(node, "scale_factors");
    if (all.isDoubleList()) {
        return all.toDoubleVector().at(d);
    }
    const c10::IValue one = fixed_of(node, n == 1 ? "scales" : names[3 - n + d]);
    return one.isDouble() ? std::optional<double>(one.toDouble()) : std::nullopt;
}

/* What each place of an axis is a sum of: the operator itself, given ones at one place after the other. */
at::Tensor matrix(const Node &node, bool cubic, int64_t in, int64_t out, std::optional<double> scale,
                  at::ScalarType dtype) {
    const bool corners = flag_of(node, "align_corners");
    const at::Tensor eye = at::eye(in, dtype == at::kDouble ? at::kDouble : at::kFloat).unsqueeze(0);
    const at::Tensor y =
        cubic ? at::upsample_bicubic2d(eye.unsqueeze(2), {1, out}, corners, std::nullopt, scale).squeeze(2)
              : at::upsample_linear1d(eye, {out}, corners, scale);
    return y[0].t().to(at::kDouble).contiguous(); /* (out, in) */
}

/* A resampled axis; its taps start at the first weight that is not 0. */
Axis read_weights(const at::Tensor &w, int out, Resampled::Weights *weights) {
    const auto value = w.accessor<double, 2>();
    Ints low, high;
    int64_t taps = 1;
    for (int64_t o = 0; o < w.size(0); o++) {
        int64_t first = w.size(1), last = 0;
        for (int64_t i = 0; i < w.size(1); i++) {
            if (value[o][i] != 0) {
                first = std::min(first, i);
                last = i;
            }
        }
        low.push_back(std::min(first, last));
        high.push_back(last);
        taps = std::max(taps, high.back() - low.back() + 1);
    }
    for (int64_t t = 0; t < taps; t++) {
        weights->taps.emplace_back();
        for (int64_t o = 0; o < w.size(0); o++) {
            const int64_t i = low[static_cast<size_t>(o)] + t;
            weights->taps.back().push_back(i < w.size(1) ? value[o][i] : 0);
        }
    }
    weights->first = low;
    return Axis::table(out, w.size(1), low, high);
}

} // namespace

std::unique_ptr<Rule> resampled(const Program &p, const Node &node) {
    const bool cubic = node.name == "upsample_bicubic2d";
    if (!cubic && node.name != "upsample_linear1d" && node.name != "upsample_bilinear2d" &&
        node.name != "upsample_trilinear3d") {
        return nullptr;
    }
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (!input || !shape || input->shape.size() != shape->size()) {
        return nullptr;
    }
    auto rule = std::make_unique<Resampled>();
    const size_t n = shape->size() - 2;
    const at::ScalarType dtype = p.values[static_cast<size_t>(input->value)].dtype;
    std::vector<Axis> along{Axis::same(0, (*shape)[1])};
    for (size_t d = 0; d < n; d++) {
        rule->weights.emplace_back();
        const at::Tensor w = matrix(node, cubic, input->shape[d + 2], (*shape)[d + 2], scale_of(node, d, n), dtype);
        along.push_back(read_weights(w, static_cast<int>(d) + 1, &rule->weights.back()));
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
