/* batch_axis.h - where the samples of a batch lie in a tensor of a run, and whether an operator leaves them apart there. */
#ifndef METEORS_C_BATCH_AXIS_H
#define METEORS_C_BATCH_AXIS_H

#include "trace.h"

namespace bridge {

/* The sizes of two runs of a model. */
struct RunSizes {
    int64_t first, second;
};

/*
 * The axis along which the samples lie in a tensor of two runs, one behind the other, with as many places for each: the only
 * one whose sizes differ. -1: there is none.
 */
int batch_axis(const Taped &a, const Taped &b, const RunSizes &sizes);

/*
 * Whether what a call gives for a sample depends on what it reads of that sample alone, and lies in its order. Known is this
 * of the operators that networks are made of, where they work along other axes than that of the samples; of no other.
 *   a, b  the same call in two runs
 */
bool keeps_samples_apart(const Step &a, const Step &b, const RunSizes &sizes);

/* Whether a call computes something of several samples, a softmax or a sum along their axis, say: of those that are known. */
bool works_along_samples(const Step &a, const Step &b, const RunSizes &sizes);

} // namespace bridge

#endif
