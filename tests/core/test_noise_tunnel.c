#include "check.h"
#include "input_x_gradient.h"
#include "integrated_gradients.h"
#include "noise_tunnel.h"
#include "occlusion.h"
#include "pool.h"
#include "saliency.h"
#include "toy_model.h"

#include <math.h>
#include <string.h>

#define IMAGES 2
#define SAMPLES 9

static double images[IMAGES][TOY_SIZE];
static double baselines[IMAGES][TOY_SIZE];
static uint8_t mask[20];
static met_input inputs[IMAGES];
static const double stdev[IMAGES] = {0.3, 0.7};

static void make_inputs(void) {
    for (size_t v = 0; v < TOY_SIZE; v++) {
        mask[v % 20] = v % 20 % 7 != 3;
        for (size_t i = 0; i < IMAGES; i++) {
            images[i][v] = mask[v % 20] ? toy_value(60 + i, v) : 0;
            baselines[i][v] = mask[v % 20] ? toy_value(70 + i, v) : 0;
        }
    }
    for (size_t i = 0; i < IMAGES; i++) {
        inputs[i] = toy_input(images[i], MET_FLOAT64);
        inputs[i].target.index[0] = 1;
        inputs[i].image.mask = mask;
        inputs[i].image.mask_strides[1] = 5;
        inputs[i].image.mask_strides[2] = 1;
        inputs[i].baseline = toy_input(baselines[i], MET_FLOAT64).image;
    }
}

/* Every method that nests. */
static const met_saliency_options signed_gradient = {.absolute = false};
static const met_integrated_gradients_options three_steps = {3, MET_GAUSS_LEGENDRE, true, NULL};
static const met_occlusion_options side_by_side = {.window = {2, 2, 3}, .stride = {2, 2, 3}};
static const met_nested inners[] = {{&met_saliency, &signed_gradient},
                                    {&met_input_x_gradient, NULL},
                                    {&met_integrated_gradients, &three_steps},
                                    {&met_occlusion, &side_by_side}};
#define INNERS (sizeof inners / sizeof *inners)

static met_noise_tunnel_options make_method(met_perturbation perturbation, met_nested inner, met_tunnel_moment moment) {
    return (met_noise_tunnel_options){.perturbation = perturbation,
                                      .samples = SAMPLES,
                                      .seed = 17,
                                      .moment = moment,
                                      .stdev = stdev,
                                      .probability = 0.4,
                                      .exact = SIZE_MAX,
                                      .inner = inner};
}

/* The perturbed image: noise or bands, off the mask. */
static void perturb(const met_noise_tunnel_options *m, size_t i, size_t k, double *x) {
    uint8_t replaced[3];
    double z[TOY_SIZE];
    met_normal((met_stream){m->seed, k}, 0, TOY_SIZE, z);
    if (m->perturbation == MET_PERTURB_BANDS) {
        met_draw_bands(m->seed, k, m->probability, m->exact, 3, replaced);
    }
    for (size_t v = 0; v < TOY_SIZE; v++) {
        bool chosen = m->selected[0] == NULL || m->selected[0][v / 20];
        x[v] = images[i][v];
        if (m->perturbation == MET_PERTURB_BANDS) {
            x[v] = replaced[v / 20] ? baselines[i][v] : x[v];
        } else if (mask[v % 20] && chosen) {
            x[v] += stdev[i] * z[v];
        }
    }
}

/* Whether sample k holds the baseline at flat position v. */
static bool replaced(const met_noise_tunnel_options *m, size_t k, size_t v) {
    uint8_t replaced[3] = {0};
    if (m->perturbation == MET_PERTURB_BANDS) {
        met_draw_bands(m->seed, k, m->probability, m->exact, 3, replaced);
    }
    return replaced[v / 20] != 0;
}

/* What the inner explainer gives at x for output 1, and its factor that does not hold the image. */
static void explain(const toy *t, const met_noise_tunnel_options *m, const double *x, double *v, double *g) {
    const met_method *inner = m->inner.method;
    if (inner == &met_occlusion) {
        static const size_t shape[] = TOY_SHAPE;
        double d[64], z[TOY_FEATURES];
        const met_base base = {.dtype = MET_FLOAT64, .shape = TOY_SHAPE, .image = x};
        met_windows w;
        REQUIRE(met_windows_new(shape, side_by_side.window, side_by_side.stride, &w) == MET_OK);
        toy_features(t, x, z);
        for (size_t k = 0; k < met_windows_number(&w); k++) {
            met_sample s = {.kind = MET_BOX};
            double y[TOY_SIZE], zy[TOY_FEATURES];
            met_windows_box(&w, k, &s.box);
            met_sample_render(&base, &s, NULL, y);
            toy_features(t, y, zy);
            d[k] = toy_output(z, 1) - toy_output(zy, 1);
        }
        met_windows_mean(&w, d, MET_FLOAT64, NULL, v);
        memset(g, 0, TOY_SIZE * sizeof *g);
        return;
    }
    toy_gradient(t, x, 1, g);
    for (size_t i = 0; i < TOY_SIZE; i++) {
        g[i] *= inner == &met_integrated_gradients ? 0.5 : 1; /* a quadratic: halfway from 0 */
        v[i] = inner == &met_saliency ? g[i] : g[i] * x[i];
        g[i] = inner == &met_saliency ? 0 : g[i];
    }
}

/* Every inner explainer, perturbation and moment against its definition, with standard error and derivative. */
void test_tunnel_by_definition(void) {
    static const met_tunnel_moment moments[] = {MET_SMOOTHGRAD, MET_SMOOTHGRAD_SQ, MET_VARGRAD};
    static const met_perturbation perturbations[] = {MET_PERTURB_NOISE, MET_PERTURB_BANDS};
    static const uint8_t some[3] = {1, 0, 1};
    make_inputs();
    for (int c = 0; c < 4 * 3 * 2; c++) {
        toy t;
        met_report report = {.seconds_alone = 1}; /* a shortcut pays */
        double out[IMAGES][TOY_SIZE], error[IMAGES][TOY_SIZE], derivative[IMAGES][TOY_SIZE];
        void *outs[] = {out[0], out[1]}, *errors[] = {error[0], error[1]},
             *derivatives[] = {derivative[0], derivative[1]};
        size_t used[IMAGES];
        const met_options options = {.max_batch_size = 4, .pool = &backwards, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
        met_noise_tunnel_options method = make_method(perturbations[c % 2], inners[c / 2 % 4], moments[c / 8]);
        method.selected[0] = c % 3 == 0 ? some : NULL;
        method.error = method.moment != MET_VARGRAD ? errors : NULL;
        method.input_derivative = derivatives;
        method.used = used;
        method.exact = c % 5 == 0 ? 2 : SIZE_MAX;
        toy_init(&t, true);
        t.scribble = c % 4 == 1;
        REQUIRE(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) ==
                MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            double sum[5][TOY_SIZE] = {{0}}; /* of v, v^2, v^4, g, 2 v g */
            double want[TOY_SIZE], want_error[TOY_SIZE], want_derivative[TOY_SIZE];
            for (size_t k = 0; k < SAMPLES; k++) {
                double x[TOY_SIZE], v[TOY_SIZE], g[TOY_SIZE];
                perturb(&method, i, k, x);
                explain(&t, &method, x, v, g);
                for (size_t p = 0; p < TOY_SIZE; p++) {
                    sum[0][p] += v[p] / SAMPLES;
                    sum[1][p] += v[p] * v[p] / SAMPLES;
                    sum[2][p] += v[p] * v[p] * v[p] * v[p] / SAMPLES;
                    double kept = replaced(&method, k, p) ? 0 : g[p];
                    sum[3][p] += kept / SAMPLES;
                    sum[4][p] += 2 * v[p] * kept / SAMPLES;
                }
            }
            for (size_t p = 0; p < TOY_SIZE; p++) {
                double variance = sum[1][p] - sum[0][p] * sum[0][p];
                double of_squares = sum[2][p] - sum[1][p] * sum[1][p];
                bool mean = method.moment == MET_SMOOTHGRAD;
                want[p] = mean ? sum[0][p] : method.moment == MET_SMOOTHGRAD_SQ ? sum[1][p] : variance;
                want_error[p] = sqrt(fmax(0, mean ? variance : of_squares) / (SAMPLES - 1));
                want_derivative[p] = mean ? sum[3][p] : sum[4][p];
                want_derivative[p] -= method.moment == MET_VARGRAD ? 2 * sum[0][p] * sum[3][p] : 0;
            }
            CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-12);
            CHECK_CLOSE_N(derivative[i], want_derivative, TOY_SIZE, 1e-12);
            if (method.error != NULL) {
                CHECK_CLOSE_N(error[i], want_error, TOY_SIZE, 1e-7);
            }
            CHECK_INT(used[i], SAMPLES);
        }
        CHECK_INT(report.memory.bytes, 0);
        CHECK(report.seconds >= report.seconds_in_model);
    }
}

/* The same bytes whatever the chunk, the threads and the order of images. */
void test_tunnel_repeats_whatever_the_chunk(void) {
    make_inputs();
    for (size_t inner = 0; inner < INNERS; inner++) {
        double first[IMAGES][TOY_SIZE], out[IMAGES][TOY_SIZE];
        for (size_t run = 0; run < 6; run++) {
            static const size_t limits[] = {1, 2, 5, 100, 0, 3};
            toy t;
            met_report report = {0};
            met_input order[IMAGES] = {inputs[run == 5], inputs[run != 5]};
            const double deviations[IMAGES] = {stdev[run == 5], stdev[run != 5]};
            void *outs[] = {out[run == 5], out[run != 5]};
            const met_options options = {.max_batch_size = limits[run], .pool = run % 2 ? &backwards : NULL};
            met_noise_tunnel_options method = make_method(MET_PERTURB_NOISE, inners[inner], MET_VARGRAD);
            method.stdev = deviations;
            toy_init(&t, false);
            REQUIRE(toy_run(&met_noise_tunnel, order, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs,
                            &report) == MET_OK);
            if (run == 0) {
                memcpy(first, out, sizeof out);
            }
            CHECK(memcmp(first, out, sizeof out) == 0);
            if (limits[run] > 0) {
                CHECK(t.largest <= limits[run]);
            }
        }
    }
}

/* On f = z^2 the gradient is linear, so its mean over noise is the gradient, and its variance is known. */
void test_tunnel_moments_of_noise(void) {
    enum { N = 4000 };
    toy t;
    met_report report = {0};
    double out[TOY_SIZE], gradient[TOY_SIZE], x[TOY_SIZE];
    void *outs[] = {out};
    const met_options options = {.max_batch_size = 64};
    make_inputs();
    toy_init(&t, false);
    met_noise_tunnel_options method = make_method(MET_PERTURB_NOISE, inners[0], MET_SMOOTHGRAD);
    method.samples = N;
    memcpy(x, images[0], sizeof x);
    explain(&t, &method, x, gradient, (double[TOY_SIZE]){0});
    double variance[TOY_SIZE];
    for (size_t v = 0; v < TOY_SIZE; v++) {
        variance[v] = 0;
        for (size_t p = 0; p < TOY_SIZE; p++) {
            double h = 2 * t.a[0][v] * t.a[0][p] + 3 * t.a[1][v] * t.a[1][p];
            variance[v] += mask[p % 20] ? stdev[0] * stdev[0] * h * h : 0;
        }
    }
    REQUIRE(toy_run(&met_noise_tunnel, inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        CHECK_CLOSE(out[v], gradient[v], 4.5 * sqrt(variance[v] / N));
    }
    method.moment = MET_VARGRAD;
    REQUIRE(toy_run(&met_noise_tunnel, inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        CHECK_CLOSE(out[v], variance[v], 4.5 * variance[v] * sqrt(2.0 / N));
    }
}

/* Precise enough: at a power of two, the same one whatever the chunk, and what was promised is kept. */
void test_tunnel_stops_when_precise(void) {
    make_inputs();
    for (size_t inner = 0; inner < 3; inner++) {
        size_t used[IMAGES], first = 0;
        for (size_t limit = 1; limit < 40; limit += 19) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE], error[IMAGES][TOY_SIZE], largest = 0, worst = 0;
            void *outs[] = {out[0], out[1]}, *errors[] = {error[0], error[1]};
            const met_options options = {.max_batch_size = limit};
            met_noise_tunnel_options method = make_method(MET_PERTURB_BANDS, inners[inner], MET_SMOOTHGRAD);
            method.samples = 5000;
            method.tolerance = 0.05;
            method.used = used;
            method.error = errors;
            toy_init(&t, false);
            REQUIRE(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs,
                            &report) == MET_OK);
            for (size_t v = 0; v < TOY_SIZE; v++) {
                largest = fmax(largest, fabs(out[0][v]));
                worst = fmax(worst, error[0][v]);
            }
            CHECK(worst <= 0.05 * largest);
            CHECK(used[0] >= 8 && used[0] < 5000 && (used[0] & (used[0] - 1)) == 0);
            CHECK(first == 0 || first == used[0]);
            first = used[0];
        }
    }
}

void test_tunnel_memory_is_flat(void) {
    make_inputs();
    for (size_t inner = 0; inner < INNERS; inner++) {
        size_t peak[2];
        for (int run = 0; run < 2; run++) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE];
            void *outs[] = {out[0], out[1]};
            const met_options options = {.max_batch_size = 4};
            met_noise_tunnel_options method = make_method(MET_PERTURB_NOISE, inners[inner], MET_SMOOTHGRAD_SQ);
            method.samples = run == 0 ? 10 : 400;
            const met_integrated_gradients_options steps = {run == 0 ? 4 : 40, MET_GAUSS_LEGENDRE, true, NULL};
            if (method.inner.method == &met_integrated_gradients) {
                method.inner.options = &steps;
            }
            toy_init(&t, false);
            REQUIRE(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs,
                            &report) == MET_OK);
            peak[run] = report.memory.peak;
        }
        CHECK_INT(peak[1], peak[0]);
    }
}

void test_tunnel_refuses(void) {
    toy t;
    met_report report = {0};
    double out[IMAGES][TOY_SIZE];
    void *outs[] = {out[0], out[1]};
    const met_options options = {0};
    make_inputs();
    toy_init(&t, false);
    met_noise_tunnel_options method = make_method(MET_PERTURB_BANDS, inners[0], MET_SMOOTHGRAD);
    method.samples = 0;
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    method.samples = 4;
    method.exact = 4;
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    method.exact = SIZE_MAX;
    method.moment = MET_VARGRAD;
    method.tolerance = 0.1;
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    method.tolerance = 0;
    t.fail_at = 1;
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_ECALLBACK);
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, 0, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    method.inner.method = &met_noise_tunnel; /* does not nest */
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    method.inner.method = NULL;
    CHECK_INT(toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    CHECK_INT(report.memory.bytes, 0);
}

void test_tunnel_without_memory(void) {
    make_inputs();
    toy_ration_memory();
    for (size_t inner = 0; inner < INNERS; inner++) {
        int status = MET_ENOMEM;
        long ration = 0;
        for (; status != MET_OK && ration < 300; ration++) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE], derivative[IMAGES][TOY_SIZE];
            void *outs[] = {out[0], out[1]}, *derivatives[] = {derivative[0], derivative[1]};
            const met_options options = {.max_batch_size = 2};
            met_noise_tunnel_options method = make_method(MET_PERTURB_NOISE, inners[inner], MET_VARGRAD);
            method.input_derivative = derivatives;
            toy_init(&t, false);
            toy_allocations_left = ration;
            status =
                toy_run(&met_noise_tunnel, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report);
            CHECK(status == MET_OK || status == MET_ENOMEM);
            CHECK_INT(toy_allocations_alive, 0);
        }
        CHECK(ration > 8 && ration < 300);
    }
    met_set_allocator(NULL, NULL);
}
