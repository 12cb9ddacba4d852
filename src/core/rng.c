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

#define ROUNDS 10
#define MULTIPLIER0 UINT64_C(0xD2511F53)
#define MULTIPLIER1 UINT64_C(0xCD9E8D57)
#define WEYL0 UINT32_C(0x9E3779B9) /* golden ratio */
#define WEYL1 UINT32_C(0xBB67AE85) /* sqrt(3) - 1 */

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
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t product0 = MULTIPLIER0 * x0;
        const uint64_t product1 = MULTIPLIER1 * x2;
        x0 = (uint32_t)(product1 >> 32) ^ x1 ^ key0;
        x2 = (uint32_t)(product0 >> 32) ^ x3 ^ key1;
        x1 = (uint32_t)product1;
        x3 = (uint32_t)product0;
        key0 += WEYL0;
        key1 += WEYL1;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* 53 of 64 random bits as a multiple of 2^-53 in [0, 1). */
static inline double unit(uint32_t high, uint32_t low) {
    /* by way of signed integers, for which there are vector instructions */
    return ((double)(int32_t)(high >> 5) * 0x1p26 + (double)(int32_t)(low >> 6)) * 0x1p-53;
}

/* The two uniform doubles of a counter: values 2 pair and 2 pair + 1 of the stream. */
static void uniform_pair(met_stream s, uint64_t pair, double out[2]) {
    uint32_t words[4];
    met_philox(s, pair, words);
    out[0] = unit(words[0], words[1]);
    out[1] = unit(words[2], words[3]);
}

/* p[0] + p[1] x + ... + p[7] x^7. */
static inline double polynomial(const double p[8], double x) {
    return ((((((p[7] * x + p[6]) * x + p[5]) * x + p[4]) * x + p[3]) * x + p[2]) * x + p[1]) * x + p[0];
}

/*
 * The quantile of the standard normal distribution at 1/2 + q, to about 1e-16: M. J. Wichura, "Algorithm AS 241: the
 * percentage points of the normal distribution", Applied Statistics 37, 1988. One uniform makes one normal, and six of
 * seven, those with |q| <= CENTRAL, take a ratio of polynomials alone.
 */
#define CENTRAL 0.425

static inline double central_quantile(double q) {
    static const double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                                1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double b[8] = {1.0,
                                4.2313330701600911252e+1,
                                6.8718700749205790830e+2,
                                5.3941960214247511077e+3,
                                2.1213794301586595867e+4,
                                3.9307895800092710610e+4,
                                2.8729085735721942674e+4,
                                5.2264952788528545610e+3};
    const double r = 0.180625 - q * q;
    return q * polynomial(a, r) / polynomial(b, r);
}

static double tail_quantile(double q) {
    static const double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double d[8] = {1.0,
                                2.05319162663775882187e0,
                                1.67638483018380384940e0,
                                6.89767334985100004550e-1,
                                1.48103976427480074590e-1,
                                1.51986665636164571966e-2,
                                5.47593808499534494600e-4,
                                1.05075007164441684324e-9};
    static const double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double f[8] = {1.0,
                                5.99832206555887937690e-1,
                                1.36929880922735805310e-1,
                                1.48753612908506148525e-2,
                                7.86869131145613259100e-4,
                                1.84631831751005468180e-5,
                                1.42151175831644588870e-7,
                                2.04426310338993978564e-15};
    double r = sqrt(-log(0.5 - fabs(q)));
    double z;
    if (r <= 5.0) {
        r -= 1.6;
        z = polynomial(c, r) / polynomial(d, r);
    } else {
        r -= 5.0;
        z = polynomial(e, r) / polynomial(f, r);
    }
    return q < 0.0 ? -z : z;
}

/* Multiples of 2^-53 in [0, 1), moved by half a step off both ends and to the middle. */
static inline double centred(uint32_t high, uint32_t low) {
    return unit(high, low) - 0.5 + 0x1p-54;
}

static inline double normal_quantile(double q) {
    return fabs(q) <= CENTRAL ? central_quantile(q) : tail_quantile(q);
}

/* The two standard normals of a counter. */
static void normal_pair(met_stream s, uint64_t pair, double out[2]) {
    uint32_t words[4];
    met_philox(s, pair, words);
    out[0] = normal_quantile(centred(words[0], words[1]));
    out[1] = normal_quantile(centred(words[2], words[3]));
}

/* Compiled for several instruction sets, of which the loader takes the best; the values are the same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define LANES 16

/* The normals of LANES counters, in step, so that the compiler can use vector instructions. */
CLONES static void normal_lanes(met_stream s, uint64_t pair, double *restrict out) {
    uint32_t x[4][LANES];
    double q[2 * LANES];
    uint32_t key0 = (uint32_t)s.seed, key1 = (uint32_t)(s.seed >> 32);
    for (unsigned l = 0; l < LANES; l++) {
        x[0][l] = (uint32_t)(pair + l);
        x[1][l] = (uint32_t)((pair + l) >> 32);
        x[2][l] = (uint32_t)s.stream;
        x[3][l] = (uint32_t)(s.stream >> 32);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned l = 0; l < LANES; l++) {
            const uint64_t product0 = MULTIPLIER0 * (uint64_t)x[0][l];
            const uint64_t product1 = MULTIPLIER1 * (uint64_t)x[2][l];
            x[0][l] = (uint32_t)(product1 >> 32) ^ x[1][l] ^ key0;
            x[2][l] = (uint32_t)(product0 >> 32) ^ x[3][l] ^ key1;
            x[1][l] = (uint32_t)product1;
            x[3][l] = (uint32_t)product0;
        }
        key0 += WEYL0;
        key1 += WEYL1;
    }
    for (unsigned l = 0; l < LANES; l++) {
        q[2 * l] = centred(x[0][l], x[1][l]);
        q[2 * l + 1] = centred(x[2][l], x[3][l]);
    }
    for (unsigned i = 0; i < 2 * LANES; i++) {
        out[i] = central_quantile(q[i]);
    }
    for (unsigned i = 0; i < 2 * LANES; i++) {
        if (fabs(q[i]) > CENTRAL) {
            out[i] = tail_quantile(q[i]);
        }
    }
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
    size_t i = index % 2 < n ? index % 2 : n; /* up to the beginning of a pair */
    fill(s, index, i, out, normal_pair);
    for (; n - i >= (size_t)2 * LANES; i += (size_t)2 * LANES) {
        normal_lanes(s, (index + i) / 2, out + i);
    }
    fill(s, index + i, n - i, out + i, normal_pair);
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
