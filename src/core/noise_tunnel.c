/*
 * noise_tunnel.c - moments of the attributions of disturbed images.
 *
 * Saliency and input x gradient take one gradient a sample: the disturbed image is a sample of the engine, and the
 * moments are folded as gradients come. Any other explainer runs as a job of its own on a group of disturbed images.
 * Either way memory holds the moments and one chunk or group, whatever the numbers of samples and steps.
 *
 * Sources: SmoothGrad, Smilkov et al., 2017 (arXiv:1706.03825); its square, Hooker et al., NeurIPS 2019
 * (arXiv:1806.10758); VarGrad, Adebayo et al., NeurIPS 2018 (arXiv:1810.03307).
 */
#include "engine.h"
#include "methods.h"

#include <string.h>

/* The precision is looked at after this many samples, and whenever their number has doubled. */
#define FIRST_LOOK 8
/* A group of disturbed images ends where the precision is looked at, and takes no more than this or one image. */
#define GROUP_MOST FIRST_LOOK
#define GROUP_BYTES ((size_t)32 << 20)

typedef struct tunnel {
    const met_noise_tunnel_options *options;
    const met_input *inputs;
    met_dtype dtype;
    const met_options *run;
    met_report *report;
    void *const *out;
    size_t size;
    bool product;          /* the attribution is the disturbed image times what the inner explainer gives */
    bool linear;           /* the result is the mean of the gradients, and nothing more is wanted of them */
    met_reducer values;    /* of v, or of v^2 for MET_MEAN_SQUARE */
    met_reducer gradients; /* slopes of a product: of g */
    met_reducer slopes;    /* slopes of its square: of v g */
    met_buffer *kept;      /* (size,) g where the sample depends on the image */
    uint8_t *dropped;      /* (bands,) */
} tunnel;

/* ---- what the samples are */

int met_draw_bands(uint64_t seed, size_t k, double probability, size_t exact, size_t bands, uint8_t *dropped) {
    const met_stream stream = {seed, k};
    if (exact != SIZE_MAX) {
        return met_choose(stream, bands, exact, dropped);
    }
    for (size_t b = 0; b < bands; b++) {
        double u;
        met_uniform(stream, b, 1, &u);
        dropped[b] = u < probability;
    }
    return MET_OK;
}

/* Sample k is the same for every image: the order of images makes no difference. */
static int describe(void *method, size_t image, size_t k, met_sample *s) {
    const tunnel *m = method;
    const met_noise_tunnel_options *o = m->options;
    if (o->kind == MET_NOISE) {
        s->noise = (met_stream){o->seed, k};
        s->stdev = o->stdev[image];
        memcpy(s->selected, o->selected, sizeof s->selected);
        return MET_OK;
    }
    const met_image *view = &m->inputs[image].image;
    s->dropped = s->scratch;
    return met_draw_bands(o->seed, k, o->probability, o->exact, view->shape[view->bands], s->scratch);
}

/* ---- moments */

/* g, but 0 in the bands that sample k of an image replaces: there it does not depend on the image. */
static int kept_gradient(tunnel *m, size_t image, size_t k, const void **g) {
    if (m->options->kind != MET_BANDS) {
        return MET_OK;
    }
    const met_image *view = &m->inputs[image].image;
    met_base zero = {.dtype = m->dtype, .bands = view->bands};
    met_sample s = {.kind = MET_BANDS, .scratch = m->dropped};
    memcpy(zero.shape, view->shape, sizeof zero.shape);
    memcpy(met_buffer_data(m->kept), *g, m->size * met_dtype_size(m->dtype));
    int status = describe(m, image, k, &s);
    if (status == MET_OK) {
        met_sample_apply(&zero, &s, met_buffer_data(m->kept));
        *g = met_buffer_data(m->kept);
    }
    return status;
}

/*
 * Take the inner explainer's answer for sample k of an image.
 *   g       (size,) its attributions; where they are to be multiplied by the sample, those without it
 *   sample  (size,) the disturbed image; only where there is a product
 */
static int add(tunnel *m, size_t image, size_t k, const void *g, const void *sample) {
    const met_parallel *pool = m->run->pool;
    const met_moment moment = m->options->moment;
    met_factors v = {.value = g, .times = m->product ? sample : NULL, .squared = moment == MET_MEAN_SQUARE};
    met_reducer_add_product(&m->values, m->dtype, &v, 1.0, pool);
    if (m->options->slope == NULL || !m->product) {
        return MET_OK;
    }
    int status = kept_gradient(m, image, k, &g);
    if (status == MET_OK && moment != MET_MEAN_SQUARE) {
        met_reducer_add(&m->gradients, m->dtype, g, 1.0, pool);
    }
    if (status == MET_OK && moment != MET_MEAN) {
        v.squared = false;
        v.after = g;
        met_reducer_add_product(&m->slopes, m->dtype, &v, 1.0, pool);
    }
    return status;
}

/* Whether the samples taken so far are as precise as was asked for. */
static bool enough(void *method, size_t image, size_t k) {
    const tunnel *m = method;
    (void)image;
    size_t n = k + 1;
    bool look = n >= FIRST_LOOK && (n & (n - 1)) == 0;
    return m->options->tolerance > 0 && look && met_reducer_precision(&m->values) <= m->options->tolerance;
}

/* d out / d image = mean(g), 2 mean(v g) or 2 mean(v g) - 2 mean(v) mean(g); 0 where there is no product. */
static void write_slope(const tunnel *m, void *out) {
    const met_moment moment = m->options->moment;
    if (!m->product) {
        memset(out, 0, m->size * met_dtype_size(m->dtype));
        return;
    }
    if (moment == MET_MEAN) {
        met_reducer_read(&m->gradients, MET_MEAN, m->dtype, m->run->pool, out);
        return;
    }
    const double n = m->slopes.weight;
    for (size_t i = 0; i < m->size; i++) {
        double slope = m->slopes.sum[i] / n;
        slope -= moment == MET_VARIANCE ? m->values.sum[i] / n * m->gradients.sum[i] / n : 0.0;
        if (m->dtype == MET_FLOAT64) {
            ((double *)out)[i] = 2.0 * slope;
        } else {
            ((float *)out)[i] = (float)(2.0 * slope);
        }
    }
}

/* Write the results of an image and start afresh. */
static int finish(void *method, size_t image, const met_base *base) {
    tunnel *m = method;
    const met_noise_tunnel_options *o = m->options;
    const met_parallel *pool = m->run->pool;
    (void)base;
    if (!m->linear) { /* else the engine has written it */
        const met_moment moment = o->moment == MET_VARIANCE ? MET_VARIANCE : MET_MEAN;
        met_reducer_read(&m->values, moment, m->dtype, pool, m->out[image]);
    }
    if (o->error != NULL) {
        met_reducer_read(&m->values, MET_STANDARD_ERROR, m->dtype, pool, o->error[image]);
    }
    if (o->slope != NULL) {
        write_slope(m, o->slope[image]);
    }
    if (o->used != NULL) {
        o->used[image] = m->linear ? o->samples : (size_t)m->values.weight;
    }
    met_reducer_clear(&m->values);
    met_reducer_clear(&m->gradients);
    met_reducer_clear(&m->slopes);
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    return add(method, r->image, r->k, r->gradient, r->sample);
}

/* ---- gradients that are only averaged: the engine sums them, or a shortcut does */

static double mean_weight(void *method, size_t k) {
    const tunnel *m = method;
    (void)k;
    return 1.0 / (double)m->options->samples;
}

/* ---- the two ways */

/* One gradient a sample: disturbed images are samples of the engine. */
static int run_gradients(tunnel *m, size_t images, const met_model *model) {
    const met_image *first = &m->inputs[0].image;
    met_job job = {.method = m,
                   .inputs = m->inputs,
                   .images = images,
                   .evaluations = m->options->samples,
                   .dtype = m->dtype,
                   .kind = m->options->kind,
                   .gradient = true,
                   .reads_sample = m->product,
                   .scratch = first->shape[first->bands],
                   .describe = describe,
                   .fold = fold,
                   .enough = enough,
                   .finish = finish};
    if (m->linear) {
        job.fold = NULL;
        job.enough = NULL;
        job.weight = mean_weight;
        job.sums = m->out;
    }
    return met_run(&job, model, m->run, m->report);
}

/* Run the inner explainer on a group of disturbed images. */
static int explain(const tunnel *m, const met_input *inputs, size_t n, const met_model *model,
                   const met_options *options, void *const *out) {
    const met_noise_tunnel_options *o = m->options;
    if (o->inner == MET_INNER_INTEGRATED_GRADIENTS) {
        met_integrated_gradients_options method = o->integrated_gradients;
        method.multiply_by_inputs = false; /* add() multiplies: the baseline is 0 */
        method.delta = NULL;
        return met_integrated_gradients(inputs, n, m->dtype, &method, model, options, out, m->report);
    }
    const met_occlusion_options method = {.windows = o->windows};
    met_occlusion_result result;
    int status = met_occlusion(inputs, n, m->dtype, &method, model, options, &result, m->report);
    if (status != MET_OK) {
        return status;
    }
    size_t windows = met_windows_number(&o->windows);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        status = met_windows_mean(&o->windows, result.differences + i * windows, m->dtype, options->pool, out[i]);
    }
    met_deallocate(result.differences);
    return status;
}

/* Evaluations that the inner explainer makes for one disturbed image. */
static size_t inner_evaluations(const met_noise_tunnel_options *o) {
    return o->inner == MET_INNER_OCCLUSION ? met_windows_number(&o->windows) + 1 : o->integrated_gradients.steps;
}

/* A group of disturbed images with their attributions. */
typedef struct group {
    size_t room;
    met_buffer *samples;      /* (room, size) */
    met_buffer *attributions; /* (room, size) */
    met_input *inputs;        /* (room,) */
    void **out;               /* (room,) */
    uint8_t *dropped;         /* (bands,) */
} group;

static void group_free(group *g) {
    met_buffer_release(g->samples);
    met_buffer_release(g->attributions);
    met_deallocate(g->inputs);
    met_deallocate(g->out);
    met_deallocate(g->dropped);
}

static int group_new(const tunnel *m, group *g) {
    const met_image *first = &m->inputs[0].image;
    size_t bytes = m->size * met_dtype_size(m->dtype);
    *g = (group){.room = GROUP_BYTES / bytes};
    g->room = g->room < 1 ? 1 : g->room > GROUP_MOST ? GROUP_MOST : g->room;
    g->room = g->room > m->options->samples ? m->options->samples : g->room;
    g->inputs = met_allocate(g->room, sizeof *g->inputs);
    g->out = met_allocate(g->room, sizeof *g->out);
    g->dropped = met_allocate(first->shape[first->bands], 1);
    if (g->inputs == NULL || g->out == NULL || g->dropped == NULL) {
        return met_fail(MET_ENOMEM, "a group of %zu disturbed images does not fit into memory", g->room);
    }
    int status = met_buffer_new(g->room * bytes, "disturbed images", &m->report->memory, &g->samples);
    if (status == MET_OK) {
        status = met_buffer_new(g->room * bytes, "their attributions", &m->report->memory, &g->attributions);
    }
    for (size_t j = 0; j < g->room && status == MET_OK; j++) {
        met_image *view = &g->inputs[j].image;
        *view = (met_image){.data = (uint8_t *)met_buffer_data(g->samples) + j * bytes, .dtype = m->dtype};
        memcpy(view->shape, first->shape, sizeof view->shape);
        view->bands = first->bands;
        view->strides[2] = (ptrdiff_t)met_dtype_size(m->dtype);
        view->strides[1] = view->strides[2] * (ptrdiff_t)view->shape[2];
        view->strides[0] = view->strides[1] * (ptrdiff_t)view->shape[1];
        g->out[j] = (uint8_t *)met_buffer_data(g->attributions) + j * bytes;
    }
    return status;
}

/* Samples [k, k + n) of an image: disturb, explain, add. *stop: the method has enough. */
static int run_group(tunnel *m, group *g, const met_base *base, size_t image, size_t k, size_t n,
                     const met_model *model, const met_options *options, bool *stop) {
    int status = MET_OK;
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        met_sample s = {.kind = m->options->kind, .image = image, .scratch = g->dropped};
        status = describe(m, image, k + j, &s);
        if (status == MET_OK) {
            met_sample_render(base, &s, m->run->pool, (void *)g->inputs[j].image.data);
            g->inputs[j].target = m->inputs[image].target;
            g->inputs[j].origin = m->inputs[image].origin;
        }
    }
    if (status == MET_OK) {
        status = explain(m, g->inputs, n, model, options, g->out);
    }
    for (size_t j = 0; j < n && status == MET_OK && !*stop; j++) {
        status = add(m, image, k + j, g->out[j], g->inputs[j].image.data);
        *stop = status == MET_OK && enough(m, image, k + j);
    }
    return status;
}

/* Any explainer: a job of its own for each group of disturbed images. */
static int run_jobs(tunnel *m, size_t images, const met_model *model) {
    const size_t evaluations = inner_evaluations(m->options);
    const size_t samples = m->options->samples;
    met_readable readable = {0};
    group g;
    int status = group_new(m, &g);
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        met_base base;
        bool stop = false;
        status = met_read_input(&readable, &m->inputs[i], m->dtype, m->run->pool, &m->report->memory, &base);
        for (size_t k = 0; k < samples && status == MET_OK && !stop;) {
            const size_t n = g.room < samples - k ? g.room : samples - k;
            met_options options = *m->run;
            options.before += (i * samples + k) * evaluations;
            options.after += (images * samples - i * samples - k - n) * evaluations;
            status = run_group(m, &g, &base, i, k, n, model, &options, &stop);
            k += n;
        }
        status = status == MET_OK ? finish(m, i, &base) : status;
    }
    met_readable_free(&readable);
    group_free(&g);
    return status;
}

static int check(const met_noise_tunnel_options *o) {
    if (o->samples < 1) {
        return met_fail(MET_EVALUE, "n_samples must be at least 1");
    }
    if (o->moment == MET_VARIANCE && (o->error != NULL || o->tolerance > 0)) {
        return met_fail(MET_EVALUE, "standard_error and tolerance are for means: method smoothgrad or smoothgrad_sq, "
                                    "not vargrad");
    }
    if (o->error != NULL && o->samples < 2) {
        return met_fail(MET_EVALUE, "standard_error needs n_samples of at least 2");
    }
    return MET_OK;
}

/*
 * out[i] = a moment, over samples s, of A(x_i disturbed by s), where A is the inner explainer.
 *   inputs  (images,) images of one shape; baselines are what dropped bands take, masked by the caller
 *   out     (images,) pointers to (size,) values of dtype, the caller's memory
 */
int met_noise_tunnel(const met_input *inputs, size_t images, met_dtype dtype, const met_noise_tunnel_options *method,
                     const met_model *model, const met_options *options, void *const *out, met_report *report) {
    tunnel m = {.options = method, .inputs = inputs, .dtype = dtype, .run = options, .report = report, .out = out};
    const double start = met_seconds();
    const double before = report->seconds;
    int status = check(method);
    if (status != MET_OK) {
        return status;
    }
    m.size = images > 0 ? met_image_size(&inputs[0].image) : 0;
    if (m.size == 0) {
        return met_fail(MET_ESHAPE, "there is no image, or it is empty");
    }
    m.product = method->inner == MET_INNER_INPUT_X_GRADIENT ||
                (method->inner == MET_INNER_INTEGRATED_GRADIENTS && method->integrated_gradients.multiply_by_inputs);
    bool squares = method->moment == MET_VARIANCE || method->error != NULL || method->tolerance > 0;
    bool slope = method->slope != NULL && m.product;
    m.linear = method->inner == MET_INNER_SALIENCY && method->moment == MET_MEAN && !squares;
    status = m.linear ? MET_OK : met_reducer_new(m.size, squares, &report->memory, &m.values);
    if (status == MET_OK && slope && method->moment != MET_MEAN_SQUARE) {
        status = met_reducer_new(m.size, false, &report->memory, &m.gradients);
    }
    if (status == MET_OK && slope && method->moment != MET_MEAN) {
        status = met_reducer_new(m.size, false, &report->memory, &m.slopes);
    }
    if (status == MET_OK && slope && method->kind == MET_BANDS) {
        m.dropped = met_allocate(inputs[0].image.shape[inputs[0].image.bands], 1);
        status = m.dropped != NULL ? MET_OK : met_fail(MET_ENOMEM, "the flags of the bands do not fit into memory");
        if (status == MET_OK) {
            status = met_buffer_new(m.size * met_dtype_size(dtype), "a gradient", &report->memory, &m.kept);
        }
    }
    if (status == MET_OK) {
        bool gradient = method->inner == MET_INNER_SALIENCY || method->inner == MET_INNER_INPUT_X_GRADIENT;
        met_heap_hold(); /* through all the jobs inside */
        status = gradient ? run_gradients(&m, images, model) : run_jobs(&m, images, model);
        met_heap_release();
    }
    met_reducer_free(&m.values);
    met_reducer_free(&m.gradients);
    met_reducer_free(&m.slopes);
    met_buffer_release(m.kept);
    met_deallocate(m.dropped);
    report->seconds = before + met_seconds() - start; /* the jobs inside counted their own parts */
    return status;
}
