/* capsule.h - vtables that come from, or go to, another extension module. */
#ifndef MET_PY_CAPSULE_H
#define MET_PY_CAPSULE_H

#include <Python.h>

#include "experience.h"
#include "model.h"

/* The model in a capsule named MET_MODEL_CAPSULE; NULL with a TypeError otherwise. */
const met_model *met_py_model(PyObject *capsule);

/* The thread pool in a capsule named MET_PARALLEL_CAPSULE, or NULL for None; -1 with a TypeError otherwise. */
int met_py_parallel(PyObject *capsule, const met_parallel **out);

/* The experience in a capsule that experience() made, or NULL for None; -1 with a TypeError otherwise. */
int met_py_experience(PyObject *capsule, met_experience **out);

/* experience() -> capsule */
PyObject *met_py_new_experience(PyObject *module, PyObject *nothing);
extern const char met_py_experience_doc[];

/* Add the capsule MET_HOST_CAPSULE to the module. */
int met_py_add_host(PyObject *module);

/* callable_model(forward, gradient=None) -> capsule; see callable_model.c. */
PyObject *met_py_callable_model(PyObject *module, PyObject *args, PyObject *kwargs);
extern const char met_py_callable_model_doc[];

#endif
