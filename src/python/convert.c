#include "convert.h"

#include "numpy_api.h"

#include <stdarg.h>
#include <string.h>

PyObject *met_py_import(const char *module, const char *name) {
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from == NULL ? NULL : PyObject_GetAttrString(from, name);
    Py_XDECREF(from);
    return found;
}

/* ------------------------------------------------------------------ errors */

static int raise_with_cause(PyObject *type, const char *format, va_list arguments) {
    PyObject *cause_type, *cause, *trace;
    PyErr_Fetch(&cause_type, &cause, &trace);
    if (cause_type != NULL) {
        PyErr_NormalizeException(&cause_type, &cause, &trace);
    }
    PyErr_FormatV(type, format, arguments);
    if (cause != NULL) {
        PyObject *new_type, *error, *new_trace;
        if (trace != NULL) {
            PyException_SetTraceback(cause, trace);
        }
        PyErr_Fetch(&new_type, &error, &new_trace);
        PyErr_NormalizeException(&new_type, &error, &new_trace);
        PyException_SetCause(error, Py_NewRef(cause));
        PyErr_Restore(new_type, error, new_trace);
    }
    Py_XDECREF(cause_type);
    Py_XDECREF(cause);
    Py_XDECREF(trace);
    return -1;
}

int met_py_error_of(PyObject *type, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    raise_with_cause(type, format, arguments);
    va_end(arguments);
    return -1;
}

int met_py_error(const char *name, const char *format, ...) {
    PyObject *cause_type, *cause, *trace;
    PyErr_Fetch(&cause_type, &cause, &trace);
    PyObject *type = met_py_import("meteors_c.exceptions", name);
    if (type == NULL) {
        Py_XDECREF(cause_type);
        Py_XDECREF(cause);
        Py_XDECREF(trace);
        return -1;
    }
    PyErr_Restore(cause_type, cause, trace);
    va_list arguments;
    va_start(arguments, format);
    raise_with_cause(type, format, arguments);
    va_end(arguments);
    Py_DECREF(type);
    return -1;
}

/* ------------------------------------------------------------------ dtypes */

static const struct {
    const char *name;
    met_dtype dtype;
} dtypes[] = {
    {"bool", MET_BOOL},   {"uint8", MET_UINT8},     {"int8", MET_INT8},       {"uint16", MET_UINT16},
    {"int16", MET_INT16}, {"uint32", MET_UINT32},   {"int32", MET_INT32},     {"uint64", MET_UINT64},
    {"int64", MET_INT64}, {"float32", MET_FLOAT32}, {"float64", MET_FLOAT64},
};

const char *met_py_dtype_name(met_dtype dtype) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].dtype == dtype) {
            return dtypes[i].name;
        }
    }
    return "unknown";
}

/* str(getattr(value, name)), without a leading "torch."; "" where there is no such attribute. A new reference. */
static PyObject *attribute_text(PyObject *value, const char *name) {
    PyObject *attribute = PyObject_GetAttrString(value, name);
    PyObject *text = attribute == NULL ? NULL : PyObject_Str(attribute);
    Py_XDECREF(attribute);
    if (text != NULL && PyUnicode_GET_LENGTH(text) > 6 && strncmp(PyUnicode_AsUTF8(text), "torch.", 6) == 0) {
        PyObject *tail = PyUnicode_Substring(text, 6, PyUnicode_GET_LENGTH(text));
        Py_SETREF(text, tail);
    }
    return text;
}

/* The core's dtype of a tensor: 1, or 0 where it has none (*half: one of torch's 16-bit floats); -1 on error. */
static int find_dtype(PyObject *tensor, met_dtype *dtype, bool *half) {
    PyObject *text = attribute_text(tensor, "dtype");
    int found = text == NULL ? -1 : 0;
    if (text != NULL) {
        for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && found == 0; i++) {
            if (PyUnicode_CompareWithASCIIString(text, dtypes[i].name) == 0) {
                *dtype = dtypes[i].dtype;
                found = 1;
            }
        }
        *half = PyUnicode_CompareWithASCIIString(text, "float16") == 0 ||
                PyUnicode_CompareWithASCIIString(text, "bfloat16") == 0;
    }
    Py_XDECREF(text);
    return found;
}

/* ------------------------------------------------------------------ arrays in */

int met_py_is_tensor(PyObject *value) {
    PyObject *type = met_py_import("torch", "Tensor");
    int is = type == NULL ? -1 : PyObject_IsInstance(value, type);
    Py_XDECREF(type);
    return is;
}

/* Refuse tensors whose values are no real numbers in plain memory. Steals nothing; -1 with an exception. */
static int check_tensor(PyObject *tensor, const char *what) {
    met_dtype dtype;
    bool half = false;
    int result = -1;
    PyObject *layout = attribute_text(tensor, "layout");
    PyObject *is_meta = layout == NULL ? NULL : PyObject_GetAttrString(tensor, "is_meta");
    PyObject *nested = is_meta == NULL ? NULL : PyObject_GetAttrString(tensor, "is_nested");
    PyObject *kind = NULL;
    int known = nested == NULL ? -1 : find_dtype(tensor, &dtype, &half);
    if (known < 0) {
        goto done;
    }
    if (known == 0 && !half) {
        kind = attribute_text(tensor, "dtype");
        if (kind != NULL) {
            met_py_error_of(PyExc_TypeError,
                            "%s must be made of real numbers (bool, integers or floats of 16 to 64 bits), not %U", what,
                            kind);
        }
    } else if (PyUnicode_CompareWithASCIIString(layout, "strided") != 0 || nested == Py_True) {
        met_py_error_of(PyExc_TypeError, "%s must be a dense tensor, not a %s one: call .to_dense() first", what,
                        nested == Py_True ? "nested" : PyUnicode_AsUTF8(layout));
    } else if (is_meta == Py_True) {
        met_py_error("DeviceError", "%s must hold values, but the tensor given lies on the meta device", what);
    } else {
        result = 0;
    }
done:
    Py_XDECREF(kind);
    Py_XDECREF(nested);
    Py_XDECREF(is_meta);
    Py_XDECREF(layout);
    return result;
}

/* Whether a tensor can share the array's memory: native byte order, aligned, strides >= 0 in whole values. */
static bool is_shareable(PyArrayObject *array) {
    const npy_intp value = (npy_intp)PyArray_ITEMSIZE(array);
    bool shareable = PyArray_ISALIGNED(array) && PyArray_ISNOTSWAPPED(array);
    for (int axis = 0; axis < PyArray_NDIM(array); axis++) {
        const npy_intp stride = PyArray_STRIDE(array, axis);
        shareable = shareable && stride >= 0 && stride % value == 0;
    }
    return shareable;
}

/*
 * The same memory as an array that says it may be written to, which keeps the array given alive. Torch has no tensors
 * that may only be read and warns where it is asked for one; nothing in this package writes to what it was given.
 */
static PyObject *writable_alias(PyArrayObject *array) {
    PyArray_Descr *descr = PyArray_DESCR(array);
    Py_INCREF(descr);
    PyObject *alias = PyArray_NewFromDescr(&PyArray_Type, descr, PyArray_NDIM(array), PyArray_DIMS(array),
                                           PyArray_STRIDES(array), PyArray_DATA(array), NPY_ARRAY_WRITEABLE, NULL);
    if (alias != NULL && PyArray_SetBaseObject((PyArrayObject *)alias, Py_NewRef((PyObject *)array)) < 0) {
        Py_CLEAR(alias);
    }
    return alias;
}

/* A NumPy array as a tensor; consumes the reference. */
static PyObject *from_ndarray(PyObject *array, const char *what) {
    PyObject *dtype = NULL, *kind = NULL, *masked = NULL, *tensor = NULL;
    masked = met_py_import("numpy.ma", "MaskedArray");
    int is_masked = masked == NULL ? -1 : PyObject_IsInstance(array, masked);
    if (is_masked != 0) {
        if (is_masked > 0) {
            met_py_error_of(PyExc_TypeError,
                            "%s must be a plain array, not a masked one: give array.data, and ~array.mask as the "
                            "binary_mask",
                            what);
        }
        goto done;
    }
    dtype = PyObject_GetAttrString(array, "dtype");
    kind = dtype == NULL ? NULL : PyObject_GetAttrString(dtype, "kind");
    PyObject *itemsize = kind == NULL ? NULL : PyObject_GetAttrString(dtype, "itemsize");
    if (itemsize == NULL) {
        goto done;
    }
    const char letter = PyUnicode_AsUTF8(kind)[0];
    const long bytes = PyLong_AsLong(itemsize);
    Py_DECREF(itemsize);
    if (strchr("biuf", letter) == NULL || bytes > 8) {
        met_py_error_of(PyExc_TypeError,
                        "%s must be made of real numbers (bool, integers or floats of 16 to 64 bits), not %S", what,
                        dtype);
        goto done;
    }
    if (!is_shareable((PyArrayObject *)array)) {
        PyObject *native = PyObject_CallMethod(dtype, "newbyteorder", "s", "=");
        PyObject *copy = native == NULL ? NULL : PyObject_CallMethod(array, "astype", "Os", native, "C");
        Py_XDECREF(native);
        Py_SETREF(array, copy);
    } else if (!PyArray_ISWRITEABLE((PyArrayObject *)array)) {
        Py_SETREF(array, writable_alias((PyArrayObject *)array));
    }
    if (array == NULL) {
        goto done;
    }
    PyObject *torch = PyImport_ImportModule("torch");
    if (torch != NULL) {
        tensor = PyObject_CallMethod(torch, "from_numpy", "O", array);
        Py_DECREF(torch);
    }
done:
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    Py_XDECREF(masked);
    Py_XDECREF(array);
    return tensor;
}

static PyObject *from_dlpack(PyObject *value, const char *what) {
    PyObject *torch = PyImport_ImportModule("torch");
    PyObject *tensor = torch == NULL ? NULL : PyObject_CallMethod(torch, "from_dlpack", "O", value);
    Py_XDECREF(torch);
    if (tensor == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        met_py_error_of(PyExc_TypeError, "%s must be readable through DLPack, but its %s could not be taken over", what,
                        Py_TYPE(value)->tp_name);
    }
    return tensor;
}

static PyObject *from_buffer(PyObject *value, const char *what) {
    PyObject *view = PyMemoryView_FromObject(value); /* numpy.asarray would read bytes as a string */
    PyObject *numpy = view == NULL ? NULL : PyImport_ImportModule("numpy");
    PyObject *array = numpy == NULL ? NULL : PyObject_CallMethod(numpy, "asarray", "O", view);
    Py_XDECREF(view);
    Py_XDECREF(numpy);
    if (array == NULL) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            met_py_error_of(PyExc_TypeError, "%s must be a buffer of numbers, but that of %s can't be read", what,
                            Py_TYPE(value)->tp_name);
        }
        return NULL;
    }
    return from_ndarray(array, what);
}

PyObject *met_py_as_tensor(PyObject *value, const char *what, const char *wanted) {
    PyObject *tensor = NULL;
    int is = met_py_is_tensor(value);
    if (is > 0) {
        tensor = Py_NewRef(value);
    } else if (is == 0 && PyArray_Check(value)) {
        tensor = from_ndarray(Py_NewRef(value), what);
    } else if (is == 0 && !PyType_Check(value) && PyObject_HasAttrString(value, "__dlpack__")) {
        tensor = from_dlpack(value, what);
    } else if (is == 0 && PyObject_CheckBuffer(value)) {
        tensor = from_buffer(value, what);
    } else if (is == 0) {
        met_py_error_of(PyExc_TypeError, "%s must be %s, not %s", what, wanted, Py_TYPE(value)->tp_name);
    }
    if (tensor != NULL && check_tensor(tensor, what) < 0) {
        Py_CLEAR(tensor);
    }
    return tensor;
}

/* ------------------------------------------------------------------ shapes and views */

PyObject *met_py_shape_tuple(const size_t *shape, int axes) {
    PyObject *tuple = PyTuple_New(axes);
    for (int axis = 0; tuple != NULL && axis < axes; axis++) {
        PyObject *size = PyLong_FromSize_t(shape[axis]);
        if (size == NULL) {
            Py_CLEAR(tuple);
        } else {
            PyTuple_SET_ITEM(tuple, axis, size);
        }
    }
    return tuple;
}

int met_py_shape(PyObject *tensor, size_t shape[MET_AXES]) {
    PyObject *sizes = PyObject_GetAttrString(tensor, "shape");
    int result = -1;
    if (sizes != NULL && PyTuple_Check(sizes) && PyTuple_GET_SIZE(sizes) == MET_AXES) {
        for (int axis = 0; axis < MET_AXES; axis++) {
            shape[axis] = PyLong_AsSize_t(PyTuple_GET_ITEM(sizes, axis));
        }
        result = PyErr_Occurred() ? -1 : 0;
    } else if (sizes != NULL) {
        met_py_error("ShapeMismatchError", "a tensor of three axes is needed, not one of shape %R", sizes);
    }
    Py_XDECREF(sizes);
    return result;
}

PyObject *met_py_tensor_new(const size_t *shape, int axes, const char *dtype, void **data) {
    PyObject *torch = PyImport_ImportModule("torch");
    PyObject *empty = torch == NULL ? NULL : PyObject_GetAttrString(torch, "empty");
    PyObject *sizes = empty == NULL ? NULL : met_py_shape_tuple(shape, axes);
    PyObject *type = sizes == NULL ? NULL : PyObject_GetAttrString(torch, dtype);
    PyObject *arguments = type == NULL ? NULL : PyTuple_Pack(1, sizes);
    /* the device by name: torch.set_default_device must not move the memory that is about to be written */
    PyObject *keywords = arguments == NULL ? NULL : Py_BuildValue("{s:O,s:s}", "dtype", type, "device", "cpu");
    PyObject *tensor = keywords == NULL ? NULL : PyObject_Call(empty, arguments, keywords);
    PyObject *pointer = tensor == NULL ? NULL : PyObject_CallMethod(tensor, "data_ptr", NULL);
    if (pointer != NULL) {
        *data = PyLong_AsVoidPtr(pointer);
    } else {
        Py_CLEAR(tensor);
    }
    Py_XDECREF(pointer);
    Py_XDECREF(keywords);
    Py_XDECREF(arguments);
    Py_XDECREF(type);
    Py_XDECREF(sizes);
    Py_XDECREF(empty);
    Py_XDECREF(torch);
    return tensor;
}

/* tensor.method(*arguments), replacing the reference that it consumes; NULL in, NULL out. */
static PyObject *then(PyObject *tensor, const char *method, const char *format, const char *argument) {
    PyObject *next = tensor == NULL ? NULL : PyObject_CallMethod(tensor, method, format, argument);
    Py_XDECREF(tensor);
    return next;
}

/* The tensor on the CPU as plain memory, in `dtype` (NULL: its own); a new reference. */
static PyObject *readable(PyObject *tensor, const char *dtype) {
    PyObject *plain = PyObject_CallMethod(tensor, "detach", NULL);
    plain = then(plain, "cpu", NULL, NULL);
    if (plain != NULL && dtype != NULL) {
        PyObject *type = met_py_import("torch", dtype);
        PyObject *cast = type == NULL ? NULL : PyObject_CallMethod(plain, "to", "O", type);
        Py_XDECREF(type);
        Py_SETREF(plain, cast);
    }
    return then(plain, "resolve_neg", NULL, NULL);
}

int met_py_tensor_view(PyObject *tensor, met_image *view, PyObject **keep) {
    met_image seen = {.bands = -1};
    bool half = false;
    PyObject *plain = NULL, *strides = NULL, *pointer = NULL;
    int result = -1;
    int is = met_py_is_tensor(tensor);
    if (is <= 0) {
        if (is == 0) {
            PyErr_Format(PyExc_TypeError, "a torch tensor is needed, not %s", Py_TYPE(tensor)->tp_name);
        }
        return -1;
    }
    if (check_tensor(tensor, "a tensor") < 0 || met_py_shape(tensor, seen.shape) < 0 ||
        find_dtype(tensor, &seen.dtype, &half) < 0) {
        return -1;
    }
    if (half) {
        seen.dtype = MET_FLOAT32;
    }
    plain = readable(tensor, half ? "float32" : NULL);
    strides = plain == NULL ? NULL : PyObject_CallMethod(plain, "stride", NULL);
    pointer = strides == NULL ? NULL : PyObject_CallMethod(plain, "data_ptr", NULL);
    if (pointer == NULL) {
        goto done;
    }
    for (int axis = 0; axis < MET_AXES; axis++) {
        seen.strides[axis] =
            (ptrdiff_t)PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, axis)) * (ptrdiff_t)met_dtype_size(seen.dtype);
    }
    seen.data = PyLong_AsVoidPtr(pointer);
    if (PyErr_Occurred()) {
        goto done;
    }
    *view = seen;
    *keep = Py_NewRef(plain);
    result = 0;
done:
    Py_XDECREF(pointer);
    Py_XDECREF(strides);
    Py_XDECREF(plain);
    return result;
}

PyObject *met_py_doubles(PyObject *tensor, size_t *count) {
    PyObject *plain = then(readable(tensor, "float64"), "contiguous", NULL, NULL);
    PyObject *pointer = plain == NULL ? NULL : PyObject_CallMethod(plain, "data_ptr", NULL);
    PyObject *size = pointer == NULL ? NULL : PyObject_CallMethod(plain, "numel", NULL);
    PyObject *bytes = NULL;
    if (size != NULL) {
        const void *data = PyLong_AsVoidPtr(pointer);
        *count = PyLong_AsSize_t(size);
        bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(*count * sizeof(double)));
        if (bytes != NULL && *count > 0) {
            memcpy(PyBytes_AS_STRING(bytes), data, *count * sizeof(double));
        }
    }
    Py_XDECREF(size);
    Py_XDECREF(pointer);
    Py_XDECREF(plain);
    return bytes;
}
