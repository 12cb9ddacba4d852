/* method.c - the table of methods, and what all of them share: looking for values that are not finite. */
#include "method.h"

#include "finite.h"
#include "image.h"

#include <string.h>

/* Every method there is: a new one is a line here and a file of its own. */
#define METHODS(X) \
    X(met_saliency) \
    X(met_input_x_gradient) \
    X(met_integrated_gradients) \
    X(met_occlusion) \
    X(met_feature_ablation) \
    X(met_lime) \
    X(met_kernel_shap) \
    X(met_shapley_sampling) \
    X(met_noise_tunnel)

#define DECLARE(method) extern const met_method method;
METHODS(DECLARE)

#define ADDRESS(method) &method,
const met_method *const met_methods[] = {METHODS(ADDRESS) NULL};

met_job met_job_of(const met_call *call, void *method) {
    met_job job = {.method = method,
                   .inputs = call->inputs,
                   .images = call->images,
                   .evaluations = 1,
                   .dtype = call->dtype,
                   .kind = MET_IDENTITY};
    return job;
}

int met_explained_read(const met_targets *wanted, const met_result *r, met_explained *out) {
    out->count = wanted->count > 0 ? wanted->count : r->width;
    out->axes = r->axes;
    memcpy(out->shape, r->shape, (size_t)r->axes * sizeof *r->shape);
    out->position = met_allocate(out->count, sizeof *out->position);
    if (out->position == NULL) {
        return met_fail(MET_ENOMEM, "%zu outputs do not fit into memory", out->count);
    }
    for (size_t t = 0; t < out->count; t++) {
        out->position[t] = t;
        const int status =
            wanted->count == 0 ? MET_OK : met_target_resolve(&wanted->target[t], r->shape, r->axes, &out->position[t]);
        if (status != MET_OK) {
            return status;
        }
    }
    return MET_OK;
}

int met_results_open(met_results *results, const met_explained *explained) {
    int status = MET_OK;
    if (results->outputs != explained->count) {
        status = results->reserve != NULL
                     ? results->reserve(results, explained->count)
                     : met_fail(MET_EVALUE, "there is memory for the attributions of one output alone");
    }
    results->axes = explained->axes;
    memcpy(results->shape, explained->shape, sizeof explained->shape);
    return status;
}

int met_results_put(met_results *results, size_t image, const char *name, met_dtype dtype, int axes,
                    const size_t *shape, const void *data) {
    void *out = NULL;
    size_t count = 1;
    if (results->table == NULL) {
        return MET_OK;
    }
    for (int a = 0; a < axes; a++) {
        count *= shape[a];
    }
    const int status = results->table(results, image, name, dtype, axes, shape, &out);
    if (status == MET_OK && count > 0) {
        memcpy(out, data, count * met_dtype_size(dtype));
    }
    return status;
}

void met_mask_baseline(met_input *input, const double *number) {
    if (input->image.mask == NULL || (input->baseline.data == NULL && *number == 0)) {
        return;
    }
    if (input->baseline.data == NULL) {
        input->baseline = input->image;
        input->baseline.data = number;
        input->baseline.dtype = MET_FLOAT64;
        memset(input->baseline.strides, 0, sizeof input->baseline.strides);
    }
    input->baseline.mask = input->image.mask;
    memcpy(input->baseline.mask_strides, input->image.mask_strides, sizeof input->baseline.mask_strides);
}

/* An image or a baseline must be finite where it is used: refused with the band and the place of the first value. */
static int check_finite(const met_image *image, const char *what, size_t i, const met_parallel *pool) {
    size_t count, at[MET_AXES];
    if (image->data == NULL) {
        return MET_OK;
    }
    int status = met_image_nonfinite(image, pool, &count, at);
    if (status != MET_OK || count == 0) {
        return status;
    }
    if (image->bands < 0) {
        return met_fail(MET_EVALUE,
                        "%s %zu holds NaN or infinity: %zu of its values, the first at (%zu, %zu, %zu): replace them",
                        what, i, count, at[0], at[1], at[2]);
    }
    const int rows = image->bands == 0 ? 1 : 0, columns = image->bands == 2 ? 1 : 2;
    return met_fail(MET_EVALUE,
                    "%s %zu holds NaN or infinity: %zu of its values, the first in band %zu, row %zu, column %zu: mask "
                    "them (binary_mask) or replace them",
                    what, i, count, at[image->bands], at[image->rows == columns ? columns : rows],
                    at[image->rows == columns ? rows : columns]);
}

/*
 * results->out[i] = the attributions of image i.
 *   method   a record of met_methods
 *   call     images, model and options; its report is added to
 *   options  as method->arguments describe them
 */
int met_method_run(const met_method *method, const met_call *call, const void *options, met_results *results) {
    int status = call->images > 0 ? MET_OK : met_fail(MET_EVALUE, "there is no image to explain");
    for (size_t i = 0; i < call->images && status == MET_OK && call->options->finite != MET_FINITE_IGNORE; i++) {
        const met_input *input = &call->inputs[i];
        status = check_finite(&input->image, "image", input->origin, call->options->pool);
        if (status == MET_OK && method->baselines) {
            status = check_finite(&input->baseline, "baseline", input->origin, call->options->pool);
        }
    }
    if (status == MET_OK) {
        met_heap_hold(call->options);
        status = method->run(call, options, results);
        met_heap_release(call->options);
    }
    const size_t size = call->images > 0 ? met_image_size(&call->inputs[0].image) : 0;
    for (size_t i = 0; i < call->images && status == MET_OK && !results->known_finite; i++) {
        for (size_t t = 0; t < results->outputs && status == MET_OK; t++) {
            status = met_note_results(call->report, call->options, call->dtype, results->out[i * results->outputs + t],
                                      size, call->inputs[i].origin);
        }
    }
    return status;
}
