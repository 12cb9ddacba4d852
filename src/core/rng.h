/*
 * rng.h - counter-based random numbers.
 */
#ifndef MET_RNG_H
#define MET_RNG_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Counter-based Philox 4x32-10 (Salmon et al., SC 2011): a value depends on (seed, stream, index) alone, so a
 * sample is the same whatever the chunk size, the number of threads or the order of images.
 */
typedef struct met_stream {
    uint64_t seed;
    uint64_t stream;
} met_stream;

/* Four 32-bit words at counter `index`. */
void met_philox(met_stream s, uint64_t index, uint32_t out[4]);
/* Uniform doubles in [0, 1), values index .. index + n - 1 of the stream. */
void met_uniform(met_stream s, uint64_t index, size_t n, double *out);
/* Standard normal values index .. index + n - 1 of the stream, by inversion; the floats are other numbers (normal.c). */
void met_normal(met_stream s, uint64_t index, size_t n, double *out);
void met_normal_float(met_stream s, uint64_t index, size_t n, float *out);
/* Choose exactly k of n without replacement (Floyd 1987): chosen (n,) becomes 1 or 0. */
int met_choose(met_stream s, size_t n, size_t k, uint8_t *chosen);
/* A random order of 0 .. n - 1, every one equally likely (Fisher and Yates; Durstenfeld 1964). */
void met_permute(met_stream s, size_t n, size_t *order);

#ifdef __cplusplus
}
#endif

#endif
