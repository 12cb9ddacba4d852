/*
 * lasso.c - the LASSO by cyclic coordinate descent, stopped by the duality gap: Friedman, Hastie, Tibshirani,
 * "Regularization paths for generalized linear models via coordinate descent", J. Stat. Software 33 (2010).
 *
 * Where rows are more than features, an orthogonal transformation first folds them into as many rows as there are
 * features, which changes no distance. Now and then the coefficients that are not 0 are solved for at once, as far as
 * none changes its sign: correlated features, which single steps follow slowly, are settled by that.
 */
#include "fit_parts.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "buffer.h"

#define SWEEPS 100000
#define TOLERANCE 1e-13
#define SWEEPS_A_CHECK 10
#define SETTLING 4.0 /* how much more work than in sweeps may go into solving for many coefficients at once */

typedef struct lasso {
    const double *a; /* (features, rows) */
    const double *b; /* (rows,) */
    size_t rows, features;
    double alpha;
    bool positive;
    double apart;  /* squared length of the part of y that is out of reach of every c */
    double length; /* of y, that part included */
    double *norm;  /* (features,) of the columns */
    double *c;     /* (features,) */
    double *r;     /* (rows,) b - A c */
    double *g;     /* (features,) A^T r */
} lasso;

static double soft_threshold(double value, double alpha, bool positive) {
    return value > alpha ? value - alpha : (!positive && value < -alpha) ? value + alpha : 0.0;
}

/* One sweep over all coefficients, or over those that are not 0; the largest change of A c. */
static double sweep(lasso *l, bool all) {
    double largest = 0.0;
    for (size_t j = 0; j < l->features; j++) {
        const double norm = l->norm[j], old = l->c[j];
        if (norm == 0.0 || (!all && old == 0.0)) {
            continue;
        }
        const double *column = l->a + j * l->rows;
        const double along = met_dot(column, l->r, l->rows) + norm * norm * old;
        const double new = soft_threshold(along, l->alpha, l->positive) / (norm * norm);
        if (new != old) {
            met_add_multiple(l->r, old - new, column, l->rows);
            l->c[j] = new;
            largest = fmax(largest, fabs(new - old) * norm);
        }
    }
    return largest;
}

/* What rounding alone can make of a value of g. */
static double rounding(const lasso *l, size_t j) {
    return 4.0 * DBL_EPSILON * l->norm[j] * l->length;
}

/*
 * The duality gap at c, with r and g computed anew. For the dual point s r, where s brings |g| to alpha, it is
 * (1 - s)^2 |r|^2 / 2 + sum (alpha |c| - s c g), a sum without cancellation. *unsure is what rounding can make of it.
 */
static double duality_gap(lasso *l, double *unsure) {
    memcpy(l->r, l->b, l->rows * sizeof *l->r);
    for (size_t j = 0; j < l->features; j++) {
        met_add_multiple(l->r, -l->c[j], l->a + j * l->rows, l->rows);
    }
    double scale = 1.0;
    for (size_t j = 0; j < l->features; j++) {
        l->g[j] = met_dot(l->a + j * l->rows, l->r, l->rows);
        const double size = l->positive ? l->g[j] : fabs(l->g[j]), bound = l->alpha + rounding(l, j);
        scale = size > bound ? fmin(scale, bound / size) : scale;
    }
    const double square = met_dot(l->r, l->r, l->rows) + l->apart;
    double gap = 0.5 * (1.0 - scale) * (1.0 - scale) * square;
    *unsure = 0.0;
    for (size_t j = 0; j < l->features; j++) {
        gap += fabs(l->alpha * fabs(l->c[j]) - scale * l->c[j] * l->g[j]);
        *unsure += rounding(l, j) * fabs(l->c[j]);
    }
    return gap;
}

/*
 * Go from c as far towards c + d as no active coefficient changes its sign; one that would becomes 0 and ends the way.
 * True where the whole way was gone.
 */
static bool go_along(lasso *l, const size_t *active, const double *d, size_t n, double longest) {
    double step = longest;
    size_t first = n;
    for (size_t i = 0; i < n; i++) {
        const double c = l->c[active[i]], to_zero = -c / d[i];
        if (c * d[i] < 0.0 && to_zero <= step) {
            step = to_zero;
            first = i;
        }
    }
    for (size_t i = 0; i < n && isfinite(step); i++) {
        const double c = l->c[active[i]], moved = c + step * d[i];
        l->c[active[i]] = i == first || moved * c <= 0.0 ? 0.0 : moved;
    }
    return first == n;
}

/*
 * With the signs s of the n active coefficients kept, the minimum is at R c = Q^T b - alpha R^-T s; on the way there
 * the objective falls. `d` holds (n,), `work` (rows,). True where it was reached.
 */
static bool solve_active(lasso *l, const met_qr *qr, const size_t *active, double *d, double *work) {
    const size_t n = qr->columns;
    for (size_t k = 0; k < n; k++) {
        d[k] = copysign(l->alpha, l->c[active[qr->order[k]]]);
    }
    met_qr_solve_transposed(qr, n, d);
    memcpy(work, l->b, l->rows * sizeof *work);
    met_qr_transpose(qr, work);
    for (size_t k = 0; k < n; k++) {
        work[k] -= d[k];
    }
    met_qr_solve(qr, n, work);
    for (size_t k = 0; k < n; k++) {
        d[qr->order[k]] = work[k] - l->c[active[qr->order[k]]];
    }
    return go_along(l, active, d, n, 1.0);
}

/*
 * Where the active columns depend on each other: with R z = the first column of R that the ones before it make up, A c
 * stays as it is along (-z, 1). One of the two ways along it lowers the sum of |c|, or keeps it, and ends at a 0. `d`
 * holds (n,), `work` (rows,).
 */
static void drop_dependent(lasso *l, const met_qr *qr, const size_t *active, double *d, double *work) {
    const size_t n = qr->columns, rank = qr->rank;
    double slope = 0.0;
    memcpy(work, qr->a + rank * qr->rows, rank * sizeof *work);
    met_qr_solve(qr, rank, work);
    memset(d, 0, n * sizeof *d);
    for (size_t k = 0; k < rank; k++) {
        d[qr->order[k]] = -work[k];
    }
    d[qr->order[rank]] = 1.0;
    for (size_t i = 0; i < n; i++) {
        slope += copysign(d[i], d[i] * l->c[active[i]]);
    }
    for (size_t i = 0; slope > 0.0 && i < n; i++) {
        d[i] = -d[i];
    }
    go_along(l, active, d, n, INFINITY);
}

/* Solve once for the n coefficients that are not 0; *reached is true where none was dropped on the way. */
static int solve_once(lasso *l, size_t n, bool *reached) {
    met_qr qr = {0};
    int status = MET_OK;
    double *a = met_new_matrix(n, l->rows), *d = met_allocate(n, sizeof *d),
           *work = met_allocate(l->rows, sizeof *work);
    size_t *active = met_allocate(n, sizeof *active);
    if (a == NULL || d == NULL || work == NULL || active == NULL) {
        status = met_fail(MET_ENOMEM, "no memory to solve for %zu coefficients of the LASSO", n);
        goto done;
    }
    for (size_t j = 0, i = 0; j < l->features; j++) {
        if (l->c[j] != 0.0) {
            memcpy(a + i * l->rows, l->a + j * l->rows, l->rows * sizeof *a);
            active[i++] = j;
        }
    }
    status = met_qr_new(a, l->rows, n, &qr);
    if (status == MET_OK && qr.rank < n) {
        drop_dependent(l, &qr, active, d, work);
    } else if (status == MET_OK) {
        *reached = solve_active(l, &qr, active, d, work);
    }
done:
    met_qr_free(&qr);
    met_deallocate(active);
    met_deallocate(work);
    met_deallocate(d);
    met_deallocate(a);
    return status;
}

/* Let the coefficient in that is 0 and whose change lowers the objective fastest; false where there is none. */
static bool let_in(lasso *l) {
    double unsure, most = 0.0;
    size_t which = l->features;
    duality_gap(l, &unsure); /* for g */
    for (size_t j = 0; j < l->features; j++) {
        const double size = l->positive ? l->g[j] : fabs(l->g[j]);
        const double excess = l->c[j] == 0.0 ? size - l->alpha - rounding(l, j) : 0.0;
        if (l->norm[j] > 0.0 && excess / l->norm[j] > most) {
            most = excess / l->norm[j];
            which = j;
        }
    }
    if (which < l->features) {
        l->c[which] = soft_threshold(l->g[which], l->alpha, l->positive) / (l->norm[which] * l->norm[which]);
    }
    return which < l->features && l->c[which] != 0.0;
}

/*
 * An active set method, as that of Lawson & Hanson: solve for the coefficients that are not 0 until none has to be
 * dropped, let one more in, and so on to the minimum, or until *work, in multiplications, comes to `budget`.
 */
static int settle(lasso *l, double budget, double *work) {
    for (;;) {
        size_t n = 0;
        for (size_t j = 0; j < l->features; j++) {
            n += l->c[j] != 0.0;
        }
        *work += 2.0 * ((double)n * (double)n + (double)l->features) * (double)l->rows;
        if (*work > budget) {
            *work = budget; /* what was not done is not counted */
            return MET_OK;
        }
        bool reached = n == 0;
        int status = n == 0 ? MET_OK : solve_once(l, n, &reached);
        if (status != MET_OK || (reached && !let_in(l))) {
            return status;
        }
    }
}

/* One sweep over all coefficients and some over those that are not 0; how many. */
static size_t sweep_some(lasso *l, size_t most) {
    size_t done = 1;
    double change = sweep(l, true);
    for (; done < SWEEPS_A_CHECK && done < most && change > DBL_EPSILON * l->length; done++) {
        change = sweep(l, false);
    }
    return done;
}

/*
 * Come near to the solution through those of larger penalties, which have few coefficients, each half the one before,
 * from the largest that lets a coefficient in.
 */
static void follow_path(lasso *l) {
    double unsure, largest = 0.0;
    const double alpha = l->alpha;
    duality_gap(l, &unsure); /* for g */
    for (size_t j = 0; j < l->features; j++) {
        largest = fmax(largest, l->positive ? l->g[j] : fabs(l->g[j]));
    }
    const double last = fmax(alpha, DBL_EPSILON * largest);
    for (l->alpha = largest / 2.0; l->alpha > last; l->alpha /= 2.0) {
        sweep_some(l, SWEEPS_A_CHECK);
    }
    l->alpha = alpha;
}

/* One output, from c = 0. */
static int descend(lasso *l, size_t sweeps, double tolerance, bool *converged) {
    follow_path(l);
    double unsure, gap = duality_gap(l, &unsure), settled = 0.0;
    const double target = tolerance * l->length * l->length;
    const double sweep_cost = 2.0 * (double)l->features * (double)l->rows;
    size_t done = 0, settle_at = SWEEPS_A_CHECK;
    while (gap > target + unsure && done < sweeps) {
        done += sweep_some(l, sweeps - done);
        if (done >= settle_at || done == sweeps) { /* seldom, with a budget that has grown meanwhile */
            settle_at = 2 * done;
            int status = settle(l, SETTLING * sweep_cost * (double)done, &settled);
            if (status != MET_OK) {
                return status;
            }
        }
        gap = duality_gap(l, &unsure);
    }
    *converged = *converged && gap <= target + unsure;
    return MET_OK;
}

/* Fold the rows of A into R, in place, and those of each b into what R reaches; the rest of b stays behind that. */
static int fold_rows(const met_fit_rows *rows, size_t *order) {
    met_qr qr;
    int status = met_qr_new(rows->a, rows->rows, rows->features, &qr);
    if (status != MET_OK) {
        return status;
    }
    for (size_t k = 0; k < rows->outputs; k++) {
        met_qr_transpose(&qr, rows->b + k * rows->rows);
    }
    memcpy(order, qr.order, rows->features * sizeof *order);
    for (size_t j = 0; j < rows->features; j++) {
        double *column = rows->a + j * rows->features; /* written before the columns that are yet to be read */
        memmove(column, rows->a + j * rows->rows, (j + 1) * sizeof *column);
        memset(column + j + 1, 0, (rows->features - j - 1) * sizeof *column);
    }
    met_qr_free(&qr);
    return MET_OK;
}

/* The fit of output k, given what all outputs share; its coefficients go to their places. */
static int solve_output(lasso *l, const met_fit_rows *rows, size_t k, const met_fit_options *options,
                        const size_t *order, double *c, bool *converged) {
    const size_t sweeps = options->max_iterations > 0 ? options->max_iterations : SWEEPS;
    const double tolerance = options->tolerance > 0.0 ? options->tolerance : TOLERANCE;
    const double *b = rows->b + k * rows->rows;
    l->b = b;
    l->apart = met_dot(b + l->rows, b + l->rows, rows->rows - l->rows);
    l->length = sqrt(met_dot(b, b, l->rows) + l->apart);
    memset(l->c, 0, l->features * sizeof *l->c);
    int status = descend(l, sweeps, tolerance, converged);
    for (size_t j = 0; j < l->features; j++) {
        c[order[j]] = l->c[j];
    }
    return status;
}

int met_solve_lasso(const met_fit_rows *rows, double alpha, const met_fit_options *options, double *c,
                    bool *converged) {
    size_t rank;
    *converged = true;
    if (alpha == 0.0 && !options->positive) {
        return met_solve_least_squares(rows, c, &rank);
    }
    const bool fold = rows->rows > rows->features;
    lasso l = {.a = rows->a, .rows = fold ? rows->features : rows->rows, .features = rows->features, .alpha = alpha};
    size_t *order = met_allocate(l.features, sizeof *order);
    int status = MET_OK;
    l.positive = options->positive;
    l.norm = met_new_matrix(3, l.features);
    l.r = met_allocate(l.rows, sizeof *l.r);
    if (order == NULL || l.norm == NULL || l.r == NULL) {
        status =
            met_fail(MET_ENOMEM, "no memory for the LASSO of %zu rows of %zu features", rows->rows, rows->features);
        goto done;
    }
    l.c = l.norm + l.features;
    l.g = l.c + l.features;
    for (size_t j = 0; j < l.features; j++) {
        order[j] = j;
    }
    if (fold && (status = fold_rows(rows, order)) != MET_OK) {
        goto done;
    }
    for (size_t j = 0; j < l.features; j++) {
        l.norm[j] = sqrt(met_dot(l.a + j * l.rows, l.a + j * l.rows, l.rows));
    }
    for (size_t k = 0; status == MET_OK && k < rows->outputs; k++) {
        status = solve_output(&l, rows, k, options, order, c + k * l.features, converged);
    }
done:
    met_deallocate(l.r);
    met_deallocate(l.norm);
    met_deallocate(order);
    return status;
}
