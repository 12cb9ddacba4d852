/* pointwise.cpp - functions of each value, of values at the same place, and values of several tensors side by side. */
#include "calls.h"
#include "region/rules.h"

namespace bridge::region {
namespace {

struct Identity : Separable {
    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        return patches[0];
    }
};

struct Pointwise : Separable {
    explicit Pointwise(Call c) : call(std::move(c)) {}
    Call call;

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        int64_t samples = 1;
        for (size_t k = 0; k < patches.size(); k++) {
            samples = operands[k].value >= 0 ? patches[k].size(0) : samples;
        }
        const at::Tensor y = call(patches, samples)[0];
        const Ints sizes = out.sizes(samples);
        return y.sizes().equals(sizes) ? y : y.expand(sizes);
    }
};

struct Prelu : Separable {
    at::Tensor weight; /* one for each channel */

    void phase(const Changes &, const Box &out, size_t, Ints *key) const override { key->push_back(out[0].first); }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        return at::prelu(patches[0], weight.numel() == 1 ? weight : weight.slice(0, out[0].first, out[0].last));
    }
};

struct Joined : Separable {
    int64_t axis = 1;
    bool stacks = false;

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        int64_t samples = 1;
        for (size_t k = 0; k < patches.size(); k++) {
            samples = patches[k].defined() && operands[k].value >= 0 ? patches[k].size(0) : samples;
        }
        std::vector<at::Tensor> parts;
        for (const at::Tensor &patch : patches) {
            if (patch.defined()) {
                Ints sizes = patch.sizes().vec();
                sizes[0] = samples;
                const at::Tensor part = patch.expand(sizes);
                parts.push_back(stacks ? part.unsqueeze(axis) : part);
            }
        }
        return parts.size() == 1 ? parts[0] : at::cat(parts, axis);
    }
};

/* A constant tensor as operand of a result with `rank` axes: nothing where it differs from sample to sample. */
std::optional<Operand> constant_operand(const at::Tensor &constant, size_t rank) {
    const auto own = static_cast<size_t>(constant.dim());
    if (own > rank || (own == rank && constant.size(0) != 1)) {
        return std::nullopt;
    }
    Ints shape(rank, 1);
    std::copy(constant.sizes().begin(), constant.sizes().end(), shape.end() - static_cast<ptrdiff_t>(own));
    return Operand{-1, constant.detach().view(shape), shape, false};
}

bool fits(const Ints &shape, const Ints &out) {
    if (shape.size() != out.size()) {
        return false;
    }
    for (size_t d = 0; d < out.size(); d++) {
        if (shape[d] != out[d] && shape[d] != 1) {
            return false;
        }
    }
    return true;
}

} // namespace

std::unique_ptr<Rule> identity(const Program &p, const Node &node) {
    const std::optional<Ints> shape = shape_of(p, node);
    const std::optional<Operand> input =
        node.arguments.empty() || !node.is_value(0) ? std::nullopt : operand_of(p, node, 0);
    if (!passes_on(node.name) || flag_of(node, "train") || !shape || !input || input->shape != *shape) {
        return nullptr;
    }
    auto rule = std::make_unique<Identity>();
    rule->add_alike(*input, *shape);
    rule->shapes.push_back(*shape);
    return rule;
}

std::unique_ptr<Rule> pointwise(const Program &p, const Node &node) {
    const std::optional<Ints> shape = shape_of(p, node);
    const std::optional<c10::OperatorHandle> op = function_of(node);
    if (!is_pointwise(node.name, node.op) || !shape || !op) {
        return nullptr;
    }
    auto rule = std::make_unique<Pointwise>(Call{*op, &node, {}});
    for (size_t a = 0; a < node.arguments.size(); a++) {
        const Argument &argument = node.arguments[a];
        std::optional<Operand> operand;
        if (argument.kind == Argument::Kind::value) {
            operand = operand_of(p, argument.value);
        } else if (argument.kind != Argument::Kind::fixed) {
            return nullptr;
        } else if (node.is_constant(a) && node.constant(a).defined() && node.constant(a).numel() > 1) {
            operand = constant_operand(node.constant(a), shape->size());
        } else {
            continue; /* a number, or a tensor of one number */
        }
        if (!operand || !fits(operand->shape, *shape)) {
            return nullptr;
        }
        rule->call.places.emplace_back(a, -1);
        rule->add_alike(*operand, *shape);
    }
    rule->shapes.push_back(*shape);
    return rule;
}

std::unique_ptr<Rule> prelu(const Program &p, const Node &node) {
    const std::optional<Ints> shape = shape_of(p, node);
    const std::optional<Operand> input = lone_operand(p, node);
    const at::Tensor weight = constant_of(node, "weight");
    if (node.name != "prelu" || !shape || !input || !weight.defined() || shape->size() < 2) {
        return nullptr;
    }
    auto rule = std::make_unique<Prelu>();
    rule->weight = weight.detach();
    rule->add_alike(*input, *shape);
    rule->shapes.push_back(*shape);
    return rule;
}

std::unique_ptr<Rule> joined(const Program &p, const Node &node) {
    const std::optional<Ints> shape = shape_of(p, node);
    const bool stacks = node.name == "stack";
    if ((!stacks && node.name != "cat" && node.name != "concat") || !shape || !are_fixed(node, {"dim"}) ||
        node.arguments[0].kind != Argument::Kind::list) {
        return nullptr;
    }
    const Ints axis = axes_of(node, "dim", shape->size());
    if (axis.size() != 1 || axis[0] == 0) {
        return nullptr;
    }
    auto rule = std::make_unique<Joined>();
    rule->axis = axis[0];
    rule->stacks = stacks;
    const size_t rank = stacks ? shape->size() - 1 : shape->size();
    int64_t place = 0;
    for (const Argument &entry : node.arguments[0].entries) {
        const std::optional<Operand> operand = entry.kind == Argument::Kind::value
                                                   ? operand_of(p, entry.value)
                                                   : constant_operand(entry.fixed.toTensor(), rank);
        if (!operand || operand->shape.size() != rank) {
            return nullptr;
        }
        std::vector<Axis> along;
        for (size_t d = 1; d < rank; d++) {
            const bool behind = stacks && static_cast<int64_t>(d) >= axis[0];
            const auto out = static_cast<int>(d) - (behind ? 0 : 1);
            along.push_back(Axis::same(out, operand->shape[d]));
        }
        if (!stacks) { /* the axis of a stack is not one of the operands': its places are taken together */
            Axis &joint = along[static_cast<size_t>(axis[0]) - 1];
            joint = Axis::window(joint.out, joint.in_size, (*shape)[static_cast<size_t>(axis[0])], 1, place, 0);
            joint.clips = true;
            place += joint.in_size;
        }
        rule->operands.push_back(*operand);
        rule->axes.push_back(std::move(along));
    }
    rule->shapes.push_back(*shape);
    return rule;
}

} // namespace bridge::region
