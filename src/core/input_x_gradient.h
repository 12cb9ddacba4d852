/* input_x_gradient.h - the image times the gradient of the output. */
#ifndef MET_INPUT_X_GRADIENT_H
#define MET_INPUT_X_GRADIENT_H

#include "method.h"

extern const met_method met_input_x_gradient; /* takes no options */

#endif
