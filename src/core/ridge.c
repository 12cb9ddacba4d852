/*
 * ridge.c - ridge regression. The normal equations have the size of the smaller side: (A^T A + alpha) c = A^T b, or c =
 * A^T z with (A A^T + alpha) z = b. Where their Cholesky factor loses digits, the same problem is solved as one of
 * least squares, with rows or columns for the penalty, by orthogonal transformations (Bjorck, "Numerical Methods for
 * Least Squares Problems", 1996, 2.7.2).
 */
#include "fit_parts.h"

#include <math.h>
#include <string.h>

#include "buffer.h"

/* A pivot that keeps a smaller part of its diagonal value than this costs the solution more than six digits. */
#define LEAST_PIVOT 1e-6

/* g (n, n), the lower triangle row by row, becomes its Cholesky factor; false where too few digits are left. */
static bool cholesky(double *g, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double *row = g + i * n;
        for (size_t j = 0; j < i; j++) {
            row[j] = (row[j] - met_dot(row, g + j * n, j)) / g[j * n + j];
        }
        const double pivot = row[i] - met_dot(row, row, i);
        if (!(pivot > LEAST_PIVOT * row[i])) {
            return false;
        }
        row[i] = sqrt(pivot);
    }
    return true;
}

/* v becomes the solution of L L^T v' = v. */
static void solve_cholesky(const double *l, size_t n, double *v) {
    for (size_t i = 0; i < n; i++) {
        v[i] = (v[i] - met_dot(l + i * n, v, i)) / l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        v[i] /= l[i * n + i];
        met_add_multiple(v, -v[i], l + i * n, i);
    }
}

/* The lower triangle of A^T A + alpha, (features, features), or of A A^T + alpha, (rows, rows). */
static void normal_matrix(const met_fit_rows *p, bool dual, double alpha, double *g) {
    const size_t n = dual ? p->rows : p->features;
    for (size_t j = 0; j < p->features; j++) {
        const double *column = p->a + j * p->rows;
        for (size_t i = 0; i < (dual ? p->rows : j + 1); i++) {
            if (dual) {
                met_add_multiple(g + i * n, column[i], column, i + 1);
            } else {
                g[j * n + i] = met_dot(column, p->a + i * p->rows, p->rows);
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        g[i * n + i] += alpha;
    }
}

static void solve_factored(const met_fit_rows *p, bool dual, const double *l, double *c) {
    for (size_t k = 0; k < p->outputs; k++) {
        double *b = p->b + k * p->rows;
        double *own = c + k * p->features;
        if (dual) {
            solve_cholesky(l, p->rows, b);
        }
        for (size_t j = 0; j < p->features; j++) {
            own[j] = met_dot(p->a + j * p->rows, b, p->rows);
        }
        if (!dual) {
            solve_cholesky(l, p->features, own);
        }
    }
}

/*
 * The penalty as more rows, |(b, 0) - (A, root) c|^2, or, where features are more than rows, as more columns: the
 * shortest (c, z) with A c + root z = b has z = (b - A c) / root.
 */
static int solve_extended(const met_fit_rows *p, bool dual, double alpha, double *c) {
    met_fit_rows more = *p;
    more.rows += dual ? 0 : p->features;
    more.features += dual ? p->rows : 0;
    size_t rank;
    int status = MET_OK;
    more.a = met_new_matrix(more.features, more.rows);
    more.b = met_new_matrix(more.outputs, more.rows);
    double *solution = met_new_matrix(more.outputs, more.features);
    if (more.a == NULL || more.b == NULL || solution == NULL) {
        status =
            met_fail(MET_ENOMEM, "no memory for ridge regression of %zu rows of %zu features", p->rows, p->features);
        goto done;
    }
    const size_t bytes = p->rows * sizeof *p->a;
    for (size_t j = 0; j < p->features; j++) {
        memcpy(more.a + j * more.rows, p->a + j * p->rows, bytes);
    }
    for (size_t i = 0; i < (dual ? p->rows : p->features); i++) {
        const size_t place = dual ? (p->features + i) * more.rows + i : i * more.rows + p->rows + i;
        more.a[place] = sqrt(alpha);
    }
    for (size_t k = 0; k < p->outputs; k++) {
        memcpy(more.b + k * more.rows, p->b + k * p->rows, bytes);
    }
    status = met_solve_least_squares(&more, solution, &rank);
    for (size_t k = 0; status == MET_OK && k < p->outputs; k++) {
        memcpy(c + k * p->features, solution + k * more.features, p->features * sizeof *c);
    }
done:
    met_deallocate(more.a);
    met_deallocate(more.b);
    met_deallocate(solution);
    return status;
}

int met_solve_ridge(const met_fit_rows *rows, double alpha, double *c) {
    const bool dual = rows->features > rows->rows;
    const size_t n = dual ? rows->rows : rows->features;
    size_t rank;
    if (alpha == 0.0) {
        return met_solve_least_squares(rows, c, &rank);
    }
    double *g = met_new_matrix(n, n);
    if (g == NULL) {
        return met_fail(MET_ENOMEM, "no memory for the normal equations of ridge regression, %zu x %zu", n, n);
    }
    normal_matrix(rows, dual, alpha, g);
    const bool factored = cholesky(g, n);
    if (factored) {
        solve_factored(rows, dual, g, c);
    }
    met_deallocate(g);
    return factored ? MET_OK : solve_extended(rows, dual, alpha, c);
}
