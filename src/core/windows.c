/*
 * windows.c - windows that slide over an image, and the mean over the windows that cover a value.
 *
 * Windows form a grid. Those that cover position i of an axis are neighbours in it, so what a value reads is a box of
 * the grid: no accumulator of the image's size is needed, and all outputs of a model fit beside each other.
 */
#include "windows.h"

#include "buffer.h"

#include <string.h>

int met_windows_new(const size_t shape[MET_AXES], const size_t window[MET_AXES], const size_t stride[MET_AXES],
                    met_windows *out) {
    met_windows w;
    for (int a = 0; a < MET_AXES; a++) {
        if (window[a] == 0 || stride[a] == 0) {
            return met_fail(MET_EVALUE,
                            "sliding_window_shapes and strides must not be zero: (%zu, %zu, %zu) and "
                            "(%zu, %zu, %zu)",
                            window[0], window[1], window[2], stride[0], stride[1], stride[2]);
        }
        if (window[a] > shape[a]) {
            return met_fail(MET_EVALUE,
                            "sliding_window_shapes (%zu, %zu, %zu) must fit into the image, whose shape is "
                            "(%zu, %zu, %zu)",
                            window[0], window[1], window[2], shape[0], shape[1], shape[2]);
        }
        if (stride[a] > window[a] && window[a] < shape[a]) {
            return met_fail(MET_EVALUE,
                            "strides (%zu, %zu, %zu) must not be larger than sliding_window_shapes (%zu, "
                            "%zu, %zu), or values between two windows are left out",
                            stride[0], stride[1], stride[2], window[0], window[1], window[2]);
        }
        w.shape[a] = shape[a];
        w.window[a] = window[a];
        w.stride[a] = stride[a];
        w.count[a] = (shape[a] - window[a] + stride[a] - 1) / stride[a] + 1;
    }
    *out = w;
    return MET_OK;
}

size_t met_windows_number(const met_windows *w) {
    return w->count[0] * w->count[1] * w->count[2];
}

void met_windows_box(const met_windows *w, size_t k, met_box *box) {
    for (int a = MET_AXES; a-- > 0;) {
        size_t start = k % w->count[a] * w->stride[a];
        k /= w->count[a];
        box->start[a] = start;
        box->stop[a] = w->shape[a] - start < w->window[a] ? w->shape[a] : start + w->window[a];
    }
}

typedef struct range {
    size_t from;
    size_t to;
} range;

/* The windows along axis a that cover position i. */
static range covering(const met_windows *w, int a, size_t i) {
    range r;
    r.from = i < w->window[a] ? 0 : (i - w->window[a]) / w->stride[a] + 1;
    r.to = i / w->stride[a] + 1;
    r.to = r.to > w->count[a] ? w->count[a] : r.to;
    return r;
}

typedef struct work {
    const met_windows *w;
    const double *value;
    met_dtype dtype;
    double *sums; /* (lines of the first axis, count[2]): what lines of one thread need */
    void *out;
} work;

/* Sums over the first two axes of the grid, for each window along the third. */
static void sum_lines(const work *k, range rows, range columns, double *sums) {
    const size_t *count = k->w->count;
    memset(sums, 0, count[2] * sizeof *sums);
    for (size_t i = rows.from; i < rows.to; i++) {
        for (size_t j = columns.from; j < columns.to; j++) {
            const double *line = k->value + (i * count[1] + j) * count[2];
            for (size_t c = 0; c < count[2]; c++) {
                sums[c] += line[c];
            }
        }
    }
}

/* Planes [from, to) along the first axis. */
static void mean_body(void *arg, size_t from, size_t to) {
    const work *k = arg;
    const met_windows *w = k->w;
    double *sums = k->sums + from * w->count[2]; /* one line a plane: threads stay apart */
    for (size_t i = from; i < to; i++) {
        const range rows = covering(w, 0, i);
        range before = {0, 0};
        for (size_t j = 0; j < w->shape[1]; j++) {
            const range columns = covering(w, 1, j);
            const size_t line = (i * w->shape[1] + j) * w->shape[2];
            if (columns.from == before.from && columns.to == before.to) { /* as the line above */
                const size_t bytes = w->shape[2] * met_dtype_size(k->dtype);
                memcpy((char *)k->out + (line / w->shape[2]) * bytes, (char *)k->out + (line / w->shape[2] - 1) * bytes,
                       bytes);
                continue;
            }
            before = columns;
            sum_lines(k, rows, columns, sums);
            for (size_t c = 0; c < w->shape[2]; c++) {
                const range r = covering(w, 2, c);
                double sum = 0;
                for (size_t d = r.from; d < r.to; d++) {
                    sum += sums[d];
                }
                sum /= (double)((rows.to - rows.from) * (columns.to - columns.from) * (r.to - r.from));
                if (k->dtype == MET_FLOAT64) {
                    ((double *)k->out)[line + c] = sum;
                } else {
                    ((float *)k->out)[line + c] = (float)sum;
                }
            }
        }
    }
}

/*
 * out = mean of value over the windows that cover each value of the image.
 *   value  (number of windows,) in their order
 *   pool   the host's threads, or NULL
 *   out    (size of the image,) of dtype, MET_FLOAT32 or MET_FLOAT64, owned by the caller
 */
int met_windows_mean(const met_windows *w, const double *value, met_dtype dtype, const met_parallel *pool, void *out) {
    work k = {.w = w, .value = value, .dtype = dtype, .out = out};
    k.sums = met_allocate(w->shape[0] * w->count[2], sizeof *k.sums);
    if (k.sums == NULL) {
        return met_fail(MET_ENOMEM, "the sums over %zu windows do not fit into memory", met_windows_number(w));
    }
    const size_t plane = w->shape[1] * w->shape[2];
    met_parallel_for(pool, w->shape[0], plane > 32768 ? 1 : 32768 / plane + 1, mean_body, &k);
    met_deallocate(k.sums);
    return MET_OK;
}
