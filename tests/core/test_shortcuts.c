/* Shortcuts: which runs take one, and what is left of it where it declines. */
#include "check.h"
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
            CHECK_INT(report.evaluations_verifying, taken || limit == 1 ? 0 : 1);
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
                double want[IMAGES][TOY_SIZE];
                REQUIRE(at < 100);
                script_make_inputs();
                const met_job job = gradient ? script_gradient_job(&m, MET_BANDS) : script_job(&m, MET_BANDS);
                toy_init(&t, true);
                t.decline_at = at;
                t.decline_on = stays != 0;
                REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
                taken = t.shortcut_calls < at;
                if (gradient) {
                    script_expect_sums(&t, &job, want);
                    CHECK_CLOSE_N(m.sum[0], want[0], IMAGES * TOY_SIZE, 1e-13);
                } else {
                    check_folded(&m, &job, &t);
                }
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
        script_make_inputs();
        met_job job = gradient ? script_gradient_job(&m, MET_LERP) : script_job(&m, MET_LERP);
        toy_init(&t, true);
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

/* A model that takes 4 ms: the sample that was timed is among those of the shortcut, and gives the same. */
void test_shortcut_that_pays(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 1; limit < 8; limit += 6) {
            script m;
            toy t;
            met_report report = {0};
            double want[IMAGES][TOY_SIZE];
            const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            script_make_inputs();
            const met_job job = gradient ? script_gradient_job(&m, MET_BOX) : script_job(&m, MET_BOX);
            toy_init(&t, true);
            t.seconds = 4e-3;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            t.seconds = 0;
            if (gradient) {
                script_expect_sums(&t, &job, want);
                CHECK_CLOSE_N(m.sum[0], want[0], IMAGES * TOY_SIZE, 1e-13);
            } else {
                check_folded(&m, &job, &t);
            }
            CHECK_STR(report.shortcut, "toy stem");
            CHECK_INT(report.decline_reason, MET_DECLINE_NONE);
            CHECK(report.seconds_alone >= 4e-3);
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            CHECK_INT(report.shortcut_evaluations, IMAGES * SAMPLES);
            CHECK(report.evaluations_verifying >= 1 && report.evaluations_verifying <= 2);
            CHECK_INT(report.batching, limit > 1 ? MET_BATCHING_FREE : MET_BATCHING_UNKNOWN);
            check_finished(&report, &t);
        }
    }
}

/* A shortcut whose numbers are off by a hundredth: the sample that was timed tells, and all is rendered. */
void test_shortcut_that_is_wrong(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_report report = {0};
        double want[IMAGES][TOY_SIZE];
        const met_options options = {.max_batch_size = 4, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        script_make_inputs();
        const met_job job = gradient ? script_gradient_job(&m, MET_BANDS) : script_job(&m, MET_BANDS);
        toy_init(&t, true);
        t.seconds = 4e-3;
        t.exaggerate = 0.01;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        t.seconds = 0;
        if (gradient) {
            script_expect_sums(&t, &job, want);
            CHECK_CLOSE_N(m.sum[0], want[0], IMAGES * TOY_SIZE, 1e-13);
        } else {
            check_folded(&m, &job, &t);
        }
        CHECK(m.in_order);
        CHECK_INT(report.decline_reason, MET_DECLINE_VERIFICATION);
        CHECK_STR(report.shortcut, "");
        CHECK_INT(report.shortcut_evaluations, 0);
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK(report.evaluations_discarded > 0 && report.evaluations_discarded < IMAGES * SAMPLES);
        check_finished(&report, &t);
    }
}
