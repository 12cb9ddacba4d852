/* convolution.cpp - convolutions, also transposed ones and those in groups. */
#include "region/rules.h"

#include <set>

namespace bridge::region {
namespace {

/* Convolve a patch that holds all it reads: `around` it are zeros, or too much of it where an amount is negative. */
at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, const Ints &stride,
                    const Ints &dilation, int64_t groups, const std::vector<std::pair<int64_t, int64_t>> &around) {
    const Ints zeros(stride.size(), 0);
    Ints padding;
    for (const auto &[before, behind] : around) {
        padding.push_back(before == behind && before >= 0 ? before : -1);
    }
    const bool alike = std::none_of(padding.begin(), padding.end(), [](int64_t amount) { return amount < 0; });
    return at::convolution(alike ? x : pad(x, around, 0), weight, bias, stride, alike ? padding : zeros, dilation,
                           false, zeros, groups);
}

struct Convolution : Separable {
    at::Tensor weight, bias;
    at::Tensor weight_last; /* the same laid out with channels last: torch would do that in every call */
    Ints stride, padding, dilation;
    int64_t groups = 1;
    bool transposed = false;

    size_t spatial() const { return stride.size(); }
    int64_t channels() const { return operands[0].shape[1]; }
    int64_t outputs() const { return shapes[0][1]; }

    /* Channels that are computed come in whole groups. */
    Range group(const Box &out) const {
        const int64_t each = outputs() / groups;
        return {out[0].first / each, out[0].last / each};
    }

    const at::Tensor &weight_for(const at::Tensor &x) const {
        const bool last = weight_last.defined() && x.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
        return last ? weight_last : weight;
    }

    void phase(const Changes &changed, const Box &out, size_t, Ints *key) const override {
        key->push_back(out[0].first);
        key->push_back(
            changed[0] == nullptr ? 0 : (*changed[0])[0].first); /* an update reads these columns of the weight */
    }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        const Range g = group(out);
        const bool all = g.size() == groups;
        const int64_t rows = weight.size(0) / groups;
        const at::Tensor &laid_out = weight_for(patches[0]);
        const at::Tensor w = all ? laid_out : laid_out.slice(0, g.first * rows, g.last * rows);
        const at::Tensor b = all || !bias.defined() ? bias : bias.slice(0, out[0].first, out[0].last);
        if (!transposed) {
            return convolve(patches[0], w, b, stride, dilation, g.size(),
                            std::vector<std::pair<int64_t, int64_t>>(spatial()));
        }
        const Ints zeros(spatial(), 0);
        at::Tensor y = at::convolution(patches[0], w, b, stride, zeros, dilation, true, zeros, g.size());
        const Box from = reads(0, out, 0);
        std::vector<std::pair<int64_t, int64_t>> around;
        for (size_t d = 1; d < out.axes(); d++) { /* to the range that is asked for, which lies inside */
            const int64_t first = from[d].first * stride[d - 1] - padding[d - 1] - out[d].first;
            around.emplace_back(first, -(first + y.size(static_cast<int64_t>(d) + 1) - out[d].size()));
        }
        return pad(y, around, 0);
    }

    bool updates(const Changes &changed, bool differences) const override {
        return differences && !transposed && groups == 1 && !(*changed[0])[0].holds({0, channels()});
    }

    at::Tensor update(const Update &u, const Box &out) const override {
        const Range part = u.changed[0];
        const Box from = reads(0, out, 0);
        std::vector<std::pair<int64_t, int64_t>> around;
        for (size_t d = 1; d < out.axes(); d++) {
            around.emplace_back(u.changed[d].first - from[d].first, from[d].last - u.changed[d].last);
        }
        const at::Tensor change = u.fresh - u.old;
        const at::Tensor w = weight_for(change).slice(1, part.first, part.last);
        return convolve(change, w, {}, stride, dilation, 1, around).add_(u.before);
    }
};

/* Convolutions differ in the names of their arguments, not in what these say. */
bool read_geometry(const Node &node, Convolution *rule) {
    const size_t n = rule->spatial();
    rule->stride = integers_of(node, "stride", n, 1);
    rule->dilation = integers_of(node, "dilation", n, 1);
    rule->groups = integer_of(node, "groups", 1);
    const c10::IValue padding = fixed_of(node, "padding");
    if (!padding.isString()) {
        rule->padding = integers_of(node, "padding", n, 0);
        return true;
    }
    rule->padding.assign(n, 0);
    for (size_t d = 0; d < n && padding.toStringRef() == "same"; d++) { /* the odd one is on the right */
        rule->padding[d] = rule->dilation[d] * (rule->weight.size(static_cast<int64_t>(d) + 2) - 1) / 2;
    }
    return padding.toStringRef() == "same" || padding.toStringRef() == "valid";
}

} // namespace

std::unique_ptr<Rule> convolution(const Program &p, const Node &node) {
    static const std::set<std::string> names = {"conv1d",           "conv2d",           "conv3d",
                                                "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                                                "convolution",      "_convolution"};
    if (names.count(node.name) == 0) {
        return nullptr;
    }
    auto rule = std::make_unique<Convolution>();
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    rule->weight = constant_of(node, "weight");
    if (!input || !shape || !rule->weight.defined() || shape->size() < 3 || input->shape.size() != shape->size()) {
        return nullptr;
    }
    rule->weight = rule->weight.detach();
    if (rule->weight.dim() == 4) {
        rule->weight_last = rule->weight.contiguous(at::MemoryFormat::ChannelsLast);
    }
    rule->bias = constant_of(node, "bias");
    rule->bias = rule->bias.defined() ? rule->bias.detach() : rule->bias;
    rule->transposed = node.name.rfind("conv_transpose", 0) == 0 || flag_of(node, "transposed");
    rule->stride.resize(shape->size() - 2);
    if (!read_geometry(node, rule.get())) {
        return nullptr;
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    std::vector<Axis> along{
        Axis::blocks(0, input->shape[1], (*shape)[1], input->shape[1] / rule->groups, (*shape)[1] / rule->groups)};
    for (size_t d = 0; d < rule->spatial(); d++) {
        const int64_t wide = rule->dilation[d] * (rule->weight.size(static_cast<int64_t>(d) + 2) - 1);
        along.push_back(Axis::window(static_cast<int>(d) + 1, input->shape[d + 2], (*shape)[d + 2], rule->stride[d],
                                     rule->padding[d], wide));
        along.back().kind = rule->transposed ? Axis::Kind::transposed : Axis::Kind::window;
    }
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
