/* Shortcuts: which runs take one, and what is left of it where it declines. */
#include "check.h"
#include "integrated_gradients.h"
#include "pool.h"
#include "script.h"

#include <stdio.h>
#include <string.h>

/* A report for runs that take a shortcut where there is one: the time of a sample counts as known. */
static const met_report slow = {.seconds_alone = 1};

typedef struct progress {
    size_t done;
    bool within;
} progress;

static int watch(void *ctx, size_t done, size_t total) {
    progress *p = ctx;
    p->done = done;
    p->within = p->within && done <= total && total == IMAGES * SAMPLES;
    return MET_OK;
}

/* A decline that left nothing behind: the report tells of the plain path, and of what was evaluated in vain. */
static void check_declined(const met_report *report, const toy *t, size_t saved) {
    char why[64];
    snprintf(why, sizeof why, "changed my mind at call %zu", t->decline_at);
    CHECK_STR(report->shortcut, "");
    CHECK_STR(report->shortcut_declined, why);
    CHECK_INT(report->decline_reason, MET_DECLINE_FAILURE);
    CHECK_INT(report->shortcut_evaluations, 0);
    CHECK_INT(report->evaluations_saved, saved);
}

static void check_finished(const met_report *report, const toy *t) {
    CHECK_INT(report->evaluations + report->evaluations_discarded + report->evaluations_verifying, t->samples);
    CHECK_INT(report->memory.bytes, 0);
    CHECK_INT(t->prepared, 0);
    CHECK_INT(t->lent, 0);
}

/* What a forward job folded since its images began for the last time is every sample once, with its own number. */
static void check_folded(const script *m, const met_job *job, const toy *t) {
    double want[IMAGES][SAMPLES][TOY_OUTPUTS];
    script_expect(t, job, want);
    for (size_t i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < SAMPLES; k++) {
            const bool needed = m->enough == 0 || k < m->enough;
            CHECK_INT(m->times[i][k], needed);
            if (needed && !(job->skip_copies && script_is_copy(job, i, k))) {
                CHECK_CLOSE(m->value[i][k][0], want[i][k][0], 1e-12);
            }
        }
    }
    CHECK_INT(m->finished, IMAGES);
}

/* The sums of gradients, or what was folded, are those of the samples. */
static void check_results(const script *m, const met_job *job, const toy *t, bool gradient) {
    double want[IMAGES][TOY_SIZE];
    if (gradient) {
        script_expect_sums(t, job, want);
        CHECK_CLOSE_N(m->sum[0], want[0], IMAGES * TOY_SIZE, 1e-13);
        CHECK_INT(m->finished, IMAGES);
    } else {
        check_folded(m, job, t);
    }
}

/*
 * One job for each number of calls after which the shortcut declines, until it is not reached any more.
 *   shape  0: all samples in order; 1: copies of the image are skipped; 2: images converge half-way
 */
static void forward_declines(size_t limit, int shape) {
    bool taken = false;
    for (size_t at = 1; !taken; at++) {
        script m;
        toy t;
        met_report report = slow;
        progress seen = {.within = true};
        const met_options options = {
            .max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER, .progress = watch, .progress_ctx = &seen};
        size_t copies = 0;
        REQUIRE(at < 100);
        script_make_inputs();
        for (size_t v = 0; v < TOY_SIZE && shape == 1; v++) {
            script_images[1][v] = v / 20 < 2 ? script_baselines[1][v] : script_images[1][v];
        }
        met_job job = script_job(&m, MET_BOX);
        job.skip_copies = shape == 1;
        m.enough = shape == 2 ? 5 : 0;
        for (size_t s = 0; s < IMAGES * SAMPLES && shape == 1; s++) {
            copies += script_is_copy(&job, s / SAMPLES, s % SAMPLES);
        }
        CHECK((shape == 1) == (copies > 0));
        toy_init(&t, true);
        t.decline_at = at;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        check_folded(&m, &job, &t);
        check_finished(&report, &t);
        CHECK(m.in_order || shape > 0);
        CHECK(seen.within);
        CHECK_INT(seen.done, IMAGES * SAMPLES);
        taken = t.shortcut_calls < at;
        if (taken) {
            CHECK_STR(report.shortcut, "toy stem");
            CHECK_INT(report.evaluations_discarded, 0);
            CHECK_INT(report.shortcut_evaluations, report.evaluations);
            CHECK_INT(report.evaluations_saved, copies);
        } else {
            check_declined(&report, &t, copies);
        }
        if (shape < 2) {
            CHECK_INT(report.evaluations, IMAGES * SAMPLES - copies);
            const size_t spot = taken ? 1 : 0, batch = taken || limit == 1 ? 0 : 1; /* or it declined behind that */
            CHECK(report.evaluations_verifying >= spot + batch && report.evaluations_verifying <= 1 + 2 * batch);
        }
        if (shape == 0 && limit == 1 && !taken) { /* prepare() is the first call, each further one is one sample */
            CHECK_INT(report.evaluations_discarded, at < 2 ? 0 : at - 2);
            CHECK_INT(report.model_calls, IMAGES * SAMPLES);
        }
        CHECK(report.evaluations > 0 && (!taken || at > 3));
    }
}

void test_shortcut_declines_at_any_call(void) {
    for (int shape = 0; shape < 3; shape++) {
        forward_declines(1, shape);
        forward_declines(4, shape);
    }
}

void test_shortcut_of_gradients_declines_at_any_call(void) {
    for (size_t limit = 1; limit < 5; limit += 3) {
        double plain[IMAGES][TOY_SIZE];
        bool taken = false;
        for (size_t at = 0; !taken || at == 0; at++) { /* call 0 is a run without a shortcut */
            script m;
            toy t;
            met_report report = slow;
            const met_options options = {
                .max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER, .pool = &backwards};
            REQUIRE(at < 100);
            script_make_inputs();
            const met_job job = script_gradient_job(&m, MET_SEGMENTS);
            toy_init(&t, at > 0);
            t.decline_at = at;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            if (at == 0) {
                script_expect_sums(&t, &job, plain);
                CHECK_CLOSE_N(m.sum[0], plain[0], IMAGES * TOY_SIZE, 1e-13);
                memcpy(plain, m.sum, sizeof plain);
                continue;
            }
            taken = t.shortcut_calls < at;
            CHECK_CLOSE_N(m.sum[0], plain[0], IMAGES * TOY_SIZE, taken ? 1e-13 : 0);
            CHECK_INT(m.finished, IMAGES);
            CHECK(m.in_order);
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            check_finished(&report, &t);
            if (taken) { /* prepare(), the samples, collect() */
                CHECK_INT(report.shortcut_evaluations, IMAGES * SAMPLES);
                CHECK(limit > 1 || at == IMAGES * SAMPLES + 3);
            } else {
                check_declined(&report, &t, 0);
                CHECK(limit > 1 || at == 1 || report.evaluations_discarded == at - 2);
            }
        }
    }
}

/* Images are prepared one by one, and one of them is declined: the others keep what they have. */
void test_shortcut_declines_in_one_of_many_groups(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (int stays = 0; stays < 2; stays++) {
            bool taken = false;
            for (size_t at = 1; !taken; at++) {
                script m;
                toy t;
                met_report report = slow;
                const met_options options = {.max_batch_size = 2,
                                             .memory_budget = 4 * 4 * TOY_SIZE * sizeof(double),
                                             .shortcuts = MET_SHORTCUTS_ALWAYS};
                REQUIRE(at < 100);
                const met_job job = script_begin(&m, &t, true, gradient, MET_BANDS);
                t.decline_at = at;
                t.decline_on = stays != 0;
                REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
                taken = t.shortcut_calls < at;
                check_results(&m, &job, &t, gradient);
                CHECK(m.in_order);
                CHECK_INT(report.evaluations, IMAGES * SAMPLES);
                check_finished(&report, &t);
                CHECK(report.shortcut_evaluations % SAMPLES == 0);
                if (stays == 0) {
                    CHECK_INT(report.shortcut_evaluations, (taken ? IMAGES : IMAGES - 1) * SAMPLES);
                }
                CHECK((report.shortcut_evaluations > 0) == (report.shortcut[0] != '\0'));
                CHECK((report.shortcut[0] == '\0') == (report.shortcut_declined[0] != '\0'));
                CHECK((report.shortcut[0] == '\0') == (report.decline_reason == MET_DECLINE_FAILURE));
            }
        }
    }
}

void test_shortcut_switched_off(void) {
    script m;
    toy t;
    met_report report = slow;
    const met_options options = {.max_batch_size = 4};
    script_make_inputs();
    const met_job job = script_job(&m, MET_SEGMENTS);
    toy_init(&t, true);
    REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
    check_folded(&m, &job, &t);
    CHECK_INT(t.shortcut_calls, 0);
    CHECK_INT(report.decline_reason, MET_DECLINE_SWITCHED_OFF);
    CHECK(report.shortcut_declined[0] != '\0');
}

/* ---- whether it pays */

/* The toy takes a microsecond: nothing is worth preparing. The first sample was timed to find out. */
void test_shortcut_of_little_work(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 4, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_INT(t.shortcut_calls, 0);
        CHECK_INT(report.decline_reason, MET_DECLINE_LITTLE_WORK);
        CHECK(report.shortcut_declined[0] != '\0' && report.shortcut[0] == '\0');
        CHECK(report.seconds_alone > 0);
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK_INT(report.evaluations_verifying, 1); /* of a batch */
        check_finished(&report, &t);

        job = gradient ? script_gradient_job(&m, MET_LERP) : script_job(&m, MET_LERP);
        job.evaluations = 2; /* so few that none is timed */
        report = (met_report){0};
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_INT(report.decline_reason, MET_DECLINE_LITTLE_WORK);
        CHECK(report.seconds_alone == 0);
    }
}

/* Where shortcuts are always wanted, as few as two samples of an image share something. */
void test_shortcut_of_two_samples(void) {
    static const met_shortcuts wanted[] = {MET_SHORTCUTS_WHERE_FASTER, MET_SHORTCUTS_ALWAYS};
    for (int k = 0; k < 8; k++) {
        const bool gradient = k % 2 != 0, always = k / 2 % 2 != 0;
        const size_t evaluations = k < 4 ? 1 : 2;
        script m;
        toy t;
        met_report report = slow;
        const met_options options = {.max_batch_size = 4, .shortcuts = wanted[always]};
        script_make_inputs();
        met_job job = gradient ? script_gradient_job(&m, MET_LERP) : script_job(&m, MET_LERP);
        job.evaluations = evaluations;
        toy_init(&t, true);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        const bool taken = always && evaluations == 2;
        CHECK_STR(report.shortcut, taken ? "toy stem" : "");
        CHECK_INT(report.decline_reason, taken ? MET_DECLINE_NONE : MET_DECLINE_LITTLE_WORK);
        CHECK_INT(report.shortcut_evaluations, taken ? IMAGES * evaluations : 0);
        check_finished(&report, &t);
    }
}

/*
 * A model that takes 4 ms: of outputs the samples that were timed are among those of the shortcut, and give the same; of
 * gradients they count.
 */
void test_shortcut_that_pays(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 1; limit < 8; limit += 6) {
            script m;
            toy t;
            met_report report = {0};
            const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            const met_job job = script_begin(&m, &t, true, gradient, MET_BOX);
            t.seconds = 4e-3;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            t.seconds = 0;
            check_results(&m, &job, &t, gradient);
            CHECK_STR(report.shortcut, "toy stem");
            CHECK_INT(report.decline_reason, MET_DECLINE_NONE);
            CHECK(report.seconds_alone >= 4e-3);
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            const size_t timed = IMAGES * SAMPLES - report.shortcut_evaluations, spot = 1; /* two, or one slow one */
            CHECK(gradient ? timed == 1 || timed == 2 : timed == 0);
            CHECK(report.evaluations_verifying >= spot + (gradient ? 0 : 1) &&
                  report.evaluations_verifying <= spot + (gradient ? 0 : 2));
            CHECK_INT(report.batching, MET_BATCHING_UNKNOWN); /* the model itself has seen one sample at a time */
            check_finished(&report, &t);
        }
    }
}

/* Gradients of samples that were timed count once, at whatever call the shortcut declines. */
void test_shortcut_that_pays_and_declines(void) {
    bool taken = false;
    for (size_t at = 1; !taken; at++) {
        script m;
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 4, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        const met_job job = script_begin(&m, &t, true, true, MET_LERP);
        REQUIRE(at < 100);
        t.seconds = 4e-3;
        t.decline_at = at;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds = 0;
        taken = t.shortcut_calls < at;
        check_results(&m, &job, &t, 1);
        CHECK_STR(report.shortcut, taken ? "toy stem" : "");
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK(taken ? report.shortcut_evaluations + 2 >= IMAGES * SAMPLES : report.shortcut_evaluations == 0);
        CHECK((report.evaluations_discarded > 0) == (!taken && at > 1));
        check_finished(&report, &t);
    }
}

/* The first of several groups is declined: its images are done, and stay counted, when the next ones take the shortcut. */
void test_shortcut_that_pays_from_the_second_group_on(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 4,
                                     .memory_budget = 4 * 4 * TOY_SIZE * sizeof(double),
                                     .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        const met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
        t.seconds = 4e-3;
        t.decline_at = 1;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds = 0;
        check_results(&m, &job, &t, gradient);
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK_INT(report.shortcut_evaluations, (IMAGES - 1) * SAMPLES);
        CHECK_INT(report.evaluations_discarded, 0);
        check_finished(&report, &t);
    }
}

/*
 * A shortcut whose numbers are off by a hundredth: the sample that was timed tells, of gradients a spot check, and all is
 * rendered.
 */
void test_shortcut_that_is_wrong(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 4, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        const met_job job = script_begin(&m, &t, true, gradient, MET_BANDS);
        t.seconds = 4e-3;
        t.exaggerate = 0.01;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds = 0;
        check_results(&m, &job, &t, gradient);
        CHECK(m.in_order);
        CHECK_INT(report.decline_reason, MET_DECLINE_VERIFICATION);
        CHECK_STR(report.shortcut, "");
        CHECK_INT(report.shortcut_evaluations, 0);
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK(report.evaluations_discarded > 0 && report.evaluations_discarded < IMAGES * SAMPLES);
        check_finished(&report, &t);
    }
}

/* ---- verified while it runs */

/* Wrong for one alpha only: the spot check finds it where it is the one that was drawn, and all is rendered. */
void test_shortcut_that_is_wrong_now_and_then(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 1; limit < 8; limit += 3) {
            size_t found = 0;
            for (size_t k = 0; k < SAMPLES; k++) {
                script m;
                toy t;
                met_report report = slow;
                const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
                const met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
                t.wrong = true;
                t.wrong_alpha = (double)k / SAMPLES;
                REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
                check_finished(&report, &t);
                CHECK_INT(report.evaluations, IMAGES * SAMPLES);
                if (report.shortcut[0] != '\0') { /* not found */
                    CHECK_STR(report.shortcut_failed, "");
                    continue;
                }
                found++;
                check_results(&m, &job, &t, gradient);
                CHECK(m.in_order);
                CHECK_INT(report.decline_reason, MET_DECLINE_VERIFICATION);
                CHECK_STR(report.shortcut_failed, report.shortcut_declined);
                CHECK(report.shortcut_failed[0] != '\0');
                CHECK_INT(report.shortcut_evaluations, 0);
                CHECK(report.evaluations_discarded >= IMAGES * SAMPLES / 2);
            }
            /* Of the alphas, one is that of the sample that is looked at; which one, batches may have a say in. */
            CHECK(limit > 1 || found == 1);
        }
    }
}

/* Images are prepared one by one: what others gave before is void too, and no further one is prepared. */
void test_shortcut_that_is_wrong_in_one_of_many_groups(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        size_t found = 0;
        for (size_t k = 0; k < SAMPLES; k++) {
            script m;
            toy t;
            met_report report = slow;
            const met_options options = {.max_batch_size = 1,
                                         .memory_budget = 4 * 4 * TOY_SIZE * sizeof(double),
                                         .shortcuts = MET_SHORTCUTS_ALWAYS};
            const met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
            t.wrong = true;
            t.wrong_alpha = (double)k / SAMPLES;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            check_finished(&report, &t);
            if (report.shortcut[0] != '\0') {
                CHECK_INT(report.evaluations_verifying, IMAGES); /* one of each */
                continue;
            }
            found++;
            check_results(&m, &job, &t, gradient);
            CHECK(m.in_order);
            CHECK_INT(report.decline_reason, MET_DECLINE_VERIFICATION);
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            CHECK_INT(report.shortcut_evaluations, 0);
        }
        CHECK(found >= 1 && found <= IMAGES);
    }
}

/* ---- never slower */

/* Ten times slower than the model: a few samples tell, and the rest is rendered. Nothing is evaluated twice for that. */
void test_shortcut_that_is_slow(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 1; limit < 4; limit += 2) {
            script m;
            toy t;
            met_report report = {0};
            const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
            t.seconds_a_sample = 6e-3;
            t.shortcut_seconds_a_sample = 6e-2;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            t.seconds_a_sample = 0;
            check_results(&m, &job, &t, gradient);
            CHECK(m.in_order);
            CHECK_INT(report.decline_reason, MET_DECLINE_LITTLE_WORK);
            CHECK(strstr(report.shortcut_declined, "slower") != NULL);
            CHECK_STR(report.shortcut, "");
            CHECK_STR(report.shortcut_failed, "");
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            CHECK_INT(report.evaluations_discarded, 0);
            CHECK_INT(report.shortcut_evaluations, 2 * limit);
            check_finished(&report, &t);
        }
    }
}

/* It takes a little longer in chunks of the size that it begins with, and half as long in the next one, which is tried. */
void test_shortcut_that_is_slow_in_small_chunks(void) {
    toy t;
    met_report report = {0};
    double out[TOY_SIZE], delta = 0, sum = 0, zx[TOY_FEATURES], zb[TOY_FEATURES];
    void *outs[1] = {out};
    const met_options options = {.shortcuts = MET_SHORTCUTS_WHERE_FASTER};
    const met_integrated_gradients_options method = {2000, MET_GAUSS_LEGENDRE, true, &delta};
    script_make_inputs();
    toy_init(&t, true);
    t.seconds_a_sample = 3e-4;
    t.shortcut_seconds = 64 * 1.1 * t.seconds_a_sample;
    REQUIRE(toy_run(&met_integrated_gradients, script_inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs,
                    &report) == MET_OK);
    CHECK(report.chunk_largest > 64);
    CHECK_STR(report.shortcut, "toy stem");
    CHECK_STR(report.shortcut_declined, "");
    for (size_t v = 0; v < TOY_SIZE; v++) {
        sum += out[v];
    }
    toy_features(&t, script_images[0], zx);
    toy_features(&t, script_baselines[0], zb);
    CHECK_CLOSE(sum, toy_output(zx, 0) - toy_output(zb, 0), 1e-10);
    CHECK_INT(t.prepared, 0);
}

/* The first calls find what all others need: what they take is no reason to leave. */
void test_shortcut_that_learns_is_not_slow(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 1, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
        t.seconds_a_sample = 6e-3;
        t.shortcut_seconds_a_sample = 6e-4;
        t.shortcut_learns = 4;
        t.shortcut_seconds_learning = 3e-2;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds_a_sample = 0;
        check_results(&m, &job, &t, gradient);
        CHECK_STR(report.shortcut, "toy stem");
        CHECK_INT(report.shortcut_evaluations, IMAGES * SAMPLES - (gradient ? 1 : 0)); /* which was timed */
        CHECK(report.shortcut_seconds >= 4 * 3e-2);
        check_finished(&report, &t);
    }
}

/* A shortcut that makes many samples at once gets as many as it says, but for what the caller says. */
void test_shortcut_says_how_many_samples_at_once(void) {
    const size_t most[] = {0, 2}, wanted[] = {5, 2};
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t i = 0; i < 2; i++) {
            script m;
            toy t;
            met_report report = slow;
            const met_options options = {.max_batch_size = most[i], .shortcuts = MET_SHORTCUTS_ALWAYS};
            met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
            t.together = 5;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            check_results(&m, &job, &t, gradient);
            CHECK_INT(report.chunk_first, wanted[i]);
            CHECK_INT(report.chunk_largest, wanted[i]);
            check_finished(&report, &t);
        }
    }
}

/* In doubt, since a sample alone is believed to be fast: some samples are rendered, which takes longer, and the shortcut
 * goes on. */
void test_shortcut_that_is_faster_after_all(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {.seconds_alone = 1e-2};
        const met_options options = {.max_batch_size = 3, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
        t.seconds_a_sample = 3e-2;
        t.shortcut_seconds_a_sample = 9e-3;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds_a_sample = 0;
        check_results(&m, &job, &t, gradient);
        CHECK(m.in_order);
        CHECK_STR(report.shortcut, "toy stem");
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK_INT(report.shortcut_evaluations, IMAGES * SAMPLES - 6);
        check_finished(&report, &t);
    }
}

/* What was rendered to learn what that costs counts where no shortcut is taken. */
void test_shortcut_declined_at_once_costs_nothing(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 1, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        met_job job = script_begin(&m, &t, true, gradient, MET_SEGMENTS);
        t.seconds = 4e-3;
        t.decline_at = 1;
        t.decline_reason = MET_DECLINE_STRUCTURE;
        t.tried = (met_tried){0};
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds = 0;
        check_results(&m, &job, &t, gradient);
        CHECK(m.in_order);
        CHECK_INT(report.decline_reason, MET_DECLINE_STRUCTURE);
        CHECK_STR(report.shortcut_failed, "");
        CHECK_INT(t.samples, IMAGES * SAMPLES);
        CHECK_INT(report.evaluations_verifying + report.evaluations_discarded, 0);
        check_finished(&report, &t);
    }
}

/* What holds for all images is found out once; what may be of one image is asked for each. */
void test_shortcut_declined_for_all(void) {
    static const met_decline reasons[] = {MET_DECLINE_STRUCTURE, MET_DECLINE_MODEL_STATE, MET_DECLINE_LITTLE_WORK,
                                          MET_DECLINE_VALUES, MET_DECLINE_VERIFICATION};
    for (size_t r = 0; r < sizeof reasons / sizeof *reasons; r++) {
        script m;
        toy t;
        met_report report = slow;
        const met_options options = {.memory_budget = 4 * 4 * TOY_SIZE * sizeof(double),
                                     .shortcuts = MET_SHORTCUTS_ALWAYS};
        script_make_inputs();
        const met_job job = script_job(&m, MET_BANDS);
        toy_init(&t, true);
        t.decline_at = 1;
        t.decline_on = true;
        t.decline_reason = reasons[r];
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        check_folded(&m, &job, &t);
        CHECK_INT(report.decline_reason, reasons[r]);
        CHECK_STR(report.shortcut_failed, ""); /* it did not run */
        CHECK_INT(t.shortcut_calls, r < 3 ? 1 : IMAGES);
    }
}

/* ---- the trial */

static void run_trial(toy *t, met_kind kind, bool gradient, size_t budget, met_report *report) {
    script m;
    const met_options options = {
        .max_batch_size = 4, .memory_budget = budget, .shortcuts = MET_SHORTCUTS_ALWAYS, .pool = &backwards};
    *report = slow;
    met_job job = gradient ? script_gradient_job(&m, kind) : script_job(&m, kind);
    toy_init(t, true);
    t->tried = (met_tried){7, 1, false};
    CHECK_INT(met_run(&job, &t->model, &options, report), MET_OK);
    CHECK_STR(report->shortcut, "toy stem");
}

/* Two samples of the first image and one of each other, rendered as they are described. */
void test_shortcut_is_tried_with_samples_of_the_job(void) {
    static const met_kind kinds[] = {MET_LERP, MET_BOX, MET_BANDS, MET_SEGMENTS};
    for (size_t k = 0; k < 2 * sizeof kinds / sizeof *kinds; k++) {
        for (int apart = 0; apart < 2; apart++) { /* images in groups of one */
            toy t, again;
            met_report report;
            script_make_inputs();
            for (size_t v = 0; v < TOY_SIZE; v++) { /* many samples are copies */
                script_images[1][v] = v / 20 < 2 ? script_baselines[1][v] : script_images[1][v];
            }
            const size_t budget = apart ? 4 * 4 * TOY_SIZE * sizeof(double) : 0;
            run_trial(&again, kinds[k / 2], k % 2, budget, &report);
            run_trial(&t, kinds[k / 2], k % 2, budget, &report);
            CHECK(t.trial_agrees);
            CHECK(t.trial_differs);
            /* All samples of image 1 that differ from it are alike there: the image itself is the second one. */
            CHECK_INT(t.trial_copies, apart && kinds[k / 2] == MET_BANDS);
            CHECK_INT(t.trial.batch.n, apart ? 2 : IMAGES + 1);
            CHECK_INT(t.trial.count, SAMPLES);
            CHECK_INT(t.trial.gradient, k % 2);
            CHECK_CLOSE(t.trial_first, again.trial_first, 0);
            CHECK_INT(report.evaluations_verifying, apart ? IMAGES * (7 + 1) : 7 + 1); /* with a spot check */
        }
    }
}

/* Where memory is short, with one. */
void test_shortcut_is_tried_with_one_sample(void) {
    toy t;
    met_report report;
    script_make_inputs();
    run_trial(&t, MET_BOX, false, 3 * TOY_SIZE * sizeof(double), &report);
    CHECK(t.trial_agrees);
    CHECK_INT(t.trial_copies, 0);
    CHECK_INT(t.trial.batch.n, 1);
}
