/* hsi_mask.c - the mask of an HSI: what users may give for it, and which axes of the image it lies on. */
#include "band.h"
#include "errors.h"
#include "hsi_object.h"
#include "numpy_api.h"

#define MASK_KINDS "None, 'artificial', a torch tensor, a NumPy array or a list"

/* Which axes of the image the axes of a mask lie on, and whether its sizes allow that. */
typedef struct reading {
    int axis[MET_AXES];
    bool fits;
} reading;

static reading read_mask(const size_t *sizes, int axes, const int *places, const size_t *shape) {
    reading r = {.fits = true};
    for (int i = 0; i < axes; i++) {
        r.axis[i] = places[i];
        r.fits = r.fits && (sizes[i] == 1 || sizes[i] == shape[places[i]]);
    }
    return r;
}

/* Whether two readings of a mask are one: every axis that is longer than 1 lies on the same axis of the image. */
static bool same_reading(const reading *a, const reading *b, const size_t *sizes, int axes) {
    for (int i = 0; i < axes; i++) {
        if (sizes[i] != 1 && a->axis[i] != b->axis[i]) {
            return false;
        }
    }
    return true;
}

/* A reading in words: the letters of its axes in `letters`, and the three sizes that say so without a doubt. */
static PyObject *three_sizes(const reading *r, const size_t *sizes, int axes, PyObject *orientation, char *letters) {
    size_t whole[MET_AXES] = {1, 1, 1};
    for (int i = 0; i < axes; i++) {
        whole[r->axis[i]] = sizes[i];
        const char *letter = PyUnicode_AsUTF8(PyTuple_GET_ITEM(orientation, r->axis[i]));
        letters[i] = letter == NULL ? '?' : letter[0];
    }
    letters[axes] = '\0';
    return met_py_shape_tuple(whole, MET_AXES);
}

static void refuse_ambiguous(PyObject *mask, PyObject *image, PyObject *orientation, const reading readings[2],
                             const size_t *sizes, int axes) {
    char letters[2][MET_AXES + 1];
    PyObject *first = three_sizes(&readings[0], sizes, axes, orientation, letters[0]);
    PyObject *second = first == NULL ? NULL : three_sizes(&readings[1], sizes, axes, orientation, letters[1]);
    PyObject *from = second == NULL ? NULL : met_py_shape_of(mask);
    PyObject *to = from == NULL ? NULL : met_py_shape_of(image);
    if (to != NULL) {
        met_py_error(
            "ShapeMismatchError",
            "binary_mask of shape %R could mean two things in an image of shape %R: %s (then give it the shape "
            "%R) or %s (then %R)",
            from, to, letters[0], first, letters[1], second);
    }
    Py_XDECREF(to);
    Py_XDECREF(from);
    Py_XDECREF(second);
    Py_XDECREF(first);
}

static void refuse_shape(PyObject *mask, PyObject *image, PyObject *orientation, const reading *per_band,
                         const size_t *sizes, int axes) {
    char letters[MET_AXES + 1];
    PyObject *from = met_py_shape_of(mask);
    PyObject *to = from == NULL ? NULL : met_py_shape_of(image);
    PyObject *hint = to == NULL                    ? NULL
                     : axes == 1 && per_band->fits ? three_sizes(per_band, sizes, axes, orientation, letters)
                                                   : Py_NewRef(Py_None);
    if (hint == Py_None) {
        met_py_error("ShapeMismatchError", "binary_mask of shape %R can't be expanded to the shape %R of the image",
                     from, to);
    } else if (hint != NULL) {
        met_py_error("ShapeMismatchError",
                     "binary_mask of shape %R can't be expanded to the shape %R of the image; one value a band has the "
                     "shape %R",
                     from, to, hint);
    }
    Py_XDECREF(hint);
    Py_XDECREF(to);
    Py_XDECREF(from);
}

PyObject *met_py_expand_mask(PyObject *mask, PyObject *image, PyObject *orientation) {
    const int spectral = met_py_spectral_axis(orientation);
    const int spatial[2] = {spectral == 0 ? 1 : 0, spectral == 2 ? 1 : 2};
    static const int last[MET_AXES] = {0, 1, 2};
    size_t shape[MET_AXES], sizes[MET_AXES] = {0, 0, 0};
    const Py_ssize_t axes = met_py_count_axes(mask);
    PyObject *whole = NULL, *expanded = NULL, *sizes_object = axes < 0 ? NULL : met_py_shape_of(mask);
    if (sizes_object == NULL || met_py_shape(image, shape) < 0) {
        goto done;
    }
    if (axes > MET_AXES) {
        refuse_shape(mask, image, orientation, NULL, sizes, (int)axes);
        goto done;
    }
    const int n = (int)axes;
    for (int i = 0; i < n; i++) {
        sizes[i] = PyLong_AsSize_t(PyTuple_GET_ITEM(sizes_object, i));
    }
    /* as broadcasting has it, and by what the axes are: two the spatial ones, one that of the bands */
    const reading broadcast = read_mask(sizes, n, last + MET_AXES - n, shape);
    const reading meant = n == 2   ? read_mask(sizes, n, spatial, shape)
                          : n == 1 ? read_mask(sizes, n, &spectral, shape)
                                   : broadcast;
    if (broadcast.fits && meant.fits && !same_reading(&broadcast, &meant, sizes, n)) {
        const reading both[2] = {meant, broadcast};
        refuse_ambiguous(mask, image, orientation, both, sizes, n);
        goto done;
    }
    if (!broadcast.fits && !(n == 2 && meant.fits)) {
        refuse_shape(mask, image, orientation, &meant, sizes, n);
        goto done;
    }
    whole = broadcast.fits ? Py_NewRef(mask) : PyObject_CallMethod(mask, "unsqueeze", "i", spectral);
    PyObject *wanted = whole == NULL ? NULL : met_py_shape_tuple(shape, MET_AXES);
    expanded = wanted == NULL ? NULL : PyObject_CallMethod(whole, "expand", "(O)", wanted);
    Py_XDECREF(wanted);
done:
    Py_XDECREF(whole);
    Py_XDECREF(sizes_object);
    return expanded;
}

PyObject *met_py_full_mask(PyObject *image, PyObject *device) {
    PyObject *ones = met_py_import("torch", "ones");
    PyObject *boolean = ones == NULL ? NULL : met_py_import("torch", "bool");
    PyObject *shape = boolean == NULL ? NULL : PyObject_GetAttrString(image, "shape");
    PyObject *arguments = shape == NULL ? NULL : PyTuple_Pack(1, shape);
    PyObject *keywords = arguments == NULL ? NULL : Py_BuildValue("{s:O,s:O}", "dtype", boolean, "device", device);
    PyObject *mask = keywords == NULL ? NULL : PyObject_Call(ones, arguments, keywords);
    Py_XDECREF(keywords);
    Py_XDECREF(arguments);
    Py_XDECREF(shape);
    Py_XDECREF(boolean);
    Py_XDECREF(ones);
    return mask;
}

/* True where the first band is not zero: one plane, repeated along the spectral axis. */
static PyObject *artificial_mask(PyObject *image, PyObject *orientation) {
    const int axis = met_py_spectral_axis(orientation);
    met_image view;
    PyObject *keep = NULL, *mask = NULL;
    void *data;
    /* narrowed before it is viewed, so that images on other devices or in half precision give one band only */
    PyObject *band = PyObject_CallMethod(image, "narrow", "iii", axis, 0, 1);
    if (band != NULL && met_py_tensor_view(band, &view, &keep) == 0) {
        view.bands = axis;
        mask = met_py_tensor_new(view.shape, MET_AXES, "bool", &data);
        if (mask != NULL) {
            int status = met_band_nonzero(&view, 0, data);
            if (status != MET_OK) {
                met_py_raise(status);
                Py_CLEAR(mask);
            }
        }
    }
    Py_XDECREF(keep);
    Py_XDECREF(band);
    return mask;
}

/* Lists go through NumPy, which takes nested ones and arrays inside. */
PyObject *met_py_mask_tensor(PyObject *value) {
    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        return met_py_as_tensor(value, "Binary mask", MASK_KINDS);
    }
    PyObject *array = PyArray_FROM_O(value);
    if (array == NULL) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            met_py_error_of(PyExc_TypeError, "Binary mask must be " MASK_KINDS ", but the list given is no array");
        }
        return NULL;
    }
    PyObject *mask = met_py_as_tensor(array, "Binary mask", MASK_KINDS);
    Py_DECREF(array);
    return mask;
}

/* ValidationError for a mask of floats with values that are neither true nor false. */
static int check_mask(PyObject *mask) {
    PyObject *floating = PyObject_CallMethod(mask, "is_floating_point", NULL);
    Py_XDECREF(floating);
    if (floating != Py_True) {
        return floating == NULL ? -1 : 0;
    }
    PyObject *finite = PyObject_CallMethod(mask, "isfinite", NULL);
    PyObject *sum = finite == NULL ? NULL : PyObject_CallMethod(finite, "sum", NULL);
    PyObject *good = sum == NULL ? NULL : PyObject_CallMethod(sum, "item", NULL);
    PyObject *all = good == NULL ? NULL : PyObject_CallMethod(mask, "numel", NULL);
    int result = -1;
    if (all != NULL) {
        const Py_ssize_t total = PyLong_AsSsize_t(all);
        const Py_ssize_t bad = total - PyLong_AsSsize_t(good);
        result = bad == 0 ? 0
                          : met_py_error("ValidationError",
                                         "binary_mask must say true or false, but %zd of its %zd values are NaN or "
                                         "infinite",
                                         bad, total);
    }
    Py_XDECREF(all);
    Py_XDECREF(good);
    Py_XDECREF(sum);
    Py_XDECREF(finite);
    return result;
}

PyObject *met_py_mask_field(PyObject *value, PyObject *image, PyObject *orientation, PyObject *device) {
    PyObject *mask = NULL;
    if (value == Py_None) {
        return Py_NewRef(value);
    }
    if (!PyUnicode_Check(value)) {
        mask = met_py_mask_tensor(value);
    } else if (PyUnicode_CompareWithASCIIString(value, "artificial") == 0) {
        mask = artificial_mask(image, orientation);
    } else {
        met_py_error("ValidationError", "binary_mask must be None, an array, a tensor or 'artificial', not %R", value);
    }
    if (mask != NULL && check_mask(mask) < 0) {
        Py_CLEAR(mask);
    }
    if (mask != NULL) {
        PyObject *boolean = met_py_import("torch", "bool");
        PyObject *cast = boolean == NULL ? NULL : PyObject_CallMethod(mask, "to", "O", boolean);
        Py_XDECREF(boolean);
        Py_SETREF(mask, cast);
    }
    if (mask != NULL) {
        Py_SETREF(mask, met_py_move(mask, device));
    }
    return mask;
}
