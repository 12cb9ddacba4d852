/* occlusion.h - what the output loses when a window is covered. */
#ifndef MET_OCCLUSION_H
#define MET_OCCLUSION_H

#include "method.h"
#include "windows.h"

typedef struct met_occlusion_options {
    size_t window[MET_AXES];
    size_t stride[MET_AXES];
    met_targets outputs; /* explained instead of the target of each input, where there are any */
} met_occlusion_options;

extern const met_method met_occlusion;

#endif
