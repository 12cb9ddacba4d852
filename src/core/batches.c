/*
 * batches.c - whether samples of one batch leave each other alone.
 *
 * Batches are an economy of the engine: the user asked for the output of each sample by itself. A model that divides
 * by the maximum of its whole input, or normalises over the batch, gives other numbers in company. So the first time
 * that the model has seen more than one sample, one of them is asked alone as well: the one that others should influence
 * most. What these numbers can't show, the way shows in which the model computes them: where its provider does not see that
 * each sample goes its own way, an image is asked beside the same with half its values (company.c).
 */
#include "company.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What rounding may change between batches of other sizes, as a part of the value; more is looked into. */
#define OUTPUT_FLOAT 1e-5
#define OUTPUT_DOUBLE 1e-10
/* ... and of a gradient, as a part of its length: a rectifier near 0 may open or close. */
#define GRADIENT_FLOAT 1e-3
#define GRADIENT_DOUBLE 1e-8
/*
 * From so many samples on one is asked in a batch of two copies of itself first: a layer that splits a batch over threads
 * may take longer for one sample than for two. What others do to a sample its copy does not.
 */
#define PAIR_FROM 16
/* So much of an output, or of a gradient, is never rounding. */
#define OUTPUT_GROSS 0.05
#define GRADIENT_GROSS 0.3
/* Between a model's outputs and those of a shortcut. */
#define SHORTCUT_FLOAT 1e-3
#define SHORTCUT_DOUBLE 1e-8

/* A distance where only one of two values is finite: larger than any other, and a number to calculate with. */
#define OTHERWISE 1e100

static double value_at(met_dtype dtype, const void *values, size_t i) {
    return dtype == MET_FLOAT64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
}

/* max |a - b| over the outputs as a part of the largest of them. */
static double output_distance(const double *a, const double *b, size_t width) {
    double largest = 0, distance = 0;
    for (size_t i = 0; i < width; i++) {
        if (isfinite(a[i]) != isfinite(b[i])) {
            return OTHERWISE;
        }
        if (isfinite(a[i])) {
            distance = fmax(distance, fabs(a[i] - b[i]));
            largest = fmax(largest, fmax(fabs(a[i]), fabs(b[i])));
        }
    }
    return distance > 0 ? distance / largest : 0.0;
}

/* |a - b| as vectors, as a part of the longer one; what is not finite in both is left out. */
static double gradient_distance(met_dtype dtype, const void *a, const void *b, size_t size) {
    double length_a = 0, length_b = 0, distance = 0;
    for (size_t i = 0; i < size; i++) {
        const double x = value_at(dtype, a, i), y = value_at(dtype, b, i);
        if (isfinite(x) != isfinite(y)) {
            return OTHERWISE;
        }
        if (isfinite(x)) {
            distance += (x - y) * (x - y);
            length_a += x * x;
            length_b += y * y;
        }
    }
    return distance > 0 ? sqrt(distance / fmax(length_a, length_b)) : 0.0;
}

double met_distance(const engine *e, const evaluated *a, const evaluated *b, size_t width) {
    const bool wide = e->job->dtype == MET_FLOAT64;
    const double outputs = output_distance(a->value, b->value, width) / (wide ? OUTPUT_DOUBLE : OUTPUT_FLOAT);
    if (a->gradient == NULL || b->gradient == NULL) {
        return outputs;
    }
    const double gradient = gradient_distance(e->job->dtype, a->gradient, b->gradient, e->size);
    return fmax(outputs, gradient / (wide ? GRADIENT_DOUBLE : GRADIENT_FLOAT));
}

/* Whether two evaluations of a sample are farther apart than any rounding. */
static bool grossly_apart(const engine *e, const evaluated *a, const evaluated *b, size_t width) {
    return output_distance(a->value, b->value, width) > OUTPUT_GROSS ||
           (a->gradient != NULL && b->gradient != NULL &&
            gradient_distance(e->job->dtype, a->gradient, b->gradient, e->size) > GRADIENT_GROSS);
}

/* What is compared of a sample's values. */
typedef struct traits {
    double largest; /* |value| */
    double mean;
    bool constant;
} traits;

static traits traits_of(met_dtype dtype, const void *values, size_t n) {
    double low = (double)INFINITY, high = -(double)INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double v = value_at(dtype, values, i);
        low = v < low ? v : low;
        high = v > high ? v : high;
        sum += v;
    }
    return (traits){fmax(-low, high), sum / (double)n, !(low < high)};
}

/*
 * The sample that others should influence most: one whose largest |value| is not that of the batch, for models that
 * divide by it, and not constant, where that might not show; among such ones that whose mean is farthest from that of
 * all, for models that take off means: on a straight path from a baseline the sample in the middle is the mean of all. The
 * first sample comes last among equals, for models that take their scale from it.
 */
static int most_influenced(const engine *e, size_t n, size_t *out) {
    const uint8_t *samples = met_buffer_data(e->chunk);
    traits *each = met_allocate(n, sizeof *each);
    traits all = {0};
    int best = -1;
    double farthest = 0;
    if (each == NULL) {
        return met_fail(MET_ENOMEM, "the means of %zu samples do not fit into memory", n);
    }
    for (size_t j = 0; j < n; j++) {
        each[j] = traits_of(e->job->dtype, samples + j * e->bytes, e->size);
        all.largest = fmax(all.largest, each[j].largest);
        all.mean += each[j].mean / (double)n;
    }
    for (size_t j = 0; j < n; j++) {
        const int exceeded = each[j].largest < all.largest ? (each[j].constant ? 1 : 2) : 0;
        const int fit = 2 * exceeded + (j > 0);
        const double apart = fabs(each[j].mean - all.mean);
        if (fit > best || (fit == best && apart > farthest)) {
            best = fit;
            farthest = apart;
            *out = j;
        }
    }
    met_deallocate(each);
    return MET_OK;
}

bool met_wants_verification(const engine *e, size_t n) {
    return n > 1 && e->report->batching == MET_BATCHING_UNKNOWN;
}

bool met_watch(const engine *e, bool on) {
    return e->model->watch != NULL && e->model->watch(e->model->ctx, on);
}

void met_note_single(engine *e, const char *why) {
    e->report->batching = MET_BATCHING_SINGLE;
    snprintf(e->report->one_at_a_time, sizeof e->report->one_at_a_time, "%s", why);
}

int met_evaluate_alone(engine *e, size_t image, size_t k, double **value, size_t *width) {
    met_buffer *buffer = NULL;
    size_t capacity = 0;
    met_sample s;
    int status = met_reserve_slots(e, 1);
    if (status == MET_OK) {
        met_invalidate_slots(e);
        status = met_describe_sample(e, 0, image, k, e->scratch, &s);
    }
    status = status == MET_OK ? met_load_image(e, image) : status;
    status = status == MET_OK ? met_buffer_new(e->bytes, "a sample", &e->report->memory, &buffer) : status;
    if (status == MET_OK) {
        met_sample_render(&e->base, &s, e->options->pool, met_buffer_data(buffer));
        met_batch x = met_batch_view(e, buffer, 0, 1);
        output_request request = met_request_outputs(e, 0, 1, value, &capacity);
        const double start = met_seconds();
        status = e->model->forward(e->model->ctx, &x, &request.y);
        e->report->seconds_in_model += met_seconds() - start;
        e->report->evaluations_verifying++;
        *width = request.y.width;
    }
    met_buffer_release(buffer);
    return status == MET_OK && *value == NULL ? met_fail(MET_EMODEL, "the model answered without outputs") : status;
}

/* Whether the n samples of the chunk are all the same: a sample among its copies may be what it is alone. */
static bool are_alike(const engine *e, size_t n) {
    const uint8_t *samples = met_buffer_data(e->chunk);
    bool alike = true;
    for (size_t j = 1; j < n && alike; j++) {
        alike = memcmp(samples, samples + j * e->bytes, e->bytes) == 0;
    }
    return alike;
}

/*
 * Ask a sample alone, and how far that is from what a batch of n gave for it, in units of what rounding may do.
 *   sample    (size,) its values
 *   j         the place of the chunk where it is described
 *   in_batch  what the batch gave for it, `width` outputs
 *   alone     what it gave by itself; the caller frees it with met_asked_free(), on failure too
 */
static int ask_alone(engine *e, const void *sample, size_t j, size_t n, const evaluated *in_batch, size_t width,
                     asked *alone, double *apart) {
    int status = MET_OK;
    *apart = (double)INFINITY;
    for (size_t copies = n < PAIR_FROM ? 1 : 2; copies > 0 && *apart > 1.0 && status == MET_OK; copies--) {
        met_asked_free(alone);
        status = met_ask(e, sample, sample, copies, j, true, alone);
        if (status == MET_OK && alone->width != width) {
            status = met_fail(MET_EMODEL, "the model returned %zu outputs for one sample alone and %zu for each of %zu",
                              alone->width, width, n);
        }
        if (status == MET_OK) {
            const evaluated by_itself = met_asked(e, alone, 0);
            *apart = met_distance(e, in_batch, &by_itself, width);
        }
    }
    return status;
}

/* Whether the model gives a pair of copies of a sample the same each time. */
static int is_steady(engine *e, const void *sample, size_t j, double allowed, bool *steady) {
    asked pair = {0};
    int status = met_ask(e, sample, sample, 2, j, false, &pair);
    status = status == MET_OK ? met_repeats(e, sample, j, &pair, allowed, steady) : status;
    met_asked_free(&pair);
    return status;
}

/*
 * What a sample's numbers may hide: whether the provider saw that the model computes each sample by itself, or else what
 * the model says of company. *told becomes true where either was told.
 */
static int look_closer(engine *e, size_t j, bool *told, char *why, size_t n) {
    met_experience *experience = e->draws ? NULL : e->options->experience;
    bool by_company = false;
    int status = MET_OK;
    if (met_watch(e, false) || met_experience_knows_company(experience)) {
        *told = true;
        return MET_OK;
    }
    status = met_try_company(e, j, &by_company, why, n);
    if (status == MET_OK && by_company) {
        met_experience_note_company(experience);
        *told = true;
    }
    return status;
}

/*
 * The n samples of the chunk were evaluated in one batch: ask one of them alone. Where it differs by more than rounding
 * may do, a batch of copies of that sample (as many, so that the same kernels run) and a second evaluation tell why: the
 * copies give what the batch gave where only rounding is different, and a model that is random differs from itself.
 *   dx, y  what the batch gave
 * MET_ESINGLE: the samples influence each other, and nothing of the batch may be used.
 */
int met_verify_batch(engine *e, size_t n, const met_batch *dx, const met_outputs *y) {
    const size_t width = y->width;
    char why[sizeof e->report->one_at_a_time] = "";
    size_t j = 0;
    int status = most_influenced(e, n, &j);
    const uint8_t *sample = (const uint8_t *)met_buffer_data(e->chunk) + j * e->bytes;
    const void *gradient = dx->data == NULL ? NULL : (const uint8_t *)dx->data + j * e->bytes;
    const evaluated in_batch = {y->value + j * width, gradient};
    asked alone = {0}, again = {0}, copies = {0};
    double apart = 0;
    status = status == MET_OK ? ask_alone(e, sample, j, n, &in_batch, width, &alone, &apart) : status;
    if (status != MET_OK) {
        goto done;
    }
    const evaluated by_itself = met_asked(e, &alone, 0);
    bool influenced = apart > 1.0;
    if (influenced) {
        status = met_ask(e, sample, sample, n, j, true, &copies);
        status = status == MET_OK ? met_ask(e, sample, sample, 1, j, true, &again) : status;
        if (status != MET_OK) {
            goto done;
        }
        const evaluated among_copies = met_asked(e, &copies, j), repeated = met_asked(e, &again, 0);
        const double repeatable = fmax(1.0, 1e-3 * apart);
        const bool random = met_distance(e, &by_itself, &repeated, width) > repeatable;
        influenced = (met_distance(e, &in_batch, &among_copies, width) > 0.1 * apart ||
                      grossly_apart(e, &in_batch, &by_itself, width)) &&
                     !random;
        bool alike = true;
        for (size_t i = 0; i < n && influenced; i++) {
            const evaluated copy = {copies.values + i * width, NULL}; /* gradients differ where one copy is the scale */
            alike = alike && met_distance(e, &copy, &among_copies, width) <= repeatable;
        }
        if (influenced && !alike) { /* it is random, or goes through the batch in order */
            status = e->draws ? MET_OK : is_steady(e, sample, j, repeatable, &alike);
            influenced = alike;
        }
        if (status != MET_OK) {
            goto done;
        }
        e->draws = e->draws || random;
    }
    bool told = !are_alike(e, n);
    if (influenced) {
        snprintf(why, sizeof why,
                 "samples of a batch influence each other: sample %zu of image %zu gave %.6g among %zu, and %.6g alone",
                 e->k_of[j], e->origin_of[j], in_batch.value[0], n, by_itself.value[0]);
        status = MET_ESINGLE;
    } else {
        status = look_closer(e, j, &told, why, sizeof why);
    }
    e->report->batching = told ? MET_BATCHING_FREE : MET_BATCHING_UNKNOWN;
    if (status == MET_ESINGLE) {
        met_note_single(e, why);
    }
done:
    met_asked_free(&alone);
    met_asked_free(&again);
    met_asked_free(&copies);
    return status;
}

/*
 * Whether what a shortcut gave for a sample is what the model gave for it alone, but for rounding.
 *   model, shortcut  (width,) outputs
 *   scale            the largest output that rounding is judged by
 */
bool met_agree(const engine *e, const double *model, const double *shortcut, size_t width, double scale) {
    const double allowed = e->job->dtype == MET_FLOAT64 ? SHORTCUT_DOUBLE : SHORTCUT_FLOAT;
    for (size_t i = 0; i < width; i++) {
        if (isfinite(model[i]) != isfinite(shortcut[i]) ||
            (isfinite(model[i]) && fabs(shortcut[i] - model[i]) > allowed * fmax(scale, fabs(model[i])))) {
            return false;
        }
    }
    return true;
}
