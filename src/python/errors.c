#include "errors.h"

/* A class of meteors_c.exceptions; a new reference, or NULL with an exception. */
static PyObject *own_exception(const char *name) {
    PyObject *module = PyImport_ImportModule("meteors_c.exceptions");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return type;
}

int met_py_raise(int status) {
    PyObject *type = NULL;
    PyObject *own = NULL;
    if (PyErr_Occurred()) {
        return -1;
    }
    switch (status) {
    case MET_ENOMEM: type = PyExc_MemoryError; break;
    case MET_EVALUE: type = PyExc_ValueError; break;
    case MET_ETYPE: type = PyExc_TypeError; break;
    case MET_EINDEX: type = PyExc_IndexError; break;
    case MET_EFINITE: type = PyExc_FloatingPointError; break;
    case MET_ECANCELLED: type = PyExc_KeyboardInterrupt; break;
    case MET_ESHAPE: type = own = own_exception("ShapeMismatchError"); break;
    default: type = PyExc_RuntimeError; break;
    }
    if (type != NULL) {
        const char *detail = met_detail();
        PyErr_SetString(type, detail[0] != '\0' ? detail : met_status_text(status));
    }
    Py_XDECREF(own);
    return -1;
}
