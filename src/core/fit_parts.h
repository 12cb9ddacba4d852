/*
 * fit_parts.h - what the files of the linear fits share. Matrices are stored column by column, so that the loops over
 * rows run through memory in order.
 */
#ifndef MET_FIT_PARTS_H
#define MET_FIT_PARTS_H

#include "linear_fit.h"

/*
 * A problem as the solvers see it: rows multiplied by the roots of their weights (which sum to 1) and centred if there
 * is an intercept, a and b each divided by a power of two that brings its largest value near 1. Solvers may write to
 * both.
 */
typedef struct met_fit_rows {
    double *a; /* (features, rows) */
    double *b; /* (outputs, rows) */
    size_t rows, features, outputs;
} met_fit_rows;

/* Sum of u[i] v[i]. Four sums at a time, which lets compilers use vectors. */
static inline double met_dot(const double *u, const double *v, size_t n) {
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            sums[k] += u[i + k] * v[i + k];
        }
    }
    for (; i < n; i++) {
        sums[0] += u[i] * v[i];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* v += factor u. */
static inline void met_add_multiple(double *restrict v, double factor, const double *restrict u, size_t n) {
    for (size_t i = 0; i < n; i++) {
        v[i] += factor * u[i];
    }
}

/* Doubles for a matrix, cleared; NULL where they can't be had or count * columns is no size. */
double *met_new_matrix(size_t count, size_t columns);

/*
 * A P = Q R: `a` is factored in place. R stands on and above the diagonal; below it in column k the Householder vector
 * of step k but for its first value, 1; column k of A P is column order[k] of A.
 */
typedef struct met_qr {
    double *a; /* (columns, rows), the caller's */
    size_t rows, columns;
    size_t steps;  /* min(rows, columns) */
    size_t rank;   /* of the values on the diagonal, how many are not negligible */
    double *tau;   /* (steps,) */
    size_t *order; /* (columns,) */
} met_qr;

int met_qr_new(double *a, size_t rows, size_t columns, met_qr *out);
void met_qr_free(met_qr *qr);
/* v (rows,) becomes Q^T v, or Q v. */
void met_qr_transpose(const met_qr *qr, double *v);
void met_qr_apply(const met_qr *qr, double *v);
/* v (n,) becomes the solution of R v' = v, or of R^T v' = v, with the first n rows and columns of R. */
void met_qr_solve(const met_qr *qr, size_t n, double *v);
void met_qr_solve_transposed(const met_qr *qr, size_t n, double *v);

/*
 * The solvers: c is (outputs, features). Least squares needs c and *rank alone; `alpha` and the tolerance are those of
 * the rows as they stand in `rows`: |b - A c|^2 + alpha |c|^2 and |b - A c|^2 / 2 + alpha sum |c|.
 */
int met_solve_least_squares(const met_fit_rows *rows, double *c, size_t *rank);
int met_solve_ridge(const met_fit_rows *rows, double alpha, double *c);
int met_solve_lasso(const met_fit_rows *rows, double alpha, const met_fit_options *options, double *c, bool *converged);

#endif
