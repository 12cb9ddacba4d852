/* hsi_bands.c - what an HSI computes: the masked image, single bands, an RGB picture. The numbers come from the core. */
#include "band.h"
#include "errors.h"
#include "hsi_object.h"

#include <math.h>
#include <string.h>

/* The ranges of spyndex's band table, nm, ends included. */
static const struct {
    const char *name;
    double low, high;
} bands[] = {
    {"A", 400, 455},    {"B", 450, 530},    {"G", 510, 600},     {"G1", 510, 550},     {"N", 760, 900},
    {"N2", 850, 880},   {"R", 620, 690},    {"RE1", 695, 715},   {"RE2", 730, 750},    {"RE3", 765, 795},
    {"S1", 1550, 1750}, {"S2", 2080, 2350}, {"T", 10400, 12500}, {"T1", 10600, 11190}, {"T2", 11500, 12510},
    {"WV", 930, 960},   {"Y", 585, 625},
};

PyObject *met_py_band_ranges(void) {
    PyObject *ranges = PyDict_New();
    for (size_t i = 0; ranges != NULL && i < sizeof bands / sizeof *bands; i++) {
        PyObject *range = Py_BuildValue("(dd)", bands[i].low, bands[i].high);
        if (range == NULL || PyDict_SetItemString(ranges, bands[i].name, range) < 0) {
            Py_CLEAR(ranges);
        }
        Py_XDECREF(range);
    }
    return ranges;
}

/* ------------------------------------------------------------------ common */

/* Whether a tensor's method or attribute answers true; -1 with an exception. */
static int is_true(PyObject *tensor, const char *attribute) {
    PyObject *answer = PyObject_GetAttrString(tensor, attribute);
    int yes = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return yes;
}

/* A result of the core on the image's device and, for half precision, in its dtype. Consumes the reference. */
static PyObject *like_image(PyObject *result, PyObject *image, bool cast) {
    PyObject *device = result == NULL ? NULL : PyObject_GetAttrString(image, "device");
    PyObject *moved = device == NULL ? NULL : PyObject_CallMethod(result, "to", "O", device);
    Py_XDECREF(device);
    Py_XDECREF(result);
    if (moved != NULL && cast) {
        PyObject *dtype = PyObject_GetAttrString(image, "dtype");
        PyObject *typed = dtype == NULL ? NULL : PyObject_CallMethod(moved, "to", "O", dtype);
        Py_XDECREF(dtype);
        Py_SETREF(moved, typed);
    }
    return moved;
}

/* Whether the tensor's dtype is one that the core does not compute in; -1 with an exception. */
static int is_half(PyObject *tensor) {
    PyObject *size = PyObject_CallMethod(tensor, "element_size", NULL);
    int floating = size == NULL ? -1 : 0;
    if (size != NULL && PyLong_AsLong(size) == 2) {
        PyObject *answer = PyObject_CallMethod(tensor, "is_floating_point", NULL);
        floating = answer == NULL ? -1 : answer == Py_True;
        Py_XDECREF(answer);
    }
    Py_XDECREF(size);
    return floating;
}

/* Call meteors_c.hsi.<name>, the same computation in torch, for images whose gradients must flow on. */
static PyObject *with_gradient(const char *name, PyObject *arguments) {
    PyObject *function = arguments == NULL ? NULL : met_py_import("meteors_c.hsi", name);
    PyObject *result = function == NULL ? NULL : PyObject_Call(function, arguments, NULL);
    Py_XDECREF(function);
    Py_XDECREF(arguments);
    return result;
}

/* ------------------------------------------------------------------ the image */

/* The used values of what a view shows, 0 elsewhere, as a new tensor in the view's own dtype. */
static PyObject *read_view(const met_image *view, const size_t *shape, int axes) {
    void *data;
    int status;
    PyObject *result = met_py_tensor_new(shape, axes, met_py_dtype_name(view->dtype), &data);
    if (result == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS status = met_image_read(view, view->dtype, NULL, data);
    Py_END_ALLOW_THREADS if (status != MET_OK) {
        met_py_raise(status);
        Py_CLEAR(result);
    }
    return result;
}

PyObject *met_py_hsi_get_image(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"apply_mask", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    int apply_mask = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:get_image", names, &apply_mask) || met_py_hsi_ready(self) < 0) {
        return NULL;
    }
    if (!apply_mask) {
        return Py_NewRef(self->image);
    }
    const int graph = is_true(self->image, "requires_grad");
    const int half = graph < 0 ? -1 : is_half(self->image);
    if (half < 0) {
        return NULL;
    }
    if (graph || half) {
        PyObject *mask = self->mask == NULL ? Py_NewRef(Py_None) : met_py_hsi_mask(self);
        PyObject *used = mask == NULL      ? NULL
                         : mask == Py_None ? PyObject_CallMethod(self->image, "clone", NULL)
                                           : PyObject_CallMethod(self->image, "where", "Od", mask, 0.0);
        Py_XDECREF(mask);
        return used;
    }
    met_image view;
    PyObject *keep = NULL;
    if (met_py_image_view(object, &view, &keep) < 0) {
        return NULL;
    }
    PyObject *result = read_view(&view, view.shape, MET_AXES);
    Py_DECREF(keep);
    return like_image(result, self->image, false);
}

/* ------------------------------------------------------------------ one band */

/* A tensor's band, three axes kept, so that nothing else of it has to be moved or converted. */
static PyObject *narrow(PyObject *tensor, int axis, size_t index) {
    return PyObject_CallMethod(tensor, "narrow", "ini", axis, (Py_ssize_t)index, 1);
}

/* One band as a plane. Neither the image nor what it came from is written to. */
static PyObject *extract(met_py_hsi *self, size_t index, const met_band_options *options) {
    const int axis = met_py_spectral_axis(self->orientation);
    met_image view, mask_view;
    PyObject *mask = NULL, *mask_band = NULL, *keep = NULL, *mask_keep = NULL, *result = NULL;
    void *data;
    PyObject *band = narrow(self->image, axis, index);
    if (band == NULL) {
        return NULL;
    }
    if (options->apply_mask && self->mask != NULL) {
        if ((mask = met_py_hsi_mask(self)) == NULL || (mask_band = narrow(mask, axis, index)) == NULL) {
            goto done;
        }
    }
    const int graph = is_true(band, "requires_grad");
    const int half = graph < 0 ? -1 : is_half(band);
    if (half < 0) {
        goto done;
    }
    if (graph) {
        result =
            with_gradient("_stretched_band", Py_BuildValue("(OOiNN)", band, mask_band == NULL ? Py_None : mask_band,
                                                           axis, PyBool_FromLong(options->apply_min_cutoff),
                                                           PyBool_FromLong(options->normalize)));
        goto done;
    }
    if (met_py_tensor_view(band, &view, &keep) < 0) {
        goto done;
    }
    view.bands = axis;
    if (mask_band != NULL) {
        if (met_py_tensor_view(mask_band, &mask_view, &mask_keep) < 0) {
            goto done;
        }
        view.mask = mask_view.data;
        memcpy(view.mask_strides, mask_view.strides, sizeof view.mask_strides);
    }
    const size_t plane[2] = {view.shape[axis == 0 ? 1 : 0], view.shape[axis == 2 ? 1 : 2]};
    if (!options->normalize) {
        result = read_view(&view, plane, 2);
    } else {
        result = met_py_tensor_new(plane, 2, view.dtype == MET_FLOAT64 ? "float64" : "float32", &data);
        const int status = result == NULL ? MET_OK : met_band_extract(&view, 0, options, data);
        if (status != MET_OK) {
            met_py_raise(status);
            Py_CLEAR(result);
        }
    }
    result = like_image(result, self->image, half);
done:
    Py_XDECREF(mask_keep);
    Py_XDECREF(keep);
    Py_XDECREF(mask_band);
    Py_XDECREF(mask);
    Py_DECREF(band);
    return result;
}

/* ------------------------------------------------------------------ bands by name */

/* The image's wavelengths as doubles, one for each band; NULL with an exception. */
static PyObject *wavelengths_of(met_py_hsi *self, const double **values, size_t *count) {
    if (met_py_check_wavelengths(self->wavelengths, self->image, met_py_spectral_axis(self->orientation)) < 0) {
        return NULL;
    }
    PyObject *bytes = met_py_doubles(self->wavelengths, count);
    if (bytes != NULL) {
        *values = (const double *)(const void *)PyBytes_AS_STRING(bytes);
    }
    return bytes;
}

/* A number of nanometres as text in a buffer of 32 bytes. */
static const char *in_words(double value, char *buffer) {
    char *text = PyOS_double_to_string(value, 'g', 7, 0, NULL);
    PyOS_snprintf(buffer, 32, "%s", text == NULL ? "?" : text);
    PyMem_Free(text);
    return buffer;
}

/* BandSelectionError: the image has no wavelength at low-high. */
static void refuse_band(const char *name, double low, double high, const double *wavelengths, size_t count) {
    double first = INFINITY, last = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        first = wavelengths[i] < first ? wavelengths[i] : first;
        last = wavelengths[i] > last ? wavelengths[i] : last;
    }
    char numbers[4][32];
    met_py_error("BandSelectionError", "the image has no wavelength in band %s (%s-%s nm): it covers %s-%s nm", name,
                 in_words(low, numbers[0]), in_words(high, numbers[1]), in_words(first, numbers[2]),
                 in_words(last, numbers[3]));
}

/* The index of the band at the centre of a named range: 1, or 0 where the image has none, which is no error. */
static int find_named(const double *wavelengths, size_t count, const char *name, size_t *index, double range[2]) {
    size_t found = 0;
    while (strcmp(bands[found].name, name) != 0) {
        found++;
    }
    range[0] = bands[found].low;
    range[1] = bands[found].high;
    const int status = met_band_center(wavelengths, count, range[0], range[1], index);
    if (status != MET_OK && status != MET_EVALUE) {
        met_py_raise(status);
        return -1;
    }
    return status == MET_OK;
}

static PyObject *extract_named(met_py_hsi *self, const char *name, const met_band_options *options) {
    size_t count, index;
    double range[2];
    const double *wavelengths;
    PyObject *keep = wavelengths_of(self, &wavelengths, &count);
    if (keep == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    const int found = find_named(wavelengths, count, name, &index, range);
    if (found > 0) {
        result = extract(self, index, options);
    } else if (found == 0) {
        refuse_band(name, range[0], range[1], wavelengths, count);
    }
    Py_DECREF(keep);
    return result;
}

/* The table's own copy of a name, or NULL with an exception. */
static const char *known_band(PyObject *name) {
    for (size_t i = 0; PyUnicode_Check(name) && i < sizeof bands / sizeof *bands; i++) {
        if (PyUnicode_CompareWithASCIIString(name, bands[i].name) == 0) {
            return bands[i].name;
        }
    }
    met_py_error("BandSelectionError",
                 "band name %R not found: the names are A, B, G, G1, N, N2, R, RE1, RE2, RE3, S1, S2, T, T1, T2, WV, Y",
                 name);
    return NULL;
}

PyObject *met_py_hsi_extract_band(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"band_name", "selection_method", "apply_mask", "apply_min_cutoff", "normalize", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    PyObject *band, *method = NULL;
    int apply_mask = 1, apply_min_cutoff = 0, normalize = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Oppp:extract_band_by_name", names, &band, &method, &apply_mask,
                                     &apply_min_cutoff, &normalize) ||
        met_py_hsi_ready(self) < 0) {
        return NULL;
    }
    const char *name = known_band(band);
    if (name == NULL) {
        return NULL;
    }
    if (method != NULL && (!PyUnicode_Check(method) || PyUnicode_CompareWithASCIIString(method, "center") != 0)) {
        PyErr_Format(PyExc_NotImplementedError, "selection_method must be 'center', not %R", method);
        return NULL;
    }
    const met_band_options options = {apply_mask, apply_min_cutoff, normalize};
    return extract_named(self, name, &options);
}

/* ------------------------------------------------------------------ pictures */

static int check_channel_axis(PyObject *axis) {
    if (axis != Py_None && !PyLong_Check(axis)) {
        PyErr_Format(PyExc_TypeError, "output_channel_axis must be an int or None, not %s", Py_TYPE(axis)->tp_name);
        return -1;
    }
    return 0;
}

/* Three planes (consumed; NULL with an exception) stacked along an axis, None: where the bands of the image are. */
static PyObject *stack(met_py_hsi *self, PyObject *planes, PyObject *axis) {
    PyObject *torch = planes == NULL ? NULL : PyImport_ImportModule("torch");
    PyObject *at = torch == NULL     ? NULL
                   : axis != Py_None ? Py_NewRef(axis)
                                     : PyLong_FromLong(met_py_spectral_axis(self->orientation));
    PyObject *result = at == NULL ? NULL : PyObject_CallMethod(torch, "stack", "OO", planes, at);
    Py_XDECREF(at);
    Py_XDECREF(torch);
    Py_XDECREF(planes);
    return result;
}

/* The bands of three indices as a list of planes. */
static PyObject *extract_three(met_py_hsi *self, const size_t index[3], const met_band_options *options) {
    PyObject *planes = PyList_New(0);
    for (int i = 0; planes != NULL && i < 3; i++) {
        PyObject *plane = extract(self, index[i], options);
        if (plane == NULL || PyList_Append(planes, plane) < 0) {
            Py_CLEAR(planes);
        }
        Py_XDECREF(plane);
    }
    return planes;
}

static const char *const rgb_names[3] = {"R", "G", "B"};

PyObject *met_py_hsi_get_rgb(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"apply_mask", "apply_min_cutoff", "output_channel_axis", "normalize", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    int apply_mask = 1, apply_min_cutoff = 0, normalize = 1;
    PyObject *axis = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ppOp:get_rgb_image", names, &apply_mask, &apply_min_cutoff, &axis,
                                     &normalize) ||
        met_py_hsi_ready(self) < 0 || check_channel_axis(axis) < 0) {
        return NULL;
    }
    size_t count, index[3];
    double range[2];
    const double *wavelengths;
    PyObject *keep = wavelengths_of(self, &wavelengths, &count);
    for (int i = 0; keep != NULL && i < 3; i++) {
        const int found = find_named(wavelengths, count, rgb_names[i], &index[i], range);
        if (found <= 0) {
            if (found == 0) {
                refuse_band(rgb_names[i], range[0], range[1], wavelengths, count);
            }
            Py_CLEAR(keep);
        }
    }
    if (keep == NULL) {
        return NULL;
    }
    Py_DECREF(keep);
    const met_band_options options = {apply_mask, apply_min_cutoff, normalize};
    return stack(self, extract_three(self, index, &options), axis);
}

/* The bands that stand for red, green and blue, and the image's wavelengths (a new reference). */
static PyObject *substitutes(met_py_hsi *self, size_t rgb[3], const double **wavelengths) {
    size_t count;
    PyObject *keep = wavelengths_of(self, wavelengths, &count);
    const int status = keep == NULL ? MET_OK : met_band_substitutes(*wavelengths, count, rgb);
    if (status != MET_OK) {
        met_py_raise(status);
        Py_CLEAR(keep);
    }
    return keep;
}

PyObject *met_py_hsi_substitute_bands(PyObject *object, PyObject *unused) {
    met_py_hsi *self = (met_py_hsi *)object;
    size_t rgb[3];
    const double *wavelengths;
    (void)unused;
    PyObject *keep = met_py_hsi_ready(self) < 0 ? NULL : substitutes(self, rgb, &wavelengths);
    if (keep == NULL) {
        return NULL;
    }
    Py_DECREF(keep);
    return Py_BuildValue("(nnn)", (Py_ssize_t)rgb[0], (Py_ssize_t)rgb[1], (Py_ssize_t)rgb[2]);
}

/* "bands at 1000, 1300, 1600 nm": the wavelengths of the bands shown as red, green and blue, ascending, each once. */
static PyObject *name_bands(const size_t rgb[3], const double *wavelengths) {
    char numbers[3][32];
    PyObject *text = PyUnicode_FromString(rgb[0] == rgb[2] ? "band at " : "bands at ");
    for (int i = 2; text != NULL && i >= 0; i--) {
        if (i < 2 && rgb[i] == rgb[i + 1]) {
            continue;
        }
        PyObject *longer =
            PyUnicode_FromFormat("%U%s%s", text, i < 2 ? ", " : "", in_words(wavelengths[rgb[i]], numbers[i]));
        Py_SETREF(text, longer);
    }
    if (text != NULL) {
        PyObject *whole = PyUnicode_FromFormat("%U nm", text);
        Py_SETREF(text, whole);
    }
    return text;
}

PyObject *met_py_hsi_get_picture(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"apply_mask", "apply_min_cutoff", "output_channel_axis", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    int apply_mask = 1, apply_min_cutoff = 0, found = 1;
    PyObject *axis = Py_None, *note = NULL, *image = NULL, *keep = NULL;
    size_t count, index[3];
    double range[2];
    const double *wavelengths;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ppO:get_picture", names, &apply_mask, &apply_min_cutoff, &axis) ||
        met_py_hsi_ready(self) < 0 || check_channel_axis(axis) < 0 ||
        (keep = wavelengths_of(self, &wavelengths, &count)) == NULL) {
        return NULL;
    }
    for (int i = 0; found > 0 && i < 3; i++) {
        found = find_named(wavelengths, count, rgb_names[i], &index[i], range);
    }
    if (found == 0) {
        Py_SETREF(keep, substitutes(self, index, &wavelengths));
        note = keep == NULL ? NULL : name_bands(index, wavelengths);
    } else if (found > 0) {
        note = Py_NewRef(Py_None);
    }
    const met_band_options options = {
        .apply_mask = apply_mask, .apply_min_cutoff = apply_min_cutoff, .normalize = true};
    if (note != NULL) {
        image = stack(self, extract_three(self, index, &options), axis);
    }
    Py_XDECREF(keep);
    if (image == NULL) {
        Py_XDECREF(note);
        return NULL;
    }
    return Py_BuildValue("(NN)", image, note);
}

/* ------------------------------------------------------------------ bands by wavelength */

/* Numbers of a user as doubles, rounded as the image's wavelengths are, so that equal ones compare equal. */
static PyObject *wanted_wavelengths(met_py_hsi *self, PyObject *value, const double **values, size_t *count) {
    PyObject *given = met_py_wavelengths_field(value);
    PyObject *floating = given == NULL ? NULL : PyObject_CallMethod(self->wavelengths, "is_floating_point", NULL);
    PyObject *dtype = NULL;
    if (floating == Py_True) {
        dtype = PyObject_GetAttrString(self->wavelengths, "dtype");
    } else if (floating != NULL) {
        dtype = met_py_import("torch", "float64");
    }
    PyObject *rounded = dtype == NULL ? NULL : PyObject_CallMethod(given, "to", "O", dtype);
    PyObject *bytes = rounded == NULL ? NULL : met_py_doubles(rounded, count);
    if (bytes != NULL) {
        *values = (const double *)(const void *)PyBytes_AS_STRING(bytes);
    }
    Py_XDECREF(rounded);
    Py_XDECREF(dtype);
    Py_XDECREF(floating);
    Py_XDECREF(given);
    return bytes;
}

PyObject *met_py_hsi_central_slice(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"band_wavelengths", "apply_mask", "apply_min_cutoff", "normalize", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    PyObject *value, *keep = NULL, *wanted_keep = NULL, *result = NULL;
    const double *wavelengths, *wanted;
    size_t count, wanted_count, index;
    int apply_mask = 1, apply_min_cutoff = 0, normalize = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|ppp:_extract_central_slice_from_band", names, &value, &apply_mask,
                                     &apply_min_cutoff, &normalize) ||
        met_py_hsi_ready(self) < 0 || (keep = wavelengths_of(self, &wavelengths, &count)) == NULL ||
        (wanted_keep = wanted_wavelengths(self, value, &wanted, &wanted_count)) == NULL) {
        goto done;
    }
    if (wanted_count == 0) {
        PyErr_SetString(PyExc_ValueError, "band_wavelengths must hold at least one wavelength");
        goto done;
    }
    const int status = met_band_center_of(wavelengths, count, wanted, wanted_count, &index);
    const met_band_options options = {apply_mask, apply_min_cutoff, normalize};
    if (status == MET_OK) {
        result = extract(self, index, &options);
    } else if (status == MET_EINDEX) {
        PyErr_Format(PyExc_ValueError,
                     "every one of band_wavelengths must be a wavelength of the image, but %R holds others", value);
    } else {
        met_py_raise(status);
    }
done:
    Py_XDECREF(wanted_keep);
    Py_XDECREF(keep);
    return result;
}
