/* hsi.h - the HSI type: what module.c and the attribution methods need of it. */
#ifndef MET_PY_HSI_H
#define MET_PY_HSI_H

#include <Python.h>

#include "convert.h"
#include "image.h"

/* Add the type HSI, and the checks that meteors_c.hsi offers under its own names, to a module. */
int met_py_add_hsi(PyObject *module);

/* Whether an object is an HSI or of a class derived from it. */
bool met_py_is_hsi(PyObject *object);

/*
 * A raw view of an HSI on the CPU: image, mask (NULL where all values are used) and wavelengths. *keep is a new
 * reference that must live as long as the view. TypeError where the object is no HSI, ShapeMismatchError where its
 * fields do not agree; -1 with an exception.
 */
int met_py_image_view(PyObject *hsi, met_image *view, PyObject **keep);

#endif
