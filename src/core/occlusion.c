/*
 * occlusion.c - what the output loses when a window of the image takes the baseline's values.
 * Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014 (arXiv:1311.2901).
 */
#include "met.h"

#include <string.h>

typedef struct occlusion {
    const met_occlusion_options *options;
    size_t images;
    size_t windows;
    size_t outputs;      /* 0: not known yet */
    double *image;       /* (images, outputs) f(x) */
    double *differences; /* (images, outputs, windows) */
    int axes;
    int64_t shape[MET_TARGET_AXES];
    size_t *position; /* (outputs,) of the wanted outputs among all; NULL: as they come */
} occlusion;

/* Evaluation 0 is the image, k is window k - 1. */
static int describe(void *method, size_t image, size_t k, met_sample *s) {
    const occlusion *m = method;
    (void)image;
    if (k == 0) {
        s->kind = MET_IDENTITY;
    } else {
        met_windows_box(&m->options->windows, k - 1, &s->box);
    }
    return MET_OK;
}

/* The first answer tells how many outputs there are, and where the wanted ones lie. */
static int take_outputs(occlusion *m, const met_result *r) {
    const met_occlusion_options *o = m->options;
    m->outputs = o->n_targets > 0 ? o->n_targets : r->width;
    m->axes = r->axes;
    memcpy(m->shape, r->shape, (size_t)r->axes * sizeof *r->shape);
    if (m->windows > SIZE_MAX / m->images / m->outputs) {
        return met_fail(MET_ENOMEM, "%zu windows of %zu outputs cannot be counted", m->windows, m->outputs);
    }
    m->image = met_allocate(m->images * m->outputs, sizeof *m->image);
    m->differences = met_allocate(m->images * m->outputs * m->windows, sizeof *m->differences);
    m->position = met_allocate(m->outputs, sizeof *m->position);
    if (m->image == NULL || m->differences == NULL || m->position == NULL) {
        return met_fail(MET_ENOMEM, "the differences of %zu windows for %zu outputs do not fit into memory", m->windows,
                        m->outputs);
    }
    for (size_t t = 0; t < m->outputs; t++) {
        m->position[t] = t;
        if (o->n_targets > 0) {
            int status = met_target_resolve(&o->targets[t], r->shape, r->axes, &m->position[t]);
            if (status != MET_OK) {
                return status;
            }
        }
    }
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    occlusion *m = method;
    if (r->value == NULL) { /* a copy of the image differs by 0, which is there already */
        return MET_OK;
    }
    int status = m->outputs == 0 ? take_outputs(m, r) : MET_OK;
    for (size_t t = 0; t < m->outputs && status == MET_OK; t++) {
        double *image = &m->image[r->image * m->outputs + t];
        if (r->k == 0) {
            *image = r->value[m->position[t]];
        } else {
            m->differences[(r->image * m->outputs + t) * m->windows + r->k - 1] = *image - r->value[m->position[t]];
        }
    }
    return status;
}

/*
 * differences[i, t, k] = f_t(x_i) - f_t(x_i with window k replaced by the baseline).
 * Windows that hold the baseline's values already are not evaluated: they differ by 0.
 *   inputs  (images,) images of one shape with their baselines
 *   out     on success, differences to be spread by met_windows_mean(); the caller frees them with met_deallocate()
 */
int met_occlusion(const met_input *inputs, size_t images, met_dtype dtype, const met_occlusion_options *method,
                  const met_model *model, const met_options *options, met_occlusion_result *out, met_report *report) {
    occlusion m = {.options = method, .images = images, .windows = met_windows_number(&method->windows)};
    met_job job = {.method = &m,
                   .inputs = inputs,
                   .images = images,
                   .evaluations = m.windows + 1,
                   .dtype = dtype,
                   .kind = MET_BOX,
                   .all_outputs = method->all_targets || method->n_targets > 0,
                   .skip_copies = true,
                   .describe = describe,
                   .fold = fold};
    int status = met_run(&job, model, options, report);
    met_deallocate(m.image);
    met_deallocate(m.position);
    if (status != MET_OK) {
        met_deallocate(m.differences);
        return status;
    }
    *out = (met_occlusion_result){.outputs = m.outputs, .axes = m.axes, .differences = m.differences};
    memcpy(out->shape, m.shape, sizeof out->shape);
    return MET_OK;
}
