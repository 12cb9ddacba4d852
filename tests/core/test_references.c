/* Jobs that compare their samples with the image itself: in batches of one size, so that common rounding is taken off. */
#include "check.h"
#include "occlusion.h"
#include "pool.h"
#include "script.h"
#include "toy_game.h"

#include <string.h>

/* Outputs move by this for each sample of the batch: more than the tolerance of these tests, less than verifying allows. */
#define OFFSET 1e-10
#define EXACT 2e-14

static const size_t limits[] = {1, 2, 3, 4, 5, 7, 12, 16, 32, 33, 34, 1000, 0};
#define LIMITS (sizeof limits / sizeof *limits)

static const met_report slow = {.seconds_alone = 1};

/* f(image) - f(sample) by definition. */
static double lost_by(const toy *t, const met_job *job, size_t image, size_t k) {
    double x[TOY_SIZE], whole[TOY_FEATURES], part[TOY_FEATURES];
    script_sample(job, image, k, x);
    toy_features(t, script_images[image], whole);
    toy_features(t, x, part);
    return toy_output(whole, image) - toy_output(part, image);
}

static void check_lost(const script *m, const met_job *job, const toy *t) {
    for (size_t s = 0; s < IMAGES * SAMPLES; s++) {
        const size_t i = s / SAMPLES, k = s % SAMPLES;
        if (m->enough == 0 || k < m->enough) {
            CHECK_INT(m->times[i][k], 1);
            CHECK_CLOSE(m->lost[i][k], lost_by(t, job, i, k), 100 * EXACT);
        }
    }
}

/* Run a job on a model whose outputs depend on the size of its batches. */
static void run_rounding(script *m, met_job *job, toy *t, size_t limit, bool shortcut, met_report *report) {
    const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_ALWAYS, .pool = &backwards};
    *report = slow;
    job->reference = true;
    toy_init(t, shortcut);
    t->offset = OFFSET;
    REQUIRE(met_run(job, &t->model, &options, report) == MET_OK);
    check_lost(m, job, t);
    CHECK_INT(m->finished, IMAGES);
    CHECK_INT(report->memory.bytes, 0);
    CHECK_INT(report->evaluations + report->evaluations_verifying + report->evaluations_discarded, t->samples);
    CHECK(limit == 0 || t->largest <= limit);
}

/* No sample of these jobs is the image: it is evaluated for the others alone, once for each image and size of a batch. */
void test_references_of_any_chunk(void) {
    static const met_kind kinds[] = {MET_LERP, MET_BOX, MET_BANDS, MET_SEGMENTS};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t l = 0; l < LIMITS; l++) {
            for (int shortcut = 0; shortcut < 2; shortcut++) {
                script m;
                toy t;
                met_report report;
                script_make_inputs();
                met_job job = script_job(&m, kinds[k]);
                run_rounding(&m, &job, &t, limits[l], shortcut != 0, &report);
                CHECK(m.in_order);
                CHECK_INT(report.evaluations, IMAGES * SAMPLES);
                CHECK_INT(report.shortcut_evaluations, shortcut ? IMAGES * SAMPLES : 0);
            }
        }
    }
}

void test_references_of_images_that_converge(void) {
    for (size_t l = 0; l < LIMITS; l++) {
        for (size_t enough = 1; enough < SAMPLES; enough++) {
            script m;
            toy t;
            met_report report;
            script_make_inputs();
            met_job job = script_job(&m, MET_BOX);
            m.enough = enough;
            run_rounding(&m, &job, &t, limits[l], l % 2 == 0, &report);
        }
    }
}

/* A model whose samples influence each other is asked for one at a time, and so is its image. */
void test_references_of_single_samples(void) {
    for (int lone = 0; lone < 2; lone++) {
        for (size_t l = 0; l < LIMITS; l++) {
            script m;
            toy t;
            met_report report = {0};
            const met_options options = {.max_batch_size = limits[l]};
            script_make_inputs();
            met_job job = script_job(&m, MET_SEGMENTS);
            job.reference = true;
            toy_init(&t, false);
            t.lone = lone != 0;
            t.coupling = lone ? TOY_APART : TOY_SHIFTS;
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            check_lost(&m, &job, &t);
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            CHECK_INT(report.evaluations + report.evaluations_verifying + report.evaluations_discarded, t.samples);
        }
    }
}

/* ---- methods */

static const met_occlusion_options sliding = {.window = {2, 3, 2}, .stride = {1, 2, 2}};

static void occlude(const toy_options *ablation, double offset, size_t limit, bool shortcut,
                    double out[IMAGES][TOY_SIZE]) {
    toy t;
    toy_host h;
    met_report report = slow;
    void *outs[IMAGES] = {out[0], out[1], out[2]};
    const met_options run = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_ALWAYS, .pool = &backwards};
    toy_init(&t, shortcut);
    t.offset = offset;
    if (ablation == NULL) {
        REQUIRE(toy_run(&met_occlusion, script_inputs, IMAGES, MET_FLOAT64, &sliding, &t.model, &run, outs, &report) ==
                MET_OK);
    } else {
        toy_host_init(&h, IMAGES, TOY_SIZE);
        REQUIRE(toy_host_run(&met_feature_ablation, script_inputs, IMAGES, ablation, &t.model, &run, &h, &report) ==
                MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            memcpy(out[i], h.results.out[i], sizeof out[i]);
        }
        toy_host_free(&h);
    }
    CHECK_INT(report.evaluations + report.evaluations_verifying + report.evaluations_discarded, t.samples);
    CHECK_INT(report.shortcut_evaluations > 0, shortcut);
}

/* The attributions do not show the sizes of batches, whatever they are; one at a time they are what they always were. */
static void check_method(const toy_options *ablation) {
    double want[IMAGES][TOY_SIZE], alone[IMAGES][TOY_SIZE], got[IMAGES][TOY_SIZE];
    script_make_inputs();
    occlude(ablation, 0, 1, false, want);
    occlude(ablation, OFFSET, 1, false, alone);
    CHECK_CLOSE_N(alone[0], want[0], IMAGES * TOY_SIZE, EXACT);
    for (size_t l = 0; l < LIMITS; l++) {
        for (int shortcut = 0; shortcut < 2; shortcut++) {
            occlude(ablation, OFFSET, limits[l], shortcut != 0, got);
            CHECK_CLOSE_N(got[0], want[0], IMAGES * TOY_SIZE, EXACT);
            occlude(ablation, 0, limits[l], false, got);
            CHECK_CLOSE_N(got[0], want[0], IMAGES * TOY_SIZE, 0);
        }
    }
}

void test_references_in_occlusion(void) {
    check_method(NULL);
}

void test_references_in_ablation(void) {
    static int32_t ids[TOY_SIZE];
    static met_segments segments[IMAGES];
    toy_options options = {0};
    for (size_t v = 0; v < TOY_SIZE; v++) {
        ids[v] = (int32_t)(v * 7 % 11);
    }
    for (size_t i = 0; i < IMAGES; i++) {
        segments[i] = (met_segments){ids, {20, 5, 1}, 11};
    }
    TOY_SET(met_feature_ablation, options, "features", const met_segments *, segments);
    check_method(&options);
}

/* With batches of one size: at most one sample more for the last, smaller one, beside the one that tells whether
 * batches can be trusted. None where samples go one at a time. */
void test_references_cost_little(void) {
    for (size_t limit = 1; limit < 40; limit++) {
        toy t;
        met_report report = slow;
        double out[TOY_SIZE];
        void *outs[1] = {out};
        const met_options run = {.max_batch_size = limit};
        script_make_inputs();
        toy_init(&t, false);
        t.seconds = 2e-4; /* by the call, so that smaller batches never seem faster on a busy machine */
        REQUIRE(toy_run(&met_occlusion, script_inputs, 1, MET_FLOAT64, &sliding, &t.model, &run, outs, &report) ==
                MET_OK);
        const size_t batch = limit > 1 ? 1 : 0;
        CHECK(report.evaluations_verifying <= 2 * batch);
        CHECK(report.evaluations_verifying >= batch);
        CHECK(report.evaluations % limit != 0 || report.evaluations_verifying <= batch);
        CHECK_INT(t.samples, report.evaluations + report.evaluations_verifying);
    }
}

void test_references_without_memory(void) {
    script_make_inputs();
    toy_ration_memory();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        int status = MET_ENOMEM;
        long ration = 0;
        for (; status != MET_OK && ration < 300; ration++) {
            toy t;
            met_report report = slow;
            double out[IMAGES][TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1], out[2]};
            const met_options run = {.max_batch_size = 5, .shortcuts = MET_SHORTCUTS_ALWAYS};
            toy_init(&t, shortcut != 0);
            toy_allocations_left = ration;
            status =
                toy_run(&met_occlusion, script_inputs, IMAGES, MET_FLOAT64, &sliding, &t.model, &run, outs, &report);
            CHECK(status == MET_OK || status == MET_ENOMEM);
            CHECK_INT(toy_allocations_alive, 0);
            CHECK_INT(t.prepared, 0);
        }
        CHECK(ration > 20 && ration < 300);
    }
    met_set_allocator(NULL, NULL);
}
