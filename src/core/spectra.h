/*
 * spectra.h - the spectrum that the attributions of a window give the pixel at its centre.
 */
#ifndef MET_SPECTRA_H
#define MET_SPECTRA_H

#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum met_window_part {
    MET_AT_CENTRE,  /* the values at the centre, index size / 2 along either spatial axis */
    MET_OVER_WINDOW /* sums over all pixels of the window */
} met_window_part;

/* out (bands,): one value for each band of `window`, of which `bands` must be known and which needs no mask. */
int met_window_spectrum(const met_image *window, met_window_part part, double *out);

#ifdef __cplusplus
}
#endif

#endif
