/* hsi_copy.c - HSI as a Python value: copies, pickles, ==, repr. */
#include "hsi_object.h"

#include <string.h>

/* ------------------------------------------------------------------ copies */

PyObject *met_py_hsi_shallow(PyObject *object) {
    met_py_hsi *self = (met_py_hsi *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject *dict = NULL;
    if (self->dict != NULL && (dict = PyDict_Copy(self->dict)) == NULL) {
        return NULL;
    }
    met_py_hsi *copy = (met_py_hsi *)type->tp_alloc(type, 0);
    if (copy == NULL) {
        Py_XDECREF(dict);
        return NULL;
    }
    copy->image = Py_XNewRef(self->image);
    copy->wavelengths = Py_XNewRef(self->wavelengths);
    copy->orientation = Py_XNewRef(self->orientation);
    copy->device = Py_XNewRef(self->device);
    copy->mask = Py_XNewRef(self->mask);
    copy->georeference = Py_XNewRef(self->georeference);
    copy->source = Py_XNewRef(self->source);
    copy->dict = dict;
    return (PyObject *)copy;
}

PyObject *met_py_hsi_model_copy(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"update", "deep", NULL};
    PyObject *update = Py_None, *key, *value, *result;
    Py_ssize_t position = 0;
    int deep = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$Op:model_copy", names, &update, &deep) ||
        met_py_hsi_ready((met_py_hsi *)object) < 0) {
        return NULL;
    }
    if (update != Py_None && !PyDict_Check(update)) {
        PyErr_Format(PyExc_TypeError, "update must be a dict of attributes, not %s", Py_TYPE(update)->tp_name);
        return NULL;
    }
    if (deep) {
        PyObject *deepcopy = met_py_import("copy", "deepcopy");
        result = deepcopy == NULL ? NULL : PyObject_CallOneArg(deepcopy, object);
        Py_XDECREF(deepcopy);
    } else {
        result = met_py_hsi_shallow(object);
    }
    while (result != NULL && update != Py_None && PyDict_Next(update, &position, &key, &value)) {
        if (PyObject_SetAttr(result, key, value) < 0) {
            Py_CLEAR(result);
        }
    }
    return result;
}

static PyObject *or_none(PyObject *object) {
    return object == NULL ? Py_None : object;
}

/* (fields, __dict__) with another image: what met_py_hsi_setstate() takes. */
static PyObject *state_of(const met_py_hsi *self, PyObject *image) {
    return Py_BuildValue("(OOOOOOO)O", image, self->wavelengths, self->orientation, self->device, or_none(self->mask),
                         or_none(self->georeference), or_none(self->source), or_none(self->dict));
}

/* (copyreg.__newobj__, (type,), (fields, __dict__)): what copy, deepcopy and pickle go by. */
PyObject *met_py_hsi_reduce(PyObject *object, PyObject *unused) {
    met_py_hsi *self = (met_py_hsi *)object;
    (void)unused;
    if (met_py_hsi_ready(self) < 0) {
        return NULL;
    }
    PyObject *make = met_py_import("copyreg", "__newobj__");
    if (make == NULL) {
        return NULL;
    }
    PyObject *state = state_of(self, self->image);
    return Py_BuildValue("N(O)N", make, Py_TYPE(object), state); /* with a state of NULL: NULL, the exception stays */
}

PyObject *met_py_hsi_deepcopy(PyObject *object, PyObject *memo) {
    met_py_hsi *self = (met_py_hsi *)object;
    PyObject *deepcopy = NULL, *state = NULL, *copied = NULL, *restored = NULL, *result = NULL;
    PyObject *leaf = met_py_hsi_ready(self) < 0 ? NULL : PyObject_GetAttrString(self->image, "is_leaf");
    /* Torch copies no tensor inside a graph: the copy's image is the same values outside it. */
    PyObject *image = leaf == NULL      ? NULL
                      : leaf == Py_True ? Py_NewRef(self->image)
                                        : PyObject_CallMethod(self->image, "detach", NULL);
    if (image != NULL) {
        state = state_of(self, image);
        deepcopy = met_py_import("copy", "deepcopy");
    }
    if (state != NULL && deepcopy != NULL) {
        copied = PyObject_CallFunctionObjArgs(deepcopy, state, memo, NULL);
    }
    if (copied != NULL) {
        result = Py_TYPE(object)->tp_alloc(Py_TYPE(object), 0);
        restored = result == NULL ? NULL : met_py_hsi_setstate(result, copied);
        if (restored == NULL) {
            Py_CLEAR(result);
        }
    }
    Py_XDECREF(leaf);
    Py_XDECREF(image);
    Py_XDECREF(state);
    Py_XDECREF(deepcopy);
    Py_XDECREF(copied);
    Py_XDECREF(restored);
    return result;
}

/* Take over a reference; None is kept as NULL. */
static void set_or_clear(PyObject **field, PyObject *value) {
    if (value == Py_None) {
        Py_CLEAR(value);
    }
    Py_XSETREF(*field, value);
}

/* The state of an earlier version lacks the last two fields. */
PyObject *met_py_hsi_setstate(PyObject *object, PyObject *state) {
    met_py_hsi *self = (met_py_hsi *)object;
    PyObject *given[7], *dict, *fields, *copied = NULL;
    given[5] = given[6] = Py_None;
    if (!PyTuple_Check(state) || !PyArg_ParseTuple(state, "O!O", &PyTuple_Type, &fields, &dict) ||
        !PyArg_ParseTuple(fields, "OOOOO|OO", &given[0], &given[1], &given[2], &given[3], &given[4], &given[5],
                          &given[6])) {
        PyErr_Clear();
        PyErr_SetString(PyExc_TypeError, "this is not the state of an HSI");
        return NULL;
    }
    PyObject *image = met_py_image_field(given[0]);
    PyObject *wavelengths = image == NULL ? NULL : met_py_wavelengths_field(given[1]);
    PyObject *orientation = wavelengths == NULL ? NULL : met_py_orientation_field(given[2]);
    PyObject *device = orientation == NULL ? NULL : met_py_device_field(given[3]);
    PyObject *mask = device == NULL ? NULL : met_py_mask_field(given[4], image, orientation, device);
    PyObject *georeference = mask == NULL ? NULL : met_py_georeference_field(given[5]);
    PyObject *source = georeference == NULL ? NULL : met_py_source_field(given[6]);
    if (source != NULL && dict != Py_None) {
        copied = PyDict_Check(dict) ? PyDict_Copy(dict) : NULL;
    }
    if (source == NULL || (dict != Py_None && copied == NULL)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "this is not the state of an HSI");
        }
        Py_XDECREF(image);
        Py_XDECREF(wavelengths);
        Py_XDECREF(orientation);
        Py_XDECREF(device);
        Py_XDECREF(mask);
        Py_XDECREF(georeference);
        Py_XDECREF(source);
        return NULL;
    }
    Py_XSETREF(self->image, image);
    Py_XSETREF(self->wavelengths, wavelengths);
    Py_XSETREF(self->orientation, orientation);
    Py_XSETREF(self->device, device);
    Py_XSETREF(self->dict, copied);
    set_or_clear(&self->mask, mask);
    set_or_clear(&self->georeference, georeference);
    set_or_clear(&self->source, source);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------ comparison */

static int same_attribute(PyObject *a, PyObject *b, const char *name) {
    PyObject *x = PyObject_GetAttrString(a, name);
    PyObject *y = x == NULL ? NULL : PyObject_GetAttrString(b, name);
    int same = y == NULL ? -1 : PyObject_RichCompareBool(x, y, Py_EQ);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return same;
}

/* The same tensor, or one of the same device, dtype, shape and values. */
static int same_tensor(PyObject *a, PyObject *b) {
    int same = a == b;
    if (same) {
        return same;
    }
    if ((same = same_attribute(a, b, "device")) <= 0 || (same = same_attribute(a, b, "dtype")) <= 0) {
        return same;
    }
    PyObject *answer = PyObject_CallMethod(a, "equal", "O", b);
    same = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(answer);
    return same;
}

static int same_mask(met_py_hsi *a, met_py_hsi *b) {
    if (a->mask == b->mask) {
        return 1;
    }
    PyObject *x = met_py_hsi_mask(a);
    PyObject *y = x == NULL ? NULL : met_py_hsi_mask(b);
    int same = y == NULL ? -1 : same_tensor(x, y);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return same;
}

PyObject *met_py_hsi_compare(PyObject *object, PyObject *other_object, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) || !met_py_is_hsi(other_object)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    met_py_hsi *self = (met_py_hsi *)object;
    met_py_hsi *other = (met_py_hsi *)other_object;
    int same = self == other;
    if (!same && self->image != NULL && other->image != NULL) {
        same = PyObject_RichCompareBool(self->orientation, other->orientation, Py_EQ);
        same = same <= 0 ? same : PyObject_RichCompareBool(self->device, other->device, Py_EQ);
        same = same <= 0 ? same : same_tensor(self->wavelengths, other->wavelengths);
        same = same <= 0 ? same : same_tensor(self->image, other->image);
        same = same <= 0 ? same : same_mask(self, other);
        same = same <= 0 ? same
                         : PyObject_RichCompareBool(or_none(self->georeference), or_none(other->georeference), Py_EQ);
    }
    return same < 0 ? NULL : PyBool_FromLong(operation == Py_EQ ? same : !same);
}

/* ------------------------------------------------------------------ repr */

PyObject *met_py_hsi_repr(PyObject *object) {
    met_py_hsi *self = (met_py_hsi *)object;
    const char *name = strrchr(Py_TYPE(object)->tp_name, '.');
    name = name == NULL ? Py_TYPE(object)->tp_name : name + 1;
    if (self->image == NULL) {
        return PyUnicode_FromFormat("%s(not initialised)", name);
    }
    size_t shape[MET_AXES], count;
    PyObject *text = NULL, *dtype = NULL, *letters = NULL;
    PyObject *wavelengths = met_py_doubles(self->wavelengths, &count);
    if (wavelengths == NULL || met_py_shape(self->image, shape) < 0 ||
        (dtype = PyObject_GetAttrString(self->image, "dtype")) == NULL ||
        (letters = PyUnicode_FromFormat("%U%U%U", PyTuple_GET_ITEM(self->orientation, 0),
                                        PyTuple_GET_ITEM(self->orientation, 1),
                                        PyTuple_GET_ITEM(self->orientation, 2))) == NULL) {
        goto done;
    }
    char range[80] = "none";
    if (count > 0) {
        const double *values = (const double *)(const void *)PyBytes_AS_STRING(wavelengths);
        double low = values[0], high = values[0];
        for (size_t i = 1; i < count; i++) {
            low = values[i] < low ? values[i] : low;
            high = values[i] > high ? values[i] : high;
        }
        char *first = PyOS_double_to_string(low, 'g', 6, 0, NULL);
        char *last = PyOS_double_to_string(high, 'g', 6, 0, NULL);
        if (first != NULL && last != NULL) {
            PyOS_snprintf(range, sizeof range, "%s-%s nm", first, last);
        }
        PyMem_Free(first);
        PyMem_Free(last);
    }
    text = PyUnicode_FromFormat(
        "%s(shape=(%zu, %zu, %zu), dtype=%S, orientation=%U, wavelengths=%s, device=%S, masked=%s)", name, shape[0],
        shape[1], shape[2], dtype, letters, range, self->device, self->mask == NULL ? "False" : "True");
done:
    Py_XDECREF(letters);
    Py_XDECREF(dtype);
    Py_XDECREF(wavelengths);
    return text;
}
