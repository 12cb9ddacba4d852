/* saliency.h - the gradient of the output with respect to the image. */
#ifndef MET_SALIENCY_H
#define MET_SALIENCY_H

#include "method.h"

typedef struct met_saliency_options {
    bool absolute; /* |gradient| */
} met_saliency_options;

extern const met_method met_saliency;

#endif
