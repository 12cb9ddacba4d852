/*
 * prepared.c - samples through the model's shortcut: images are prepared in groups, and descriptions go to the model.
 *
 * Where it declines, at whatever call, all that was folded of the group is void: the engine starts these images again
 * and renders. Where it gives something else than the model, all images are. The first samples are rendered by themselves
 * before: that times the plain path, which goes on from there where a shortcut does not pay or is declined, and a
 * shortcut must give the same for the first one. Where it turns out to be no faster, the plain path takes over.
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
/*
 * On images of this size preparing pays wherever there are enough evaluations: any model takes its time to read them. Of
 * fewer than so many one that is made in vain is too much.
 */
#define LARGE_BYTES ((size_t)4 << 20)
#define MANY_EVALUATIONS 33
/* An evaluation that takes less is timed twice before an image is prepared. */
#define WARM_SECONDS 0.005
/* Chunks by which the two paths are compared: the first one warms caches and code. */
#define TIMED_CALLS 2
/* In batches a slow sample takes this part of what it takes alone at least. */
#define SLOW_PART 0.8
/* ... and over all, where batches are larger than two, this part: what preparing is planned by. */
#define PLANNED_PART 0.5
/* The plain path takes over where the shortcut takes longer by this. */
#define SLOWER 1.03
/* ... unless other sizes of chunks are to be tried: until it has lost this part of what the rest takes on the plain path. */
#define TRIED_PART 0.01

/* No shortcut was taken although one was tried: for the report, and for later calls. */
static void note_refusal(engine *e, met_decline reason, const char *why) {
    e->refused = reason;
    snprintf(e->refusal, sizeof e->refusal, "%s", why);
    met_note_decline(e->report, reason, why);
}

void met_note_decline(met_report *report, met_decline reason, const char *why) {
    if (report->shortcut[0] == '\0' && report->shortcut_declined[0] == '\0') {
        snprintf(report->shortcut_declined, sizeof report->shortcut_declined, "%s", why);
        report->decline_reason = reason;
    }
}

static void note_shortcut(met_report *report, const char *name, const char *program) {
    snprintf(report->shortcut, sizeof report->shortcut, "%s", name);
    snprintf(report->program, sizeof report->program, "%s", program);
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
    if (e->first_values == NULL || e->width != y->width) {
        return MET_OK;
    }
    const double scale = met_output_scale(y, n);
    for (size_t j = 0; j < n; j++) {
        if (e->image_of[j] != 0 || e->k_of[j] != 0) {
            continue;
        }
        if (!met_agree(e, e->first_values, y->value + j * y->width, y->width, scale)) {
            return met_declined(MET_DECLINE_VERIFICATION, "it gave %.9g for a sample that gives %.9g alone",
                                y->value[j * y->width], e->first_values[0]);
        }
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
    const size_t again = met_count_call(e, 0, n, *seconds);
    e->report->shortcut_seconds += *seconds;
    *seconds -= cut->spared != NULL ? cut->spared(e->prepared) : 0; /* what samples to come take, too */
    if (status == MET_OK && y->value == NULL) {
        return met_fail(MET_EMODEL, "the model answered without outputs");
    }
    status = status == MET_OK ? compare_with_first(e, n, y) : status;
    if (status == MET_OK) {
        e->report->shortcut_evaluations += n - again;
        status = job->gradient ? met_note_outputs(e, 0, n, y) : met_fold(e, 0, n, &none, y);
    }
    return status == MET_OK ? met_spot_watch(e, n, y) : status;
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
        status = met_add_to_carried(e, i, (const uint8_t *)sum.data + (i - from) * e->bytes);
        status = status == MET_OK && job->begin != NULL ? job->begin(job->method, i) : status;
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

/* Hand images and baselines with their trial to the shortcut. */
static int hand_over(engine *e, size_t from, size_t to, met_batch *x, met_batch *b, met_trial *trial) {
    const met_shortcut *cut = e->model->shortcut;
    met_tried tried = {.evaluated = trial->batch.n};
    met_report *r = e->report;
    size_t *origins = met_allocate(to - from, sizeof *origins); /* those of the slots are the trial's */
    if (origins == NULL) {
        return met_fail(MET_ENOMEM, "%zu images do not fit into memory", to - from);
    }
    for (size_t i = from; i < to; i++) {
        origins[i - from] = e->job->inputs[i].origin;
    }
    x->image = b->image = origins;
    trial->part = met_largest_chunk(e, false) > 2 ? PLANNED_PART : 1.0;
    trial->tried = &tried;
    const double start = met_seconds();
    const int status = cut->prepare(e->model->ctx, x, b, trial, met_largest_chunk(e, true), &e->prepared);
    r->seconds_in_model += met_seconds() - start;
    met_note_draws(e);
    r->evaluations_verifying += tried.evaluated;
    e->postponed = tried.postponed;
    r->seconds_alone = r->seconds_alone > 0 ? r->seconds_alone : tried.seconds_alone;
    met_deallocate(origins);
    return status;
}

/* Let the shortcut see how the model computes the first samples, or forget it. */
static void look(const engine *e, bool on) {
    const met_shortcut *cut = e->model->shortcut;
    if (cut->look != NULL) {
        cut->look(e->model->ctx, on);
    }
}

/* Prepare images [from, to). */
static int prepare(engine *e, size_t from, size_t to) {
    const met_sample image = {.kind = MET_IDENTITY};
    const met_sample baseline = {.kind = MET_LERP, .alpha = 0};
    met_buffer *buffers[3] = {NULL, NULL, NULL};
    met_batch x, b;
    met_trial trial;
    e->first_prepared = from;
    int status = met_make_trial(e, from, to, &buffers[0], &trial);
    status = status == MET_OK ? render_batch(e, from, to, &image, &buffers[1], &x) : status;
    status = status == MET_OK ? render_batch(e, from, to, &baseline, &buffers[2], &b) : status;
    status = status == MET_OK ? hand_over(e, from, to, &x, &b, &trial) : status;
    for (size_t i = 0; i < 3; i++) {
        met_buffer_release(buffers[i]);
    }
    return status;
}

/* What the plain path takes in batches, as a part of what a sample takes alone; `slow` where that is long. */
static double part_in_batches(const engine *e, double slow) {
    const double alone = e->report->seconds_alone;
    return met_chunk_first(e) < 2   ? 1.0
           : alone < FAST_SECONDS   ? FAST_PART
           : alone < MEDIUM_SECONDS ? MEDIUM_PART
                                    : slow;
}

/* The cost of a sample in the shortcut's cheapest chunk, `tuner`'s, over that on the plain path. */
static double ratio_of_costs(const engine *e, const met_tuner *tuner, const met_tuner *plain) {
    return tuner->cheapest / (plain->cheapest > 0 ? plain->cheapest : e->report->seconds_alone);
}

/*
 * Samples from `next` to `end` through the shortcut, as long as it is not slower than rendering them: after some calls,
 * where that is in doubt and enough is left, some samples are rendered, and the faster path goes on.
 */
static int run_faster(engine *e, size_t next, size_t end, met_tuner *tuner, met_tuner *plain) {
    static const met_path described = {met_reserve_slots, describe_place, run_described, true};
    const double alone = e->report->seconds_alone;
    const bool may_leave = e->options->shortcuts == MET_SHORTCUTS_WHERE_FASTER && alone > 0;
    const double timed = (double)(TIMED_CALLS * tuner->chunk);
    int status = met_run_path(e, &described, &next, end, tuner, may_leave ? TIMED_CALLS : SIZE_MAX);
    if (status != MET_OK || next >= end) {
        return status;
    }
    if (plain->cheapest == 0 && tuner->cheapest > part_in_batches(e, SLOW_PART) * alone &&
        end - next > 2 * TIMED_CALLS * plain->chunk) {
        status = met_run_plain(e, &next, end, plain, TIMED_CALLS);
    }
    double ratio = ratio_of_costs(e, tuner, plain), lost = timed * (ratio - 1); /* samples of the plain path */
    while (status == MET_OK && ratio > SLOWER && tuner->direction != 0 && lost < TRIED_PART * (double)(end - next)) {
        lost += (double)tuner->chunk * (ratio - 1);
        status = met_run_path(e, &described, &next, end, tuner, 1);
        ratio = ratio_of_costs(e, tuner, plain);
    }
    e->plain_is_best = ratio > SLOWER;
    if (status == MET_OK) {
        status = e->plain_is_best ? met_run_plain(e, &next, end, plain, SIZE_MAX)
                                  : met_run_path(e, &described, &next, end, tuner, SIZE_MAX);
    }
    return status;
}

/* Evaluate and fold all samples of the prepared images [from, to). */
static int run_prepared(engine *e, size_t from, size_t to, met_tuner *tuner, met_tuner *plain) {
    const met_shortcut *cut = e->model->shortcut;
    const size_t together = cut->together != NULL ? cut->together(e->prepared) : 0;
    if (together > 0 && e->options->max_batch_size == 0) {
        met_tuner_start(tuner, together, together, together, false);
    }
    met_spot_start(e, from, to);
    const size_t next = from == 0 ? e->measured : from * e->job->evaluations;
    int status = run_faster(e, next, to * e->job->evaluations, tuner, plain);
    status = status == MET_OK ? met_spot_finish(e) : status;
    return status == MET_OK && e->job->gradient ? collect(e, from, to) : status;
}

bool met_keeps_measured(const engine *e) {
    return e->eligible && e->job->gradient && e->measured > 0 && e->measured < e->job->evaluations;
}

/* What was rendered of the first image to learn what that costs counts, or it has served. */
static void settle_measured(engine *e) {
    if (met_keeps_measured(e)) {
        met_carry_over(e, 0);
        met_free_plain(e);
    } else if (e->measured > 0) {
        const size_t evaluated = met_start_again(e, 0, 1, &e->unmeasured, 0);
        e->report->evaluations_verifying += evaluated;
        e->measured = 0;
        met_free_plain(e);
    }
}

/* The shortcut was declined after all: what images [from, to) gave since the report was `before` is void. */
static void discard(engine *e, size_t from, size_t to, const met_report *before, size_t done) {
    const bool measured = from == 0 && e->measured > 0;
    const size_t discarded =
        measured ? met_start_again(e, 0, to, &e->unmeasured, 0) : met_start_again(e, from, to, before, done);
    e->report->evaluations_discarded += discarded;
    e->measured = measured ? 0 : e->measured;
}

/* Whether a reason to decline holds for the other images of the job too. */
static bool is_shared(met_decline reason) {
    return reason == MET_DECLINE_NOT_OFFERED || reason == MET_DECLINE_NOTHING_SHARED ||
           reason == MET_DECLINE_LITTLE_WORK || reason == MET_DECLINE_MODEL_STATE || reason == MET_DECLINE_STRUCTURE;
}

/* Images [from, to) through the model's shortcut. MET_EDECLINED: none of them has a result that counts. */
int met_run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner, met_tuner *plain) {
    const met_shortcut *cut = e->model->shortcut;
    met_report *r = e->report;
    int status = prepare(e, from, to);
    look(e, false);
    e->tried = true;
    if (status == MET_EDECLINED) {
        note_refusal(e, met_decline_reason(), met_detail());
        e->hopeless = is_shared(met_decline_reason());
    } else if (status == MET_OK) {
        if (from == 0) {
            settle_measured(e);
        }
        const met_report before = *r;
        const size_t done = e->done;
        status = run_prepared(e, from, to, tuner, plain);
        if (status == MET_EDECLINED && met_decline_reason() == MET_DECLINE_VERIFICATION) {
            e->failed = true;
            note_refusal(e, MET_DECLINE_VERIFICATION, met_detail());
            snprintf(r->shortcut_failed, sizeof r->shortcut_failed, "%s", met_detail());
        } else if (status == MET_EDECLINED) {
            discard(e, from, to, &before, done);
            note_refusal(e, met_decline_reason(), met_detail());
        } else if (status == MET_OK && e->plain_is_best) {
            note_refusal(e, MET_DECLINE_LITTLE_WORK, "slower than the model's own calls");
        } else if (status == MET_OK) {
            note_shortcut(r, cut->name(e->prepared), cut->program != NULL ? cut->program(e->prepared) : "");
        }
    }
    if (e->prepared != NULL) {
        cut->release(e->model->ctx, e->prepared);
        e->prepared = NULL;
    }
    met_forget_references(e, MET_NO_IMAGE);
    return status;
}

/* Whether the evaluations are so many, and take so long on the plain path, that preparing the images pays. */
static bool is_worth_preparing(const engine *e) {
    const double alone = e->report->seconds_alone, images = (double)e->job->images;
    const double plain = images * (double)e->job->evaluations * part_in_batches(e, 1.0) * alone;
    return e->options->shortcuts >= MET_SHORTCUTS_ALWAYS ||
           SAVED_PART * plain > PREPARE_SECONDS + PREPARE_EVALUATIONS * images * alone;
}

/* Whether an image has too few evaluations for preparing to pay; where shortcuts are always wanted, two can share something. */
static bool has_too_few_evaluations(const engine *e) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    if (e->options->shortcuts >= MET_SHORTCUTS_ALWAYS) {
        return job->evaluations < 2;
    }
    return job->evaluations < (job->gradient ? cut->least_gradients : cut->least_outputs) ||
           SAVED_PART * (double)job->evaluations <= PREPARE_EVALUATIONS;
}

/*
 * Render the first samples, which tells what the plain path costs, and what the shortcut must give. They count unless a
 * shortcut is taken.
 */
static int measure(engine *e, bool *worth) {
    double *alone = &e->report->seconds_alone;
    if (met_chunk_first(e) == 1 && e->bytes >= LARGE_BYTES && e->job->evaluations >= MANY_EVALUATIONS) { /* surely */
        *worth = true;
        return MET_OK;
    }
    if (*alone == 0 && e->eligible) {
        *alone = met_experience_alone(e->options->experience, e->job);
    }
    if (*alone > 0) { /* an earlier run has done it */
        *worth = is_worth_preparing(e);
        return MET_OK;
    }
    e->unmeasured = *e->report;
    if (e->eligible) {
        look(e, true);
    }
    int status = met_run_first(e);
    const bool cold = *alone == 0 || (*alone < WARM_SECONDS && is_worth_preparing(e));
    if (status == MET_OK && cold && !e->draws && e->measured < e->job->evaluations) {
        status = met_run_first(e);
    }
    const bool varies = e->draws && e->eligible; /* where shortcuts are always wanted, the provider is to say so */
    *worth = status == MET_OK && !varies && is_worth_preparing(e) && e->report->batching != MET_BATCHING_SINGLE;
    if (!*worth) {
        look(e, false);
    }
    return status;
}

/* Why a shortcut is not worth preparing. */
static met_decline refuse(const engine *e, const char **why) {
    if (e->report->batching == MET_BATCHING_SINGLE) {
        *why = e->report->one_at_a_time;
        return MET_DECLINE_STRUCTURE;
    }
    if (e->draws) {
        *why = "the model draws random numbers";
        return MET_DECLINE_MODEL_STATE;
    }
    *why = "the evaluations are so fast that preparing it would take longer";
    return MET_DECLINE_LITTLE_WORK;
}

/* Whether an earlier call has found that a shortcut is in vain here. */
static bool is_advised_against(engine *e, met_decline *reason, char *why, size_t n) {
    char found[160];
    e->eligible = e->options->shortcuts == MET_SHORTCUTS_WHERE_FASTER;
    if (!e->eligible || !met_experience_advises_against(e->options->experience, e->job, reason, found, sizeof found)) {
        return false;
    }
    snprintf(why, n, "%s, as an earlier call has shown", found);
    return true;
}

/* Whether the job is of a form that a shortcut can take, and large enough that it pays; else the report says why not. */
int met_wants_shortcut(engine *e, bool *wanted) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    met_decline reason = MET_DECLINE_NONE;
    const char *why = "";
    char earlier[200];
    int status = MET_OK;
    *wanted = false;
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
    } else if (has_too_few_evaluations(e)) {
        reason = MET_DECLINE_LITTLE_WORK;
        why = "there are too few evaluations of an image";
    } else if (is_advised_against(e, &reason, earlier, sizeof earlier)) {
        why = earlier;
    } else {
        status = measure(e, wanted);
        if (!*wanted) {
            reason = refuse(e, &why);
        }
    }
    if (reason != MET_DECLINE_NONE) {
        met_note_decline(e->report, reason, why);
    }
    return status;
}

void met_note_experience(engine *e, double seconds) {
    const met_job *job = e->job;
    const double samples = (double)job->images * (double)job->evaluations;
    if (e->eligible && !e->draws) {
        met_experience_note(e->options->experience, job, e->tried && !e->postponed, e->refused, e->refusal, seconds,
                            samples * part_in_batches(e, SLOW_PART) * e->report->seconds_alone,
                            met_largest_chunk(e, false) > 1, e->report->seconds_alone);
    }
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
