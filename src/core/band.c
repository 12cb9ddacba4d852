/*
 * band.c - single bands of an image: which one lies at the centre of a range of wavelengths, which three to show where
 * there is no red, green and blue, and the values of one stretched to [0, 1] for the eye.
 */
#include "image.h"

#include <math.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ which band */

size_t met_wavelengths_check(const double *wavelengths, size_t n) {
    size_t i = 0;
    while (i < n && isfinite(wavelengths[i]) && wavelengths[i] > 0.0) {
        i++;
    }
    return i;
}

typedef struct place {
    double wavelength;
    size_t index;
} place;

/* Ascending wavelength; bands of one wavelength in the image's order. */
static int compare(const void *left, const void *right) {
    const place *a = left;
    const place *b = right;
    if (a->wavelength != b->wavelength) {
        return a->wavelength < b->wavelength ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

/* The bands with wavelengths in [low, high], sorted: *count of them, in memory that the caller deallocates. */
static int sort_bands(const double *wavelengths, size_t n, double low, double high, place **sorted, size_t *count) {
    place *found = met_allocate(n == 0 ? 1 : n, sizeof *found);
    if (found == NULL) {
        return met_fail(MET_ENOMEM, "the wavelengths of %zu bands do not fit into memory", n);
    }
    size_t inside = 0;
    for (size_t i = 0; i < n; i++) {
        if (wavelengths[i] >= low && wavelengths[i] <= high) {
            found[inside++] = (place){wavelengths[i], i};
        }
    }
    qsort(found, inside, sizeof *found, compare);
    *sorted = found;
    *count = inside;
    return MET_OK;
}

int met_band_center(const double *wavelengths, size_t n, double low, double high, size_t *index) {
    place *sorted = NULL;
    size_t inside = 0;
    if (wavelengths == NULL || index == NULL) {
        return met_fail(MET_EVALUE, "wavelengths and a place for the index are needed");
    }
    int status = sort_bands(wavelengths, n, low, high, &sorted, &inside);
    if (status == MET_OK && inside == 0) {
        status = met_fail(MET_EVALUE, "no wavelength lies in %g-%g nm", low, high);
    }
    if (status == MET_OK) {
        *index = sorted[inside / 2].index;
    }
    met_deallocate(sorted);
    return status;
}

int met_band_center_of(const double *wavelengths, size_t n, const double *wanted, size_t m, size_t *index) {
    place *sorted = NULL;
    size_t count = 0;
    if (wavelengths == NULL || wanted == NULL || index == NULL || m == 0) {
        return met_fail(MET_EVALUE, "wavelengths, at least one that is wanted and a place for the index are needed");
    }
    for (size_t i = 0; i < m; i++) {
        size_t at = 0;
        while (at < n && wavelengths[at] != wanted[i]) {
            at++;
        }
        if (at == n) {
            return met_fail(MET_EINDEX, "the image has no band at %g nm", wanted[i]);
        }
    }
    int status = sort_bands(wanted, m, -INFINITY, INFINITY, &sorted, &count);
    if (status != MET_OK) {
        return status;
    }
    const double wavelength = sorted[m / 2].wavelength;
    size_t repeats = 0; /* how often the list has had this wavelength before */
    while (repeats < m / 2 && sorted[m / 2 - repeats - 1].wavelength == wavelength) {
        repeats++;
    }
    for (size_t i = 0, seen = 0; i < n && seen <= repeats; i++) {
        if (wavelengths[i] == wavelength) {
            *index = i;
            seen++;
        }
    }
    met_deallocate(sorted);
    return MET_OK;
}

int met_band_substitutes(const double *wavelengths, size_t n, size_t rgb[3]) {
    place *sorted = NULL;
    size_t count = 0;
    if (wavelengths == NULL || rgb == NULL) {
        return met_fail(MET_EVALUE, "wavelengths and a place for three bands are needed");
    }
    int status = sort_bands(wavelengths, n, -INFINITY, INFINITY, &sorted, &count);
    if (status == MET_OK && count == 0) {
        status = met_fail(MET_EVALUE, "an image without wavelengths has no bands to show");
    }
    for (size_t colour = 0; status == MET_OK && colour < 3; colour++) {
        rgb[colour] = sorted[count * (5 - 2 * colour) / 6].index;
    }
    met_deallocate(sorted);
    return status;
}

/* ------------------------------------------------------------------ one band */

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
 * Values that do not count are NaN here, whatever they were.
 *
 * hide_<type>(band, x): x (size,) holds the band's values, C-contiguous; those outside its mask become NaN.
 *
 * stretch_<type>(x, n, cutoff): x (n,) in place, over the finite values; the others become 0.
 *   min = the smallest value; with cutoff the smallest that is not zero
 *   x   = (x - min) / (max - min) where max > min
 *   with cutoff, values equal to the smallest become 0
 * A plane without a non-zero value has no such minimum: it stays zero. Where max - min is too large for the type, all
 * three are halved.
 */
#define STRETCH(T) \
    static void hide_##T(const met_image *band, T *x) { \
        size_t at = 0; \
        for (size_t i = 0; i < band->shape[0]; i++) { \
            for (size_t j = 0; j < band->shape[1]; j++) { \
                const uint8_t *mask = \
                    band->mask + (ptrdiff_t)i * band->mask_strides[0] + (ptrdiff_t)j * band->mask_strides[1]; \
                for (size_t k = 0; k < band->shape[2]; k++, at++, mask += band->mask_strides[2]) { \
                    x[at] = *mask != 0 ? x[at] : (T)NAN; \
                } \
            } \
        } \
    } \
    static void stretch_##T(T *x, size_t n, bool cutoff) { \
        T low = (T)INFINITY; \
        T high = (T) - INFINITY; \
        T smallest = (T)INFINITY; \
        for (size_t i = 0; i < n; i++) { \
            if (!isfinite(x[i])) { \
                continue; \
            } \
            if (x[i] < low && !(cutoff && x[i] == (T)0)) { \
                low = x[i]; \
            } \
            smallest = x[i] < smallest ? x[i] : smallest; \
            high = x[i] > high ? x[i] : high; \
        } \
        T scale = (T)1; \
        T range = (T)1; \
        if (high > low) { \
            scale = isfinite(high - low) ? (T)1 : (T)0.5; \
            low *= scale; \
            range = high * scale - low; \
        } else { /* no value, or one level: it stays */ \
            low = (T)0; \
        } \
        smallest = (smallest * scale - low) / range; \
        for (size_t i = 0; i < n; i++) { \
            const T value = (x[i] * scale - low) / range; \
            x[i] = !isfinite(x[i]) || (cutoff && value == smallest) ? (T)0 : value; \
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
    const bool masked = options->apply_mask && band.mask != NULL;
    met_image bare = band;
    bare.mask = NULL;

    if (!options->normalize) {
        return met_image_read(masked ? &band : &bare, floating ? band.dtype : MET_FLOAT32, NULL, out);
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
        if (masked) {
            hide_float(&band, values);
        }
        stretch_float(values, n, options->apply_min_cutoff);
    } else {
        if (masked) {
            hide_double(&band, values);
        }
        stretch_double(values, n, options->apply_min_cutoff);
    }
    if (wide != NULL) {
        const double *from = values;
        float *to = out;
        for (size_t i = 0; i < n; i++) {
            to[i] = (float)from[i];
        }
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
