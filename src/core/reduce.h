/*
 * reduce.h - from a stream of results to one attribution.
 */
#ifndef MET_REDUCE_H
#define MET_REDUCE_H

#include "buffer.h"
#include "platform.h"
#include "sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/* MET_STANDARD_ERROR is that of the mean, sqrt(variance / (n - 1)), for n > 1 results of weight 1. */
typedef enum met_moment { MET_SUM, MET_MEAN, MET_MEAN_SQUARE, MET_VARIANCE, MET_STANDARD_ERROR } met_moment;

/*
 * Streaming weighted moments over `size` values, accumulated in double, in the order in which add() is called:
 *   sum = sum_k w_k v_k,  square = sum_k w_k v_k^2
 */
typedef struct met_reducer {
    size_t size;
    bool squares;
    bool empty; /* sum and square are not written yet */
    double weight;
    met_buffer *sum_buffer;
    met_buffer *square_buffer;
    double *sum;
    double *square;
} met_reducer;

/* A result that is made as it is added: value * times, squared where that is asked for, * after. NULL: no factor. */
typedef struct met_factors {
    const void *value;
    const void *times;
    bool squared;
    const void *after;
} met_factors;

int met_reducer_new(size_t size, bool squares, met_account *account, met_reducer *out);
void met_reducer_free(met_reducer *r);
void met_reducer_clear(met_reducer *r);
bool met_reducer_add(met_reducer *r, met_dtype dtype, const void *values, double weight, const met_parallel *pool);
bool met_reducer_add_product(met_reducer *r, met_dtype dtype, const met_factors *factors, double weight,
                             const met_parallel *pool);
/* Write a moment as `dtype`: MET_SUM is sum as it is, the others are divided by the sum of the weights. */
void met_reducer_read(const met_reducer *r, met_moment moment, met_dtype dtype, const met_parallel *pool, void *out);

/* The largest standard error as a part of the largest |mean|: 0 where all results were the same. */
double met_reducer_precision(const met_reducer *r);

/*
 * out = |values|, or values * (image - baseline), or values * image, elementwise; out may be values. These, and adding a
 * result, tell whether all values are finite.
 */
bool met_absolute(met_dtype dtype, size_t size, const void *values, const met_parallel *pool, void *out);
bool met_times_image(const met_base *base, bool minus_baseline, const void *values, const met_parallel *pool,
                     void *out);

#ifdef __cplusplus
}
#endif

#endif
