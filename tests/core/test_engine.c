#include "check.h"
#include "input_x_gradient.h"
#include "integrated_gradients.h"
#include "pool.h"
#include "script.h"

#include <string.h>

static const met_kind kinds[] = {MET_IDENTITY, MET_LERP, MET_BOX, MET_BANDS, MET_SEGMENTS};

/* A report for runs that take a shortcut where there is one: the time of a sample counts as known. */
static const met_report slow = {.seconds_alone = 1};

/* Whatever the chunk: the same numbers in the same order, within the limit of a call, the first call of that size. */
static void forward_of_any_chunk(bool shortcut) {
    static const size_t limits[] = {1, 2, 4, 7, 33, 1000, 0};
    double want[IMAGES][SAMPLES][TOY_OUTPUTS];
    script_make_inputs();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t l = 0; l < sizeof limits / sizeof *limits; l++) {
            script m;
            toy t;
            met_report report = slow;
            met_job job = script_job(&m, kinds[k]);
            const met_options options = {
                .max_batch_size = limits[l], .shortcuts = MET_SHORTCUTS_WHERE_FASTER, .pool = &backwards};
            toy_init(&t, shortcut);
            script_expect(&t, &job, want);
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            CHECK(m.in_order);
            CHECK_INT(m.folded, IMAGES * SAMPLES);
            CHECK_INT(m.finished, IMAGES);
            CHECK_INT(m.width, 1);
            for (size_t i = 0; i < IMAGES; i++) {
                for (size_t s = 0; s < SAMPLES; s++) {
                    CHECK_CLOSE(m.value[i][s][0], want[i][s][0], 1e-12);
                }
            }
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            bool taken = shortcut && kinds[k] != MET_IDENTITY;
            /* The shortcut's spot check, or a batch, by one sample or two copies of it. */
            const size_t verifying = report.evaluations_verifying, more = t.calls - report.model_calls;
            CHECK((verifying > 0) == (taken || limits[l] != 1));
            CHECK(more <= 1);
            CHECK(more <= verifying && verifying <= 2 * more);
            CHECK_INT(report.evaluations_discarded, 0);
            CHECK_INT(report.evaluations + verifying, t.samples);
            CHECK_INT(report.chunk_largest, t.largest);
            if (limits[l] > 0) {
                size_t first = limits[l] < IMAGES * SAMPLES ? limits[l] : IMAGES * SAMPLES;
                CHECK_INT(report.chunk_first, first);
                CHECK(t.largest <= limits[l]);
            }
            CHECK_INT(report.memory.bytes, 0);
            CHECK(report.memory.peak >= TOY_SIZE * sizeof(double));
            CHECK(report.seconds >= report.seconds_in_model);
            CHECK_INT(report.shortcut_evaluations, taken ? IMAGES * SAMPLES : 0);
            CHECK_STR(report.shortcut, taken ? "toy stem" : "");
            CHECK_INT(report.decline_reason, taken      ? MET_DECLINE_NONE
                                             : shortcut ? MET_DECLINE_NOTHING_SHARED
                                                        : MET_DECLINE_NOT_OFFERED);
            CHECK((report.shortcut_declined[0] == '\0') == taken);
            CHECK_INT(t.prepared, 0);
        }
    }
}

void test_engine_forward(void) {
    forward_of_any_chunk(false);
}

void test_engine_forward_through_a_shortcut(void) {
    forward_of_any_chunk(true);
}

void test_engine_all_outputs(void) {
    double want[IMAGES][SAMPLES][TOY_OUTPUTS];
    script_make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        script m;
        toy t;
        met_report report = slow;
        met_job job = script_job(&m, MET_BOX);
        job.all_outputs = true;
        const met_options options = {.max_batch_size = 4, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        toy_init(&t, shortcut != 0);
        script_expect(&t, &job, want);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_INT(m.width, TOY_OUTPUTS);
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t s = 0; s < SAMPLES; s++) {
                CHECK_CLOSE_N(m.value[i][s], want[i][s], TOY_OUTPUTS, 1e-12);
            }
        }
    }
}

/* A model that writes into its input, or keeps it, changes nothing for the samples that follow. */
void test_engine_survives_what_models_do_to_their_input(void) {
    double want[IMAGES][SAMPLES][TOY_OUTPUTS];
    script_make_inputs();
    for (int keep = 0; keep < 2; keep++) {
        script m;
        toy t;
        met_report report = slow;
        met_job job = script_job(&m, MET_BOX);
        const met_options options = {.max_batch_size = 2};
        toy_init(&t, false);
        t.scribble = keep == 0;
        t.keep_batches = keep != 0;
        script_expect(&t, &job, want);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t s = 0; s < SAMPLES; s++) {
                CHECK_CLOSE(m.value[i][s][0], want[i][s][0], 1e-12);
            }
            CHECK_CLOSE(script_images[i][3], toy_value(i, 3), 0);
        }
        CHECK_INT(report.memory.bytes, 0);
        for (size_t b = 0; b < t.kept_count; b++) { /* still there after the run, and as it was */
            CHECK_CLOSE(*(const double *)t.kept[b].data, t.kept_first[b], 0);
        }
        CHECK_INT(t.kept_count, keep ? t.calls : 0);
        toy_release(&t);
    }
}

/* ---- gradients */

void test_engine_sums_gradients(void) {
    script_make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t limit = 0; limit < 6; limit++) {
            script m;
            toy t;
            met_report report = slow;
            double want[IMAGES][TOY_SIZE];
            const met_job job = script_gradient_job(&m, MET_LERP);
            const met_options options = {
                .max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER, .pool = &backwards};
            toy_init(&t, shortcut != 0);
            script_expect_sums(&t, &job, want);
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            for (size_t i = 0; i < IMAGES; i++) {
                CHECK_CLOSE_N(m.sum[i], want[i], TOY_SIZE, 1e-13);
                CHECK_INT(m.begun[i], 1);
            }
            CHECK_INT(m.finished, IMAGES);
            CHECK(m.in_order);
            CHECK_INT(t.lent, 0);
            CHECK_INT(report.shortcut_evaluations, shortcut ? IMAGES * SAMPLES : 0);
            CHECK_INT(t.calls - report.model_calls, shortcut || limit != 1 ? 1 : 0);
        }
    }
}

/* Images of other dtypes and orders, masked, are read as they are; the mask multiplies. */
void test_engine_reads_masked_integers(void) {
    int16_t pixels[TOY_SIZE];
    uint8_t mask[20];
    float want[TOY_SIZE], out[TOY_SIZE];
    void *outs[1] = {out};
    toy t;
    met_report report = slow;
    const met_options options = {.shortcuts = MET_SHORTCUTS_WHERE_FASTER};
    for (size_t v = 0; v < TOY_SIZE; v++) {
        pixels[v] = (int16_t)(200 * toy_value(5, v));
        mask[v % 20] = (uint8_t)(v % 3 != 0);
    }
    met_input input = toy_input(pixels, MET_INT16);
    input.image.mask = mask; /* the same for every band */
    input.image.mask_strides[1] = 5;
    input.image.mask_strides[2] = 1;
    toy_init(&t, false);
    REQUIRE(toy_run(&met_input_x_gradient, &input, 1, MET_FLOAT32, NULL, &t.model, &options, outs, &report) == MET_OK);
    double x[TOY_SIZE], z[TOY_FEATURES];
    for (size_t v = 0; v < TOY_SIZE; v++) {
        x[v] = mask[v % 20] ? pixels[v] : 0;
    }
    toy_features(&t, x, z);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        want[v] = (float)(x[v] * (z[0] * t.a[0][v] + 2 * z[1] * t.a[1][v]));
    }
    CHECK_CLOSE_NF(out, want, TOY_SIZE, 1e-6);
}

/* ---- failures */

static int stop_at_twenty(void *ctx, size_t done, size_t total) {
    size_t *seen = ctx;
    *seen = done;
    return total == 7 + IMAGES * SAMPLES + 5 && done < 20 ? MET_OK : MET_ECANCELLED;
}

void test_engine_stops_when_told(void) {
    script m;
    toy t;
    size_t seen = 0;
    met_report report = slow;
    script_make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        met_job job = script_job(&m, MET_BOX);
        const met_options options = {.max_batch_size = 4,
                                     .shortcuts = MET_SHORTCUTS_WHERE_FASTER,
                                     .progress = stop_at_twenty,
                                     .progress_ctx = &seen,
                                     .evaluations_before = 7,
                                     .evaluations_after = 5};
        toy_init(&t, shortcut != 0);
        CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ECANCELLED);
        CHECK(seen >= 20 && seen < 24);
        CHECK(t.samples < 20);
        CHECK_INT(report.memory.bytes, 0);
        CHECK_INT(t.prepared, 0);
    }
}

void test_engine_passes_failures_on(void) {
    script_make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t at = 1; at <= 6; at++) {
            script m;
            toy t;
            met_report report = slow;
            const met_job job = script_gradient_job(&m, MET_LERP);
            const met_options options = {.max_batch_size = 6, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            toy_init(&t, shortcut != 0);
            t.fail_at = at;
            CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ECALLBACK);
            CHECK_INT(t.calls, at);
            CHECK_INT(t.lent, 0);
            CHECK_INT(t.prepared, 0);
            CHECK_INT(report.memory.bytes, 0);
        }
    }
}

void test_engine_refuses(void) {
    script m;
    toy t;
    met_report report = slow;
    const met_options options = {0};
    script_make_inputs();
    met_job job = script_job(&m, MET_BOX);
    toy_init(&t, false);

    job.images = 0;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EVALUE);
    job.images = IMAGES;
    job.evaluations = SIZE_MAX;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ENOMEM);
    job.evaluations = SAMPLES;

    script_inputs[1].image.shape[2] = 4;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ESHAPE);
    CHECK(strstr(met_detail(), "share a shape") != NULL);
    script_make_inputs();
    script_inputs[0].image.shape[0] = 0;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ESHAPE);
    CHECK(strstr(met_detail(), "empty") != NULL);
    script_make_inputs();
    script_inputs[2].baseline.shape[1] = 9;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ESHAPE);
    CHECK(strstr(met_detail(), "baseline 2") != NULL);
    script_make_inputs();
    script_inputs[1].target.index[0] = TOY_OUTPUTS;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EINDEX);
    script_make_inputs();

    job.gradient = true;
    t.model.gradient = NULL;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EGRADIENT);
    toy_init(&t, false);
    t.no_gradient = true;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EMODEL);
    job.gradient = false;
    t.no_output = true;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EMODEL);
    t.no_output = false;
    m.fold_status = MET_EVALUE;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EVALUE);
    CHECK_INT(report.memory.bytes, 0);
}

/* ---- memory */

/* Fail every allocation in turn: an error each time, nothing lost, and at last success. */
void test_engine_without_memory(void) {
    script_make_inputs();
    toy_ration_memory();
    for (int way = 0; way < 3; way++) { /* without a shortcut, through it, and past it once a sample was timed */
        int status = MET_ENOMEM;
        long ration = 0;
        for (; status != MET_OK && ration < 100; ration++) {
            toy t;
            met_report report = {.seconds_alone = way == 1};
            double out[IMAGES][TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1], out[2]};
            const met_options options = {.max_batch_size = 2, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            const met_integrated_gradients_options method = {SAMPLES, MET_GAUSS_LEGENDRE, true, NULL};
            script_inputs[1].image.dtype = MET_INT64; /* needs a copy */
            toy_init(&t, way > 0);
            toy_allocations_left = ration;
            status = toy_run(&met_integrated_gradients, script_inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options,
                             outs, &report);
            CHECK(status == MET_OK || status == MET_ENOMEM);
            CHECK_INT(toy_allocations_alive, 0);
            CHECK_INT(t.prepared, 0);
        }
        CHECK(ration > 8 && ration < 100);
    }
    met_set_allocator(NULL, NULL);
}

/* Memory does not depend on the number of samples, nor on that of images. */
void test_engine_memory_is_flat(void) {
    size_t peak[3];
    script_make_inputs();
    for (size_t run = 0; run < 3; run++) {
        toy t;
        met_report report = slow;
        double out[IMAGES][TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1], out[2]};
        const met_options options = {.max_batch_size = 4};
        const met_integrated_gradients_options method = {run == 0 ? 10 : 5000, MET_RIEMANN_MIDDLE, true, NULL};
        toy_init(&t, false);
        REQUIRE(toy_run(&met_integrated_gradients, script_inputs, run == 2 ? IMAGES : 1, MET_FLOAT64, &method, &t.model,
                        &options, outs, &report) == MET_OK);
        peak[run] = report.memory.peak;
    }
    CHECK_INT(peak[1], peak[0]);
    CHECK_INT(peak[2], peak[0]);
}

static const met_report *observed;
static size_t bytes_at_end[IMAGES];

static int observe_memory(void *method, size_t image, const met_base *base) {
    (void)method;
    (void)base;
    bytes_at_end[image] = observed->memory.bytes;
    return MET_OK;
}

/* The last chunk is gone before what it gave is reduced: a large image's results need that memory. */
void test_engine_lets_go_of_the_last_chunk(void) {
    script m;
    toy t;
    script_make_inputs();
    for (size_t limit = 1; limit <= 4; limit += 3) {
        met_report report = slow;
        met_job job = script_job(&m, MET_BOX);
        const met_options options = {.max_batch_size = limit};
        job.finish = observe_memory;
        observed = &report;
        toy_init(&t, false);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_INT(bytes_at_end[0], limit * TOY_SIZE * sizeof(double));
        CHECK_INT(bytes_at_end[IMAGES - 1], 0);
    }
}

/* A budget of memory bounds the chunk, whatever batch was allowed. */
void test_engine_keeps_to_its_budget(void) {
    script m;
    toy t;
    met_report report = slow;
    script_make_inputs();
    met_job job = script_job(&m, MET_BOX);
    const met_options options = {.max_batch_size = 1000, .memory_budget = 8 * 3 * TOY_SIZE * sizeof(double)};
    toy_init(&t, false);
    REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
    CHECK_INT(t.largest, 3);
}

/* Samples whose outputs are constants have gradients of 0, in whatever company; a model without any gradient is an error. */
void test_engine_gradients_of_constants(void) {
    for (size_t limit = 0; limit < 8; limit++) {
        for (int shortcut = 0; shortcut < 2; shortcut++) {
            script m;
            toy t;
            met_report report = {0};
            double sums[IMAGES][TOY_SIZE];
            met_job job = script_begin(&m, &t, shortcut, true, MET_LERP);
            const met_options options = {.max_batch_size = limit, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            t.cuts = true;
            t.cut = 0.5;
            for (size_t i = 0; i < IMAGES; i++) {
                script_images[i][0] = 1 + (double)i;
                script_baselines[i][0] = -2;
            }
            script_expect_sums(&t, &job, sums);
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            CHECK_CLOSE_N(m.sum[0], sums[0], IMAGES * TOY_SIZE, 1e-12);
            CHECK_INT(report.evaluations, IMAGES * SAMPLES);
            CHECK_INT(report.memory.bytes, 0);
            CHECK_INT(t.lent, 0);
            t.cut = 10;
            report = (met_report){0};
            CHECK(met_run(&job, &t.model, &options, &report) == MET_EGRADIENT);
            CHECK_STR(met_detail(), "these outputs have no gradient");
            CHECK_INT(report.memory.bytes, 0);
            CHECK_INT(t.lent, 0);
        }
    }
}
