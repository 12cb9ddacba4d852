#include "check.h"
#include "script.h"
#include "surrogate.h"
#include "toy_game.h"

#include <math.h>
#include <string.h>

#define ROWS 60

/* Must be the order of the method's choices. */
enum { COSINE, EUCLIDEAN, GIVEN };
enum { LEAST_SQUARES, RIDGE, LASSO, NO_SURROGATE };

/* Options that explain with least squares, 60 samples, a width of 0.5. */
static void make_options(toy_options *o, const met_segments *features) {
    memset(o, 0, sizeof *o);
    TOY_SET(met_lime, *o, "features", const met_segments *, features);
    TOY_SET(met_lime, *o, "n_samples", size_t, ROWS);
    TOY_SET(met_lime, *o, "kernel_width", double, 0.5);
    TOY_SET(met_lime, *o, "seed", uint64_t, 5);
    TOY_SET(met_lime, *o, "intercept", bool, true);
}

/* Choices stand in the order that these tests use. */
void test_lime_names_its_choices(void) {
    static const char *const distances[] = {"cosine", "euclidean", "given", NULL};
    static const char *const surrogates[] = {"least_squares", "ridge", "lasso", "none", NULL};
    for (const met_argument *a = met_lime.arguments; a->name != NULL; a++) {
        const char *const *names = strcmp(a->name, "distance") == 0    ? distances
                                   : strcmp(a->name, "surrogate") == 0 ? surrogates
                                                                       : NULL;
        for (size_t k = 0; names != NULL && (k == 0 || names[k - 1] != NULL); k++) {
            CHECK_STR(a->choices[k], names[k]);
        }
    }
}

static int32_t ids[TOY_SIZE];
static met_segments segments[IMAGES];

/* Four features and values in none, the same for all images. */
static void make_segments(void) {
    script_make_inputs();
    for (size_t v = 0; v < TOY_SIZE; v++) {
        ids[v] = (int32_t)(v * 7 % 5) - 1;
    }
    for (size_t i = 0; i < IMAGES; i++) {
        segments[i] = (met_segments){ids, {20, 5, 1}, 4};
    }
}

/* The kernel of a sample by definition: between image and rendered sample, value by value. */
static double kernel_by_hand(int distance, double width, const double *x, const double *sample) {
    double xx = 0, ss = 0, xs = 0, dd = 0;
    for (size_t v = 0; v < TOY_SIZE; v++) {
        xx += x[v] * x[v];
        ss += sample[v] * sample[v];
        xs += x[v] * sample[v];
        dd += (x[v] - sample[v]) * (x[v] - sample[v]);
    }
    const double norms = sqrt(xx) * sqrt(ss), d = distance == COSINE ? 1 - (norms > 0 ? xs / norms : 0) : sqrt(dd);
    return exp(-d * d / (2 * width * width));
}

/* Samples, what the model says of them, and their weights, as the host gets them. */
static void check_samples(const toy *t, const toy_host *h, size_t i, int distance, double width) {
    const uint8_t *flags = toy_host_table(h, i, "samples");
    const double *value = toy_host_table(h, i, "sample_values"), *weight = toy_host_table(h, i, "weights");
    REQUIRE(flags != NULL && value != NULL && weight != NULL);
    const size_t rows = toy_host_shape(h, i, "samples")[0];
    for (size_t r = 0; r < rows; r++) {
        double x[TOY_SIZE], z[TOY_FEATURES];
        for (size_t v = 0; v < TOY_SIZE; v++) {
            const met_input *input = &script_inputs[i];
            const bool kept = ids[v] < 0 || flags[r * 4 + (size_t)ids[v]] != 0;
            x[v] = kept                           ? script_images[i][v]
                   : input->baseline.data == NULL ? input->baseline_value
                                                  : script_baselines[i][v];
        }
        toy_features(t, x, z);
        CHECK_CLOSE(value[r], toy_output(z, i), 1e-11);
        CHECK_CLOSE(weight[r], kernel_by_hand(distance, width, script_images[i], x), 1e-12);
    }
}

/* Image 0 against its baseline, image 1 against a number, image 2, which is 0, against its baseline. */
void test_lime_kernels_by_definition(void) {
    for (int distance = COSINE; distance <= EUCLIDEAN; distance++) {
        toy t;
        toy_options o;
        toy_host h;
        met_report report = {0};
        const met_options run = {.max_batch_size = 7};
        const double width = distance == COSINE ? 0.5 : 3;
        toy_init(&t, false);
        make_segments();
        make_options(&o, segments);
        TOY_SET(met_lime, o, "distance", int, distance);
        TOY_SET(met_lime, o, "kernel_width", double, width);
        script_inputs[1].baseline.data = NULL;
        script_inputs[1].baseline_value = 0.25;
        memset(script_images[2], 0, sizeof script_images[2]);
        toy_host_init(&h, IMAGES, TOY_SIZE);
        REQUIRE(toy_host_run(&met_lime, script_inputs, IMAGES, &o, &t.model, &run, &h, &report) == MET_OK);
        size_t distinct = 0;
        for (size_t i = 0; i < IMAGES; i++) {
            check_samples(&t, &h, i, distance, width);
            distinct += toy_host_shape(&h, i, "coalitions")[0];
        }
        CHECK(distinct > 40 && distinct <= 3 * 16);
        CHECK_INT(report.evaluations, distinct); /* each coalition once */
        CHECK_INT(report.evaluations_saved, 3 * ROWS - distinct);
        toy_host_free(&h);
    }
}

/* The fit is that of linear_fit.h on the samples that the host gets; attributions are its coefficients. */
void test_lime_fits_its_samples(void) {
    static const met_fit_kind kinds[] = {MET_FIT_LEAST_SQUARES, MET_FIT_RIDGE, MET_FIT_LASSO};
    for (int surrogate = LEAST_SQUARES; surrogate <= NO_SURROGATE; surrogate++) {
        toy t;
        toy_options o;
        toy_host h;
        met_report report = {0};
        const met_options run = {0};
        toy_init(&t, false);
        make_segments();
        make_options(&o, segments);
        TOY_SET(met_lime, o, "surrogate", int, surrogate);
        TOY_SET(met_lime, o, "alpha", double, 0.5);
        TOY_SET(met_lime, o, "outputs", met_targets, (met_targets){.all = true});
        toy_host_init(&h, IMAGES, TOY_SIZE);
        REQUIRE(toy_host_run(&met_lime, script_inputs, IMAGES, &o, &t.model, &run, &h, &report) == MET_OK);
        CHECK_INT(h.results.outputs, surrogate == NO_SURROGATE ? 1 : TOY_OUTPUTS);
        CHECK_INT(h.results.shape[0], TOY_OUTPUTS);
        for (size_t i = 0; i < IMAGES; i++) {
            const double *coefficients = toy_host_table(&h, i, "coefficients");
            CHECK((coefficients == NULL) == (surrogate == NO_SURROGATE));
            if (coefficients == NULL) {
                continue;
            }
            const uint8_t *flags = toy_host_table(&h, i, "samples");
            double x[ROWS * 4], want[TOY_OUTPUTS * 4], intercepts[TOY_OUTPUTS];
            for (size_t k = 0; k < ROWS * 4; k++) {
                x[k] = flags[k];
            }
            const met_fit_problem problem = {
                x, toy_host_table(&h, i, "sample_values"), toy_host_table(&h, i, "weights"), ROWS, 4, TOY_OUTPUTS};
            const met_fit_options options = {.kind = kinds[surrogate], .alpha = 0.5, .intercept = true};
            met_fit_result result = {.coefficients = want, .intercepts = intercepts};
            REQUIRE(met_linear_fit(&problem, &options, &result) == MET_OK);
            CHECK_CLOSE_N(coefficients, want, TOY_OUTPUTS * 4, 0);
            CHECK_CLOSE_N((const double *)toy_host_table(&h, i, "intercepts"), intercepts, TOY_OUTPUTS, 0);
            for (size_t k = 0; k < TOY_OUTPUTS * TOY_SIZE; k++) {
                const size_t output = k / TOY_SIZE, v = k % TOY_SIZE;
                CHECK_CLOSE(((const double *)h.results.out[i * TOY_OUTPUTS + output])[v],
                            ids[v] < 0 ? 0 : want[output * 4 + (size_t)ids[v]], 0);
            }
            CHECK(toy_host_table(&h, i, "standard_errors") == NULL);
        }
        toy_host_free(&h);
    }
}

/* However narrow the kernel: no weight is NaN, the nearest samples have 1 where all others would have 0. */
void test_lime_of_narrow_kernels(void) {
    static const double widths[] = {1e-3, 1e-5, 1e-100, 1e-200, 1e-320, INFINITY};
    static const uint8_t rows[3][4] = {{0, 1, 1, 1}, {0, 0, 0, 0}, {0, 1, 1, 1}};
    const met_table given[IMAGES] = {{rows, 3, 4}};
    for (int distance = COSINE; distance <= EUCLIDEAN; distance++) {
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            toy t;
            toy_options o;
            toy_host h;
            met_report report = {0};
            const met_options run = {0};
            toy_init(&t, false);
            make_segments();
            make_options(&o, segments);
            TOY_SET(met_lime, o, "distance", int, distance);
            TOY_SET(met_lime, o, "kernel_width", double, widths[w]);
            TOY_SET(met_lime, o, "rows", const met_table *, given);
            toy_host_init(&h, 1, TOY_SIZE);
            REQUIRE(toy_host_run(&met_lime, script_inputs, 1, &o, &t.model, &run, &h, &report) == MET_OK);
            const double *weight = toy_host_table(&h, 0, "weights");
            CHECK_CLOSE(weight[0], 1, 0);
            CHECK_CLOSE(weight[1], isinf(widths[w]) ? 1 : 0, 1e-12);
            CHECK_CLOSE(weight[2], 1, 0);
            CHECK_CLOSE(*(const double *)toy_host_table(&h, 0, "effective_samples"), isinf(widths[w]) ? 9 / 5.0 : 1,
                        1e-12);
            toy_host_free(&h);
        }
    }
}

/* Given samples with given weights: the plane through them, and how many samples they are worth. */
void test_lime_of_given_samples(void) {
    static const uint8_t rows[5][4] = {{1, 1, 1, 1}, {0, 1, 1, 1}, {1, 0, 1, 1}, {1, 1, 0, 1}, {1, 1, 0, 1}};
    static const double weights[5] = {2, 1, 1, 0.5, 0.25};
    const met_table given[IMAGES] = {{rows, 5, 4}}, given_weights[IMAGES] = {{weights, 5, 1}};
    toy t;
    toy_options o;
    toy_host h;
    met_report report = {0};
    const met_options run = {0};
    toy_init(&t, false);
    make_segments();
    make_options(&o, segments);
    TOY_SET(met_lime, o, "distance", int, GIVEN);
    TOY_SET(met_lime, o, "kernel_width", double, 0); /* not used */
    TOY_SET(met_lime, o, "rows", const met_table *, given);
    TOY_SET(met_lime, o, "row_weights", const met_table *, given_weights);
    toy_host_init(&h, 1, TOY_SIZE);
    REQUIRE(toy_host_run(&met_lime, script_inputs, 1, &o, &t.model, &run, &h, &report) == MET_OK);
    CHECK_INT(report.evaluations, 4);
    const double *y = toy_host_table(&h, 0, "sample_values"), *c = toy_host_table(&h, 0, "coefficients");
    const double want[] = {y[0] - y[1], y[0] - y[2], y[0] - y[3], 0};
    CHECK_CLOSE_N(c, want, 4, 1e-12);
    CHECK_CLOSE_N((const double *)toy_host_table(&h, 0, "weights"), weights, 5, 0);
    CHECK_CLOSE(*(const double *)toy_host_table(&h, 0, "effective_samples"), 4.75 * 4.75 / (4 + 1 + 1 + 0.75 * 0.75),
                1e-12);
    const uint8_t *flags = toy_host_table(&h, 0, "samples");
    CHECK(memcmp(flags, rows, sizeof rows) == 0);
    toy_host_free(&h);

    TOY_SET(met_lime, o, "row_weights", const met_table *, NULL); /* 1 each */
    toy_host_init(&h, 1, TOY_SIZE);
    REQUIRE(toy_host_run(&met_lime, script_inputs, 1, &o, &t.model, &run, &h, &report) == MET_OK);
    CHECK_CLOSE(((const double *)toy_host_table(&h, 0, "weights"))[3], 1, 0);
    toy_host_free(&h);
}

/* ---- the stop rule */

/* A linear function of the first four players, and of the rest something that no linear function is. */
static double mostly_linear(const void *ctx, const double *z, size_t players, size_t output) {
    const double noise = *(const double *)ctx;
    double hash = 0;
    for (size_t i = 0; i < players; i++) {
        hash += z[i] * (double)(i * i % 37 + 1);
    }
    return 4 * z[0] + 3 * z[1] - 2 * z[2] + z[3] + noise * sin(hash) + (double)output;
}

static size_t samples_of(double tolerance, double noise, size_t most, size_t chunk, double *errors) {
    toy_game g;
    toy_options o;
    toy_host h;
    met_report report = {0};
    const met_options run = {.max_batch_size = chunk};
    toy_game_init(&g, 12, 1, mostly_linear, &noise);
    make_options(&o, &g.segments);
    TOY_SET(met_lime, o, "n_samples", size_t, most);
    TOY_SET(met_lime, o, "tolerance", double, tolerance);
    TOY_SET(met_lime, o, "kernel_width", double, 100);
    toy_host_init(&h, 1, 12);
    CHECK_INT(toy_host_run(&met_lime, &g.input, 1, &o, &g.model, &run, &h, &report), MET_OK);
    const size_t rows = toy_host_shape(&h, 0, "samples")[0];
    if (errors != NULL) {
        const double *of = toy_host_table(&h, 0, "standard_errors"), *c = toy_host_table(&h, 0, "coefficients");
        double worst = 0, largest = 0;
        for (size_t j = 0; j < 12; j++) {
            worst = fmax(worst, of[j]);
            largest = fmax(largest, fabs(c[j]));
        }
        *errors = worst / largest;
    }
    CHECK_INT(g.samples - report.evaluations_verifying, report.evaluations);
    CHECK_INT(report.evaluations + report.evaluations_saved, rows);
    toy_host_free(&h);
    return rows;
}

/* Samples are added until the errors are small enough, or there are as many as allowed; the chunk plays no part. */
void test_lime_stops_when_precise(void) {
    double reached = 0;
    CHECK_INT(samples_of(0.05, 0, 5000, 0, &reached), 64); /* no noise: the first look */
    CHECK(reached < 1e-12);
    const size_t some = samples_of(0.02, 1, 5000, 0, &reached);
    CHECK(some > 64 && some < 5000);
    CHECK(reached <= 0.02);
    CHECK_INT(samples_of(0.02, 1, 5000, 1, NULL), some);
    CHECK(samples_of(0.04, 1, 5000, 0, NULL) < some);
    CHECK_INT(samples_of(1e-9, 1, 300, 0, &reached), 300);
    CHECK(reached > 1e-9);
    CHECK_INT(samples_of(0.05, 0, 10, 0, NULL), 10); /* fewer than a first look */
}

/* Same seed, same bits, whatever the chunk; another seed has other samples, and so has another image. */
void test_lime_repeats(void) {
    static const size_t chunks[] = {1, 3, 64, 0};
    double first[TOY_SIZE];
    uint8_t samples[ROWS * 4];
    make_segments();
    for (size_t c = 0; c < 5; c++) {
        toy t;
        toy_options o;
        toy_host h;
        met_report report = {0};
        const met_options run = {.max_batch_size = c < 4 ? chunks[c] : 0};
        toy_init(&t, false);
        make_options(&o, segments);
        TOY_SET(met_lime, o, "resamples", size_t, 10);
        TOY_SET(met_lime, o, "seed", uint64_t, c < 4 ? 5 : 6);
        toy_host_init(&h, IMAGES, TOY_SIZE);
        REQUIRE(toy_host_run(&met_lime, script_inputs, IMAGES, &o, &t.model, &run, &h, &report) == MET_OK);
        if (c == 0) {
            memcpy(first, h.results.out[1], sizeof first);
            memcpy(samples, toy_host_table(&h, 1, "samples"), sizeof samples);
            CHECK(memcmp(samples, toy_host_table(&h, 2, "samples"), sizeof samples) != 0);
        }
        CHECK((memcmp(first, h.results.out[1], sizeof first) == 0) == (c < 4));
        CHECK((memcmp(samples, toy_host_table(&h, 1, "samples"), sizeof samples) == 0) == (c < 4));
        CHECK(toy_host_table(&h, 1, "standard_errors") != NULL && toy_host_table(&h, 1, "score_interval") != NULL);
        toy_host_free(&h);
    }
}

/* ---- failures */

static int run_on(const toy_options *o) {
    toy t;
    toy_host h;
    met_report report = {0};
    const met_options run = {0};
    toy_init(&t, false);
    toy_host_init(&h, 1, TOY_SIZE);
    const int status = toy_host_run(&met_lime, script_inputs, 1, o, &t.model, &run, &h, &report);
    CHECK_INT(t.prepared, 0);
    toy_host_free(&h);
    return status;
}

void test_lime_refuses(void) {
    static const uint8_t rows[2][4] = {{1, 1, 1, 1}, {0}};
    static const double weights[2] = {0, 0};
    met_table given[IMAGES] = {{rows, 2, 4}}, given_weights[IMAGES] = {{weights, 2, 1}};
    toy_options o;
    make_segments();
    make_options(&o, segments);
    CHECK_INT(run_on(&o), MET_OK);
    TOY_SET(met_lime, o, "n_samples", size_t, 0);
    CHECK_INT(run_on(&o), MET_EVALUE);
    TOY_SET(met_lime, o, "n_samples", size_t, SIZE_MAX);
    CHECK_INT(run_on(&o), MET_ENOMEM);
    make_options(&o, NULL);
    CHECK_INT(run_on(&o), MET_EVALUE);
    TOY_SET(met_lime, o, "rows", const met_table *, given);
    CHECK_INT(run_on(&o), MET_EVALUE);
    make_options(&o, segments);
    TOY_SET(met_lime, o, "kernel_width", double, 0);
    CHECK_INT(run_on(&o), MET_EVALUE);
    TOY_SET(met_lime, o, "kernel_width", double, NAN);
    CHECK_INT(run_on(&o), MET_EVALUE);
    make_options(&o, segments);
    TOY_SET(met_lime, o, "tolerance", double, 0.1);
    TOY_SET(met_lime, o, "surrogate", int, NO_SURROGATE);
    CHECK_INT(run_on(&o), MET_EVALUE);
    make_options(&o, segments);
    TOY_SET(met_lime, o, "distance", int, GIVEN);
    TOY_SET(met_lime, o, "rows", const met_table *, given);
    TOY_SET(met_lime, o, "row_weights", const met_table *, given_weights);
    CHECK_INT(run_on(&o), MET_EVALUE); /* nothing weighs anything */
    given_weights[0].rows = 1;
    CHECK_INT(run_on(&o), MET_EVALUE);
    given[0].columns = 3;
    CHECK_INT(run_on(&o), MET_EVALUE);
    given[0] = (met_table){0};
    CHECK_INT(run_on(&o), MET_EVALUE);
}

static double root(const void *ctx, const double *z, size_t players, size_t output) {
    (void)ctx;
    (void)players;
    return output == 1 && z[0] == 0 ? (double)NAN : z[1];
}

/* A surrogate of NaN is an error that says of which sample; without a surrogate the host gets what the model said. */
void test_lime_of_outputs_that_are_not_finite(void) {
    for (int surrogate = LEAST_SQUARES; surrogate <= NO_SURROGATE; surrogate++) {
        toy_game g;
        toy_options o;
        toy_host h;
        met_report report = {0};
        const met_options run = {0};
        toy_game_init(&g, 3, 2, root, NULL);
        make_options(&o, &g.segments);
        TOY_SET(met_lime, o, "surrogate", int, surrogate);
        TOY_SET(met_lime, o, "outputs", met_targets, (met_targets){.all = true});
        toy_host_init(&h, 1, 3);
        CHECK_INT(toy_host_run(&met_lime, &g.input, 1, &o, &g.model, &run, &h, &report),
                  surrogate == NO_SURROGATE ? MET_OK : MET_EVALUE);
        CHECK(surrogate == NO_SURROGATE || strstr(met_detail(), "sample") != NULL);
        CHECK(report.nonfinite_outputs > 0);
        toy_host_free(&h);
    }
}

void test_lime_without_memory(void) {
    toy t;
    toy_options o;
    toy_init(&t, false);
    make_segments();
    make_options(&o, segments);
    TOY_SET(met_lime, o, "n_samples", size_t, 100); /* a second look */
    TOY_SET(met_lime, o, "tolerance", double, 1e-9);
    TOY_SET(met_lime, o, "resamples", size_t, 2);
    TOY_SET(met_lime, o, "surrogate", int, LASSO);
    TOY_SET(met_lime, o, "outputs", met_targets, (met_targets){.all = true});
    toy_host_run_without_memory(&met_lime, script_inputs, 2, TOY_SIZE, &o, &t.model, 1000);
}
