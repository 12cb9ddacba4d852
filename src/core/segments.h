/*
 * segments.h - the features of an image: superpixels, superbands, or any partition of its values.
 */
#ifndef MET_SEGMENTS_H
#define MET_SEGMENTS_H

#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The feature of each value of an image.
 *   ids      in [0, count), -1: in none; the host's memory
 *   strides  in ids, by axis of the image; 0 along an axis that the ids do not depend on
 *   count    features
 */
typedef struct met_segments {
    const int32_t *ids;
    ptrdiff_t strides[MET_AXES];
    size_t count;
} met_segments;

/* The ids of consecutive values that lie a constant step apart. */
typedef struct met_segment_row {
    const int32_t *ids;
    ptrdiff_t step;
    size_t length;
} met_segment_row;

/* The ids of the values from flat position `at` on, for as long as they lie a constant step apart, up to `to`. */
static inline met_segment_row met_segments_row(const met_segments *s, const size_t shape[MET_AXES], size_t at,
                                               size_t to) {
    const size_t row = at / shape[2], plane = row / shape[1];
    const size_t column = at % shape[2], line = row % shape[1];
    met_segment_row r = {.ids = s->ids + (ptrdiff_t)plane * s->strides[0] + (ptrdiff_t)line * s->strides[1] +
                                (ptrdiff_t)column * s->strides[2],
                         .step = s->strides[2],
                         .length = shape[2] - column};
    if (s->strides[1] == s->strides[2] * (ptrdiff_t)shape[2]) { /* the next line goes on where this one ends */
        r.length += (shape[1] - 1 - line) * shape[2];
    }
    r.length = met_min_size(r.length, to - at);
    return r;
}

/* How many values from `from` on are of the feature of that one, and its id. */
static inline size_t met_segment_run(const met_segment_row *row, size_t from, int32_t *id) {
    size_t n = 1;
    *id = row->ids[(ptrdiff_t)from * row->step];
    if (row->step == 0) {
        return row->length - from;
    }
    while (from + n < row->length && row->ids[(ptrdiff_t)(from + n) * row->step] == *id) {
        n++;
    }
    return n;
}

/* The feature of each band, (bands,), where no band holds values of two features; *of_band stays NULL elsewhere. */
int met_segments_of_bands(const met_image *image, const met_segments *features, int32_t **of_band);

/* out (size,) of a floating dtype = at each value the number of its feature, 0 outside of features. */
void met_segments_spread(const met_image *image, const met_segments *features, const double *numbers, met_dtype dtype,
                         const met_parallel *pool, void *out);

#ifdef __cplusplus
}
#endif

#endif
