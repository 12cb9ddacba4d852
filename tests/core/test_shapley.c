#include "check.h"
#include "shapley.h"
#include "toy_game.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PLAYERS 7
#define MOST_COALITIONS 128

static void random_game(size_t players, size_t trial, double *v) {
    for (size_t s = 0; s < (size_t)1 << players; s++) {
        v[s] = toy_value(800 + trial, s);
    }
}

/* Rows of a regression over coalitions of up to 64 players, weighted by the kernel. */
typedef struct regression {
    met_shapley_rows rows;
    uint64_t bits[MOST_COALITIONS];
    double weight[MOST_COALITIONS];
    double y[MOST_COALITIONS];
} regression;

static double binomial(size_t n, size_t k) {
    double count = 1;
    for (size_t i = 1; i <= k; i++) {
        count = count * (double)(n - k + i) / (double)i;
    }
    return count;
}

static size_t size_of(uint64_t bits) {
    size_t n = 0;
    for (; bits > 0; bits >>= 1) {
        n += bits & 1;
    }
    return n;
}

static void add_row(regression *r, size_t players, uint64_t bits, double y) {
    const size_t in = size_of(bits);
    const size_t row = r->rows.rows++;
    r->rows = (met_shapley_rows){r->rows.rows, players, 1, r->bits, r->weight};
    r->bits[row] = bits;
    r->weight[row] = (double)(players - 1) / (binomial(players, in) * (double)in * (double)(players - in));
    r->y[row] = y;
}

static int solve(const regression *r, double total, double *values, double *residual, size_t *rank) {
    met_shapley_fit fit;
    int status = met_shapley_fit_new(&r->rows, &fit);
    status = status == MET_OK ? met_shapley_fit_solve(&fit, r->y, total, values, residual) : status;
    *rank = fit.rank;
    met_shapley_fit_free(&fit);
    return status;
}

/* The formula, the mean over all orders, and the regression on all coalitions are the same. */
void test_shapley_values_by_definition(void) {
    for (size_t players = 1; players <= MOST_PLAYERS; players++) {
        for (size_t trial = 0; trial < 5; trial++) {
            double v[MOST_COALITIONS], want[MOST_PLAYERS], got[MOST_PLAYERS], sum = 0;
            const size_t all = ((size_t)1 << players) - 1;
            regression r = {.rows.players = players, .rows.words = 1};
            size_t rank;
            random_game(players, trial, v);
            toy_game_shapley(players, v, want);
            met_shapley_exact(players, v, got);
            CHECK_CLOSE_N(got, want, players, 1e-13);
            for (size_t i = 0; i < players; i++) {
                sum += got[i];
            }
            CHECK_CLOSE(sum, v[all] - v[0], 1e-14 * 10);
            for (size_t s = 1; s < all; s++) {
                add_row(&r, players, s, v[s] - v[0]);
            }
            REQUIRE(solve(&r, v[all] - v[0], got, NULL, &rank) == MET_OK);
            CHECK_CLOSE_N(got, want, players, 1e-12);
            CHECK_INT(rank, players - 1);
        }
    }
}

void test_shapley_axioms(void) {
    const size_t n = 6;
    double v[64], w[64], mixed[64], values[6], others[6], both[6];
    random_game(n, 20, v);
    random_game(n, 21, w);
    for (size_t s = 0; s < 64; s++) {
        if (s >> 4 & 1) { /* player 4 brings nothing to anybody */
            v[s] = v[s & ~(size_t)16];
        }
        mixed[s] = 2.5 * v[s] - w[s];
    }
    for (size_t s = 0; s < 64; s++) { /* players 1 and 3 are interchangeable in v */
        const size_t swapped = (s & ~(size_t)10) | (s >> 1 & 1) << 3 | (s >> 3 & 1) << 1;
        if (swapped > s) {
            v[swapped] = v[s];
        }
        mixed[swapped] = 2.5 * v[swapped] - w[swapped];
    }
    met_shapley_exact(n, v, values);
    met_shapley_exact(n, w, others);
    met_shapley_exact(n, mixed, both);
    CHECK_CLOSE(values[4], 0, 1e-15);
    CHECK_CLOSE(values[1], values[3], 1e-15);
    for (size_t i = 0; i < n; i++) {
        CHECK_CLOSE(both[i], 2.5 * values[i] - others[i], 1e-14);
    }
}

void test_shapley_of_nobody_and_of_one(void) {
    const double v[] = {0.5, 2.25};
    double value = 9, matrix = 9;
    met_shapley_exact(0, v, &value);
    CHECK_CLOSE(value, 9, 0); /* nothing to write */
    met_shapley_exact(1, v, &value);
    CHECK_CLOSE(value, 1.75, 0);
    met_shapley_interactions(1, v, &matrix);
    CHECK_CLOSE(matrix, 1.75, 0);
    met_shapley_interactions(0, v, &matrix);
    CHECK_CLOSE(matrix, 1.75, 0);

    met_shapley_fit fit;
    const met_shapley_rows nobody = {0}, alone = {.players = 1, .words = 1};
    CHECK_INT(met_shapley_fit_new(&nobody, &fit), MET_EVALUE);
    met_shapley_fit_free(&fit);
    REQUIRE(met_shapley_fit_new(&alone, &fit) == MET_OK); /* without rows: there is nothing but the total */
    REQUIRE(met_shapley_fit_solve(&fit, NULL, 1.75, &value, NULL) == MET_OK);
    CHECK_CLOSE(value, 1.75, 0);
    CHECK_INT(fit.rank, 0);
    met_shapley_fit_free(&fit);
}

/* Half of the Shapley interaction index, over all coalitions of the others. */
static double half_index(size_t players, const double *v, size_t i, size_t j) {
    const size_t one = (size_t)1 << i, other = (size_t)1 << j;
    double sum = 0;
    for (size_t s = 0; s < (size_t)1 << players; s++) {
        if (!(s & one) && !(s & other)) {
            sum += (v[s | one | other] - v[s | one] - v[s | other] + v[s]) / binomial(players - 2, size_of(s));
        }
    }
    return sum / (double)(players - 1) / 2;
}

void test_shapley_interactions_by_definition(void) {
    for (size_t players = 2; players <= MOST_PLAYERS; players++) {
        double v[MOST_COALITIONS], values[MOST_PLAYERS], matrix[MOST_PLAYERS * MOST_PLAYERS];
        random_game(players, 30, v);
        met_shapley_interactions(players, v, matrix);
        toy_game_shapley(players, v, values);
        for (size_t i = 0; i < players; i++) {
            double sum = 0;
            for (size_t j = 0; j < players; j++) {
                sum += matrix[i * players + j];
                CHECK_CLOSE(matrix[i * players + j], matrix[j * players + i], 0);
                if (j != i) {
                    CHECK_CLOSE(matrix[i * players + j], half_index(players, v, i, j), 1e-13);
                }
            }
            CHECK_CLOSE(sum, values[i], 1e-13);
        }
    }
}

/* 6 z0 z1: 3 and 3, all of it interaction. */
void test_shapley_of_a_product(void) {
    double v[8], values[3], matrix[9];
    const double want[] = {3, 3, 0}, parts[] = {0, 3, 0, 3, 0, 0, 0, 0, 0};
    for (size_t s = 0; s < 8; s++) {
        v[s] = (s & 3) == 3 ? 6 : 0;
    }
    met_shapley_exact(3, v, values);
    met_shapley_interactions(3, v, matrix);
    CHECK_CLOSE_N(values, want, 3, 1e-14);
    CHECK_CLOSE_N(matrix, parts, 9, 1e-14);
}

/* A game of order three tells the kernel's weights apart from others: 1 where 0, 1 and 2 are inside. */
void test_shapley_kernel_weights(void) {
    const double want[] = {1 / 3.0, 1 / 3.0, 1 / 3.0, 0};
    double v[16], values[4];
    regression r = {0};
    size_t rank;
    for (size_t s = 0; s < 16; s++) {
        v[s] = (s & 7) == 7;
        if (s > 0 && s < 15) {
            add_row(&r, 4, s, v[s]);
        }
    }
    met_shapley_exact(4, v, values);
    CHECK_CLOSE_N(values, want, 4, 1e-14);
    REQUIRE(solve(&r, 1, values, NULL, &rank) == MET_OK);
    CHECK_CLOSE_N(values, want, 4, 1e-13);
    for (size_t players = 2; players < 20; players++) { /* the mass of a size is its coalitions times their weight */
        for (size_t in = 1; in < players; in++) {
            CHECK_CLOSE(met_shapley_mass(players, in), 1 / (double)(in * (players - in)), 1e-16);
        }
    }
    CHECK(isfinite(met_shapley_mass(1100, 550)) && met_shapley_mass(1100, 550) > 0);
}

/* Additive games of many players come back from the coalitions of one player and of all but one. */
void test_shapley_fit_of_many_players(void) {
    const size_t n = 1100, words = (n + 63) / 64;
    met_shapley_rows rows = {2 * n, n, words, NULL, NULL};
    uint64_t *bits = calloc(rows.rows * words, sizeof *bits);
    double *weight = calloc(rows.rows, sizeof *weight), *y = calloc(rows.rows, sizeof *y);
    double *want = calloc(n, sizeof *want), *values = calloc(n, sizeof *values);
    double *residual = calloc(rows.rows, sizeof *residual);
    double total = 0;
    met_shapley_fit fit;
    for (size_t i = 0; i < n; i++) {
        want[i] = toy_value(850, i);
        total += want[i];
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            met_coalition_set(bits + 2 * i * words, j, j == i);
            met_coalition_set(bits + (2 * i + 1) * words, j, j != i);
        }
        y[2 * i] = want[i];
        y[2 * i + 1] = total - want[i];
        weight[2 * i] = weight[2 * i + 1] = met_shapley_mass(n, 1) / (double)n;
    }
    rows.bits = bits;
    rows.weight = weight;
    REQUIRE(met_shapley_fit_new(&rows, &fit) == MET_OK);
    REQUIRE(met_shapley_fit_solve(&fit, y, total, values, residual) == MET_OK);
    CHECK_INT(fit.rank, n - 1);
    CHECK_CLOSE_N(values, want, n, 1e-10);
    for (size_t r = 0; r < rows.rows; r++) {
        CHECK_CLOSE(residual[r], 0, 1e-10);
    }
    met_shapley_fit_free(&fit);
    free(bits);
    free(weight);
    free(y);
    free(want);
    free(values);
    free(residual);
}

/* Too few rows: of all values that fit them and sum to the total, the nearest to equal shares. */
void test_shapley_fit_of_few_rows(void) {
    const size_t n = 5;
    const double equal[] = {0.4, 0.4, 0.4, 0.4, 0.4};
    double values[5], residual[4];
    size_t rank;
    regression r = {.rows.players = n, .rows.words = 1};
    REQUIRE(solve(&r, 2, values, NULL, &rank) == MET_OK);
    CHECK_CLOSE_N(values, equal, n, 1e-15);
    CHECK_INT(rank, 0);

    /* {0} has 1, {3, 4} has 0.5: 1, then 0.25 each, and what is left of 2 in equal parts */
    const double want[] = {1, 0.25, 0.25, 0.25, 0.25};
    add_row(&r, n, 1, 1);
    add_row(&r, n, 24, 0.5);
    add_row(&r, n, 24, 0.5); /* said twice */
    REQUIRE(solve(&r, 2, values, residual, &rank) == MET_OK);
    CHECK_CLOSE_N(values, want, n, 1e-12);
    CHECK_INT(rank, 2);
    for (size_t k = 0; k < 3; k++) {
        CHECK_CLOSE(residual[k], 0, 1e-12);
    }

    /* as many rows as a solution needs and more, but 1 and 2 always come together */
    const double tied[] = {1, 0.3, 0.3, 0.05, 0.35};
    const double of_some[] = {1, 0.6, 0, 0.05, 0.35};
    r.rows.rows = 0;
    for (uint64_t s = 1; s < 31; s++) {
        if ((s >> 1 & 1) == (s >> 2 & 1)) {
            double y = 0;
            for (size_t i = 0; i < n; i++) {
                y += s >> i & 1 ? of_some[i] : 0;
            }
            add_row(&r, n, s, y);
        }
    }
    REQUIRE(r.rows.rows > n);
    REQUIRE(solve(&r, 2, values, NULL, &rank) == MET_OK);
    CHECK_CLOSE_N(values, tied, n, 1e-12);
    CHECK_INT(rank, n - 2);
}

/* NaN and infinity are passed on, as NaN, by whatever solver; nothing of them is finite. */
void test_shapley_fit_of_values_that_are_not_finite(void) {
    const double bad[] = {(double)NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 3; b++) {
        for (int few = 0; few < 2; few++) {
            for (int of_total = 0; of_total < 2; of_total++) {
                regression r = {.rows.players = 4, .rows.words = 1};
                double values[4], residual[14];
                size_t rank;
                for (uint64_t s = 1; s < (few ? 3 : 15); s++) {
                    add_row(&r, 4, s, s == 2 && !of_total ? bad[b] : 1);
                }
                REQUIRE(solve(&r, of_total ? bad[b] : 1, values, residual, &rank) == MET_OK);
                for (size_t i = 0; i < 4; i++) {
                    CHECK(isnan(values[i]));
                }
                CHECK(isnan(residual[0]));
            }
        }
    }
}

void test_shapley_fit_without_memory(void) {
    regression r = {0};
    toy_ration_memory();
    for (int few = 0; few < 2; few++) {
        int status = MET_ENOMEM;
        long ration = 0;
        r.rows.rows = 0;
        for (uint64_t s = 1; s < (few ? 3 : 15); s++) {
            add_row(&r, 4, s, (double)s);
        }
        for (; status != MET_OK && ration < 100; ration++) {
            double values[4];
            size_t rank;
            toy_allocations_left = ration;
            status = solve(&r, 15, values, NULL, &rank);
            CHECK(status == MET_OK || status == MET_ENOMEM);
            CHECK_INT(toy_allocations_alive, 0);
        }
        CHECK_INT(status, MET_OK);
        CHECK(ration > 3);
    }
    met_set_allocator(NULL, NULL);
}
