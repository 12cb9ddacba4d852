/*
 * surrogate.h - a linear model of what the model says of random coalitions, how well it fits, and how certain it is.
 */
#ifndef MET_SURROGATE_H
#define MET_SURROGATE_H

#include "linear_fit.h"
#include "rng.h"

/* Rows: coalitions as they were drawn, with what the model said and the weight of each. */
typedef struct met_surrogate_rows {
    size_t rows;
    size_t features;
    size_t outputs;
    const uint64_t *bits; /* (rows, (features + 63) / 64) */
    const double *value;  /* (rows, outputs) */
    const double *weight; /* (rows,) */
} met_surrogate_rows;

/* Memory of met_surrogate_new(). */
typedef struct met_surrogate {
    double *coefficients; /* (outputs, features) */
    double *intercepts;   /* (outputs,) */
    double *scores;       /* (outputs, 2): R2 of the rows as they are, and R2 under their weights */
    double *errors;       /* (outputs, features): standard errors of the coefficients; NULL without resamples */
    double *interval;     /* (outputs, 2): R2 that 2.5 % and 97.5 % of the resamples stay below; NULL without them */
} met_surrogate;

/* What runs between long computations; another status than MET_OK ends them. */
typedef struct met_pause {
    int (*call)(void *ctx);
    void *ctx;
} met_pause;

int met_surrogate_new(size_t features, size_t outputs, bool resamples, met_surrogate *out);
void met_surrogate_free(met_surrogate *s);

/*
 * Fit the rows.
 *   resamples  times that as many rows are drawn anew, with replacement, and fitted (Efron 1979); 0: none
 *   stream     random numbers of the resamples: that of the first one, the others follow it
 *   pause      called between fits, which may take long. NULL: nothing is
 */
int met_surrogate_fit(const met_surrogate_rows *rows, const met_fit_options *options, size_t resamples,
                      met_stream stream, const met_pause *pause, met_surrogate *out);

/* The largest standard error as a part of the largest |coefficient| of its output; the largest of all outputs. */
double met_surrogate_precision(const met_surrogate *s, size_t features, size_t outputs);

#endif
