/* segment_reach.h - which segments of an image reach which places of a program's values. */
#ifndef METEORS_C_SEGMENT_REACH_H
#define METEORS_C_SEGMENT_REACH_H

#include "program.h"

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

/*
 * The reach of `wanted` values of a program, in that order, for segments that reach `in_image`. Receptive fields are those
 * of the operators; an operator that is not known reaches everywhere.
 */
std::vector<Reach> reach_of(const Program &program, const Reach &in_image, const std::vector<int> &wanted);

} // namespace bridge

#endif
