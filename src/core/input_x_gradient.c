/*
 * input_x_gradient.c - the image times the gradient of the target output.
 * Source: Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box", 2016 (arXiv:1605.01713).
 */
#include "input_x_gradient.h"

#include "reduce.h"

typedef struct input_x_gradient {
    const met_parallel *pool;
    met_results *results;
} input_x_gradient;

static int fold(void *method, const met_result *r) {
    const input_x_gradient *m = method;
    *r->finite = met_times_image(r->base, false, r->gradient, m->pool, m->results->out[r->image]);
    m->results->known_finite = m->results->known_finite && *r->finite;
    return MET_OK;
}

/* out[i] = x_i * d f(x_i) / d x_i, where x_i is the masked image; baselines are not read. */
static int run(const met_call *call, const void *options, met_results *results) {
    input_x_gradient m = {.pool = call->options->pool, .results = results};
    results->known_finite = true;
    met_job job = met_job_of(call, &m);
    (void)options;
    job.gradient = true;
    job.fold = fold;
    return met_run(&job, call->model, call->options, call->report);
}

static const met_argument arguments[] = {{.name = NULL}};

static bool multiplies(const void *options) {
    (void)options;
    return true;
}

static const met_nesting nesting = {.of_gradient = true, .multiplies = multiplies};

const met_method met_input_x_gradient = {
    .name = "input_x_gradient",
    .doc = "Each masked image times the gradient of the target output.\n"
           "Source: Shrikumar et al., 2016 (arXiv:1605.01713).",
    .arguments = arguments,
    .run = run,
    .nesting = &nesting,
};
