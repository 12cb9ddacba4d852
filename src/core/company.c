/*
 * company.c - asking a model for samples in the company of others than those of their batch.
 *
 * A batch may hide what its samples do to each other: windows of one image share its largest value, and what is divided by
 * the largest value of one band, or of one layer, shows it only beside a sample that has another one there. So a model that
 * does not show how it computes is asked for an image beside the same image with half its values: all maxima, minima,
 * means and spreads of the two are unlike, whatever they are taken of.
 */
#include "company.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Pairs of copies that are to give the same before a difference counts as one. */
#define REPETITIONS 8

int met_ask(engine *e, const void *first, const void *others, size_t n, size_t j, bool gradient, asked *out) {
    met_buffer *buffer = NULL;
    const met_target **targets = met_allocate(n, sizeof *targets);
    size_t *origins = met_allocate(n, sizeof *origins);
    int status = targets == NULL || origins == NULL
                     ? met_fail(MET_ENOMEM, "the description of %zu samples does not fit into memory", n)
                     : met_buffer_new(n * e->bytes, "copies of a sample", &e->report->memory, &buffer);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        memcpy((uint8_t *)met_buffer_data(buffer) + i * e->bytes, i == 0 ? first : others, e->bytes);
        targets[i] = e->targets[j];
        origins[i] = e->origin_of[j];
    }
    if (status == MET_OK) {
        double seconds = 0;
        met_batch x = met_batch_view(e, buffer, 0, n);
        output_request request = met_request_outputs(e, 0, n, &out->values, &out->capacity);
        x.image = origins;
        request.y.targets = e->job->all_outputs ? NULL : targets;
        status = met_evaluate(e, &x, gradient ? &out->dx : NULL, &request.y, &seconds);
        out->width = request.y.width;
        e->report->evaluations_verifying += n;
        e->report->seconds_in_model += seconds;
        if (status == MET_OK && n == 1 && (gradient || !e->job->gradient)) {
            met_note_alone(e, seconds);
        }
    }
    met_buffer_release(buffer);
    met_deallocate(targets);
    met_deallocate(origins);
    return status == MET_ESINGLE ? met_fail(MET_EMODEL, "the model gives one number for a whole batch") : status;
}

evaluated met_asked(const engine *e, const asked *p, size_t i) {
    const void *gradient = p->dx.data == NULL ? NULL : (const uint8_t *)p->dx.data + i * e->bytes;
    return (evaluated){p->values + i * p->width, gradient};
}

void met_asked_free(asked *p) {
    met_deallocate(p->values);
    met_release_batch(&p->dx);
    *p = (asked){0};
}

/* Write half of n values to out; whether any of them is not 0. */
static bool halve(met_dtype dtype, const void *values, size_t n, void *out) {
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (dtype == MET_FLOAT64) {
            const double v = ((const double *)values)[i];
            ((double *)out)[i] = v / 2;
            any = any || v != 0;
        } else {
            const float v = ((const float *)values)[i];
            ((float *)out)[i] = v / 2;
            any = any || v != 0;
        }
    }
    return any;
}

/* A model may refuse what it was never meant to see; that is no error of the run. An interrupt is one. */
static int forgive(const engine *e, int status, bool *told) {
    const bool forgiven =
        status == MET_EMODEL || (status == MET_ECALLBACK && e->options->forgive != NULL && e->options->forgive());
    *told = status == MET_OK;
    return forgiven ? MET_OK : status;
}

int met_repeats(engine *e, const void *sample, size_t j, const asked *before, double allowed, bool *same) {
    int status = MET_OK;
    *same = true;
    for (size_t i = 0; i < REPETITIONS && *same && status == MET_OK; i++) {
        asked again = {0};
        status = met_ask(e, sample, sample, 2, j, false, &again);
        for (size_t k = 0; k < 2 && status == MET_OK; k++) {
            const evaluated then = {before->values + k * before->width, NULL}, now = met_asked(e, &again, k);
            *same = *same && again.width == before->width && met_distance(e, &then, &now, before->width) <= allowed;
        }
        met_asked_free(&again);
    }
    return status;
}

/* How far the samples of a pair are from what each gave at the same place of a pair of copies; the farther one's place. */
static double distance_of_pairs(const engine *e, const asked *pair, const asked *first, const asked *second,
                                size_t *place) {
    const evaluated a = met_asked(e, pair, 0), b = met_asked(e, pair, 1);
    const evaluated by_itself_a = met_asked(e, first, 0), by_itself_b = met_asked(e, second, 1);
    const double apart_a = met_distance(e, &a, &by_itself_a, pair->width);
    const double apart_b = met_distance(e, &b, &by_itself_b, pair->width);
    *place = apart_b > apart_a ? 1 : 0;
    return fmax(apart_a, apart_b);
}

int met_try_company(engine *e, size_t j, bool *told, char *why, size_t n) {
    met_buffer *buffer = NULL;
    asked pairs[2] = {{0}, {0}}, copies[2] = {{0}, {0}};
    *told = false;
    int status = met_load_image(e, e->image_of[j]);
    status =
        status == MET_OK ? met_buffer_new(2 * e->bytes, "an image and its half", &e->report->memory, &buffer) : status;
    if (status != MET_OK) {
        return status;
    }
    uint8_t *half = met_buffer_data(buffer), *whole = half + e->bytes;
    const uint8_t *const samples[2] = {half, whole};
    const met_sample image = {.kind = MET_IDENTITY};
    met_sample_render(&e->base, &image, e->options->pool, whole);
    if (!halve(e->job->dtype, whole, e->size, half)) {
        goto done;
    }
    /* Either one comes first: what goes through a batch in order shows it in one of the two. */
    for (size_t i = 0; i < 2 && status == MET_OK; i++) {
        status = met_ask(e, samples[i], samples[1 - i], 2, j, false, &pairs[i]);
        status = status == MET_OK ? met_ask(e, samples[i], samples[i], 2, j, false, &copies[i]) : status;
    }
    status = forgive(e, status, told);
    for (size_t i = 0; i < 2 && status == MET_OK && *told; i++) {
        size_t place = 0;
        const double apart = distance_of_pairs(e, &pairs[i], &copies[i], &copies[1 - i], &place);
        if (apart <= 1.0) {
            continue;
        }
        bool same = false;
        const size_t which = place == 0 ? i : 1 - i; /* 0: it is the half that others influence */
        status = met_repeats(e, samples[which], j, &copies[which], fmax(1.0, 1e-3 * apart), &same);
        status = forgive(e, status, told);
        if (status == MET_OK && *told && same) {
            snprintf(
                why, n,
                "samples of a batch influence each other: image %zu%s gave %.6g beside the same with %s its values, "
                "and %.6g beside itself",
                e->origin_of[j], which == 0 ? " with half its values" : "", pairs[i].values[place * pairs[i].width],
                which == 0 ? "twice" : "half", copies[which].values[place * copies[which].width]);
            status = MET_ESINGLE;
        }
        *told = *told && same;
    }
done:
    for (size_t i = 0; i < 2; i++) {
        met_asked_free(&pairs[i]);
        met_asked_free(&copies[i]);
    }
    met_buffer_release(buffer);
    return status;
}
