/* region.h - what a changed part of the image changes in each value of a program, and how that part is computed anew. */
#ifndef METEORS_C_REGION_H
#define METEORS_C_REGION_H

#include "program.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bridge {

/* Half-open ranges along the axes of a value behind the axis of the samples. */
struct Box {
    std::vector<std::pair<int64_t, int64_t>> range;

    int64_t size(size_t axis) const { return range[axis].second - range[axis].first; }
    int64_t count() const;
    bool empty() const;
    bool operator==(const Box &other) const { return range == other.range; }
    /* All of a value of that shape for one sample, (1, ...). */
    static Box all(const std::vector<int64_t> &shape);
};

/* Input `argument` of a node, as one group of samples has it around the changed part. */
struct Patch {
    at::Tensor values; /* (samples, ...): what Rule::reads() asked for, cut to the value's borders */
    Box box;           /* where that lies: of the group's first sample; the others' are shifted along some axes */
    Box changed;       /* the part of it that is new */
};

/*
 * How one family of operators handles a changed part. All boxes are without the axis of the samples. Rules are stateless;
 * values are computed anew from values (not from differences).
 */
class Rule {
  public:
    virtual ~Rule() = default;
    /* The part of the node's first result that changes when these parts of its dependent inputs (in the order of
     * node.reads; an empty optional: unchanged) do. No box: the operator is not local, all behind it is run in full. */
    virtual std::optional<Box> reach(const Program &p, const Node &node,
                                     const std::vector<std::optional<Box>> &changed) const = 0;
    /* The part of dependent input `k` that is read to compute `out`; it may go beyond the borders where there is padding. */
    virtual Box reads(const Program &p, const Node &node, size_t k, const Box &out) const = 0;
    /* Values of `out`, (samples, sizes of out), from patches of all dependent inputs (in the order of node.reads). */
    virtual at::Tensor compute(const Program &p, const Node &node, const std::vector<Patch> &inputs, const Box &out,
                               const at::Tensor &before) const = 0;
};

/* The rule of an operator, by node.name; NULL: unknown, full from here. */
const Rule *rule_of(const Node &node);

} // namespace bridge

#endif
