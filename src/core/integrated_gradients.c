/*
 * integrated_gradients.c - the gradient averaged on the straight way from the baseline to the image.
 * Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017 (arXiv:1703.01365).
 */
#include "met.h"
#include "methods.h"

typedef struct integrated_gradients {
    met_rule rule;
    bool multiply_by_inputs;
    const met_options *options;
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
        met_times_image(base, true, m->out[image], m->options->pool, m->out[image]);
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
 * The product with (x - b) is left out where method->multiply_by_inputs is false.
 *   inputs         (images,) images of one shape with their baselines
 *   out            (images,) pointers to (size,) values of dtype, the caller's memory
 *   method->delta  (images,) sum(out[i]) - (f(x_i) - f(b_i)), the error of completeness, or NULL
 */
int met_integrated_gradients(const met_input *inputs, size_t images, met_dtype dtype,
                             const met_integrated_gradients_options *method, const met_model *model,
                             const met_options *options, void *const *out, met_report *report) {
    integrated_gradients m = {
        .multiply_by_inputs = method->multiply_by_inputs, .options = options, .out = out, .delta = method->delta};
    int status = met_rule_new(method->quadrature, method->steps, &m.rule);
    if (status != MET_OK) {
        return status;
    }
    met_job job = {.method = &m,
                   .inputs = inputs,
                   .images = images,
                   .evaluations = method->steps,
                   .dtype = dtype,
                   .kind = MET_LERP,
                   .gradient = true,
                   .describe = describe_step,
                   .weight = step_weight,
                   .sums = out,
                   .finish = finish};
    met_options part = *options;
    part.after += method->delta != NULL ? 2 * images : 0;
    status = met_run(&job, model, &part, report);
    if (status == MET_OK && method->delta != NULL) {
        part.before += job.images * job.evaluations;
        part.after = options->after;
        met_job ends = {.method = &m,
                        .inputs = inputs,
                        .images = images,
                        .evaluations = 2,
                        .dtype = dtype,
                        .kind = MET_IDENTITY,
                        .describe = describe_end,
                        .fold = fold_end};
        status = met_run(&ends, model, &part, report);
    }
    met_rule_free(&m.rule);
    return status;
}
