/* Whether samples of one batch leave each other alone: a model is believed only after one of them was asked alone. */
#include "check.h"
#include "experience.h"
#include "pool.h"
#include "script.h"

#include <math.h>
#include <string.h>

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

/* Evaluations of an image beside the same with half its values, and of pairs of each. */
#define COMPANY 8

/*
 * One sample is evaluated once more, however many batches and runs follow; none where batches have one sample. Where it is
 * not seen how the model computes, an image in company comes to that, once for many calls.
 */
void test_batches_of_a_good_model(void) {
    for (size_t k = 0; k < 2 * KINDS; k++) {
        for (size_t limit = 1; limit < 6; limit++) {
            met_experience *experience = met_experience_new();
            for (int round = 0; round < 3; round++) {
                script m;
                toy t;
                met_report report = {0};
                const met_job job = script_begin(&m, &t, false, k >= KINDS, kinds[k % KINDS]);
                t.scribble = limit % 2 == 0;
                t.unseen = round > 0;
                check_run(&t, &job, limit, &report, 1e-12);
                const size_t verifying = limit == 1 ? 0 : round > 0 ? 1 + COMPANY : 1;
                CHECK_INT(report.evaluations_verifying, verifying);
                CHECK_INT(report.evaluations_discarded, 0);
                CHECK_INT(report.batching, limit > 1 ? MET_BATCHING_FREE : MET_BATCHING_UNKNOWN);
                CHECK_STR(report.one_at_a_time, "");
                const met_options options = {.max_batch_size = limit, .experience = experience};
                REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
                CHECK_INT(report.evaluations_verifying, verifying);
                report = (met_report){0};
                REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
                CHECK_INT(report.evaluations_verifying, limit == 1 ? 0 : round == 1 ? 1 + COMPANY : 1);
            }
            met_experience_free(experience);
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

/* What goes through a batch in order gives copies of a sample other values, too: the same ones each time. */
void test_batches_in_order(void) {
    const toy_coupling couplings[] = {TOY_FOLLOWS, TOY_NUMBERS};
    for (size_t c = 0; c < 2; c++) {
        for (size_t k = 0; k < 2 * KINDS; k++) {
            for (size_t limit = 2; limit < IMAGES * SAMPLES; limit += limit < 12 ? 1 : 5) {
                script m;
                toy t;
                met_report report = {0};
                const met_job job = script_begin(&m, &t, false, k >= KINDS, kinds[k % KINDS]);
                t.coupling = couplings[c];
                check_run(&t, &job, limit, &report, 1e-12);
                check_single(&report, limit);
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
            const met_job job = script_begin(&m, &t, false, k >= KINDS, kinds[k % KINDS]);
            t.coupling = TOY_CENTERS;
            check_run(&t, &job, limit, &report, 0);
            check_single(&report, limit);
        }
    }
}

/* A model that divides by the largest value of its whole batch, or of one band of it, is asked for one sample at a time. */
static void check_that_divides(bool gradient, met_kind kind, toy_coupling coupling, size_t limit, met_report *report) {
    script m;
    toy t;
    const met_job job = gradient ? script_gradient_job(&m, kind) : script_job(&m, kind);
    toy_init(&t, false);
    t.coupling = coupling;
    check_run(&t, &job, limit, report, 1e-12);
    check_single(report, limit);
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
            check_that_divides(gradient, MET_LERP, TOY_DIVIDES, limit, &report);
        }
    }
}

/*
 * ... which shows in the windows over the largest value alone: they come late, and where that value is of one band, any
 * number of windows are no different from the others.
 */
void test_batches_that_divide_by_their_maximum_late(void) {
    static const size_t summits[IMAGES] = {24, 9, 44}; /* in the box of evaluation 4, 3 and 2 alone */
    for (int gradient = 0; gradient < 2; gradient++) {
        for (int by_band = 0; by_band < 2; by_band++) {
            for (size_t limit = 2; limit < 12; limit++) {
                met_report report = {0};
                script_make_inputs();
                for (size_t i = 0; i < IMAGES; i++) {
                    script_images[i][summits[i]] = 10;
                    script_images[i][summits[i] % 20] = by_band ? 5 : 0.5;
                }
                check_that_divides(gradient, MET_BOX, by_band ? TOY_DIVIDES_BY_BAND : TOY_DIVIDES, limit, &report);
            }
        }
    }
}

static bool exception_was_dropped;

static bool drop(void) {
    exception_was_dropped = true;
    return true;
}

static bool let_stand(void) {
    return false;
}

/* What a model says to half of an image is no error of the run, unless it was to end: then nothing else happens. */
void test_batches_of_a_model_that_refuses_company(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (int stands = 0; stands < 2; stands++) {
            script m;
            toy t;
            met_report report = {0};
            const met_job job = script_begin(&m, &t, false, gradient, MET_BOX);
            const met_options options = {.max_batch_size = 4, .forgive = stands ? let_stand : drop};
            t.unseen = true;
            t.refuses = true;
            t.refused = script_images[0][0] / 2;
            exception_was_dropped = false;
            CHECK_INT(met_run(&job, &t.model, &options, &report), stands ? MET_ECALLBACK : MET_OK);
            CHECK(exception_was_dropped == !stands);
            CHECK_INT(report.memory.bytes, 0);
            CHECK_INT(t.lent, 0);
            if (!stands) {
                CHECK_INT(report.batching, MET_BATCHING_FREE);
                CHECK_INT(report.evaluations, IMAGES * SAMPLES);
                CHECK_INT(m.finished, IMAGES);
            }
        }
    }
}

/* An image of zeros has no half; the next one has. */
void test_batches_whose_first_image_is_empty(void) {
    for (int coupled = 0; coupled < 2; coupled++) {
        script m;
        toy t;
        met_report report = {0};
        script_make_inputs();
        memset(script_images[0], 0, sizeof script_images[0]);
        memset(script_baselines[0], 0, sizeof script_baselines[0]);
        const met_job job = script_job(&m, MET_BOX);
        toy_init(&t, false);
        t.unseen = true;
        t.seconds = 1e-3; /* a call: two samples are faster than one, and stay together */
        t.coupling = coupled ? TOY_SHIFTS : TOY_APART;
        check_run(&t, &job, 2, &report, 1e-12);
        CHECK_INT(report.batching, coupled ? MET_BATCHING_SINGLE : MET_BATCHING_FREE);
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
            const met_job job = script_begin(&m, &t, false, k >= KINDS, kinds[k % KINDS]);
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
            const met_job job = script_begin(&m, &t, false, gradient, MET_BOX);
            t.random = true;
            check_run(&t, &job, limit, &report, INFINITY);
            CHECK_INT(report.batching, MET_BATCHING_FREE);
            CHECK_STR(report.one_at_a_time, "");
            CHECK_INT(report.evaluations_discarded, 0);
        }
    }
}

/* A model that draws random numbers is called in the same way whatever that takes, and whatever earlier runs took. */
void test_batches_of_models_that_draw(void) {
    const double seconds[] = {3e-3, 1e-5, 6e-3, 1e-5};
    for (int gradient = 0; gradient < 2; gradient++) {
        script m;
        toy t;
        met_experience *experience = met_experience_new();
        const met_options options = {.shortcuts = MET_SHORTCUTS_WHERE_FASTER, .experience = experience};
        const met_job job = script_begin(&m, &t, true, gradient, MET_LERP);
        size_t calls = 0, samples = 0;
        t.draws = 1;
        for (size_t run = 0; run < sizeof seconds / sizeof *seconds; run++) {
            met_report report = {0};
            t.calls = t.samples = 0;
            t.seconds_a_sample = seconds[run];
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            calls = run == 0 ? t.calls : calls;
            samples = run == 0 ? t.samples : samples;
            CHECK_INT(t.calls, calls);
            CHECK_INT(t.samples, samples);
            CHECK_INT(report.decline_reason, MET_DECLINE_MODEL_STATE);
            CHECK_STR(report.shortcut, "");
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        }
        CHECK(!met_experience_knows(experience, &job));
        met_experience_free(experience);
    }
}

/* Nor is one whose rounding depends on the size of the batch, even where that is much. */
void test_batches_round(void) {
    for (int gradient = 0; gradient < 2; gradient++) {
        for (size_t limit = 2; limit < 12; limit++) {
            script m;
            toy t;
            met_report report = {0};
            const met_job job = script_begin(&m, &t, false, gradient, MET_LERP);
            t.rounds = true;
            check_run(&t, &job, limit, &report, 3e-4 * (double)limit);
            CHECK_INT(report.batching, MET_BATCHING_FREE);
            CHECK_STR(report.one_at_a_time, "");
            CHECK_INT(report.evaluations_discarded, 0);
            CHECK_INT(report.evaluations_verifying, 1 + limit + 1);
        }
    }
}
