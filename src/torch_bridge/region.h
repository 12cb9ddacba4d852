/* region.h - what a changed part of the image changes in each value of a program, and how that part is computed anew. */
#ifndef METEORS_C_REGION_H
#define METEORS_C_REGION_H

#include "program.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bridge {

/* A half-open range of places along one axis. */
struct Range {
    int64_t first = 0, last = 0;

    int64_t size() const { return last - first; }
    bool empty() const { return last <= first; }
    bool holds(const Range &other) const { return first <= other.first && other.last <= last; }
    bool operator==(const Range &other) const { return first == other.first && last == other.last; }
};

/* The smallest range that holds both; an empty one adds nothing. */
Range hull(const Range &a, const Range &b);
/* The places that are in both. */
Range common(const Range &a, const Range &b);

/* Ranges along the axes of a value behind that of the samples. A box without a place is empty, whatever its axes. */
class Box {
  public:
    static constexpr size_t MOST_AXES = 8;

    Box() = default;
    explicit Box(size_t axes) : axes_(axes) { TORCH_CHECK(axes <= MOST_AXES, "a tensor with ", axes + 1, " axes"); }
    static Box nothing() { return {}; }
    /* All of a value of that shape for one sample, (1, ...). */
    static Box all(const std::vector<int64_t> &shape);

    size_t axes() const { return axes_; }
    Range &operator[](size_t axis) { return ranges_[axis]; }
    const Range &operator[](size_t axis) const { return ranges_[axis]; }
    const Range *begin() const { return ranges_.data(); }
    const Range *end() const { return ranges_.data() + axes_; }
    const Range &last() const { return ranges_[axes_ - 1]; }

    int64_t count() const;
    bool empty() const;
    bool holds(const Box &other) const;
    bool operator==(const Box &other) const { return std::equal(begin(), end(), other.begin(), other.end()); }
    /* (n, sizes) */
    std::vector<int64_t> sizes(int64_t n) const;

  private:
    std::array<Range, MOST_AXES> ranges_{};
    size_t axes_ = 0; /* 0: nothing */
};

Box hull(const Box &a, const Box &b);
Box common(const Box &a, const Box &b);
/* What is left of a box around one in it, as boxes. */
std::vector<Box> frame(const Box &out, const Box &inner);

/* What an operator reads: a value of the run, or a constant tensor (1, ...) that is as large as its values somewhere. */
struct Operand {
    int value = -1;
    at::Tensor constant;
    std::vector<int64_t> shape; /* (1, ...) */
    bool dependent = false;
};

/* The changed parts of the operands; empty: unchanged. */
using Changes = std::vector<const Box *>;

/* What a sum or a convolution is updated from: both are (samples, sizes of `changed`). */
struct Update {
    const at::Tensor &fresh, &old; /* operand 0, where it changed; fresh: undefined where it is all zeros now */
    const Box &changed;
    const at::Tensor &before; /* (samples, sizes of out): what summary() gave, or the result for the image */
};

/*
 * How an operator of a program handles a changed part. Boxes and shapes are without the axis of the samples. A result is
 * computed anew from values, not from differences, which cost digits where the image holds values such as -9999.
 *
 * Samples are computed together where all is alike but for the place: the executor sees to sizes, offsets and padding;
 * phase() adds what else depends on the place.
 */
class Rule {
  public:
    virtual ~Rule() = default;

    std::vector<Operand> operands;
    size_t results = 1; /* of the node's results, those from the first on that can be computed */

    /* The part of a result that the changes reach. */
    virtual Box reach(const Changes &changed, size_t result) const = 0;
    /* The part of operand k that is read for the part `out` of a result. Beyond the borders it has the value beyond(). */
    virtual Box reads(size_t k, const Box &out, size_t result) const = 0;
    virtual double beyond() const { return 0; }
    /* The part of a result that reads no other places of operand k than those in the box; empty: unknown, too. */
    virtual Box within(size_t, const Box &, size_t /* result */) const { return Box::nothing(); }
    /* Whether it may be worth computing a part of the result in pieces. */
    virtual bool has_pieces() const { return false; }
    /* Numbers that are the same for samples which may be computed together. */
    virtual void phase(const Changes &, const Box &, size_t, std::vector<int64_t> *) const {}
    /* The part `out` of a result, from one patch of each operand: what reads() named, (samples, ...). Constants that
     * are read whole are given as they are; a patch may be undefined where nothing is read. */
    virtual at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t result) const = 0;

    /* Whether the result is better updated than computed anew; `differences`: they keep their digits. */
    virtual bool updates(const Changes &, bool /* differences */) const { return false; }
    /* What is updated, from operand 0 for whole images, in any precision; undefined: the result itself. */
    virtual at::Tensor summary(const at::Tensor &) const { return {}; }
    virtual at::Tensor update(const Update &, const Box & /* out */) const { return {}; }
};

/* Tensors (n, ...) with `value` around them, by so much before and behind along each axis, the last axes if there are
 * more; less of them where an amount is negative. */
at::Tensor pad(const at::Tensor &x, const std::vector<std::pair<int64_t, int64_t>> &around, double value);

/* The rule of a node; NULL: it is not local, or unknown, and all behind it is run in full. */
std::unique_ptr<Rule> rule_of(const Program &program, const Node &node);

} // namespace bridge

#endif
