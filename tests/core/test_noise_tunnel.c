#include "check.h"
#include "pool.h"
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

static met_noise_tunnel_options make_method(met_kind kind, met_inner inner, met_moment moment) {
    static const size_t shape[] = TOY_SHAPE, window[] = {2, 2, 3};
    met_noise_tunnel_options m = {.kind = kind,
                                  .samples = SAMPLES,
                                  .seed = 17,
                                  .moment = moment,
                                  .stdev = stdev,
                                  .probability = 0.4,
                                  .exact = SIZE_MAX,
                                  .inner = inner};
    m.integrated_gradients = (met_integrated_gradients_options){MET_GAUSS_LEGENDRE, 3, true, NULL};
    met_windows_new(shape, window, window, &m.windows);
    return m;
}

/* The perturbed image: noise or bands, off the mask. */
static void disturb(const met_noise_tunnel_options *m, size_t i, size_t k, double *x) {
    uint8_t replaced[3];
    double z[TOY_SIZE];
    met_normal((met_stream){m->seed, k}, 0, TOY_SIZE, z);
    if (m->kind == MET_BANDS) {
        met_draw_bands(m->seed, k, m->probability, m->exact, 3, replaced);
    }
    for (size_t v = 0; v < TOY_SIZE; v++) {
        bool chosen = m->selected[0] == NULL || m->selected[0][v / 20];
        x[v] = images[i][v];
        if (m->kind == MET_BANDS) {
            x[v] = replaced[v / 20] ? baselines[i][v] : x[v];
        } else if (mask[v % 20] && chosen) {
            x[v] += stdev[i] * z[v];
        }
    }
}

/* Whether sample k holds the baseline at flat position v. */
static bool replaced(const met_noise_tunnel_options *m, size_t k, size_t v) {
    uint8_t replaced[3] = {0};
    if (m->kind == MET_BANDS) {
        met_draw_bands(m->seed, k, m->probability, m->exact, 3, replaced);
    }
    return replaced[v / 20] != 0;
}

/* What the inner explainer gives at x for output 1, and its factor that does not hold the image. */
static void explain(const toy *t, const met_noise_tunnel_options *m, const double *x, double *v, double *g) {
    double z[TOY_FEATURES];
    toy_features(t, x, z);
    if (m->inner == MET_INNER_OCCLUSION) {
        double d[64];
        const met_base base = {.dtype = MET_FLOAT64, .shape = TOY_SHAPE, .image = x};
        for (size_t k = 0; k < met_windows_number(&m->windows); k++) {
            met_sample s = {.kind = MET_BOX};
            double y[TOY_SIZE], zy[TOY_FEATURES];
            met_windows_box(&m->windows, k, &s.box);
            met_sample_render(&base, &s, NULL, y);
            toy_features(t, y, zy);
            d[k] = toy_output(z, 1) - toy_output(zy, 1);
        }
        met_windows_mean(&m->windows, d, MET_FLOAT64, NULL, v);
        memset(g, 0, TOY_SIZE * sizeof *g);
        return;
    }
    for (size_t i = 0; i < TOY_SIZE; i++) {
        g[i] = 2 * z[0] * t->a[0][i] + 3 * z[1] * t->a[1][i];
        g[i] *= m->inner == MET_INNER_INTEGRATED_GRADIENTS ? 0.5 : 1; /* a quadratic: halfway from 0 */
        v[i] = m->inner == MET_INNER_SALIENCY ? g[i] : g[i] * x[i];
        g[i] = m->inner == MET_INNER_SALIENCY ? 0 : g[i];
    }
}

/* Every inner explainer, kind and moment against its definition, with standard error and slope. */
void test_tunnel_by_definition(void) {
    static const met_moment moments[] = {MET_MEAN, MET_MEAN_SQUARE, MET_VARIANCE};
    static const met_kind kinds[] = {MET_NOISE, MET_BANDS};
    static const uint8_t some[3] = {1, 0, 1};
    make_inputs();
    for (int c = 0; c < 4 * 3 * 2; c++) {
        toy t;
        met_report report = {0};
        double out[IMAGES][TOY_SIZE], error[IMAGES][TOY_SIZE], slope[IMAGES][TOY_SIZE];
        void *outs[] = {out[0], out[1]}, *errors[] = {error[0], error[1]}, *slopes[] = {slope[0], slope[1]};
        size_t used[IMAGES];
        const met_options options = {.max_batch_size = 4, .pool = &backwards, .shortcuts = true};
        met_noise_tunnel_options method = make_method(kinds[c % 2], (met_inner)(c / 2 % 4), moments[c / 8]);
        method.selected[0] = c % 3 == 0 ? some : NULL;
        method.error = method.moment != MET_VARIANCE ? errors : NULL;
        method.slope = slopes;
        method.used = used;
        method.exact = c % 5 == 0 ? 2 : SIZE_MAX;
        toy_init(&t, true);
        t.scribble = c % 4 == 1;
        REQUIRE(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            double sum[5][TOY_SIZE] = {{0}}; /* of v, v^2, v^4, g, 2 v g */
            double want[TOY_SIZE], want_error[TOY_SIZE], want_slope[TOY_SIZE];
            for (size_t k = 0; k < SAMPLES; k++) {
                double x[TOY_SIZE], v[TOY_SIZE], g[TOY_SIZE];
                disturb(&method, i, k, x);
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
                bool mean = method.moment == MET_MEAN;
                want[p] = mean ? sum[0][p] : method.moment == MET_MEAN_SQUARE ? sum[1][p] : variance;
                want_error[p] = sqrt(fmax(0, mean ? variance : of_squares) / (SAMPLES - 1));
                want_slope[p] = mean ? sum[3][p] : sum[4][p];
                want_slope[p] -= method.moment == MET_VARIANCE ? 2 * sum[0][p] * sum[3][p] : 0;
            }
            CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-12);
            CHECK_CLOSE_N(slope[i], want_slope, TOY_SIZE, 1e-12);
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
    for (int inner = 0; inner < 4; inner++) {
        double first[IMAGES][TOY_SIZE], out[IMAGES][TOY_SIZE];
        for (size_t run = 0; run < 6; run++) {
            static const size_t limits[] = {1, 2, 5, 100, 0, 3};
            toy t;
            met_report report = {0};
            met_input order[IMAGES] = {inputs[run == 5], inputs[run != 5]};
            const double deviations[IMAGES] = {stdev[run == 5], stdev[run != 5]};
            void *outs[] = {out[run == 5], out[run != 5]};
            const met_options options = {.max_batch_size = limits[run], .pool = run % 2 ? &backwards : NULL};
            met_noise_tunnel_options method = make_method(MET_NOISE, (met_inner)inner, MET_VARIANCE);
            method.stdev = deviations;
            toy_init(&t, false);
            REQUIRE(met_noise_tunnel(order, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
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
    met_noise_tunnel_options method = make_method(MET_NOISE, MET_INNER_SALIENCY, MET_MEAN);
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
    REQUIRE(met_noise_tunnel(inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        CHECK_CLOSE(out[v], gradient[v], 4.5 * sqrt(variance[v] / N));
    }
    method.moment = MET_VARIANCE;
    REQUIRE(met_noise_tunnel(inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        CHECK_CLOSE(out[v], variance[v], 4.5 * variance[v] * sqrt(2.0 / N));
    }
}

/* Precise enough: at a power of two, the same one whatever the chunk, and what was promised is kept. */
void test_tunnel_stops_when_precise(void) {
    make_inputs();
    for (int inner = 0; inner < 3; inner++) {
        size_t used[IMAGES], first = 0;
        for (size_t most = 1; most < 40; most += 19) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE], error[IMAGES][TOY_SIZE], largest = 0, worst = 0;
            void *outs[] = {out[0], out[1]}, *errors[] = {error[0], error[1]};
            const met_options options = {.max_batch_size = most};
            met_noise_tunnel_options method = make_method(MET_BANDS, (met_inner)inner, MET_MEAN);
            method.samples = 5000;
            method.tolerance = 0.05;
            method.used = used;
            method.error = errors;
            toy_init(&t, false);
            REQUIRE(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) ==
                    MET_OK);
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
    for (int inner = 0; inner < 4; inner++) {
        size_t peak[2];
        for (int run = 0; run < 2; run++) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE];
            void *outs[] = {out[0], out[1]};
            const met_options options = {.max_batch_size = 4};
            met_noise_tunnel_options method = make_method(MET_NOISE, (met_inner)inner, MET_MEAN_SQUARE);
            method.samples = run == 0 ? 10 : 400;
            method.integrated_gradients.steps = run == 0 ? 4 : 40;
            toy_init(&t, false);
            REQUIRE(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) ==
                    MET_OK);
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
    met_noise_tunnel_options method = make_method(MET_BANDS, MET_INNER_SALIENCY, MET_MEAN);
    method.samples = 0;
    CHECK_INT(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_EVALUE);
    method.samples = 4;
    method.exact = 4;
    CHECK_INT(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_EVALUE);
    method.exact = SIZE_MAX;
    method.moment = MET_VARIANCE;
    method.tolerance = 0.1;
    CHECK_INT(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_EVALUE);
    method.tolerance = 0;
    t.fail_at = 1;
    CHECK_INT(met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_ECALLBACK);
    CHECK_INT(met_noise_tunnel(inputs, 0, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_ESHAPE);
    CHECK_INT(report.memory.bytes, 0);
}

void test_tunnel_without_memory(void) {
    make_inputs();
    toy_ration_memory();
    for (int inner = 0; inner < 4; inner++) {
        int status = MET_ENOMEM;
        long ration = 0;
        for (; status != MET_OK && ration < 300; ration++) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE], slope[IMAGES][TOY_SIZE];
            void *outs[] = {out[0], out[1]}, *slopes[] = {slope[0], slope[1]};
            const met_options options = {.max_batch_size = 2};
            met_noise_tunnel_options method = make_method(MET_NOISE, (met_inner)inner, MET_VARIANCE);
            method.slope = slopes;
            toy_init(&t, false);
            toy_allocations_left = ration;
            status = met_noise_tunnel(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report);
            CHECK(status == MET_OK || status == MET_ENOMEM);
            CHECK_INT(toy_allocations_alive, 0);
        }
        CHECK(ration > 8 && ration < 300);
    }
    met_set_allocator(NULL, NULL);
}
