/* hsi_source.c - what an HSI leaves to Python: arrays of other packages, and bands by the names of spectral regions. */
#include "hsi_object.h"
#include "numpy_api.h"

/* meteors_c.<module>.<name>(*args, **kwargs); `args` is consumed. */
static PyObject *call(const char *module, const char *name, PyObject *args, PyObject *kwargs) {
    PyObject *function = args == NULL ? NULL : met_py_import(module, name);
    PyObject *result = function == NULL ? NULL : PyObject_Call(function, args, kwargs);
    Py_XDECREF(function);
    Py_XDECREF(args);
    return result;
}

PyObject *met_py_hsi_read_source(PyObject *image, PyObject *kwargs) {
    const int is_tensor = PyArray_CheckExact(image) ? 1 : met_py_is_tensor(image);
    if (is_tensor < 0) {
        return NULL;
    }
    return is_tensor ? Py_NewRef(Py_None) : call("meteors_c.io._sources", "read", PyTuple_Pack(1, kwargs), NULL);
}

PyObject *met_py_hsi_from_xarray(PyObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *first = PyTuple_Pack(1, type);
    PyObject *all = first == NULL ? NULL : PySequence_Concat(first, args);
    Py_XDECREF(first);
    return call("meteors_c.io._sources", "from_xarray", all, kwargs);
}

PyObject *met_py_hsi_named_bands(PyObject *object, PyObject *name) {
    met_py_hsi *self = (met_py_hsi *)object;
    if (met_py_hsi_ready(self) < 0) {
        return NULL;
    }
    return call("meteors_c.spectral", "bands_in", PyTuple_Pack(2, self->wavelengths, name), NULL);
}
