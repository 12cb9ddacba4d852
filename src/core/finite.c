/*
 * finite.c - values that are NaN or infinite: one policy for images, outputs, gradients and results.
 *
 * An image or a baseline with such a value is refused before anything is evaluated: what a model makes of it is
 * mostly noise. What the model or a product gives is counted, the first place is written down, and the result keeps it,
 * unless the caller wants an error (met_finite).
 */
#include "finite.h"

#include "run.h"

#include <stdatomic.h>
#include <stdio.h>

/* Values that one thread should have at least, and that are looked at between two questions. */
#define GRAIN ((size_t)1 << 16)
#define BLOCK ((size_t)2048)

typedef struct search {
    met_dtype dtype;
    const void *values;
    atomic_size_t count;
    atomic_size_t first;
} search;

#define KERNELS(T) \
    static void search_##T(search *s, size_t from, size_t to) { \
        const T *values = s->values; \
        for (size_t n; from < to; from += n) { \
            n = to - from < BLOCK ? to - from : BLOCK; \
            if (met_all_finite_##T(values + from, n)) { \
                continue; \
            } \
            for (size_t i = from; i < from + n; i++) { \
                if (!met_all_finite_##T(values + i, 1)) { \
                    atomic_fetch_add(&s->count, 1); \
                    size_t first = atomic_load(&s->first); \
                    while (i < first && !atomic_compare_exchange_weak(&s->first, &first, i)) {} \
                } \
            } \
        } \
    }

KERNELS(float)
KERNELS(double)

static void body(void *arg, size_t from, size_t to) {
    search *s = arg;
    if (s->dtype == MET_FLOAT64) {
        search_double(s, from, to);
    } else {
        search_float(s, from, to);
    }
}

size_t met_count_nonfinite(met_dtype dtype, const void *values, size_t n, const met_parallel *pool, size_t *first) {
    search s = {.dtype = dtype, .values = values};
    atomic_init(&s.count, 0);
    atomic_init(&s.first, SIZE_MAX);
    met_parallel_for(pool, n, GRAIN, body, &s);
    if (first != NULL) {
        *first = atomic_load(&s.first);
    }
    return atomic_load(&s.count);
}

/* Write down where the first value was, or fail with it. */
static int note(met_report *report, met_finite policy, const char *where) {
    if (report->nonfinite[0] == '\0') {
        snprintf(report->nonfinite, sizeof report->nonfinite, "%s", where);
    }
    return policy == MET_FINITE_RAISE ? met_fail(MET_EFINITE, "%s", where) : MET_OK;
}

int met_note_outputs(engine *e, size_t first, size_t n, const met_outputs *y) {
    char where[sizeof e->report->nonfinite];
    size_t at;
    const size_t found = met_count_nonfinite(MET_FLOAT64, y->value, n * y->width, NULL, &at);
    if (found == 0) {
        return MET_OK;
    }
    const size_t j = first + at / y->width;
    const double value = y->value[at];
    snprintf(where, sizeof where, "the model returned %s for sample %zu of image %zu",
             value != value ? "NaN" : "infinity", e->k_of[j], e->origin_of[j]);
    e->report->nonfinite_outputs += found;
    return note(e->report, e->options->finite, where);
}

int met_note_gradient(engine *e, size_t image, size_t k, const void *gradient) {
    char where[sizeof e->report->nonfinite];
    const size_t found = met_count_nonfinite(e->job->dtype, gradient, e->size, e->options->pool, NULL);
    if (found == 0) {
        return MET_OK;
    }
    snprintf(where, sizeof where, "the gradient at sample %zu of image %zu holds NaN or infinity (%zu values)", k,
             e->job->inputs[image].origin, found);
    e->report->nonfinite_gradients++;
    return note(e->report, e->options->finite, where);
}

int met_note_results(met_report *report, const met_options *options, met_dtype dtype, const void *values, size_t n,
                     size_t image) {
    char where[sizeof report->nonfinite];
    const size_t found = met_count_nonfinite(dtype, values, n, options->pool, NULL);
    if (found == 0) {
        return MET_OK;
    }
    snprintf(where, sizeof where, "the attributions of image %zu hold NaN or infinity (%zu values)", image, found);
    report->nonfinite_results += found;
    return note(report, options->finite, where);
}
