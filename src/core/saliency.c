/*
 * saliency.c - the gradient of the target output with respect to the image, by default its absolute value.
 * Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013 (arXiv:1312.6034).
 */
#include "saliency.h"

#include "finite.h"
#include "reduce.h"

#include <stddef.h>
#include <string.h>

typedef struct saliency {
    const met_saliency_options *options;
    const met_parallel *pool;
    met_results *results;
} saliency;

static int fold(void *method, const met_result *r) {
    const saliency *m = method;
    const size_t size = met_base_size(r->base);
    if (m->options->absolute) {
        *r->finite = met_absolute(r->base->dtype, size, r->gradient, m->pool, m->results->out[r->image]);
    } else {
        memcpy(m->results->out[r->image], r->gradient, size * met_dtype_size(r->base->dtype));
        *r->finite = met_count_nonfinite(r->base->dtype, r->gradient, size, m->pool, NULL) == 0;
    }
    m->results->known_finite = m->results->known_finite && *r->finite;
    return MET_OK;
}

/* out[i] = |d f(x_i) / d x_i|, or the signed gradient where `absolute` is false; baselines are not read. */
static int run(const met_call *call, const void *options, met_results *results) {
    saliency m = {.options = options, .pool = call->options->pool, .results = results};
    results->known_finite = true;
    met_job job = met_job_of(call, &m);
    job.gradient = true;
    job.fold = fold;
    return met_run(&job, call->model, call->options, call->report);
}

static const met_argument arguments[] = {
    {.name = "absolute", .kind = MET_FLAG, .offset = offsetof(met_saliency_options, absolute)},
    {.name = NULL},
};

static const met_nesting nesting = {.of_gradient = true};

const met_method met_saliency = {
    .name = "saliency",
    .doc = "The gradient of the target output at each image, or its absolute value.\n"
           "Source: Simonyan et al., 2013 (arXiv:1312.6034).",
    .arguments = arguments,
    .options = sizeof(met_saliency_options),
    .run = run,
    .nesting = &nesting,
};
