/*
 * spot.c - one sample of each prepared group, drawn at random from the second half of what is to do, is evaluated rendered
 * and alone as well, and must be what the shortcut gave for it in its batch.
 */
#include "run.h"

#include <math.h>
#include <string.h>

double met_output_scale(const met_outputs *y, size_t n) {
    double scale = 0;
    for (size_t i = 0; i < n * y->width; i++) {
        scale = fabs(y->value[i]) > scale && isfinite(y->value[i]) ? fabs(y->value[i]) : scale;
    }
    return scale;
}

void met_spot_start(engine *e, size_t from, size_t to) {
    const size_t evaluations = e->job->evaluations, samples = (to - from) * evaluations;
    met_deallocate(e->spot.value);
    e->spot = (spot_check){.from = from * evaluations + samples / 2};
    e->spot.from += met_draw(e, e->job->images + from, samples - samples / 2);
}

/* Keep what the shortcut gave for sample j of the chunk. */
static int hold(engine *e, size_t j, size_t n, const met_outputs *y) {
    spot_check *s = &e->spot;
    if (s->value == NULL || s->width != y->width) {
        met_deallocate(s->value);
        s->value = met_allocate(y->width, sizeof *s->value);
        s->width = y->width;
    }
    if (s->value == NULL) {
        return met_fail(MET_ENOMEM, "%zu outputs do not fit into memory", y->width);
    }
    memcpy(s->value, y->value + j * y->width, y->width * sizeof *s->value);
    s->image = e->image_of[j];
    s->k = e->k_of[j];
    s->scale = met_output_scale(y, n);
    s->held = true;
    return MET_OK;
}

int met_spot_watch(engine *e, size_t n, const met_outputs *y) {
    spot_check *s = &e->spot;
    size_t j = 0;
    bool due = false;
    if (s->done) {
        return MET_OK;
    }
    for (size_t i = n; i > 0; i--) {
        if (e->k_of[i - 1] != MET_REFERENCE) {
            const bool behind = e->image_of[i - 1] * e->job->evaluations + e->k_of[i - 1] >= s->from;
            j = behind || !due ? i - 1 : j;
            due = due || behind;
        }
    }
    if (j == 0 && e->k_of[n - 1] != MET_REFERENCE) { /* the first of a batch may be its scale, and as it is alone */
        j = n - 1;
    }
    const int status = (due || !s->held) && e->k_of[j] != MET_REFERENCE ? hold(e, j, n, y) : MET_OK;
    return status == MET_OK && due ? met_spot_finish(e) : status;
}

int met_spot_finish(engine *e) {
    spot_check *s = &e->spot;
    double *alone = NULL;
    size_t width = 0;
    if (s->done || !s->held) {
        return MET_OK;
    }
    s->done = true;
    int status = met_evaluate_alone(e, s->image, s->k, &alone, &width);
    if (status == MET_OK && (width != s->width || !met_agree(e, alone, s->value, width, s->scale))) {
        status =
            met_declined(MET_DECLINE_VERIFICATION, "it gave %.9g for sample %zu of image %zu, the model gives %.9g",
                         s->value[0], s->k, e->job->inputs[s->image].origin, alone[0]);
    }
    met_deallocate(alone);
    return status;
}
