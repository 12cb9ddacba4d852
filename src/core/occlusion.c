/*
 * occlusion.c - what the output loses when a window of the image takes the baseline's values.
 * Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014 (arXiv:1311.2901).
 */
#include "occlusion.h"

#include "method.h"

#include <stddef.h>
#include <string.h>

typedef struct occlusion {
    met_windows grid;
    const met_targets *wanted; /* outputs to explain, or none: then the target of each input */
    size_t images;
    size_t parts; /* windows */
    met_explained explained;
    double *differences; /* (images, outputs, parts): what is lost without each window */
} occlusion;

/* The first result tells how many outputs there are. */
static int read_outputs(occlusion *m, const met_result *r) {
    int status = met_explained_read(m->wanted, r, &m->explained);
    if (status != MET_OK) {
        return status;
    }
    const size_t outputs = m->explained.count;
    if (m->parts > SIZE_MAX / m->images / outputs) {
        return met_fail(MET_ENOMEM, "%zu parts of %zu outputs cannot be counted", m->parts, outputs);
    }
    m->differences = met_allocate(m->images * outputs * m->parts, sizeof *m->differences);
    if (m->differences == NULL) {
        return met_fail(MET_ENOMEM, "the differences of %zu parts for %zu outputs do not fit into memory", m->parts,
                        outputs);
    }
    return MET_OK;
}

/* An image starts, perhaps again: parts that are copies of it differ by 0. */
static int begin(void *method, size_t image) {
    occlusion *m = method;
    if (m->explained.count > 0) {
        const size_t values = m->explained.count * m->parts;
        memset(m->differences + image * values, 0, values * sizeof *m->differences);
    }
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    occlusion *m = method;
    if (r->value == NULL) { /* a copy of the image differs by 0, which is there already */
        return MET_OK;
    }
    int status = m->explained.count == 0 ? read_outputs(m, r) : MET_OK;
    for (size_t t = 0; t < m->explained.count && status == MET_OK; t++) {
        const size_t position = m->explained.position[t];
        if (r->k > 0) {
            m->differences[(r->image * m->explained.count + t) * m->parts + r->k - 1] =
                r->reference[position] - r->value[position];
        }
    }
    return status;
}

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

/* Find memory for the results: the mean of the differences over the windows that cover a value. */
static int spread(const occlusion *m, const met_call *call, met_results *results) {
    int status = met_results_open(results, &m->explained);
    for (size_t i = 0; i < m->images * m->explained.count && status == MET_OK; i++) {
        status = met_windows_mean(&m->grid, m->differences + i * m->parts, call->dtype, call->options->pool,
                                  results->out[i]);
    }
    return status;
}

/*
 * out[i, t] = the mean, over the windows k that cover a value, of f_t(x_i) - f_t(x_i with window k replaced by the
 * baseline). Evaluation 0 is the image, k is window k - 1; windows that hold the baseline's values already are not
 * evaluated: they differ by 0.
 */
static int run(const met_call *call, const void *options, met_results *results) {
    const met_occlusion_options *o = options;
    occlusion m = {.wanted = &o->outputs, .images = call->images};
    int status = met_windows_new(call->inputs[0].image.shape, o->window, o->stride, &m.grid);
    if (status != MET_OK) {
        return status;
    }
    m.parts = met_windows_number(&m.grid);
    met_job job = met_job_of(call, &m);
    job.kind = MET_BOX;
    job.evaluations = m.parts + 1;
    job.all_outputs = o->outputs.all || o->outputs.count > 0;
    job.skip_copies = true;
    job.reference = true;
    job.describe = describe;
    job.begin = begin;
    job.fold = fold;
    status = met_run(&job, call->model, call->options, call->report);
    status = status == MET_OK ? spread(&m, call, results) : status;
    met_deallocate(m.explained.position);
    met_deallocate(m.differences);
    return status;
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
