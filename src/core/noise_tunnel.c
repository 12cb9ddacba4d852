/*
 * noise_tunnel.c - moments of the attributions of perturbed images.
 *
 * Saliency and input x gradient take one gradient a sample: the perturbed image is a sample of the engine, and the
 * moments are folded as gradients come. Any other explainer runs as a job of its own on a group of perturbed images.
 * Either way memory holds the moments and one chunk or group, whatever the numbers of samples and steps.
 *
 * Sources: SmoothGrad, Smilkov et al., 2017 (arXiv:1706.03825); its square, Hooker et al., NeurIPS 2019
 * (arXiv:1806.10758); VarGrad, Adebayo et al., NeurIPS 2018 (arXiv:1810.03307).
 */
#include "noise_tunnel.h"

#include "run.h"

#include <stddef.h>
#include <string.h>

/* The precision is looked at after this many samples, and whenever their number has doubled. */
#define FIRST_LOOK 8
/* A group of perturbed images ends where the precision is looked at, and takes no more than this or one image. */
#define GROUP_SAMPLES FIRST_LOOK
#define GROUP_BYTES ((size_t)32 << 20)

typedef struct tunnel {
    const met_call *call; /* whose inputs are `inputs` */
    const met_noise_tunnel_options *options;
    const met_input *inputs; /* baselines that are masked as their images are */
    met_kind kind;
    met_moment moment;
    void *const *out;
    size_t size;
    bool multiplies;         /* the attribution is the perturbed image times what the inner explainer gives */
    bool linear;             /* the result is the mean of the gradients, and nothing more is wanted of them */
    met_reducer values;      /* of v, or of v^2 for MET_MEAN_SQUARE */
    met_reducer gradients;   /* for the derivative of a product: of g */
    met_reducer derivatives; /* for the derivative of its square: of v g */
    met_buffer *kept;        /* (size,) g where the sample depends on the image */
    uint8_t *replaced;       /* (bands,) */
} tunnel;

/* ---- what the samples are */

int met_draw_bands(uint64_t seed, size_t k, double probability, size_t exact, size_t bands, uint8_t *replaced) {
    const met_stream stream = {seed, k};
    if (exact != SIZE_MAX) {
        return met_choose(stream, bands, exact, replaced);
    }
    for (size_t b = 0; b < bands; b++) {
        double u;
        met_uniform(stream, b, 1, &u);
        replaced[b] = u < probability;
    }
    return MET_OK;
}

/* Sample k is the same for every image: the order of images makes no difference. */
static int describe(void *method, size_t image, size_t k, met_sample *s) {
    const tunnel *m = method;
    const met_noise_tunnel_options *o = m->options;
    if (m->kind == MET_NOISE) {
        s->noise = (met_stream){o->seed, k};
        s->stdev = o->stdev[image];
        memcpy(s->selected, o->selected, sizeof s->selected);
        return MET_OK;
    }
    const met_image *view = &m->inputs[image].image;
    s->replaced = s->scratch;
    return met_draw_bands(o->seed, k, o->probability, o->exact, view->shape[view->bands], s->scratch);
}

/* ---- moments */

/* g, but 0 in the bands that sample k of an image replaces: there it does not depend on the image. */
static int kept_gradient(tunnel *m, size_t image, size_t k, const void **g) {
    if (m->kind != MET_BANDS) {
        return MET_OK;
    }
    const met_image *view = &m->inputs[image].image;
    met_base zero = {.dtype = m->call->dtype, .bands = view->bands};
    met_sample s = {.kind = MET_BANDS, .scratch = m->replaced};
    memcpy(zero.shape, view->shape, sizeof zero.shape);
    memcpy(met_buffer_data(m->kept), *g, m->size * met_dtype_size(m->call->dtype));
    int status = describe(m, image, k, &s);
    if (status == MET_OK) {
        met_sample_apply(&zero, &s, m->call->options->pool, met_buffer_data(m->kept));
        *g = met_buffer_data(m->kept);
    }
    return status;
}

/*
 * Take the inner explainer's attributions of sample k of an image.
 *   g       (size,) its attributions; where they are to be multiplied by the sample, those without it
 *   sample  (size,) the perturbed image; only where there is a product
 *   finite  whether all values are
 */
static int add(tunnel *m, size_t image, size_t k, const void *g, const void *sample, bool *finite) {
    const met_parallel *pool = m->call->options->pool;
    const met_moment moment = m->moment;
    met_factors v = {.value = g, .times = m->multiplies ? sample : NULL, .squared = moment == MET_MEAN_SQUARE};
    *finite = met_reducer_add_product(&m->values, m->call->dtype, &v, 1.0, pool);
    if (m->options->input_derivative == NULL || !m->multiplies) {
        return MET_OK;
    }
    int status = kept_gradient(m, image, k, &g);
    if (status == MET_OK && moment != MET_MEAN_SQUARE) {
        met_reducer_add(&m->gradients, m->call->dtype, g, 1.0, pool);
    }
    if (status == MET_OK && moment != MET_MEAN) {
        v.squared = false;
        v.after = g;
        met_reducer_add_product(&m->derivatives, m->call->dtype, &v, 1.0, pool);
    }
    return status;
}

/* Whether the samples taken so far are as precise as was asked for. */
static bool converged(void *method, size_t image, size_t k) {
    const tunnel *m = method;
    (void)image;
    size_t n = k + 1;
    bool look = n >= FIRST_LOOK && (n & (n - 1)) == 0;
    return m->options->tolerance > 0 && look && met_reducer_precision(&m->values) <= m->options->tolerance;
}

/* d out / d image = mean(g), 2 mean(v g) or 2 mean(v g) - 2 mean(v) mean(g); 0 where there is no product. */
static void write_derivative(const tunnel *m, void *out) {
    const met_moment moment = m->moment;
    if (!m->multiplies) {
        memset(out, 0, m->size * met_dtype_size(m->call->dtype));
        return;
    }
    if (moment == MET_MEAN) {
        met_reducer_read(&m->gradients, MET_MEAN, m->call->dtype, m->call->options->pool, out);
        return;
    }
    const double n = m->derivatives.weight;
    for (size_t i = 0; i < m->size; i++) {
        double derivative = m->derivatives.sum[i] / n;
        derivative -= moment == MET_VARIANCE ? m->values.sum[i] / n * m->gradients.sum[i] / n : 0.0;
        if (m->call->dtype == MET_FLOAT64) {
            ((double *)out)[i] = 2.0 * derivative;
        } else {
            ((float *)out)[i] = (float)(2.0 * derivative);
        }
    }
}

static int begin(void *method, size_t image) {
    tunnel *m = method;
    (void)image;
    met_reducer_clear(&m->values);
    met_reducer_clear(&m->gradients);
    met_reducer_clear(&m->derivatives);
    return MET_OK;
}

/* Write the results of an image. */
static int finish(void *method, size_t image, const met_base *base) {
    const tunnel *m = method;
    const met_noise_tunnel_options *o = m->options;
    const met_dtype dtype = m->call->dtype;
    const met_parallel *pool = m->call->options->pool;
    (void)base;
    if (!m->linear) { /* else the engine has written it */
        met_reducer_read(&m->values, m->moment == MET_VARIANCE ? MET_VARIANCE : MET_MEAN, dtype, pool, m->out[image]);
    }
    if (o->error != NULL) {
        met_reducer_read(&m->values, MET_STANDARD_ERROR, dtype, pool, o->error[image]);
    }
    if (o->input_derivative != NULL) {
        write_derivative(m, o->input_derivative[image]);
    }
    if (o->used != NULL) {
        o->used[image] = m->linear ? o->samples : (size_t)m->values.weight;
    }
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    return add(method, r->image, r->k, r->gradient, r->sample, r->finite);
}

/* ---- gradients that are only averaged: the engine sums them, or a shortcut does */

static double mean_weight(void *method, size_t k) {
    const tunnel *m = method;
    (void)k;
    return 1.0 / (double)m->options->samples;
}

/* ---- the two ways to explain samples */

/* One gradient a sample: perturbed images are samples of the engine. */
static int run_gradients(tunnel *m) {
    const met_image *first = &m->inputs[0].image;
    met_job job = met_job_of(m->call, m);
    job.inputs = m->inputs;
    job.evaluations = m->options->samples;
    job.kind = m->kind;
    job.gradient = true;
    job.reads_sample = m->multiplies;
    job.scratch = first->shape[first->bands];
    job.describe = describe;
    job.begin = begin;
    job.finish = finish;
    if (m->linear) {
        job.weight = mean_weight;
        job.sums = m->out;
    } else {
        job.fold = fold;
        job.converged = converged;
    }
    return met_run(&job, m->call->model, m->call->options, m->call->report);
}

/* A group of perturbed images with their attributions. */
typedef struct group {
    size_t capacity;
    met_buffer *samples;      /* (capacity, size) */
    met_buffer *attributions; /* (capacity, size) */
    met_input *inputs;        /* (capacity,) */
    void **out;               /* (capacity,) */
    uint8_t *replaced;        /* (bands,) */
} group;

static void group_free(group *g) {
    met_buffer_release(g->samples);
    met_buffer_release(g->attributions);
    met_deallocate(g->inputs);
    met_deallocate(g->out);
    met_deallocate(g->replaced);
}

static int group_new(const tunnel *m, group *g) {
    const met_image *first = &m->inputs[0].image;
    size_t bytes = m->size * met_dtype_size(m->call->dtype);
    *g = (group){.capacity = GROUP_BYTES / bytes};
    g->capacity = g->capacity < 1 ? 1 : g->capacity > GROUP_SAMPLES ? GROUP_SAMPLES : g->capacity;
    g->capacity = g->capacity > m->options->samples ? m->options->samples : g->capacity;
    g->inputs = met_allocate(g->capacity, sizeof *g->inputs);
    g->out = met_allocate(g->capacity, sizeof *g->out);
    g->replaced = met_allocate(first->shape[first->bands], 1);
    if (g->inputs == NULL || g->out == NULL || g->replaced == NULL) {
        return met_fail(MET_ENOMEM, "a group of %zu perturbed images does not fit into memory", g->capacity);
    }
    int status = met_buffer_new(g->capacity * bytes, "perturbed images", &m->call->report->memory, &g->samples);
    if (status == MET_OK) {
        status = met_buffer_new(g->capacity * bytes, "their attributions", &m->call->report->memory, &g->attributions);
    }
    for (size_t j = 0; j < g->capacity && status == MET_OK; j++) {
        met_image *view = &g->inputs[j].image;
        *view = (met_image){.data = (uint8_t *)met_buffer_data(g->samples) + j * bytes, .dtype = m->call->dtype};
        memcpy(view->shape, first->shape, sizeof view->shape);
        view->bands = first->bands;
        view->strides[2] = (ptrdiff_t)met_dtype_size(m->call->dtype);
        view->strides[1] = view->strides[2] * (ptrdiff_t)view->shape[2];
        view->strides[0] = view->strides[1] * (ptrdiff_t)view->shape[1];
        g->out[j] = (uint8_t *)met_buffer_data(g->attributions) + j * bytes;
    }
    return status;
}

/* Samples [k, k + n) of an image: perturb, explain, add. *stop: the method has converged. */
static int run_group(tunnel *m, group *g, const met_base *base, size_t image, size_t k, size_t n,
                     const met_options *options, bool *stop) {
    const met_nested *inner = &m->options->inner;
    met_call call = *m->call;
    met_results results = {.out = g->out, .outputs = 1};
    int status = MET_OK;
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        met_sample s = {.kind = m->kind, .image = image, .scratch = g->replaced};
        status = describe(m, image, k + j, &s);
        if (status == MET_OK) {
            met_sample_render(base, &s, m->call->options->pool, (void *)g->inputs[j].image.data);
            g->inputs[j].target = m->inputs[image].target;
            g->inputs[j].origin = m->inputs[image].origin;
        }
    }
    if (status == MET_OK) {
        call.inputs = g->inputs;
        call.images = n;
        call.options = options;
        status = inner->method->nesting->run(&call, inner->options, &results);
    }
    for (size_t j = 0; j < n && status == MET_OK && !*stop; j++) {
        bool finite;
        status = add(m, image, k + j, g->out[j], g->inputs[j].image.data, &finite);
        *stop = status == MET_OK && converged(m, image, k + j);
    }
    return status;
}

/* Any explainer: a run of its own for each group of perturbed images. */
static int run_groups(tunnel *m) {
    const met_call *call = m->call;
    const met_nested *inner = &m->options->inner;
    const size_t evaluations = inner->method->nesting->evaluations(call, inner->options);
    const size_t images = call->images, samples = m->options->samples;
    met_readable readable = {0};
    group g;
    int status = group_new(m, &g);
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        met_base base;
        bool stop = false;
        status =
            met_read_input(&readable, &m->inputs[i], call->dtype, call->options->pool, &call->report->memory, &base);
        begin(m, i);
        for (size_t k = 0; k < samples && status == MET_OK && !stop;) {
            const size_t n = g.capacity < samples - k ? g.capacity : samples - k;
            met_options options = *call->options;
            options.evaluations_before += (i * samples + k) * evaluations;
            options.evaluations_after += (images * samples - i * samples - k - n) * evaluations;
            status = run_group(m, &g, &base, i, k, n, &options, &stop);
            k += n;
        }
        status = status == MET_OK ? finish(m, i, &base) : status;
        if (status == MET_OK && stop && call->options->progress != NULL) { /* samples that are not needed are done */
            const met_options *o = call->options;
            const size_t total = o->evaluations_before + images * samples * evaluations + o->evaluations_after;
            status = o->progress(o->progress_ctx, o->evaluations_before + (i + 1) * samples * evaluations, total);
        }
    }
    met_readable_free(&readable);
    group_free(&g);
    return status;
}

static int check(const met_noise_tunnel_options *o) {
    if (o->inner.method == NULL || o->inner.method->nesting == NULL) {
        return met_fail(MET_EVALUE, "inner must be a method that nests in a tunnel, which %s does not",
                        o->inner.method == NULL ? "none" : o->inner.method->name);
    }
    if (o->samples < 1) {
        return met_fail(MET_EVALUE, "n_samples must be at least 1");
    }
    if (o->moment == MET_VARGRAD && (o->error != NULL || o->tolerance > 0)) {
        return met_fail(MET_EVALUE, "standard_error and tolerance are for means: method smoothgrad or smoothgrad_sq, "
                                    "not vargrad");
    }
    if (o->error != NULL && o->samples < 2) {
        return met_fail(MET_EVALUE, "standard_error needs n_samples of at least 2");
    }
    return MET_OK;
}

/* The accumulators that the moment and the further results need. */
static int allocate(tunnel *m, bool squares, bool derivative) {
    const met_image *first = &m->inputs[0].image;
    met_account *account = &m->call->report->memory;
    int status = m->linear ? MET_OK : met_reducer_new(m->size, squares, account, &m->values);
    if (status == MET_OK && derivative && m->moment != MET_MEAN_SQUARE) {
        status = met_reducer_new(m->size, false, account, &m->gradients);
    }
    if (status == MET_OK && derivative && m->moment != MET_MEAN) {
        status = met_reducer_new(m->size, false, account, &m->derivatives);
    }
    if (status == MET_OK && derivative && m->kind == MET_BANDS) {
        m->replaced = met_allocate(first->shape[first->bands], 1);
        status = m->replaced == NULL
                     ? met_fail(MET_ENOMEM, "the flags of the bands do not fit into memory")
                     : met_buffer_new(m->size * met_dtype_size(m->call->dtype), "a gradient", account, &m->kept);
    }
    return status;
}

/* out[i] = a moment, over samples s, of A(x_i perturbed by s), where A is the inner explainer. */
static int run(const met_call *call, const void *options, met_results *results) {
    static const met_moment moment_of[] = {
        [MET_SMOOTHGRAD] = MET_MEAN, [MET_SMOOTHGRAD_SQ] = MET_MEAN_SQUARE, [MET_VARGRAD] = MET_VARIANCE};
    const met_noise_tunnel_options *o = options;
    const double start = met_seconds();
    const double before = call->report->seconds;
    int status = check(o);
    if (status != MET_OK) {
        return status;
    }
    const met_nesting *nesting = o->inner.method->nesting;
    met_input *inputs = met_allocate(call->images, sizeof *inputs);
    if (inputs == NULL) {
        return met_fail(MET_ENOMEM, "%zu images do not fit into memory", call->images);
    }
    memcpy(inputs, call->inputs, call->images * sizeof *inputs);
    if (o->perturbation == MET_PERTURB_BANDS) {
        for (size_t i = 0; i < call->images; i++) {
            met_mask_baseline(&inputs[i], &call->inputs[i].baseline_value);
        }
    }
    tunnel m = {.call = call, .options = o, .inputs = inputs, .out = results->out};
    m.kind = o->perturbation == MET_PERTURB_BANDS ? MET_BANDS : MET_NOISE;
    m.moment = moment_of[o->moment];
    m.size = met_image_size(&inputs[0].image);
    m.multiplies = nesting->multiplies != NULL && nesting->multiplies(o->inner.options);
    const bool squares = m.moment == MET_VARIANCE || o->error != NULL || o->tolerance > 0;
    m.linear = nesting->of_gradient && !m.multiplies && m.moment == MET_MEAN && !squares;
    status = allocate(&m, squares, o->input_derivative != NULL && m.multiplies);
    if (status == MET_OK) {
        status = nesting->of_gradient ? run_gradients(&m) : run_groups(&m);
    }
    met_reducer_free(&m.values);
    met_reducer_free(&m.gradients);
    met_reducer_free(&m.derivatives);
    met_buffer_release(m.kept);
    met_deallocate(m.replaced);
    met_deallocate(inputs);
    call->report->seconds = before + met_seconds() - start; /* the runs inside counted their own parts */
    return status;
}

static const char *const perturbations[] = {"noise", "bands", NULL};
static const char *const moments[] = {"smoothgrad", "smoothgrad_sq", "vargrad", NULL};

static const met_argument arguments[] = {
    {"perturbation", MET_CHOICE, .offset = offsetof(met_noise_tunnel_options, perturbation), .choices = perturbations},
    {"method", MET_CHOICE, .offset = offsetof(met_noise_tunnel_options, moment), .choices = moments},
    {"n_samples", MET_COUNT, .offset = offsetof(met_noise_tunnel_options, samples), .least = 1},
    {"seed", MET_SEED, .offset = offsetof(met_noise_tunnel_options, seed)},
    {"stdevs", MET_NUMBERS, .offset = offsetof(met_noise_tunnel_options, stdev)},
    {"selected", MET_AXIS_FLAGS, .offset = offsetof(met_noise_tunnel_options, selected)},
    {"probability", MET_NUMBER, .offset = offsetof(met_noise_tunnel_options, probability)},
    {"exact", MET_COUNT, .offset = offsetof(met_noise_tunnel_options, exact)},
    {"inner", MET_METHOD, .offset = offsetof(met_noise_tunnel_options, inner)},
    {"tolerance", MET_NUMBER, .offset = offsetof(met_noise_tunnel_options, tolerance)},
    {"standard_error", MET_RESULT_ARRAYS, .offset = offsetof(met_noise_tunnel_options, error)},
    {"input_derivative", MET_RESULT_ARRAYS, .offset = offsetof(met_noise_tunnel_options, input_derivative)},
    {"samples_used", MET_RESULT_COUNTS, .offset = offsetof(met_noise_tunnel_options, used)},
    {.name = NULL},
};

const met_method met_noise_tunnel = {
    .name = "noise_tunnel",
    .doc = "A moment of the attributions of perturbed images, by another method.\n"
           "Sources: Smilkov et al., 2017 (arXiv:1706.03825); Hooker et al., 2019 (arXiv:1806.10758); Adebayo et al.,\n"
           "2018 (arXiv:1810.03307).",
    .arguments = arguments,
    .options = sizeof(met_noise_tunnel_options),
    .baselines = true,
    .run = run,
};
