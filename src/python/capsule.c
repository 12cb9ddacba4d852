#include "capsule.h"

#define EXPERIENCE_CAPSULE "meteors_c.experience"

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

int met_py_experience(PyObject *capsule, met_experience **out) {
    if (capsule == NULL || capsule == Py_None) {
        *out = NULL;
        return 0;
    }
    if (!PyCapsule_IsValid(capsule, EXPERIENCE_CAPSULE)) {
        PyErr_Format(PyExc_TypeError, "experience must be None or what experience() gave, not %.200s",
                     Py_TYPE(capsule)->tp_name);
        return -1;
    }
    *out = PyCapsule_GetPointer(capsule, EXPERIENCE_CAPSULE);
    return 0;
}

static void free_experience(PyObject *capsule) {
    met_experience_free(PyCapsule_GetPointer(capsule, EXPERIENCE_CAPSULE));
}

const char met_py_experience_doc[] =
    "experience()\n--\n\n"
    "Return an empty memory of what calls on a model have taught, for option `experience`: which of them gain nothing\n"
    "by a shortcut.";

PyObject *met_py_new_experience(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    met_experience *made = met_experience_new();
    if (made == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(made, EXPERIENCE_CAPSULE, free_experience);
    if (capsule == NULL) {
        met_experience_free(made);
    }
    return capsule;
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
