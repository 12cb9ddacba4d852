/*
 * philox.h - Philox 4x32-10 on several counters in step, so that the compiler can use vector instructions.
 * Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */
#ifndef MET_PHILOX_H
#define MET_PHILOX_H

#include "rng.h"

#define PHILOX_ROUNDS 10
#define PHILOX_MULTIPLIER0 UINT64_C(0xD2511F53)
#define PHILOX_MULTIPLIER1 UINT64_C(0xCD9E8D57)
#define PHILOX_WEYL0 UINT32_C(0x9E3779B9) /* golden ratio */
#define PHILOX_WEYL1 UINT32_C(0xBB67AE85) /* sqrt(3) - 1 */

/* Code that is compiled for several instruction sets has to be inlined there to be compiled for them. */
#ifdef __GNUC__
#define MET_INLINE static inline __attribute__((always_inline))
#else
#define MET_INLINE static inline
#endif

/*
 * Counters first .. first + n - 1 of a stream.
 *   n  a constant, where it is to become vector instructions
 *   x  x[w] (n,) receives word w of every counter
 */
MET_INLINE void met_philox_lanes(met_stream s, uint64_t first, unsigned n, uint32_t *const x[4]) {
    uint32_t *restrict x0 = x[0], *restrict x1 = x[1], *restrict x2 = x[2], *restrict x3 = x[3];
    uint32_t key0 = (uint32_t)s.seed, key1 = (uint32_t)(s.seed >> 32);
    for (unsigned l = 0; l < n; l++) {
        x0[l] = (uint32_t)(first + l);
        x1[l] = (uint32_t)((first + l) >> 32);
        x2[l] = (uint32_t)s.stream;
        x3[l] = (uint32_t)(s.stream >> 32);
    }
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        for (unsigned l = 0; l < n; l++) {
            const uint64_t product0 = PHILOX_MULTIPLIER0 * (uint64_t)x0[l];
            const uint64_t product1 = PHILOX_MULTIPLIER1 * (uint64_t)x2[l];
            x0[l] = (uint32_t)(product1 >> 32) ^ x1[l] ^ key0;
            x2[l] = (uint32_t)(product0 >> 32) ^ x3[l] ^ key1;
            x1[l] = (uint32_t)product1;
            x3[l] = (uint32_t)product0;
        }
        key0 += PHILOX_WEYL0;
        key1 += PHILOX_WEYL1;
    }
}

/* 53 of 64 random bits as a multiple of 2^-53 in [0, 1). */
MET_INLINE double met_unit(uint32_t high, uint32_t low) {
    /* by way of signed integers, for which there are vector instructions */
    return ((double)(int32_t)(high >> 5) * 0x1p26 + (double)(int32_t)(low >> 6)) * 0x1p-53;
}

#endif
