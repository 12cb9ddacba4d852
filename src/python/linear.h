/* linear.h - the linear fits of the core on NumPy arrays. */
#ifndef MET_PY_LINEAR_H
#define MET_PY_LINEAR_H

#include <Python.h>

PyObject *met_py_fit_linear(PyObject *module, PyObject *args, PyObject *kwargs);

extern const char met_py_fit_linear_doc[];

#endif
