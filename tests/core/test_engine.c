#include "check.h"
#include "pool.h"
#include "toy_model.h"

#include <string.h>

#define IMAGES 3
#define SAMPLES 11

/* A forward job that leaves parts of the image out, and writes down what it was told. */
typedef struct script {
    met_kind kind;
    double value[IMAGES][SAMPLES][TOY_OUTPUTS];
    size_t width;
    size_t folded;
    size_t finished;
    bool in_order;
    int fold_status;
    int32_t segments[TOY_SIZE];
    uint8_t replaced[SAMPLES][4];
} script;

static double images[IMAGES][TOY_SIZE];
static double baselines[IMAGES][TOY_SIZE];
static met_input inputs[IMAGES];

static void make_inputs(void) {
    for (size_t i = 0; i < IMAGES; i++) {
        for (size_t v = 0; v < TOY_SIZE; v++) {
            images[i][v] = toy_value(i, v);
            baselines[i][v] = toy_value(10 + i, v);
        }
        inputs[i] = toy_input(images[i], MET_FLOAT64);
        inputs[i].baseline = toy_input(baselines[i], MET_FLOAT64).image;
        inputs[i].target.index[0] = (int64_t)i;
    }
}

static int describe(void *method, size_t image, size_t k, met_sample *s) {
    script *m = method;
    s->alpha = (double)k / SAMPLES;
    s->box = (met_box){{k % 3, k % 2, 0}, {k % 3 + 1, k % 2 + 2, 1 + (k + image) % 5}};
    s->segments = m->segments;
    s->replaced = m->replaced[k];
    if (s->scratch != NULL && m->kind == MET_BANDS) { /* bands through scratch: each sample has a piece of its own */
        for (size_t b = 0; b < 3; b++) {
            s->scratch[b] = (uint8_t)((k >> b) & 1);
        }
        s->replaced = s->scratch;
    }
    return MET_OK;
}

static int fold(void *method, const met_result *r) {
    script *m = method;
    m->in_order = m->in_order && m->folded == r->image * SAMPLES + r->k;
    m->folded++;
    m->width = r->width;
    memcpy(m->value[r->image][r->k], r->value, r->width * sizeof(double));
    return m->fold_status;
}

static int finish(void *method, size_t image, const met_base *base) {
    script *m = method;
    m->in_order = m->in_order && m->finished == image && m->folded == (image + 1) * SAMPLES;
    m->in_order = m->in_order && ((const double *)base->image)[7] == images[image][7];
    m->finished++;
    return MET_OK;
}

static met_job make_job(script *m, met_kind kind) {
    memset(m, 0, sizeof *m);
    m->kind = kind;
    m->in_order = true;
    for (size_t v = 0; v < TOY_SIZE; v++) {
        m->segments[v] = (int32_t)(v * 7 % 4);
    }
    for (size_t k = 0; k < SAMPLES; k++) {
        for (size_t f = 0; f < 4; f++) {
            m->replaced[k][f] = (uint8_t)((k * 5 >> f) & 1);
        }
    }
    return (met_job){.method = m,
                     .inputs = inputs,
                     .images = IMAGES,
                     .evaluations = SAMPLES,
                     .dtype = MET_FLOAT64,
                     .kind = kind,
                     .scratch = 3,
                     .describe = describe,
                     .fold = fold,
                     .finish = finish};
}

/* The outputs of a job by definition: render each sample from nothing. */
static void expect(const toy *t, const met_job *job, double out[IMAGES][SAMPLES][TOY_OUTPUTS]) {
    for (size_t i = 0; i < IMAGES; i++) {
        const met_base base = {.dtype = MET_FLOAT64, .shape = TOY_SHAPE, .image = images[i], .baseline = baselines[i]};
        for (size_t k = 0; k < SAMPLES; k++) {
            uint8_t scratch[3];
            double x[TOY_SIZE], z[TOY_FEATURES];
            met_sample s = {.kind = job->kind, .image = i, .scratch = scratch};
            describe(job->method, i, k, &s);
            met_sample_render(&base, &s, NULL, x);
            toy_features(t, x, z);
            for (size_t o = 0; o < TOY_OUTPUTS; o++) {
                out[i][k][o] = toy_output(z, job->all_outputs ? o : i);
            }
        }
    }
}

static const met_kind kinds[] = {MET_IDENTITY, MET_LERP, MET_BOX, MET_BANDS, MET_SEGMENTS};

/* Whatever the chunk: the same numbers in the same order, at most `most` samples a call, the first call of that size. */
static void forward_of_any_chunk(bool shortcut) {
    static const size_t limits[] = {1, 2, 4, 7, 33, 1000, 0};
    double want[IMAGES][SAMPLES][TOY_OUTPUTS];
    make_inputs();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t l = 0; l < sizeof limits / sizeof *limits; l++) {
            script m;
            toy t;
            met_report report = {0};
            met_job job = make_job(&m, kinds[k]);
            const met_options options = {.max_batch_size = limits[l], .shortcuts = true, .pool = &backwards};
            toy_init(&t, shortcut);
            expect(&t, &job, want);
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
            CHECK_INT(report.evaluations, t.samples);
            CHECK_INT(report.model_calls, t.calls);
            CHECK_INT(report.chunk_largest, t.largest);
            if (limits[l] > 0) {
                size_t first = limits[l] < IMAGES * SAMPLES ? limits[l] : IMAGES * SAMPLES;
                CHECK_INT(report.chunk_first, first);
                CHECK(t.largest <= limits[l]);
            }
            CHECK_INT(report.memory.bytes, 0);
            CHECK(report.memory.peak >= TOY_SIZE * sizeof(double));
            CHECK(report.seconds >= report.seconds_in_model);
            bool taken = shortcut && kinds[k] != MET_IDENTITY;
            CHECK_INT(report.shortcut_evaluations, taken ? IMAGES * SAMPLES : 0);
            CHECK_STR(report.shortcut, taken ? "toy stem" : "");
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
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        script m;
        toy t;
        met_report report = {0};
        met_job job = make_job(&m, MET_BOX);
        job.all_outputs = true;
        const met_options options = {.max_batch_size = 4, .shortcuts = true};
        toy_init(&t, shortcut != 0);
        expect(&t, &job, want);
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
    make_inputs();
    for (int keep = 0; keep < 2; keep++) {
        script m;
        toy t;
        met_report report = {0};
        met_job job = make_job(&m, MET_BOX);
        const met_options options = {.max_batch_size = 2};
        toy_init(&t, false);
        t.scribble = keep == 0;
        t.keep_batches = keep != 0;
        expect(&t, &job, want);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t s = 0; s < SAMPLES; s++) {
                CHECK_CLOSE(m.value[i][s][0], want[i][s][0], 1e-12);
            }
            CHECK_CLOSE(images[i][3], toy_value(i, 3), 0);
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

static double job_weight(void *method, size_t k) {
    (void)method;
    return 1.0 + (double)k;
}

void test_engine_sums_gradients(void) {
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t most = 0; most < 6; most++) {
            script m;
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE];
            void *sums[IMAGES] = {out[0], out[1], out[2]};
            met_job job = make_job(&m, MET_LERP);
            job.gradient = true;
            job.fold = NULL;
            job.finish = NULL;
            job.weight = job_weight;
            job.sums = sums;
            const met_options options = {.max_batch_size = most, .shortcuts = true, .pool = &backwards};
            toy_init(&t, shortcut != 0);
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            for (size_t i = 0; i < IMAGES; i++) {
                double zx[TOY_FEATURES], zb[TOY_FEATURES], want[TOY_SIZE] = {0};
                toy_features(&t, images[i], zx);
                toy_features(&t, baselines[i], zb);
                for (size_t k = 0; k < SAMPLES; k++) {
                    for (size_t j = 0; j < TOY_FEATURES; j++) {
                        double z = zb[j] + (double)k / SAMPLES * (zx[j] - zb[j]);
                        for (size_t v = 0; v < TOY_SIZE; v++) {
                            want[v] += (1.0 + (double)k) * (double)(i + 1 + j) * z * t.a[j][v];
                        }
                    }
                }
                CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-13);
            }
            CHECK_INT(t.lent, 0);
            CHECK_INT(report.shortcut_evaluations, shortcut ? IMAGES * SAMPLES : 0);
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
    met_report report = {0};
    const met_options options = {.shortcuts = true};
    for (size_t v = 0; v < TOY_SIZE; v++) {
        pixels[v] = (int16_t)(200 * toy_value(5, v));
        mask[v % 20] = (uint8_t)(v % 3 != 0);
    }
    met_input input = toy_input(pixels, MET_INT16);
    input.image.mask = mask; /* the same for every band */
    input.image.mask_strides[1] = 5;
    input.image.mask_strides[2] = 1;
    toy_init(&t, false);
    REQUIRE(met_input_x_gradient(&input, 1, MET_FLOAT32, &t.model, &options, outs, &report) == MET_OK);
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

/* ---- shortcuts that decline */

void test_engine_renders_where_a_shortcut_declines(void) {
    double want[IMAGES][SAMPLES][TOY_OUTPUTS];
    make_inputs();
    for (int later = 0; later < 3; later++) {
        script m;
        toy t;
        met_report report = {0};
        met_job job = make_job(&m, MET_SEGMENTS);
        const met_options options = {.max_batch_size = 4, .shortcuts = later != 2};
        toy_init(&t, true);
        t.decline_prepare = later == 0;
        t.decline_later = later == 1;
        if (later == 1) {
            job.fold = NULL; /* what was folded cannot be taken back: only a job that sums may be declined midway */
            job.finish = NULL;
            job.gradient = true;
            job.weight = job_weight;
        }
        double out[IMAGES][TOY_SIZE];
        double plain[IMAGES][TOY_SIZE];
        void *sums[IMAGES] = {out[0], out[1], out[2]};
        job.sums = sums;
        expect(&t, &job, want);
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_STR(report.shortcut, "");
        CHECK_STR(report.declined, later == 0 ? "not today" : later == 1 ? "changed my mind" : "switched off");
        CHECK_INT(t.prepared, 0);
        if (later == 1) {
            void *plain_sums[IMAGES] = {plain[0], plain[1], plain[2]};
            const met_options no_shortcut = {.max_batch_size = 4};
            job.sums = plain_sums;
            REQUIRE(met_run(&job, &t.model, &no_shortcut, &report) == MET_OK);
            CHECK_CLOSE_N(out[0], plain[0], IMAGES * TOY_SIZE, 0);
        } else {
            CHECK_CLOSE(m.value[2][SAMPLES - 1][0], want[2][SAMPLES - 1][0], 1e-12);
            CHECK_INT(m.folded, IMAGES * SAMPLES);
        }
    }
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
    met_report report = {0};
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        met_job job = make_job(&m, MET_BOX);
        const met_options options = {
            .max_batch_size = 4, .shortcuts = true, .tick = stop_at_twenty, .progress_ctx = &seen, .before = 7, .after = 5};
        toy_init(&t, shortcut != 0);
        CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ECANCELLED);
        CHECK(seen >= 20 && seen < 24);
        CHECK(t.samples < 20);
        CHECK_INT(report.memory.bytes, 0);
        CHECK_INT(t.prepared, 0);
    }
}

void test_engine_passes_failures_on(void) {
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t at = 1; at <= 6; at++) {
            script m;
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE];
            void *sums[IMAGES] = {out[0], out[1], out[2]};
            met_job job = make_job(&m, MET_LERP);
            const met_options options = {.max_batch_size = 6, .shortcuts = true};
            toy_init(&t, shortcut != 0);
            t.fail_at = at;
            job.gradient = true;
            job.fold = NULL;
            job.weight = job_weight;
            job.sums = sums;
            job.finish = NULL;
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
    met_report report = {0};
    const met_options options = {0};
    make_inputs();
    met_job job = make_job(&m, MET_BOX);
    toy_init(&t, false);

    job.images = 0;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EVALUE);
    job.images = IMAGES;
    job.evaluations = SIZE_MAX;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ENOMEM);
    job.evaluations = SAMPLES;

    inputs[1].image.shape[2] = 4;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ESHAPE);
    CHECK(strstr(met_detail(), "share a shape") != NULL);
    make_inputs();
    inputs[0].image.shape[0] = 0;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ESHAPE);
    CHECK(strstr(met_detail(), "empty") != NULL);
    make_inputs();
    inputs[2].baseline.shape[1] = 9;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_ESHAPE);
    CHECK(strstr(met_detail(), "baseline 2") != NULL);
    make_inputs();
    inputs[1].target.index[0] = TOY_OUTPUTS;
    CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EINDEX);
    make_inputs();

    job.gradient = true;
    job.fold = fold;
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
    make_inputs();
    toy_ration_memory();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        int status = MET_ENOMEM;
        long ration = 0;
        for (; status != MET_OK && ration < 100; ration++) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1], out[2]};
            const met_options options = {.max_batch_size = 2, .shortcuts = true};
            const met_integrated_gradients_options method = {MET_GAUSS_LEGENDRE, SAMPLES, true, NULL};
            inputs[1].image.dtype = MET_INT64; /* needs a copy */
            toy_init(&t, shortcut != 0);
            toy_allocations_left = ration;
            status = met_integrated_gradients(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report);
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
    make_inputs();
    for (size_t run = 0; run < 3; run++) {
        toy t;
        met_report report = {0};
        double out[IMAGES][TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1], out[2]};
        const met_options options = {.max_batch_size = 4};
        const met_integrated_gradients_options method = {MET_RIEMANN_MIDDLE, run == 0 ? 10 : 5000, true, NULL};
        toy_init(&t, false);
        REQUIRE(met_integrated_gradients(inputs, run == 2 ? IMAGES : 1, MET_FLOAT64, &method, &t.model, &options, outs,
                                         &report) == MET_OK);
        peak[run] = report.memory.peak;
    }
    CHECK_INT(peak[1], peak[0]);
    CHECK_INT(peak[2], peak[0]);
}

/* A budget of memory bounds the chunk, whatever batch was allowed. */
void test_engine_keeps_to_its_budget(void) {
    script m;
    toy t;
    met_report report = {0};
    make_inputs();
    met_job job = make_job(&m, MET_BOX);
    const met_options options = {.max_batch_size = 1000, .memory = 8 * 3 * TOY_SIZE * sizeof(double)};
    toy_init(&t, false);
    REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
    CHECK_INT(t.largest, 3);
}
