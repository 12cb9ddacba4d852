/*
 * integrated_gradients.c - the gradient averaged on the straight path from the baseline to the image.
 * Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017 (arXiv:1703.01365).
 */
#include "integrated_gradients.h"
#include "reduce.h"

#include <stddef.h>

typedef struct integrated_gradients {
    met_rule rule;
    bool multiply_by_inputs;
    const met_parallel *pool;
    void *const *out;
    double *delta;
} integrated_gradients;

static int describe_step(void *method, size_t image, size_t k, met_sample *s) {
    const integrated_gradients *m = method;
    (void)image;
    s->alpha = met_rule_node(&m->rule, k);
    return MET_OK;
}

static double step_weight(void *method, size_t k) {
    return met_rule_weight(&((const integrated_gradients *)method)->rule, k);
}

static double sum_of(met_dtype dtype, size_t size, const void *values) {
    double sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += dtype == MET_FLOAT64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
    }
    return sum;
}

static int finish(void *method, size_t image, const met_base *base) {
    const integrated_gradients *m = method;
    if (m->multiply_by_inputs) {
        met_times_image(base, true, m->out[image], m->pool, m->out[image]);
    }
    if (m->delta != NULL) {
        m->delta[image] = sum_of(base->dtype, met_base_size(base), m->out[image]);
    }
    return MET_OK;
}

/* The end points: evaluation 0 is the image, 1 its baseline. */
static int describe_end(void *method, size_t image, size_t k, met_sample *s) {
    (void)method;
    (void)image;
    s->kind = k == 0 ? MET_IDENTITY : MET_LERP;
    s->alpha = 0;
    return MET_OK;
}

static int fold_end(void *method, const met_result *r) {
    const integrated_gradients *m = method;
    m->delta[r->image] += r->k == 0 ? -r->value[0] : r->value[0];
    return MET_OK;
}

/*
 * out[i] = (x_i - b_i) * sum_k w_k d f(b_i + a_k (x_i - b_i)) / d x, with nodes a_k and weights w_k of a rule on [0, 1].
 *   multiply  whether (x_i - b_i) is a factor
 *   delta     (images,) sum(out[i]) - (f(x_i) - f(b_i)), the error of completeness, or NULL
 */
static int integrate(const met_call *call, const met_integrated_gradients_options *options, bool multiply,
                     double *delta, void *const *out) {
    integrated_gradients m = {.multiply_by_inputs = multiply, .pool = call->options->pool, .out = out, .delta = delta};
    int status = met_rule_new((met_quadrature)options->rule, options->steps, &m.rule);
    if (status != MET_OK) {
        return status;
    }
    met_job job = met_job_of(call, &m);
    job.evaluations = options->steps;
    job.kind = MET_LERP;
    job.gradient = true;
    job.describe = describe_step;
    job.weight = step_weight;
    job.sums = out;
    job.finish = finish;
    met_options part = *call->options;
    part.evaluations_after += delta != NULL ? 2 * call->images : 0;
    status = met_run(&job, call->model, &part, call->report);
    if (status == MET_OK && delta != NULL) {
        part.evaluations_before += job.images * job.evaluations;
        part.evaluations_after = call->options->evaluations_after;
        met_job ends = met_job_of(call, &m);
        ends.evaluations = 2;
        ends.describe = describe_end;
        ends.fold = fold_end;
        status = met_run(&ends, call->model, &part, call->report);
    }
    met_rule_free(&m.rule);
    return status;
}

static int run(const met_call *call, const void *options, met_results *results) {
    const met_integrated_gradients_options *o = options;
    return integrate(call, o, o->multiply_by_inputs, o->delta, results->out);
}

static const met_argument arguments[] = {
    {"n_steps", MET_COUNT, .offset = offsetof(met_integrated_gradients_options, steps), .least = 1},
    {"method", MET_CHOICE, .offset = offsetof(met_integrated_gradients_options, rule), .choices = met_quadrature_names},
    {"multiply_by_inputs", MET_FLAG, .offset = offsetof(met_integrated_gradients_options, multiply_by_inputs)},
    {"delta", MET_RESULT_NUMBERS, .offset = offsetof(met_integrated_gradients_options, delta)},
    {.name = NULL},
};

/* ---- in a tunnel */

static bool multiplies(const void *options) {
    return ((const met_integrated_gradients_options *)options)->multiply_by_inputs;
}

static int run_without_factor(const met_call *call, const void *options, met_results *results) {
    return integrate(call, options, false, NULL, results->out);
}

static size_t evaluations(const met_call *call, const void *options) {
    (void)call;
    return ((const met_integrated_gradients_options *)options)->steps;
}

static const met_nesting nesting = {.multiplies = multiplies, .run = run_without_factor, .evaluations = evaluations};

const met_method met_integrated_gradients = {
    .name = "integrated_gradients",
    .doc = "Integrated gradients from each baseline to its image, and with delta the error of completeness.\n"
           "Source: Sundararajan et al., 2017 (arXiv:1703.01365).",
    .arguments = arguments,
    .options = sizeof(met_integrated_gradients_options),
    .baselines = true,
    .run = run,
    .nesting = &nesting,
};
