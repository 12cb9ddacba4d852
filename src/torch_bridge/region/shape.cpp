/* shape.cpp - views and reshaping: what is computed stays the same, where it lies changes. */
#include "region/rules.h"

#include <set>

namespace bridge::region {
namespace {

/* ---- views: slices, permutations, new axes, chunks */

/* Each axis of the result steps along one axis of the operand, or stands still. */
struct View : Separable {
    struct Step {
        int in = -1; /* the operand's axis behind that of the samples; -1: the same value everywhere */
        int64_t step = 1;
    };
    std::vector<std::vector<Step>> steps; /* of each result */

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t result) const override {
        const at::Tensor &x = patches[0];
        const Ints sizes = out.sizes(x.size(0));
        Ints strides{x.stride(0)};
        for (const Step &s : steps[result]) {
            strides.push_back(s.in < 0 ? 0 : s.step * x.stride(s.in + 1));
        }
        return x.as_strided(sizes, strides, x.storage_offset());
    }
};

/* Strides none of which is a multiple of another within the sizes: each place has an offset that tells it. */
Ints strides_of(const Ints &shape) {
    Ints strides(shape.size(), 1);
    for (size_t d = shape.size() - 1; d-- > 0;) {
        strides[d] = strides[d + 1] * (shape[d + 1] + 1);
    }
    return strides;
}

/* What a view does to a tensor with such strides. */
std::vector<at::Tensor> probe(const Node &node, const Ints &shape, const std::optional<Ints> &like,
                              at::ScalarType dtype) {
    const auto options = at::TensorOptions(at::kMeta).dtype(dtype);
    const at::Tensor x = at::empty_strided(shape, strides_of(shape), options);
    Call call{node.op, &node, {{0, -1}}};
    std::vector<at::Tensor> tensors{x};
    if (like) {
        call.places.emplace_back(1, -1);
        tensors.push_back(at::empty(*like, options));
    }
    std::vector<at::Tensor> found;
    try {
        found = call(tensors, 1);
    } catch (const c10::Error &) { /* the axes do not fit together in such a tensor */
        return {};
    }
    for (const at::Tensor &y : found) {
        if (!y.defined() || !y.is_alias_of(x) || y.dim() < 2 || y.size(0) != 1) {
            return {};
        }
    }
    return found;
}

/* Read from a probe where each axis of a result comes from. */
bool read_view(const at::Tensor &y, const Ints &in_shape, View *rule) {
    const size_t rank = in_shape.size();
    const Ints strides = strides_of(in_shape);
    Ints first(rank, 0);
    int64_t offset = y.storage_offset();
    for (size_t d = 0; d < rank; d++) {
        first[d] = offset / strides[d];
        offset %= strides[d];
    }
    std::vector<Axis> along;
    for (size_t d = 1; d < rank; d++) { /* unless an axis of the result steps along it */
        along.push_back(Axis::window(-1, in_shape[d], 1, 1, -first[d], 0));
    }
    std::vector<View::Step> steps;
    for (int64_t j = 1; j < y.dim(); j++) {
        View::Step s;
        for (size_t d = 1; d < rank && y.size(j) > 1 && y.stride(j) > 0 && s.in < 0; d++) {
            if (strides[d] <= y.stride(j)) {
                s = {static_cast<int>(d) - 1, y.stride(j) / strides[d]};
                const bool inside = first[d] + (y.size(j) - 1) * s.step < in_shape[d];
                if (y.stride(j) % strides[d] != 0 || along[d - 1].out >= 0 || !inside) { /* a diagonal, a window */
                    return false;
                }
                along[d - 1] = Axis::window(static_cast<int>(j) - 1, in_shape[d], y.size(j), s.step, -first[d], 0);
            }
        }
        steps.push_back(s);
    }
    rule->steps.push_back(std::move(steps));
    rule->axes.push_back(std::move(along));
    return first[0] == 0;
}

/* ---- reshaping: axes that are split or merged */

/* Axes of the operand and of the result, behind that of the samples, that hold the same values in the same order. */
struct Group {
    std::vector<size_t> in, out;
};

/* Axes with one place only belong to no group. */
std::vector<Group> groups_of(const Ints &in, const Ints &out) {
    std::vector<Group> groups;
    size_t i = 1, o = 1;
    auto skip = [](const Ints &shape, size_t *d) {
        while (*d < shape.size() && shape[*d] == 1) {
            (*d)++;
        }
    };
    for (skip(in, &i), skip(out, &o); i < in.size() && o < out.size(); skip(in, &i), skip(out, &o)) {
        Group group{{i - 1}, {o - 1}};
        int64_t left = in[i++], right = out[o++];
        while (left != right) {
            if (left < right) {
                group.in.push_back(i - 1);
                left *= in[i++];
            } else {
                group.out.push_back(o - 1);
                right *= out[o++];
            }
        }
        groups.push_back(std::move(group));
    }
    return groups;
}

int64_t position(const Box &box, const std::vector<size_t> &axes, const Ints &shape, bool last) {
    int64_t at = 0;
    for (size_t d : axes) {
        at = at * shape[d + 1] + (last ? box[d].last - 1 : box[d].first);
    }
    return at;
}

/* The smallest box that holds a range of places along axes taken together: they follow each other in it, too. */
void spread(const Range &range, const std::vector<size_t> &axes, const Ints &shape, Box *box) {
    int64_t below = 1;
    for (size_t k = axes.size(); k-- > 0;) {
        const size_t d = axes[k];
        const int64_t size = shape[d + 1], first = range.first / below, last = (range.last - 1) / below;
        const bool turns = first / size != last / size;
        (*box)[d] = turns ? Range{0, size} : Range{first % size, last % size + 1};
        below *= size;
    }
}

Box ones(size_t axes) {
    Box box(axes);
    for (size_t d = 0; d < axes; d++) {
        box[d] = {0, 1};
    }
    return box;
}

struct Reshape : Rule {
    Ints shape; /* of the result */
    std::vector<Group> groups;

    const Ints &from() const { return operands[0].shape; }

    Box reach(const Changes &changed, size_t) const override {
        Box out = ones(shape.size() - 1);
        for (const Group &g : groups) {
            const Box &in = *changed[0];
            spread({position(in, g.in, from(), false), position(in, g.in, from(), true) + 1}, g.out, shape, &out);
        }
        return out;
    }

    Box reads(size_t, const Box &out, size_t) const override {
        Box in = ones(from().size() - 1);
        for (const Group &g : groups) {
            spread({position(out, g.out, shape, false), position(out, g.out, shape, true) + 1}, g.in, from(), &in);
        }
        return in;
    }

    void phase(const Changes &, const Box &out, size_t, Ints *key) const override {
        const Box in = reads(0, out, 0);
        for (const Group &g : groups) {
            key->push_back(position(out, g.out, shape, false) - position(in, g.in, from(), false));
        }
    }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        const Box in = reads(0, out, 0);
        Ints merged{patches[0].size(0)};
        for (const Group &g : groups) {
            merged.push_back(1);
            for (size_t d : g.in) {
                merged.back() *= in[d].size();
            }
        }
        at::Tensor x = patches[0].reshape(merged);
        for (size_t k = 0; k < groups.size(); k++) {
            const int64_t first =
                position(out, groups[k].out, shape, false) - position(in, groups[k].in, from(), false);
            int64_t size = 1;
            for (size_t d : groups[k].out) {
                size *= out[d].size();
            }
            x = size == merged[k + 1] ? x : x.narrow(static_cast<int64_t>(k) + 1, first, size);
        }
        return x.reshape(out.sizes(x.size(0)));
    }
};

/* ---- pixel shuffle and its inverse */

struct Shuffle : Separable {
    int64_t factor = 1;
    bool up = true;

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        return up ? at::pixel_shuffle(patches[0], factor) : at::pixel_unshuffle(patches[0], factor);
    }
};

/* The value that is viewed; of another one, if there is one, only the shape is read: "view_as", "expand_as". */
std::optional<Operand> shaped_operand(const Program &p, const Node &node) {
    const bool as_another = node.name.size() > 3 && node.name.compare(node.name.size() - 3, 3, "_as") == 0;
    return as_another && node.reads.size() == 2 ? operand_of(p, node, 0) : lone_operand(p, node);
}

} // namespace

std::unique_ptr<Rule> view(const Program &p, const Node &node) {
    const std::optional<Operand> input = shaped_operand(p, node);
    const auto &returns = node.op.schema().returns();
    if (!input || returns.size() != 1 || returns[0].alias_info() == nullptr || returns[0].alias_info()->isWrite()) {
        return nullptr;
    }
    const std::optional<Ints> like = node.reads.size() > 1 ? shape_of(p, node) : std::nullopt;
    const std::vector<at::Tensor> found =
        probe(node, input->shape, like, p.values[static_cast<size_t>(input->value)].dtype);
    if (found.empty() || found.size() != node.makes.size()) {
        return nullptr;
    }
    auto rule = std::make_unique<View>();
    rule->operands.push_back(*input);
    rule->results = found.size();
    for (size_t r = 0; r < found.size(); r++) {
        Ints shape = found[r].sizes().vec();
        shape[0] = 1;
        rule->shapes.push_back(shape);
        if (!read_view(found[r], input->shape, rule.get())) {
            return nullptr;
        }
    }
    return rule;
}

std::unique_ptr<Rule> reshape(const Program &p, const Node &node) {
    static const std::set<std::string> names = {"view",    "reshape",   "flatten", "unflatten",  "_unsafe_view",
                                                "squeeze", "unsqueeze", "view_as", "reshape_as", "_reshape_alias"};
    const std::optional<Operand> input = shaped_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (names.count(node.name) == 0 || !input || !shape ||
        c10::multiply_integers(input->shape) != c10::multiply_integers(*shape)) {
        return nullptr;
    }
    auto rule = std::make_unique<Reshape>();
    rule->operands.push_back(*input);
    rule->shape = *shape;
    rule->groups = groups_of(input->shape, *shape);
    return rule;
}

std::unique_ptr<Rule> shuffle(const Program &p, const Node &node) {
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    const bool up = node.name == "pixel_shuffle";
    if ((!up && node.name != "pixel_unshuffle") || !input || !shape || shape->size() != 4) {
        return nullptr;
    }
    auto rule = std::make_unique<Shuffle>();
    rule->up = up;
    rule->factor = up ? (*shape)[2] / input->shape[2] : input->shape[2] / (*shape)[2];
    const int64_t f = rule->factor, in = up ? 1 : f, out = up ? f : 1;
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    rule->axes.push_back({Axis::blocks(0, input->shape[1], (*shape)[1], up ? f * f : 1, up ? 1 : f * f),
                          Axis::blocks(1, input->shape[2], (*shape)[2], in, out),
                          Axis::blocks(2, input->shape[3], (*shape)[3], in, out)});
    return rule;
}

} // namespace bridge::region
