/*
 * segment_reach.cpp - segments are followed through a program as masks: each operator widens them by its receptive field.
 *
 * The masks of several segments stand in the place of several samples. Receptive fields are those of the rules for changed
 * parts (region.h), which are independent along the axes. Masks may be too wide, never too narrow.
 */
#include "segment_reach.h"

#include "region/rules.h"
#include "shortcut.h"

#include <algorithm>
#include <set>

namespace bridge {

Reach reach_in_image(const met_segments &segments, const std::vector<int64_t> &image, int64_t from, int64_t to) {
    at::Tensor ids = segment_ids(segments, image);
    at::Tensor which = at::arange(from, to, at::kInt).reshape({-1, 1, 1, 1});
    return ids.unsqueeze(0).eq(which).to(at::kFloat);
}

namespace {

using region::Axis;
using region::Separable;
using Shape = std::vector<int64_t>;

/* ---- along one axis */

/* What reaches each place of a result along an axis; a lone place where nothing differs. */
Reach along(const Reach &mask, int64_t dim, const Axis &axis) {
    const bool same = axis.kind == Axis::Kind::window && axis.stride == 1 && axis.padding == 0 && axis.wide == 0 &&
                      axis.in_size == axis.out_size && axis.out >= 0;
    if (mask.size(dim) == 1 || same) {
        return mask;
    }
    if (axis.kind == Axis::Kind::whole) {
        return mask.amax({dim}, true);
    }
    const int64_t places = axis.out < 0 ? 1 : axis.out_size;
    Shape first, last;
    for (int64_t o = 0; o < places; o++) {
        const Range read = common(axis.reads({o, o + 1}), {0, axis.in_size});
        first.push_back(read.empty() ? 0 : read.first);
        last.push_back(read.empty() ? 0 : read.last);
    }
    Shape one = mask.sizes().vec();
    one[static_cast<size_t>(dim)] = 1;
    const at::Tensor sums = at::cat({at::zeros(one, mask.options()), mask.cumsum(dim)}, dim);
    return (sums.index_select(dim, at::tensor(last)) - sums.index_select(dim, at::tensor(first)))
        .gt(0.5)
        .to(at::kFloat);
}

/* What reaches a result with `axes` axes through one of its operands. */
Reach through(Reach mask, const std::vector<Axis> &operand, size_t axes) {
    Shape order{0}, sizes(axes, 1);
    std::vector<std::pair<int, int64_t>> moved; /* axis of the result, that of the operand */
    for (size_t d = 0; d < operand.size(); d++) {
        const auto dim = static_cast<int64_t>(d) + 1;
        mask = along(mask, dim, operand[d]);
        if (operand[d].out >= 0) {
            moved.emplace_back(operand[d].out, dim);
        }
    }
    sizes[0] = mask.size(0);
    std::sort(moved.begin(), moved.end());
    for (const auto &[out, dim] : moved) {
        sizes[static_cast<size_t>(out) + 1] = mask.size(dim);
        order.push_back(dim);
    }
    for (int64_t dim = 1; dim < mask.dim(); dim++) {
        if (std::count(order.begin(), order.end(), dim) == 0) {
            order.push_back(dim); /* of one place */
        }
    }
    return mask.permute(order).reshape(sizes);
}

/* ---- axes taken together or apart */

const std::set<std::string> reshapes = {"view",    "reshape",   "flatten",      "unflatten",
                                        "squeeze", "unsqueeze", "_unsafe_view", "_reshape_alias"};

bool is_reshape(const Node &node) {
    return reshapes.count(node.name) != 0 && node.is_value(0) && node.makes.size() == 1 && node.makes[0] >= 0;
}

/* Whether a reshape leaves the rows of each sample together in the first axis; `rows` that it reads, 0: samples. */
bool keeps_rows_together(const Node &node, const Value &out, int64_t rows) {
    if (out.by_sample || node.name == "flatten") {
        return true;
    }
    if (node.name == "unsqueeze" || node.name == "squeeze") {
        return rows > 1 && out.shape[0] == rows;
    }
    if (node.arguments.size() < 2) {
        return false;
    }
    const Argument &sizes = node.arguments[1];
    if (sizes.kind == Argument::Kind::integers) {
        return !sizes.scales.empty() && sizes.scales[0] &&
               std::count(sizes.scales.begin(), sizes.scales.end(), true) == 1;
    }
    if (sizes.kind != Argument::Kind::fixed || !sizes.fixed.isIntList()) {
        return false;
    }
    const Shape given = sizes.fixed.toIntVector();
    return !given.empty() && given[0] == -1;
}

/*
 * The same values in their order under other axes. Axes are taken in the smallest groups whose products agree; a group along
 * which nothing differs stays small.
 */
Reach reshaped(const Reach &mask, const Shape &from, const Shape &to, int64_t segments) {
    Shape expanded, sizes;
    for (size_t i = 0, j = 0; i < from.size() || j < to.size();) {
        const size_t first_i = i, first_j = j;
        int64_t left = i < from.size() ? from[i++] : 1, right = j < to.size() ? to[j++] : 1;
        while (left != right) {
            if (left == 0 || right == 0) {
                return {};
            }
            left < right ? left *= from[i++] : right *= to[j++];
        }
        bool differs = first_i == 0;
        for (size_t a = first_i; a < i; a++) {
            differs = differs || mask.size(static_cast<int64_t>(a)) != 1;
        }
        for (size_t a = first_i; a < i; a++) {
            expanded.push_back((differs ? from[a] : 1) * (a == 0 ? segments : 1));
        }
        for (size_t a = first_j; a < j; a++) {
            sizes.push_back((differs ? to[a] : 1) * (a == 0 ? segments : 1));
        }
    }
    return mask.expand(expanded).reshape(sizes);
}

/* A recurrent layer over sequences (rows, time, features) that starts from the same state: each result reads its row. */
bool is_recurrent(const Program &p, const Node &node) {
    const bool known = node.name == "gru" || node.name == "lstm" || node.name == "rnn_tanh" || node.name == "rnn_relu";
    const auto of_input = [&](int v) {
        return v == node.arguments[0].value || !p.values[static_cast<size_t>(v)].dependent;
    };
    return known && node.is_value(0) && node.op.schema().arguments()[0].name() == "input" &&
           region::flag_of(node, "batch_first") && std::all_of(node.reads.begin(), node.reads.end(), of_input);
}

/* Everything that reaches a value of a sample reaches all of a result of that shape. */
Reach everywhere(const std::vector<Reach> &masks, const Shape &shape, int64_t segments) {
    Reach any;
    for (const Reach &mask : masks) {
        Reach of_one = mask.reshape({segments, -1}).amax(1);
        any = any.defined() ? at::maximum(any, of_one) : of_one;
    }
    Shape sizes(shape.size(), 1);
    sizes[0] = segments * shape[0];
    return any.repeat_interleave(shape[0]).reshape(sizes);
}

} // namespace

/* ---- through a program */

SegmentReach::SegmentReach(const Program &program) : program_(program), by_row_(program), rules_(program.nodes.size()) {
    std::vector<bool> in_rows(program.values.size(), false);
    for (size_t i = 0; i < program.nodes.size(); i++) {
        const Node &node = program.nodes[i];
        if (!node.dependent || !node.needed || node.opaque) {
            continue;
        }
        int64_t rows = 0; /* of what it reads, where those are more than the samples */
        bool known = true;
        for (int read : node.reads) {
            if (value(read).dependent) {
                rows = in_rows[static_cast<size_t>(read)] ? value(read).shape[0] : rows;
                known = known && by_row_.values[static_cast<size_t>(read)].by_sample;
            }
        }
        const bool reshape = is_reshape(node);
        for (int made : node.makes) {
            if (made < 0 || value(made).by_sample || !known || value(made).shape.empty()) {
                continue;
            }
            if (reshape ? keeps_rows_together(node, value(made), rows) : rows > 0 && value(made).shape[0] == rows) {
                in_rows[static_cast<size_t>(made)] = true;
                by_row_.values[static_cast<size_t>(made)].by_sample = true;
                by_row_.values[static_cast<size_t>(made)].shape[0] = 1;
            }
        }
        if (known && !reshape) {
            rules_[i] = rule_of(by_row_, node);
        }
    }
}

std::vector<Reach> SegmentReach::results(size_t i, int64_t segments, const std::vector<Reach> &masks) const {
    const Node &node = program_.nodes[i];
    std::vector<Reach> found(node.makes.size());
    if (is_reshape(node)) {
        const int from = node.arguments[0].value;
        found[0] = reshaped(masks[static_cast<size_t>(from)], value(from).shape, value(node.makes[0]).shape, segments);
        return found;
    }
    if (is_recurrent(program_, node)) {
        const Reach &read = masks[static_cast<size_t>(node.arguments[0].value)];
        found[0] = read.dim() == 3 ? read.amax({1, 2}, true) : Reach();
        return found;
    }
    const auto *rule = dynamic_cast<const Separable *>(rules_[i].get());
    for (size_t r = 0; rule != nullptr && r < std::min(rule->results, found.size()); r++) {
        const size_t axes = node.makes[r] < 0 ? 0 : value(node.makes[r]).shape.size();
        for (size_t k = 0; k < rule->operands.size() && axes > 0; k++) {
            if (rule->operands[k].dependent) {
                const Reach &read = masks[static_cast<size_t>(rule->operands[k].value)];
                const Reach part = through(read, rule->axes[r * rule->operands.size() + k], axes);
                found[r] = found[r].defined() ? at::maximum(found[r], part) : part;
            }
        }
    }
    return found;
}

void SegmentReach::follow(size_t i, int64_t segments, std::vector<Reach> &masks) const {
    const Node &node = program_.nodes[i];
    std::vector<Reach> read;
    for (int v : node.reads) {
        if (value(v).dependent) {
            read.push_back(masks[static_cast<size_t>(v)]);
            if (!read.back().defined()) {
                return;
            }
        }
    }
    if (read.empty() || node.opaque) {
        return;
    }
    const std::vector<Reach> found = results(i, segments, masks);
    for (size_t k = 0; k < node.makes.size(); k++) {
        if (node.makes[k] >= 0 && by_row_.values[static_cast<size_t>(node.makes[k])].by_sample) {
            Reach &mask = masks[static_cast<size_t>(node.makes[k])];
            const Shape &shape = value(node.makes[k]).shape;
            const bool fits = found[k].defined() && found[k].size(0) == segments * shape[0];
            mask = fits ? found[k] : everywhere(read, shape, segments);
        }
    }
}

std::vector<Reach> SegmentReach::of(const Reach &in_image, const std::vector<int> &wanted) const {
    std::vector<Reach> masks(program_.values.size());
    std::vector<bool> stays(masks.size(), false);
    size_t end = 0;
    for (int v : wanted) {
        stays[static_cast<size_t>(v)] = true;
        end = std::max(end, static_cast<size_t>(value(v).made_by + 1));
    }
    masks[static_cast<size_t>(program_.input)] = in_image;
    for (size_t i = 0; i < end; i++) {
        const Node &node = program_.nodes[i];
        if (!node.dependent || !node.needed) {
            continue;
        }
        follow(i, in_image.size(0), masks);
        for (int v : node.reads) {
            if (value(v).last_read == static_cast<int>(i) && !stays[static_cast<size_t>(v)]) {
                masks[static_cast<size_t>(v)] = Reach();
            }
        }
    }
    std::vector<Reach> found;
    for (int v : wanted) {
        found.push_back(masks[static_cast<size_t>(v)]);
    }
    return found;
}

} // namespace bridge
