/* Values that are NaN or infinite: counted, named and kept, or refused. */
#include "check.h"
#include "finite.h"
#include "input_x_gradient.h"
#include "integrated_gradients.h"
#include "occlusion.h"
#include "pool.h"
#include "saliency.h"
#include "script.h"

#include <math.h>
#include <string.h>

#define BLOCK 2048 /* values that are looked at between two questions */
#define LARGE (64 * BLOCK + 70)

/* One, two or no values at the ends of blocks, in both types, with and without threads. */
void test_nonfinite_values_are_counted(void) {
    static double wide[LARGE];
    static float narrow[LARGE];
    static const size_t sizes[] = {0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3, LARGE};
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < LARGE; i++) {
        wide[i] = i % 5 == 0 ? -1.7976931348623157e308 : toy_value(1, i);
        narrow[i] = i % 5 == 0 ? 3.4028235e38f : -1e-45f;
    }
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t n = sizes[s];
        const size_t places[][2] = {{0, 0},         {n / 2, n / 2},     {n - 1, n - 1}, {0, n - 1},
                                    {n / 3, n - 1}, {n - 1, n / 3 * 2}, {n, n}}; /* the last is behind the end */
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            const size_t a = places[p][0], b = places[p][1];
            const bool inside = n > 0 && a < n;
            const size_t want = !inside ? 0 : a == b ? 1 : 2;
            const double kept[2] = {wide[a < LARGE ? a : 0], wide[b < LARGE ? b : 0]};
            const float kept_narrow[2] = {narrow[a < LARGE ? a : 0], narrow[b < LARGE ? b : 0]};
            if (a < LARGE && b < LARGE) {
                wide[a] = wide[b] = bad[p % 3];
                narrow[a] = narrow[b] = (float)bad[(p + 1) % 3];
            }
            for (int threads = 0; threads < 2; threads++) {
                const met_parallel *pool = threads ? &backwards : NULL;
                size_t first = 99;
                CHECK_INT(met_count_nonfinite(MET_FLOAT64, wide, n, pool, &first), want);
                CHECK(first == (want == 0 ? SIZE_MAX : a < b ? a : b));
                first = 99;
                CHECK_INT(met_count_nonfinite(MET_FLOAT32, narrow, n, pool, &first), want);
                CHECK(first == (want == 0 ? SIZE_MAX : a < b ? a : b));
                CHECK_INT(met_count_nonfinite(MET_FLOAT32, narrow, n, pool, NULL), want);
            }
            if (a < LARGE && b < LARGE) {
                wide[a] = kept[0];
                wide[b] = kept[1];
                narrow[a] = kept_narrow[0];
                narrow[b] = kept_narrow[1];
            }
        }
    }
    for (size_t i = 0; i < LARGE; i++) { /* all of them */
        narrow[i] = NAN;
    }
    CHECK_INT(met_count_nonfinite(MET_FLOAT32, narrow, LARGE, &backwards, NULL), LARGE);
}

/* Let the model answer NaN or infinity for sample k of an image. */
static void poison(toy *t, const met_job *job, size_t image, size_t k) {
    double x[TOY_SIZE];
    script_sample(job, image, k, x);
    t->poisoned = true;
    t->poison = x[0];
}

/* An output that is NaN reaches its method, is counted, and the report says where it was. */
void test_nonfinite_outputs(void) {
    static const double bad[] = {NAN, INFINITY};
    for (size_t limit = 1; limit < 12; limit += 3) {
        for (int kind = 0; kind < 2; kind++) {
            const size_t first = kind == 0 ? 2 : 0; /* the image with that output */
            script m;
            toy t;
            met_report report = {0};
            met_options options = {.max_batch_size = limit};
            double want[IMAGES][SAMPLES][TOY_OUTPUTS];
            script_make_inputs();
            script_inputs[first].origin = 42;
            met_job job = script_job(&m, MET_LERP);
            toy_init(&t, false);
            script_expect(&t, &job, want);
            poison(&t, &job, first, 7);
            t.poison_output = bad[kind];
            t.lone = kind == 1; /* the first batch is evaluated one by one */
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            for (size_t s = 0; s < IMAGES * SAMPLES; s++) {
                const double got = m.value[s / SAMPLES][s % SAMPLES][0];
                if (s == first * SAMPLES + 7) {
                    CHECK(kind == 0 ? isnan(got) : isinf(got));
                } else {
                    CHECK_CLOSE(got, want[s / SAMPLES][s % SAMPLES][0], 1e-12);
                }
            }
            CHECK_INT(report.nonfinite_outputs, 1);
            CHECK_INT(report.nonfinite_gradients, 0);
            CHECK(strstr(report.nonfinite, "sample 7 of image 42") != NULL);
            CHECK(strstr(report.nonfinite, kind == 0 ? "NaN" : "infinity") != NULL);
            CHECK_INT(report.batching, limit == 1  ? MET_BATCHING_UNKNOWN
                                       : kind == 0 ? MET_BATCHING_FREE
                                                   : MET_BATCHING_SINGLE);

            options.finite = MET_FINITE_IGNORE; /* counted all the same */
            report = (met_report){0};
            job = script_job(&m, MET_LERP);
            REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
            CHECK_INT(report.nonfinite_outputs, 1);

            options.finite = MET_FINITE_RAISE;
            report = (met_report){0};
            job = script_job(&m, MET_LERP);
            CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EFINITE);
            CHECK(strstr(met_detail(), "sample 7 of image 42") != NULL);
            CHECK_INT(report.memory.bytes, 0);
        }
    }
}

/* One gradient that is not finite, through methods that fold gradients. */
void test_nonfinite_gradients(void) {
    static const met_saliency_options absolute = {true}, with_sign = {false};
    static const struct {
        const met_method *method;
        const void *options;
    } cases[] = {{&met_saliency, &absolute}, {&met_saliency, &with_sign}, {&met_input_x_gradient, NULL}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        toy t;
        met_report report = {0};
        met_options options = {.pool = &backwards};
        double out[IMAGES][TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1], out[2]};
        script_make_inputs();
        toy_init(&t, false);
        t.poisoned = true;
        t.poison = script_images[1][0];
        t.poison_gradient = c == 0 ? NAN : -INFINITY;
        REQUIRE(toy_run(cases[c].method, script_inputs, IMAGES, MET_FLOAT64, cases[c].options, &t.model, &options, outs,
                        &report) == MET_OK);
        for (size_t v = 0; v < IMAGES * TOY_SIZE; v++) {
            CHECK(isfinite(out[v / TOY_SIZE][v % TOY_SIZE]) == (v != TOY_SIZE + 7));
        }
        CHECK_INT(report.nonfinite_gradients, 1);
        CHECK_INT(report.nonfinite_results, 1);
        CHECK_INT(report.nonfinite_outputs, 0);
        CHECK(strstr(report.nonfinite, "sample 0 of image 1") != NULL);
        options.finite = MET_FINITE_RAISE;
        CHECK_INT(toy_run(cases[c].method, script_inputs, IMAGES, MET_FLOAT64, cases[c].options, &t.model, &options,
                          outs, &report),
                  MET_EFINITE);
        CHECK_INT(t.lent, 0);
        CHECK_INT(report.memory.bytes, 0);
    }
}

/* ... and in a sum over samples, which keeps it: in the image it belongs to, and there alone. */
void test_nonfinite_gradients_in_a_sum(void) {
    for (size_t limit = 1; limit < 8; limit += 3) {
        script m;
        toy t;
        met_report report = {0};
        met_options options = {.max_batch_size = limit};
        script_make_inputs();
        met_job job = script_gradient_job(&m, MET_LERP);
        toy_init(&t, false);
        poison(&t, &job, 1, 4);
        t.poison_gradient = INFINITY;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        for (size_t v = 0; v < IMAGES * TOY_SIZE; v++) {
            CHECK(isfinite(m.sum[v / TOY_SIZE][v % TOY_SIZE]) == (v != TOY_SIZE + 7));
        }
        CHECK_INT(report.nonfinite_gradients, 1);
        CHECK_INT(report.nonfinite_outputs, 0);
        CHECK(strstr(report.nonfinite, "sample 4 of image 1") != NULL);
        options.finite = MET_FINITE_RAISE;
        job = script_gradient_job(&m, MET_LERP);
        CHECK_INT(met_run(&job, &t.model, &options, &report), MET_EFINITE);
        CHECK_INT(t.lent, 0);
        CHECK_INT(report.memory.bytes, 0);
    }
}

/* ---- images */

static const met_saliency_options absolute = {true};
static const met_integrated_gradients_options three_steps = {3, MET_GAUSS_LEGENDRE, true, NULL};
static const met_occlusion_options halves = {.window = {3, 2, 5}, .stride = {3, 2, 5}};
static const struct {
    const met_method *method;
    const void *options;
} methods[] = {{&met_saliency, &absolute},
               {&met_input_x_gradient, NULL},
               {&met_integrated_gradients, &three_steps},
               {&met_occlusion, &halves}};

/* An image that is not finite is refused before the model sees anything, a baseline where it is read. */
void test_nonfinite_images_are_refused(void) {
    for (size_t c = 0; c < sizeof methods / sizeof *methods; c++) {
        const met_method *method = methods[c].method;
        for (int of_baseline = 0; of_baseline < 2; of_baseline++) {
            toy t;
            met_report report = {0};
            met_options options = {.max_batch_size = 3};
            double out[IMAGES][TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1], out[2]};
            script_make_inputs();
            script_inputs[1].origin = 31;
            (of_baseline ? script_baselines : script_images)[1][33] = NAN; /* band 1, row 2, column 3 */
            for (int finite = MET_FINITE_WARN; finite <= MET_FINITE_IGNORE; finite++) {
                const bool refused = finite != MET_FINITE_IGNORE && (!of_baseline || method->baselines);
                const bool reaches = !of_baseline || method->baselines;
                toy_init(&t, false);
                options.finite = (met_finite)finite;
                report = (met_report){0};
                CHECK_INT(toy_run(method, script_inputs, IMAGES, MET_FLOAT64, methods[c].options, &t.model, &options,
                                  outs, &report),
                          refused ? MET_EVALUE : MET_OK);
                if (refused) {
                    CHECK_INT(t.calls, 0);
                    CHECK(strstr(met_detail(), of_baseline ? "baseline 31" : "image 31") != NULL);
                    CHECK(strstr(met_detail(), "band 1, row 2, column 3") != NULL);
                } else {
                    CHECK((report.nonfinite_results > 0) == reaches);
                    CHECK((report.nonfinite[0] != '\0') == reaches);
                }
            }
        }
    }
}

/* What the mask leaves out has no effect, whatever it is. */
void test_nonfinite_under_the_mask(void) {
    uint8_t mask[20];
    memset(mask, 1, sizeof mask);
    mask[13] = 0; /* row 2, column 3 of every band */
    for (size_t c = 0; c < sizeof methods / sizeof *methods; c++) {
        toy t;
        met_report report = {0};
        const met_options options = {.max_batch_size = 3, .finite = MET_FINITE_RAISE};
        double out[2][IMAGES][TOY_SIZE];
        toy_init(&t, false);
        for (int run = 0; run < 2; run++) {
            void *outs[IMAGES] = {out[run][0], out[run][1], out[run][2]};
            script_make_inputs();
            for (size_t i = 0; i < IMAGES; i++) {
                script_inputs[i].image.mask = mask;
                script_inputs[i].image.mask_strides[1] = 5;
                script_inputs[i].image.mask_strides[2] = 1;
            }
            script_images[1][33] = run == 0 ? NAN : 1e6;
            script_images[2][53] = run == 0 ? -INFINITY : 0;
            REQUIRE(toy_run(methods[c].method, script_inputs, IMAGES, MET_FLOAT64, methods[c].options, &t.model,
                            &options, outs, &report) == MET_OK);
        }
        CHECK(memcmp(out[0], out[1], sizeof out[0]) == 0);
        CHECK_INT(report.nonfinite_results + report.nonfinite_outputs + report.nonfinite_gradients, 0);
    }
}
