#include "script.h"

#include <string.h>

double script_images[IMAGES][TOY_SIZE];
double script_baselines[IMAGES][TOY_SIZE];
met_input script_inputs[IMAGES];

void script_make_inputs(void) {
    for (size_t i = 0; i < IMAGES; i++) {
        for (size_t v = 0; v < TOY_SIZE; v++) {
            script_images[i][v] = toy_value(i, v);
            script_baselines[i][v] = toy_value(10 + i, v);
        }
        script_inputs[i] = toy_input(script_images[i], MET_FLOAT64);
        script_inputs[i].baseline = toy_input(script_baselines[i], MET_FLOAT64).image;
        script_inputs[i].target.index[0] = (int64_t)i;
        script_inputs[i].origin = script_inputs[i].stream = i;
    }
}

static int describe(void *method, size_t image, size_t k, met_sample *s) {
    script *m = method;
    s->alpha = (double)k / SAMPLES;
    s->box = (met_box){{k % 3, k % 2, 0}, {k % 3 + 1, k % 2 + 2, 1 + (k + image) % 5}};
    s->segments = &m->segments;
    s->replaced = m->replaced[k];
    if (s->scratch != NULL && m->kind == MET_BANDS) { /* bands through scratch: each sample has a piece of its own */
        for (size_t b = 0; b < 3; b++) {
            s->scratch[b] = (uint8_t)((k >> b) & 1);
        }
        s->replaced = s->scratch;
    }
    return MET_OK;
}

/* An image starts, perhaps again: what was told of it before is void. */
static int begin(void *method, size_t image) {
    script *m = method;
    m->in_order = m->in_order && image <= m->finished;
    m->begun[image]++;
    m->folded = image * SAMPLES;
    m->finished = image;
    memset(m->times[image], 0, sizeof m->times[image]);
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    script *m = method;
    m->in_order = m->in_order && m->folded == r->image * SAMPLES + r->k;
    m->folded++;
    m->times[r->image][r->k]++;
    if (r->value == NULL) {
        m->copies++;
        return m->fold_status;
    }
    m->lost[r->image][r->k] = r->reference != NULL ? r->reference[0] - r->value[0] : 0;
    m->width = r->width;
    memcpy(m->value[r->image][r->k], r->value, r->width * sizeof(double));
    return m->fold_status;
}

static bool converged(void *method, size_t image, size_t k) {
    const script *m = method;
    (void)image;
    return k + 1 == m->enough;
}

static int finish(void *method, size_t image, const met_base *base) {
    script *m = method;
    m->in_order = m->in_order && m->finished == image && m->folded == (image + 1) * SAMPLES;
    m->in_order = m->in_order && ((const double *)base->image)[7] == script_images[image][7];
    m->finished++;
    return MET_OK;
}

met_job script_job(script *m, met_kind kind) {
    memset(m, 0, sizeof *m);
    m->kind = kind;
    m->in_order = true;
    for (size_t v = 0; v < TOY_SIZE; v++) {
        m->ids[v] = (int32_t)(v * 7 % 4);
    }
    m->segments = (met_segments){m->ids, {20, 5, 1}, 4};
    for (size_t k = 0; k < SAMPLES; k++) {
        for (size_t f = 0; f < 4; f++) {
            m->replaced[k][f] = (uint8_t)((k * 5 >> f) & 1);
        }
    }
    return (met_job){.method = m,
                     .inputs = script_inputs,
                     .images = IMAGES,
                     .evaluations = SAMPLES,
                     .dtype = MET_FLOAT64,
                     .kind = kind,
                     .scratch = 3,
                     .describe = describe,
                     .begin = begin,
                     .fold = fold,
                     .converged = converged,
                     .finish = finish};
}

static double weight(void *method, size_t k) {
    (void)method;
    return 1.0 + (double)k;
}

/* Without fold() nothing tells how far the image is. */
static int finish_sum(void *method, size_t image, const met_base *base) {
    script *m = method;
    m->in_order = m->in_order && m->finished == image;
    m->in_order = m->in_order && ((const double *)base->image)[7] == script_images[image][7];
    m->finished++;
    return MET_OK;
}

met_job script_gradient_job(script *m, met_kind kind) {
    met_job job = script_job(m, kind);
    for (size_t i = 0; i < IMAGES; i++) {
        m->sums[i] = m->sum[i];
    }
    job.gradient = true;
    job.weight = weight;
    job.sums = m->sums;
    job.fold = NULL;
    job.converged = NULL;
    job.finish = finish_sum;
    return job;
}

met_job script_begin(script *m, toy *t, bool shortcut, bool gradient, met_kind kind) {
    script_make_inputs();
    toy_init(t, shortcut);
    return gradient ? script_gradient_job(m, kind) : script_job(m, kind);
}

/* Describe a sample outside of the engine; scratch (3,) outlives it. */
static met_base describe_base(const met_job *job, size_t image, size_t k, uint8_t *scratch, met_sample *s) {
    const met_base base = {
        .dtype = MET_FLOAT64, .shape = TOY_SHAPE, .image = script_images[image], .baseline = script_baselines[image]};
    *s = (met_sample){.kind = job->kind, .image = image, .scratch = scratch};
    describe(job->method, image, k, s);
    return base;
}

void script_sample(const met_job *job, size_t image, size_t k, double x[TOY_SIZE]) {
    uint8_t scratch[3];
    met_sample s;
    const met_base base = describe_base(job, image, k, scratch, &s);
    met_sample_render(&base, &s, NULL, x);
}

bool script_is_copy(const met_job *job, size_t image, size_t k) {
    double x[TOY_SIZE];
    script_sample(job, image, k, x);
    return memcmp(x, script_images[image], sizeof x) == 0;
}

void script_expect(const toy *t, const met_job *job, double out[IMAGES][SAMPLES][TOY_OUTPUTS]) {
    for (size_t i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < SAMPLES; k++) {
            double x[TOY_SIZE], z[TOY_FEATURES];
            script_sample(job, i, k, x);
            toy_features(t, x, z);
            for (size_t o = 0; o < TOY_OUTPUTS; o++) {
                out[i][k][o] = toy_output(z, job->all_outputs ? o : i);
            }
        }
    }
}

void script_expect_sums(const toy *t, const met_job *job, double out[IMAGES][TOY_SIZE]) {
    for (size_t i = 0; i < IMAGES; i++) {
        memset(out[i], 0, sizeof out[i]);
        for (size_t k = 0; k < SAMPLES; k++) {
            double x[TOY_SIZE], gradient[TOY_SIZE];
            script_sample(job, i, k, x);
            toy_gradient(t, x, i, gradient);
            for (size_t v = 0; v < TOY_SIZE; v++) {
                out[i][v] += weight(job->method, k) * gradient[v];
            }
        }
    }
}
