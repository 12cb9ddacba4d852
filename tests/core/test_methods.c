#include "check.h"
#include "pool.h"
#include "toy_model.h"

#include <math.h>

#define IMAGES 2

static double images[IMAGES][TOY_SIZE];
static double baseline[TOY_SIZE];
static met_input inputs[IMAGES];

static void make_inputs(void) {
    for (size_t v = 0; v < TOY_SIZE; v++) {
        for (size_t i = 0; i < IMAGES; i++) {
            images[i][v] = toy_value(i, v);
        }
        baseline[v] = toy_value(20, v);
    }
    for (size_t i = 0; i < IMAGES; i++) {
        inputs[i] = toy_input(images[i], MET_FLOAT64);
        inputs[i].target.index[0] = -1; /* the last output */
    }
    inputs[0].baseline = toy_input(baseline, MET_FLOAT64).image;
    inputs[1].baseline_value = 0.25;
}

/* d f / d x of the last output. */
static void expected_gradient(const toy *t, const double *x, double *out) {
    double z[TOY_FEATURES];
    toy_features(t, x, z);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        out[v] = TOY_OUTPUTS * z[0] * t->a[0][v] + (TOY_OUTPUTS + 1) * z[1] * t->a[1][v];
    }
}

void test_saliency_and_input_x_gradient(void) {
    toy t;
    met_report report = {0};
    double out[IMAGES][TOY_SIZE], want[TOY_SIZE];
    void *outs[IMAGES] = {out[0], out[1]};
    const met_options options = {.pool = &backwards, .shortcuts = true};
    make_inputs();
    toy_init(&t, true);
    for (int absolute = 0; absolute < 2; absolute++) {
        const met_saliency_options method = {absolute != 0};
        REQUIRE(met_saliency(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) == MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            expected_gradient(&t, images[i], want);
            for (size_t v = 0; v < TOY_SIZE; v++) {
                want[v] = absolute ? fabs(want[v]) : want[v];
            }
            CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-14);
        }
    }
    REQUIRE(met_input_x_gradient(inputs, IMAGES, MET_FLOAT64, &t.model, &options, outs, &report) == MET_OK);
    for (size_t i = 0; i < IMAGES; i++) {
        expected_gradient(&t, images[i], want);
        for (size_t v = 0; v < TOY_SIZE; v++) {
            want[v] *= images[i][v];
        }
        CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-14);
    }
    CHECK_INT(report.evaluations, 3 * IMAGES);
    CHECK_STR(report.declined, ""); /* one gradient: there is nothing to cut short */
}

/* On a quadratic the gradient is linear in alpha: two Gauss nodes, or the middle, give the integral exactly. */
void test_integrated_gradients_of_a_quadratic(void) {
    static const struct {
        met_quadrature quadrature;
        size_t steps;
    } exact[] = {{MET_GAUSS_LEGENDRE, 1}, {MET_GAUSS_LEGENDRE, 5}, {MET_RIEMANN_MIDDLE, 7}};
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t e = 0; e < 3; e++) {
            toy t;
            met_report report = {0};
            double out[IMAGES][TOY_SIZE], delta[IMAGES] = {9, 9}, at_x[TOY_SIZE], at_b[TOY_SIZE], want[TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1]};
            const met_options options = {.max_batch_size = 3, .pool = &backwards, .shortcuts = true};
            const met_integrated_gradients_options method = {exact[e].quadrature, exact[e].steps, true, delta};
            toy_init(&t, shortcut != 0);
            delta[0] = delta[1] = 0;
            REQUIRE(met_integrated_gradients(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) ==
                    MET_OK);
            for (size_t i = 0; i < IMAGES; i++) {
                double b[TOY_SIZE];
                for (size_t v = 0; v < TOY_SIZE; v++) {
                    b[v] = i == 0 ? baseline[v] : 0.25;
                }
                expected_gradient(&t, images[i], at_x);
                expected_gradient(&t, b, at_b);
                for (size_t v = 0; v < TOY_SIZE; v++) {
                    want[v] = (images[i][v] - b[v]) * (at_x[v] + at_b[v]) / 2;
                }
                CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-13);
                CHECK_CLOSE(delta[i], 0, 1e-11);
            }
            CHECK_INT(report.evaluations, IMAGES * (exact[e].steps + 2));
            CHECK_INT(report.shortcut_evaluations, shortcut && exact[e].steps > 2 ? IMAGES * exact[e].steps : 0);
        }
    }
}

/* delta is what the rule misses: the left rule is one-sided, and float32 leaves rounding only. */
void test_integrated_gradients_delta(void) {
    toy t;
    met_report report = {0};
    float image[TOY_SIZE], out[TOY_SIZE];
    double x[TOY_SIZE], zx[TOY_FEATURES], sum = 0, delta = 0;
    void *outs[1] = {out};
    const met_options options = {.shortcuts = false};
    const met_integrated_gradients_options method = {MET_RIEMANN_LEFT, 4, true, &delta};
    for (size_t v = 0; v < TOY_SIZE; v++) {
        image[v] = (float)toy_value(3, v);
        x[v] = image[v];
    }
    met_input input = toy_input(image, MET_FLOAT32);
    toy_init(&t, false);
    REQUIRE(met_integrated_gradients(&input, 1, MET_FLOAT32, &method, &t.model, &options, outs, &report) == MET_OK);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        sum += (double)out[v];
    }
    toy_features(&t, x, zx);
    CHECK_CLOSE(delta, sum - toy_output(zx, 0), 1e-5);
    CHECK_CLOSE(sum, 0.75 * toy_output(zx, 0), 1e-4); /* 2 * mean(0, 1/4, 2/4, 3/4) of the whole */
}

void test_integrated_gradients_refuses(void) {
    toy t;
    met_report report = {0};
    double out[TOY_SIZE];
    void *outs[1] = {out};
    const met_options options = {0};
    met_integrated_gradients_options method = {MET_GAUSS_LEGENDRE, (size_t)1000000000, true, NULL};
    make_inputs();
    toy_init(&t, false);
    CHECK_INT(met_integrated_gradients(inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_EVALUE);
    method.quadrature = MET_RIEMANN_TRAPEZOID;
    method.steps = 1;
    CHECK_INT(met_integrated_gradients(inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report), MET_EVALUE);
    CHECK_INT(t.calls, 0);
}
