/* A made-up provider that uses every part of the vtables and misbehaves on demand.
 *
 * The model: a stem of TOY_FEATURES linear features z_j = sum_i a_ji x_i, and outputs
 * f_t = sum_j (t + 1 + j) z_j^2 / 2, so that d f_t / d x_i = sum_j (t + 1 + j) z_j a_ji.
 * Its shortcut keeps z of image and baseline and updates z from the part that a sample changes. */
#ifndef METEORS_C_TESTS_TOY_MODEL_H
#define METEORS_C_TESTS_TOY_MODEL_H

#include "engine.h"

#define TOY_FEATURES 2
#define TOY_OUTPUTS 3
#define TOY_SHAPE {3, 4, 5}
#define TOY_SIZE 60

typedef struct toy {
    met_model model;
    double a[TOY_FEATURES][TOY_SIZE];
    /* what happened */
    size_t calls;
    size_t largest;
    size_t samples;
    size_t prepared; /* minus released */
    size_t prepares;
    size_t shortcut_calls;
    size_t lent;        /* gradients not yet given back */
    met_batch kept[64]; /* batches kept by keep_batches, with what they held */
    double kept_first[64];
    size_t kept_count;
    /* misbehaviour */
    size_t fail_at;       /* call that returns MET_ECALLBACK, counted from 1 */
    bool scribble;        /* overwrite the input, and say so */
    bool keep_batches;    /* retain every batch */
    bool decline_prepare; /* the shortcut declines at once */
    bool decline_later;   /* ... or at its second call */
    bool no_gradient;     /* gradient() forgets to lend one */
    bool no_output;       /* forward() forgets to answer */
} toy;

void toy_init(toy *t, bool shortcut);
/* Release what keep_batches kept. */
void toy_release(toy *t);
/* z and outputs of one float64 image. */
void toy_features(const toy *t, const double *x, double z[TOY_FEATURES]);
double toy_output(const double z[TOY_FEATURES], size_t target);

/* An input over `data` (TOY_SIZE values), all used, baseline 0, target 0. */
met_input toy_input(const void *data, met_dtype dtype);
/* Values that look random and stay put: value i of series s, in [-1, 1). */
double toy_value(size_t s, size_t i);

/* Let toy_allocations_left allocations of the core succeed; met_set_allocator(NULL, NULL) ends it. */
void toy_ration_memory(void);
extern long toy_allocations_left;
extern long toy_allocations_alive;

#endif
