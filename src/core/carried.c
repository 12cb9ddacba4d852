/*
 * carried.c - sums of gradients some of which are rendered while others go through a shortcut.
 *
 * The shortcut sums by itself and hands its sums out at the end. Until then job->sums holds what was rendered of an image;
 * e->sum adds it up for one image at a time.
 */
#include "run.h"

#include <string.h>

/* Write down what e->sum holds. */
static void put_down(engine *e) {
    if (e->carrying != MET_NO_IMAGE) {
        met_reducer_read(&e->sum, MET_SUM, e->job->dtype, e->options->pool, e->job->sums[e->carrying]);
        e->carried[e->carrying] = true;
        e->carrying = MET_NO_IMAGE;
    }
}

/* Make e->sum that of an image. */
static int take_up(engine *e, size_t image) {
    if (e->carrying != image) {
        put_down(e);
        const int status = met_reserve_sum(e);
        if (status != MET_OK) {
            return status;
        }
        met_reducer_clear(&e->sum);
        if (e->carried[image]) {
            met_reducer_add(&e->sum, e->job->dtype, e->job->sums[image], 1.0, e->options->pool);
        }
        e->carrying = image;
    }
    return MET_OK;
}

int met_carry(engine *e, size_t image, size_t k, const void *gradient, double weight) {
    const int status = take_up(e, image);
    if (status != MET_OK) {
        return status;
    }
    const bool finite = met_reducer_add(&e->sum, e->job->dtype, gradient, weight, e->options->pool);
    return finite ? MET_OK : met_note_gradient(e, image, k, gradient);
}

void met_carry_over(engine *e, size_t image) {
    e->carrying = image;
    put_down(e);
}

int met_add_to_carried(engine *e, size_t image, const void *gradients) {
    if (e->carrying != image && !e->carried[image]) {
        memcpy(e->job->sums[image], gradients, e->bytes);
        return MET_OK;
    }
    const int status = take_up(e, image);
    if (status == MET_OK) {
        met_reducer_add(&e->sum, e->job->dtype, gradients, 1.0, e->options->pool);
        put_down(e);
    }
    return status;
}

void met_forget_carried(engine *e, size_t from, size_t to) {
    memset(e->carried + from, 0, (to - from) * sizeof *e->carried);
    e->carrying = MET_NO_IMAGE;
}
