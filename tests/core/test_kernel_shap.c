#include "check.h"
#include "script.h"
#include "shapley.h"
#include "toy_game.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEEP SIZE_MAX /* the method chooses how many coalitions */

static void make_options(toy_options *o, const met_segments *features, size_t samples) {
    memset(o, 0, sizeof *o);
    TOY_SET(met_kernel_shap, *o, "features", const met_segments *, features);
    TOY_SET(met_kernel_shap, *o, "n_samples", size_t, samples);
    TOY_SET(met_kernel_shap, *o, "seed", uint64_t, 5);
    TOY_SET(met_kernel_shap, *o, "standard_errors", bool, true);
}

static double number(const toy_host *h, size_t image, const char *name) {
    const double *table = toy_host_table(h, image, name);
    return table == NULL ? -1 : table[0];
}

/* One run of a toy_game with all of its outputs; the host is to be freed. */
static int play(toy_game *g, toy_options *o, size_t chunk, toy_host *h, met_report *report) {
    const met_options run = {.max_batch_size = chunk};
    *report = (met_report){0};
    TOY_SET(met_kernel_shap, *o, "outputs", met_targets, (met_targets){.all = true});
    toy_host_init(h, 1, g->players);
    return toy_host_run(&met_kernel_shap, &g->input, 1, o, &g->model, &run, h, report);
}

/* The values sum to f(x) - f(baseline), to 1e-9 of the largest of them. */
static void check_efficiency(const toy_host *h, size_t image, size_t features) {
    const double *values = toy_host_table(h, image, "coefficients"), *ends = toy_host_table(h, image, "values_of_ends");
    for (size_t t = 0; t < h->results.outputs; t++) {
        double sum = 0, size = 0;
        for (size_t j = 0; j < features; j++) {
            sum += values[t * features + j];
            size += fabs(values[t * features + j]);
        }
        CHECK_CLOSE(sum, ends[2 * t + 1] - ends[2 * t], 1e-9 * size);
    }
}

/* ---- all coalitions */

static int32_t ids[TOY_SIZE];
static met_segments segments[IMAGES];

/* On the toy model, with pixels in no feature: the mean over all orders, for every output, at each pixel. */
void test_kernel_shap_is_exact_on_few_features(void) {
    enum { FEATURES = 5 };
    for (size_t chunk = 0; chunk < 4; chunk++) {
        toy t;
        toy_options o;
        toy_host h;
        met_report report = {0};
        const met_options run = {.max_batch_size = chunk};
        toy_init(&t, false);
        script_make_inputs();
        for (size_t v = 0; v < TOY_SIZE; v++) {
            ids[v] = (int32_t)(v * 7 % (FEATURES + 1)) - 1;
            script_images[1][v] = ids[v] == 3 ? script_baselines[1][v] : script_images[1][v]; /* nothing to lose */
        }
        for (size_t i = 0; i < IMAGES; i++) {
            segments[i] = (met_segments){ids, {20, 5, 1}, FEATURES};
        }
        make_options(&o, segments, KEEP);
        TOY_SET(met_kernel_shap, o, "outputs", met_targets, (met_targets){.all = true});
        TOY_SET(met_kernel_shap, o, "interactions", bool, true);
        toy_host_init(&h, IMAGES, TOY_SIZE);
        REQUIRE(toy_host_run(&met_kernel_shap, script_inputs, IMAGES, &o, &t.model, &run, &h, &report) == MET_OK);
        CHECK_INT(report.evaluations, 32 + 16 + 32);
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t output = 0; output < TOY_OUTPUTS; output++) {
                double v[1 << FEATURES], want[FEATURES], at[TOY_SIZE];
                for (size_t s = 0; s < (size_t)1 << FEATURES; s++) {
                    double x[TOY_SIZE], z[TOY_FEATURES];
                    for (size_t p = 0; p < TOY_SIZE; p++) {
                        x[p] = ids[p] < 0 || s >> ids[p] & 1 ? script_images[i][p] : script_baselines[i][p];
                    }
                    toy_features(&t, x, z);
                    v[s] = toy_output(z, output);
                }
                toy_game_shapley(FEATURES, v, want);
                const double *got = toy_host_table(&h, i, "coefficients"),
                             *matrix = toy_host_table(&h, i, "interactions");
                CHECK_CLOSE_N(got + output * FEATURES, want, FEATURES, 1e-12);
                for (size_t p = 0; p < TOY_SIZE; p++) {
                    at[p] = ids[p] < 0 ? 0 : got[output * FEATURES + (size_t)ids[p]];
                }
                CHECK_CLOSE_N((const double *)h.results.out[i * TOY_OUTPUTS + output], at, TOY_SIZE, 0);
                for (size_t j = 0; j < FEATURES; j++) {
                    double sum = 0;
                    for (size_t k = 0; k < FEATURES; k++) {
                        sum += matrix[(output * FEATURES + j) * FEATURES + k];
                    }
                    CHECK_CLOSE(sum, want[j], 1e-10);
                    CHECK_CLOSE(((const double *)toy_host_table(&h, i, "standard_errors"))[j], 0, 0);
                }
            }
            check_efficiency(&h, i, FEATURES);
            CHECK_INT(number(&h, i, "players"), i == 1 ? 4 : 5);
            CHECK_INT(number(&h, i, "rank"), i == 1 ? 3 : 4);
            CHECK_INT(number(&h, i, "exact"), 1);
        }
        CHECK_CLOSE(((const double *)toy_host_table(&h, 1, "coefficients"))[3], 0, 0);
        toy_host_free(&h);
    }
}

/* An image that is its baseline has no players, and no value; with one player all is its. */
void test_kernel_shap_of_nobody_and_of_one(void) {
    for (size_t players = 0; players < 2; players++) {
        toy t;
        toy_options o;
        toy_host h;
        met_report report = {0};
        const met_options run = {0};
        toy_init(&t, false);
        script_make_inputs();
        for (size_t v = 0; v < TOY_SIZE; v++) {
            ids[v] = (int32_t)(v % 4);
            script_images[0][v] = players == 1 && v % 4 == 2 ? 0.5 : script_baselines[0][v];
        }
        segments[0] = (met_segments){ids, {20, 5, 1}, 4};
        make_options(&o, segments, players == 0 ? KEEP : 2);
        TOY_SET(met_kernel_shap, o, "interactions", bool, true);
        toy_host_init(&h, 1, TOY_SIZE);
        REQUIRE(toy_host_run(&met_kernel_shap, script_inputs, 1, &o, &t.model, &run, &h, &report) == MET_OK);
        CHECK_INT(report.evaluations, 1 << players);
        CHECK_INT(number(&h, 0, "players"), players);
        CHECK_INT(number(&h, 0, "rank"), 0);
        const double *values = toy_host_table(&h, 0, "coefficients"), *ends = toy_host_table(&h, 0, "values_of_ends");
        for (size_t j = 0; j < 4; j++) {
            CHECK_CLOSE(values[j], j == 2 ? ends[1] - ends[0] : 0, 1e-15);
        }
        CHECK(players == 0 || ends[1] != ends[0]);
        toy_host_free(&h);
    }
}

/* Random games of three outputs up to 12 players, enumerated without being asked to. */
void test_kernel_shap_of_random_games(void) {
    static double v[3 << 12];
    const toy_table table = {3, v};
    for (size_t k = 0; k < sizeof v / sizeof *v; k++) {
        v[k] = toy_value(900, k);
    }
    for (size_t players = 2; players <= 12; players += 5) {
        static toy_game g;
        toy_options o;
        toy_host h;
        met_report report;
        double one[1 << 12], want[12];
        toy_game_init(&g, players, 3, toy_game_table, &table);
        make_options(&o, &g.segments, players == 2 ? 4 : KEEP);
        REQUIRE(play(&g, &o, 0, &h, &report) == MET_OK);
        CHECK_INT(report.evaluations, 1 << players);
        CHECK_INT(number(&h, 0, "exact"), 1);
        for (size_t output = 0; output < 3; output++) {
            for (size_t s = 0; s < (size_t)1 << players; s++) {
                one[s] = v[s * 3 + output];
            }
            if (players <= 7) {
                toy_game_shapley(players, one, want);
            } else {
                met_shapley_exact(players, one, want);
            }
            CHECK_CLOSE_N((const double *)toy_host_table(&h, 0, "coefficients") + output * players, want, players,
                          1e-12);
        }
        toy_host_free(&h);
    }
}

/* ---- sampled coalitions */

/* Games of order two are found exactly by pairs; never more evaluations than allowed, and the same whatever the chunk. */
void test_kernel_shap_of_order_two(void) {
    static const size_t counts[] = {5, 6, 11, 16, 25, 63, 64, 65}, chunks[] = {1, 7, 0};
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        const size_t players = counts[n], samples = players <= 6 ? ((size_t)1 << players) - 1 : 6 * players + 1;
        double want[65], first[65];
        for (size_t c = 0; c < 3; c++) {
            static toy_game g;
            toy_options o;
            toy_host h;
            met_report report;
            toy_game_init(&g, players, 2, toy_game_order_two, NULL);
            make_options(&o, &g.segments, samples);
            REQUIRE(play(&g, &o, chunks[c], &h, &report) == MET_OK);
            CHECK(report.evaluations <= samples);
            CHECK(report.evaluations + 2 >= samples); /* nothing is left lying either, but for a pair */
            CHECK_INT(number(&h, 0, "exact"), 0);
            CHECK_INT(number(&h, 0, "rank"), players - 1);
            check_efficiency(&h, 0, players);
            const double *got = toy_host_table(&h, 0, "coefficients");
            for (size_t output = 0; output < 2; output++) {
                toy_game_order_two_values(players, output, want);
                CHECK_CLOSE_N(got + output * players, want, players, 1e-9);
            }
            if (c == 0) {
                memcpy(first, got, players * sizeof *first);
            }
            CHECK(memcmp(first, got, players * sizeof *first) == 0);
            for (size_t j = 0; j < players; j++) { /* nothing is left to be unsure of */
                CHECK_CLOSE(((const double *)toy_host_table(&h, 0, "standard_errors"))[j], 0, 1e-9);
            }
            toy_host_free(&h);
        }
    }
}

static double parity_like(const void *ctx, const double *z, size_t players, size_t output) {
    double sum = 0;
    (void)ctx;
    for (size_t i = 0; i + 2 < players; i++) { /* of order three, so that samples leave an error */
        sum += (1 + (double)i / 4) * z[i] * z[i + 1] * z[i + 2] + (double)output * z[i];
    }
    return sum;
}

/* Of 14 players and n samples: which coalitions were evaluated. */
static size_t evaluated_of_size(const toy_host *h, size_t players, size_t size) {
    const uint8_t *flags = toy_host_table(h, 0, "coalitions");
    size_t found = 0;
    for (size_t r = 0; r < toy_host_shape(h, 0, "coalitions")[0]; r++) {
        size_t in = 0;
        for (size_t j = 0; j < players; j++) {
            in += flags[r * players + j];
        }
        found += in == size;
    }
    return found;
}

/* Sizes are taken whole from the outside in, in pairs; all of them where the budget is that of all. */
void test_kernel_shap_takes_whole_sizes_first(void) {
    static const size_t budgets[] = {4, 30, 120, 400, 2000, 16383};
    size_t whole_before = 0;
    for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
        static toy_game g;
        toy_options o;
        toy_host h;
        met_report report;
        toy_game_init(&g, 14, 1, parity_like, NULL);
        make_options(&o, &g.segments, budgets[b]);
        REQUIRE(play(&g, &o, 0, &h, &report) == MET_OK);
        CHECK(report.evaluations <= budgets[b]);
        CHECK_INT(evaluated_of_size(&h, 14, 0), 1);
        CHECK_INT(evaluated_of_size(&h, 14, 14), 1);
        size_t whole = 0;
        double choose = 14;
        bool open = false;
        for (size_t size = 1; size <= 7; size++) {
            const size_t found = evaluated_of_size(&h, 14, size);
            CHECK_INT(found, evaluated_of_size(&h, 14, 14 - size));
            open = open || found < (size_t)(choose + 0.5);
            whole += !open;
            choose = choose * (double)(14 - size) / (double)(size + 1);
        }
        CHECK(whole >= whole_before);
        whole_before = whole;
        check_efficiency(&h, 0, 14);
        toy_host_free(&h);
    }
    CHECK(whole_before >= 5);
}

/* Fewer coalitions than values: finite, of the right sum, and the rank says so; errors are not known. */
void test_kernel_shap_of_few_samples(void) {
    static toy_game g;
    toy_options o;
    toy_host h;
    met_report report;
    toy_game_init(&g, 30, 2, parity_like, NULL);
    make_options(&o, &g.segments, 9);
    REQUIRE(play(&g, &o, 0, &h, &report) == MET_OK);
    CHECK(report.evaluations <= 9);
    CHECK(number(&h, 0, "rank") < 29 && number(&h, 0, "rank") > 0);
    check_efficiency(&h, 0, 30);
    const double *values = toy_host_table(&h, 0, "coefficients"), *errors = toy_host_table(&h, 0, "standard_errors");
    for (size_t j = 0; j < 60; j++) {
        CHECK(isfinite(values[j]));
        CHECK(isnan(errors[j]));
    }
    toy_host_free(&h);
}

/* Many players: the sizes 1 and M - 1 alone give an additive game back. */
static double additive(const void *ctx, const double *z, size_t players, size_t output) {
    double sum = 0;
    (void)ctx;
    for (size_t i = 0; i < players; i++) {
        sum += (double)(i + 1 + output) * z[i];
    }
    return sum;
}

void test_kernel_shap_of_additive_games(void) {
    static toy_game g;
    toy_options o;
    toy_host h;
    met_report report;
    double want[200];
    toy_game_init(&g, 200, 1, additive, NULL);
    make_options(&o, &g.segments, KEEP);
    REQUIRE(play(&g, &o, 0, &h, &report) == MET_OK);
    CHECK(report.evaluations <= 2 * 200 + 2048);
    for (size_t j = 0; j < 200; j++) {
        want[j] = (double)(j + 1);
    }
    CHECK_CLOSE_N((const double *)toy_host_table(&h, 0, "coefficients"), want, 200, 1e-9);
    toy_host_free(&h);
}

/* Over many seeds, the spread of the values is what the standard errors say, and their mean is right. */
void test_kernel_shap_standard_errors(void) {
    enum { PLAYERS = 10, SEEDS = 200 };
    double v[1 << PLAYERS], want[PLAYERS], z[PLAYERS];
    double mean[PLAYERS] = {0}, square[PLAYERS] = {0}, variance[PLAYERS] = {0};
    for (size_t s = 0; s < (size_t)1 << PLAYERS; s++) {
        for (size_t i = 0; i < PLAYERS; i++) {
            z[i] = (double)(s >> i & 1);
        }
        v[s] = parity_like(NULL, z, PLAYERS, 0);
    }
    met_shapley_exact(PLAYERS, v, want);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        static toy_game g;
        toy_options o;
        toy_host h;
        met_report report;
        toy_game_init(&g, PLAYERS, 1, parity_like, NULL);
        make_options(&o, &g.segments, 160);
        TOY_SET(met_kernel_shap, o, "seed", uint64_t, seed);
        REQUIRE(play(&g, &o, 0, &h, &report) == MET_OK);
        const double *values = toy_host_table(&h, 0, "coefficients"),
                     *errors = toy_host_table(&h, 0, "standard_errors");
        for (size_t j = 0; j < PLAYERS; j++) {
            mean[j] += values[j] / SEEDS;
            square[j] += (values[j] - want[j]) * (values[j] - want[j]) / SEEDS;
            variance[j] += errors[j] * errors[j] / SEEDS;
        }
        toy_host_free(&h);
    }
    double spread = 0, said = 0;
    for (size_t j = 0; j < PLAYERS; j++) {
        CHECK_CLOSE(mean[j], want[j], 5 * sqrt(square[j] / SEEDS) + 0.01);
        spread += square[j];
        said += variance[j];
    }
    CHECK(spread > 0);
    CHECK_CLOSE(sqrt(said / spread), 1, 0.35);
}

/*
 * Half of an even number of players is its own complement's size: one coalition less than all, over many seeds, weighs
 * that size neither twice nor half.
 */
void test_kernel_shap_weighs_the_middle_size(void) {
    enum { PLAYERS = 6, SEEDS = 400 };
    double v[1 << PLAYERS], want[PLAYERS], mean[PLAYERS] = {0}, square[PLAYERS] = {0};
    const toy_table table = {1, v};
    for (size_t s = 0; s < (size_t)1 << PLAYERS; s++) { /* players 0, 1 and 2 alone have 10, all others 0 */
        v[s] = s == 7 ? 10 : 0;
    }
    met_shapley_exact(PLAYERS, v, want);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        static toy_game g;
        toy_options o;
        toy_host h;
        met_report report;
        toy_game_init(&g, PLAYERS, 1, toy_game_table, &table);
        make_options(&o, &g.segments, (1 << PLAYERS) - 1);
        TOY_SET(met_kernel_shap, o, "seed", uint64_t, seed);
        REQUIRE(play(&g, &o, 0, &h, &report) == MET_OK);
        CHECK_INT(evaluated_of_size(&h, PLAYERS, 2), 15);
        CHECK_INT(evaluated_of_size(&h, PLAYERS, 3), 18); /* the largest even number below 20 that is left */
        const double *values = toy_host_table(&h, 0, "coefficients");
        for (size_t j = 0; j < PLAYERS; j++) {
            mean[j] += values[j] / SEEDS;
            square[j] += (values[j] - want[j]) * (values[j] - want[j]) / SEEDS;
        }
        toy_host_free(&h);
    }
    for (size_t j = 0; j < PLAYERS; j++) {
        CHECK_CLOSE(mean[j], want[j], 4 * sqrt(square[j] / SEEDS));
    }
}

/* ---- failures */

static int status_of(size_t players, size_t samples, bool interactions) {
    static toy_game g;
    toy_options o;
    toy_host h;
    met_report report;
    toy_game_init(&g, players, 1, additive, NULL);
    make_options(&o, &g.segments, samples);
    TOY_SET(met_kernel_shap, o, "interactions", bool, interactions);
    const int status = play(&g, &o, 0, &h, &report);
    CHECK(status == MET_OK || g.samples == 0); /* refused before anything is evaluated */
    toy_host_free(&h);
    return status;
}

void test_kernel_shap_refuses(void) {
    for (size_t samples = 0; samples < 4; samples++) {
        CHECK_INT(status_of(3, samples, false), MET_EVALUE);
        CHECK_INT(status_of(1, samples, false), samples < 2 ? MET_EVALUE : MET_OK);
    }
    CHECK_INT(status_of(3, 4, false), MET_OK);
    CHECK_INT(status_of(3, 7, true), MET_EVALUE);
    CHECK_INT(status_of(3, 8, true), MET_OK);
    CHECK_INT(status_of(13, KEEP, true), MET_EVALUE);
    CHECK(strstr(met_detail(), "2^13") != NULL);
    CHECK_INT(status_of(25, KEEP, true), MET_EVALUE);
    CHECK_INT(status_of(13, (size_t)1 << 13, true), MET_OK);
    CHECK_INT(status_of(70, KEEP, true), MET_EVALUE);
}

void test_kernel_shap_without_memory(void) {
    static toy_game g;
    toy_options o;
    for (int sampled = 0; sampled < 2; sampled++) {
        toy_game_init(&g, 7, 2, toy_game_order_two, NULL);
        make_options(&o, &g.segments, sampled ? 40 : KEEP);
        TOY_SET(met_kernel_shap, o, "outputs", met_targets, (met_targets){.all = true});
        TOY_SET(met_kernel_shap, o, "interactions", bool, !sampled);
        toy_host_run_without_memory(&met_kernel_shap, &g.input, 1, 7, &o, &g.model, 300);
    }
    make_options(&o, &g.segments, 5); /* a short rank */
    toy_host_run_without_memory(&met_kernel_shap, &g.input, 1, 7, &o, &g.model, 300);
}
