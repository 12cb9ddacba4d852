/* finite.h - values that are NaN or infinite. */
#ifndef MET_FINITE_H
#define MET_FINITE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "platform.h"

/* The bits of the exponent, which are all ones in NaN and infinity alone: integers compare in vectors. */
#define MET_FLOAT_EXPONENT UINT32_C(0x7f800000)
#define MET_DOUBLE_EXPONENT UINT64_C(0x7ff0000000000000)

/* Whether n values are all finite. */
#define MET_ALL_FINITE(T, BITS, EXPONENT) \
    static inline bool met_all_finite_##T(const T *values, size_t n) { \
        BITS found = 0; \
        for (size_t i = 0; i < n; i++) { \
            BITS bits; \
            memcpy(&bits, values + i, sizeof bits); \
            found |= (BITS)((bits & EXPONENT) == EXPONENT); \
        } \
        return found == 0; \
    }
MET_ALL_FINITE(float, uint32_t, MET_FLOAT_EXPONENT)
MET_ALL_FINITE(double, uint64_t, MET_DOUBLE_EXPONENT)
#undef MET_ALL_FINITE

/*
 * How many of n values (MET_FLOAT32 or MET_FLOAT64) are NaN or infinite, and the position of the first one (SIZE_MAX
 * where there is none; NULL: not wanted).
 */
size_t met_count_nonfinite(met_dtype dtype, const void *values, size_t n, const met_parallel *pool, size_t *first);

#endif
