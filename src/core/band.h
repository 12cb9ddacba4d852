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
 * The band at the centre of a range: of the m wavelengths in [low, high] (ends included) in ascending order, equal
 * ones in the image's order, the one at m / 2, wherever it lies. MET_EVALUE where none lies inside.
 */
int met_band_center(const double *wavelengths, size_t n, double low, double high, size_t *index);

/* The first of n wavelengths that is not a finite number above 0; n where all are. */
size_t met_wavelengths_check(const double *wavelengths, size_t n);

/*
 * The band at the centre of a list of m wavelengths of the image: that of the one at m / 2 in ascending order. Of
 * bands with the same wavelength, the one that the list reaches by repeating it, or the last. MET_EVALUE where the
 * list is empty, MET_EINDEX where it holds a wavelength that the image does not have.
 */
int met_band_center_of(const double *wavelengths, size_t n, const double *wanted, size_t m, size_t *index);

/*
 * Bands to show as red, green and blue where an image lacks those: of the n bands in ascending order of wavelength
 * the ones at 5/6, 1/2 and 1/6, so that the longest wavelength is red. Fewer than three bands are repeated.
 */
int met_band_substitutes(const double *wavelengths, size_t n, size_t rgb[3]);

typedef struct met_band_options {
    bool apply_mask;       /* values outside the mask become 0, and do not count for the others */
    bool apply_min_cutoff; /* the minimum is that of the non-zero values, and the smallest values become 0 */
    bool normalize;        /* (x - min) / (max - min) where max > min, over finite values; others become 0 */
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
