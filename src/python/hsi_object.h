/* hsi_object.h - the HSI object, for the files that make up the type. */
#ifndef MET_PY_HSI_OBJECT_H
#define MET_PY_HSI_OBJECT_H

#include <Python.h>

#include "hsi.h"

/*
 * Every field has been checked for itself. Whether fields agree is asked where they are used together, so that a
 * user may replace two of them one after the other.
 */
typedef struct met_py_hsi {
    PyObject_HEAD PyObject *image; /* dense 3-D torch.Tensor of real numbers; NULL: not initialised */
    PyObject *wavelengths;         /* 1-D torch.Tensor, nm */
    PyObject *orientation;         /* tuple of "C", "H" and "W" */
    PyObject *device;              /* torch.device */
    PyObject *mask;                /* bool torch.Tensor of at most 3 axes; NULL: all true, made when somebody looks */
    PyObject *georeference;        /* where the image lies: an object with crs and transform; NULL: unknown */
    PyObject *source;              /* str, how the image was read from a file or a labelled array; NULL: it was not */
    PyObject *dict;
    PyObject *weak;
} met_py_hsi;

/* hsi_fields.c: one value of a user as a field; a new reference, or NULL with the exception of the specification */
PyObject *met_py_image_field(PyObject *value);
PyObject *met_py_wavelengths_field(PyObject *value);
PyObject *met_py_orientation_field(PyObject *value);
PyObject *met_py_device_field(PyObject *value);
/* None, or an object with crs and transform */
PyObject *met_py_georeference_field(PyObject *value);
/* None, or a str */
PyObject *met_py_source_field(PyObject *value);
/* tensor.to(device), DeviceError where there is no such device */
PyObject *met_py_move(PyObject *tensor, PyObject *device);
/* Wavelengths in a unit as a tensor in nm, not checked yet; ValueError for a unit that is none */
PyObject *met_py_wavelengths_in_nm(PyObject *value, PyObject *unit);
/* A warning where wavelengths that should be nm look like micrometres; -1 with an exception */
int met_py_warn_of_micrometres(PyObject *wavelengths);
/* ShapeMismatchError unless there is one wavelength for each band */
int met_py_check_wavelengths(PyObject *wavelengths, PyObject *image, int axis);
/* The position of a letter, and that of the bands, in an orientation */
int met_py_axis(PyObject *orientation, const char *letter);
static inline int met_py_spectral_axis(PyObject *orientation) {
    return met_py_axis(orientation, "C");
}
/* How many axes a tensor has, -1 with an exception; its sizes as a plain tuple */
Py_ssize_t met_py_count_axes(PyObject *tensor);
PyObject *met_py_shape_of(PyObject *tensor);
/* The module functions that meteors_c.hsi wraps */
extern PyMethodDef met_py_hsi_functions[];

/* hsi_mask.c: a new reference, or NULL with an exception */
/* The mask of a user, checked, on a device; None where all values are used */
PyObject *met_py_mask_field(PyObject *value, PyObject *image, PyObject *orientation, PyObject *device);
/* The same as a tensor of whatever dtype and shape */
PyObject *met_py_mask_tensor(PyObject *value);
/* A mask of ones, (the image's shape), that may be written to */
PyObject *met_py_full_mask(PyObject *image, PyObject *device);
/*
 * The mask in the image's shape, without a copy. Two axes are the spatial ones or, as broadcasting has it, the last
 * two; one axis is the last. ShapeMismatchError with both shapes where none of these fits, and with both readings where
 * two do that mean something else.
 */
PyObject *met_py_expand_mask(PyObject *mask, PyObject *image, PyObject *orientation);

/* hsi.c: -1 with an exception where __init__ has not run; the mask, made and expanded to the image (new reference) */
int met_py_hsi_ready(const met_py_hsi *self);
PyObject *met_py_hsi_mask(met_py_hsi *self);

/* hsi_bands.c */
/* The bands that have a name, as a new dict of name to (lowest, highest wavelength), nm, ends included */
PyObject *met_py_band_ranges(void);
PyObject *met_py_hsi_get_image(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *met_py_hsi_extract_band(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *met_py_hsi_get_rgb(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *met_py_hsi_get_picture(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *met_py_hsi_substitute_bands(PyObject *self, PyObject *unused);
PyObject *met_py_hsi_central_slice(PyObject *self, PyObject *args, PyObject *kwargs);

/* hsi_source.c: labelled arrays, files that are open, and bands by the names of spectral regions, all in Python */
/*
 * The keyword arguments for an image that is one of the arrays of other packages, as a new dict; None where it is a
 * tensor, a plain array, or nothing that is known there.
 */
PyObject *met_py_hsi_read_source(PyObject *image, PyObject *kwargs);
PyObject *met_py_hsi_from_xarray(PyObject *type, PyObject *args, PyObject *kwargs);
PyObject *met_py_hsi_named_bands(PyObject *self, PyObject *name);

/* hsi_copy.c */
PyObject *met_py_hsi_model_copy(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *met_py_hsi_reduce(PyObject *self, PyObject *unused);
PyObject *met_py_hsi_setstate(PyObject *self, PyObject *state);
/* A deep copy, outside the graph where the image lies inside one */
PyObject *met_py_hsi_deepcopy(PyObject *self, PyObject *memo);
PyObject *met_py_hsi_compare(PyObject *self, PyObject *other, int operation);
PyObject *met_py_hsi_repr(PyObject *self);
/* A new object of the same class with the same fields and attributes */
PyObject *met_py_hsi_shallow(PyObject *self);

#endif
