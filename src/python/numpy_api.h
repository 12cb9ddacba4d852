/* numpy_api.h - NumPy's C API, imported once (module.c) and shared by every file of the module. */
#ifndef MET_NUMPY_API_H
#define MET_NUMPY_API_H

#include <Python.h>

#ifndef NPY_NO_DEPRECATED_API
#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#endif
#define PY_ARRAY_UNIQUE_SYMBOL met_numpy_api
#ifndef MET_IMPORT_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#endif
