#include "check.h"
#include "game.h"
#include "surrogate.h"
#include "toy_model.h"

#include <math.h>
#include <string.h>

#define MOST 512
#define FEATURES 3
#define OUTPUTS 2

static const met_fit_options plain = {.kind = MET_FIT_LEAST_SQUARES, .intercept = true};
static const met_stream resamples_of = {3, (uint64_t)1 << 63};

/* Random coalitions, y = c z + intercept + noise for each output, and weights. */
typedef struct problem {
    met_surrogate_rows rows;
    uint64_t bits[MOST];
    double value[MOST * OUTPUTS];
    double weight[MOST];
} problem;

static const double coefficients[OUTPUTS][FEATURES] = {{2, -1, 0.5}, {0, 3, -0.25}};
static const double intercepts[OUTPUTS] = {0.75, -2};

static void make_problem(problem *p, size_t rows, double noise, size_t trial) {
    double normal[MOST * OUTPUTS];
    *p = (problem){.rows = {rows, FEATURES, OUTPUTS, p->bits, p->value, p->weight}};
    met_normal((met_stream){90 + trial, 1}, 0, rows * OUTPUTS, normal);
    for (size_t r = 0; r < rows; r++) {
        met_coalition_draw((met_stream){90 + trial, 0}, r, FEATURES, &p->bits[r]);
        p->weight[r] = 1;
        for (size_t t = 0; t < OUTPUTS; t++) {
            double y = intercepts[t] + noise * normal[r * OUTPUTS + t];
            for (size_t j = 0; j < FEATURES; j++) {
                y += met_coalition_has(&p->bits[r], j) ? coefficients[t][j] : 0;
            }
            p->value[r * OUTPUTS + t] = y;
        }
    }
}

static int fit(const problem *p, const met_fit_options *options, size_t resamples, met_surrogate *s) {
    const int status = met_surrogate_new(p->rows.features, p->rows.outputs, resamples > 0, s);
    return status == MET_OK ? met_surrogate_fit(&p->rows, options, resamples, resamples_of, NULL, s) : status;
}

/* Without noise: the function itself, scores of 1, errors of 0, whatever the weights. */
void test_surrogate_of_a_linear_function(void) {
    problem p;
    met_surrogate s;
    make_problem(&p, 60, 0, 0);
    for (size_t r = 0; r < 60; r++) {
        p.weight[r] = 0.1 + (double)(r % 7);
    }
    REQUIRE(fit(&p, &plain, 40, &s) == MET_OK);
    for (size_t t = 0; t < OUTPUTS; t++) {
        CHECK_CLOSE_N(s.coefficients + t * FEATURES, coefficients[t], FEATURES, 1e-12);
        CHECK_CLOSE(s.intercepts[t], intercepts[t], 1e-12);
        for (size_t k = 0; k < 2; k++) {
            CHECK_CLOSE(s.scores[2 * t + k], 1, 1e-12);
            CHECK_CLOSE(s.interval[2 * t + k], 1, 1e-12);
        }
        for (size_t j = 0; j < FEATURES; j++) {
            CHECK_CLOSE(s.errors[t * FEATURES + j], 0, 1e-12);
        }
    }
    CHECK(met_surrogate_precision(&s, FEATURES, OUTPUTS) < 1e-12);
    met_surrogate_free(&s);
}

/* One feature: the fit is two weighted means, and both scores follow by hand. */
void test_surrogate_scores_by_hand(void) {
    uint64_t bits[] = {0, 0, 1, 1};
    const double value[] = {0, 2, 5, 9}, weight[] = {1, 3, 1, 1};
    const met_surrogate_rows rows = {4, 1, 1, bits, value, weight};
    met_surrogate s;
    REQUIRE(met_surrogate_new(1, 1, false, &s) == MET_OK);
    REQUIRE(met_surrogate_fit(&rows, &plain, 0, resamples_of, NULL, &s) == MET_OK);
    CHECK(s.errors == NULL && s.interval == NULL);
    CHECK_CLOSE(s.intercepts[0], 1.5, 1e-14);                      /* (0 + 3 * 2) / 4 */
    CHECK_CLOSE(s.coefficients[0], 5.5, 1e-14);                    /* 7 - 1.5 */
    const double left = 1.5 * 1.5 + 0.5 * 0.5 + 4 + 4;             /* around 1.5 and 7 */
    CHECK_CLOSE(s.scores[0], 1 - left / (16 + 4 + 1 + 25), 1e-14); /* around 4, unweighted */
    const double weighted_left = 1.5 * 1.5 + 3 * 0.25 + 4 + 4, mean = 20 / 6.0;
    const double whole = mean * mean + 3 * (2 - mean) * (2 - mean) + (5 - mean) * (5 - mean) + (9 - mean) * (9 - mean);
    CHECK_CLOSE(s.scores[1], 1 - weighted_left / whole, 1e-14);
    met_surrogate_free(&s);
}

/* sqrt of the diagonal of sigma^2 (X' X)^-1 of centred columns, by solving for each unit vector (Cramer, 3 columns). */
static void analytic_errors(const problem *p, double sigma, double *out) {
    double mean[FEATURES] = {0}, g[FEATURES][FEATURES] = {{0}};
    for (size_t r = 0; r < p->rows.rows; r++) {
        for (size_t j = 0; j < FEATURES; j++) {
            mean[j] += (double)met_coalition_has(&p->bits[r], j) / (double)p->rows.rows;
        }
    }
    for (size_t r = 0; r < p->rows.rows; r++) {
        for (size_t i = 0; i < FEATURES; i++) {
            for (size_t j = 0; j < FEATURES; j++) {
                g[i][j] += ((double)met_coalition_has(&p->bits[r], i) - mean[i]) *
                           ((double)met_coalition_has(&p->bits[r], j) - mean[j]);
            }
        }
    }
    double determinant = 0;
    for (size_t j = 0; j < 3; j++) {
        determinant += g[0][j] * (g[1][(j + 1) % 3] * g[2][(j + 2) % 3] - g[1][(j + 2) % 3] * g[2][(j + 1) % 3]);
    }
    for (size_t j = 0; j < 3; j++) {
        const size_t a = (j + 1) % 3, b = (j + 2) % 3;
        out[j] = sigma * sqrt((g[a][a] * g[b][b] - g[a][b] * g[b][a]) / determinant);
    }
}

/* The bootstrap's standard errors are those that theory gives for this noise, and the interval holds the score. */
void test_surrogate_errors_of_known_noise(void) {
    problem p;
    met_surrogate s;
    double want[FEATURES];
    make_problem(&p, MOST, 0.5, 1);
    analytic_errors(&p, 0.5, want);
    REQUIRE(fit(&p, &plain, 400, &s) == MET_OK);
    double largest = 0;
    for (size_t t = 0; t < OUTPUTS; t++) {
        for (size_t j = 0; j < FEATURES; j++) {
            CHECK_CLOSE(s.errors[t * FEATURES + j] / want[j], 1, 0.2);
            CHECK(fabs(s.coefficients[t * FEATURES + j] - coefficients[t][j]) < 4 * want[j]);
            largest = fmax(largest, s.errors[t * FEATURES + j] / fabs(s.coefficients[t * FEATURES + (t == 0 ? 0 : 1)]));
        }
        CHECK(s.interval[2 * t] < s.scores[2 * t] && s.scores[2 * t] < s.interval[2 * t + 1]);
        CHECK(s.interval[2 * t + 1] - s.interval[2 * t] < 0.3);
    }
    CHECK_CLOSE(met_surrogate_precision(&s, FEATURES, OUTPUTS), largest, 1e-15);
    met_surrogate_free(&s);
}

static int count_down(void *left) {
    return --*(int *)left > 0 ? MET_OK : MET_ECANCELLED;
}

/* Whoever waits for resamples may end them. */
void test_surrogate_stops_when_told(void) {
    problem p;
    met_surrogate s;
    int left = 3;
    const met_pause pause = {count_down, &left};
    make_problem(&p, 100, 0.5, 2);
    REQUIRE(met_surrogate_new(FEATURES, OUTPUTS, true, &s) == MET_OK);
    CHECK_INT(met_surrogate_fit(&p.rows, &plain, 20, resamples_of, &pause, &s), MET_ECANCELLED);
    CHECK_INT(left, 0);
    met_surrogate_free(&s);
}

void test_surrogate_repeats(void) {
    problem p;
    met_surrogate a, b, other;
    make_problem(&p, 100, 0.5, 2);
    REQUIRE(fit(&p, &plain, 20, &a) == MET_OK && fit(&p, &plain, 20, &b) == MET_OK);
    REQUIRE(met_surrogate_new(FEATURES, OUTPUTS, true, &other) == MET_OK);
    REQUIRE(met_surrogate_fit(&p.rows, &plain, 20, (met_stream){4, (uint64_t)1 << 63}, NULL, &other) == MET_OK);
    CHECK(memcmp(a.errors, b.errors, sizeof(double) * FEATURES * OUTPUTS) == 0);
    CHECK(memcmp(a.interval, b.interval, sizeof(double) * 2 * OUTPUTS) == 0);
    CHECK(memcmp(a.errors, other.errors, sizeof(double) * FEATURES * OUTPUTS) != 0);
    CHECK(memcmp(a.coefficients, other.coefficients, sizeof(double) * FEATURES * OUTPUTS) == 0);
    met_surrogate_free(&a);
    met_surrogate_free(&b);
    met_surrogate_free(&other);
}

/* What one number cannot tell is NaN, and nobody calls it precise. */
void test_surrogate_of_what_cannot_be_told(void) {
    problem p;
    met_surrogate s;
    make_problem(&p, 1, 0, 3);
    REQUIRE(fit(&p, &plain, 10, &s) == MET_OK); /* one sample */
    CHECK_CLOSE(s.coefficients[0], 0, 0);
    CHECK_CLOSE(s.intercepts[0], p.value[0], 1e-15);
    CHECK(isnan(s.scores[0]) && isnan(s.scores[1]));
    CHECK(isnan(s.interval[0]) && isnan(s.interval[1]));
    met_surrogate_free(&s);

    make_problem(&p, 30, 0.5, 4);
    REQUIRE(fit(&p, &plain, 1, &s) == MET_OK); /* one resample */
    CHECK(isnan(s.errors[0]));
    CHECK(isinf(met_surrogate_precision(&s, FEATURES, OUTPUTS)));
    CHECK_CLOSE(s.interval[0], s.interval[1], 0);
    met_surrogate_free(&s);

    for (size_t r = 0; r < 30; r++) {
        p.weight[r] = r == 5; /* most resamples weigh nothing */
    }
    REQUIRE(fit(&p, &plain, 60, &s) == MET_OK);
    CHECK_CLOSE(s.errors[0], 0, 1e-12);
    CHECK(isnan(s.scores[1]) && !isnan(s.scores[0]));
    met_surrogate_free(&s);
}

/* Constant outputs, in particular 0.1: coefficients of 0, scores of 1, precise at once. */
void test_surrogate_of_constant_outputs(void) {
    problem p;
    met_surrogate s;
    make_problem(&p, 50, 0, 5);
    for (size_t r = 0; r < 50; r++) {
        p.value[r * OUTPUTS] = 3;
        p.value[r * OUTPUTS + 1] = 0.1;
    }
    REQUIRE(fit(&p, &plain, 10, &s) == MET_OK);
    for (size_t i = 0; i < FEATURES * OUTPUTS; i++) {
        CHECK_CLOSE(s.coefficients[i], 0, 0);
        CHECK_CLOSE(s.errors[i], 0, 0);
    }
    for (size_t i = 0; i < 2 * OUTPUTS; i++) {
        CHECK_CLOSE(s.scores[i], 1, 0);
    }
    CHECK_CLOSE(met_surrogate_precision(&s, FEATURES, OUTPUTS), 0, 0);
    met_surrogate_free(&s);
}

void test_surrogate_refuses(void) {
    problem p;
    met_surrogate s;
    make_problem(&p, 10, 0, 6);
    p.rows.rows = 0;
    CHECK_INT(fit(&p, &plain, 5, &s), MET_EVALUE);
    met_surrogate_free(&s);
    p.rows.rows = 10;
    p.value[3] = (double)NAN;
    CHECK_INT(fit(&p, &plain, 5, &s), MET_EVALUE);
    met_surrogate_free(&s);
    CHECK_INT(met_surrogate_new(SIZE_MAX / 2, 3, true, &s), MET_ENOMEM);
    met_surrogate_free(&s);
}

void test_surrogate_without_memory(void) {
    problem p;
    int status = MET_ENOMEM;
    long ration = 0;
    make_problem(&p, 20, 0.5, 7);
    toy_ration_memory();
    for (; status != MET_OK && ration < 200; ration++) {
        met_surrogate s;
        toy_allocations_left = ration;
        status = fit(&p, &plain, 3, &s);
        CHECK(status == MET_OK || status == MET_ENOMEM);
        met_surrogate_free(&s);
        CHECK_INT(toy_allocations_alive, 0);
    }
    CHECK_INT(status, MET_OK);
    CHECK(ration > 10);
    met_set_allocator(NULL, NULL);
}
