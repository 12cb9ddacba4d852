/*
 * shapley.h - Shapley values of a game whose values are known: exactly from all coalitions, or by weighted regression.
 */
#ifndef MET_SHAPLEY_H
#define MET_SHAPLEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* With as many players all coalitions can be enumerated at all. */
#define MET_SHAPLEY_MOST_PLAYERS ((size_t)24)

/*
 * values (players,) = sum over S without i of |S|! (M - |S| - 1)! / M! (v(S + i) - v(S)).
 *   v  (2^players,) by bits: bit i of the index is player i
 * Source: Shapley, "A value for n-person games", 1953.
 */
void met_shapley_exact(size_t players, const double *v, double *values);

/*
 * matrix (players, players), symmetric: beside the diagonal half the Shapley interaction index
 *   sum over S without i, j of |S|! (M - |S| - 2)! / (M - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S)),
 * on it what is left of the Shapley value of the row, so that rows sum to Shapley values.
 * Sources: Grabisch and Roubens, 1999 (the index); Lundberg, Erion and Lee, 2018 (arXiv:1802.03888; the split in halves).
 */
void met_shapley_interactions(size_t players, const double *v, double *matrix);

/* The kernel's mass of all coalitions of `size` together, up to a constant: 1 / (size (players - size)). */
double met_shapley_mass(size_t players, size_t size);

/*
 * Coalitions of a regression, without the empty and the full one.
 *   bits    (rows, words) of the players
 *   weight  (rows,) of the kernel (players - 1) / (C(players, s) s (players - s)), s players, or an estimate of it
 */
typedef struct met_shapley_rows {
    size_t rows;
    size_t players;
    size_t words;
    const uint64_t *bits;
    const double *weight;
} met_shapley_rows;

/* out (players,) = the row of a coalition: its players less their mean. */
void met_shapley_row(const met_shapley_rows *rows, size_t r, double *out);

/*
 * The regression that has the Shapley values as its solution where all coalitions are in it (Lundberg and Lee, 2017,
 * arXiv:1705.07874). That the values sum to v(all) - v(none) is built in: the rows are regressed on players less their
 * mean, which only reaches values that sum to 0, and the rest is shared alike. Where the rows are too few for a unique
 * solution, the one nearest to equal shares.
 */
typedef struct met_shapley_fit {
    size_t players;
    size_t rank;    /* players - 1 where the solution is unique */
    double *factor; /* (players, players) Cholesky factor of the normal equations; not used where there are `rows` */
    double *rows; /* (rows, players) centred rows, where the rank is short or the normal equations lose it; else NULL */
    const met_shapley_rows *of;
} met_shapley_fit;

int met_shapley_fit_new(const met_shapley_rows *rows, met_shapley_fit *out);
void met_shapley_fit_free(met_shapley_fit *fit);
/*
 * values (players,), from y (rows,) = v(S) - v(none) and total = v(all) - v(none); residual (rows,), or NULL, is what is
 * left of y. Where any of these is not finite, values and residual are NaN.
 */
int met_shapley_fit_solve(const met_shapley_fit *fit, const double *y, double total, double *values, double *residual);
/* u (players,) becomes the solution of the normal equations for the right side u; only where fit->rows is NULL. */
void met_shapley_fit_normal(const met_shapley_fit *fit, double *u);

#endif
