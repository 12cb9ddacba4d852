/*
 * input_x_gradient.c - the image times the gradient of the target output.
 * Source: Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box", 2016 (arXiv:1605.01713).
 */
#include "met.h"
#include "methods.h"

typedef struct input_x_gradient {
    const met_options *options;
    void *const *out;
} input_x_gradient;

static int fold(void *method, const met_result *r) {
    const input_x_gradient *m = method;
    met_times_image(r->base, false, r->gradient, m->options->pool, m->out[r->image]);
    return MET_OK;
}

/*
 * out[i] = x_i * d f(x_i) / d x_i, where x_i is the masked image.
 *   inputs  (images,) images of one shape; baselines are not read
 *   out     (images,) pointers to (size,) values of dtype, the caller's memory
 */
int met_input_x_gradient(const met_input *inputs, size_t images, met_dtype dtype, const met_model *model,
                         const met_options *options, void *const *out, met_report *report) {
    input_x_gradient m = {.options = options, .out = out};
    met_job job = met_gradient_job(inputs, images, dtype, &m);
    job.fold = fold;
    return met_run(&job, model, options, report);
}
