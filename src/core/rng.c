/*
 * rng.c - random numbers as a function of their position.
 *
 * Philox 4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011. Ten rounds turn a 128-bit counter into 128 random bits under a 64-bit key. There is no state
 * to carry along: whoever needs value i of a stream computes it, on any thread and in any order.
 *
 *   key     = seed                 (low word, high word)
 *   counter = index, stream        (low and high word of each)
 *
 * Uniform and normal numbers (normal.c) read the same counters, so one stream serves one purpose.
 */
#include "philox.h"

#include <string.h>

/*
 * Philox 4x32-10.
 *   s      key and upper half of the counter
 *   index  lower half of the counter
 *   out    (4,) independent uniform 32-bit words
 */
void met_philox(met_stream s, uint64_t index, uint32_t out[4]) {
    uint32_t *const words[4] = {out, out + 1, out + 2, out + 3};
    met_philox_lanes(s, index, 1, words);
}

/*
 * Uniform doubles in [0, 1), multiples of 2^-53; counter i makes values 2 i and 2 i + 1.
 *   s      the stream
 *   index  position of the first value
 *   out    (n,) values index .. index + n - 1
 */
void met_uniform(met_stream s, uint64_t index, size_t n, double *out) {
    uint32_t words[4];
    for (size_t i = 0; i < n; i++) {
        const unsigned half = (unsigned)((index + i) % 2);
        if (i == 0 || half == 0) {
            met_philox(s, (index + i) / 2, words);
        }
        out[i] = met_unit(words[2 * half], words[2 * half + 1]);
    }
}

/* A uniform integer in [0, bound), bound > 0: words beyond the last whole multiple of bound are drawn again. */
static uint64_t below(met_stream s, uint64_t *index, uint64_t bound) {
    const uint64_t excess = (UINT64_MAX % bound + 1) % bound; /* 2^64 mod bound */
    for (;;) {
        uint32_t words[4];
        met_philox(s, (*index)++, words);
        const uint64_t word = (uint64_t)words[0] << 32 | words[1];
        if (word <= UINT64_MAX - excess) {
            return word % bound;
        }
    }
}

/*
 * Exactly k of n, every subset equally likely, in k draws: R. W. Floyd, in J. Bentley, "Programming pearls: a sample
 * of brilliance", CACM 30(9), 1987. For j = n - k .. n - 1 take a random t in [0, j], or j itself where t was taken.
 *   s       the stream, read from its beginning
 *   chosen  (n,) owned by the caller; 1 where chosen, else 0
 */
int met_choose(met_stream s, size_t n, size_t k, uint8_t *chosen) {
    uint64_t index = 0;
    if (chosen == NULL && n > 0) {
        return met_fail(MET_EVALUE, "chosen is NULL: memory for n=%zu flags is wanted", n);
    }
    if (k > n) {
        return met_fail(MET_EVALUE, "k=%zu is more than n=%zu: at most n can be chosen without replacement", k, n);
    }
    if (n > 0) {
        memset(chosen, 0, n);
    }
    for (size_t j = n - k; j < n; j++) {
        const size_t t = (size_t)below(s, &index, (uint64_t)j + 1);
        chosen[chosen[t] ? j : t] = 1;
    }
    return MET_OK;
}

/*
 * A random order: from the last place on, each takes one of those that are left.
 *   s      the stream, read from its beginning
 *   order  (n,) owned by the caller
 */
void met_permute(met_stream s, size_t n, size_t *order) {
    uint64_t index = 0;
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)below(s, &index, (uint64_t)i), last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}
