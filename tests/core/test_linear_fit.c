#include "buffer.h"
#include "check.h"
#include "linear_fit.h"
#include "toy_model.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST 4096

static double x[MOST], y[MOST], weight[MOST], coefficients[MOST], intercepts[64];
static met_fit_result result = {.coefficients = coefficients, .intercepts = intercepts};

static const met_fit_options least_squares = {.kind = MET_FIT_LEAST_SQUARES, .intercept = true};

/* Numbers in [-1, 1), the same for the same series. */
static void fill(double *values, size_t n, size_t stream) {
    for (size_t i = 0; i < n; i++) {
        values[i] = toy_value(stream, i);
    }
}

static int fit(size_t rows, size_t features, size_t outputs, const double *weights, met_fit_options options) {
    const met_fit_problem problem = {x, y, weights, rows, features, outputs};
    return met_linear_fit(&problem, &options, &result);
}

/* The four coalitions of two players, with values 8, 6, 7, 5. */
static void two_players(void) {
    static const double rows[] = {1, 1, 1, 0, 0, 1, 0, 0}, values[] = {8, 6, 7, 5};
    memcpy(x, rows, sizeof rows);
    memcpy(y, values, sizeof values);
}

void test_fit_by_hand(void) {
    two_players();
    REQUIRE(fit(4, 2, 1, NULL, least_squares) == MET_OK);
    CHECK_CLOSE_N(coefficients, ((double[]){1, 2}), 2, 1e-14);
    CHECK_CLOSE(intercepts[0], 5, 1e-14);
    CHECK_INT(result.rank, 2);
    REQUIRE(fit(4, 2, 1, NULL, (met_fit_options){.kind = MET_FIT_LEAST_SQUARES}) == MET_OK);
    CHECK_CLOSE_N(coefficients, ((double[]){13.0 / 3, 16.0 / 3}), 2, 1e-14);
    CHECK_CLOSE(intercepts[0], 0, 0);
    /* Centred columns are orthogonal, with 4 times 1/4: ridge shrinks by 1 / (1 + alpha), LASSO by 4 alpha. */
    REQUIRE(fit(4, 2, 1, NULL, (met_fit_options){.kind = MET_FIT_RIDGE, .alpha = 1, .intercept = true}) == MET_OK);
    CHECK_CLOSE_N(coefficients, ((double[]){0.5, 1}), 2, 1e-14);
    CHECK_CLOSE(intercepts[0], 6.5 - 0.75, 1e-14);
    REQUIRE(fit(4, 2, 1, NULL, (met_fit_options){.kind = MET_FIT_LASSO, .alpha = 0.1, .intercept = true}) == MET_OK);
    CHECK_CLOSE_N(coefficients, ((double[]){0.6, 1.6}), 2, 1e-14);
    CHECK_CLOSE(intercepts[0], 6.5 - 1.1, 1e-14);
    CHECK(result.converged);
    CHECK_INT(result.rank, 0);
}

void test_fit_of_a_lasso_that_selects_nothing(void) {
    x[0] = 0, x[1] = 1, y[0] = 0, y[1] = 0.3;
    const double alphas[] = {0.075, 0.0749, 1.0, 1e300};
    const double expected[] = {0, 4 * (0.075 - 0.0749), 0, 0};
    for (size_t i = 0; i < 4; i++) {
        const met_fit_options options = {.kind = MET_FIT_LASSO, .alpha = alphas[i], .intercept = true};
        REQUIRE(fit(2, 1, 1, NULL, options) == MET_OK);
        CHECK_CLOSE(coefficients[0], expected[i], 1e-15);
        CHECK(result.converged);
    }
}

void test_fit_without_unique_solution(void) {
    for (size_t i = 0; i < 6; i++) {
        x[3 * i] = x[3 * i + 1] = (double)(i * i); /* the same column twice, and a constant one */
        x[3 * i + 2] = 0.1;
        y[i] = 2 * (double)(i * i) + 0.7;
    }
    for (size_t i = 0; i < 3; i++) {
        const met_fit_kind kinds[] = {MET_FIT_LEAST_SQUARES, MET_FIT_RIDGE, MET_FIT_LASSO};
        REQUIRE(fit(6, 3, 1, NULL, (met_fit_options){.kind = kinds[i], .intercept = true}) == MET_OK);
        CHECK_CLOSE_N(coefficients, ((double[]){1, 1, 0}), 3, 1e-13);
        CHECK_CLOSE(coefficients[2], 0, 0);
        CHECK_CLOSE(intercepts[0], 0.7, 1e-12);
        CHECK_INT(result.rank, kinds[i] == MET_FIT_LEAST_SQUARES ? 1 : 0);
    }
}

/* More features than rows: the residuals are 0, and the coefficients lie among the centred rows. */
void test_fit_of_few_rows(void) {
    enum { ROWS = 7, FEATURES = 40 };
    double moved[FEATURES];
    fill(x, ROWS * FEATURES, 1);
    fill(y, ROWS, 2);
    REQUIRE(fit(ROWS, FEATURES, 1, NULL, least_squares) == MET_OK);
    CHECK_INT(result.rank, ROWS - 1);
    double size = 0.0;
    for (size_t i = 0; i < ROWS; i++) {
        double predicted = intercepts[0];
        for (size_t j = 0; j < FEATURES; j++) {
            predicted += coefficients[j] * x[i * FEATURES + j];
        }
        CHECK_CLOSE(predicted, y[i], 1e-13);
    }
    for (size_t j = 0; j < FEATURES; j++) {
        size += coefficients[j] * coefficients[j];
    }
    memcpy(moved, coefficients, sizeof moved);
    for (double alpha = 1e-3; alpha > 1e-14; alpha *= 1e-5) { /* ridge tends to the shortest solution, from below */
        REQUIRE(fit(ROWS, FEATURES, 1, NULL,
                    (met_fit_options){.kind = MET_FIT_RIDGE, .alpha = alpha, .intercept = true}) == MET_OK);
        double shrunk = 0.0;
        for (size_t j = 0; j < FEATURES; j++) {
            shrunk += coefficients[j] * coefficients[j];
        }
        CHECK(shrunk <= size * (1 + 1e-12));
        CHECK_CLOSE_N(coefficients, moved, FEATURES, alpha + 1e-12);
    }
}

static met_fit_options option_of(size_t i, bool intercept) {
    const met_fit_options all[] = {{.kind = MET_FIT_LEAST_SQUARES},
                                   {.kind = MET_FIT_RIDGE, .alpha = 0.3},
                                   {.kind = MET_FIT_RIDGE, .alpha = 1e-9},
                                   {.kind = MET_FIT_LASSO, .alpha = 0.05},
                                   {.kind = MET_FIT_LASSO, .alpha = 0.01, .positive = true},
                                   {.kind = MET_FIT_LASSO, .alpha = 0, .positive = true}};
    met_fit_options options = all[i];
    options.intercept = intercept;
    return options;
}

/* For every kind and shape: the gradient of the objective is 0, or inside the bounds of the penalty. */
static void check_minimum(size_t rows, size_t features, size_t outputs, met_fit_options o) {
    double total = 0.0;
    /* Where the residuals vanish, the gap is their square. */
    const double tolerance = o.alpha == 0.0 && features > rows ? 1e-6 : 1e-11;
    REQUIRE(fit(rows, features, outputs, weight, o) == MET_OK);
    CHECK(result.converged);
    for (size_t i = 0; i < rows; i++) {
        total += weight[i];
    }
    for (size_t k = 0; k < outputs; k++) {
        const double *c = coefficients + k * features;
        double constant = 0.0, slope[64] = {0};
        for (size_t i = 0; i < rows; i++) {
            double r = y[i * outputs + k] - intercepts[k];
            for (size_t j = 0; j < features; j++) {
                r -= c[j] * x[i * features + j];
            }
            constant += weight[i] / total * r;
            for (size_t j = 0; j < features; j++) {
                slope[j] += weight[i] / total * r * x[i * features + j];
            }
        }
        CHECK(!o.intercept || fabs(constant) < 1e-13);
        for (size_t j = 0; j < features; j++) {
            if (o.kind == MET_FIT_RIDGE) {
                CHECK_CLOSE(slope[j], o.alpha / total * c[j], 1e-13);
            } else if (o.kind == MET_FIT_LEAST_SQUARES) {
                CHECK_CLOSE(slope[j], 0, 1e-13);
            } else if (c[j] != 0.0) {
                CHECK_CLOSE(slope[j], copysign(o.alpha, c[j]), tolerance);
                CHECK(!o.positive || c[j] > 0.0);
            } else {
                CHECK((o.positive ? slope[j] : fabs(slope[j])) <= o.alpha + tolerance);
            }
        }
    }
}

void test_fit_is_a_minimum(void) {
    const size_t shapes[][2] = {{30, 5}, {9, 9}, {10, 9}, {6, 20}, {2, 3}, {50, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        fill(x, shapes[s][0] * shapes[s][1], 10 + s);
        fill(y, shapes[s][0] * 3, 20 + s);
        fill(weight, shapes[s][0], 30 + s);
        for (size_t i = 0; i < shapes[s][0]; i++) {
            weight[i] = i % 5 == 4 ? 0.0 : weight[i] + 1.5;
        }
        for (size_t i = 0; i < 12; i++) {
            check_minimum(shapes[s][0], shapes[s][1], 3, option_of(i / 2, i % 2 == 0));
        }
    }
}

/* 40 rows of 8 correlated columns, which single steps of descent follow slowly, and two outputs. */
static void correlated(void) {
    fill(x, 40 * 8, 40);
    fill(y, 40 * 2, 41);
    for (size_t i = 0; i < 40; i++) {
        weight[i] = 1.0;
        for (size_t j = 1; j < 8; j++) {
            x[i * 8 + j] = x[i * 8] + 1e-3 * x[i * 8 + j];
        }
    }
}

void test_fit_of_correlated_columns(void) {
    correlated();
    for (size_t i = 0; i < 12; i++) {
        met_fit_options options = option_of(i / 2, i % 2 == 0);
        options.alpha *= 0.01;
        check_minimum(40, 8, 2, options);
    }
}

/* Columns of 0 and 1, some of them sums of others, with penalties that select little. */
void test_fit_of_a_lasso_with_many_solutions(void) {
    const size_t shapes[][2] = {{40, 33}, {16, 36}, {24, 24}};
    for (size_t s = 0; s < 3; s++) {
        const size_t rows = shapes[s][0], features = shapes[s][1];
        fill(x, rows * features, 100 + s);
        fill(y, rows * 2, 110 + s);
        for (size_t i = 0; i < rows; i++) {
            weight[i] = exp(-5.0 * (1.0 + toy_value(120 + s, i)));
            for (size_t j = 0; j < features; j++) {
                x[i * features + j] = x[i * features + j] > 0.0 ? 1.0 : 0.0;
            }
            x[i * features + 1] = x[i * features];
            x[i * features + 2] = x[i * features + 3] + x[i * features + 4];
            x[i * features + 5] = 0.1;
        }
        for (double alpha = 1e-2; alpha > 1e-9; alpha *= 0.01) {
            for (int choice = 0; choice < 4; choice++) {
                const met_fit_options options = {
                    .kind = MET_FIT_LASSO, .alpha = alpha, .intercept = choice % 2 == 0, .positive = choice / 2 == 1};
                check_minimum(rows, features, 2, options);
            }
        }
    }
}

/* Zero weights stand for absent rows, whole ones for repeated rows. */
void test_fit_weights_are_counts(void) {
    enum { ROWS = 12, FEATURES = 4 };
    static const size_t counts[ROWS] = {1, 0, 3, 2, 0, 1, 1, 4, 0, 2, 1, 1};
    static double all[64 * FEATURES], values[64], kept[FEATURES + 1];
    for (size_t i = 0; i < 12; i++) {
        fill(x, ROWS * FEATURES, 50);
        fill(y, ROWS, 51);
        size_t n = 0;
        for (size_t r = 0; r < ROWS; r++) {
            weight[r] = (double)counts[r];
            for (size_t k = 0; k < counts[r]; k++, n++) {
                memcpy(all + n * FEATURES, x + r * FEATURES, FEATURES * sizeof *x);
                values[n] = y[r];
            }
        }
        REQUIRE(fit(ROWS, FEATURES, 1, weight, option_of(i / 2, i % 2 == 0)) == MET_OK);
        memcpy(kept, coefficients, FEATURES * sizeof *kept);
        kept[FEATURES] = intercepts[0];
        memcpy(x, all, n * FEATURES * sizeof *x);
        memcpy(y, values, n * sizeof *y);
        REQUIRE(fit(n, FEATURES, 1, NULL, option_of(i / 2, i % 2 == 0)) == MET_OK);
        CHECK_CLOSE_N(coefficients, kept, FEATURES, 1e-12);
        CHECK_CLOSE(intercepts[0], kept[FEATURES], 1e-12);
    }
}

/* A large constant beside small differences, and values whose squares are no numbers, cost no digits. */
void test_fit_keeps_its_digits(void) {
    const double truth[] = {0.5, -0.25, 2};
    const double scales[] = {1, 0x1p-600, 0x1p600}, moves[] = {0x1p30, 0, 0};
    for (size_t s = 0; s < 3; s++) {
        fill(x, 20 * 3, 60);
        for (size_t i = 0; i < 20; i++) {
            double value = 3.0;
            for (size_t j = 0; j < 3; j++) {
                x[i * 3 + j] = ldexp(floor(ldexp(x[i * 3 + j], 10)), -10); /* sums are exact */
                value += truth[j] * x[i * 3 + j];
                x[i * 3 + j] *= scales[s];
            }
            y[i] = (value + moves[s]) * scales[s];
        }
        REQUIRE(fit(20, 3, 1, NULL, least_squares) == MET_OK);
        CHECK_CLOSE_N(coefficients, truth, 3, 1e-13);
        CHECK_CLOSE(intercepts[0] / scales[s], 3 + moves[s], 1e-13 * (3 + moves[s]));
        REQUIRE(fit(20, 3, 1, NULL, (met_fit_options){.kind = MET_FIT_RIDGE, .alpha = 1e-300, .intercept = true}) ==
                MET_OK);
        CHECK_CLOSE_N(coefficients, truth, 3, s == 1 ? 1 : 1e-13); /* beside 2^-1200 this alpha is a large one */
        REQUIRE(fit(20, 3, 1, NULL, (met_fit_options){.kind = MET_FIT_LASSO, .intercept = true, .positive = true}) ==
                MET_OK);
        CHECK(coefficients[1] == 0.0);
    }
}

void test_fit_of_constant_outputs(void) {
    const double constants[] = {3.0, 0.1, 0.0, -1e-30};
    for (size_t i = 0; i < 4; i++) {
        fill(x, 10 * 3, 70);
        for (size_t r = 0; r < 10; r++) {
            y[r] = constants[i];
            weight[r] = 1.0 / (double)(r + 3);
        }
        for (size_t k = 0; k < 6; k++) {
            REQUIRE(fit(10, 3, 1, weight, option_of(k, true)) == MET_OK);
            CHECK(coefficients[0] == 0.0 && coefficients[1] == 0.0 && coefficients[2] == 0.0);
            CHECK_CLOSE(intercepts[0], constants[i], 0);
            CHECK(result.converged);
        }
    }
}

void test_fit_of_one_row(void) {
    x[0] = 2, x[1] = 4, y[0] = 10;
    REQUIRE(fit(1, 2, 1, NULL, least_squares) == MET_OK);
    CHECK(coefficients[0] == 0.0 && coefficients[1] == 0.0 && intercepts[0] == 10.0);
    CHECK_INT(result.rank, 0);
    REQUIRE(fit(1, 2, 1, NULL, (met_fit_options){.kind = MET_FIT_LEAST_SQUARES}) == MET_OK);
    CHECK_CLOSE_N(coefficients, ((double[]){1, 2}), 2, 1e-15);
}

void test_fit_stops_when_told(void) {
    fill(x, 20 * 30, 90);
    fill(y, 20, 91);
    met_fit_options options = {.kind = MET_FIT_LASSO, .alpha = 1e-4, .intercept = true, .max_iterations = 1};
    REQUIRE(fit(20, 30, 1, NULL, options) == MET_OK);
    CHECK(!result.converged);
    options.tolerance = 1e3;
    REQUIRE(fit(20, 30, 1, NULL, options) == MET_OK);
    CHECK(result.converged);
}

static void check_refused(size_t rows, const double *weights, met_fit_options options, const char *got) {
    coefficients[0] = intercepts[0] = 77;
    CHECK_INT(fit(rows, 2, 1, weights, options), MET_EVALUE);
    CHECK(strstr(met_detail(), got) != NULL);
    CHECK(coefficients[0] == 77 && intercepts[0] == 77);
}

void test_fit_refuses(void) {
    const met_fit_options ridge = {.kind = MET_FIT_RIDGE, .alpha = 1};
    const double bad[] = {NAN, INFINITY, -INFINITY};
    two_players();
    for (size_t i = 0; i < 3; i++) {
        double *const places[] = {&x[5], &y[2]};
        for (size_t k = 0; k < 2; k++) {
            const double good = *places[k];
            *places[k] = bad[i];
            check_refused(4, NULL, ridge, k == 0 ? "row 2, column 1" : "y must be finite");
            *places[k] = good;
        }
        const double weights[] = {1, 1, bad[i], 1};
        check_refused(4, weights, ridge, "row 2");
        check_refused(4, NULL, (met_fit_options){.kind = MET_FIT_LASSO, .alpha = bad[i]}, "alpha");
        check_refused(4, NULL, (met_fit_options){.kind = MET_FIT_LASSO, .tolerance = bad[i]}, "tolerance");
    }
    check_refused(4, ((double[]){1, -0.5, 1, 1}), ridge, "-0.5 in row 1");
    check_refused(4, ((double[]){0, 0, 0, 0}), ridge, "all 4 weights are 0");
    check_refused(4, NULL, (met_fit_options){.kind = MET_FIT_RIDGE, .alpha = -2}, "-2");
    check_refused(4, NULL, (met_fit_options){.kind = (met_fit_kind)9}, "9");
    check_refused(0, NULL, ridge, "rows");
    y[0] = DBL_MAX, y[1] = -DBL_MAX;
    check_refused(4, NULL, least_squares, "overflow");
    CHECK_INT(met_linear_fit(NULL, &ridge, &result), MET_EVALUE);
    CHECK_INT(fit(SIZE_MAX / 16, 4, 1, NULL, ridge), MET_ENOMEM);
    CHECK(strstr(met_detail(), "4 features") != NULL);
}

/* Whatever allocation fails, the fit says so, frees the rest and leaves the result alone. */
void test_fit_without_memory(void) {
    const size_t shapes[][2] = {{8, 2}, {3, 6}};
    for (size_t s = 0; s < 2; s++) {
        const size_t rows = shapes[s][0], features = shapes[s][1];
        fill(x, rows * features, 80);
        fill(y, rows, 81);
        for (size_t i = 0; i < 6; i++) {
            int status = MET_ENOMEM;
            size_t allowed = 0;
            for (; status != MET_OK && allowed < 100; allowed++) {
                coefficients[0] = 77;
                toy_allocations_left = (long)allowed;
                toy_ration_memory();
                status = fit(rows, features, 1, NULL, option_of(i, true));
                met_set_allocator(NULL, NULL);
                CHECK_INT(toy_allocations_alive, 0);
                CHECK(status == MET_OK || (status == MET_ENOMEM && coefficients[0] == 77));
            }
            CHECK(allowed > 6 && allowed < 100);
        }
    }
}

void test_r2_by_definition(void) {
    const double values[] = {1, 9, 2, 9, 4, 9}, predicted[] = {1, 2, 3}, weights[] = {1, 2, 1}, one[] = {0, 2, 0};
    CHECK_CLOSE(met_r2(3, values, 2, predicted, NULL), 1 - 1 / (14.0 / 3), 1e-15);
    CHECK_CLOSE(met_r2(3, values, 2, predicted, weights), 1 - 1 / 4.75, 1e-15);
    CHECK_CLOSE(met_r2(2, values, 2, predicted, NULL), 1, 0);
    CHECK(isnan(met_r2(1, values, 2, predicted, NULL)) && isnan(met_r2(0, values, 2, predicted, NULL)));
    CHECK(isnan(met_r2(3, values, 2, predicted, one)));
    for (size_t i = 0; i < 2; i++) { /* constant y */
        const double c = i == 0 ? 3.0 : 0.1, same[] = {c, c, c}, off[] = {c, c, c + 1e-9};
        CHECK_CLOSE(met_r2(3, same, 1, same, weights), 1, 0);
        CHECK_CLOSE(met_r2(3, same, 1, off, weights), 0, 0);
    }
    CHECK(isnan(met_r2(2, (double[]){1, 2}, 1, (double[]){NAN, 2}, NULL)));
}
