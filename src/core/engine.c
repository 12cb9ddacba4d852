/*
 * engine.c - the loop: every attribution method runs through met_run().
 *
 * It holds the accumulators and one chunk, whatever the number of samples. A chunk slot is written in place; where
 * two samples of one slot differ from the same image in a part only, the first is undone and the second applied.
 */
#include "met.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Free choice of the first chunk: about as many samples as the second-level cache holds. */
#define CHUNK_BYTES ((size_t)2 << 20)
#define CHUNK_MOST 64
/* A chunk costs about this many times its input: gradient and the model's own activations. */
#define CHUNK_FACTOR 8
/* What a shortcut caches for each image of a group, beside its features: image, baseline, sum of gradients. */
#define GROUP_FACTOR 4
#define GROUP_BYTES ((size_t)64 << 20)
#define NO_IMAGE SIZE_MAX

typedef struct slot {
    size_t image; /* whose sample it holds; NO_IMAGE: nothing that can be undone */
    met_sample sample;
} slot;

typedef struct engine {
    const met_job *job;
    const met_model *model;
    const met_options *options;
    met_report *report;
    size_t size;  /* values of an image */
    size_t bytes; /* bytes of a sample */
    size_t room;  /* slots */
    size_t done;

    met_buffer *chunk;       /* (chunk_room, size) */
    size_t chunk_room;
    slot *slots;             /* (room,) */
    uint8_t *scratch;        /* (room, job->scratch) */
    size_t *image_of;        /* (room,) */
    double *weights;         /* (room,) */
    met_sample *samples;     /* (room,), for shortcuts */
    const met_target **targets;

    met_base base; /* of image base_image */
    size_t base_image;
    met_buffer *image_copy;
    met_buffer *baseline_copy;

    met_reducer sum;
    double *values; /* outputs of a chunk */
    size_t values_room;
} engine;

/* ---- outputs */

typedef struct answer {
    met_outputs y; /* first: reserve() is given y */
    engine *e;
} answer;

static int reserve(met_outputs *y, size_t width) {
    engine *e = ((answer *)y)->e;
    if (width == 0 || (y->targets != NULL && width != 1)) {
        return met_fail(MET_EMODEL, "the model returned no output");
    }
    if (y->n > SIZE_MAX / sizeof(double) / width) {
        return met_fail(MET_ENOMEM, "%zu outputs of %zu samples do not fit into memory", width, y->n);
    }
    size_t needed = y->n * width;
    if (needed > e->values_room) {
        double *values = realloc(e->values, needed * sizeof *values);
        if (values == NULL) {
            return met_fail(MET_ENOMEM, "%zu bytes for outputs could not be had", needed * sizeof *values);
        }
        e->values = values;
        e->values_room = needed;
    }
    y->value = e->values;
    y->width = width;
    return MET_OK;
}

static answer ask(engine *e, size_t n) {
    answer a = {.e = e};
    a.y.n = n;
    a.y.targets = e->job->all_outputs ? NULL : e->targets;
    a.y.reserve = reserve;
    return a;
}

/* ---- images */

/* View `image` as C-contiguous values of the job's dtype: its own memory where it is that already, else a copy. */
static int readable(engine *e, const met_image *image, const char *what, met_buffer **copy, const void **out) {
    if (met_image_is_plain(image, e->job->dtype)) {
        *out = image->data;
        return MET_OK;
    }
    int status = *copy != NULL ? MET_OK : met_buffer_new(e->bytes, what, &e->report->memory, copy);
    if (status == MET_OK) {
        status = met_image_read(image, e->job->dtype, e->options->pool, met_buffer_data(*copy));
    }
    if (status == MET_OK) {
        *out = met_buffer_data(*copy);
    }
    return status;
}

/* Make e->base that of image i. */
static int take_base(engine *e, size_t i) {
    const met_input *input = &e->job->inputs[i];
    if (e->base_image == i) {
        return MET_OK;
    }
    e->base_image = NO_IMAGE;
    int status = readable(e, &input->image, "an image", &e->image_copy, &e->base.image);
    if (status != MET_OK) {
        return status;
    }
    e->base.baseline = NULL;
    e->base.baseline_value = input->baseline_value;
    if (input->baseline.data != NULL) {
        status = readable(e, &input->baseline, "a baseline", &e->baseline_copy, &e->base.baseline);
        if (status != MET_OK) {
            return status;
        }
    }
    e->base.dtype = e->job->dtype;
    memcpy(e->base.shape, input->image.shape, sizeof e->base.shape);
    e->base.bands = input->image.bands;
    e->base_image = i;
    return MET_OK;
}

/* ---- the chunk */

static void forget_slots(engine *e) {
    for (size_t i = 0; i < e->room; i++) {
        e->slots[i].image = NO_IMAGE;
    }
}

/* Room to describe n samples. */
static int take_slots(engine *e, size_t n) {
    if (n <= e->room) {
        return MET_OK;
    }
    free(e->slots);
    free(e->scratch);
    free(e->image_of);
    free(e->weights);
    free(e->samples);
    free(e->targets);
    e->slots = calloc(n, sizeof *e->slots);
    e->scratch = calloc(n, e->job->scratch + 1);
    e->image_of = calloc(n, sizeof *e->image_of);
    e->weights = calloc(n, sizeof *e->weights);
    e->samples = calloc(n, sizeof *e->samples);
    e->targets = calloc(n, sizeof *e->targets);
    e->room = 0;
    if (!e->slots || !e->scratch || !e->image_of || !e->weights || !e->samples || !e->targets) {
        return met_fail(MET_ENOMEM, "the description of %zu samples does not fit into memory", n);
    }
    e->room = n;
    forget_slots(e);
    return MET_OK;
}

/* Room to render n samples, in memory that nobody else looks at. */
static int take_chunk(engine *e, size_t n) {
    int status = take_slots(e, n);
    if (status != MET_OK || (n <= e->chunk_room && !met_buffer_shared(e->chunk))) {
        return status;
    }
    if (n > SIZE_MAX / 2 / e->bytes) {
        return met_fail(MET_ENOMEM, "a chunk of %zu samples of %zu bytes does not fit into memory", n, e->bytes);
    }
    n = n > e->chunk_room ? n : e->chunk_room;
    met_buffer_release(e->chunk);
    e->chunk = NULL;
    e->chunk_room = 0;
    forget_slots(e);
    status = met_buffer_new(n * e->bytes, "a chunk of samples", &e->report->memory, &e->chunk);
    e->chunk_room = status == MET_OK ? n : 0;
    return status;
}

/* Describe evaluation k of image i for slot j. */
static int describe(engine *e, size_t j, size_t i, size_t k, met_sample *s) {
    const met_job *job = e->job;
    *s = (met_sample){.kind = job->kind, .image = i, .scratch = e->scratch + j * job->scratch};
    e->image_of[j] = i;
    e->targets[j] = &job->inputs[i].target;
    e->weights[j] = job->weight != NULL ? job->weight(job->method, k) : 1.0;
    return job->describe(job->method, i, k, s);
}

/* Write evaluation k of image i into slot j. */
static int fill(engine *e, size_t j, size_t i, size_t k) {
    slot *held = &e->slots[j];
    uint8_t *out = (uint8_t *)met_buffer_data(e->chunk) + j * e->bytes;
    int status = take_base(e, i);
    if (status != MET_OK) {
        return status;
    }
    bool pristine = held->image == i && met_sample_is_local(&held->sample);
    if (pristine) {
        met_sample_undo(&e->base, &held->sample, out);
    }
    held->image = NO_IMAGE;
    status = describe(e, j, i, k, &held->sample);
    if (status != MET_OK) {
        return status;
    }
    if (pristine && met_sample_is_local(&held->sample)) {
        met_sample_apply(&e->base, &held->sample, out);
    } else {
        met_sample_render(&e->base, &held->sample, e->options->pool, out);
    }
    held->image = i;
    return MET_OK;
}

static met_batch chunk_batch(engine *e, size_t n) {
    met_batch x = {.dtype = e->job->dtype, .n = n, .image = e->image_of};
    memcpy(x.shape, e->job->inputs[0].image.shape, sizeof x.shape);
    x.data = met_buffer_data(e->chunk);
    x.owner = met_buffer_owner(e->chunk);
    return x;
}

/* ---- bookkeeping */

static void count_call(engine *e, size_t n, double seconds) {
    met_report *r = e->report;
    r->chunk_first = r->calls == 0 ? n : r->chunk_first;
    r->chunk_most = n > r->chunk_most ? n : r->chunk_most;
    r->calls++;
    r->evaluations += n;
    r->seconds_model += seconds;
}

static int tick(engine *e, size_t n) {
    const met_options *o = e->options;
    e->done += n;
    if (o->tick == NULL) {
        return MET_OK;
    }
    return o->tick(o->tick_ctx, o->before + e->done, o->before + e->job->images * e->job->evaluations + o->after);
}

/* ---- the plain path */

/* Reduce the answers of samples [first, first + n) of the job, counted over all images. */
static int fold(engine *e, size_t first, size_t n, const met_batch *dx, const met_outputs *y) {
    const met_job *job = e->job;
    for (size_t j = 0; j < n; j++) {
        size_t image = (first + j) / job->evaluations;
        size_t k = (first + j) % job->evaluations;
        const void *gradient = dx->data == NULL ? NULL : (const uint8_t *)dx->data + j * e->bytes;
        int status = MET_OK;
        if (job->weight != NULL) {
            if (k == 0) {
                met_reducer_clear(&e->sum, e->options->pool);
            }
            met_reducer_add(&e->sum, job->dtype, gradient, e->weights[j], e->options->pool);
        }
        bool last = k + 1 == job->evaluations;
        if (job->fold != NULL || (last && job->finish != NULL)) {
            status = take_base(e, image);
        }
        if (status == MET_OK && job->fold != NULL) {
            met_result r = {.image = image, .k = k, .gradient = gradient, .base = &e->base};
            r.value = y->value + j * y->width;
            r.width = y->width;
            status = job->fold(job->method, &r);
        }
        if (status == MET_OK && last && job->weight != NULL) {
            met_reducer_read(&e->sum, MET_SUM, job->dtype, e->options->pool, job->sums[image]);
        }
        if (status == MET_OK && last && job->finish != NULL) {
            status = job->finish(job->method, image, &e->base);
        }
        if (status != MET_OK) {
            return status;
        }
    }
    return MET_OK;
}

/* Evaluate and fold samples [first, first + n). */
static int run_chunk(engine *e, size_t first, size_t n, double *seconds) {
    const met_job *job = e->job;
    int status = take_chunk(e, n);
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        status = fill(e, j, (first + j) / job->evaluations, (first + j) % job->evaluations);
    }
    if (status != MET_OK) {
        return status;
    }
    met_batch x = chunk_batch(e, n);
    met_batch dx = {0};
    answer a = ask(e, n);
    double start = met_seconds();
    status = job->gradient ? e->model->gradient(e->model->ctx, &x, &dx, &a.y)
                           : e->model->forward(e->model->ctx, &x, &a.y);
    *seconds = met_seconds() - start;
    count_call(e, n, *seconds);
    if (x.touched) {
        forget_slots(e);
    }
    if (status == MET_OK && a.y.value == NULL) {
        status = met_fail(MET_EMODEL, "the model answered without outputs");
    }
    if (status == MET_OK && job->gradient && dx.data == NULL) {
        status = met_fail(MET_EMODEL, "the model answered without a gradient");
    }
    if (status == MET_OK) {
        status = fold(e, first, n, &dx, &a.y);
    }
    if (dx.owner != NULL) {
        dx.owner->release(dx.owner);
    }
    return status;
}

/* The most samples that a chunk may have. */
static size_t chunk_limit(const engine *e, size_t bytes) {
    size_t most = e->options->most > 0 ? e->options->most : SIZE_MAX;
    if (e->options->memory > 0) {
        size_t fits = e->options->memory / CHUNK_FACTOR / bytes;
        most = fits < most ? fits : most;
    }
    return most > 0 ? most : 1;
}

static void start_tuner(const engine *e, met_tuner *t, size_t samples) {
    size_t most = chunk_limit(e, e->bytes);
    size_t first = most;
    if (e->options->most == 0) {
        first = CHUNK_BYTES / e->bytes;
        first = first > CHUNK_MOST ? CHUNK_MOST : first;
    }
    met_tuner_start(t, first, most < samples ? most : samples, e->options->most == 0);
}

/* Images [from, to) by rendering. */
static int run_plain(engine *e, size_t from, size_t to, met_tuner *tuner) {
    const met_job *job = e->job;
    size_t end = to * job->evaluations;
    size_t chunk = tuner->chunk;
    if (job->weight != NULL && e->sum.sum == NULL) {
        int status = met_reducer_new(e->size, false, &e->report->memory, &e->sum);
        if (status != MET_OK) {
            return status;
        }
    }
    for (size_t first = from * job->evaluations; first < end;) {
        size_t n = chunk < end - first ? chunk : end - first;
        double seconds = 0;
        int status = run_chunk(e, first, n, &seconds);
        status = status == MET_OK ? tick(e, n) : status;
        if (status != MET_OK) {
            return status;
        }
        first += n;
        chunk = met_tuner_next(tuner, n, seconds);
        e->report->chunk_last = chunk;
    }
    return MET_OK;
}

/* ---- shortcuts */

/* Render one description of every image in [from, to) into a batch of its own. */
static int render_batch(engine *e, size_t from, size_t to, const met_sample *s, met_buffer **buffer, met_batch *out) {
    int status = met_buffer_new((to - from) * e->bytes, "the images of a shortcut", &e->report->memory, buffer);
    uint8_t *data = status == MET_OK ? met_buffer_data(*buffer) : NULL;
    for (size_t i = from; i < to && status == MET_OK; i++) {
        status = take_base(e, i);
        if (status == MET_OK) {
            met_sample_render(&e->base, s, e->options->pool, data + (i - from) * e->bytes);
        }
    }
    *out = (met_batch){.dtype = e->job->dtype, .n = to - from, .data = data, .image = e->image_of};
    memcpy(out->shape, e->job->inputs[0].image.shape, sizeof out->shape);
    out->owner = status == MET_OK ? met_buffer_owner(*buffer) : NULL;
    return status;
}

/* Samples of images [from, to) through prepared features. */
static int run_prepared(engine *e, size_t from, size_t to, met_prepared *p, met_tuner *tuner) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    size_t end = to * job->evaluations;
    size_t chunk = tuner->chunk;
    for (size_t first = from * job->evaluations; first < end;) {
        size_t n = chunk < end - first ? chunk : end - first;
        int status = take_slots(e, n);
        for (size_t j = 0; j < n && status == MET_OK; j++) {
            status = describe(e, j, (first + j) / job->evaluations, (first + j) % job->evaluations, &e->samples[j]);
        }
        if (status != MET_OK) {
            return status;
        }
        answer a = ask(e, n);
        double start = met_seconds();
        status = job->gradient ? cut->gradient(e->model->ctx, p, e->samples, e->weights, n, &a.y)
                               : cut->forward(e->model->ctx, p, e->samples, n, &a.y);
        double seconds = met_seconds() - start;
        if (status == MET_EDECLINED) {
            return status;
        }
        count_call(e, n, seconds);
        if (status == MET_OK && !job->gradient) {
            met_batch none = {0};
            status = fold(e, first, n, &none, &a.y);
        }
        status = status == MET_OK ? tick(e, n) : status;
        if (status != MET_OK) {
            return status;
        }
        e->report->shortcut_evaluations += n;
        first += n;
        chunk = met_tuner_next(tuner, n, seconds);
        e->report->chunk_last = chunk;
    }
    return MET_OK;
}

/* Hand the sums of images [from, to) to the method. */
static int collect(engine *e, size_t from, size_t to, met_prepared *p) {
    const met_job *job = e->job;
    met_batch sum = {0};
    double start = met_seconds();
    int status = e->model->shortcut->collect(e->model->ctx, p, &sum);
    e->report->seconds_model += met_seconds() - start;
    if (status == MET_OK && (sum.data == NULL || sum.n != to - from)) {
        status = met_fail(MET_EMODEL, "the shortcut answered without a gradient for each image");
    }
    for (size_t i = from; i < to && status == MET_OK; i++) {
        memcpy(job->sums[i], (const uint8_t *)sum.data + (i - from) * e->bytes, e->bytes);
        if (job->finish != NULL) {
            status = take_base(e, i);
            status = status == MET_OK ? job->finish(job->method, i, &e->base) : status;
        }
    }
    if (sum.owner != NULL) {
        sum.owner->release(sum.owner);
    }
    return status;
}

/* Images [from, to) through the model's shortcut. MET_EDECLINED: nothing was done. */
static int run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner) {
    const met_shortcut *cut = e->model->shortcut;
    const met_sample image = {.kind = MET_IDENTITY};
    const met_sample baseline = {.kind = MET_LERP, .alpha = 0};
    met_buffer *x_buffer = NULL;
    met_buffer *b_buffer = NULL;
    met_prepared *p = NULL;
    met_batch x;
    met_batch b;
    size_t done = e->done;
    size_t most = chunk_limit(e, e->bytes);

    int status = take_slots(e, to - from);
    if (status == MET_OK) {
        status = render_batch(e, from, to, &image, &x_buffer, &x);
    }
    if (status == MET_OK) {
        status = render_batch(e, from, to, &baseline, &b_buffer, &b);
    }
    if (status != MET_OK) {
        goto done;
    }
    for (size_t i = from; i < to; i++) {
        e->image_of[i - from] = i;
        e->targets[i - from] = &e->job->inputs[i].target;
    }
    double start = met_seconds();
    status = cut->prepare(e->model->ctx, &x, &b, e->targets, e->job->kind, most, &p);
    e->report->seconds_model += met_seconds() - start;
    met_buffer_release(x_buffer);
    met_buffer_release(b_buffer);
    x_buffer = b_buffer = NULL;
    if (status == MET_OK) {
        status = run_prepared(e, from, to, p, tuner);
    }
    if (status == MET_OK && e->job->gradient) {
        status = collect(e, from, to, p);
    }
done:
    if (status == MET_EDECLINED) {
        e->done = done;
        snprintf(e->report->declined, sizeof e->report->declined, "%s", met_detail());
    } else if (status == MET_OK) {
        snprintf(e->report->shortcut, sizeof e->report->shortcut, "%s", cut->name);
    }
    if (p != NULL) {
        cut->release(e->model->ctx, p);
    }
    met_buffer_release(x_buffer);
    met_buffer_release(b_buffer);
    return status;
}

/* Whether the job is of a form that a shortcut can take. */
static bool wants_shortcut(const engine *e) {
    const met_job *job = e->job;
    if (e->model->shortcut == NULL || job->kind == MET_IDENTITY || job->kind == MET_NOISE || job->evaluations < 3) {
        return false;
    }
    if (!e->options->shortcuts) {
        snprintf(e->report->declined, sizeof e->report->declined, "switched off");
        return false;
    }
    return job->gradient ? job->weight != NULL && job->fold == NULL : e->model->shortcut->forward != NULL;
}

/* ---- the run */

static int check(const met_job *job, const met_model *model) {
    if (job->images == 0 || job->evaluations == 0) {
        return met_fail(MET_EVALUE, "there is nothing to evaluate");
    }
    for (size_t i = 0; i < job->images; i++) {
        if (met_image_size(&job->inputs[i].image) == 0) {
            return met_fail(MET_ESHAPE, "image %zu is empty", i);
        }
        for (int a = 0; a < MET_AXES; a++) {
            size_t want = job->inputs[0].image.shape[a];
            const met_input *input = &job->inputs[i];
            if (input->image.shape[a] != want) {
                return met_fail(MET_ESHAPE, "images of one call must share a shape: image %zu has %zu values along "
                                "axis %d, image 0 has %zu", i, input->image.shape[a], a, want);
            }
            if (input->baseline.data != NULL && input->baseline.shape[a] != want) {
                return met_fail(MET_ESHAPE, "baseline %zu has %zu values along axis %d, its image has %zu", i,
                                input->baseline.shape[a], a, want);
            }
        }
    }
    if (job->images > SIZE_MAX / job->evaluations) {
        return met_fail(MET_ENOMEM, "%zu evaluations of %zu images cannot be counted", job->evaluations, job->images);
    }
    if (job->gradient && model->gradient == NULL) {
        return met_fail(MET_EGRADIENT, "the model cannot be differentiated: it computes outputs only");
    }
    return MET_OK;
}

/* How many images a shortcut prepares at once. */
static size_t group_size(const engine *e) {
    size_t room = GROUP_BYTES;
    if (e->options->memory > 0 && e->options->memory / 4 < room) {
        room = e->options->memory / 4;
    }
    size_t images = room / GROUP_FACTOR / e->bytes;
    return images > 0 ? images : 1;
}

int met_run(const met_job *job, const met_model *model, const met_options *options, met_report *report) {
    double start = met_seconds();
    engine e = {.job = job, .model = model, .options = options, .report = report, .base_image = NO_IMAGE};
    met_tuner plain;
    met_tuner prepared;
    int status = check(job, model);
    if (status != MET_OK) {
        return status;
    }
    e.size = met_image_size(&job->inputs[0].image);
    e.bytes = e.size * met_dtype_size(job->dtype);
    start_tuner(&e, &plain, job->images * job->evaluations);
    bool shortcut = wants_shortcut(&e);
    size_t group = shortcut ? group_size(&e) : job->images;
    start_tuner(&e, &prepared, (group < job->images ? group : job->images) * job->evaluations);
    for (size_t from = 0; from < job->images && status == MET_OK; from += group) {
        size_t to = group < job->images - from ? from + group : job->images;
        status = shortcut ? run_shortcut(&e, from, to, &prepared) : MET_EDECLINED;
        if (status == MET_EDECLINED) {
            status = run_plain(&e, from, to, &plain);
        }
    }
    met_reducer_free(&e.sum);
    met_buffer_release(e.chunk);
    met_buffer_release(e.image_copy);
    met_buffer_release(e.baseline_copy);
    free(e.slots);
    free(e.scratch);
    free(e.image_of);
    free(e.weights);
    free(e.samples);
    free(e.targets);
    free(e.values);
    report->seconds += met_seconds() - start;
    return status;
}
