/* methods.h - what methods, samples and reducers share. Not part of the public header. */
#ifndef MET_METHODS_H
#define MET_METHODS_H

#include "met.h"

static inline size_t met_min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Number of values of an image. */
static inline size_t met_base_size(const met_base *base) {
    return base->shape[0] * base->shape[1] * base->shape[2];
}

/* describe() of jobs that evaluate the image as it is. */
static inline int met_describe_image(void *method, size_t image, size_t k, met_sample *s) {
    (void)method;
    (void)image;
    (void)k;
    s->kind = MET_IDENTITY;
    return MET_OK;
}

/* A job that asks for one gradient at each image; the method adds fold(). */
static inline met_job met_gradient_job(const met_input *inputs, size_t images, met_dtype dtype, void *method) {
    met_job job = {.method = method,
                   .inputs = inputs,
                   .images = images,
                   .evaluations = 1,
                   .dtype = dtype,
                   .kind = MET_IDENTITY,
                   .gradient = true,
                   .describe = met_describe_image};
    return job;
}

#endif
