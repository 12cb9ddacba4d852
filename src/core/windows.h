/*
 * windows.h - windows that slide over an image.
 */
#ifndef MET_WINDOWS_H
#define MET_WINDOWS_H

#include "platform.h"
#include "sample.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Windows that slide over an image: along axis a, ceil((shape - window) / stride) + 1 of them, at 0, stride,
 * 2 stride, ..., cut off at the border. Numbered in row-major order, the last axis fastest.
 */
typedef struct met_windows {
    size_t shape[MET_AXES];
    size_t window[MET_AXES];
    size_t stride[MET_AXES];
    size_t count[MET_AXES];
} met_windows;

/* MET_EVALUE where a window is empty, larger than the image, or leaves gaps. */
int met_windows_new(const size_t shape[MET_AXES], const size_t window[MET_AXES], const size_t stride[MET_AXES],
                    met_windows *out);
size_t met_windows_number(const met_windows *w);
void met_windows_box(const met_windows *w, size_t k, met_box *box);
/* out (size of the image,) of `dtype`: the mean of value (number of windows,) over the windows that cover it. */
int met_windows_mean(const met_windows *w, const double *value, met_dtype dtype, const met_parallel *pool, void *out);

#ifdef __cplusplus
}
#endif

#endif
