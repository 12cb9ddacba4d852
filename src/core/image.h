/* image.h - what image.c offers to band.c and to the bindings. Not part of the public header. */
#ifndef MET_IMAGE_H
#define MET_IMAGE_H

#include "met.h"

/*
 * Count the values that are used (mask true) and NaN or infinite. position, which may be NULL, gets the indices of the
 * first of them in C order, and is left alone where there is none. Integer images have none and are not read.
 */
int met_image_nonfinite(const met_image *image, const met_parallel *pool, size_t *count, size_t position[MET_AXES]);

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

/* Write 1 to out where the band's value is not zero and 0 elsewhere, (rows, columns), C-contiguous, mask ignored. */
int met_band_nonzero(const met_image *image, size_t band, uint8_t *out);

/* View one band: `band` keeps three axes, that of the bands has size 1. MET_EINDEX where there is no such band. */
int met_band_view(const met_image *image, size_t index, met_image *band);

/* Whether the mask uses every value; true where there is none. Reads each byte once, however often it is repeated. */
bool met_mask_is_full(const met_image *image);

#endif
