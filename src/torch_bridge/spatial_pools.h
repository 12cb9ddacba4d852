/* spatial_pools.h - where a program takes places together, and reads nothing else from there on. */
#ifndef METEORS_C_SPATIAL_POOLS_H
#define METEORS_C_SPATIAL_POOLS_H

#include "program.h"

#include <vector>

namespace bridge {

/* A sum (times a factor) or maximum over places of a value. */
struct SpatialPool {
    int source = -1, result = -1; /* values */
    size_t node = 0;
    std::vector<int64_t> axes; /* of the source, without that of the samples */
    bool maximum = false;
    double factor = 1;
};

/* A cut of a program behind pools. */
struct PoolCut {
    size_t stop = 0;   /* position of the cut */
    size_t pooled = 0; /* position before which all sources of pools are made */
    std::vector<SpatialPool> pools;
    std::vector<int> live;            /* values that are read from `stop` on */
    std::vector<size_t> pool_of_live; /* which pool's numbers each of them holds, in their order */
};

/* The first cut behind which only pools are read, pools of nodes from `from` on; throws Declined where there is none. */
PoolCut cut_at_pools(const Program &program, size_t from = 0);

/*
 * The values in front of each pool, (samples, features, places), for samples (n, ...) of the images `origins`, in the user's
 * call.
 */
std::vector<at::Tensor> before_pools(const Program &program, const Model &model, const PoolCut &cut,
                                     const at::Tensor &samples, const std::vector<int64_t> &origins);

/* Which places along `axes` of a value of that shape each mask (masks, axes behind the first) reaches: (masks, places). */
at::Tensor reached_places(const at::Tensor &masks, const std::vector<int64_t> &shape, const std::vector<int64_t> &axes);

/* The live values at the cut from what the pools give, (samples, features) each. */
std::vector<at::Tensor> live_values(const Program &program, const PoolCut &cut, const std::vector<at::Tensor> &pooled);

} // namespace bridge

#endif
