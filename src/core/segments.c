/* segments.c - features of an image: whole bands among them, and attributions from one number for each. */

#include "segments.h"

#include "buffer.h"

#define GRAIN ((size_t)1 << 16) /* fewer values are not worth a thread */

int met_segments_of_bands(const met_image *image, const met_segments *features, int32_t **of_band) {
    const size_t bands = image->shape[image->bands], *shape = image->shape;
    const ptrdiff_t *strides = features->strides;
    int32_t *found = met_allocate(bands, sizeof *found);
    if (found == NULL) {
        return met_fail(MET_ENOMEM, "the features of %zu bands do not fit into memory", bands);
    }
    for (size_t b = 0; b < bands; b++) {
        found[b] = features->ids[(ptrdiff_t)b * strides[image->bands]];
    }
    size_t looked[MET_AXES]; /* an axis along which ids only repeat is looked at once */
    for (int a = 0; a < MET_AXES; a++) {
        looked[a] = strides[a] == 0 ? 1 : shape[a];
    }
    for (size_t i = 0; i < looked[0]; i++) {
        for (size_t j = 0; j < looked[1]; j++) {
            const int32_t *row = features->ids + (ptrdiff_t)i * strides[0] + (ptrdiff_t)j * strides[1];
            for (size_t k = 0; k < looked[2]; k++) {
                const size_t at[MET_AXES] = {i, j, k};
                if (row[(ptrdiff_t)k * strides[2]] != found[at[image->bands]]) {
                    met_deallocate(found);
                    return MET_OK;
                }
            }
        }
    }
    *of_band = found;
    return MET_OK;
}

typedef struct spreading {
    const size_t *shape;
    const met_segments *features;
    const double *numbers;
    met_dtype dtype;
    void *out;
} spreading;

static void fill(const spreading *s, size_t at, size_t n, double value) {
    if (s->dtype == MET_FLOAT64) {
        for (size_t i = at; i < at + n; i++) {
            ((double *)s->out)[i] = value;
        }
    } else {
        const float number = (float)value;
        for (size_t i = at; i < at + n; i++) {
            ((float *)s->out)[i] = number;
        }
    }
}

static void spread_body(void *arg, size_t from, size_t to) {
    const spreading *s = arg;
    while (from < to) {
        const met_segment_row row = met_segments_row(s->features, s->shape, from, to);
        for (size_t i = 0, n; i < row.length; i += n) {
            int32_t id;
            n = met_segment_run(&row, i, &id);
            fill(s, from + i, n, id < 0 ? 0.0 : s->numbers[id]);
        }
        from += row.length;
    }
}

void met_segments_spread(const met_image *image, const met_segments *features, const double *numbers, met_dtype dtype,
                         const met_parallel *pool, void *out) {
    spreading s = {image->shape, features, numbers, dtype, out};
    met_parallel_for(pool, met_image_size(image), GRAIN, spread_body, &s);
}
