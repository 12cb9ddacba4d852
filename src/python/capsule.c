#include "capsule.h"

static const met_host host = {
    .version = MET_HOST_VERSION,
    .fail = met_fail,
    .declined = met_declined,
    .detail = met_detail,
    .target_resolve = met_target_resolve,
};

const met_model *met_py_model(PyObject *capsule) {
    if (!PyCapsule_IsValid(capsule, MET_MODEL_CAPSULE)) {
        PyErr_Format(PyExc_TypeError, "model must be a capsule named %s, not %.200s", MET_MODEL_CAPSULE,
                     Py_TYPE(capsule)->tp_name);
        return NULL;
    }
    return PyCapsule_GetPointer(capsule, MET_MODEL_CAPSULE);
}

int met_py_parallel(PyObject *capsule, const met_parallel **out) {
    if (capsule == NULL || capsule == Py_None) {
        *out = NULL;
        return 0;
    }
    if (!PyCapsule_IsValid(capsule, MET_PARALLEL_CAPSULE)) {
        PyErr_Format(PyExc_TypeError, "parallel must be None or a capsule named %s, not %.200s", MET_PARALLEL_CAPSULE,
                     Py_TYPE(capsule)->tp_name);
        return -1;
    }
    *out = PyCapsule_GetPointer(capsule, MET_PARALLEL_CAPSULE);
    return 0;
}

int met_py_add_host(PyObject *module) {
    PyObject *capsule = PyCapsule_New((void *)&host, MET_HOST_CAPSULE, NULL);
    if (capsule == NULL) {
        return -1;
    }
    int failed = PyModule_AddObjectRef(module, "host", capsule);
    Py_DECREF(capsule);
    return failed;
}
