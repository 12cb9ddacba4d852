#include "check.h"
#include "script.h"
#include "shapley.h"
#include "toy_game.h"

#include <math.h>
#include <string.h>

static void make_options(toy_options *o, const met_segments *features, size_t permutations, bool antithetic) {
    memset(o, 0, sizeof *o);
    TOY_SET(met_shapley_sampling, *o, "features", const met_segments *, features);
    TOY_SET(met_shapley_sampling, *o, "n_permutations", size_t, permutations);
    TOY_SET(met_shapley_sampling, *o, "seed", uint64_t, 5);
    TOY_SET(met_shapley_sampling, *o, "antithetic", bool, antithetic);
}

/* One run of a toy_game with all of its outputs; the host is to be freed. */
static int play(toy_game *g, toy_options *o, const met_options *run, toy_host *h, met_report *report) {
    *report = (met_report){0};
    TOY_SET(met_shapley_sampling, *o, "outputs", met_targets, (met_targets){.all = true});
    toy_host_init(h, 1, g->players);
    return toy_host_run(&met_shapley_sampling, &g->input, 1, o, &g->model, run, h, report);
}

static const double *values_of(const toy_host *h) {
    return toy_host_table(h, 0, "coefficients");
}

static size_t permutations_of(const toy_host *h) {
    return (size_t)*(const double *)toy_host_table(h, 0, "permutations");
}

static void check_efficiency(const toy_host *h, size_t features) {
    const double *ends = toy_host_table(h, 0, "values_of_ends");
    for (size_t t = 0; t < h->results.outputs; t++) {
        double sum = 0, size = 0;
        for (size_t j = 0; j < features; j++) {
            sum += values_of(h)[t * features + j];
            size += fabs(values_of(h)[t * features + j]);
        }
        CHECK_CLOSE(sum, ends[2 * t + 1] - ends[2 * t], 1e-9 * size);
    }
}

static double order_three(const void *ctx, const double *z, size_t players, size_t output) {
    double sum = 0;
    (void)ctx;
    for (size_t i = 0; i + 2 < players; i++) {
        sum += (1 + (double)i / 4) * z[i] * z[i + 1] * z[i + 2] - (double)(output * i) * z[i];
    }
    return sum;
}

/* A permutation walks from the baseline to the image: its values sum to what lies between, whatever the game. */
void test_shapley_sampling_of_one_permutation(void) {
    static const size_t counts[] = {1, 2, 5, 63, 64, 65};
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        static toy_game g;
        toy_options o;
        toy_host h;
        met_report report;
        const met_options run = {0};
        toy_game_init(&g, counts[n], 2, order_three, NULL);
        make_options(&o, &g.segments, 1, false);
        REQUIRE(play(&g, &o, &run, &h, &report) == MET_OK);
        CHECK_INT(report.evaluations, counts[n] + 1);
        CHECK_INT(permutations_of(&h), 1);
        check_efficiency(&h, counts[n]);
        for (size_t j = 0; j < counts[n]; j++) {
            CHECK(isnan(((const double *)toy_host_table(&h, 0, "standard_errors"))[j])); /* one tells nothing */
            CHECK_CLOSE(((double *)h.results.out[1])[j], values_of(&h)[counts[n] + j], 0);
        }
        toy_host_free(&h);
    }
}

/* A permutation and its reverse: exact for games of order two, so that the errors of two pairs are 0. */
void test_shapley_sampling_of_a_pair(void) {
    static const size_t counts[] = {1, 2, 5, 40, 63, 64, 65};
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        for (size_t permutations = 1; permutations <= 3; permutations++) {
            static toy_game g;
            toy_options o;
            toy_host h;
            met_report report;
            double want[65];
            const met_options run = {0};
            toy_game_init(&g, counts[n], 2, toy_game_order_two, NULL);
            make_options(&o, &g.segments, permutations, true);
            REQUIRE(play(&g, &o, &run, &h, &report) == MET_OK);
            CHECK_INT(permutations_of(&h), permutations == 3 ? 4 : 2); /* whole pairs */
            for (size_t output = 0; output < 2; output++) {
                toy_game_order_two_values(counts[n], output, want);
                CHECK_CLOSE_N(values_of(&h) + output * counts[n], want, counts[n], 1e-11);
            }
            const double *errors = toy_host_table(&h, 0, "standard_errors");
            CHECK(permutations == 3 ? errors[0] < 1e-11 : isnan(errors[0]));
            toy_host_free(&h);
        }
    }
}

static double product(const void *ctx, const double *z, size_t players, size_t output) {
    (void)ctx;
    (void)players;
    (void)output;
    return 6 * z[0] * z[1];
}

/* 6 z0 z1 with a third player: a pair gives 3, 3, 0; many permutations without reverses come near. */
void test_shapley_sampling_of_a_product(void) {
    const double want[] = {3, 3, 0};
    for (int antithetic = 0; antithetic < 2; antithetic++) {
        static toy_game g;
        toy_options o;
        toy_host h;
        met_report report;
        const met_options run = {0};
        toy_game_init(&g, 3, 1, product, NULL);
        make_options(&o, &g.segments, antithetic ? 2 : 4000, antithetic != 0);
        REQUIRE(play(&g, &o, &run, &h, &report) == MET_OK);
        CHECK(report.evaluations <= 8);
        CHECK_CLOSE(values_of(&h)[2], 0, 0);
        const double *errors = toy_host_table(&h, 0, "standard_errors");
        for (size_t j = 0; j < 2; j++) {
            CHECK_CLOSE(values_of(&h)[j], want[j], antithetic ? 1e-14 : 4 * 3 / sqrt(4000));
            CHECK(antithetic || fabs(errors[j] / (3 / sqrt(4000)) - 1) < 0.05); /* 0 or 6, each half of the time */
        }
        toy_host_free(&h);
    }
}

/* Over many seeds: the mean is the Shapley value, the spread is what the standard errors say. */
void test_shapley_sampling_standard_errors(void) {
    enum { PLAYERS = 7, SEEDS = 300 };
    for (int antithetic = 0; antithetic < 2; antithetic++) {
        double v[1 << PLAYERS], want[PLAYERS], mean[PLAYERS] = {0}, square[PLAYERS] = {0}, said[PLAYERS] = {0};
        const toy_table table = {1, v};
        for (size_t s = 0; s < (size_t)1 << PLAYERS; s++) {
            v[s] = toy_value(950, s);
        }
        toy_game_shapley(PLAYERS, v, want);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            static toy_game g;
            toy_options o;
            toy_host h;
            met_report report;
            const met_options run = {0};
            toy_game_init(&g, PLAYERS, 1, toy_game_table, &table);
            make_options(&o, &g.segments, 20, antithetic != 0);
            TOY_SET(met_shapley_sampling, o, "seed", uint64_t, seed);
            REQUIRE(play(&g, &o, &run, &h, &report) == MET_OK);
            const double *errors = toy_host_table(&h, 0, "standard_errors");
            for (size_t j = 0; j < PLAYERS; j++) {
                mean[j] += values_of(&h)[j] / SEEDS;
                square[j] += (values_of(&h)[j] - want[j]) * (values_of(&h)[j] - want[j]) / SEEDS;
                said[j] += errors[j] * errors[j] / SEEDS;
            }
            toy_host_free(&h);
        }
        for (size_t j = 0; j < PLAYERS; j++) {
            CHECK_CLOSE(mean[j], want[j], 4 * sqrt(square[j] / SEEDS));
            CHECK_CLOSE(sqrt(said[j] / square[j]), 1, 0.2);
        }
    }
}

/* On the toy model, with pixels in no feature and a feature that holds the baseline's values. */
void test_shapley_sampling_on_images(void) {
    enum { FEATURES = 6 };
    static int32_t ids[TOY_SIZE];
    static met_segments segments[IMAGES];
    double first[IMAGES][TOY_SIZE];
    for (size_t chunk = 0; chunk < 5; chunk++) {
        toy t;
        toy_options o;
        toy_host h;
        met_report report = {.seconds_alone = 1};
        const met_options run = {.max_batch_size = chunk, .shortcuts = MET_SHORTCUTS_OFF};
        toy_init(&t, true);
        script_make_inputs();
        for (size_t v = 0; v < TOY_SIZE; v++) {
            ids[v] = (int32_t)(v * 11 % (FEATURES + 1)) - 1;
            script_images[1][v] = ids[v] == 4 ? script_baselines[1][v] : script_images[1][v];
        }
        for (size_t i = 0; i < IMAGES; i++) {
            segments[i] = (met_segments){ids, {20, 5, 1}, FEATURES};
        }
        make_options(&o, segments, 2, true); /* outputs of the toy model are of order two in its features */
        toy_host_init(&h, IMAGES, TOY_SIZE);
        REQUIRE(toy_host_run(&met_shapley_sampling, script_inputs, IMAGES, &o, &t.model, &run, &h, &report) == MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            double v[1 << FEATURES], want[FEATURES], at[TOY_SIZE];
            for (size_t s = 0; s < (size_t)1 << FEATURES; s++) {
                double x[TOY_SIZE], z[TOY_FEATURES];
                for (size_t p = 0; p < TOY_SIZE; p++) {
                    x[p] = ids[p] < 0 || s >> ids[p] & 1 ? script_images[i][p] : script_baselines[i][p];
                }
                toy_features(&t, x, z);
                v[s] = toy_output(z, i);
            }
            met_shapley_exact(FEATURES, v, want);
            for (size_t p = 0; p < TOY_SIZE; p++) {
                at[p] = ids[p] < 0 ? 0 : want[ids[p]];
            }
            CHECK_CLOSE_N((const double *)h.results.out[i], at, TOY_SIZE, 1e-12);
            if (chunk == 0) {
                memcpy(first[i], h.results.out[i], sizeof first[i]);
            }
            CHECK(memcmp(first[i], h.results.out[i], sizeof first[i]) == 0); /* the same bits */
        }
        const double *of_one = toy_host_table(&h, 1, "coefficients");
        CHECK_CLOSE(of_one[4], 0, 0);
        toy_host_free(&h);
    }
}

/* An image that is its baseline: nobody plays, all values are 0 and exact. */
void test_shapley_sampling_of_nobody(void) {
    static int32_t ids[TOY_SIZE];
    const met_segments segments = {ids, {20, 5, 1}, 2};
    toy t;
    toy_options o;
    toy_host h;
    met_report report = {0};
    const met_options run = {0};
    toy_init(&t, false);
    script_make_inputs();
    memcpy(script_images[0], script_baselines[0], sizeof script_images[0]);
    make_options(&o, &segments, 10, true);
    TOY_SET(met_shapley_sampling, o, "tolerance", double, 0.01);
    toy_host_init(&h, 1, TOY_SIZE);
    REQUIRE(toy_host_run(&met_shapley_sampling, script_inputs, 1, &o, &t.model, &run, &h, &report) == MET_OK);
    CHECK_INT(report.evaluations, 1);
    for (size_t j = 0; j < 2; j++) {
        CHECK_CLOSE(values_of(&h)[j], 0, 0);
        CHECK_CLOSE(((const double *)toy_host_table(&h, 0, "standard_errors"))[j], 0, 0);
    }
    toy_host_free(&h);
}

/* Permutations are added until the errors are small enough, or there are as many as allowed. */
void test_shapley_sampling_stops_when_precise(void) {
    static const double tolerances[] = {0.5, 0.1, 0.03, 1e-9};
    size_t before = 0;
    for (size_t k = 0; k < 4; k++) {
        for (size_t chunk = 0; chunk < 2; chunk++) {
            static toy_game g;
            toy_options o;
            toy_host h;
            met_report report;
            const met_options run = {.max_batch_size = chunk};
            toy_game_init(&g, 9, 1, order_three, NULL);
            make_options(&o, &g.segments, 3001, true);
            TOY_SET(met_shapley_sampling, o, "tolerance", double, tolerances[k]);
            REQUIRE(play(&g, &o, &run, &h, &report) == MET_OK);
            const double *errors = toy_host_table(&h, 0, "standard_errors");
            double worst = 0, largest = 0;
            for (size_t j = 0; j < 9; j++) {
                worst = fmax(worst, errors[j]);
                largest = fmax(largest, fabs(values_of(&h)[j]));
            }
            CHECK((worst / largest <= tolerances[k]) == (k < 3));
            CHECK(chunk == 0 ? permutations_of(&h) >= before
                             : permutations_of(&h) == before); /* the chunk plays no part */
            before = permutations_of(&h);
            toy_host_free(&h);
        }
    }
    CHECK_INT(before, 3002);
}

/* Within a small memory budget there are many rounds that forget each other: the same bits, evaluated more often. */
void test_shapley_sampling_in_rounds(void) {
    static const size_t budgets[] = {0, 1, 2000, 5000};
    double first[2 * 12], errors[2 * 12];
    size_t evaluations = 0;
    for (int all = 0; all < 2; all++) {
        for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
            static toy_game g;
            toy_options o;
            toy_host h;
            met_report report;
            const met_options run = {.memory_budget = budgets[b]};
            toy_game_init(&g, 12, 2, order_three, NULL);
            make_options(&o, &g.segments, 31, all == 0);
            REQUIRE(play(&g, &o, &run, &h, &report) == MET_OK);
            CHECK_INT(permutations_of(&h), all == 0 ? 32 : 31);
            if (b == 0) {
                memcpy(first, values_of(&h), sizeof first);
                memcpy(errors, toy_host_table(&h, 0, "standard_errors"), sizeof errors);
                evaluations = report.evaluations;
                CHECK(evaluations < 32 * 12);
            }
            CHECK(memcmp(first, values_of(&h), sizeof first) == 0);
            CHECK(memcmp(errors, toy_host_table(&h, 0, "standard_errors"), sizeof errors) == 0);
            CHECK(b == 0 || report.evaluations > evaluations);
            toy_host_free(&h);
        }
    }
}

void test_shapley_sampling_refuses(void) {
    static toy_game g;
    toy_options o;
    toy_host h;
    met_report report;
    const met_options run = {0};
    toy_game_init(&g, 4, 1, product, NULL);
    make_options(&o, &g.segments, 0, false);
    CHECK_INT(play(&g, &o, &run, &h, &report), MET_EVALUE);
    toy_host_free(&h);
    make_options(&o, NULL, 4, false);
    CHECK_INT(play(&g, &o, &run, &h, &report), MET_EVALUE);
    toy_host_free(&h);
    CHECK_INT(g.calls, 0);
}

void test_shapley_sampling_without_memory(void) {
    static toy_game g;
    toy_options o;
    toy_game_init(&g, 7, 2, order_three, NULL);
    make_options(&o, &g.segments, 40, true);
    TOY_SET(met_shapley_sampling, o, "outputs", met_targets, (met_targets){.all = true});
    TOY_SET(met_shapley_sampling, o, "tolerance", double, 1e-9);
    toy_host_run_without_memory(&met_shapley_sampling, &g.input, 1, 7, &o, &g.model, 400);
}
