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
 * met_uniform() and met_normal() read the same counters, so one stream serves one purpose.
 */
#include "met.h"

#include <math.h>
#include <string.h>

#define TWO_PI 6.283185307179586476925286766559

/*
 * Philox 4x32-10.
 *   s      key and upper half of the counter
 *   index  lower half of the counter
 *   out    (4,) independent uniform 32-bit words
 */
void met_philox(met_stream s, uint64_t index, uint32_t out[4]) {
    uint32_t x0 = (uint32_t)index, x1 = (uint32_t)(index >> 32);
    uint32_t x2 = (uint32_t)s.stream, x3 = (uint32_t)(s.stream >> 32);
    uint32_t key0 = (uint32_t)s.seed, key1 = (uint32_t)(s.seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = UINT64_C(0xD2511F53) * x0;
        const uint64_t product1 = UINT64_C(0xCD9E8D57) * x2;
        x0 = (uint32_t)(product1 >> 32) ^ x1 ^ key0;
        x2 = (uint32_t)(product0 >> 32) ^ x3 ^ key1;
        x1 = (uint32_t)product1;
        x3 = (uint32_t)product0;
        key0 += UINT32_C(0x9E3779B9); /* Weyl sequences: golden ratio, sqrt(3) - 1 */
        key1 += UINT32_C(0xBB67AE85);
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* 53 of 64 random bits as a multiple of 2^-53 in [0, 1). */
static double unit(uint32_t high, uint32_t low) {
    return ((double)(high >> 5) * 0x1p26 + (double)(low >> 6)) * 0x1p-53;
}

/* The two uniform doubles of a counter: values 2 pair and 2 pair + 1 of the stream. */
static void uniform_pair(met_stream s, uint64_t pair, double out[2]) {
    uint32_t words[4];
    met_philox(s, pair, words);
    out[0] = unit(words[0], words[1]);
    out[1] = unit(words[2], words[3]);
}

/*
 * The two standard normals of a counter: G. E. P. Box and M. E. Muller, "A note on the generation of random normal
 * deviates", Ann. Math. Statist. 29, 1958. 1 - u lies in (0, 1], so the logarithm is finite.
 */
static void normal_pair(met_stream s, uint64_t pair, double out[2]) {
    double u[2];
    uniform_pair(s, pair, u);
    const double radius = sqrt(-2.0 * log(1.0 - u[0]));
    const double angle = TWO_PI * u[1];
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

/* Values index .. index + n - 1 of a stream that is made in pairs; the ends may each need half a pair. */
static inline void fill(met_stream s, uint64_t index, size_t n, double *out,
                        void (*make)(met_stream s, uint64_t pair, double out[2])) {
    double pair[2];
    size_t i = 0;
    if (n > 0 && index % 2 == 1) {
        make(s, index / 2, pair);
        out[i++] = pair[1];
    }
    for (; n - i >= 2; i += 2) {
        make(s, (index + i) / 2, out + i);
    }
    if (i < n) {
        make(s, (index + i) / 2, pair);
        out[i] = pair[0];
    }
}

/*
 * Uniform doubles in [0, 1), multiples of 2^-53.
 *   s      the stream
 *   index  position of the first value
 *   out    (n,) values index .. index + n - 1
 */
void met_uniform(met_stream s, uint64_t index, size_t n, double *out) {
    fill(s, index, n, out, uniform_pair);
}

/*
 * Standard normal doubles; value i is one of the two that counter i / 2 gives.
 *   s      the stream
 *   index  position of the first value
 *   out    (n,) values index .. index + n - 1
 */
void met_normal(met_stream s, uint64_t index, size_t n, double *out) {
    fill(s, index, n, out, normal_pair);
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
        return met_fail(MET_EVALUE, "chosen is NULL: room for n=%zu flags is wanted", n);
    }
    if (k > n) {
        return met_fail(MET_EVALUE, "k=%zu is more than n=%zu: at most n can be chosen without replacement",
                        k, n);
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
