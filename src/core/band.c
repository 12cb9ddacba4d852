/*
 * band.c - single bands of an image: which one lies at the centre of a range of wavelengths, and its values stretched
 * to [0, 1] for the eye.
 */
#include "band.h"

#include "buffer.h"

#include <math.h>

int met_band_center(const double *wavelengths, size_t n, double low, double high, size_t *index) {
    size_t inside = 0;
    size_t start = 0; /* of the smallest wavelength inside */
    if (wavelengths == NULL || index == NULL) {
        return met_fail(MET_EVALUE, "wavelengths and a place for the index are needed");
    }
    for (size_t i = 0; i < n; i++) {
        if (wavelengths[i] >= low && wavelengths[i] <= high) {
            if (inside == 0 || wavelengths[i] < wavelengths[start]) {
                start = i;
            }
            inside++;
        }
    }
    if (inside == 0) {
        return met_fail(MET_EVALUE, "no wavelength lies in %g-%g nm", low, high);
    }
    if (start + inside / 2 >= n) {
        return met_fail(MET_EVALUE,
                        "the centre of %g-%g nm lies behind the last band: sort the bands by ascending wavelength", low,
                        high);
    }
    *index = start + inside / 2;
    return MET_OK;
}

int met_band_view(const met_image *image, size_t index, met_image *band) {
    if (image == NULL || band == NULL) {
        return met_fail(MET_EVALUE, "an image and a place for the band are needed");
    }
    const int axis = image->bands;
    if (axis < 0 || axis >= MET_AXES || index >= image->shape[axis]) {
        return met_fail(MET_EINDEX, "band %zu is not among the %zu bands of the image", index,
                        axis < 0 || axis >= MET_AXES ? (size_t)0 : image->shape[axis]);
    }
    met_image view = *image;
    view.shape[axis] = 1;
    view.data = (const char *)image->data + (ptrdiff_t)index * image->strides[axis];
    if (image->mask != NULL) {
        view.mask = image->mask + (ptrdiff_t)index * image->mask_strides[axis];
    }
    if (image->wavelengths != NULL) {
        view.wavelengths = image->wavelengths + index;
    }
    *band = view;
    return MET_OK;
}

/*
 * stretch_<type>(x, n, cutoff): x (n,) in place.
 *   min = the smallest value; with cutoff the smallest that is not zero
 *   x   = (x - min) / (max - min) where max > min; a NaN anywhere leaves x as it is
 *   with cutoff, values equal to the smallest become 0
 * A plane without a non-zero value has no such minimum: it stays zero.
 */
#define STRETCH(T) \
    static void stretch_##T(T *x, size_t n, bool cutoff) { \
        T low = (T)INFINITY; \
        T high = (T) - INFINITY; \
        T smallest = (T)INFINITY; \
        for (size_t i = 0; i < n; i++) { \
            if (isnan(x[i])) { \
                return; \
            } \
            if (x[i] < low && !(cutoff && x[i] == (T)0)) { \
                low = x[i]; \
            } \
            smallest = x[i] < smallest ? x[i] : smallest; \
            high = x[i] > high ? x[i] : high; \
        } \
        if (high > low) { \
            const T range = high - low; \
            for (size_t i = 0; i < n; i++) { \
                x[i] = (x[i] - low) / range; \
            } \
            smallest = (smallest - low) / range; \
        } \
        if (cutoff) { \
            for (size_t i = 0; i < n; i++) { \
                x[i] = x[i] == smallest ? (T)0 : x[i]; \
            } \
        } \
    }

STRETCH(float)
STRETCH(double)

int met_band_extract(const met_image *image, size_t index, const met_band_options *options, void *out) {
    met_image band;
    met_buffer *wide = NULL; /* integers are subtracted in double, so that none loses digits before the division */
    int status = met_band_view(image, index, &band);
    if (status != MET_OK) {
        return status;
    }
    if (options == NULL || out == NULL) {
        return met_fail(MET_EVALUE, "options and memory for the band are needed");
    }
    const size_t n = met_image_size(&band);
    const bool floating = band.dtype == MET_FLOAT32 || band.dtype == MET_FLOAT64;
    met_image bare = band;
    bare.mask = NULL;

    if (!options->normalize) {
        return met_image_read(options->apply_mask ? &band : &bare, floating ? band.dtype : MET_FLOAT32, NULL, out);
    }
    if (!floating) {
        status = met_buffer_new(n * sizeof(double), "a band", NULL, &wide);
        if (status != MET_OK) {
            return status;
        }
    }
    void *values = wide != NULL ? met_buffer_data(wide) : out;
    status = met_image_read(&bare, band.dtype == MET_FLOAT32 ? MET_FLOAT32 : MET_FLOAT64, NULL, values);
    if (status != MET_OK) {
        goto done;
    }
    if (band.dtype == MET_FLOAT32) {
        stretch_float(values, n, options->apply_min_cutoff);
    } else {
        stretch_double(values, n, options->apply_min_cutoff);
    }
    /* The stretched plane is an image of its own, under the mask of the band. */
    met_image plane = {.data = values,
                       .dtype = band.dtype == MET_FLOAT32 ? MET_FLOAT32 : MET_FLOAT64,
                       .bands = band.bands,
                       .mask = options->apply_mask ? band.mask : NULL};
    ptrdiff_t step = (ptrdiff_t)met_dtype_size(plane.dtype);
    for (int axis = MET_AXES - 1; axis >= 0; axis--) {
        plane.shape[axis] = band.shape[axis];
        plane.strides[axis] = step;
        plane.mask_strides[axis] = band.mask_strides[axis];
        step *= (ptrdiff_t)band.shape[axis];
    }
    if (plane.mask != NULL || wide != NULL) {
        status = met_image_read(&plane, floating ? plane.dtype : MET_FLOAT32, NULL, out);
    }
done:
    met_buffer_release(wide);
    return status;
}

int met_band_nonzero(const met_image *image, size_t index, uint8_t *out) {
    met_image band;
    met_buffer *values = NULL;
    int status = met_band_view(image, index, &band);
    if (status != MET_OK) {
        return status;
    }
    if (out == NULL) {
        return met_fail(MET_EVALUE, "memory for the mask is needed");
    }
    const size_t n = met_image_size(&band);
    band.mask = NULL;
    status = met_buffer_new(n * sizeof(double), "a band", NULL, &values);
    if (status != MET_OK) {
        return status;
    }
    const double *value = met_buffer_data(values);
    status = met_image_read(&band, MET_FLOAT64, NULL, met_buffer_data(values));
    for (size_t i = 0; status == MET_OK && i < n; i++) {
        out[i] = value[i] != 0.0;
    }
    met_buffer_release(values);
    return status;
}
