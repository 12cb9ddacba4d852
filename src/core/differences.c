/* differences.c - what the outputs lose when a part of the image takes the baseline's values, for many parts. */
#include "differences.h"

#include <string.h>

/* The first result tells how many outputs there are, and where the wanted ones lie. */
static int read_outputs(met_differences *d, const met_result *r) {
    const met_targets *wanted = d->wanted;
    d->outputs = wanted->count > 0 ? wanted->count : r->width;
    d->axes = r->axes;
    memcpy(d->shape, r->shape, (size_t)r->axes * sizeof *r->shape);
    if (d->parts > SIZE_MAX / d->images / d->outputs) {
        return met_fail(MET_ENOMEM, "%zu parts of %zu outputs cannot be counted", d->parts, d->outputs);
    }
    d->image = met_allocate(d->images * d->outputs, sizeof *d->image);
    d->differences = met_allocate(d->images * d->outputs * d->parts, sizeof *d->differences);
    d->position = met_allocate(d->outputs, sizeof *d->position);
    if (d->image == NULL || d->differences == NULL || d->position == NULL) {
        return met_fail(MET_ENOMEM, "the differences of %zu parts for %zu outputs do not fit into memory", d->parts,
                        d->outputs);
    }
    for (size_t t = 0; t < d->outputs; t++) {
        d->position[t] = t;
        if (wanted->count > 0) {
            int status = met_target_resolve(&wanted->target[t], r->shape, r->axes, &d->position[t]);
            if (status != MET_OK) {
                return status;
            }
        }
    }
    return MET_OK;
}

/* An image starts, perhaps again: parts that are copies of it differ by 0. */
static int begin(void *method, size_t image) {
    met_differences *d = method;
    if (d->outputs > 0) {
        const size_t values = d->outputs * d->parts;
        memset(d->differences + image * values, 0, values * sizeof *d->differences);
    }
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    met_differences *d = method;
    if (r->value == NULL) { /* a copy of the image differs by 0, which is there already */
        return MET_OK;
    }
    int status = d->outputs == 0 ? read_outputs(d, r) : MET_OK;
    for (size_t t = 0; t < d->outputs && status == MET_OK; t++) {
        double *image = &d->image[r->image * d->outputs + t];
        if (r->k == 0) {
            *image = r->value[d->position[t]];
        } else {
            d->differences[(r->image * d->outputs + t) * d->parts + r->k - 1] = *image - r->value[d->position[t]];
        }
    }
    return status;
}

int met_differences_run(met_differences *d, size_t parts, met_job *job, const met_call *call, const met_targets *wanted,
                        int (*spread)(const met_differences *d, const double *differences, const met_call *call,
                                      void *out),
                        met_results *results) {
    d->wanted = wanted;
    d->images = call->images;
    d->parts = parts;
    job->evaluations = parts + 1;
    job->all_outputs = wanted->all || wanted->count > 0;
    job->skip_copies = true;
    job->begin = begin;
    job->fold = fold;
    int status = met_run(job, call->model, call->options, call->report);
    if (status == MET_OK && results->outputs != d->outputs) {
        status = results->reserve != NULL
                     ? results->reserve(results, d->outputs)
                     : met_fail(MET_EVALUE, "there is memory for the attributions of one output alone");
    }
    for (size_t i = 0; i < d->images * d->outputs && status == MET_OK; i++) {
        status = spread(d, d->differences + i * parts, call, results->out[i]);
    }
    results->axes = d->axes;
    memcpy(results->shape, d->shape, sizeof d->shape);
    met_deallocate(d->image);
    met_deallocate(d->position);
    met_deallocate(d->differences);
    return status;
}
