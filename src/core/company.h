/* company.h - asking a model for samples in the company of others than those of their batch (batches.c, company.c). */
#ifndef MET_COMPANY_H
#define MET_COMPANY_H

#include "run.h"

/* One sample's outputs and gradient. */
typedef struct evaluated {
    const double *value;
    const void *gradient; /* NULL: none was asked for */
} evaluated;

/* What a call of the model gave for samples that were made for it. Starts as zeros. */
typedef struct asked {
    double *values; /* (n, width) outputs */
    size_t capacity;
    size_t width;
    met_batch dx; /* gradients, where they were asked for */
} asked;

/*
 * Ask the model for n samples, in memory of their own.
 *   first     (size,) values of the first sample
 *   others    ... and of each of the others
 *   j         the place of the chunk whose target and image they have
 *   gradient  whether gradients are wanted, in a job that has them
 *   out       the caller frees it with met_asked_free(), on failure too
 */
int met_ask(engine *e, const void *first, const void *others, size_t n, size_t j, bool gradient, asked *out);
evaluated met_asked(const engine *e, const asked *p, size_t i);
void met_asked_free(asked *p);

/* How far two evaluations of a sample are apart, in units of what rounding may do (batches.c). */
double met_distance(const engine *e, const evaluated *a, const evaluated *b, size_t width);

/*
 * Whether a pair of copies of a sample gives what it gave before, time after time: a model that draws few numbers draws the
 * same ones often.
 *   before   what it gave, each at its place
 *   allowed  how far that may be from what it gives now, as met_distance()
 */
int met_repeats(engine *e, const void *sample, size_t j, const asked *before, double allowed, bool *same);

/*
 * Whether the image of place j and the image with half its values give one another something else than their copies do.
 *   told  whether the model could tell: not where the image is 0, nor where it fails or draws random numbers
 *   why   (n bytes) what it gave, where they influence each other: MET_ESINGLE
 */
int met_try_company(engine *e, size_t j, bool *told, char *why, size_t n);

#endif
