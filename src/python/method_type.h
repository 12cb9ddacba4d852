/* method_type.h - the methods of the core as Python objects. */
#ifndef MET_PY_METHOD_TYPE_H
#define MET_PY_METHOD_TYPE_H

#include <Python.h>

#include "method.h"

/* Add the type Method and the dict `methods` of its objects by name to a module. */
int met_py_add_methods(PyObject *module);

/* The method of such an object; NULL with a TypeError otherwise. */
const met_method *met_py_method_of(PyObject *object);

#endif
