/*
 * engine.c - the loop: every attribution method runs through met_run().
 *
 * It holds the accumulators and one chunk, whatever the number of samples.
 */
#include "engine.h"

#include <string.h>

/* Free choice of the first chunk: about as many samples as the second-level cache holds. */
#define CHUNK_BYTES ((size_t)2 << 20)
#define CHUNK_MOST 64
/* It may grow as long as it could lie in the last-level cache; larger batches only make every step pay for memory. */
#define GROW_BYTES ((size_t)32 << 20)
/* Behind a shortcut, features with their gradients are wider than the image by about this much. */
#define FEATURES 4
/* A chunk costs about this many times its input: gradient and the model's own activations. */
#define CHUNK_FACTOR 8

/* ---- outputs */

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
        met_deallocate(e->values);
        e->values_room = 0;
        e->values = met_allocate(needed, sizeof *e->values);
        if (e->values == NULL) {
            return met_fail(MET_ENOMEM, "%zu bytes for outputs could not be had", needed * sizeof *e->values);
        }
        e->values_room = needed;
    }
    y->value = e->values;
    y->width = width;
    return MET_OK;
}

answer met_ask(engine *e, size_t n) {
    answer a = {.e = e};
    a.y.n = n;
    a.y.targets = e->job->all_outputs ? NULL : e->targets;
    a.y.reserve = reserve;
    return a;
}

/* ---- bookkeeping */

void met_count_call(engine *e, size_t n, double seconds) {
    met_report *r = e->report;
    r->chunk_first = r->calls == 0 ? n : r->chunk_first;
    r->chunk_most = n > r->chunk_most ? n : r->chunk_most;
    r->calls++;
    r->evaluations += n;
    r->seconds_model += seconds;
}

int met_tick(engine *e, size_t n) {
    const met_options *o = e->options;
    e->done += n;
    if (o->tick == NULL) {
        return MET_OK;
    }
    return o->tick(o->tick_ctx, o->before + e->done, o->before + e->job->images * e->job->evaluations + o->after);
}

/* ---- the plain path */

/* The image is complete: hand out the sum, tell the method. */
static int finish(engine *e, size_t image) {
    const met_job *job = e->job;
    int status = MET_OK;
    if (job->weight != NULL) {
        met_reducer_read(&e->sum, MET_SUM, job->dtype, e->options->pool, job->sums[image]);
    }
    if (job->finish != NULL) {
        status = met_take_base(e, image);
        status = status == MET_OK ? job->finish(job->method, image, &e->base) : status;
    }
    return status;
}

/* Reduce one result; results behind the point where the method had enough are dropped. */
static int fold_one(engine *e, met_result *r, double weight) {
    const met_job *job = e->job;
    size_t *left = &e->left[r->image];
    if (*left == 0) {
        return MET_OK;
    }
    if (job->weight != NULL) {
        if (*left == job->evaluations) {
            met_reducer_clear(&e->sum);
        }
        met_reducer_add(&e->sum, job->dtype, r->gradient, weight, e->options->pool);
    }
    if (job->fold != NULL) {
        int status = met_take_base(e, r->image);
        r->base = &e->base;
        status = status == MET_OK ? job->fold(job->method, r) : status;
        if (status != MET_OK) {
            return status;
        }
    }
    *left = job->enough != NULL && job->enough(job->method, r->image, r->k) ? 0 : *left - 1;
    return *left == 0 ? finish(e, r->image) : MET_OK;
}

/* Reduce the answers of the n samples in the chunk. */
int met_fold(engine *e, size_t n, const met_batch *dx, const met_outputs *y) {
    const met_job *job = e->job;
    for (size_t j = 0; j < n; j++) {
        met_result r = {.image = e->image_of[j], .k = e->k_of[j], .width = y->width, .axes = y->axes};
        r.value = y->value + j * y->width;
        r.shape = y->shape;
        r.gradient = dx->data == NULL ? NULL : (const uint8_t *)dx->data + j * e->bytes;
        r.sample = job->reads_sample ? (const uint8_t *)met_buffer_data(e->chunk) + j * e->bytes : NULL;
        int status = fold_one(e, &r, e->weights[j]);
        if (status != MET_OK) {
            return status;
        }
    }
    return MET_OK;
}

/* A sample that is a copy of its image gives what the image gives. */
static int fold_copy(engine *e, size_t image, size_t k) {
    met_result r = {.image = image, .k = k};
    e->report->saved++;
    return fold_one(e, &r, 1.0);
}

/* A model wrote into its input: bring back the samples that the method still reads. */
static int restore(engine *e, size_t n) {
    int status = MET_OK;
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        status = met_take_base(e, e->image_of[j]);
        if (status == MET_OK) {
            met_sample_render(&e->base, &e->slots[j].sample, e->options->pool,
                              (uint8_t *)met_buffer_data(e->chunk) + j * e->bytes);
        }
    }
    return status;
}

/* Evaluate and fold the n samples in the chunk. */
static int run_chunk(engine *e, size_t n, double *seconds) {
    const met_job *job = e->job;
    int status;
    met_batch x = met_batch_of(e, e->chunk, n);
    met_batch dx = {0};
    answer a = met_ask(e, n);
    double start = met_seconds();
    status =
        job->gradient ? e->model->gradient(e->model->ctx, &x, &dx, &a.y) : e->model->forward(e->model->ctx, &x, &a.y);
    *seconds = met_seconds() - start;
    met_count_call(e, n, *seconds);
    if (status == MET_OK && a.y.value == NULL) {
        status = met_fail(MET_EMODEL, "the model answered without outputs");
    }
    if (status == MET_OK && job->gradient && dx.data == NULL) {
        status = met_fail(MET_EMODEL, "the model answered without a gradient");
    }
    if (status == MET_OK && x.touched && job->reads_sample) {
        status = restore(e, n);
    }
    if (status == MET_OK) {
        status = met_fold(e, n, &dx, &a.y);
    }
    if (x.touched) {
        met_forget_slots(e);
    }
    if (dx.owner != NULL) {
        dx.owner->release(dx.owner);
    }
    return status;
}

/* Fill up to `chunk` places with samples from position *next on; n is how many there are. */
static int fill_chunk(engine *e, const path *way, size_t chunk, size_t *next, size_t end, size_t *n) {
    size_t evaluations = e->job->evaluations;
    size_t ahead = end - *next < chunk ? end - *next : chunk;
    int status = way->take(e, ahead);
    *n = 0;
    while (status == MET_OK && *n < ahead && *next < end) {
        size_t image = *next / evaluations;
        size_t k = (*next)++ % evaluations;
        bool copy = false;
        if (e->left[image] == 0) {
            continue;
        }
        status = way->fill(e, *n, image, k, &copy);
        if (status == MET_OK && copy) {
            status = fold_copy(e, image, k);
        } else {
            (*n)++;
        }
    }
    return status;
}

int met_run_path(engine *e, const path *way, size_t from, size_t to, met_tuner *tuner) {
    size_t end = to * e->job->evaluations;
    size_t chunk = tuner->chunk;
    for (size_t next = from * e->job->evaluations; next < end;) {
        size_t before = next;
        size_t n = 0;
        double seconds = 0;
        int status = fill_chunk(e, way, chunk, &next, end, &n);
        if (status == MET_OK && n > 0) {
            status = way->run(e, n, &seconds);
        }
        status = status == MET_OK ? met_tick(e, next - before) : status;
        if (status != MET_OK) {
            return status;
        }
        if (n > 0) {
            e->report->chunk_last = chunk;
            chunk = met_tuner_next(tuner, n, seconds);
        }
    }
    return MET_OK;
}

/* The most samples that a chunk may have. */
size_t met_chunk_limit(const engine *e) {
    size_t most = e->options->most > 0 ? e->options->most : SIZE_MAX;
    if (e->options->memory > 0) {
        size_t fits = e->options->memory / CHUNK_FACTOR / e->bytes;
        most = fits < most ? fits : most;
    }
    return most > 0 ? most : 1;
}

/* Chunks of `samples` at most; where the engine chooses, while samples `wide` times as large as the image fit. */
static void start_tuner(const engine *e, met_tuner *t, size_t samples, size_t wide) {
    size_t most = met_chunk_limit(e);
    size_t first = most;
    if (e->options->most == 0) {
        first = CHUNK_BYTES / e->bytes;
        first = first < 1 ? 1 : first > CHUNK_MOST ? CHUNK_MOST : first;
        size_t grown = GROW_BYTES / wide / e->bytes;
        grown = grown > first ? grown : first;
        most = grown < most ? grown : most;
    }
    met_tuner_start(t, first, most < samples ? most : samples, e->options->most == 0);
}

/* Images [from, to) by rendering. */
static int run_plain(engine *e, size_t from, size_t to, met_tuner *tuner) {
    static const path rendered = {met_take_chunk, met_fill_slot, run_chunk};
    int status = MET_OK;
    if (e->job->weight != NULL && e->sum.sum == NULL) {
        status = met_reducer_new(e->size, false, &e->report->memory, &e->sum);
    }
    return status == MET_OK ? met_run_path(e, &rendered, from, to, tuner) : status;
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
                return met_fail(MET_ESHAPE,
                                "images of one call must share a shape: image %zu has %zu values along "
                                "axis %d, image 0 has %zu",
                                i, input->image.shape[a], a, want);
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

int met_run(const met_job *job, const met_model *model, const met_options *options, met_report *report) {
    double start = met_seconds();
    engine e = {.job = job, .model = model, .options = options, .report = report, .base_image = MET_NO_IMAGE};
    met_tuner plain;
    met_tuner prepared;
    int status = check(job, model);
    if (status != MET_OK) {
        return status;
    }
    e.size = met_image_size(&job->inputs[0].image);
    e.bytes = e.size * met_dtype_size(job->dtype);
    e.left = met_allocate(job->images, sizeof *e.left);
    if (e.left == NULL) {
        return met_fail(MET_ENOMEM, "%zu images do not fit into memory", job->images);
    }
    for (size_t i = 0; i < job->images; i++) {
        e.left[i] = job->evaluations;
    }
    met_heap_hold();
    start_tuner(&e, &plain, job->images * job->evaluations, 1);
    bool shortcut = met_wants_shortcut(&e);
    size_t group = shortcut ? met_group_size(&e) : job->images;
    start_tuner(&e, &prepared, (group < job->images ? group : job->images) * job->evaluations,
                job->gradient ? FEATURES : 1);
    for (size_t from = 0; from < job->images && status == MET_OK; from += group) {
        size_t to = group < job->images - from ? from + group : job->images;
        status = shortcut ? met_run_shortcut(&e, from, to, &prepared) : MET_EDECLINED;
        if (status == MET_EDECLINED) {
            status = run_plain(&e, from, to, &plain);
        }
    }
    met_reducer_free(&e.sum);
    met_buffer_release(e.chunk);
    met_readable_free(&e.readable);
    met_free_slots(&e);
    met_deallocate(e.values);
    met_deallocate(e.left);
    met_heap_release();
    report->seconds += met_seconds() - start;
    return status;
}
