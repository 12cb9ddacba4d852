/* move.cpp - operators that put values elsewhere, each axis for itself: padding, nearest upsampling, flips, selection. */
#include "region/rules.h"

#include <set>

namespace bridge::region {
namespace {

struct ConstantPad : Separable {
    double value = 0;

    double beyond() const override { return value; }
    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        return patches[0];
    }
};

/* Place o of an axis holds what lies at place table[o]. */
struct Moved : Separable {
    /* Where the places of a range come from, behind the first one that is read. */
    Ints sources(size_t axis, const Range &at) const {
        const Axis &a = of(0, 0)[axis];
        const int64_t first = a.reads(at).first;
        Ints found(a.low.begin() + at.first, a.low.begin() + at.last);
        for (int64_t &place : found) {
            place -= first;
        }
        return found;
    }

    static bool follow_each_other(const Ints &places) {
        for (size_t i = 0; i < places.size(); i++) {
            if (places[i] != static_cast<int64_t>(i)) {
                return false;
            }
        }
        return true;
    }

    void phase(const Changes &, const Box &out, size_t, Ints *key) const override {
        for (size_t d = 0; d < out.axes(); d++) {
            const Ints places = sources(d, out[d]);
            if (!follow_each_other(places)) {
                key->insert(key->end(), places.begin(), places.end());
            }
        }
    }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        at::Tensor x = patches[0];
        for (size_t d = 0; d < out.axes(); d++) {
            const Ints places = sources(d, out[d]);
            if (!follow_each_other(places)) {
                x = x.index_select(static_cast<int64_t>(d) + 1, at::tensor(places, at::kLong).to(x.device()));
            }
        }
        return x;
    }
};

/* The device of an operator's constant tensors. */
at::Device device_of(const std::vector<Argument> &arguments) {
    for (const Argument &argument : arguments) {
        const bool constant = argument.kind == Argument::Kind::fixed && argument.fixed.isTensor();
        const at::Device device = constant && argument.fixed.toTensor().defined() ? argument.fixed.toTensor().device()
                                                                                  : device_of(argument.entries);
        if (!device.is_cpu()) {
            return device;
        }
    }
    return at::kCPU;
}

/* Where axis `axis` of the result comes from: the operator moves the numbers of the places along that axis. */
std::optional<Ints> table_of(const Call &call, const Ints &in, const Ints &out, size_t axis, at::Device device) {
    Ints along(in.size(), 1);
    along[axis] = -1;
    const at::Tensor places =
        at::arange(in[axis], at::TensorOptions(at::kDouble).device(device)).view(along).expand(in);
    at::Tensor moved;
    try {
        moved = call({places.contiguous()}, 1)[0];
    } catch (const c10::Error &) {
        return std::nullopt;
    }
    if (!moved.sizes().equals(out)) {
        return std::nullopt;
    }
    moved = moved.to(at::kCPU);
    at::Tensor line = moved;
    for (size_t d = 0; d < out.size(); d++) {
        line = d == axis ? line : line.narrow(static_cast<int64_t>(d), 0, 1);
    }
    if (!moved.equal(line.expand(out).contiguous())) {
        return std::nullopt;
    }
    line = line.reshape({-1}).to(at::kLong).contiguous();
    return Ints(line.const_data_ptr<int64_t>(), line.const_data_ptr<int64_t>() + line.numel());
}

bool moves(const Node &node) {
    static const std::set<std::string> names = {"pad",
                                                "reflection_pad1d",
                                                "reflection_pad2d",
                                                "reflection_pad3d",
                                                "replication_pad1d",
                                                "replication_pad2d",
                                                "flip",
                                                "roll",
                                                "replication_pad3d",
                                                "upsample_nearest1d",
                                                "upsample_nearest2d",
                                                "upsample_nearest3d",
                                                "index",
                                                "_pad_circular",
                                                "_upsample_nearest_exact1d",
                                                "_upsample_nearest_exact2d",
                                                "_upsample_nearest_exact3d",
                                                "index_select",
                                                "repeat_interleave",
                                                "repeat",
                                                "fliplr",
                                                "flipud",
                                                "rot90",
                                                "tile",
                                                "_pad_enum"};
    return names.count(node.name) != 0;
}

} // namespace

std::unique_ptr<Rule> constant_pad(const Program &p, const Node &node) {
    const c10::IValue mode = fixed_of(node, "mode"), value = fixed_of(node, "value");
    const bool constant = node.name == "pad" && mode.isString() && mode.toStringRef() == "constant";
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if ((node.name != "constant_pad_nd" && !constant) || !input || !shape || !are_fixed(node, {"pad", "value"})) {
        return nullptr;
    }
    const Ints amounts = fixed_of(node, "pad").toIntVector();
    auto rule = std::make_unique<ConstantPad>();
    rule->value = value.isScalar() ? value.toScalar().toDouble() : 0;
    std::vector<Axis> along;
    const size_t rank = shape->size();
    for (size_t d = 1; d < rank; d++) {
        const size_t at = 2 * (rank - 1 - d); /* the last axis comes first */
        along.push_back(Axis::window(static_cast<int>(d) - 1, input->shape[d], (*shape)[d], 1,
                                     at < amounts.size() ? amounts[at] : 0, 0));
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

std::unique_ptr<Rule> moved(const Program &p, const Node &node) {
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (!moves(node) || !input || !shape || input->shape.size() != shape->size()) {
        return nullptr;
    }
    const Call call{node.op, &node, {{0, -1}}};
    auto rule = std::make_unique<Moved>();
    std::vector<Axis> along;
    for (size_t d = 1; d < shape->size(); d++) {
        std::optional<Ints> table = table_of(call, input->shape, *shape, d, device_of(node.arguments));
        if (!table) {
            return nullptr;
        }
        along.push_back(Axis::table(static_cast<int>(d) - 1, input->shape[d], *table, *table));
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
