/* windows.h - several images of one array: windows of a scene, images of a stack; and what windows are reduced to. */
#ifndef MET_PY_WINDOWS_H
#define MET_PY_WINDOWS_H

#include <Python.h>

/* HSI.stack(), a class method. */
PyObject *met_py_hsi_stack(PyObject *type, PyObject *args, PyObject *kwargs);
PyObject *met_py_windows(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *met_py_window_spectra(PyObject *module, PyObject *args, PyObject *kwargs);

extern const char met_py_windows_doc[];
extern const char met_py_window_spectra_doc[];

#endif
