/*
 * reduce.c - from a stream of results to one attribution.
 *
 * Everything is summed in double, value by value in the order of the calls, so results are the same bits whatever
 * the number of threads.
 */
#include "reduce.h"

#include "finite.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Values that one thread should have at least. */
#define GRAIN 32768

/* Values whose product is made at a time: they stay in the first-level cache until they are added. */
#define BLOCK ((size_t)512)

/* What a body of met_parallel_for() sees; each uses what it needs. */
typedef struct work {
    met_dtype dtype;
    const met_factors *factors;
    const void *values; /* read */
    void *out;          /* written; may be `values` */
    double *sum;
    double *square;
    bool first; /* nothing was added before */
    double weight;
    met_moment moment;
    const met_base *base;
    bool minus_baseline;
    atomic_bool nonfinite; /* a value was NaN or infinite */
} work;

/* Whoever comes across a value that is not finite says so; nobody takes it back. */
static void note(work *w, bool finite) {
    if (!finite) {
        atomic_store_explicit(&w->nonfinite, true, memory_order_relaxed);
    }
}

/*
 * A moment from a sum of values and a sum of squares, both weighted. The variance is the mean of squares less the
 * square of the mean; between equal values rounding can leave that just below zero, and only there is it set to
 * zero (not a number stays not a number).
 */
static inline double moment_of(met_moment moment, double sum, double square, double weight) {
    if (moment == MET_SUM) {
        return sum;
    }
    const double mean = sum / weight;
    if (moment == MET_MEAN) {
        return mean;
    }
    if (moment == MET_MEAN_SQUARE) {
        return square / weight;
    }
    double variance = square / weight - mean * mean;
    variance = variance < 0.0 ? 0.0 : variance;
    return moment == MET_VARIANCE ? variance : sqrt(variance / (weight - 1.0));
}

/*
 * The kernels, once for each floating type, over values [from, to).
 *   product         v = value * times, squared where that is asked, * after
 *   add             sum += w v, square += w v^2; the first time they are set
 *   read            out = a moment
 *   absolute        out = |values|
 *   times_image     out = values x, or values (x - b), b an array or one number
 * Those that make new values note whether all of them are finite, block by block while they lie in the cache.
 */
#define KERNELS(T) \
    static inline const T *product_##T(const met_factors *f, size_t at, size_t n, T *restrict v) { \
        const T *value = (const T *)f->value + at; \
        if (f->times == NULL && !f->squared && f->after == NULL) { \
            return value; \
        } \
        memcpy(v, value, n * sizeof(T)); \
        for (size_t i = 0; i < n && f->times != NULL; i++) { \
            v[i] *= ((const T *)f->times + at)[i]; \
        } \
        for (size_t i = 0; i < n && f->squared; i++) { \
            v[i] *= v[i]; \
        } \
        for (size_t i = 0; i < n && f->after != NULL; i++) { \
            v[i] *= ((const T *)f->after + at)[i]; \
        } \
        return v; \
    } \
\
    static void add_##T(work *w, size_t from, size_t to) { \
        T scratch[BLOCK]; \
        bool finite = true; \
        const double weight = w->weight; \
        for (size_t n; from < to; from += n) { \
            n = met_min_size(BLOCK, to - from); \
            const T *restrict v = product_##T(w->factors, from, n, scratch); \
            double *restrict sum = w->sum + from; \
            double *restrict square = w->square == NULL ? NULL : w->square + from; \
            finite = met_all_finite_##T(v, n) && finite; \
            if (w->first) { \
                for (size_t i = 0; i < n; i++) { \
                    sum[i] = weight * (double)v[i]; \
                } \
            } else { \
                for (size_t i = 0; i < n; i++) { \
                    sum[i] += weight * (double)v[i]; \
                } \
            } \
            for (size_t i = 0; i < n && square != NULL; i++) { \
                const double value = (double)v[i]; \
                square[i] = (w->first ? 0.0 : square[i]) + weight * (value * value); \
            } \
        } \
        note(w, finite); \
    } \
\
    static void read_##T(work *w, size_t from, size_t to) { \
        T *restrict out = w->out; \
        const double *restrict sum = w->sum; \
        const double *restrict square = w->square; \
        const double weight = w->weight; \
        const met_moment moment = w->moment; \
        for (size_t i = from; i < to; i++) { \
            out[i] = (T)moment_of(moment, sum[i], square[i], weight); \
        } \
    } \
\
    static void absolute_##T(work *w, size_t from, size_t to) { \
        T *out = w->out; \
        const T *v = w->values; \
        bool finite = true; \
        for (size_t n; from < to; from += n) { \
            n = met_min_size(BLOCK, to - from); \
            for (size_t i = from; i < from + n; i++) { \
                out[i] = (T)fabs((double)v[i]); \
            } \
            finite = met_all_finite_##T(out + from, n) && finite; \
        } \
        note(w, finite); \
    } \
\
    static void times_image_##T(work *w, size_t from, size_t to) { \
        T *out = w->out; \
        const T *v = w->values; \
        const T *restrict x = w->base->image; \
        const T *restrict b = w->base->baseline; \
        const T number = w->minus_baseline ? (T)w->base->baseline_value : (T)0; \
        bool finite = true; \
        for (size_t n; from < to; from += n) { \
            n = met_min_size(BLOCK, to - from); \
            if (w->minus_baseline && b != NULL) { \
                for (size_t i = from; i < from + n; i++) { \
                    out[i] = v[i] * (x[i] - b[i]); \
                } \
            } else { \
                for (size_t i = from; i < from + n; i++) { \
                    out[i] = v[i] * (x[i] - number); \
                } \
            } \
            finite = met_all_finite_##T(out + from, n) && finite; \
        } \
        note(w, finite); \
    }

KERNELS(float)
KERNELS(double)

/* The body of met_parallel_for() that calls a kernel in the type of the values. */
#define BODY(kernel) \
    static void kernel##_body(void *arg, size_t from, size_t to) { \
        work *w = arg; \
        if (w->dtype == MET_FLOAT32) { \
            kernel##_float(w, from, to); \
        } else { \
            kernel##_double(w, from, to); \
        } \
    }

BODY(add)
BODY(read)
BODY(absolute)
BODY(times_image)

/* Memory for n items of `bytes` each, or MET_ENOMEM where that overflows. */
static int new_array(size_t n, size_t bytes, const char *what, met_account *account, met_buffer **out) {
    if (n > SIZE_MAX / bytes) {
        return met_fail(MET_ENOMEM, "%zu values for %s could not be had", n, what);
    }
    return met_buffer_new(n * bytes, what, account, out);
}

/* ------------------------------------------------------------------ streaming moments */

/*
 * A reducer that has seen nothing.
 *   size     values in a result
 *   squares  keep the sum of squares too: MET_MEAN_SQUARE and MET_VARIANCE need it
 *   account  where the memory is counted, or NULL; outlives the reducer
 *   out      the reducer; the caller frees it with met_reducer_free()
 */
int met_reducer_new(size_t size, bool squares, met_account *account, met_reducer *out) {
    met_reducer r = {.size = size, .squares = squares};
    int status = MET_OK;
    if (out == NULL) {
        return met_fail(MET_EVALUE, "out is NULL: memory for a reducer is wanted");
    }
    status = new_array(size, sizeof(double), "the sum of results", account, &r.sum_buffer);
    if (status == MET_OK && squares) {
        status = new_array(size, sizeof(double), "the sum of squared results", account, &r.square_buffer);
    }
    if (status != MET_OK) {
        goto done;
    }
    r.sum = met_buffer_data(r.sum_buffer);
    r.square = squares ? met_buffer_data(r.square_buffer) : NULL;
    met_reducer_clear(&r);
    *out = r;
done:
    if (status != MET_OK) {
        met_reducer_free(&r);
    }
    return status;
}

/* Release what the reducer holds and leave it empty. NULL is fine, and so is a second call. */
void met_reducer_free(met_reducer *r) {
    if (r != NULL) {
        met_buffer_release(r->sum_buffer);
        met_buffer_release(r->square_buffer);
        *r = (met_reducer){0};
    }
}

/* Forget everything that was added. */
void met_reducer_clear(met_reducer *r) {
    r->weight = 0.0;
    r->empty = true;
}

/*
 * Add one result that is a product of arrays; whether all its values are finite.
 *   dtype    MET_FLOAT32 or MET_FLOAT64
 *   factors  arrays (size,) of dtype, only read
 *   weight   of this result; any finite number
 *   pool     the host's threads, or NULL
 */
bool met_reducer_add_product(met_reducer *r, met_dtype dtype, const met_factors *factors, double weight,
                             const met_parallel *pool) {
    work w = {.dtype = dtype, .factors = factors, .sum = r->sum, .square = r->square, .weight = weight};
    w.first = r->empty;
    r->empty = false;
    r->weight += weight;
    met_parallel_for(pool, r->size, GRAIN, add_body, &w);
    return !atomic_load(&w.nonfinite);
}

/* Add one result, values (size,) of dtype; whether all of them are finite. */
bool met_reducer_add(met_reducer *r, met_dtype dtype, const void *values, double weight, const met_parallel *pool) {
    const met_factors factors = {.value = values};
    return met_reducer_add_product(r, dtype, &factors, weight, pool);
}

/*
 * Read a moment of what was added so far; but for MET_SUM, not a number where the weights sum to 0.
 *   moment  MET_SUM or MET_MEAN; one of the others where the reducer keeps squares
 *   dtype   MET_FLOAT32 or MET_FLOAT64
 *   pool    the host's threads, or NULL
 *   out     (size,) of dtype, owned by the caller
 */
void met_reducer_read(const met_reducer *r, met_moment moment, met_dtype dtype, const met_parallel *pool, void *out) {
    work w = {.dtype = dtype, .out = out, .sum = r->sum, .weight = r->weight, .moment = moment};
    w.square = r->squares ? r->square : r->sum; /* sum and mean do not look at it */
    if (r->empty) {                             /* the memory was never written */
        memset(r->sum, 0, r->size * sizeof *r->sum);
        memset(w.square, 0, r->size * sizeof *w.square);
    }
    met_parallel_for(pool, r->size, GRAIN, read_body, &w);
}

/* ------------------------------------------------------------------ elementwise */

/*
 * out = |values|; whether all of them are finite.
 *   dtype   MET_FLOAT32 or MET_FLOAT64
 *   values  (size,) of dtype
 *   pool    the host's threads, or NULL
 *   out     (size,) of dtype; may be values
 */
bool met_absolute(met_dtype dtype, size_t size, const void *values, const met_parallel *pool, void *out) {
    work w = {.dtype = dtype, .values = values, .out = out};
    met_parallel_for(pool, size, GRAIN, absolute_body, &w);
    return !atomic_load(&w.nonfinite);
}

/*
 * out = values * image, or values * (image - baseline), in the type of the image; whether all of them are finite.
 *   base            image and baseline
 *   minus_baseline  which of the two
 *   values          (size of the image,) of base->dtype
 *   pool            the host's threads, or NULL
 *   out             (size of the image,) of base->dtype, apart from image and baseline; may be values
 */
bool met_times_image(const met_base *base, bool minus_baseline, const void *values, const met_parallel *pool,
                     void *out) {
    work w = {.dtype = base->dtype, .values = values, .out = out, .base = base, .minus_baseline = minus_baseline};
    met_parallel_for(pool, met_base_size(base), GRAIN, times_image_body, &w);
    return !atomic_load(&w.nonfinite);
}

/*
 * max standard error / max |mean| over the values: 0 where all results were the same, infinite where only the means
 * vanish.
 */
double met_reducer_precision(const met_reducer *r) {
    double error = 0.0;
    double largest = 0.0;
    for (size_t i = 0; i < r->size; i++) {
        const double e = moment_of(MET_STANDARD_ERROR, r->sum[i], r->square[i], r->weight);
        const double mean = fabs(r->sum[i] / r->weight);
        error = e > error ? e : error;
        largest = mean > largest ? mean : largest;
    }
    return error > 0.0 ? error / largest : 0.0;
}
