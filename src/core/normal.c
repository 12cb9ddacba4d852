/*
 * normal.c - standard normal numbers as a function of their position, by inversion: one uniform makes one normal.
 *
 * The quantile is that of M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied
 * Statistics 37, 1988: a ratio of polynomials in the middle, |q| <= CENTRAL around 1/2, and others in the tails.
 *
 *   double  PPND16, to about 1e-16, of 53 random bits; counter i makes values 2 i and 2 i + 1
 *   float   PPND7, to about 1e-7, of 32 random bits: half the counters, and one tail formula reaches all of them
 *
 * Numbers are made in blocks, in vector instructions; a block does not depend on how much of it is wanted.
 */
#include "philox.h"

#include <math.h>
#include <string.h>

/* Compiled for several instruction sets, of which the loader takes the best; the values are the same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define LANES 32
/* Counters and values of a block. */
#define WIDE_BLOCK ((size_t)2 * LANES)
#define NARROW_BLOCK ((size_t)4 * LANES)

#define CENTRAL 0.425

/* ---- double */

/* p[0] + p[1] x + ... + p[7] x^7. */
MET_INLINE double polynomial(const double p[8], double x) {
    return ((((((p[7] * x + p[6]) * x + p[5]) * x + p[4]) * x + p[3]) * x + p[2]) * x + p[1]) * x + p[0];
}

MET_INLINE double central_quantile(double q) {
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

/* The normals of block `block`: WIDE_BLOCK of them. */
CLONES static void wide_block(met_stream s, uint64_t block, double *restrict out) {
    uint32_t x[4][LANES];
    uint32_t *const words[4] = {x[0], x[1], x[2], x[3]};
    double q[WIDE_BLOCK];
    met_philox_lanes(s, block * LANES, LANES, words);
    for (unsigned l = 0; l < LANES; l++) { /* half a step off both ends, and to the middle */
        q[2 * l] = met_unit(x[0][l], x[1][l]) - 0.5 + 0x1p-54;
        q[2 * l + 1] = met_unit(x[2][l], x[3][l]) - 0.5 + 0x1p-54;
    }
    for (unsigned i = 0; i < WIDE_BLOCK; i++) {
        out[i] = central_quantile(q[i]);
    }
    for (unsigned i = 0; i < WIDE_BLOCK; i++) {
        if (fabs(q[i]) > CENTRAL) {
            out[i] = tail_quantile(q[i]);
        }
    }
}

/* ---- float */

/* log(p) for a block of positive normal floats: cephes' logf, the argument brought to [sqrt(1/2), sqrt(2)). */
MET_INLINE void log_lanes(const float *restrict p, float *restrict out) {
    const uint32_t root = 0x3f3504f3; /* bits of sqrt(1/2) */
    uint32_t bits[NARROW_BLOCK];
    float mantissa[NARROW_BLOCK], exponent[NARROW_BLOCK];
    memcpy(bits, p, sizeof bits);
    for (unsigned i = 0; i < NARROW_BLOCK; i++) {
        const uint32_t moved = bits[i] + (0x3f800000 - root);
        exponent[i] = (float)((int32_t)(moved >> 23) - 127);
        bits[i] = (moved & 0x007fffff) + root;
    }
    memcpy(mantissa, bits, sizeof bits);
    for (unsigned i = 0; i < NARROW_BLOCK; i++) {
        const float f = mantissa[i] - 1.0f;
        float y = 7.0376836292e-2f;
        y = y * f - 1.1514610310e-1f;
        y = y * f + 1.1676998740e-1f;
        y = y * f - 1.2420140846e-1f;
        y = y * f + 1.4249322787e-1f;
        y = y * f - 1.6668057665e-1f;
        y = y * f + 2.0000714765e-1f;
        y = y * f - 2.4999993993e-1f;
        y = y * f + 3.3333331174e-1f;
        y = y * f * f * f + exponent[i] * -2.12194440e-4f - 0.5f * f * f;
        out[i] = f + y + exponent[i] * 0.693359375f;
    }
}

/* The normals of block `block`: NARROW_BLOCK of them, word w of all its counters before word w + 1. */
CLONES static void narrow_block(met_stream s, uint64_t block, float *restrict out) {
    uint32_t x[NARROW_BLOCK];
    uint32_t *const words[4] = {x, x + LANES, x + 2 * LANES, x + 3 * LANES};
    float middle[NARROW_BLOCK], tail[NARROW_BLOCK], end[NARROW_BLOCK], r[NARROW_BLOCK];
    met_philox_lanes(s, block * LANES, LANES, words);
    for (unsigned i = 0; i < NARROW_BLOCK; i++) { /* steps from the nearer end and from the middle, both exact */
        const uint32_t upper = (uint32_t)0 - (x[i] >> 31);
        const int32_t steps = (int32_t)(x[i] ^ upper);
        end[i] = ((float)steps + 0.5f) * 0x1p-32f;
        middle[i] = ((float)(INT32_MAX - steps) + 0.5f) * 0x1p-32f;
    }
    log_lanes(end, r);
    for (unsigned i = 0; i < NARROW_BLOCK; i++) {
        const float t = __builtin_sqrtf(-r[i]) - 1.6f; /* at most 3.2: the formula holds up to 3.4 */
        tail[i] = (((1.7023821103e-1f * t + 1.3067284816f) * t + 2.7568153900f) * t + 1.4234372777f) /
                  ((1.2021132975e-1f * t + 7.3700164250e-1f) * t + 1.0f);
    }
    for (unsigned i = 0; i < NARROW_BLOCK; i++) {
        const float q = middle[i];
        const float t = 0.180625f - q * q;
        const float centre = q *
                             (((5.9109374720e+1f * t + 1.5929113202e+2f) * t + 5.0434271938e+1f) * t + 3.3871327179f) /
                             (((6.7187563600e+1f * t + 7.8757757664e+1f) * t + 1.7895169469e+1f) * t + 1.0f);
        const float z = q <= (float)CENTRAL ? centre : tail[i];
        out[i] = (int32_t)x[i] < 0 ? z : -z;
    }
}

/* ---- any part of a stream */

/* Values index .. index + n - 1 from blocks; those that are wanted in part are made beside. */
#define FILL(T, make, BLOCK) \
    T beside[BLOCK]; \
    while (n > 0) { \
        const size_t from = (size_t)(index % BLOCK); \
        const size_t m = n < BLOCK - from ? n : BLOCK - from; \
        if (m == BLOCK) { \
            make(s, index / BLOCK, out); \
        } else { \
            make(s, index / BLOCK, beside); \
            memcpy(out, beside + from, m * sizeof *out); \
        } \
        index += m; \
        out += m; \
        n -= m; \
    }

/*
 * Standard normal doubles; value i is the quantile at uniform value i of the stream, moved by half a step.
 *   s      the stream
 *   index  position of the first value
 *   out    (n,) values index .. index + n - 1
 */
void met_normal(met_stream s, uint64_t index, size_t n, double *out) {
    FILL(double, wide_block, WIDE_BLOCK)
}

/*
 * Standard normal floats, other numbers than met_normal() gives.
 *   s      the stream
 *   index  position of the first value
 *   out    (n,) values index .. index + n - 1
 */
void met_normal_float(met_stream s, uint64_t index, size_t n, float *out) {
    FILL(float, narrow_block, NARROW_BLOCK)
}
