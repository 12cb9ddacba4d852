/*
 * measures.h - sums over the features of an image and its baseline: distances of samples come from them.
 */
#ifndef MET_MEASURES_H
#define MET_MEASURES_H

#include "sample.h"

/*
 * Of each feature, from the values x of the image and b of the baseline at its places. (count + 1,) each: place 0 is that
 * of values without a feature, feature j is at place j + 1.
 */
typedef struct met_measures {
    uint8_t *differs;   /* whether x is not b everywhere */
    double *image;      /* sum of x^2; NULL where only `differs` is wanted, and so are the next ones */
    double *baseline;   /* sum of b^2 */
    double *cross;      /* sum of x b */
    double *difference; /* sum of (x - b)^2 */
} met_measures;

/* Cleared measures of so many places; `sums`: not only `differs`. met_measures_free() is due either way. */
int met_measures_new(size_t places, bool sums, met_measures *m);
void met_measures_free(met_measures *m);
/* Add those of an image. */
void met_measure(const met_base *base, const met_segments *features, const met_measures *m);

#endif
