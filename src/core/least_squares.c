/*
 * least_squares.c - least squares by a complete orthogonal decomposition: Householder QR with column pivoting, and,
 * where the rank is short, a second QR of the transposed rows of R, which gives the shortest solution. Golub & Van
 * Loan, "Matrix Computations", 4th ed., 5.4.2 and 5.5.2; the norms are updated as in Drmac & Bujanovic, ACM TOMS 35
 * (2008).
 */
#include "fit_parts.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "buffer.h"
#include "platform.h"

double *met_new_matrix(size_t count, size_t columns) {
    return columns > 0 && count > SIZE_MAX / columns ? NULL : met_allocate(count * columns, sizeof(double));
}

/* Turn v (n,) into a Householder vector and the value beta that it maps v to, in v[0]; returns tau. */
static double reflector(double *v, size_t n) {
    const double tail = n > 1 ? met_dot(v + 1, v + 1, n - 1) : 0.0;
    if (tail == 0.0) {
        return 0.0;
    }
    const double beta = -copysign(sqrt(v[0] * v[0] + tail), v[0]);
    const double tau = (beta - v[0]) / beta;
    const double scale = 1.0 / (v[0] - beta);
    for (size_t i = 1; i < n; i++) {
        v[i] *= scale;
    }
    v[0] = beta;
    return tau;
}

/* u -= tau h (h^T u), where h is 1 followed by the values of `below` after its first. */
static void reflect(const double *below, double tau, size_t n, double *u) {
    if (tau != 0.0) {
        const double along = tau * (u[0] + met_dot(below + 1, u + 1, n - 1));
        u[0] -= along;
        met_add_multiple(u + 1, -along, below + 1, n - 1);
    }
}

static void swap_columns(met_qr *qr, double *norms, size_t i, size_t j) {
    for (size_t r = 0; r < qr->rows; r++) {
        const double value = qr->a[i * qr->rows + r];
        qr->a[i * qr->rows + r] = qr->a[j * qr->rows + r];
        qr->a[j * qr->rows + r] = value;
    }
    const size_t position = qr->order[i];
    qr->order[i] = qr->order[j];
    qr->order[j] = position;
    for (size_t k = 0; k < 2; k++) { /* the norms, and the norms as last computed in full */
        const double norm = norms[k * qr->columns + i];
        norms[k * qr->columns + i] = norms[k * qr->columns + j];
        norms[k * qr->columns + j] = norm;
    }
}

/* The norm of column j below row k, from that below row k - 1; computed in full where the difference has few digits. */
static void update_norm(const met_qr *qr, double *norm, double *full, size_t j, size_t k) {
    const double *column = qr->a + j * qr->rows;
    if (*norm == 0.0) {
        return;
    }
    const double part = fabs(column[k - 1]) / *norm;
    const double left = fmax(0.0, (1.0 - part) * (1.0 + part));
    const double ratio = *norm / *full;
    if (left * ratio * ratio <= sqrt(DBL_EPSILON)) {
        *norm = *full = sqrt(met_dot(column + k, column + k, qr->rows - k));
    } else {
        *norm *= sqrt(left);
    }
}

static void factor(met_qr *qr, double *norms) {
    const size_t rows = qr->rows, columns = qr->columns;
    for (size_t j = 0; j < columns; j++) {
        qr->order[j] = j;
        norms[j] = norms[columns + j] = sqrt(met_dot(qr->a + j * rows, qr->a + j * rows, rows));
    }
    for (size_t k = 0; k < qr->steps; k++) {
        size_t longest = k;
        for (size_t j = k + 1; j < columns; j++) {
            longest = norms[j] > norms[longest] ? j : longest;
        }
        if (longest != k) {
            swap_columns(qr, norms, k, longest);
        }
        double *pivot = qr->a + k * rows + k;
        qr->tau[k] = reflector(pivot, rows - k);
        for (size_t j = k + 1; j < columns; j++) {
            reflect(pivot, qr->tau[k], rows - k, qr->a + j * rows + k);
            update_norm(qr, &norms[j], &norms[columns + j], j, k + 1);
        }
    }
}

/*
 * Columns that depend on each other leave a few roundings of each row on the diagonal of R. What a multiple of that
 * covers counts as nothing: a rank taken too high would give huge coefficients.
 */
static size_t numerical_rank(const met_qr *qr) {
    const size_t size = qr->rows > qr->columns ? qr->rows : qr->columns;
    const double least = qr->steps > 0 ? 8.0 * DBL_EPSILON * (double)size * fabs(qr->a[0]) : 0.0;
    size_t rank = 0;
    while (rank < qr->steps && fabs(qr->a[rank * qr->rows + rank]) > least) {
        rank++;
    }
    return rank;
}

int met_qr_new(double *a, size_t rows, size_t columns, met_qr *out) {
    met_qr qr = {.a = a, .rows = rows, .columns = columns, .steps = met_min_size(rows, columns)};
    double *norms = met_new_matrix(2, columns);
    qr.tau = met_allocate(qr.steps, sizeof *qr.tau);
    qr.order = met_allocate(columns, sizeof *qr.order);
    const bool ready = norms != NULL && qr.tau != NULL && qr.order != NULL;
    if (ready) {
        factor(&qr, norms);
        qr.rank = numerical_rank(&qr);
        *out = qr;
    } else {
        met_qr_free(&qr);
    }
    met_deallocate(norms);
    return ready ? MET_OK : met_fail(MET_ENOMEM, "no memory to factor %zu rows of %zu columns", rows, columns);
}

void met_qr_free(met_qr *qr) {
    met_deallocate(qr->tau);
    met_deallocate(qr->order);
    qr->tau = NULL;
    qr->order = NULL;
}

void met_qr_transpose(const met_qr *qr, double *v) {
    for (size_t k = 0; k < qr->steps; k++) {
        reflect(qr->a + k * qr->rows + k, qr->tau[k], qr->rows - k, v + k);
    }
}

void met_qr_apply(const met_qr *qr, double *v) {
    for (size_t k = qr->steps; k-- > 0;) {
        reflect(qr->a + k * qr->rows + k, qr->tau[k], qr->rows - k, v + k);
    }
}

void met_qr_solve(const met_qr *qr, size_t n, double *v) {
    for (size_t j = n; j-- > 0;) {
        const double *column = qr->a + j * qr->rows;
        v[j] /= column[j];
        met_add_multiple(v, -v[j], column, j);
    }
}

void met_qr_solve_transposed(const met_qr *qr, size_t n, double *v) {
    for (size_t j = 0; j < n; j++) {
        const double *column = qr->a + j * qr->rows;
        v[j] = (v[j] - met_dot(column, v, j)) / column[j];
    }
}

/*
 * The second decomposition: the first `rank` rows of R, transposed, are Z T P^T. The shortest c with R c = d is Z z,
 * where T^T z = P^T d.
 */
static int transposed_rows(const met_qr *qr, double **memory, met_qr *out) {
    double *t = met_new_matrix(qr->rank, qr->columns);
    if (t == NULL) {
        return met_fail(MET_ENOMEM, "no memory for the shortest solution of %zu rows of %zu columns", qr->rank,
                        qr->columns);
    }
    for (size_t i = 0; i < qr->rank; i++) {
        for (size_t j = i; j < qr->columns; j++) {
            t[i * qr->columns + j] = qr->a[j * qr->rows + i];
        }
    }
    int status = met_qr_new(t, qr->columns, qr->rank, out);
    if (status != MET_OK) {
        met_deallocate(t);
        return status;
    }
    *memory = t;
    return MET_OK;
}

/* One output: b is overwritten, `work` holds (columns,). `second` is NULL where the rank is full. */
static void solve_one(const met_qr *qr, const met_qr *second, double *b, double *work, double *c) {
    const size_t rank = qr->rank;
    met_qr_transpose(qr, b);
    memset(work, 0, qr->columns * sizeof *work);
    if (second == NULL) {
        memcpy(work, b, rank * sizeof *work);
        met_qr_solve(qr, rank, work);
    } else {
        for (size_t k = 0; k < rank; k++) {
            work[k] = b[second->order[k]];
        }
        met_qr_solve_transposed(second, rank, work);
        met_qr_apply(second, work);
    }
    for (size_t j = 0; j < qr->columns; j++) {
        c[qr->order[j]] = work[j];
    }
}

int met_solve_least_squares(const met_fit_rows *rows, double *c, size_t *rank) {
    met_qr qr = {0}, second = {0};
    double *memory = NULL, *work = NULL;
    int status = met_qr_new(rows->a, rows->rows, rows->features, &qr);
    if (status != MET_OK) {
        return status;
    }
    const bool is_short = qr.rank < qr.columns;
    if (is_short && (status = transposed_rows(&qr, &memory, &second)) != MET_OK) {
        goto done;
    }
    work = met_allocate(qr.columns, sizeof *work);
    if (work == NULL) {
        status = met_fail(MET_ENOMEM, "no memory for %zu coefficients", qr.columns);
        goto done;
    }
    for (size_t k = 0; k < rows->outputs; k++) {
        solve_one(&qr, is_short ? &second : NULL, rows->b + k * rows->rows, work, c + k * rows->features);
    }
    *rank = qr.rank;
done:
    met_deallocate(work);
    met_deallocate(memory);
    met_qr_free(&second);
    met_qr_free(&qr);
    return status;
}
