/* integrated_gradients.h - the gradient averaged on the path from a baseline to the image. */
#ifndef MET_INTEGRATED_GRADIENTS_H
#define MET_INTEGRATED_GRADIENTS_H

#include "method.h"
#include "quadrature.h"

typedef struct met_integrated_gradients_options {
    size_t steps;
    int rule; /* met_quadrature */
    bool multiply_by_inputs;
    double *delta; /* (images,) sum of attributions - (f(x) - f(b)); NULL: not wanted */
} met_integrated_gradients_options;

extern const met_method met_integrated_gradients;

#endif
