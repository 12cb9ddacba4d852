/* band_layout.cpp - see band_layout.h. */
#include "band_layout.h"

#include <functional>
#include <numeric>
#include <string>
#include <unordered_set>

namespace bridge {
namespace {

int wrapped(int64_t axis, size_t dimensions) {
    return static_cast<int>(axis < 0 ? axis + static_cast<int64_t>(dimensions) : axis);
}

/* The axis of the bands after values, in the same order, got another shape: as many before it, and as many along it; -1. */
int reshaped(const std::vector<int64_t> &from, const std::vector<int64_t> &to, int axis) {
    const auto bands = static_cast<size_t>(axis);
    const int64_t before = std::accumulate(from.begin(), from.begin() + axis, int64_t{1}, std::multiplies<>());
    int64_t count = to[0];
    for (size_t i = 1; i < to.size(); i++) {
        if (count == before && to[i] == from[bands]) {
            return static_cast<int>(i);
        }
        count *= to[i];
    }
    return -1;
}

} // namespace

/* The axis of the bands behind a node that only moves values; -1: it does something else. */
int BandLayout::moved(const Node &node, int axis) const {
    const Value &from = p_.values[static_cast<size_t>(node.reads[0])];
    const Value &to = p_.values[static_cast<size_t>(node.makes[0])];
    const size_t n = from.shape.size();
    if (node.name == "permute") {
        const auto order = node.integers(1, n);
        for (size_t i = 0; i < n; i++) {
            if (wrapped(order[i], n) == axis) {
                return static_cast<int>(i);
            }
        }
    }
    if (node.name == "transpose" || node.name == "swapaxes" || node.name == "swapdims") {
        const int a = wrapped(node.fixed(1).toInt(), n), b = wrapped(node.fixed(2).toInt(), n);
        return axis == a ? b : axis == b ? a : axis;
    }
    if (node.name == "unsqueeze") {
        const int at = wrapped(node.fixed(1).toInt(), n + 1);
        return at <= axis ? axis + 1 : axis;
    }
    static const std::unordered_set<std::string> reshapes = {"flatten", "unflatten",    "view",
                                                             "reshape", "_unsafe_view", "squeeze"};
    if (reshapes.count(node.name) != 0) {
        return reshaped(from.shape, to.shape, axis);
    }
    if (node.name == "contiguous" || node.name == "clone" || node.name == "detach" || node.name == "alias" ||
        node.name == "to" || node.name == "dropout") {
        return axis;
    }
    return -1;
}

bool BandLayout::follow(const Node &node) {
    if (node.opaque || node.autocast || node.makes.size() != 1 || node.makes[0] < 0 || node.reads.size() != 1) {
        return false;
    }
    const int axis = axis_[static_cast<size_t>(node.reads[0])];
    const Value &from = p_.values[static_cast<size_t>(node.reads[0])];
    const Value &to = p_.values[static_cast<size_t>(node.makes[0])];
    if (axis < 0 || !to.by_sample || to.dtype != from.dtype) {
        return false;
    }
    static const std::unordered_set<std::string> by_value = {"add", "sub",   "mul",   "div",     "relu",
                                                             "neg", "clamp", "log",   "exp",     "sqrt",
                                                             "pow", "abs",   "log1p", "sigmoid", "tanh"};
    int after = moved(node, axis);
    if (after < 0 && by_value.count(node.name) != 0 && from.shape == to.shape) {
        after = axis; /* with constants, which may differ from band to band */
    }
    if (after < 0 && node.name == "batch_norm" && axis == 1) {
        after = 1;
    }
    axis_[static_cast<size_t>(node.makes[0])] = after;
    return after >= 0;
}

} // namespace bridge
