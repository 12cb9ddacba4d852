/*
 * batches.c - whether samples of one batch leave each other alone.
 *
 * Batches are an economy of the engine: the user asked for the output of each sample by itself. A model that divides
 * by the maximum of its whole input, or normalises over the batch, gives other numbers in company. So the first time
 * that the model has seen more than one sample, one of them is asked alone as well: the one that others should influence
 * most. Windows leave most samples the largest value of their image: where all of that batch had it, one is asked again when
 * the first comes that may not.
 */
#include "run.h"

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

/* One sample's outputs and gradient. */
typedef struct evaluated {
    const double *value;
    const void *gradient; /* NULL in forward jobs */
} evaluated;

/* What a call of the model gave for copies of a sample. Starts as zeros. */
typedef struct copies_of {
    double *values; /* (n, width) outputs */
    size_t capacity;
    size_t width;
    met_batch dx; /* gradients; in forward jobs nothing */
} copies_of;

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

/* How far two evaluations of a sample are apart, in units of what rounding may do. */
static double distance(const engine *e, const evaluated *a, const evaluated *b, size_t width) {
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
 * first sample comes last among equals, for models that take their scale from it. *below: its largest |value| is not the
 * batch's.
 */
static int most_influenced(const engine *e, size_t n, size_t *out, bool *below) {
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
            *below = exceeded > 0;
        }
    }
    met_deallocate(each);
    return MET_OK;
}

/* The largest |value| of an image, and where it is. */
static int find_summit(engine *e, size_t image, double *value) {
    const int status = met_load_image(e, image);
    if (status != MET_OK) {
        return status;
    }
    if (e->summit_of != image) {
        e->summit = 0;
        for (size_t i = 1; i < e->size; i++) {
            const bool larger = fabs(value_at(e->base.dtype, e->base.image, i)) >
                                fabs(value_at(e->base.dtype, e->base.image, e->summit));
            e->summit = larger ? i : e->summit;
        }
        e->summit_of = image;
    }
    *value = fabs(value_at(e->base.dtype, e->base.image, e->summit));
    return MET_OK;
}

int met_wants_verification(engine *e, size_t n, bool *wanted) {
    const uint8_t *samples = n > 1 ? met_buffer_data(e->chunk) : NULL;
    double of_first = 0;
    *wanted = n > 1 && e->report->batching == MET_BATCHING_UNKNOWN;
    if (n < 2 || e->report->batching != MET_BATCHING_FREE || !e->scale_unseen) {
        return MET_OK;
    }
    for (size_t j = 0; j < n && !*wanted; j++) {
        double summit = 0;
        const int status = find_summit(e, e->image_of[j], &summit);
        if (status != MET_OK) {
            return status;
        }
        of_first = j == 0 ? summit : of_first;
        *wanted = summit != of_first || fabs(value_at(e->job->dtype, samples + j * e->bytes, e->summit)) != summit;
    }
    return MET_OK;
}

void met_note_single(engine *e, const char *why) {
    e->report->batching = MET_BATCHING_SINGLE;
    snprintf(e->report->one_at_a_time, sizeof e->report->one_at_a_time, "%s", why);
}

static void copies_free(copies_of *p) {
    met_deallocate(p->values);
    met_release_batch(&p->dx);
    *p = (copies_of){0};
}

/*
 * Evaluate n copies of one sample, in memory of their own.
 *   sample  (size,) its values
 *   j       the place of the chunk where it is described
 *   out     outputs and gradients; the caller frees it with copies_free(), on failure too
 */
static int evaluate_copies(engine *e, const void *sample, size_t j, size_t n, copies_of *out) {
    met_buffer *buffer = NULL;
    const met_target **targets = met_allocate(n, sizeof *targets);
    size_t *origins = met_allocate(n, sizeof *origins);
    int status = targets == NULL || origins == NULL
                     ? met_fail(MET_ENOMEM, "the description of %zu samples does not fit into memory", n)
                     : met_buffer_new(n * e->bytes, "copies of a sample", &e->report->memory, &buffer);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        memcpy((uint8_t *)met_buffer_data(buffer) + i * e->bytes, sample, e->bytes);
        targets[i] = e->targets[j];
        origins[i] = e->origin_of[j];
    }
    if (status == MET_OK) {
        double seconds = 0;
        met_batch x = met_batch_view(e, buffer, 0, n);
        output_request request = met_request_outputs(e, 0, n, &out->values, &out->capacity);
        x.image = origins;
        request.y.targets = e->job->all_outputs ? NULL : targets;
        status = met_evaluate(e, &x, &out->dx, &request.y, &seconds);
        out->width = request.y.width;
        e->report->evaluations_verifying += n;
        e->report->seconds_in_model += seconds;
    }
    met_buffer_release(buffer);
    met_deallocate(targets);
    met_deallocate(origins);
    return status == MET_ESINGLE ? met_fail(MET_EMODEL, "the model gives one number for a whole batch") : status;
}

static evaluated evaluated_of(const engine *e, const copies_of *p, size_t i) {
    const void *gradient = p->dx.data == NULL ? NULL : (const uint8_t *)p->dx.data + i * e->bytes;
    return (evaluated){p->values + i * p->width, gradient};
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
 *   alone     what it gave by itself; the caller frees it with copies_free(), on failure too
 */
static int ask_alone(engine *e, const void *sample, size_t j, size_t n, const evaluated *in_batch, size_t width,
                     copies_of *alone, double *apart) {
    int status = MET_OK;
    *apart = (double)INFINITY;
    for (size_t copies = n < PAIR_FROM ? 1 : 2; copies > 0 && *apart > 1.0 && status == MET_OK; copies--) {
        copies_free(alone);
        status = evaluate_copies(e, sample, j, copies, alone);
        if (status == MET_OK && alone->width != width) {
            status = met_fail(MET_EMODEL, "the model returned %zu outputs for one sample alone and %zu for each of %zu",
                              alone->width, width, n);
        }
        if (status == MET_OK) {
            const evaluated by_itself = evaluated_of(e, alone, 0);
            *apart = distance(e, in_batch, &by_itself, width);
        }
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
    const bool first = e->report->batching == MET_BATCHING_UNKNOWN;
    size_t j = 0;
    bool below = false;
    int status = most_influenced(e, n, &j, &below);
    if (status == MET_OK && !first && !below) { /* nothing that the first look has not seen */
        return MET_OK;
    }
    const uint8_t *sample = (const uint8_t *)met_buffer_data(e->chunk) + j * e->bytes;
    const void *gradient = dx->data == NULL ? NULL : (const uint8_t *)dx->data + j * e->bytes;
    const evaluated in_batch = {y->value + j * width, gradient};
    copies_of alone = {0}, again = {0}, copies = {0};
    double apart = 0;
    status = status == MET_OK ? ask_alone(e, sample, j, n, &in_batch, width, &alone, &apart) : status;
    if (status != MET_OK) {
        goto done;
    }
    const evaluated by_itself = evaluated_of(e, &alone, 0);
    bool influenced = apart > 1.0;
    if (influenced) {
        status = evaluate_copies(e, sample, j, n, &copies);
        status = status == MET_OK ? evaluate_copies(e, sample, j, 1, &again) : status;
        if (status != MET_OK) {
            goto done;
        }
        const evaluated among_copies = evaluated_of(e, &copies, j), repeated = evaluated_of(e, &again, 0);
        const double repeatable = fmax(1.0, 1e-3 * apart);
        influenced = (distance(e, &in_batch, &among_copies, width) > 0.1 * apart ||
                      grossly_apart(e, &in_batch, &by_itself, width)) &&
                     distance(e, &by_itself, &repeated, width) <= repeatable;
        for (size_t i = 0; i < n && influenced; i++) {
            const evaluated copy = {copies.values + i * width, NULL}; /* gradients differ where one copy is the scale */
            influenced = distance(e, &copy, &among_copies, width) <= repeatable;
        }
    }
    e->report->batching = are_alike(e, n) ? MET_BATCHING_UNKNOWN : MET_BATCHING_FREE;
    e->scale_unseen = !below;
    if (influenced) {
        char why[sizeof e->report->one_at_a_time];
        snprintf(why, sizeof why,
                 "samples of a batch influence each other: sample %zu of image %zu gave %.6g among %zu, and %.6g alone",
                 e->k_of[j], e->origin_of[j], in_batch.value[0], n, by_itself.value[0]);
        met_note_single(e, why);
        status = MET_ESINGLE;
    }
done:
    copies_free(&alone);
    copies_free(&again);
    copies_free(&copies);
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
