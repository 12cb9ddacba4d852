/* perturb.h - the samples of the noise tunnels by themselves. */
#ifndef MET_PY_PERTURB_H
#define MET_PY_PERTURB_H

#include <Python.h>

PyObject *met_py_perturb(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_choose(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_draw_coalitions(PyObject *module, PyObject *args, PyObject *kwargs);

extern const char met_py_perturb_doc[];
extern const char met_py_choose_doc[];
extern const char met_py_draw_coalitions_doc[];

#endif
