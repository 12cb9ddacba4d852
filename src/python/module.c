/* module.c - meteors_c._core: the HSI type and the attribution functions. */
#define MET_IMPORT_NUMPY
#include "numpy_api.h"

#include "call.h"
#include "capsule.h"
#include "errors.h"
#include "hsi.h"
#include "linear.h"
#include "method_type.h"
#include "perturb.h"
#include "windows.h"

PyDoc_STRVAR(
    resolve_targets_doc,
    "resolve_targets(targets, shape)\n--\n\n"
    "Flat positions, a list of int, of targets (tuples of int) among a model's outputs of `shape` (without the\n"
    "batch axis). Raises ValueError or IndexError where one does not name exactly one output.");

static PyObject *resolve_targets(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *targets, *shape;
    met_target extents;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &targets, &PyTuple_Type, &shape) ||
        met_py_target(shape, &extents) < 0) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(targets);
    PyObject *flat = PyList_New(n);
    for (Py_ssize_t i = 0; flat != NULL && i < n; i++) {
        met_target target;
        size_t position;
        if (met_py_target(PyList_GET_ITEM(targets, i), &target) < 0) {
            Py_CLEAR(flat);
            break;
        }
        int status = met_target_resolve(&target, extents.index, extents.axes, &position);
        PyObject *value = status == MET_OK ? PyLong_FromSize_t(position) : NULL;
        if (value == NULL) {
            met_py_raise(status);
            Py_CLEAR(flat);
            break;
        }
        PyList_SET_ITEM(flat, i, value);
    }
    return flat;
}

PyDoc_STRVAR(find_method_doc, "find_method(name, /)\n--\n\nThe method of that name, as in `methods`.");

static PyObject *find_method(PyObject *module, PyObject *name) {
    PyObject *methods = PyObject_GetAttrString(module, "methods");
    PyObject *method = methods == NULL ? NULL : PyObject_GetItem(methods, name);
    Py_XDECREF(methods);
    return method;
}

#define METHOD(name) \
    {#name, (PyCFunction)(void (*)(void))met_py_##name, METH_VARARGS | METH_KEYWORDS, met_py_##name##_doc}

static PyMethodDef functions[] = {
    METHOD(perturb),
    METHOD(choose),
    METHOD(draw_coalitions),
    METHOD(callable_model),
    METHOD(fit_linear),
    {"experience", met_py_new_experience, METH_NOARGS, met_py_experience_doc},
    METHOD(windows),
    METHOD(window_spectra),
    {"find_method", find_method, METH_O, find_method_doc},
    {"resolve_targets", resolve_targets, METH_VARARGS, resolve_targets_doc},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *module) {
    import_array1(-1);
    return met_py_add_hsi(module) < 0 || met_py_add_host(module) < 0 || met_py_add_methods(module) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill_module},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* NumPy and torch support one alone */
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_USED}, /* fields of an HSI are read and set without locks of their own */
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc, "The native core of meteors_c: the HSI type and the attribution methods over raw buffers.");

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_core", .m_doc = module_doc, .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&definition);
}
