/*
 * image.c - views of images: size, layout, permutation, reading the used values into plain memory, and counting those
 * that are not finite.
 *
 * Axes only ever move by their strides. Reading is the one place where values are copied: it goes through tiles, so
 * that a permuted view (bands last, say, over memory with bands first) costs about what a straight copy costs.
 */
#include "image.h"

#include "finite.h"

#include <stdatomic.h>
#include <string.h>

#define TILE 64                       /* values along either axis of a tile: 64 rows of one cache line or more each */
#define GRAIN ((size_t)1 << 16)       /* fewer values are not worth a thread */
#define COUNT_BLOCK ((size_t)1 << 12) /* values that a counter as narrow as they are counts */

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

/*
 * n values from `in` every `step` bytes to n values at out, 0 where the mask (NULL: none) has a 0, every `mask_step`
 * bytes. Values are selected and not multiplied, so that NaN and infinity under the mask have no effect.
 */
typedef void row_function(const char *in, ptrdiff_t step, const uint8_t *mask, ptrdiff_t mask_step, size_t n,
                          void *out);

#define ROW(NAME, FROM, TO) \
    static void NAME(const char *in, ptrdiff_t step, const uint8_t *mask, ptrdiff_t mask_step, size_t n, void *out) { \
        const FROM *from = (const FROM *)(const void *)in; \
        TO *to = out; \
        const bool straight = step == (ptrdiff_t)sizeof(FROM); \
        if (mask != NULL && mask_step == 0) { /* one byte for the whole row */ \
            if (*mask == 0) { \
                memset(out, 0, n * sizeof(TO)); \
                return; \
            } \
            mask = NULL; \
        } \
        if (mask == NULL && straight) { \
            for (size_t i = 0; i < n; i++) { \
                to[i] = (TO)from[i]; \
            } \
        } else if (mask == NULL) { \
            for (size_t i = 0; i < n; i++, in += step) { \
                to[i] = (TO)(*(const FROM *)(const void *)in); \
            } \
        } else if (straight && mask_step == 1) { \
            for (size_t i = 0; i < n; i++) { \
                const TO value = (TO)from[i]; \
                to[i] = mask[i] != 0 ? value : (TO)0; \
            } \
        } else { \
            for (size_t i = 0; i < n; i++, in += step, mask += mask_step) { \
                const TO value = (TO)(*(const FROM *)(const void *)in); \
                to[i] = *mask != 0 ? value : (TO)0; \
            } \
        } \
    }

#define ROWS_OF_INTEGER(NAME, FROM) \
    ROW(NAME##_own, FROM, FROM) \
    ROW(NAME##_float, FROM, float) \
    ROW(NAME##_double, FROM, double)

/* bool is read as its byte, 0 or 1. */
ROWS_OF_INTEGER(uint8, uint8_t)
ROWS_OF_INTEGER(int8, int8_t)
ROWS_OF_INTEGER(uint16, uint16_t)
ROWS_OF_INTEGER(int16, int16_t)
ROWS_OF_INTEGER(uint32, uint32_t)
ROWS_OF_INTEGER(int32, int32_t)
ROWS_OF_INTEGER(uint64, uint64_t)
ROWS_OF_INTEGER(int64, int64_t)
ROW(float_own, float, float)
ROW(float_double, float, double)
ROW(double_own, double, double)
ROW(double_float, double, float)

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

/* ------------------------------------------------------------------ values that are not finite */

/* How many of n values are used and NaN or infinite. Arguments as for row_function. */
typedef size_t count_function(const char *in, ptrdiff_t step, const uint8_t *mask, ptrdiff_t mask_step, size_t n);

/*
 * A value is NaN or infinite where all bits of its exponent are set. The mask is read only where there are such values:
 * most images have none.
 */
#define COUNT_ROW(NAME, BITS, EXPONENT) \
    static BITS NAME##_one(const char *in) { /* 1 where the value is not finite */ \
        BITS bits; \
        memcpy(&bits, in, sizeof bits); \
        return (BITS)((bits & (EXPONENT)) == (EXPONENT)); \
    } \
    static size_t NAME(const char *in, ptrdiff_t step, const uint8_t *mask, ptrdiff_t mask_step, size_t n) { \
        const bool straight = step == (ptrdiff_t)sizeof(BITS); \
        size_t count = 0; \
        if (mask != NULL && mask_step == 0) { \
            if (*mask == 0) { \
                return 0; \
            } \
            mask = NULL; \
        } \
        for (size_t from = 0; from < n; from += COUNT_BLOCK) { \
            const size_t to = n - from < COUNT_BLOCK ? n : from + COUNT_BLOCK; \
            BITS found = 0; /* as wide as a value, so that values and counts fill vectors alike */ \
            for (size_t i = from; straight && i < to; i++) { \
                found += NAME##_one(in + i * sizeof(BITS)); \
            } \
            for (size_t i = from; !straight && i < to; i++) { \
                found += NAME##_one(in + (ptrdiff_t)i * step); \
            } \
            if (found > 0 && mask != NULL) { \
                found = 0; \
                for (size_t i = from; straight && mask_step == 1 && i < to; i++) { \
                    const BITS used = mask[i] != 0; \
                    found += used & NAME##_one(in + i * sizeof(BITS)); \
                } \
                for (size_t i = from; !(straight && mask_step == 1) && i < to; i++) { \
                    const BITS used = mask[(ptrdiff_t)i * mask_step] != 0; \
                    found += used & NAME##_one(in + (ptrdiff_t)i * step); \
                } \
            } \
            count += (size_t)found; \
        } \
        return count; \
    }

COUNT_ROW(count_float, uint32_t, MET_FLOAT_EXPONENT)
COUNT_ROW(count_double, uint64_t, MET_DOUBLE_EXPONENT)

typedef struct counting {
    const met_image *image;
    count_function *row;
    int order[MET_AXES]; /* the axes from the largest stride to the smallest, so that memory is read as it lies */
    atomic_size_t count;
} counting;

/* Values that are not finite in the row along axis `last` that begins at (i, j) of the axes `a` and `b`. */
static size_t count_in_row(const counting *c, int a, size_t i, int b, size_t j, int last) {
    const met_image *image = c->image;
    const char *in = (const char *)image->data + (ptrdiff_t)i * image->strides[a] + (ptrdiff_t)j * image->strides[b];
    const uint8_t *mask = image->mask;
    if (mask != NULL) {
        mask += (ptrdiff_t)i * image->mask_strides[a] + (ptrdiff_t)j * image->mask_strides[b];
    }
    return c->row(in, image->strides[last], mask, image->mask_strides[last], image->shape[last]);
}

/* The rows [from, to), counted over both axes that are not the innermost in memory. */
static void count_rows(void *arg, size_t from, size_t to) {
    counting *c = arg;
    const size_t middle = c->image->shape[c->order[1]];
    size_t count = 0;
    for (size_t row = from; row < to; row++) {
        count += count_in_row(c, c->order[0], row / middle, c->order[1], row % middle, c->order[2]);
    }
    if (count > 0) {
        atomic_fetch_add(&c->count, count);
    }
}

/* The first value that is used and not finite, in C order; there is one. */
static void find_first(const counting *c, size_t position[MET_AXES]) {
    const met_image *image = c->image;
    for (size_t i = 0; i < image->shape[0]; i++) {
        for (size_t j = 0; j < image->shape[1]; j++) {
            if (count_in_row(c, 0, i, 1, j, 2) == 0) {
                continue;
            }
            const char *in =
                (const char *)image->data + (ptrdiff_t)i * image->strides[0] + (ptrdiff_t)j * image->strides[1];
            const uint8_t *mask = image->mask;
            if (mask != NULL) {
                mask += (ptrdiff_t)i * image->mask_strides[0] + (ptrdiff_t)j * image->mask_strides[1];
            }
            size_t k = 0;
            while (c->row(in + (ptrdiff_t)k * image->strides[2], image->strides[2],
                          mask == NULL ? NULL : mask + (ptrdiff_t)k * image->mask_strides[2], 0, 1) == 0) {
                k++;
            }
            position[0] = i;
            position[1] = j;
            position[2] = k;
            return;
        }
    }
}

int met_image_nonfinite(const met_image *image, const met_parallel *pool, size_t *count, size_t position[MET_AXES]) {
    if (image == NULL || image->data == NULL || count == NULL) {
        return met_fail(MET_EVALUE, "an image with data and a place for the count are needed");
    }
    if ((image->dtype != MET_FLOAT32 && image->dtype != MET_FLOAT64) || met_image_size(image) == 0) {
        *count = 0;
        return MET_OK;
    }
    counting c = {.image = image, .row = image->dtype == MET_FLOAT32 ? count_float : count_double, .order = {0, 1, 2}};
    atomic_init(&c.count, 0);
    for (int i = 1; i < MET_AXES; i++) { /* an axis of one index has no direction: it goes outside */
        for (int j = i; j > 0; j--) {
            const int outer = c.order[j - 1], inner = c.order[j];
            const bool swap =
                image->shape[outer] > 1 &&
                (image->shape[inner] == 1 || distance(image->strides[inner]) > distance(image->strides[outer]));
            c.order[j - 1] = swap ? inner : outer;
            c.order[j] = swap ? outer : inner;
        }
    }
    const size_t columns = image->shape[c.order[2]];
    const size_t grain = columns > GRAIN ? 1 : GRAIN / columns;
    met_parallel_for(pool, image->shape[c.order[0]] * image->shape[c.order[1]], grain, count_rows, &c);
    *count = atomic_load(&c.count);
    if (*count > 0 && position != NULL) {
        find_first(&c, position);
    }
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
