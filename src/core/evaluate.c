/*
 * evaluate.c - one call of the model: the memory behind its outputs, what it gives where there is no gradient, and whether it
 * has drawn random numbers.
 */
#include "run.h"

#include <string.h>

static int reserve(met_outputs *y, size_t width) {
    output_request *r = (output_request *)y;
    if (width == 0 || (y->targets != NULL && width != 1)) {
        return met_fail(MET_EMODEL, "the model returned no output");
    }
    if (y->n > SIZE_MAX / sizeof(double) / width) {
        return met_fail(MET_ENOMEM, "%zu outputs of %zu samples do not fit into memory", width, y->n);
    }
    size_t needed = y->n * width;
    if (needed > *r->capacity) {
        met_deallocate(*r->values);
        *r->capacity = 0;
        *r->values = met_allocate(needed, sizeof **r->values);
        if (*r->values == NULL) {
            return met_fail(MET_ENOMEM, "%zu bytes for outputs could not be had", needed * sizeof **r->values);
        }
        *r->capacity = needed;
    }
    y->value = *r->values;
    y->width = width;
    return MET_OK;
}

output_request met_request_outputs(const engine *e, size_t first, size_t n, double **values, size_t *capacity) {
    output_request r = {.values = values, .capacity = capacity};
    r.y.n = n;
    r.y.targets = e->job->all_outputs ? NULL : e->targets + first;
    r.y.reserve = reserve;
    return r;
}

/* Whether the model has a gradient at an image itself, that of the first sample of x. */
static int try_gradient(engine *e, const met_batch *x, const met_outputs *y) {
    const met_sample image = {.kind = MET_IDENTITY};
    met_buffer *buffer = NULL;
    double *values = NULL;
    size_t capacity = 0;
    met_batch one, dx = {0};
    int status = e->base_image == MET_NO_IMAGE ? met_load_image(e, 0) : MET_OK;
    status = status == MET_OK ? met_buffer_new(e->bytes, "an image", &e->report->memory, &buffer) : status;
    if (status == MET_OK) {
        met_sample_render(&e->base, &image, e->options->pool, met_buffer_data(buffer));
        one = met_batch_view(e, buffer, 0, 1);
        one.image = x->image;
        output_request request = met_request_outputs(e, 0, 1, &values, &capacity);
        request.y.targets = y->targets;
        status = e->model->gradient(e->model->ctx, &one, &dx, &request.y);
        e->report->evaluations_verifying++;
    }
    met_release_batch(&dx);
    met_buffer_release(buffer);
    met_deallocate(values);
    return status;
}

/*
 * Outputs of samples that the model gives no gradients for, and 0 in place of these. The outputs may be constants, where a
 * model answers with one for what it takes for no data, say; or it has no gradients at all, nor at an image itself, which is
 * an error.
 */
static int evaluate_constants(engine *e, met_batch *x, met_batch *dx, met_outputs *y) {
    met_buffer *zeros = NULL;
    int status = e->differentiable ? MET_OK : try_gradient(e, x, y);
    e->differentiable = status == MET_OK;
    status = status == MET_OK ? met_buffer_new(x->n * e->bytes, "gradients", NULL, &zeros) : status;
    status = status == MET_OK ? e->model->forward(e->model->ctx, x, y) : status;
    e->report->evaluations_discarded += status == MET_OK ? x->n : 0;
    if (status == MET_OK) {
        memset(met_buffer_data(zeros), 0, x->n * e->bytes);
        *dx = met_batch_view(e, zeros, 0, x->n); /* lent, as a model's gradients are */
    } else {
        met_buffer_release(zeros);
    }
    return status;
}

int met_evaluate(engine *e, met_batch *x, met_batch *dx, met_outputs *y, double *seconds) {
    const met_model *model = e->model;
    const bool gradient = e->job->gradient && dx != NULL;
    const double start = met_seconds();
    int status = gradient ? model->gradient(model->ctx, x, dx, y) : model->forward(model->ctx, x, y);
    if (status == MET_EGRADIENT && gradient && !x->modified) {
        status = evaluate_constants(e, x, dx, y);
    }
    e->differentiable = e->differentiable || (status == MET_OK && gradient);
    *seconds = met_seconds() - start;
    if (status == MET_OK && y->value == NULL) {
        status = met_fail(MET_EMODEL, "the model answered without outputs");
    }
    if (status == MET_OK && gradient && dx->data == NULL) {
        status = met_fail(MET_EMODEL, "the model answered without a gradient");
    }
    return status;
}

uint64_t met_drawn(const met_model *model) {
    return model->drawn != NULL ? model->drawn(model->ctx) : 0;
}

/*
 * What a model draws depends on how it is called. Calls are then the same whatever they take, and whatever earlier ones
 * took, so that the seed of a generator repeats its results.
 */
void met_note_draws(engine *e) {
    e->draws = e->draws || (!e->called && met_drawn(e->model) != e->drawn);
    e->called = true;
}

void met_release_batch(met_batch *batch) {
    if (batch->owner != NULL) {
        batch->owner->release(batch->owner);
    }
    *batch = (met_batch){0};
}
