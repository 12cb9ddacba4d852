/* norm.cpp - batch norm, and operators that read whole axes: other norms, softmax, GLU, running sums. */
#include "region/rules.h"

#include <set>

namespace bridge::region {
namespace {

/* Batch norm with running statistics: a scale and a shift for each channel. */
struct BatchNorm : Separable {
    at::Tensor weight, bias, mean, variance;
    double epsilon = 0;
    bool cudnn = false;

    void phase(const Changes &, const Box &out, size_t, Ints *key) const override { key->push_back(out[0].first); }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        auto part = [&](const at::Tensor &t) {
            return t.defined() && out[0].size() != t.size(0) ? t.slice(0, out[0].first, out[0].last) : t;
        };
        return at::batch_norm(patches[0], part(weight), part(bias), part(mean), part(variance), false, 0, epsilon,
                              cudnn);
    }
};

/* An operator that reads some axes whole, and the others place by place. */
struct AlongAxes : Separable {
    explicit AlongAxes(Call c) : call(std::move(c)) {}
    Call call;

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        return call(patches, patches[0].size(0))[0];
    }
};

at::Tensor detached(const Node &node, const char *name) {
    const at::Tensor t = constant_of(node, name);
    return t.defined() ? t.detach() : t;
}

/* The axes (that of the samples counted) that a norm or the like reads whole; empty: none of those, or not known. */
Ints whole_axes(const Node &node, const Ints &shape) {
    const size_t rank = shape.size();
    Ints axes;
    if (node.name == "layer_norm" || node.name == "rms_norm") {
        const c10::IValue normalised = fixed_of(node, "normalized_shape");
        const size_t n = normalised.isIntList() ? normalised.toIntVector().size() : rank;
        for (size_t d = rank - n; d < rank; d++) {
            axes.push_back(static_cast<int64_t>(d));
        }
    } else if (node.name == "group_norm" || node.name == "instance_norm") {
        for (size_t d = 1; d < rank; d++) { /* the channels too: all of the weights are used */
            axes.push_back(static_cast<int64_t>(d));
        }
    } else {
        static const std::set<std::string> names = {"softmax", "log_softmax", "_softmax", "_log_softmax",
                                                    "cumsum",  "glu",         "cumprod",  "logcumsumexp",
                                                    "softmin", "sort",        "cummax",   "cummin"};
        axes = names.count(node.name) != 0 ? axes_of(node, "dim", rank) : Ints{};
        if (node.name == "glu" && axes.empty()) {
            axes = {static_cast<int64_t>(rank) - 1};
        }
    }
    return axes;
}

} // namespace

std::unique_ptr<Rule> batch_norm(const Program &p, const Node &node) {
    const bool instance = node.name == "instance_norm";
    if ((node.name != "batch_norm" && !instance) || flag_of(node, instance ? "use_input_stats" : "training", true)) {
        return nullptr;
    }
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    auto rule = std::make_unique<BatchNorm>();
    rule->mean = detached(node, "running_mean");
    rule->variance = detached(node, "running_var");
    if (!input || !shape || !rule->mean.defined() || !rule->variance.defined()) {
        return nullptr;
    }
    rule->weight = detached(node, "weight");
    rule->bias = detached(node, "bias");
    rule->epsilon = fixed_of(node, "eps").toDouble();
    rule->cudnn = flag_of(node, "cudnn_enabled");
    rule->add_alike(*input, *shape);
    rule->shapes.push_back(*shape);
    return rule;
}

std::unique_ptr<Rule> along_axes(const Program &p, const Node &node) {
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (!input || !shape || input->shape.size() != shape->size() || !are_fixed(node, {"dim"})) {
        return nullptr;
    }
    const Ints whole = whole_axes(node, input->shape);
    if (whole.empty() || std::count(whole.begin(), whole.end(), 0) != 0) {
        return nullptr;
    }
    auto rule = std::make_unique<AlongAxes>(Call{node.op, &node, {{0, -1}}});
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    std::vector<Axis> along;
    for (size_t d = 1; d < shape->size(); d++) {
        const bool all = std::count(whole.begin(), whole.end(), static_cast<int64_t>(d)) != 0;
        const auto out = static_cast<int>(d) - 1;
        along.push_back(all ? Axis::whole(out, input->shape[d], (*shape)[d]) : Axis::same(out, (*shape)[d]));
    }
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
