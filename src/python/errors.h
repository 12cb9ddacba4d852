/* errors.h - a status of the core as a Python exception. */
#ifndef MET_PY_ERRORS_H
#define MET_PY_ERRORS_H

#include <Python.h>

#include "status.h"

/* Set the exception for `status` with met_detail() as its message; a pending one is kept. Returns -1. */
int met_py_raise(int status);

#endif
