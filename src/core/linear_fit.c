/* linear_fit.c - weighted linear regression: what is checked, centring, the choice of the solver; the score. */
#include "fit_parts.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "buffer.h"

/* A problem while it is prepared: rows of weight 0 left out, everything relative to the first row that is left. */
typedef struct centring {
    size_t rows;                /* that are left */
    size_t *row;                /* (rows,) where they are in the problem */
    double *share;              /* (rows,) weights, which sum to 1 */
    double weight;              /* sum of the weights */
    double *x_center;           /* (features,) means of the columns of x and y; 0 without an intercept */
    double *y_center;           /* (outputs,) */
    int x_exponent, y_exponent; /* a and b are divided by 2 to the power of these */
} centring;

/* --- what is refused ---------------------------------------------------------------------------------------------- */

static int no_memory(const met_fit_problem *p) {
    return met_fail(MET_ENOMEM, "no memory for a linear fit of %zu rows, %zu features and %zu outputs", p->rows,
                    p->features, p->outputs);
}

static int check_options(const met_fit_options *o) {
    if (o->kind != MET_FIT_LEAST_SQUARES && o->kind != MET_FIT_RIDGE && o->kind != MET_FIT_LASSO) {
        return met_fail(MET_EVALUE, "kind must be least squares, ridge or LASSO, not %d", (int)o->kind);
    }
    if (o->kind != MET_FIT_LEAST_SQUARES && !(o->alpha >= 0.0 && o->alpha <= DBL_MAX)) {
        return met_fail(MET_EVALUE, "alpha must be finite and not negative, got %g", o->alpha);
    }
    if (o->kind == MET_FIT_LASSO && !(o->tolerance >= 0.0 && o->tolerance <= DBL_MAX)) {
        return met_fail(MET_EVALUE, "tolerance must be finite and not negative, got %g", o->tolerance);
    }
    return MET_OK;
}

static int check_matrix(const char *name, const double *values, size_t rows, size_t columns) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            if (!isfinite(values[i * columns + j])) {
                return met_fail(MET_EVALUE, "%s must be finite, got %g in row %zu, column %zu", name,
                                values[i * columns + j], i, j);
            }
        }
    }
    return MET_OK;
}

static int check_weights(const double *weight, size_t rows) {
    double largest = weight == NULL ? 1.0 : 0.0;
    for (size_t i = 0; weight != NULL && i < rows; i++) {
        if (!(weight[i] >= 0.0 && weight[i] <= DBL_MAX)) {
            return met_fail(MET_EVALUE, "weights must be finite and not negative, got %g in row %zu", weight[i], i);
        }
        largest = fmax(largest, weight[i]);
    }
    return largest > 0.0 ? MET_OK : met_fail(MET_EVALUE, "all %zu weights are 0: no row is left to fit", rows);
}

static int check_problem(const met_fit_problem *p, const met_fit_options *options, const met_fit_result *result) {
    if (p == NULL || options == NULL || result == NULL || p->x == NULL || p->y == NULL ||
        result->coefficients == NULL || result->intercepts == NULL) {
        return met_fail(MET_EVALUE, "a linear fit needs x, y, options and memory for its result, got NULL");
    }
    if (p->rows == 0 || p->features == 0 || p->outputs == 0) {
        return met_fail(MET_EVALUE, "a linear fit needs rows, features and outputs, got %zu, %zu and %zu", p->rows,
                        p->features, p->outputs);
    }
    if (p->rows > SIZE_MAX / sizeof(double) / p->features || p->rows > SIZE_MAX / sizeof(double) / p->outputs ||
        p->features > SIZE_MAX / sizeof(double) / p->outputs) {
        return no_memory(p);
    }
    int status = check_options(options);
    status = status != MET_OK ? status : check_matrix("x", p->x, p->rows, p->features);
    status = status != MET_OK ? status : check_matrix("y", p->y, p->rows, p->outputs);
    return status != MET_OK ? status : check_weights(p->weight, p->rows);
}

/* --- centring ----------------------------------------------------------------------------------------------------- */

/* The weights as parts of their sum, taken relative to the largest so that no sum overflows. */
static void read_weights(const met_fit_problem *p, centring *c) {
    double largest = p->weight == NULL ? 1.0 : 0.0, sum = 0.0;
    for (size_t i = 0; p->weight != NULL && i < p->rows; i++) {
        largest = fmax(largest, p->weight[i]);
    }
    for (size_t i = 0; i < p->rows; i++) {
        const double part = p->weight == NULL ? 1.0 : p->weight[i] / largest;
        if (part > 0.0) {
            c->row[c->rows] = i;
            c->share[c->rows++] = part;
            sum += part;
        }
    }
    for (size_t i = 0; i < c->rows; i++) {
        c->share[i] /= sum;
    }
    c->weight = sum * largest;
}

/*
 * Column j of `values` (rows, columns) into out (rows left,): less its weighted mean (if centred), times the roots of
 * the weights. Values are taken relative to the first, so a constant column becomes exactly 0 and a large constant
 * beside small differences costs none of their digits. The mean goes to *center.
 */
static void read_column(const centring *c, const double *values, size_t columns, size_t j, bool centred, double *out,
                        double *center) {
    const double reference = centred ? values[c->row[0] * columns + j] : 0.0;
    double mean = 0.0;
    for (size_t i = 0; i < c->rows; i++) {
        out[i] = values[c->row[i] * columns + j] - reference;
    }
    for (int pass = 0; centred && pass < 2; pass++) { /* the second pass takes away what the first has rounded */
        double sum = 0.0;
        for (size_t i = 0; i < c->rows; i++) {
            sum += c->share[i] * (out[i] - mean);
        }
        mean += sum;
    }
    for (size_t i = 0; i < c->rows; i++) {
        out[i] = sqrt(c->share[i]) * (out[i] - mean);
    }
    *center = reference + mean;
}

/* All columns into `out`, then all of it divided by the power of two that brings its largest value below 1. */
static int read_matrix(const centring *c, const double *values, size_t columns, bool centred, double *out,
                       double *center, int *exponent) {
    double largest = 0.0;
    for (size_t j = 0; j < columns; j++) {
        read_column(c, values, columns, j, centred, out + j * c->rows, &center[j]);
        for (size_t i = 0; i < c->rows; i++) {
            const double size = fabs(out[j * c->rows + i]);
            largest = isnan(size) ? INFINITY : fmax(largest, size);
        }
    }
    if (isinf(largest)) {
        return met_fail(MET_EVALUE, "differences of the values to fit overflow");
    }
    frexp(largest, exponent);
    for (size_t i = 0; i < columns * c->rows; i++) {
        out[i] = ldexp(out[i], -*exponent);
    }
    return MET_OK;
}

/* --- the fit ------------------------------------------------------------------------------------------------------ */

/* alpha for the scaled a and b; never infinite, since 0 times that would be no number. */
static double scaled_alpha(const met_fit_options *o, const centring *c) {
    if (o->kind == MET_FIT_RIDGE) {
        return fmin(ldexp(o->alpha / c->weight, -2 * c->x_exponent), DBL_MAX);
    }
    return fmin(ldexp(o->alpha, -c->x_exponent - c->y_exponent), DBL_MAX);
}

static int solve(const met_fit_rows *rows, const met_fit_options *o, const centring *c, double *coefficients,
                 size_t *rank, bool *converged) {
    *rank = 0;
    *converged = true;
    switch (o->kind) {
    case MET_FIT_RIDGE: return met_solve_ridge(rows, scaled_alpha(o, c), coefficients);
    case MET_FIT_LASSO: return met_solve_lasso(rows, scaled_alpha(o, c), o, coefficients, converged);
    default: return met_solve_least_squares(rows, coefficients, rank);
    }
}

/* From the coefficients of the scaled rows, (outputs, features), to those of the problem and the intercepts. */
static int finish(const met_fit_problem *p, const centring *c, double *coefficients, double *intercepts) {
    for (size_t k = 0; k < p->outputs; k++) {
        double *own = coefficients + k * p->features;
        intercepts[k] = c->y_center[k];
        for (size_t j = 0; j < p->features; j++) {
            own[j] = ldexp(own[j], c->y_exponent - c->x_exponent) + 0.0; /* no negative zero */
            intercepts[k] -= own[j] * c->x_center[j];
            if (!isfinite(own[j])) {
                return met_fail(MET_EVALUE, "coefficient %zu of output %zu overflows", j, k);
            }
        }
        if (!isfinite(intercepts[k])) {
            return met_fail(MET_EVALUE, "the intercept of output %zu overflows", k);
        }
    }
    return MET_OK;
}

static void free_centring(centring *c) {
    met_deallocate(c->row);
    met_deallocate(c->share);
    met_deallocate(c->x_center);
    met_deallocate(c->y_center);
}

/* Fit into `out`, memory of its own, so that the caller's is written on success only. */
static int fit(const met_fit_problem *p, const met_fit_options *options, met_fit_result *out) {
    centring c = {0};
    met_fit_rows rows = {.features = p->features, .outputs = p->outputs};
    int status = MET_OK;
    c.row = met_allocate(p->rows, sizeof *c.row);
    c.share = met_allocate(p->rows, sizeof *c.share);
    c.x_center = met_allocate(p->features, sizeof *c.x_center);
    c.y_center = met_allocate(p->outputs, sizeof *c.y_center);
    if (c.row == NULL || c.share == NULL || c.x_center == NULL || c.y_center == NULL) {
        status = no_memory(p);
        goto done;
    }
    read_weights(p, &c);
    rows.rows = c.rows;
    rows.a = met_new_matrix(p->features, c.rows);
    rows.b = met_new_matrix(p->outputs, c.rows);
    if (rows.a == NULL || rows.b == NULL) {
        status = no_memory(p);
        goto done;
    }
    const bool centred = options->intercept;
    if ((status = read_matrix(&c, p->x, p->features, centred, rows.a, c.x_center, &c.x_exponent)) != MET_OK ||
        (status = read_matrix(&c, p->y, p->outputs, centred, rows.b, c.y_center, &c.y_exponent)) != MET_OK ||
        (status = solve(&rows, options, &c, out->coefficients, &out->rank, &out->converged)) != MET_OK) {
        goto done;
    }
    status = finish(p, &c, out->coefficients, out->intercepts);
done:
    met_deallocate(rows.a);
    met_deallocate(rows.b);
    free_centring(&c);
    return status;
}

int met_linear_fit(const met_fit_problem *problem, const met_fit_options *options, met_fit_result *result) {
    int status = check_problem(problem, options, result);
    if (status != MET_OK) {
        return status;
    }
    met_fit_result own = {.coefficients = met_new_matrix(problem->outputs, problem->features),
                          .intercepts = met_allocate(problem->outputs, sizeof(double))};
    if (own.coefficients == NULL || own.intercepts == NULL) {
        status = no_memory(problem);
    } else {
        status = fit(problem, options, &own);
    }
    if (status == MET_OK) {
        memcpy(result->coefficients, own.coefficients, problem->outputs * problem->features * sizeof(double));
        memcpy(result->intercepts, own.intercepts, problem->outputs * sizeof(double));
        result->rank = own.rank;
        result->converged = own.converged;
    }
    met_deallocate(own.coefficients);
    met_deallocate(own.intercepts);
    return status;
}

double met_r2(size_t rows, const double *y, size_t y_step, const double *predicted, const double *weight) {
    size_t used = 0, first = 0;
    double total = 0.0, mean = 0.0, left = 0.0, spread = 0.0;
    for (size_t i = 0; i < rows; i++) {
        const double w = weight == NULL ? 1.0 : weight[i];
        if (w != 0.0) {
            first = used++ == 0 ? i : first;
            total += w;
        }
    }
    if (used < 2) {
        return NAN;
    }
    const double reference = y[first * y_step]; /* constant y have a spread of exactly 0 */
    for (size_t i = 0; i < rows; i++) {
        const double w = weight == NULL ? 1.0 : weight[i];
        mean += w != 0.0 ? w / total * (y[i * y_step] - reference) : 0.0;
    }
    for (size_t i = 0; i < rows; i++) {
        const double w = weight == NULL ? 1.0 : weight[i] / total, value = y[i * y_step];
        if (w != 0.0) {
            left += w * (value - predicted[i]) * (value - predicted[i]);
            spread += w * (value - reference - mean) * (value - reference - mean);
        }
    }
    return spread > 0.0 ? 1.0 - left / spread : left == 0.0 ? 1.0 : left > 0.0 ? 0.0 : NAN;
}
