/* windows.c - windows of a scene and images of a stack as HSI on the same memory; spectra of many windows. */
#include "windows.h"

#include "errors.h"
#include "hsi_object.h"
#include "numpy_api.h"
#include "spectra.h"

const char met_py_windows_doc[] =
    PyDoc_STR("windows(scene, rows, columns, height, width)\n--\n\n"
              "A list of HSI, views of an HSI: the windows of height x width pixels whose first rows and columns are\n"
              "those of two int64 arrays.");

const char met_py_window_spectra_doc[] = PyDoc_STR(
    "window_spectra(windows, axis, over_window)\n--\n\n"
    "A float64 array (n, bands) of a list of 3-D tensors whose bands lie on `axis`: the values at the centre\n"
    "of each, or their sums over its pixels.");

/* ------------------------------------------------------------------ windows */

/* Where a tensor lies: strides and offset in values, and the size of a window. */
typedef struct layout {
    PyObject *tensor; /* borrowed; NULL: nothing is cut out */
    PyObject *size, *strides;
    Py_ssize_t offset, row, column;
} layout;

static void drop_layout(layout *l) {
    Py_CLEAR(l->size);
    Py_CLEAR(l->strides);
}

/* `axes` are those of the bands, rows and columns, `window` the sizes along them. */
static int read_layout(PyObject *tensor, const int axes[MET_AXES], const Py_ssize_t window[MET_AXES], layout *l) {
    *l = (layout){.tensor = tensor};
    if (tensor == NULL) {
        return 0;
    }
    Py_ssize_t size[MET_AXES], stride[MET_AXES];
    for (int i = 0; i < MET_AXES; i++) {
        size[axes[i]] = window[i];
    }
    PyObject *offset = PyObject_CallMethod(tensor, "storage_offset", NULL);
    l->strides = PyObject_CallMethod(tensor, "stride", NULL);
    l->size = Py_BuildValue("(nnn)", size[0], size[1], size[2]);
    l->offset = offset == NULL ? -1 : PyLong_AsSsize_t(offset);
    Py_XDECREF(offset);
    if (PyErr_Occurred() || !PyArg_ParseTuple(l->strides, "nnn", &stride[0], &stride[1], &stride[2])) {
        return -1;
    }
    l->row = stride[axes[1]];
    l->column = stride[axes[2]];
    return 0;
}

static PyObject *cut(const layout *l, Py_ssize_t row, Py_ssize_t column) {
    return PyObject_CallMethod(l->tensor, "as_strided", "OOn", l->size, l->strides,
                               l->offset + row * l->row + column * l->column);
}

static PyObject *window_at(PyObject *scene, const layout *image, const layout *mask, Py_ssize_t row,
                           Py_ssize_t column) {
    PyObject *window = met_py_hsi_shallow(scene);
    PyObject *values = window == NULL ? NULL : cut(image, row, column);
    PyObject *used = values == NULL || mask->tensor == NULL ? NULL : cut(mask, row, column);
    if (values == NULL || (mask->tensor != NULL && used == NULL)) {
        Py_XDECREF(values);
        Py_XDECREF(window);
        return NULL;
    }
    Py_SETREF(((met_py_hsi *)window)->image, values);
    Py_XSETREF(((met_py_hsi *)window)->mask, used);
    return window;
}

static int check_places(PyArrayObject *places, Py_ssize_t n, Py_ssize_t size, Py_ssize_t window, const char *name) {
    if (PyArray_TYPE(places) != NPY_INT64 || PyArray_NDIM(places) != 1 || PyArray_DIM(places, 0) != n) {
        PyErr_Format(PyExc_TypeError, "%s must be a 1-D int64 array, as long as the other", name);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        const int64_t place = *(const int64_t *)PyArray_GETPTR1(places, i);
        if (window < 1 || place < 0 || place > size - window) {
            PyErr_Format(PyExc_ValueError, "a window of %zd at %lld does not lie inside the %zd %s of the scene",
                         window, (long long)place, size, name);
            return -1;
        }
    }
    return 0;
}

PyObject *met_py_windows(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"scene", "rows", "columns", "height", "width", NULL};
    PyObject *scene, *list = NULL, *whole = NULL;
    PyArrayObject *rows, *columns;
    Py_ssize_t height, width;
    size_t shape[MET_AXES];
    layout image = {0}, mask = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!nn:windows", names, &scene, &PyArray_Type, &rows,
                                     &PyArray_Type, &columns, &height, &width)) {
        return NULL;
    }
    if (!met_py_is_hsi(scene) || met_py_hsi_ready((met_py_hsi *)scene) < 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "scene must be an HSI");
    }
    met_py_hsi *self = (met_py_hsi *)scene;
    const Py_ssize_t n = PyArray_SIZE(rows);
    const int axes[MET_AXES] = {met_py_axis(self->orientation, "C"), met_py_axis(self->orientation, "H"),
                                met_py_axis(self->orientation, "W")};
    if (met_py_shape(self->image, shape) < 0 || check_places(rows, n, (Py_ssize_t)shape[axes[1]], height, "rows") < 0 ||
        check_places(columns, n, (Py_ssize_t)shape[axes[2]], width, "columns") < 0) {
        return NULL;
    }
    if (self->mask != NULL && (whole = met_py_hsi_mask(self)) == NULL) {
        return NULL;
    }
    const Py_ssize_t extents[MET_AXES] = {(Py_ssize_t)shape[axes[0]], height, width};
    if (read_layout(self->image, axes, extents, &image) == 0 && read_layout(whole, axes, extents, &mask) == 0) {
        list = PyList_New(n);
    }
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyObject *window = window_at(scene, &image, &mask, (Py_ssize_t) * (const int64_t *)PyArray_GETPTR1(rows, i),
                                     (Py_ssize_t) * (const int64_t *)PyArray_GETPTR1(columns, i));
        if (window == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, window);
        }
    }
    drop_layout(&image);
    drop_layout(&mask);
    Py_XDECREF(whole);
    return list;
}

/* ------------------------------------------------------------------ spectra */

PyObject *met_py_window_spectra(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"windows", "axis", "over_window", NULL};
    PyObject *windows, *array = NULL;
    int axis, over_window;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!ip:window_spectra", names, &PyList_Type, &windows, &axis,
                                     &over_window)) {
        return NULL;
    }
    const Py_ssize_t n = PyList_GET_SIZE(windows);
    if (n == 0 || axis < 0 || axis >= MET_AXES) {
        return PyErr_Format(PyExc_ValueError, "windows must hold a tensor, and axis be 0, 1 or 2");
    }
    npy_intp shape[2] = {n, 0};
    for (Py_ssize_t i = 0; i < n; i++) {
        met_image view;
        PyObject *keep = NULL;
        int failed = met_py_tensor_view(PyList_GET_ITEM(windows, i), &view, &keep);
        if (!failed && array == NULL) {
            shape[1] = (npy_intp)view.shape[axis];
            array = PyArray_SimpleNew(2, shape, NPY_FLOAT64);
            failed = array == NULL;
        }
        if (!failed && (npy_intp)view.shape[axis] != shape[1]) {
            failed = met_py_error("ShapeMismatchError", "all windows must have the %zd bands of the first, not %zu",
                                  (Py_ssize_t)shape[1], view.shape[axis]);
        }
        if (!failed) {
            view.bands = axis;
            const int status = met_window_spectrum(&view, over_window ? MET_OVER_WINDOW : MET_AT_CENTRE,
                                                   (double *)PyArray_DATA((PyArrayObject *)array) + i * shape[1]);
            failed = status == MET_OK ? 0 : met_py_raise(status);
        }
        Py_XDECREF(keep);
        if (failed) {
            Py_XDECREF(array);
            return NULL;
        }
    }
    return array;
}

/* ------------------------------------------------------------------ stacks */

/* Replace an entry of a dict by its i-th image. */
static int set_item_of(PyObject *fields, const char *name, PyObject *stack, Py_ssize_t i) {
    PyObject *one = PyObject_CallMethod(stack, "select", "in", 0, i);
    const int failed = one == NULL ? -1 : PyDict_SetItemString(fields, name, one);
    Py_XDECREF(one);
    return failed;
}

static int axes_of(PyObject *tensor) {
    PyObject *ndim = PyObject_GetAttrString(tensor, "ndim");
    const int axes = ndim == NULL ? -1 : (int)PyLong_AsLong(ndim);
    Py_XDECREF(ndim);
    return axes;
}

/* The keyword `name` of `fields`, made a tensor by `convert`, put back; *out borrows it. */
static int convert_entry(PyObject *fields, const char *name, PyObject *(*convert)(PyObject *), PyObject **out) {
    PyObject *given = PyDict_GetItemString(fields, name);
    PyObject *made = given == NULL ? NULL : convert(given);
    if (made == NULL) {
        return given == NULL && !PyErr_Occurred() ? met_py_error("ValidationError", "HSI.stack() needs %s", name) : -1;
    }
    const int failed = PyDict_SetItemString(fields, name, made);
    Py_DECREF(made);
    *out = failed < 0 ? NULL : PyDict_GetItemString(fields, name);
    return failed;
}

static PyObject *as_stack(PyObject *value) {
    return met_py_as_tensor(value, "images", MET_PY_ARRAY);
}

static PyObject *as_mask(PyObject *value) {
    return met_py_as_tensor(value, "binary_mask", MET_PY_ARRAY);
}

PyObject *met_py_hsi_stack(PyObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *given, *wavelengths, *images = NULL, *masks = NULL, *list = NULL, *nothing = PyTuple_New(0);
    PyObject *fields = kwargs == NULL ? PyDict_New() : PyDict_Copy(kwargs);
    if (nothing == NULL || fields == NULL || !PyArg_ParseTuple(args, "O:stack", &given) ||
        (images = as_stack(given)) == NULL ||
        convert_entry(fields, "wavelengths", met_py_wavelengths_field, &wavelengths) < 0) {
        goto done;
    }
    const int axes = axes_of(images);
    if (axes != 1 + MET_AXES) {
        if (axes >= 0) {
            met_py_error("ShapeMismatchError", "images must have four axes, (n, C, H, W), not %d", axes);
        }
        goto done;
    }
    PyObject *mask = PyDict_GetItemString(fields, "binary_mask");
    if (mask != NULL && PyObject_HasAttrString(mask, "ndim") && axes_of(mask) == 1 + MET_AXES &&
        convert_entry(fields, "binary_mask", as_mask, &masks) < 0) {
        goto done;
    }
    masks = Py_XNewRef(masks); /* the entry of the dict changes from image to image */
    const Py_ssize_t n = PyObject_Length(images);
    if (masks != NULL && PyObject_Length(masks) != n) {
        met_py_error("ShapeMismatchError", "binary_mask has masks for %zd images, but there are %zd",
                     PyObject_Length(masks), n);
        goto done;
    }
    list = n < 0 || PyErr_Occurred() ? NULL : PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyObject *image = set_item_of(fields, "image", images, i) < 0 ||
                                  (masks != NULL && set_item_of(fields, "binary_mask", masks, i) < 0)
                              ? NULL
                              : PyObject_Call(type, nothing, fields);
        if (image == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, image);
        }
    }
done:
    Py_XDECREF(masks);
    Py_XDECREF(images);
    Py_XDECREF(fields);
    Py_XDECREF(nothing);
    return list;
}
