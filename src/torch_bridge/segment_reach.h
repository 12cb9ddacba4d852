/* segment_reach.h - which segments of an image reach which places of a program's values. */
#ifndef METEORS_C_SEGMENT_REACH_H
#define METEORS_C_SEGMENT_REACH_H

#include "program.h"
#include "region.h"

#include <memory>
#include <vector>

namespace bridge {

/*
 * Where some segments reach, as numbers that are above 0 there: (segments * rows, axes of the value behind the first), rows
 * being the first axis of the value for one sample. An axis of size 1 stands for an axis along which nothing differs.
 * Undefined: a value whose first axis is not that of the samples, which may be reached by anything anywhere.
 */
using Reach = at::Tensor;

/* Masks of segments [from, to) in the image, (to - from, axes of the image). */
Reach reach_in_image(const met_segments &segments, const std::vector<int64_t> &image, int64_t from, int64_t to);

/* The receptive fields of a program's operators; one that is not known, or not local, reads everything. */
class SegmentReach {
  public:
    explicit SegmentReach(const Program &program);

    /* The reach of `wanted` values, in that order, for segments that reach `in_image`. */
    std::vector<Reach> of(const Reach &in_image, const std::vector<int> &wanted) const;

  private:
    void follow(size_t node, int64_t segments, std::vector<Reach> &masks) const;
    std::vector<Reach> results(size_t node, int64_t segments, const std::vector<Reach> &masks) const;
    const Value &value(int v) const { return program_.values[static_cast<size_t>(v)]; }

    const Program &program_;
    Program by_row_; /* the same, with the rows of values such as (samples * pixels, bands) as samples */
    std::vector<std::unique_ptr<Rule>> rules_; /* by node, where there is one */
};

} // namespace bridge

#endif
