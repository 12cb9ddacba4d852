/*
 * engine.c - the loop: every attribution method runs through met_run().
 *
 * It holds the accumulators and one chunk, whatever the number of samples.
 */
#include "run.h"

#include <string.h>

/* Free choice of the first chunk: about as many samples as the second-level cache holds. */
#define CHUNK_BYTES ((size_t)2 << 20)
#define CHUNK_SAMPLES 64
/* It may grow as long as it could lie in the last-level cache; larger batches only make every step pay for memory. */
#define GROW_BYTES ((size_t)32 << 20)
/* Behind a shortcut, features with their gradients are wider than the image by about this much. */
#define FEATURES 4
/* Where outputs alone are wanted no sample is rendered there: what is made for each is about one part in so many. */
#define CHANGED_PART 8
/*
 * What is rendered to learn what that costs is in vain where a shortcut takes over. Of few samples it more often does not:
 * then as many are rendered as the plain path begins with, at most such a part of all.
 */
#define FEW_SAMPLES 33
#define FIRST_PART 4
/* A chunk costs about this many times its input: gradient and the model's own activations. */
#define CHUNK_FACTOR 8

/* ---- bookkeeping */

size_t met_count_call(engine *e, size_t first, size_t n, double seconds) {
    met_report *r = e->report;
    size_t again = 0;
    for (size_t j = first; j < first + n; j++) {
        again += e->k_of[j] == MET_REFERENCE;
    }
    r->chunk_first = r->model_calls == 0 ? n : r->chunk_first;
    r->chunk_largest = n > r->chunk_largest ? n : r->chunk_largest;
    r->model_calls++;
    r->evaluations += n - again;
    r->evaluations_verifying += again;
    r->seconds_in_model += seconds;
    return again;
}

int met_report_progress(engine *e, size_t n) {
    const met_options *o = e->options;
    e->done += n;
    if (o->progress == NULL) {
        return MET_OK;
    }
    const size_t total = o->evaluations_before + e->job->images * e->job->evaluations + o->evaluations_after;
    return o->progress(o->progress_ctx, o->evaluations_before + e->done, total);
}

/* ---- folding */

/* The image is complete: hand out the sum, tell the method. */
static int finish(engine *e, size_t image) {
    const met_job *job = e->job;
    int status = MET_OK;
    met_forget_references(e, image);
    if (job->weight != NULL) {
        met_reducer_read(&e->sum, MET_SUM, job->dtype, e->options->pool, job->sums[image]);
    }
    if (job->finish != NULL) {
        status = met_load_image(e, image);
        status = status == MET_OK ? job->finish(job->method, image, &e->base) : status;
    }
    return status;
}

/* Reduce one result; results behind the point where the method has converged are left out. */
static int fold_one(engine *e, met_result *r, double weight) {
    const met_job *job = e->job;
    size_t *remaining = &e->remaining[r->image];
    bool finite = true;
    int status = MET_OK;
    if (*remaining == 0) {
        return MET_OK;
    }
    if (e->prepared != NULL && job->weight != NULL) {
        return met_carry(e, r->image, r->k, r->gradient, weight);
    }
    if (*remaining == met_job_count(job, r->image)) {
        if (job->weight != NULL) {
            met_reducer_clear(&e->sum);
        }
        status = job->begin != NULL ? job->begin(job->method, r->image) : MET_OK;
    }
    if (status == MET_OK && job->weight != NULL) {
        finite = met_reducer_add(&e->sum, job->dtype, r->gradient, weight, e->options->pool);
    }
    if (status == MET_OK && job->fold != NULL) {
        status = met_load_image(e, r->image);
        r->base = &e->base;
        r->finite = &finite;
        status = status == MET_OK ? job->fold(job->method, r) : status;
        r->finite = NULL;
    }
    if (status == MET_OK && !finite && r->gradient != NULL) {
        status = met_note_gradient(e, r->image, r->k, r->gradient);
    }
    if (status != MET_OK) {
        return status;
    }
    *remaining = job->converged != NULL && job->converged(job->method, r->image, r->k) ? 0 : *remaining - 1;
    return *remaining == 0 ? finish(e, r->image) : MET_OK;
}

/* What the image itself gave, of n samples the first of which is sample `first` of the chunk, is kept for the others. */
static int keep_references(engine *e, size_t first, size_t n, const met_outputs *y) {
    int status = MET_OK;
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        if (e->is_image[first + i]) {
            status = met_add_reference(e, e->image_of[first + i], n, y->value + i * y->width, y->width);
        }
    }
    return status;
}

/* Reduce the outputs and gradients of n samples, the first of which is sample `first` of the chunk. */
int met_fold(engine *e, size_t first, size_t n, const met_batch *dx, const met_outputs *y) {
    const met_job *job = e->job;
    int status = job->reference ? keep_references(e, first, n, y) : met_note_outputs(e, first, n, y);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        const size_t j = first + i;
        met_result r = {.image = e->image_of[j], .k = e->k_of[j], .width = y->width, .axes = y->axes};
        r.value = y->value + i * y->width;
        r.shape = y->shape;
        r.gradient = dx->data == NULL ? NULL : (const uint8_t *)dx->data + i * e->bytes;
        r.sample = job->reads_sample ? (const uint8_t *)met_buffer_data(e->chunk) + j * e->bytes : NULL;
        if (r.k == MET_REFERENCE) {
            continue;
        }
        if (job->reference) {
            met_outputs one = *y;
            one.value += i * y->width;
            status = met_note_outputs(e, j, 1, &one);
            r.reference = met_find_reference(e, r.image, n, y->width);
        }
        if (status == MET_OK && job->reference && r.reference == NULL && e->remaining[r.image] > 0) {
            status = met_fail(MET_EMODEL, "the model gave other outputs for a sample than for its image");
        }
        status = status == MET_OK ? fold_one(e, &r, e->weights[j]) : status;
    }
    return status;
}

int met_fold_copy(engine *e, size_t image, size_t k) {
    met_result r = {.image = image, .k = k};
    e->report->evaluations_saved++;
    return fold_one(e, &r, 1.0);
}

/* ---- the plain path */

/* Bring back the samples of the chunk that a model wrote over. */
static int restore(engine *e, size_t n) {
    int status = MET_OK;
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        status = met_load_image(e, e->image_of[j]);
        if (status == MET_OK) {
            met_sample_render(&e->base, &e->slots[j].sample, e->options->pool,
                              (uint8_t *)met_buffer_data(e->chunk) + j * e->bytes);
        }
    }
    return status;
}

/* Evaluate samples [first, first + n) of the chunk and fold them. MET_ESINGLE: none of them was folded. */
static int run_part(engine *e, size_t first, size_t n, size_t in_chunk, double *seconds) {
    met_batch x = met_batch_view(e, e->chunk, first, n);
    met_batch dx = {0};
    output_request request = met_request_outputs(e, first, n, &e->values, &e->values_capacity);
    const bool watched = met_wants_verification(e, n);
    if (watched) {
        met_watch(e, true);
    }
    int status = met_evaluate(e, &x, &dx, &request.y, seconds);
    const size_t again = met_count_call(e, first, n, *seconds);
    met_note_draws(e);
    if (status == MET_OK && n == 1) {
        met_note_alone(e, *seconds);
    }
    const bool verify = watched && status == MET_OK;
    if (x.modified && (status == MET_ESINGLE || verify || (status == MET_OK && e->job->reads_sample))) {
        const int restored = restore(e, in_chunk);
        status = restored != MET_OK ? restored : status;
    }
    if (status == MET_ESINGLE && n > 1) {
        met_note_single(e, "the model gives one number for a whole batch");
    } else if (status == MET_OK && verify) {
        status = met_verify_batch(e, n, &dx, &request.y);
    }
    if (watched) {
        met_watch(e, false);
    }
    if (status == MET_ESINGLE) { /* nothing of it is used */
        e->report->evaluations -= n - again;
        e->report->evaluations_verifying -= again;
        e->report->evaluations_discarded += n;
        status = n > 1 ? status : met_fail(MET_EMODEL, "the model gives no output for a single sample");
    } else if (status == MET_OK) {
        e->width = request.y.width;
        if (e->last && first + n == in_chunk && !e->job->reads_sample) { /* of a large image, as much as the results */
            met_free_chunk(e);
        }
        status = met_fold(e, first, n, &dx, &request.y);
    }
    if (x.modified) {
        met_invalidate_slots(e);
    }
    met_release_batch(&dx);
    return status;
}

/* Evaluate and fold the n samples in the chunk. */
static int run_chunk(engine *e, size_t n, double *seconds) {
    int status = MET_ESINGLE;
    if (n == 1 || e->report->batching != MET_BATCHING_SINGLE) {
        status = run_part(e, 0, n, n, seconds);
    }
    if (status == MET_ESINGLE) {
        status = MET_OK;
        for (size_t j = 0; j < n && status == MET_OK; j++) {
            status = run_part(e, j, 1, n, seconds);
        }
    }
    return status;
}

/* The most samples that a chunk may have. */
size_t met_chunk_limit(const engine *e) {
    size_t limit = e->options->max_batch_size > 0 ? e->options->max_batch_size : SIZE_MAX;
    if (e->options->memory_budget > 0) {
        size_t fits = e->options->memory_budget / CHUNK_FACTOR / e->bytes;
        limit = fits < limit ? fits : limit;
    }
    limit = e->report->batching == MET_BATCHING_SINGLE ? 1 : limit;
    return limit > 0 ? limit : 1;
}

/* The samples of the first chunk: as many as the caller allows, or what the engine begins with. */
size_t met_chunk_first(const engine *e) {
    const size_t limit = met_chunk_limit(e);
    if (e->options->max_batch_size > 0) {
        return limit;
    }
    size_t first = CHUNK_SAMPLES; /* a power of two: threads share a batch evenly */
    while (first > 1 && first > CHUNK_BYTES / e->bytes) {
        first /= 2;
    }
    return first < limit ? first : limit;
}

size_t met_largest_chunk(const engine *e, bool prepared) {
    const size_t limit = met_chunk_limit(e), first = met_chunk_first(e);
    if (e->options->max_batch_size > 0) {
        return limit;
    }
    const size_t behind = e->job->gradient ? GROW_BYTES / FEATURES : GROW_BYTES * CHANGED_PART;
    const size_t grown = (prepared ? behind : GROW_BYTES) / e->bytes;
    return grown > first ? (grown < limit ? grown : limit) : first;
}

/* Chunks of `samples` at most, the first of `first`. */
static void start_tuner(const engine *e, met_tuner *t, size_t first, size_t samples, bool prepared) {
    const size_t largest = met_largest_chunk(e, prepared);
    met_tuner_start(t, first, met_min_size(largest, samples), samples, e->options->max_batch_size == 0);
}

int met_reserve_sum(engine *e) {
    return e->sum.sum == NULL ? met_reducer_new(e->size, false, &e->report->memory, &e->sum) : MET_OK;
}

int met_run_plain(engine *e, size_t *next, size_t end, met_tuner *tuner, size_t calls) {
    static const met_path rendered = {met_reserve_chunk, met_fill_slot, run_chunk, false};
    const int status = e->job->weight != NULL ? met_reserve_sum(e) : MET_OK;
    return status == MET_OK ? met_run_path(e, &rendered, next, end, tuner, calls) : status;
}

void met_free_plain(engine *e) {
    met_reducer_free(&e->sum);
    met_free_chunk(e);
}

/* Keep what the first sample of all gave, if it is among those of the last chunk, of at most n. */
static int keep_first(engine *e, size_t n) {
    size_t j = 0;
    while (j < n && (e->image_of[j] != 0 || e->k_of[j] != 0)) {
        j++;
    }
    if (j == n || e->first_values != NULL || (n > 1 && e->report->batching == MET_BATCHING_SINGLE)) {
        return MET_OK;
    }
    e->first_values = met_allocate(e->width, sizeof *e->first_values);
    if (e->first_values == NULL) {
        return met_fail(MET_ENOMEM, "%zu outputs do not fit into memory", e->width);
    }
    memcpy(e->first_values, e->values + j * e->width, e->width * sizeof *e->values);
    return MET_OK;
}

int met_run_first(engine *e) {
    const size_t total = e->job->images * e->job->evaluations;
    e->goes_on = e->eligible && e->options->max_batch_size == 0 && total < FEW_SAMPLES && total >= FIRST_PART;
    if (!e->goes_on) {
        met_tuner_start(&e->measuring, 1, 1, 1, false);
    } else if (e->measured == 0) {
        start_tuner(e, &e->measuring, met_min_size(met_chunk_first(e), total / FIRST_PART), total, false);
    }
    const size_t n = e->measuring.chunk;
    e->timing = true;
    const int status = met_run_plain(e, &e->measured, e->job->evaluations, &e->measuring, 1);
    e->timing = false;
    return status == MET_OK ? keep_first(e, n) : status;
}

void met_note_alone(engine *e, double seconds) {
    double *alone = &e->report->seconds_alone;
    if (e->timing && (*alone == 0 || seconds < *alone)) {
        *alone = seconds;
    }
}

size_t met_start_again(engine *e, size_t from, size_t to, const met_report *before, size_t done) {
    met_report *r = e->report;
    const met_report now = *r;
    *r = *before;
    r->seconds = now.seconds;
    r->seconds_in_model = now.seconds_in_model;
    r->memory = now.memory;
    r->evaluations_verifying = now.evaluations_verifying;
    r->seconds_alone = now.seconds_alone;
    for (size_t i = from; i < to; i++) {
        e->remaining[i] = met_job_count(e->job, i);
    }
    met_forget_carried(e, from, to);
    e->done = done;
    return now.evaluations - before->evaluations;
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

/* Images in groups, through the shortcut as far as that holds, else by rendering. */
static int run_groups(engine *e, bool shortcut) {
    const met_job *job = e->job;
    const size_t group = shortcut ? met_group_size(e) : job->images;
    met_tuner plain, prepared;
    int status = MET_OK;
    start_tuner(e, &plain, met_chunk_first(e), job->images * job->evaluations, false);
    start_tuner(e, &prepared, met_chunk_first(e), met_min_size(group, job->images) * job->evaluations, true);
    for (size_t from = 0; from < job->images && status == MET_OK; from += group) {
        const size_t to = group < job->images - from ? from + group : job->images;
        const bool taken = shortcut && !e->plain_is_best && !e->hopeless;
        status = taken ? met_run_shortcut(e, from, to, &prepared, &plain) : MET_EDECLINED;
        if (status == MET_EDECLINED && !e->failed) {
            size_t next = from * job->evaluations;
            if (e->measured > next) {
                next = e->measured;
                plain = e->goes_on ? e->measuring : plain;
            }
            status = met_run_plain(e, &next, to * job->evaluations, &plain, SIZE_MAX);
        }
    }
    return status;
}

/* A shortcut gave something else than the model: nothing that it gave counts, all images are rendered. */
static int run_all_again(engine *e, const met_report *before) {
    const met_job *job = e->job;
    met_tuner plain;
    size_t next = 0;
    char why[sizeof e->report->shortcut_failed];
    memcpy(why, e->report->shortcut_failed, sizeof why);
    const size_t discarded = met_start_again(e, 0, job->images, before, 0);
    e->report->evaluations_discarded += discarded;
    met_note_decline(e->report, MET_DECLINE_VERIFICATION, why);
    memcpy(e->report->shortcut_failed, why, sizeof why);
    start_tuner(e, &plain, met_chunk_first(e), job->images * job->evaluations, false);
    return met_run_plain(e, &next, job->images * job->evaluations, &plain, SIZE_MAX);
}

static void free_run(engine *e) {
    met_free_plain(e);
    met_readable_free(&e->readable);
    met_free_slots(e);
    met_free_references(e);
    met_deallocate(e->spot.value);
    met_deallocate(e->first_values);
    met_deallocate(e->values);
    met_deallocate(e->remaining);
    met_deallocate(e->carried);
}

int met_run(const met_job *job, const met_model *model, const met_options *options, met_report *report) {
    const double start = met_seconds();
    const met_report before = *report;
    engine e = {.job = job, .model = model, .options = options, .report = report};
    bool shortcut = false;
    int status = check(job, model);
    if (status != MET_OK) {
        return status;
    }
    e.base_image = e.carrying = MET_NO_IMAGE;
    e.size = met_image_size(&job->inputs[0].image);
    e.bytes = e.size * met_dtype_size(job->dtype);
    e.remaining = met_allocate(job->images, sizeof *e.remaining);
    e.carried = met_allocate(job->images, sizeof *e.carried);
    if (e.remaining == NULL || e.carried == NULL) {
        met_deallocate(e.remaining);
        met_deallocate(e.carried);
        return met_fail(MET_ENOMEM, "%zu images do not fit into memory", job->images);
    }
    for (size_t i = 0; i < job->images; i++) {
        e.remaining[i] = met_job_count(job, i);
        e.carried[i] = false;
    }
    e.drawn = met_drawn(model);
    /* Who watches learns what there is to do before anything is done; later runs of the same work go on from there. */
    status = options->evaluations_before == 0 ? met_report_progress(&e, 0) : MET_OK;
    status = status == MET_OK ? met_wants_shortcut(&e, &shortcut) : status;
    status = status == MET_OK ? run_groups(&e, shortcut) : status;
    if (status == MET_EDECLINED && e.failed) {
        status = run_all_again(&e, &before);
    }
    if (status == MET_OK) {
        met_note_experience(&e, met_seconds() - start);
    }
    report->kernels = model->kernels != NULL ? model->kernels(model->ctx) : NULL;
    free_run(&e);
    report->seconds += met_seconds() - start;
    return status;
}
