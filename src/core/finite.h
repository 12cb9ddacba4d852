/* finite.h - values that are NaN or infinite. */
#ifndef MET_FINITE_H
#define MET_FINITE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "engine.h"

/*
 * Whether n values are all finite. The bits of the exponent are all ones in NaN and infinity alone; integers compare in
 * vectors without -ffast-math.
 */
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
MET_ALL_FINITE(float, uint32_t, 0x7f800000u)
MET_ALL_FINITE(double, uint64_t, 0x7ff0000000000000u)
#undef MET_ALL_FINITE

/*
 * How many of n values (MET_FLOAT32 or MET_FLOAT64) are NaN or infinite, and the position of the first one (SIZE_MAX
 * where there is none; NULL: not wanted).
 */
size_t met_count_nonfinite(met_dtype dtype, const void *values, size_t n, const met_parallel *pool, size_t *first);

/* Count what is not finite in the result of an image of the user's call; MET_EFINITE where the caller wants an error. */
int met_note_results(met_report *report, const met_options *options, met_dtype dtype, const void *values, size_t n,
                     size_t image);

#endif
