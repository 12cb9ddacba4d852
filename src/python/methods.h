/* methods.h - the attribution functions of the module. */
#ifndef MET_PY_METHODS_H
#define MET_PY_METHODS_H

#include <Python.h>

#include "met.h"

PyObject *met_py_saliency(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_input_x_gradient(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_integrated_gradients(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_occlusion(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_noise_tunnel(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_perturb(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_choose(PyObject *module, PyObject *args, PyObject *kwargs);

/* A quadrature by its name, windows from two tuples of three int; -1 with an exception. */
int met_py_quadrature(PyObject *name, met_quadrature *out);
int met_py_windows(PyObject *window, PyObject *stride, const size_t shape[MET_AXES], met_windows *out);

extern const char met_py_saliency_doc[];
extern const char met_py_input_x_gradient_doc[];
extern const char met_py_integrated_gradients_doc[];
extern const char met_py_occlusion_doc[];
extern const char met_py_noise_tunnel_doc[];
extern const char met_py_perturb_doc[];
extern const char met_py_choose_doc[];

#endif
