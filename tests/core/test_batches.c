/* Whether samples of one batch leave each other alone: a model is believed only after one of them was asked alone. */
#include "check.h"
#include "pool.h"
#include "script.h"

#include <math.h>

static const met_kind kinds[] = {MET_LERP, MET_BOX, MET_BANDS, MET_SEGMENTS};
#define KINDS (sizeof kinds / sizeof *kinds)

/* Run a job with a toy that was set up, and compare every result with its definition, each sample alone. */
static void check_run(toy *t, const met_job *job, size_t limit, met_report *report, double tolerance) {
    const script *m = job->method;
    const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER, .pool = &backwards};
    double outputs[IMAGES][SAMPLES][TOY_OUTPUTS], sums[IMAGES][TOY_SIZE];
    REQUIRE(met_run(job, &t->model, &options, report) == MET_OK);
    if (job->gradient) {
        script_expect_sums(t, job, sums);
        CHECK_CLOSE_N(m->sum[0], sums[0], IMAGES * TOY_SIZE, tolerance);
    } else {
        script_expect(t, job, outputs);
        for (size_t s = 0; s < IMAGES * SAMPLES; s++) {
            CHECK_CLOSE_N(m->value[s / SAMPLES][s % SAMPLES], outputs[s / SAMPLES][s % SAMPLES], m->width, tolerance);
        }
        CHECK_INT(m->folded, IMAGES * SAMPLES);
    }
    CHECK(m->in_order);
    CHECK_INT(m->finished, IMAGES);
    CHECK_INT(report->evaluations, IMAGES * SAMPLES);
    CHECK_INT(report->evaluations + report->evaluations_verifying + report->evaluations_discarded, t->samples);
    CHECK_INT(report->memory.bytes, 0);
    CHECK_INT(t->lent, 0);
}

static void check_single(const met_report *report, size_t limit) {
    CHECK_INT(report->batching, MET_BATCHING_SINGLE);
    CHECK(report->one_at_a_time[0] != '\0');
    CHECK_INT(report->evaluations_discarded, limit); /* the first batch */
    CHECK_INT(report->chunk_size, 1);
}

/*
 * One sample is evaluated once more, or two where windows leave the first ones the largest value of their image, however many
 * batches and runs follow; none where batches have one sample.
 */
void test_batches_of_a_good_model(void) {
    for (size_t k = 0; k < 2 * KINDS; k++) {
        for (size_t limit = 1; limit < 6; limit++) {
            script m;
            toy t;
            met_report report = {0};
            script_make_inputs();
            const met_job job = k < KINDS ? script_job(&m, kinds[k]) : script_gradient_job(&m, kinds[k - KINDS]);
            toy_init(&t, false);
            t.scribble = limit % 2 == 0;
            check_run(&t, &job, limit, &report, 1e-12);
            const size_t verifying = report.evaluations_verifying;
            CHECK(limit > 1 ? verifying == 1 || (verifying == 2 && job.kind != MET_LERP) : verifying == 0);
            CHECK_INT(report.evaluations_discarded, 0);
            CHECK_INT(report.batching, limit > 1 ? MET_BATCHING_FREE : MET_BATCHING_UNKNOWN);
            CHECK_STR(report.one_at_a_time, "");
            const met_options options = {.max_batch_size = limit};
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            CHECK_INT(report.evaluations_verifying, verifying);
        }
    }
}

/* Whatever the kind of samples and the batch: what shifts all features of a batch is found in the first one. */
void test_batches_whose_samples_are_coupled(void) {
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t limit = 2; limit < IMAGES * SAMPLES; limit += limit < 12 ? 1 : 5) {
            for (int all = 0; all < 2; all++) {
                script m;
                toy t;
                met_report report = {0};
                script_make_inputs();
                met_job job = script_job(&m, kinds[k]);
                job.all_outputs = all != 0;
                toy_init(&t, false);
                t.coupling = TOY_SHIFTS;
                t.scribble = limit % 3 == 1;
                t.keep_batches = limit % 3 == 2;
                check_run(&t, &job, limit, &report, 1e-12);
                check_single(&report, limit);
                /* A copy for company, alone, among its copies, alone again. */
                CHECK_INT(report.evaluations_verifying, limit + (limit < 16 ? 2U : 4U));
                toy_release(&t);
                const met_options options = {.max_batch_size = limit};
                t.keep_batches = false;
                t.largest = 0;
                REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK); /* once is enough */
                CHECK_INT(t.largest, 1);
            }
        }
    }
}

void test_batches_whose_gradients_are_coupled(void) {
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t limit = 2; limit < 12; limit++) {
            script m;
            toy t;
            met_report report = {0};
            script_make_inputs();
            const met_job job = script_gradient_job(&m, kinds[k]);
            toy_init(&t, false);
            t.coupling = TOY_SHIFTS;
            t.scribble = limit % 3 == 1;
            check_run(&t, &job, limit, &report, 1e-12);
            check_single(&report, limit);
        }
    }
}

/* A model that takes off the mean of its batch gives 0 for a sample alone, and so it must be. */
void test_batches_that_are_centered(void) {
    for (size_t k = 0; k < 2 * KINDS; k++) {
        for (size_t limit = 2; limit < 12; limit++) {
            script m;
            toy t;
            met_report report = {0};
            script_make_inputs();
            const met_job job = k < KINDS ? script_job(&m, kinds[k]) : script_gradient_job(&m, kinds[k - KINDS]);
            toy_init(&t, false);
            t.coupling = TOY_CENTERS;
            check_run(&t, &job, limit, &report, 0);
            check_single(&report, limit);
        }
    }
}

/* A model that divides by the largest value of its whole batch is asked for one sample at a time. */
static void check_that_divides(bool gradient, met_kind kind, size_t limit, met_report *report) {
    script m;
    toy t;
    const met_job job = gradient ? script_gradient_job(&m, kind) : script_job(&m, kind);
    toy_init(&t, false);
    t.coupling = TOY_DIVIDES;
    t.seconds = 1e-4; /* so that batches pay: samples that end up alone have no company to tell of */
    check_run(&t, &job, limit, report, 1e-12);
    CHECK_INT(report->batching, MET_BATCHING_SINGLE);
    CHECK(report->one_at_a_time[0] != '\0');
}

/* A model that divides by the largest value of its whole input, on the way from a baseline of 0 to the image. */
void test_batches_that_divide_by_their_maximum(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 2; limit < 12; limit++) {
            met_report report = {0};
            script_make_inputs();
            for (size_t s = 0; s < IMAGES * TOY_SIZE; s++) { /* almost 0, so that alpha = 0 has a maximum too */
                script_baselines[s / TOY_SIZE][s % TOY_SIZE] = 1e-3 * toy_value(10, s);
            }
            check_that_divides(gradient, MET_LERP, limit, &report);
            check_single(&report, limit);
        }
    }
}

/* ... which shows only in the windows over the largest value: they come late, when batches were trusted already. */
void test_batches_that_divide_by_their_maximum_late(void) {
    static const size_t summits[IMAGES] = {24, 9, 44}; /* in the box of evaluation 4, 3 and 2 alone */
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 2; limit < 12; limit++) {
            met_report report = {0};
            script_make_inputs();
            for (size_t i = 0; i < IMAGES; i++) {
                script_images[i][summits[i]] = 10;
            }
            check_that_divides(gradient, MET_BOX, limit, &report);
        }
    }
}

/* ... whose first sample is 0 everywhere: a number in company, none alone. */
void test_batches_that_give_numbers_where_one_gives_none(void) {
    script m;
    toy t;
    met_report report = {0};
    script_make_inputs();
    for (size_t i = 0; i < IMAGES; i++) {
        script_inputs[i].baseline.data = NULL;
    }
    met_job job = script_job(&m, MET_LERP);
    const met_options options = {.max_batch_size = 2};
    toy_init(&t, false);
    t.coupling = TOY_DIVIDES;
    REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
    CHECK_INT(report.batching, MET_BATCHING_SINGLE);
    CHECK(isnan(m.value[0][0][0]));
    CHECK_INT(report.nonfinite_outputs, IMAGES);
}

/* A model that gives one number for a batch is asked for one sample at a time, and no other is asked again. */
void test_batches_of_one_number(void) {
    for (size_t k = 0; k < 2 * KINDS; k++) {
        for (size_t limit = 1; limit < 12; limit += 5) {
            script m;
            toy t;
            met_report report = {0};
            script_make_inputs();
            const met_job job = k < KINDS ? script_job(&m, kinds[k]) : script_gradient_job(&m, kinds[k - KINDS]);
            toy_init(&t, false);
            t.lone = true;
            t.scribble = limit == 6;
            check_run(&t, &job, limit, &report, 1e-12);
            if (limit > 1) {
                check_single(&report, limit);
            }
            CHECK_INT(report.evaluations_verifying, 0);
        }
    }
}

/* A model that never gives the same twice is not coupled. */
void test_batches_of_random_models(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 2; limit < 12; limit++) {
            script m;
            toy t;
            met_report report = {0};
            script_make_inputs();
            const met_job job = gradient ? script_gradient_job(&m, MET_BOX) : script_job(&m, MET_BOX);
            toy_init(&t, false);
            t.random = true;
            check_run(&t, &job, limit, &report, INFINITY);
            CHECK_INT(report.batching, MET_BATCHING_FREE);
            CHECK_STR(report.one_at_a_time, "");
            CHECK_INT(report.evaluations_discarded, 0);
        }
    }
}

/* Nor is one whose rounding depends on the size of the batch, even where that is much. */
void test_batches_round(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 2; limit < 12; limit++) {
            script m;
            toy t;
            met_report report = {0};
            script_make_inputs();
            const met_job job = gradient ? script_gradient_job(&m, MET_LERP) : script_job(&m, MET_LERP);
            toy_init(&t, false);
            t.rounds = true;
            check_run(&t, &job, limit, &report, 3e-4 * (double)limit);
            CHECK_INT(report.batching, MET_BATCHING_FREE);
            CHECK_STR(report.one_at_a_time, "");
            CHECK_INT(report.evaluations_discarded, 0);
            CHECK_INT(report.evaluations_verifying, 1 + limit + 1);
        }
    }
}
