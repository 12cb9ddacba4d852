/*
 * band.h - single bands of an image.
 */
#ifndef MET_BAND_H
#define MET_BAND_H

#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The position of the central wavelength of a range: of the m wavelengths in [low, high] (ends included), sorted,
 * start + m / 2 where start is the position of the smallest one. MET_EVALUE where none lies inside.
 */
int met_band_center(const double *wavelengths, size_t n, double low, double high, size_t *index);

typedef struct met_band_options {
    bool apply_mask;       /* multiply by the mask at the end */
    bool apply_min_cutoff; /* the minimum is that of the non-zero values, and the smallest values become 0 */
    bool normalize;        /* (x - min) / (max - min) where max > min */
} met_band_options;

/*
 * One band as a (rows, columns) plane, the two spatial axes in the image's order, C-contiguous, in the image's
 * dtype where that is a floating one, else MET_FLOAT32. The image is only read.
 */
int met_band_extract(const met_image *image, size_t band, const met_band_options *options, void *out);

/* View one band: `band` keeps three axes, that of the bands has size 1. MET_EINDEX where there is no such band. */
int met_band_view(const met_image *image, size_t index, met_image *band);

/* Write 1 to out where the band's value is not zero and 0 elsewhere, (rows, columns), C-contiguous, mask ignored. */
int met_band_nonzero(const met_image *image, size_t band, uint8_t *out);

#ifdef __cplusplus
}
#endif

#endif
