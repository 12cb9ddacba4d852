/*
 * occlusion.c - what the output loses when a window of the image takes the baseline's values.
 * Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014 (arXiv:1311.2901).
 */
#include "occlusion.h"

#include "differences.h"

#include <stddef.h>

typedef struct occlusion {
    met_differences differences; /* first */
    met_windows grid;
} occlusion;

static int describe(void *method, size_t image, size_t k, met_sample *s) {
    const occlusion *m = method;
    (void)image;
    if (k == 0) {
        s->kind = MET_IDENTITY;
    } else {
        met_windows_box(&m->grid, k - 1, &s->box);
    }
    return MET_OK;
}

/* The mean of the differences over the windows that cover a value. */
static int spread(const met_differences *d, const double *differences, const met_call *call, void *out) {
    const occlusion *m = (const occlusion *)d;
    return met_windows_mean(&m->grid, differences, call->dtype, call->options->pool, out);
}

/*
 * out[i, t] = the mean, over the windows k that cover a value, of f_t(x_i) - f_t(x_i with window k replaced by the
 * baseline).
 */
static int run(const met_call *call, const void *options, met_results *results) {
    const met_occlusion_options *o = options;
    occlusion m = {0};
    int status = met_windows_new(call->inputs[0].image.shape, o->window, o->stride, &m.grid);
    if (status != MET_OK) {
        return status;
    }
    met_job job = met_job_of(call, &m);
    job.kind = MET_BOX;
    job.describe = describe;
    return met_differences_run(&m.differences, met_windows_number(&m.grid), &job, call, &o->outputs, spread, results);
}

static const met_argument arguments[] = {
    {"window", MET_SIZES, .offset = offsetof(met_occlusion_options, window)},
    {"stride", MET_SIZES, .offset = offsetof(met_occlusion_options, stride)},
    {"outputs", MET_TARGETS, .offset = offsetof(met_occlusion_options, outputs)},
    {.name = NULL},
};

/* ---- in a tunnel */

static size_t evaluations(const met_call *call, const void *options) {
    const met_occlusion_options *o = options;
    met_windows grid;
    const int status = met_windows_new(call->inputs[0].image.shape, o->window, o->stride, &grid);
    return status == MET_OK ? met_windows_number(&grid) + 1 : 1;
}

static const met_nesting nesting = {.run = run, .evaluations = evaluations};

const met_method met_occlusion = {
    .name = "occlusion",
    .doc = "The mean over the windows that cover a value of what the output loses when the window takes the baseline.\n"
           "Source: Zeiler and Fergus, 2014 (arXiv:1311.2901).",
    .arguments = arguments,
    .options = sizeof(met_occlusion_options),
    .baselines = true,
    .run = run,
    .nesting = &nesting,
};
