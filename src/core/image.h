/* image.h - what image.c offers to band.c and to the bindings. Not part of the public header. */
#ifndef MET_IMAGE_H
#define MET_IMAGE_H

#include "met.h"

/* Write 1 to out where the band's value is not zero and 0 elsewhere, (rows, columns), C-contiguous, mask ignored. */
int met_band_nonzero(const met_image *image, size_t band, uint8_t *out);

/* View one band: `band` keeps three axes, that of the bands has size 1. MET_EINDEX where there is no such band. */
int met_band_view(const met_image *image, size_t index, met_image *band);

/* Whether the mask uses every value; true where there is none. Reads each byte once, however often it is repeated. */
bool met_mask_is_full(const met_image *image);

#endif
