/*
 * prepared.c - samples through the model's shortcut: images are prepared in groups, and descriptions go to the model.
 *
 * Where it declines, at whatever call, all that was folded of the group is void: the engine starts these images again
 * and renders. The first sample is evaluated by itself before: that times the plain path, which goes on from there where
 * the work is too little for a shortcut, and a shortcut must give the same for that sample.
 */
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a shortcut caches for each image of a group, beside its features: image, baseline, sum of gradients. */
#define GROUP_FACTOR 4
#define GROUP_BYTES ((size_t)64 << 20)
/*
 * What preparing costs: this many seconds, and for each image this many evaluations of one sample. What it saves of the
 * evaluations. All measured on small and large convolutional networks, and meant to be on the safe side of the plain path.
 */
#define PREPARE_SECONDS 0.002
#define PREPARE_EVALUATIONS 6
#define SAVED_PART 0.7
/* In batches a sample takes about this part of what it takes alone, where that is less than so many seconds. */
#define FAST_SECONDS 0.001
#define FAST_PART 0.4
#define MEDIUM_SECONDS 0.003
#define MEDIUM_PART 0.6
/* On images of this size preparing pays wherever there are enough evaluations: any model takes its time to read them. */
#define LARGE_BYTES ((size_t)4 << 20)
/* An evaluation that takes less is timed twice before an image is prepared. */
#define WARM_SECONDS 0.005

/* Write down why no shortcut is taken, unless one was, or another reason came first. */
static void note_decline(met_report *report, met_decline reason, const char *why) {
    if (report->shortcut[0] == '\0' && report->shortcut_declined[0] == '\0') {
        snprintf(report->shortcut_declined, sizeof report->shortcut_declined, "%s", why);
        report->decline_reason = reason;
    }
}

static void note_shortcut(met_report *report, const char *name) {
    snprintf(report->shortcut, sizeof report->shortcut, "%s", name);
    report->shortcut_declined[0] = '\0';
    report->decline_reason = MET_DECLINE_NONE;
}

/* Render one description of every image in [from, to) into a batch of its own. */
static int render_batch(engine *e, size_t from, size_t to, const met_sample *s, met_buffer **buffer, met_batch *out) {
    int status = met_buffer_new((to - from) * e->bytes, "the images of a shortcut", &e->report->memory, buffer);
    uint8_t *data = status == MET_OK ? met_buffer_data(*buffer) : NULL;
    for (size_t i = from; i < to && status == MET_OK; i++) {
        status = met_load_image(e, i);
        if (status == MET_OK) {
            met_sample_render(&e->base, s, e->options->pool, data + (i - from) * e->bytes);
        }
    }
    if (status == MET_OK) {
        *out = met_batch_view(e, *buffer, 0, to - from);
    }
    return status;
}

/* Describe evaluation k of image i for place j, unless it is a copy of the image that the job wants skipped. */
static int describe_place(engine *e, size_t j, size_t i, size_t k, bool *copy) {
    met_sample *s = &e->samples[j];
    int status = met_describe_sample(e, j, i, k, e->scratch + 2 * j * e->job->scratch, s);
    if (status == MET_OK && e->job->skip_copies) {
        status = met_load_image(e, i);
        *copy = status == MET_OK && !met_sample_changes(&e->base, s);
    }
    s->image = i - e->first_prepared;
    return status;
}

/* Where the first sample, which was evaluated alone, is among the n evaluated ones, it must have given the same. */
static int compare_with_first(const engine *e, size_t n, const met_outputs *y) {
    double scale = 0;
    if (e->first_values == NULL || e->width != y->width) {
        return MET_OK;
    }
    for (size_t i = 0; i < n * y->width; i++) {
        scale = fabs(y->value[i]) > scale && isfinite(y->value[i]) ? fabs(y->value[i]) : scale;
    }
    for (size_t j = 0; j < n; j++) {
        if (e->image_of[j] != 0 || e->k_of[j] != 0) {
            continue;
        }
        if (!met_agree(e, e->first_values, y->value + j * y->width, y->width, scale)) {
            return met_declined(MET_DECLINE_VERIFICATION, "it gave %.9g for a sample that gives %.9g alone",
                                y->value[j * y->width], e->first_values[0]);
        }
        e->report->batching = n > 1 ? MET_BATCHING_FREE : e->report->batching;
    }
    return MET_OK;
}

/* Evaluate and fold the first n described samples. */
static int run_described(engine *e, size_t n, double *seconds) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    output_request request = met_request_outputs(e, 0, n, &e->values, &e->values_capacity);
    met_outputs *y = &request.y;
    const met_batch none = {0};
    double start = met_seconds();
    int status = job->gradient ? cut->gradient(e->model->ctx, e->prepared, e->samples, e->weights, n, y)
                               : cut->forward(e->model->ctx, e->prepared, e->samples, n, y);
    *seconds = met_seconds() - start;
    if (status == MET_EDECLINED) {
        return status;
    }
    met_count_call(e, n, *seconds);
    if (status == MET_OK && y->value == NULL) {
        return met_fail(MET_EMODEL, "the model answered without outputs");
    }
    status = status == MET_OK ? compare_with_first(e, n, y) : status;
    if (status == MET_OK) {
        e->report->shortcut_evaluations += n;
        status = job->gradient ? met_note_outputs(e, 0, n, y) : met_fold(e, 0, n, &none, y);
    }
    return status;
}

/* Hand the sums of images [from, to) to the method. */
static int collect(engine *e, size_t from, size_t to) {
    const met_job *job = e->job;
    met_batch sum = {0};
    double start = met_seconds();
    int status = e->model->shortcut->collect(e->model->ctx, e->prepared, &sum);
    e->report->seconds_in_model += met_seconds() - start;
    if (status == MET_OK && (sum.data == NULL || sum.n != to - from)) {
        status = met_fail(MET_EMODEL, "the shortcut answered without a gradient for each image");
    }
    for (size_t i = from; i < to && status == MET_OK; i++) {
        memcpy(job->sums[i], (const uint8_t *)sum.data + (i - from) * e->bytes, e->bytes);
        status = job->begin != NULL ? job->begin(job->method, i) : MET_OK;
        if (status == MET_OK && job->finish != NULL) {
            status = met_load_image(e, i);
            status = status == MET_OK ? job->finish(job->method, i, &e->base) : status;
        }
    }
    if (sum.owner != NULL) {
        sum.owner->release(sum.owner);
    }
    return status;
}

/* Forget what images [from, to) gave so far, but for the time it took; how many evaluations that were. */
static size_t start_again(engine *e, size_t from, size_t to, const met_report *before, size_t done) {
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
    e->done = done;
    return now.evaluations - before->evaluations;
}

/* Prepare images [from, to) for samples like the middle one of the first image. */
static int prepare(engine *e, size_t from, size_t to) {
    const met_sample image = {.kind = MET_IDENTITY};
    const met_sample baseline = {.kind = MET_LERP, .alpha = 0};
    met_buffer *x_buffer = NULL;
    met_buffer *b_buffer = NULL;
    met_batch x;
    met_batch b;
    met_sample example;
    e->first_prepared = from;
    int status = met_reserve_slots(e, to - from);
    if (status == MET_OK) {
        status = render_batch(e, from, to, &image, &x_buffer, &x);
    }
    if (status == MET_OK) {
        status = render_batch(e, from, to, &baseline, &b_buffer, &b);
    }
    if (status == MET_OK) {
        status = met_describe_sample(e, 0, from, met_job_count(e->job, from) / 2, e->scratch, &example);
    }
    if (status == MET_OK) {
        for (size_t i = from; i < to; i++) {
            e->origin_of[i - from] = e->job->inputs[i].origin;
        }
        const double start = met_seconds();
        status = e->model->shortcut->prepare(e->model->ctx, &x, &b, &example, met_chunk_limit(e), &e->prepared);
        e->report->seconds_in_model += met_seconds() - start;
    }
    met_buffer_release(x_buffer);
    met_buffer_release(b_buffer);
    return status;
}

/* Images [from, to) through the model's shortcut. MET_EDECLINED: none of them has a result. */
int met_run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner) {
    static const met_path described = {met_reserve_slots, describe_place, run_described};
    const met_shortcut *cut = e->model->shortcut;
    const met_report before = *e->report;
    const size_t done = e->done;
    int status = prepare(e, from, to);
    if (status == MET_OK) {
        status = met_run_path(e, &described, from * e->job->evaluations, to * e->job->evaluations, tuner);
    }
    if (status == MET_OK && e->job->gradient) {
        status = collect(e, from, to);
    }
    if (status == MET_EDECLINED) {
        const size_t discarded = start_again(e, from, to, &before, done);
        e->report->evaluations_discarded += discarded;
        note_decline(e->report, met_decline_reason(), met_detail());
    } else if (status == MET_OK) {
        note_shortcut(e->report, cut->name(e->prepared));
    }
    if (e->prepared != NULL) {
        cut->release(e->model->ctx, e->prepared);
        e->prepared = NULL;
    }
    return status;
}

/* Whether the evaluations are so many, and take so long on the plain path, that preparing the images pays. */
static bool is_worth_preparing(const engine *e) {
    const double alone = e->report->seconds_alone, images = (double)e->job->images;
    const double part = met_chunk_first(e) < 2   ? 1.0
                        : alone < FAST_SECONDS   ? FAST_PART
                        : alone < MEDIUM_SECONDS ? MEDIUM_PART
                                                 : 1.0;
    const double plain = images * (double)e->job->evaluations * part * alone;
    return e->options->shortcuts == MET_SHORTCUTS_ALWAYS ||
           SAVED_PART * plain > PREPARE_SECONDS + PREPARE_EVALUATIONS * images * alone;
}

/*
 * Evaluate the first sample by itself, which tells what the plain path costs, and what the shortcut must give. Where the
 * plain path goes on, it has begun; *done is how many samples it has folded.
 */
static int measure(engine *e, bool *worth, size_t *done) {
    double *alone = &e->report->seconds_alone;
    const met_report before = *e->report;
    if (met_largest_chunk(e, true) == 1 && e->bytes >= LARGE_BYTES) { /* surely, and no batch needs to be verified */
        *worth = true;
        return MET_OK;
    }
    if (*alone > 0) { /* an earlier run of this call has done it */
        *worth = is_worth_preparing(e);
        return MET_OK;
    }
    int status = met_run_first(e);
    *worth = status == MET_OK && is_worth_preparing(e);
    if (*worth && *alone < WARM_SECONDS) { /* the first one warmed caches and code */
        double seconds = 0;
        status = met_time_first(e, &seconds);
        *alone = status == MET_OK && seconds < *alone ? seconds : *alone;
        *worth = status == MET_OK && is_worth_preparing(e);
    }
    *done = status == MET_OK && !*worth ? 1 : 0;
    if (status == MET_OK && *worth) {
        const size_t verifying = start_again(e, 0, 1, &before, 0);
        e->report->evaluations_verifying += verifying;
        met_free_plain(e);
    }
    return status;
}

/* Whether the job is of a form that a shortcut can take, and large enough that it pays; else the report says why not. */
int met_wants_shortcut(engine *e, bool *wanted, size_t *done) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    met_decline reason = MET_DECLINE_NONE;
    const char *why = "";
    int status = MET_OK;
    *wanted = false;
    *done = 0;
    if (e->options->shortcuts == MET_SHORTCUTS_OFF) {
        reason = MET_DECLINE_SWITCHED_OFF;
        why = "shortcuts are switched off";
    } else if (cut == NULL || (!job->gradient && cut->forward == NULL)) {
        reason = MET_DECLINE_NOT_OFFERED;
        why = "a model that is driven in this way offers none";
    } else if (job->kind == MET_IDENTITY || job->kind == MET_NOISE) {
        reason = MET_DECLINE_NOTHING_SHARED;
        why = job->kind == MET_NOISE ? "noise leaves no value as it is" : "each image is evaluated as it is";
    } else if (job->gradient && (job->weight == NULL || job->fold != NULL)) {
        reason = MET_DECLINE_NOTHING_SHARED;
        why = "the method needs the gradient of every sample, not their sum alone";
    } else if (job->evaluations < (job->gradient ? cut->least_gradients : cut->least_outputs) ||
               (e->options->shortcuts == MET_SHORTCUTS_WHERE_FASTER &&
                SAVED_PART * (double)job->evaluations <= PREPARE_EVALUATIONS)) {
        reason = MET_DECLINE_LITTLE_WORK;
        why = "there are too few evaluations of an image";
    } else {
        bool worth = false;
        status = measure(e, &worth, done);
        *wanted = worth;
        reason = worth ? MET_DECLINE_NONE : MET_DECLINE_LITTLE_WORK;
        why = "the evaluations are so fast that preparing it would take longer";
    }
    if (reason != MET_DECLINE_NONE) {
        note_decline(e->report, reason, why);
    }
    return status;
}

/* How many images a shortcut prepares at once. */
size_t met_group_size(const engine *e) {
    size_t bytes = GROUP_BYTES;
    if (e->options->memory_budget > 0 && e->options->memory_budget / 4 < bytes) {
        bytes = e->options->memory_budget / 4;
    }
    size_t images = bytes / GROUP_FACTOR / e->bytes;
    return images > 0 ? images : 1;
}
