/* shapley.c - Shapley values from the values of coalitions. */
#include "shapley.h"

#include "buffer.h"
#include "coalitions.h"
#include "linear_fit.h"

#include <math.h>
#include <string.h>

#define SINGULAR 1e-11 /* a pivot below this part of the diagonal is rounding */

/* weights[s] = s! (players - taken - s)! / (players - taken + 1)!, for s = 0 .. players - taken: by lgamma, so finite. */
static void fill_weights(size_t players, size_t taken, double *weights) {
    const size_t others = players - taken;
    for (size_t s = 0; s <= others; s++) {
        weights[s] = exp(lgamma((double)s + 1) + lgamma((double)(others - s) + 1) - lgamma((double)others + 2));
    }
}

void met_shapley_exact(size_t players, const double *v, double *values) {
    double weights[MET_SHAPLEY_MOST_PLAYERS + 1];
    memset(values, 0, players * sizeof *values);
    if (players == 0) {
        return;
    }
    fill_weights(players, 1, weights);
    for (size_t s = 0; s < (size_t)1 << players; s++) {
        const double weight = weights[met_count_bits(s) < players ? met_count_bits(s) : 0];
        for (size_t i = 0; i < players; i++) {
            if (!(s >> i & 1)) {
                values[i] += weight * (v[s | (size_t)1 << i] - v[s]);
            }
        }
    }
}

void met_shapley_interactions(size_t players, const double *v, double *matrix) {
    double weights[MET_SHAPLEY_MOST_PLAYERS + 1], values[MET_SHAPLEY_MOST_PLAYERS];
    met_shapley_exact(players, v, values);
    memset(matrix, 0, players * players * sizeof *matrix);
    if (players > 1) {
        fill_weights(players, 2, weights);
    }
    for (size_t i = 0; i < players; i++) {
        for (size_t j = i + 1; j < players; j++) {
            const size_t one = (size_t)1 << i, other = (size_t)1 << j;
            double sum = 0;
            for (size_t s = 0; s < (size_t)1 << players; s++) {
                if (!(s & (one | other))) {
                    sum += weights[met_count_bits(s)] * (v[s | one | other] - v[s | one] - v[s | other] + v[s]);
                }
            }
            matrix[i * players + j] = matrix[j * players + i] = sum / 2;
        }
    }
    for (size_t i = 0; i < players; i++) {
        double rest = values[i];
        for (size_t j = 0; j < players; j++) {
            rest -= j == i ? 0.0 : matrix[i * players + j];
        }
        matrix[i * players + i] = rest;
    }
}

double met_shapley_mass(size_t players, size_t size) {
    return 1.0 / ((double)size * (double)(players - size));
}

/* ---- regression */

void met_shapley_row(const met_shapley_rows *rows, size_t r, double *out) {
    const uint64_t *bits = rows->bits + r * rows->words;
    double mean = 0;
    for (size_t j = 0; j < rows->players; j++) {
        out[j] = (double)(bits[j / 64] >> j % 64 & 1);
        mean += out[j];
    }
    mean /= (double)rows->players;
    for (size_t j = 0; j < rows->players; j++) {
        out[j] -= mean;
    }
}

/* a (n, n), lower part, becomes its Cholesky factor; false where it is singular. */
static bool cholesky(size_t n, double *a) {
    for (size_t j = 0; j < n; j++) {
        const double diagonal = a[j * n + j];
        for (size_t i = j; i < n; i++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++) {
                sum -= a[i * n + k] * a[j * n + k];
            }
            if (i == j) {
                if (!(sum > SINGULAR * diagonal)) {
                    return false;
                }
                a[j * n + j] = sqrt(sum);
            } else {
                a[i * n + j] = sum / a[j * n + j];
            }
        }
    }
    return true;
}

/* u becomes the solution for the right side u. */
static void cholesky_solve(size_t n, const double *factor, double *u) {
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            u[i] -= factor[i * n + k] * u[k];
        }
        u[i] /= factor[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) {
            u[i] -= factor[k * n + i] * u[k];
        }
        u[i] /= factor[i * n + i];
    }
}

/*
 * Normal equations of the centred rows. They are singular along equal shares, and only there if the solution is unique:
 * a multiple of that direction makes them regular and changes no solution that sums to 0.
 */
static void normal_equations(const met_shapley_rows *rows, double *row, double *g) {
    const size_t n = rows->players;
    double trace = 0;
    for (size_t r = 0; r < rows->rows; r++) {
        met_shapley_row(rows, r, row);
        for (size_t i = 0; i < n; i++) {
            const double scaled = rows->weight[r] * row[i];
            for (size_t j = 0; j <= i; j++) {
                g[i * n + j] += scaled * row[j];
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        trace += g[i * n + i];
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            g[i * n + j] += trace / (double)n / (double)n;
        }
    }
}

/* The weighted rows, for a solution that is not unique, and their rank. */
static int short_rank(const met_shapley_rows *rows, met_shapley_fit *out) {
    const size_t n = rows->players;
    const met_fit_options options = {.kind = MET_FIT_LEAST_SQUARES};
    double *zero = met_allocate(rows->rows, sizeof *zero);
    double *unused = met_allocate(n + 1, sizeof *unused);
    out->rank = 0;
    out->rows = rows->rows > SIZE_MAX / n ? NULL : met_allocate(rows->rows * n, sizeof *out->rows);
    int status = MET_OK;
    if (zero == NULL || unused == NULL || out->rows == NULL) {
        status = met_fail(MET_ENOMEM, "%zu coalitions of %zu features do not fit into memory", rows->rows, n);
    }
    for (size_t r = 0; r < rows->rows && status == MET_OK; r++) {
        met_shapley_row(rows, r, out->rows + r * n);
    }
    if (status == MET_OK && rows->rows > 0) {
        const met_fit_problem problem = {out->rows, zero, rows->weight, rows->rows, n, 1};
        met_fit_result fit = {.coefficients = unused, .intercepts = unused + n};
        status = met_linear_fit(&problem, &options, &fit);
        out->rank = fit.rank;
    }
    met_deallocate(zero);
    met_deallocate(unused);
    return status;
}

int met_shapley_fit_new(const met_shapley_rows *rows, met_shapley_fit *out) {
    const size_t n = rows->players;
    *out = (met_shapley_fit){.players = n, .of = rows};
    if (n == 0) {
        return met_fail(MET_EVALUE, "a game without players has no Shapley values");
    }
    double *row = met_allocate(n, sizeof *row);
    out->factor = n > SIZE_MAX / n ? NULL : met_allocate(n * n, sizeof *out->factor);
    int status = row == NULL || out->factor == NULL
                     ? met_fail(MET_ENOMEM, "the regression of %zu features does not fit into memory", n)
                     : MET_OK;
    if (status == MET_OK) {
        normal_equations(rows, row, out->factor);
        out->rank = n - 1;
        if (rows->rows < n - 1 || !cholesky(n, out->factor)) {
            status = short_rank(rows, out);
        }
    }
    met_deallocate(row);
    return status;
}

void met_shapley_fit_free(met_shapley_fit *fit) {
    met_deallocate(fit->factor);
    met_deallocate(fit->rows);
    *fit = (met_shapley_fit){0};
}

void met_shapley_fit_normal(const met_shapley_fit *fit, double *u) {
    cholesky_solve(fit->players, fit->factor, u);
}

/* values = the regression of y on the centred rows; `row` has room for one. */
static int solve(const met_shapley_fit *fit, const double *y, double *row, double *values) {
    const met_shapley_rows *rows = fit->of;
    const size_t n = fit->players;
    if (fit->rows != NULL) {
        const met_fit_options options = {.kind = MET_FIT_LEAST_SQUARES};
        const met_fit_problem problem = {fit->rows, y, rows->weight, rows->rows, n, 1};
        met_fit_result result = {.coefficients = values, .intercepts = row};
        return rows->rows > 0 ? met_linear_fit(&problem, &options, &result) : MET_OK;
    }
    for (size_t r = 0; r < rows->rows; r++) {
        met_shapley_row(rows, r, row);
        for (size_t j = 0; j < n; j++) {
            values[j] += rows->weight[r] * y[r] * row[j];
        }
    }
    cholesky_solve(n, fit->factor, values);
    return MET_OK;
}

/* left = y less the equal shares of who is in a row; all NaN, and false, where that or the total is not finite. */
static bool take_shares(const met_shapley_rows *rows, const double *y, double total, double *left) {
    bool finite = isfinite(total);
    for (size_t r = 0; r < rows->rows; r++) {
        size_t in = 0;
        for (size_t w = 0; w < rows->words; w++) {
            in += met_count_bits(rows->bits[r * rows->words + w]);
        }
        left[r] = y[r] - total * (double)in / (double)rows->players;
        finite = finite && isfinite(left[r]);
    }
    for (size_t r = 0; r < rows->rows && !finite; r++) {
        left[r] = (double)NAN;
    }
    return finite;
}

int met_shapley_fit_solve(const met_shapley_fit *fit, const double *y, double total, double *values, double *residual) {
    const met_shapley_rows *rows = fit->of;
    const size_t n = fit->players;
    double *row = met_allocate(n, sizeof *row);
    double *left = met_allocate(rows->rows, sizeof *left);
    int status = row == NULL || left == NULL
                     ? met_fail(MET_ENOMEM, "%zu coalitions of %zu features do not fit into memory", rows->rows, n)
                     : MET_OK;
    memset(values, 0, n * sizeof *values);
    if (status == MET_OK && take_shares(rows, y, total, left)) {
        status = solve(fit, left, row, values);
    } else {
        total = (double)NAN; /* whatever the solver is, nothing finite fits */
    }
    double mean = 0;
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        mean += values[j] / (double)n;
    }
    for (size_t r = 0; r < rows->rows && residual != NULL && status == MET_OK; r++) {
        met_shapley_row(rows, r, row);
        residual[r] = left[r];
        for (size_t j = 0; j < n; j++) {
            residual[r] -= row[j] * values[j];
        }
    }
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        values[j] += total / (double)n - mean;
    }
    met_deallocate(row);
    met_deallocate(left);
    return status;
}
