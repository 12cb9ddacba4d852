/*
 * feature_ablation.c - what the output loses when a feature, a superpixel or a superband, takes the baseline's values.
 * Source: Merrick, "Randomized ablation feature importance", 2019 (arXiv:1910.00174), with a fixed replacement.
 */
#include "differences.h"

#include <stddef.h>
#include <string.h>

#define GRAIN ((size_t)1 << 16) /* fewer values are not worth a thread */

typedef struct feature_ablation_options {
    met_segments features;
    met_targets outputs; /* explained instead of the target of each input, where there are any */
} feature_ablation_options;

typedef struct feature_ablation {
    met_differences differences; /* first */
    const met_segments *features;
    int32_t *of_band; /* (bands,) the feature of each band, where features are made of whole bands; else NULL */
    size_t bands;
} feature_ablation;

/* Feature k - 1 is replaced. The flags have a place before the first one, for values with id -1. */
static int describe(void *method, size_t image, size_t k, met_sample *s) {
    const feature_ablation *m = method;
    (void)image;
    if (k == 0) {
        s->kind = MET_IDENTITY;
        return MET_OK;
    }
    if (m->of_band != NULL) {
        for (size_t b = 0; b < m->bands; b++) {
            s->scratch[b] = m->of_band[b] == (int32_t)(k - 1);
        }
        s->replaced = s->scratch;
        return MET_OK;
    }
    memset(s->scratch, 0, m->features->count + 1);
    s->scratch[k] = 1;
    s->replaced = s->scratch + 1;
    s->segments = m->features->ids;
    return MET_OK;
}

/* The feature of each band where no band holds values of two features; *of_band stays NULL elsewhere. */
static int find_bands(const met_image *image, const met_segments *features, int32_t **of_band) {
    const size_t bands = image->shape[image->bands], size = met_image_size(image);
    size_t inner = 1; /* consecutive values of one band */
    for (int a = image->bands + 1; a < MET_AXES; a++) {
        inner *= image->shape[a];
    }
    int32_t *found = met_allocate(bands, sizeof *found);
    if (found == NULL) {
        return met_fail(MET_ENOMEM, "the features of %zu bands do not fit into memory", bands);
    }
    for (size_t b = 0; b < bands; b++) {
        found[b] = features->ids[b * inner];
    }
    for (size_t i = 0; i < size; i++) {
        if (features->ids[i] != found[i / inner % bands]) {
            met_deallocate(found);
            return MET_OK;
        }
    }
    *of_band = found;
    return MET_OK;
}

typedef struct spreading {
    const int32_t *ids;
    const double *differences;
    met_dtype dtype;
    void *out;
} spreading;

static void spread_body(void *arg, size_t from, size_t to) {
    const spreading *s = arg;
    for (size_t i = from; i < to; i++) {
        const double value = s->ids[i] < 0 ? 0.0 : s->differences[s->ids[i]];
        if (s->dtype == MET_FLOAT64) {
            ((double *)s->out)[i] = value;
        } else {
            ((float *)s->out)[i] = (float)value;
        }
    }
}

/* Every value has the difference of its feature. */
static int spread(const met_differences *d, const double *differences, const met_call *call, void *out) {
    const feature_ablation *m = (const feature_ablation *)d;
    spreading s = {m->features->ids, differences, call->dtype, out};
    met_parallel_for(call->options->pool, met_image_size(&call->inputs[0].image), GRAIN, spread_body, &s);
    return MET_OK;
}

/* out[i, t] at each value of feature k = f_t(x_i) - f_t(x_i with feature k replaced by the baseline); 0 outside. */
static int run(const met_call *call, const void *options, met_results *results) {
    const feature_ablation_options *o = options;
    const met_image *image = &call->inputs[0].image;
    feature_ablation m = {.features = &o->features, .bands = image->shape[image->bands]};
    if (o->features.ids == NULL || o->features.count == 0) {
        return met_fail(MET_EVALUE, "there is no feature to ablate");
    }
    int status = find_bands(image, m.features, &m.of_band);
    if (status == MET_OK) {
        met_job job = met_job_of(call, &m);
        job.kind = m.of_band != NULL ? MET_BANDS : MET_SEGMENTS;
        job.scratch = m.of_band != NULL ? m.bands : m.features->count + 1;
        job.describe = describe;
        status = met_differences_run(&m.differences, m.features->count, &job, call, &o->outputs, spread, results);
    }
    met_deallocate(m.of_band);
    return status;
}

static const met_argument arguments[] = {
    {"features", MET_SEGMENT_IDS, .offset = offsetof(feature_ablation_options, features)},
    {"outputs", MET_TARGETS, .offset = offsetof(feature_ablation_options, outputs)},
    {.name = NULL},
};

/* ---- in a tunnel */

static size_t evaluations(const met_call *call, const void *options) {
    (void)call;
    return ((const feature_ablation_options *)options)->features.count + 1;
}

static const met_nesting nesting = {.run = run, .evaluations = evaluations};

const met_method met_feature_ablation = {
    .name = "feature_ablation",
    .doc = "What the output loses when a feature takes the baseline's values, at each value of the feature.\n"
           "Source: Merrick, 2019 (arXiv:1910.00174), with a fixed replacement.",
    .arguments = arguments,
    .options = sizeof(feature_ablation_options),
    .baselines = true,
    .run = run,
    .nesting = &nesting,
};
