/* methods.h - the attribution functions of the module. */
#ifndef MET_PY_METHODS_H
#define MET_PY_METHODS_H

#include <Python.h>

PyObject *met_py_saliency(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_input_x_gradient(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_integrated_gradients(PyObject *module, PyObject *args, PyObject *kwargs);

extern const char met_py_saliency_doc[];
extern const char met_py_input_x_gradient_doc[];
extern const char met_py_integrated_gradients_doc[];

#endif
