/* axes.cpp - boxes, and rules whose axes are independent of each other. */
#include "region/rules.h"

namespace bridge {

Range hull(const Range &a, const Range &b) {
    if (a.empty() || b.empty()) {
        return a.empty() ? b : a;
    }
    return {std::min(a.first, b.first), std::max(a.last, b.last)};
}

Range common(const Range &a, const Range &b) {
    return {std::max(a.first, b.first), std::min(a.last, b.last)};
}

Box Box::all(const std::vector<int64_t> &shape) {
    Box box(shape.size() - 1);
    for (size_t d = 0; d < box.axes(); d++) {
        box[d] = {0, shape[d + 1]};
    }
    return box;
}

int64_t Box::count() const {
    int64_t n = empty() ? 0 : 1;
    for (const Range &r : *this) {
        n *= r.size();
    }
    return n;
}

bool Box::empty() const {
    return axes_ == 0 || std::any_of(begin(), end(), [](const Range &r) { return r.empty(); });
}

bool Box::holds(const Box &other) const {
    if (other.empty()) {
        return true;
    }
    for (size_t d = 0; d < axes_; d++) {
        if (!ranges_[d].holds(other[d])) {
            return false;
        }
    }
    return axes_ == other.axes_;
}

std::vector<int64_t> Box::sizes(int64_t n) const {
    std::vector<int64_t> found{n};
    for (const Range &r : *this) {
        found.push_back(r.size());
    }
    return found;
}

Box hull(const Box &a, const Box &b) {
    if (a.empty() || b.empty()) {
        return a.empty() ? b : a;
    }
    Box box(a.axes());
    for (size_t d = 0; d < box.axes(); d++) {
        box[d] = hull(a[d], b[d]);
    }
    return box;
}

Box common(const Box &a, const Box &b) {
    if (a.empty() || b.empty()) {
        return Box::nothing();
    }
    Box box(a.axes());
    for (size_t d = 0; d < box.axes(); d++) {
        box[d] = common(a[d], b[d]);
    }
    return box;
}

std::vector<Box> frame(const Box &out, const Box &inner) {
    std::vector<Box> pieces;
    Box left = out;
    for (size_t d = 0; d < out.axes(); d++) {
        for (const Range &range : {Range{out[d].first, inner[d].first}, Range{inner[d].last, out[d].last}}) {
            if (!range.empty()) {
                pieces.push_back(left);
                pieces.back()[d] = range;
            }
        }
        left[d] = inner[d];
    }
    return pieces;
}

at::Tensor pad(const at::Tensor &x, const std::vector<std::pair<int64_t, int64_t>> &around, double value) {
    std::vector<int64_t> amounts;
    for (size_t d = around.size(); d-- > 0;) { /* the last axis comes first */
        amounts.push_back(around[d].first);
        amounts.push_back(around[d].second);
    }
    const bool any = std::any_of(amounts.begin(), amounts.end(), [](int64_t amount) { return amount != 0; });
    return any ? at::constant_pad_nd(x, amounts, value) : x;
}

namespace region {
namespace {

int64_t floor_of(int64_t a, int64_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

int64_t ceiling_of(int64_t a, int64_t b) {
    return -floor_of(-a, b);
}

/* Places i with some j of [first, last), j in [i stride - padding, that + wide]. */
Range writers(const Range &at, int64_t stride, int64_t padding, int64_t wide) {
    return {ceiling_of(at.first + padding - wide, stride), floor_of(at.last - 1 + padding, stride) + 1};
}

Range written(const Range &from, int64_t stride, int64_t padding, int64_t wide) {
    return {from.first * stride - padding, (from.last - 1) * stride - padding + wide + 1};
}

} // namespace

Axis Axis::same(int out, int64_t size) {
    return window(out, size, size, 1, 0, 0);
}

Axis Axis::whole(int out, int64_t in_size, int64_t out_size) {
    Axis axis;
    axis.kind = Kind::whole;
    axis.out = out;
    axis.in_size = in_size;
    axis.out_size = out_size;
    return axis;
}

Axis Axis::window(int out, int64_t in_size, int64_t out_size, int64_t stride, int64_t padding, int64_t wide) {
    Axis axis = whole(out, in_size, out_size);
    axis.kind = Kind::window;
    axis.stride = stride;
    axis.padding = padding;
    axis.wide = wide;
    return axis;
}

Axis Axis::blocks(int out, int64_t in_size, int64_t out_size, int64_t in_block, int64_t out_block) {
    Axis axis = whole(out, in_size, out_size);
    axis.kind = Kind::blocks;
    axis.in_block = in_block;
    axis.out_block = out_block;
    return axis;
}

Axis Axis::table(int out, int64_t in_size, Ints low, Ints high) {
    Axis axis = whole(out, in_size, static_cast<int64_t>(low.size()));
    axis.kind = Kind::table;
    axis.low = std::move(low);
    axis.high = std::move(high);
    return axis;
}

Range Axis::reach(const Range &in) const {
    const Range all{0, out_size};
    switch (kind) {
    case Kind::whole: return all;
    case Kind::window: return common(writers(in, stride, padding, wide), all);
    case Kind::transposed: return common(written(in, stride, padding, wide), all);
    case Kind::blocks:
        return common({in.first / in_block * out_block, ((in.last - 1) / in_block + 1) * out_block}, all);
    default: break;
    }
    Range found;
    for (int64_t o = 0; o < out_size; o++) {
        const auto at = static_cast<size_t>(o);
        if (low[at] < in.last && in.first <= high[at]) {
            found = hull(found, {o, o + 1});
        }
    }
    return found;
}

Range Axis::reads(const Range &at) const {
    const Range all{0, in_size};
    Range found = all;
    switch (kind) {
    case Kind::whole: break;
    case Kind::window: found = written(at, stride, padding, wide); break;
    case Kind::transposed: return common(writers(at, stride, padding, wide), all);
    case Kind::blocks: return {at.first / out_block * in_block, ((at.last - 1) / out_block + 1) * in_block};
    case Kind::table:
        found = {};
        for (int64_t o = at.first; o < at.last; o++) {
            found = hull(found, {low[static_cast<size_t>(o)], high[static_cast<size_t>(o)] + 1});
        }
    }
    return clips ? common(found, all) : found;
}

Range Axis::within(const Range &in) const {
    const Range all{0, out_size};
    if (in.holds({0, in_size})) {
        return all;
    }
    if (kind == Kind::window) {
        return {in.first <= 0 ? 0 : std::max<int64_t>(0, ceiling_of(in.first + padding, stride)),
                in.last >= in_size ? out_size : std::min(out_size, floor_of(in.last - 1 - wide + padding, stride) + 1)};
    }
    if (kind == Kind::blocks) {
        return common({ceiling_of(in.first, in_block) * out_block, in.last / in_block * out_block}, all);
    }
    return {};
}

Box Separable::reach(const Changes &changed, size_t result) const {
    Box found = Box::nothing();
    const Box all = Box::all(shapes[result]);
    for (size_t k = 0; k < operands.size(); k++) {
        if (changed[k] == nullptr || changed[k]->empty()) {
            continue;
        }
        Box box = all;
        const std::vector<Axis> &along = of(k, result);
        bool reached = true;
        for (size_t d = 0; d < along.size() && reached; d++) {
            const Range range = along[d].reach((*changed[k])[d]);
            reached = !range.empty();
            if (along[d].out >= 0) {
                box[static_cast<size_t>(along[d].out)] = range;
            }
        }
        found = reached ? hull(found, box) : found;
    }
    return found;
}

Box Separable::reads(size_t k, const Box &out, size_t result) const {
    const std::vector<Axis> &along = of(k, result);
    Box box(along.size());
    for (size_t d = 0; d < along.size(); d++) {
        box[d] = along[d].reads(along[d].out >= 0 ? out[static_cast<size_t>(along[d].out)] : Range{0, 1});
    }
    return box;
}

Box Separable::within(size_t k, const Box &in, size_t result) const {
    Box box = Box::all(shapes[result]);
    const std::vector<Axis> &along = of(k, result);
    for (size_t d = 0; d < along.size(); d++) {
        const Range range = along[d].within(in[d]);
        if (along[d].out >= 0) {
            Range &there = box[static_cast<size_t>(along[d].out)];
            there = common(there, range);
        } else if (range.empty()) {
            return Box::nothing();
        }
    }
    return box.empty() ? Box::nothing() : box;
}

void Separable::add_alike(const Operand &operand, const Ints &out_shape) {
    std::vector<Axis> along;
    for (size_t d = 1; d < operand.shape.size(); d++) {
        const auto out = static_cast<int>(d) - 1;
        along.push_back(operand.shape[d] == out_shape[d] ? Axis::same(out, out_shape[d])
                                                         : Axis::whole(out, operand.shape[d], out_shape[d]));
    }
    operands.push_back(operand);
    axes.push_back(std::move(along));
}

} // namespace region
} // namespace bridge
