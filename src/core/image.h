/*
 * image.h - raw views of hyperspectral images.
 *
 * Shapes are in the image's own axis order, whatever that is; strides are in bytes. A view owns nothing.
 */
#ifndef MET_IMAGE_H
#define MET_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MET_AXES 3

/*
 * A raw view of a hyperspectral image. The viewer owns nothing: data, mask and wavelengths belong to the caller.
 *   data        (shape[0], shape[1], shape[2]) values of `dtype`, byte strides; a stride of 0 repeats a value
 *   bands       the axis of the bands: 0, 1 or 2 (-1 where it does not matter, as for a baseline)
 *   rows        the axis of the rows, for messages; 0 where it is not known
 *   mask        one byte a value, non-zero = use; NULL = use all; byte strides, 0 along axes it does not depend on
 *   wavelengths (shape[bands],) nanometres; may be NULL
 */
typedef struct met_image {
    const void *data;
    met_dtype dtype;
    size_t shape[MET_AXES];
    ptrdiff_t strides[MET_AXES];
    int bands;
    int rows;
    const uint8_t *mask;
    ptrdiff_t mask_strides[MET_AXES];
    const double *wavelengths;
} met_image;

/* Number of values. */
size_t met_image_size(const met_image *image);

/* Whether the raw memory already is what met_image_read() would write: `dtype`, C-contiguous and without a mask. */
bool met_image_is_plain(const met_image *image, met_dtype dtype);

/*
 * Write the image where its mask is true and 0 elsewhere, C-contiguous, as `dtype` (MET_FLOAT32, MET_FLOAT64 or its
 * own) to out (size values). Values under the mask have no effect, NaN and infinity included. pool may be NULL.
 */
int met_image_read(const met_image *image, met_dtype dtype, const met_parallel *pool, void *out);

/*
 * Permute the axes of a view in place: axis i of the result is axis order[i] of the input. Strides move, data
 * does not.
 */
int met_image_permute(met_image *image, const int order[MET_AXES]);

/* Whether the mask uses every value; true where there is none. Reads each byte once, however often it is repeated. */
bool met_mask_is_full(const met_image *image);

/*
 * Count the values that are used (mask true) and NaN or infinite. position, which may be NULL, gets the indices of the
 * first of them in C order, and is left alone where there is none. Integer images have none and are not read.
 */
int met_image_nonfinite(const met_image *image, const met_parallel *pool, size_t *count, size_t position[MET_AXES]);

#ifdef __cplusplus
}
#endif

#endif
