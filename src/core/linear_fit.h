/*
 * linear_fit.h - weighted linear regression on dense numbers: least squares, ridge, LASSO; the score of a fit.
 */
#ifndef MET_LINEAR_FIT_H
#define MET_LINEAR_FIT_H

#include <stdbool.h>
#include <stddef.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum met_fit_kind { MET_FIT_LEAST_SQUARES, MET_FIT_RIDGE, MET_FIT_LASSO } met_fit_kind;

typedef struct met_fit_options {
    met_fit_kind kind;
    double alpha;          /* >= 0; not used by least squares */
    bool intercept;        /* fitted, never penalised */
    bool positive;         /* LASSO alone: coefficients >= 0 */
    size_t max_iterations; /* LASSO: sweeps over the coefficients with this alpha; 0: 100000 */
    double tolerance;      /* LASSO: duality gap as a part of the centred weighted sum of squares of y; 0: 1e-13 */
} met_fit_options;

typedef struct met_fit_problem {
    const double *x;      /* (rows, features) row by row */
    const double *y;      /* (rows, outputs) */
    const double *weight; /* (rows,) >= 0; NULL: 1 each */
    size_t rows, features, outputs;
} met_fit_problem;

typedef struct met_fit_result { /* the caller's memory */
    double *coefficients;       /* (outputs, features) */
    double *intercepts;         /* (outputs,) */
    size_t rank;                /* least squares: numerical rank of the centred weighted rows; else 0 */
    bool converged;             /* LASSO: the gap was reached for every output; else true */
} met_fit_result;

/*
 * Minimise over the coefficients c (and the intercept), for each output, with residuals r = y - x c - intercept and
 * weights w,
 *
 *     least squares   sum w r^2, and where several c do so, the shortest of them
 *     ridge           sum w r^2 + alpha sum c^2
 *     LASSO           sum w r^2 / (2 sum w) + alpha sum |c|
 *
 * as LinearRegression, Ridge and Lasso of scikit-learn do with `sample_weight`. A row of weight 0 is as good as absent,
 * an integer weight as good as repeated rows, a constant column has coefficient 0 if there is an intercept. With an
 * alpha of 0, ridge and LASSO give the least squares solution.
 *
 * MET_EVALUE where x, y or a weight is not finite, a weight is negative or all are 0, or an option can't be used;
 * MET_ENOMEM, with the sizes, where memory could not be had.
 */
int met_linear_fit(const met_fit_problem *problem, const met_fit_options *options, met_fit_result *result);

/*
 * R^2 = 1 - sum w (y - predicted)^2 / sum w (y - mean)^2 with the weighted mean of y, as r2_score of scikit-learn
 * defines it: where y is constant, 1 if it is predicted exactly and 0 if not. NaN for fewer than two rows with a weight
 * above 0. Row i has y[i * y_step], predicted[i] and weight[i] (NULL: 1 each).
 */
double met_r2(size_t rows, const double *y, size_t y_step, const double *predicted, const double *weight);

#ifdef __cplusplus
}
#endif

#endif
