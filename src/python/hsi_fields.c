/* hsi_fields.c - the fields of an HSI: each value of a user checked and converted, on its own. */
#include "band.h"
#include "errors.h"
#include "hsi_object.h"
#include "numpy_api.h"

#include <math.h>

#define WAVELENGTHS_KINDS "a tensor, an array, a list, a tuple or a range of numbers"

/* ------------------------------------------------------------------ image, wavelengths */

Py_ssize_t met_py_count_axes(PyObject *tensor) {
    PyObject *axes = PyObject_GetAttrString(tensor, "ndim");
    Py_ssize_t n = axes == NULL ? -1 : PyLong_AsSsize_t(axes);
    Py_XDECREF(axes);
    return n;
}

PyObject *met_py_shape_of(PyObject *tensor) {
    PyObject *shape = PyObject_GetAttrString(tensor, "shape");
    PyObject *tuple = shape == NULL ? NULL : PySequence_Tuple(shape);
    PyObject *plain = tuple == NULL ? NULL : PyTuple_GetSlice(tuple, 0, PyTuple_GET_SIZE(tuple));
    Py_XDECREF(shape);
    Py_XDECREF(tuple);
    return plain;
}

PyObject *met_py_image_field(PyObject *value) {
    size_t shape[MET_AXES];
    PyObject *image = met_py_as_tensor(value, "Image", MET_PY_ARRAY);
    PyObject *sizes = image == NULL ? NULL : PyObject_GetAttrString(image, "shape");
    if (sizes == NULL) {
        Py_CLEAR(image);
    } else if (met_py_count_axes(image) != MET_AXES) {
        PyErr_Format(PyExc_TypeError, "Image must be 3-D (bands and two spatial axes), but its shape is %S", sizes);
        Py_CLEAR(image);
    } else if (met_py_shape(image, shape) < 0) {
        Py_CLEAR(image);
    } else if (shape[0] == 0 || shape[1] == 0 || shape[2] == 0) {
        met_py_error("ValidationError", "Image must hold values, but its shape is %S", sizes);
        Py_CLEAR(image);
    }
    Py_XDECREF(sizes);
    return image;
}

/* TypeError for a bool among the values of a sequence: torch would make a number of it. */
static int refuse_bools(PyObject *values) {
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(values); i++) {
        PyObject *value = PySequence_Fast_GET_ITEM(values, i);
        if (PyBool_Check(value) || PyArray_IsScalar(value, Bool)) {
            PyErr_Format(PyExc_TypeError, "wavelengths[%zd] is %R, but must be a number of nanometres", i, value);
            return -1;
        }
    }
    return 0;
}

static PyObject *wavelengths_tensor(PyObject *value) {
    PyObject *listed = NULL;
    if (PyList_Check(value) || PyTuple_Check(value) || PyRange_Check(value)) {
        PyObject *values = PySequence_List(value);
        PyObject *torch = values == NULL || refuse_bools(values) < 0 ? NULL : PyImport_ImportModule("torch");
        if (torch == NULL) {
            Py_XDECREF(values);
            return NULL;
        }
        listed = PyObject_CallMethod(torch, "tensor", "(O)", values);
        Py_DECREF(torch);
        Py_DECREF(values);
        if (listed == NULL) {
            if (PyErr_ExceptionMatches(PyExc_Exception)) {
                met_py_error_of(PyExc_TypeError,
                                "The wavelengths must be " WAVELENGTHS_KINDS ", but the values given are no numbers");
            }
            return NULL;
        }
    }
    PyObject *wavelengths = met_py_as_tensor(listed != NULL ? listed : value, "The wavelengths", WAVELENGTHS_KINDS);
    Py_XDECREF(listed);
    PyObject *dtype = wavelengths == NULL ? NULL : PyObject_GetAttrString(wavelengths, "dtype");
    PyObject *boolean = dtype == NULL ? NULL : met_py_import("torch", "bool");
    if (boolean == NULL) {
        Py_CLEAR(wavelengths);
    } else if (dtype == boolean) {
        PyErr_SetString(PyExc_TypeError, "the wavelengths must be numbers of nanometres, but wavelengths[0] is a bool");
        Py_CLEAR(wavelengths);
    }
    Py_XDECREF(boolean);
    Py_XDECREF(dtype);
    return wavelengths;
}

/* ValidationError that names the first wavelength that is none. */
static int check_values(PyObject *wavelengths) {
    size_t count;
    PyObject *bytes = met_py_doubles(wavelengths, &count);
    if (bytes == NULL) {
        return -1;
    }
    const double *values = (const double *)(const void *)PyBytes_AS_STRING(bytes);
    const size_t first = met_wavelengths_check(values, count);
    int result = 0;
    if (first < count) {
        char *text = PyOS_double_to_string(values[first], 'r', 0, 0, NULL);
        result =
            met_py_error("ValidationError", "wavelengths[%zu] is %s, but must be a finite number of nanometres above 0",
                         first, text == NULL ? "?" : text);
        PyMem_Free(text);
    }
    Py_DECREF(bytes);
    return result;
}

PyObject *met_py_wavelengths_field(PyObject *value) {
    PyObject *wavelengths = wavelengths_tensor(value);
    if (wavelengths != NULL && met_py_count_axes(wavelengths) != 1) {
        PyObject *shape = met_py_shape_of(wavelengths);
        if (shape != NULL) {
            met_py_error("ShapeMismatchError", "wavelengths must be 1-D, one for each band, but their shape is %R",
                         shape);
        }
        Py_XDECREF(shape);
        Py_CLEAR(wavelengths);
    }
    if (wavelengths != NULL && check_values(wavelengths) < 0) {
        Py_CLEAR(wavelengths);
    }
    return wavelengths;
}

PyObject *met_py_wavelengths_in_nm(PyObject *value, PyObject *unit) {
    PyObject *wavelengths = wavelengths_tensor(value);
    PyObject *convert = wavelengths == NULL ? NULL : met_py_import("meteors_c.io._wavelengths", "tensor_in_nm");
    PyObject *converted = convert == NULL ? NULL : PyObject_CallFunctionObjArgs(convert, wavelengths, unit, NULL);
    Py_XDECREF(convert);
    Py_XDECREF(wavelengths);
    return converted;
}

/*
 * Whole numbers may count bands, and nothing is imaged at less than 0.3 or, in numbers with fractions, at more than 20
 * micrometres.
 */
int met_py_warn_of_micrometres(PyObject *wavelengths) {
    size_t count;
    PyObject *bytes = met_py_doubles(wavelengths, &count);
    if (bytes == NULL) {
        return -1;
    }
    const double *values = (const double *)(const void *)PyBytes_AS_STRING(bytes);
    double low = INFINITY, high = 0;
    bool fractions = false;
    for (size_t i = 0; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
        fractions = fractions || values[i] != floor(values[i]);
    }
    Py_DECREF(bytes);
    if (!fractions || low < 0.3 || high > 20) {
        return 0;
    }
    char *first = PyOS_double_to_string(low, 'g', 6, 0, NULL);
    char *last = PyOS_double_to_string(high, 'g', 6, 0, NULL);
    const int failed =
        first == NULL || last == NULL
            ? -1
            : PyErr_WarnFormat(PyExc_UserWarning, 1,
                               "wavelengths from %s to %s look like micrometres, but are taken for nm: give "
                               "wavelength_unit='um', or 'nm' where they are",
                               first, last);
    PyMem_Free(first);
    PyMem_Free(last);
    return failed;
}

int met_py_check_wavelengths(PyObject *wavelengths, PyObject *image, int axis) {
    size_t shape[MET_AXES];
    PyObject *count = PyObject_CallMethod(wavelengths, "numel", NULL);
    size_t n = count == NULL ? 0 : PyLong_AsSize_t(count);
    Py_XDECREF(count);
    if (PyErr_Occurred() || met_py_shape(image, shape) < 0) {
        return -1;
    }
    if (axis < 0 || axis >= MET_AXES) {
        PyErr_Format(PyExc_ValueError, "the spectral axis must be 0, 1 or 2, not %d", axis);
        return -1;
    }
    if (n != shape[axis]) {
        return met_py_error("ShapeMismatchError",
                            "wavelengths must have one value for each band, but there are %zu wavelengths and %zu "
                            "bands (axis %d of the image)",
                            n, shape[axis], axis);
    }
    return 0;
}

/* ------------------------------------------------------------------ orientation, device */

PyObject *met_py_orientation_field(PyObject *value) {
    PyObject *letters = NULL;
    int seen = 0;
    if (PyTuple_Check(value) || PyList_Check(value) || PyUnicode_Check(value)) {
        letters = PySequence_Tuple(value);
        if (letters == NULL) {
            return NULL;
        }
    }
    for (Py_ssize_t i = 0; letters != NULL && i < PyTuple_GET_SIZE(letters); i++) {
        PyObject *letter = PyTuple_GET_ITEM(letters, i);
        for (int axis = 0; axis < MET_AXES && PyUnicode_Check(letter); axis++) {
            const char known[2] = {"CHW"[axis], '\0'};
            if (PyUnicode_CompareWithASCIIString(letter, known) == 0) {
                seen |= 1 << axis;
            }
        }
    }
    if (letters == NULL || PyTuple_GET_SIZE(letters) != MET_AXES || seen != (1 << MET_AXES) - 1) {
        met_py_error("OrientationError",
                     "orientation must be a tuple, list or string of the letters C, H and W in any order, not %R",
                     value);
        Py_CLEAR(letters);
    }
    return letters;
}

int met_py_axis(PyObject *orientation, const char *letter) {
    for (int axis = 0; axis < MET_AXES; axis++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(orientation, axis), letter) == 0) {
            return axis;
        }
    }
    return -1;
}

PyObject *met_py_device_field(PyObject *value) {
    PyObject *type = met_py_import("torch", "device");
    PyObject *device = NULL;
    int is = type == NULL ? -1 : PyObject_IsInstance(value, type);
    if (is > 0) {
        device = Py_NewRef(value);
    } else if (is == 0 && PyUnicode_Check(value)) {
        device = PyObject_CallOneArg(type, value);
        if (device == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            met_py_error("DeviceError", "device %R is not one that torch knows; give one like 'cpu' or 'cuda:0'",
                         value);
        }
    } else if (is == 0) {
        PyErr_Format(PyExc_TypeError, "device must be a string or a torch.device, not %s", Py_TYPE(value)->tp_name);
    }
    Py_XDECREF(type);
    return device;
}

/* DeviceError with the words of the pending exception, which becomes its cause. */
static void refuse_device(PyObject *device) {
    PyObject *type, *reason, *trace;
    PyErr_Fetch(&type, &reason, &trace);
    PyErr_NormalizeException(&type, &reason, &trace);
    PyObject *shown = Py_XNewRef(reason);
    PyErr_Restore(type, reason, trace);
    met_py_error("DeviceError", "device %S can't be used here: %S", device, shown);
    Py_XDECREF(shown);
}

PyObject *met_py_move(PyObject *tensor, PyObject *device) {
    PyObject *kind = PyObject_GetAttrString(device, "type");
    PyObject *moved = NULL;
    if (kind != NULL && PyUnicode_CompareWithASCIIString(kind, "meta") == 0) {
        met_py_error("DeviceError", "device 'meta' holds no values: an image can't live there");
    } else if (kind != NULL) {
        moved = PyObject_CallMethod(tensor, "to", "O", device);
        if (moved == NULL && !PyErr_ExceptionMatches(PyExc_MemoryError) && PyErr_ExceptionMatches(PyExc_Exception)) {
            refuse_device(device);
        }
    }
    Py_XDECREF(kind);
    return moved;
}

/* ------------------------------------------------------------------ where it lies, where it comes from */

PyObject *met_py_georeference_field(PyObject *value) {
    if (value != Py_None && !(PyObject_HasAttrString(value, "crs") && PyObject_HasAttrString(value, "transform"))) {
        PyErr_Format(PyExc_TypeError,
                     "georeference must have a crs and a transform, as meteors_c.io.Georeference, not %s",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    return Py_NewRef(value);
}

PyObject *met_py_source_field(PyObject *value) {
    if (value != Py_None && !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "source must be a string or None, not %s", Py_TYPE(value)->tp_name);
        return NULL;
    }
    return Py_NewRef(value);
}

/* ------------------------------------------------------------------ functions of the module */

static PyObject *image_function(PyObject *module, PyObject *value) {
    (void)module;
    return met_py_as_tensor(value, "Image", MET_PY_ARRAY);
}

static PyObject *mask_tensor_function(PyObject *module, PyObject *value) {
    (void)module;
    return met_py_mask_tensor(value);
}

static PyObject *wavelengths_function(PyObject *module, PyObject *value) {
    (void)module;
    return wavelengths_tensor(value);
}

static PyObject *orientation_function(PyObject *module, PyObject *value) {
    (void)module;
    return met_py_orientation_field(value);
}

static PyObject *device_function(PyObject *module, PyObject *value) {
    (void)module;
    return met_py_device_field(value);
}

static PyObject *shapes_function(PyObject *module, PyObject *args) {
    PyObject *wavelengths, *image;
    int axis;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOi", &wavelengths, &image, &axis) ||
        met_py_check_wavelengths(wavelengths, image, axis) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *mask_function(PyObject *module, PyObject *args) {
    PyObject *value, *image_value, *orientation_value, *device_value;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO", &value, &image_value, &orientation_value, &device_value)) {
        return NULL;
    }
    PyObject *image = met_py_image_field(image_value);
    PyObject *orientation = image == NULL ? NULL : met_py_orientation_field(orientation_value);
    PyObject *device = orientation == NULL ? NULL : met_py_device_field(device_value);
    PyObject *mask = device == NULL ? NULL : met_py_mask_field(value, image, orientation, device);
    if (mask == Py_None) { /* a mask of ones that may be written to */
        Py_SETREF(mask, met_py_full_mask(image, device));
    } else if (mask != NULL) {
        Py_SETREF(mask, met_py_expand_mask(mask, image, orientation));
    }
    Py_XDECREF(image);
    Py_XDECREF(orientation);
    Py_XDECREF(device);
    return mask;
}

PyMethodDef met_py_hsi_functions[] = {
    {"_hsi_image", image_function, METH_O, PyDoc_STR("_hsi_image(image, /)\n--\n\nAny array as a tensor.")},
    {"_hsi_mask_tensor", mask_tensor_function, METH_O,
     PyDoc_STR("_hsi_mask_tensor(mask, /)\n--\n\nA mask as a tensor, of whatever dtype and shape.")},
    {"_hsi_wavelengths", wavelengths_function, METH_O,
     PyDoc_STR("_hsi_wavelengths(wavelengths, /)\n--\n\nWavelengths as a tensor.")},
    {"_hsi_orientation", orientation_function, METH_O,
     PyDoc_STR("_hsi_orientation(orientation, /)\n--\n\nAn orientation as a tuple.")},
    {"_hsi_device", device_function, METH_O, PyDoc_STR("_hsi_device(device, /)\n--\n\nA device as a torch.device.")},
    {"_hsi_check_wavelengths", shapes_function, METH_VARARGS,
     PyDoc_STR("_hsi_check_wavelengths(wavelengths, image, spectral_axis, /)\n--\n\nOne wavelength for each band?")},
    {"_hsi_mask", mask_function, METH_VARARGS,
     PyDoc_STR("_hsi_mask(mask, image, orientation, device, /)\n--\n\nA mask as a bool tensor of the image's shape.")},
    {NULL, NULL, 0, NULL},
};
