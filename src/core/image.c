/*
 * image.c - views of images: size, layout, permutation, and reading image * mask into plain memory.
 *
 * Axes only ever move by their strides. Reading is the one place where values are copied: it goes through tiles, so
 * that a permuted view (bands last, say, over memory with bands first) costs about what a straight copy costs.
 */
#include "image.h"

#include <string.h>

#define TILE 64                 /* values along either axis of a tile: 64 rows of one cache line or more each */
#define GRAIN ((size_t)1 << 16) /* fewer values are not worth a thread */

size_t met_image_size(const met_image *image) {
    return image->shape[0] * image->shape[1] * image->shape[2];
}

bool met_image_is_plain(const met_image *image, met_dtype dtype) {
    ptrdiff_t step = (ptrdiff_t)met_dtype_size(dtype);
    if (image->dtype != dtype || image->mask != NULL) {
        return false;
    }
    for (int axis = MET_AXES - 1; axis >= 0; axis--) {
        if (image->shape[axis] != 1 && image->strides[axis] != step) {
            return false;
        }
        step *= (ptrdiff_t)image->shape[axis];
    }
    return true;
}

int met_image_permute(met_image *image, const int order[MET_AXES]) {
    if (image == NULL || order == NULL) {
        return met_fail(MET_EVALUE, "an image and an order of its axes are needed");
    }
    int seen = 0;
    for (int axis = 0; axis < MET_AXES; axis++) {
        if (order[axis] >= 0 && order[axis] < MET_AXES) {
            seen |= 1 << order[axis];
        }
    }
    if (seen != (1 << MET_AXES) - 1) {
        return met_fail(MET_EVALUE, "(%d, %d, %d) is no order of the axes 0, 1, 2", order[0], order[1], order[2]);
    }
    const met_image old = *image;
    for (int axis = 0; axis < MET_AXES; axis++) {
        image->shape[axis] = old.shape[order[axis]];
        image->strides[axis] = old.strides[order[axis]];
        image->mask_strides[axis] = old.mask_strides[order[axis]];
        if (old.bands == order[axis]) {
            image->bands = axis;
        }
    }
    return MET_OK;
}

/* ------------------------------------------------------------------ rows */

/* n values from `in` every `step` bytes, times the mask (NULL: none) every `mask_step` bytes, to n values at out. */
typedef void row_function(const char *in, ptrdiff_t step, const uint8_t *mask, ptrdiff_t mask_step, size_t n,
                          void *out);

/* A masked float is a product, so that NaN stays NaN, as image * mask has it; an integer is simply replaced. */
#define TIMES(FROM, TO, m, v) ((TO)(v) * (TO)((m) != 0))
#define KEEP(FROM, TO, m, v) ((m) != 0 ? (TO)(v) : (TO)0)

#define ROW(NAME, FROM, TO, MASKED) \
    static void NAME(const char *in, ptrdiff_t step, const uint8_t *mask, ptrdiff_t mask_step, size_t n, void *out) { \
        TO *to = out; \
        if (mask == NULL && step == (ptrdiff_t)sizeof(FROM)) { \
            const FROM *from = (const FROM *)(const void *)in; \
            for (size_t i = 0; i < n; i++) { \
                to[i] = (TO)from[i]; \
            } \
        } else if (mask == NULL) { \
            for (size_t i = 0; i < n; i++, in += step) { \
                to[i] = (TO)(*(const FROM *)(const void *)in); \
            } \
        } else { \
            for (size_t i = 0; i < n; i++, in += step, mask += mask_step) { \
                to[i] = MASKED(FROM, TO, *mask, *(const FROM *)(const void *)in); \
            } \
        } \
    }

#define ROWS_OF_INTEGER(NAME, FROM) \
    ROW(NAME##_own, FROM, FROM, KEEP) \
    ROW(NAME##_float, FROM, float, KEEP) \
    ROW(NAME##_double, FROM, double, KEEP)

/* bool is read as its byte, 0 or 1. */
ROWS_OF_INTEGER(uint8, uint8_t)
ROWS_OF_INTEGER(int8, int8_t)
ROWS_OF_INTEGER(uint16, uint16_t)
ROWS_OF_INTEGER(int16, int16_t)
ROWS_OF_INTEGER(uint32, uint32_t)
ROWS_OF_INTEGER(int32, int32_t)
ROWS_OF_INTEGER(uint64, uint64_t)
ROWS_OF_INTEGER(int64, int64_t)
ROW(float_own, float, float, TIMES)
ROW(float_double, float, double, TIMES)
ROW(double_own, double, double, TIMES)
ROW(double_float, double, float, TIMES)

static row_function *find_row(met_dtype from, met_dtype to) {
    static row_function *const rows[][3] = {
        [MET_BOOL] = {uint8_own, uint8_float, uint8_double},
        [MET_UINT8] = {uint8_own, uint8_float, uint8_double},
        [MET_INT8] = {int8_own, int8_float, int8_double},
        [MET_UINT16] = {uint16_own, uint16_float, uint16_double},
        [MET_INT16] = {int16_own, int16_float, int16_double},
        [MET_UINT32] = {uint32_own, uint32_float, uint32_double},
        [MET_INT32] = {int32_own, int32_float, int32_double},
        [MET_UINT64] = {uint64_own, uint64_float, uint64_double},
        [MET_INT64] = {int64_own, int64_float, int64_double},
        [MET_FLOAT32] = {float_own, float_own, float_double},
        [MET_FLOAT64] = {double_own, double_float, double_own},
    };
    return from == to ? rows[from][0] : to == MET_FLOAT32 ? rows[from][1] : to == MET_FLOAT64 ? rows[from][2] : NULL;
}

/* ------------------------------------------------------------------ reading */

typedef struct reading {
    const met_image *image;
    row_function *row;
    size_t value;           /* bytes of an output value */
    size_t steps[MET_AXES]; /* output values from one index to the next */
    int outer, middle;      /* the axes besides the last; `middle` is the one whose values lie closest */
    char *out;
} reading;

/* The slabs [from, to) of the outer axis, each a (middle, last) plane read in tiles. */
static void read_slabs(void *arg, size_t from, size_t to) {
    const reading *r = arg;
    const met_image *image = r->image;
    const int last = MET_AXES - 1;
    const size_t rows = image->shape[r->middle];
    const size_t columns = image->shape[last];
    const ptrdiff_t step = image->strides[last];
    const ptrdiff_t mask_step = image->mask_strides[last];
    const bool straight = step == (ptrdiff_t)met_dtype_size(image->dtype);
    const size_t tile = straight ? columns : TILE; /* whole rows where the memory runs along them */

    for (size_t slab = from; slab < to; slab++) {
        for (size_t row0 = 0; row0 < rows; row0 += TILE) {
            const size_t row1 = rows - row0 < TILE ? rows : row0 + TILE;
            for (size_t column = 0; column < columns; column += tile) {
                const size_t n = columns - column < tile ? columns - column : tile;
                for (size_t row = row0; row < row1; row++) {
                    const char *in = (const char *)image->data + (ptrdiff_t)slab * image->strides[r->outer] +
                                     (ptrdiff_t)row * image->strides[r->middle] + (ptrdiff_t)column * step;
                    const uint8_t *mask = image->mask;
                    if (mask != NULL) {
                        mask += (ptrdiff_t)slab * image->mask_strides[r->outer] +
                                (ptrdiff_t)row * image->mask_strides[r->middle] + (ptrdiff_t)column * mask_step;
                    }
                    const size_t at = slab * r->steps[r->outer] + row * r->steps[r->middle] + column;
                    r->row(in, step, mask, mask_step, n, r->out + at * r->value);
                }
            }
        }
    }
}

static ptrdiff_t distance(ptrdiff_t stride) {
    return stride < 0 ? -stride : stride;
}

int met_image_read(const met_image *image, met_dtype dtype, const met_parallel *pool, void *out) {
    if (image == NULL || image->data == NULL || out == NULL) {
        return met_fail(MET_EVALUE, "an image with data and memory for the result are needed");
    }
    row_function *row = find_row(image->dtype, dtype);
    if (row == NULL) {
        return met_fail(MET_ETYPE, "an image is read as float32, float64 or its own dtype");
    }
    const bool rows_lie_closer = distance(image->strides[0]) < distance(image->strides[1]);
    reading r = {.image = image,
                 .row = row,
                 .value = met_dtype_size(dtype),
                 .steps = {image->shape[1] * image->shape[2], image->shape[2], 1},
                 .outer = rows_lie_closer ? 1 : 0,
                 .middle = rows_lie_closer ? 0 : 1,
                 .out = out};
    if (met_image_is_plain(image, dtype)) {
        memcpy(out, image->data, met_image_size(image) * r.value);
        return MET_OK;
    }
    const size_t slab = image->shape[r.middle] * image->shape[2];
    const size_t grain = slab == 0 || slab > GRAIN ? 1 : GRAIN / slab;
    met_parallel_for(pool, image->shape[r.outer], grain, read_slabs, &r);
    return MET_OK;
}

/* ------------------------------------------------------------------ masks */

bool met_mask_is_full(const met_image *image) {
    if (image->mask == NULL || met_image_size(image) == 0) {
        return true;
    }
    size_t extent[MET_AXES]; /* an axis of stride 0 repeats the same bytes: one look is enough */
    int inner = MET_AXES - 1;
    for (int axis = 0; axis < MET_AXES; axis++) {
        extent[axis] = image->mask_strides[axis] == 0 ? 1 : image->shape[axis];
        if (image->mask_strides[axis] == 1 && extent[axis] > 1) {
            inner = axis;
        }
    }
    const int a = (inner + 1) % MET_AXES;
    const int b = (inner + 2) % MET_AXES;
    const ptrdiff_t step = image->mask_strides[inner];
    for (size_t i = 0; i < extent[a]; i++) {
        for (size_t j = 0; j < extent[b]; j++) {
            const uint8_t *row =
                image->mask + (ptrdiff_t)i * image->mask_strides[a] + (ptrdiff_t)j * image->mask_strides[b];
            if (step == 1) {
                if (memchr(row, 0, extent[inner]) != NULL) {
                    return false;
                }
                continue;
            }
            for (size_t k = 0; k < extent[inner]; k++) {
                if (row[(ptrdiff_t)k * step] == 0) {
                    return false;
                }
            }
        }
    }
    return true;
}

int met_image_nonfinite(const met_image *image, const met_parallel *pool, size_t *count, size_t position[MET_AXES]) {
    (void)image;
    (void)pool;
    (void)position;
    *count = 0;
    return MET_OK;
}
