/* differences.h - what the outputs lose when a part of the image takes the baseline's values. */
#ifndef MET_DIFFERENCES_H
#define MET_DIFFERENCES_H

#include "method.h"

/*
 * f_t(x_i) - f_t(x_i with part k replaced), for every image i, explained output t and part k. A method puts this first in
 * its own structure, so that describe() finds the rest.
 */
typedef struct met_differences {
    const met_targets *wanted;
    size_t images;
    size_t parts;
    size_t outputs;      /* 0: not known yet */
    double *image;       /* (images, outputs) f(x) */
    double *differences; /* (images, outputs, parts) */
    int axes;            /* where all outputs are asked for: the shape of a sample's outputs */
    int64_t shape[MET_TARGET_AXES];
    size_t *position; /* (outputs,) of the wanted outputs among all */
} met_differences;

/*
 * Compute them, and spread them over the image.
 *   d         zeros
 *   parts     how many there are
 *   job       `kind`, `describe` and `scratch` of the parts, and the method's own structure: evaluation 0 is the image,
 *             k is part k - 1. Parts that hold the baseline's values already are not evaluated: they differ by 0
 *   wanted    outputs to explain, or none: then the target of each input
 *   spread    write the attributions (size,) from the differences (parts,) of one image and output
 */
int met_differences_run(met_differences *d, size_t parts, met_job *job, const met_call *call, const met_targets *wanted,
                        int (*spread)(const met_differences *d, const double *differences, const met_call *call,
                                      void *out),
                        met_results *results);

#endif
