/*
 * saliency.c - the gradient of the target output with respect to the image, by default its absolute value.
 * Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013 (arXiv:1312.6034).
 */
#include "met.h"
#include "methods.h"

#include <string.h>

typedef struct saliency {
    bool absolute;
    const met_options *options;
    void *const *out;
} saliency;

static int fold(void *method, const met_result *r) {
    const saliency *m = method;
    size_t size = met_base_size(r->base);
    if (m->absolute) {
        met_absolute(r->base->dtype, size, r->gradient, m->options->pool, m->out[r->image]);
    } else {
        memcpy(m->out[r->image], r->gradient, size * met_dtype_size(r->base->dtype));
    }
    return MET_OK;
}

/*
 * out[i] = |d f(x_i) / d x_i|, or the signed gradient where method->absolute is false.
 *   inputs  (images,) images of one shape; baselines are not read
 *   out     (images,) pointers to (size,) values of dtype, the caller's memory
 */
int met_saliency(const met_input *inputs, size_t images, met_dtype dtype, const met_saliency_options *method,
                 const met_model *model, const met_options *options, void *const *out, met_report *report) {
    saliency m = {.absolute = method->absolute, .options = options, .out = out};
    met_job job = met_gradient_job(inputs, images, dtype, &m);
    job.fold = fold;
    return met_run(&job, model, options, report);
}
