/*
 * surrogate.c - linear surrogates: M. T. Ribeiro, S. Singh and C. Guestrin, "Why should I trust you?", KDD 2016
 * (arXiv:1602.04938). Standard errors by the bootstrap: B. Efron, Annals of Statistics 7(1), 1979.
 */
#include "surrogate.h"

#include "buffer.h"
#include "platform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOWER 0.025
#define UPPER 0.975

int met_surrogate_new(size_t features, size_t outputs, bool resamples, met_surrogate *out) {
    *out = (met_surrogate){0};
    if (outputs > 0 && features > SIZE_MAX / outputs) {
        return met_fail(MET_ENOMEM, "%zu coefficients of %zu outputs cannot be counted", features, outputs);
    }
    out->coefficients = met_allocate(outputs * features, sizeof *out->coefficients);
    out->intercepts = met_allocate(outputs, sizeof *out->intercepts);
    out->scores = met_allocate(2 * outputs, sizeof *out->scores);
    out->errors = resamples ? met_allocate(outputs * features, sizeof *out->errors) : NULL;
    out->interval = resamples ? met_allocate(2 * outputs, sizeof *out->interval) : NULL;
    if (out->coefficients == NULL || out->intercepts == NULL || out->scores == NULL ||
        (resamples && (out->errors == NULL || out->interval == NULL))) {
        return met_fail(MET_ENOMEM, "%zu coefficients of %zu outputs do not fit into memory", features, outputs);
    }
    return MET_OK;
}

void met_surrogate_free(met_surrogate *s) {
    met_deallocate(s->coefficients);
    met_deallocate(s->intercepts);
    met_deallocate(s->scores);
    met_deallocate(s->errors);
    met_deallocate(s->interval);
    *s = (met_surrogate){0};
}

/* Memory of a fit. */
typedef struct workspace {
    double *x;            /* (rows, features) */
    double *predicted;    /* (rows,) */
    double *weight;       /* (rows,) of a resample, and so are the next ones */
    double *count;        /* (rows,) */
    double *uniform;      /* (rows,) */
    double *coefficients; /* (outputs, features) */
    double *intercepts;   /* (outputs,) */
    double *mean;         /* (outputs, features) */
    double *scores;       /* (outputs, resamples) */
} workspace;

static void free_workspace(workspace *w) {
    met_deallocate(w->x);
    met_deallocate(w->predicted);
    met_deallocate(w->weight);
    met_deallocate(w->count);
    met_deallocate(w->uniform);
    met_deallocate(w->coefficients);
    met_deallocate(w->intercepts);
    met_deallocate(w->mean);
    met_deallocate(w->scores);
}

static int new_workspace(const met_surrogate_rows *r, size_t resamples, workspace *w) {
    const size_t words = (r->features + 63) / 64;
    *w = (workspace){0};
    w->x = r->features > SIZE_MAX / r->rows ? NULL : met_allocate(r->rows * r->features, sizeof *w->x);
    w->predicted = met_allocate(r->rows, sizeof *w->predicted);
    bool got = w->x != NULL && w->predicted != NULL;
    if (resamples > 0 && got) {
        w->weight = met_allocate(r->rows, sizeof *w->weight);
        w->count = met_allocate(r->rows, sizeof *w->count);
        w->uniform = met_allocate(r->rows, sizeof *w->uniform);
        w->coefficients = met_allocate(r->outputs * r->features, sizeof *w->coefficients);
        w->intercepts = met_allocate(r->outputs, sizeof *w->intercepts);
        w->mean = met_allocate(r->outputs * r->features, sizeof *w->mean);
        w->scores = resamples > SIZE_MAX / r->outputs ? NULL : met_allocate(resamples * r->outputs, sizeof *w->scores);
        got = w->weight && w->count && w->uniform && w->coefficients && w->intercepts && w->mean && w->scores;
    }
    if (!got) {
        return met_fail(MET_ENOMEM, "%zu samples of %zu features do not fit into memory: take fewer of them", r->rows,
                        r->features);
    }
    for (size_t i = 0; i < r->rows; i++) {
        for (size_t j = 0; j < r->features; j++) {
            w->x[i * r->features + j] = (double)(r->bits[i * words + j / 64] >> j % 64 & 1);
        }
    }
    return MET_OK;
}

/* R2 of output t under weights; NULL: of the rows as they are. */
static double score(const met_surrogate_rows *r, const double *coefficients, double intercept, const double *weight,
                    size_t t, const workspace *w) {
    for (size_t i = 0; i < r->rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < r->features; j++) {
            sum += w->x[i * r->features + j] * coefficients[j];
        }
        w->predicted[i] = intercept + sum;
    }
    return met_r2(r->rows, r->value + t, r->outputs, w->predicted, weight);
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return isnan(x) ? (isnan(y) ? 0 : 1) : isnan(y) ? -1 : (x > y) - (x < y); /* NaN last */
}

/* The value that a part of the sorted ones stays below, between two of them linearly. */
static double quantile(const double *sorted, size_t n, double part) {
    const double place = part * (double)(n - 1);
    const size_t below = (size_t)place;
    const double rest = place - (double)below;
    return below + 1 < n ? sorted[below] + rest * (sorted[below + 1] - sorted[below]) : sorted[below];
}

/* Rows drawn anew, as many as there are: how often each, and its weight with that. */
static void resample(const met_surrogate_rows *r, met_stream stream, const workspace *w) {
    memset(w->count, 0, r->rows * sizeof *w->count);
    met_uniform(stream, 0, r->rows, w->uniform);
    for (size_t i = 0; i < r->rows; i++) {
        w->count[(size_t)(w->uniform[i] * (double)r->rows)] += 1.0;
    }
    for (size_t i = 0; i < r->rows; i++) {
        w->weight[i] = w->count[i] * r->weight[i];
    }
}

/* Whether any row of a resample weighs something. */
static bool weighs(const met_surrogate_rows *r, const workspace *w) {
    for (size_t i = 0; i < r->rows; i++) {
        if (w->weight[i] > 0) {
            return true;
        }
    }
    return false;
}

/* Standard errors as the deviation of the resamples' coefficients (Welford), and the interval of their scores. */
static int bootstrap(const met_surrogate_rows *r, const met_fit_options *options, size_t resamples, met_stream stream,
                     const met_pause *pause, const workspace *w, met_surrogate *out) {
    const size_t size = r->outputs * r->features;
    const met_fit_problem problem = {w->x, r->value, w->weight, r->rows, r->features, r->outputs};
    size_t done = 0;
    memset(out->errors, 0, size * sizeof *out->errors);
    for (size_t b = 0; b < resamples; b++, stream.stream++) {
        met_fit_result fit = {.coefficients = w->coefficients, .intercepts = w->intercepts};
        resample(r, stream, w);
        if (!weighs(r, w)) {
            continue;
        }
        int status = met_linear_fit(&problem, options, &fit);
        status = status == MET_OK && pause != NULL ? pause->call(pause->ctx) : status;
        if (status != MET_OK) {
            return status;
        }
        done++;
        for (size_t i = 0; i < size; i++) {
            const double delta = w->coefficients[i] - w->mean[i];
            w->mean[i] += delta / (double)done;
            out->errors[i] += delta * (w->coefficients[i] - w->mean[i]);
        }
        for (size_t t = 0; t < r->outputs; t++) {
            w->scores[t * resamples + done - 1] =
                score(r, w->coefficients + t * r->features, w->intercepts[t], w->count, t, w);
        }
    }
    for (size_t i = 0; i < size; i++) {
        out->errors[i] = done > 1 && r->rows > 1 ? sqrt(out->errors[i] / (double)(done - 1)) : (double)NAN;
    }
    for (size_t t = 0; t < r->outputs; t++) {
        double *scores = w->scores + t * resamples;
        size_t known = 0;
        qsort(scores, done, sizeof *scores, compare);
        while (known < done && !isnan(scores[known])) {
            known++;
        }
        out->interval[2 * t] = known > 0 ? quantile(scores, known, LOWER) : (double)NAN;
        out->interval[2 * t + 1] = known > 0 ? quantile(scores, known, UPPER) : (double)NAN;
    }
    return MET_OK;
}

int met_surrogate_fit(const met_surrogate_rows *r, const met_fit_options *options, size_t resamples, met_stream stream,
                      const met_pause *pause, met_surrogate *out) {
    workspace w;
    if (r->rows == 0 || r->outputs == 0) {
        return met_fail(MET_EVALUE, "there are no samples to fit");
    }
    int status = new_workspace(r, resamples, &w);
    if (status == MET_OK) {
        const met_fit_problem problem = {w.x, r->value, r->weight, r->rows, r->features, r->outputs};
        met_fit_result fit = {.coefficients = out->coefficients, .intercepts = out->intercepts};
        status = met_linear_fit(&problem, options, &fit);
    }
    for (size_t t = 0; t < r->outputs && status == MET_OK; t++) {
        const double *coefficients = out->coefficients + t * r->features;
        out->scores[2 * t] = score(r, coefficients, out->intercepts[t], NULL, t, &w);
        out->scores[2 * t + 1] = score(r, coefficients, out->intercepts[t], r->weight, t, &w);
    }
    if (status == MET_OK && resamples > 0) {
        status = bootstrap(r, options, resamples, stream, pause, &w, out);
    }
    free_workspace(&w);
    return status;
}

double met_surrogate_precision(const met_surrogate *s, size_t features, size_t outputs) {
    double worst = 0;
    for (size_t t = 0; t < outputs; t++) {
        double error = 0, largest = 0;
        for (size_t j = t * features; j < (t + 1) * features; j++) {
            error = isnan(s->errors[j]) ? INFINITY : fmax(error, s->errors[j]);
            largest = fmax(largest, fabs(s->coefficients[j]));
        }
        worst = fmax(worst, error > 0 ? error / largest : 0.0);
    }
    return worst;
}
