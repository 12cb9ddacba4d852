/* spectra.c - spectra of windows: sums in double, in the order of the pixels. */
#include "spectra.h"

#include "buffer.h"

int met_window_spectrum(const met_image *window, met_window_part part, double *out) {
    if (window->bands < 0 || window->bands >= MET_AXES || met_image_size(window) == 0) {
        return met_fail(MET_EVALUE, "a window needs pixels, and an axis of bands");
    }
    met_image view = *window;
    const int order[MET_AXES] = {view.bands, view.bands == 0 ? 1 : 0, view.bands == 2 ? 1 : 2};
    int status = met_image_permute(&view, order);
    for (int axis = 1; part == MET_AT_CENTRE && axis < MET_AXES; axis++) {
        view.data = (const char *)view.data + (ptrdiff_t)(view.shape[axis] / 2) * view.strides[axis];
        view.shape[axis] = 1;
    }
    if (part == MET_AT_CENTRE || status != MET_OK) {
        return status == MET_OK ? met_image_read(&view, MET_FLOAT64, NULL, out) : status;
    }
    const size_t bands = view.shape[0], pixels = view.shape[1] * view.shape[2];
    double *values = met_allocate(bands * pixels, sizeof *values);
    if (values == NULL) {
        return met_fail(MET_ENOMEM, "a window of %zu values does not fit into memory", bands * pixels);
    }
    status = met_image_read(&view, MET_FLOAT64, NULL, values);
    for (size_t band = 0; status == MET_OK && band < bands; band++) {
        out[band] = 0.0;
        for (size_t pixel = 0; pixel < pixels; pixel++) {
            out[band] += values[band * pixels + pixel];
        }
    }
    met_deallocate(values);
    return status;
}
