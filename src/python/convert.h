/* convert.h - between Python's arrays and the core's raw views. Torch is reached through Python calls alone. */
#ifndef MET_PY_CONVERT_H
#define MET_PY_CONVERT_H

#include <Python.h>

#include "met.h"

/* module.name; a new reference. */
PyObject *met_py_import(const char *module, const char *name);

/* Set the exception `name` of meteors_c.exceptions; returns -1. A pending exception becomes its cause. */
int met_py_error(const char *name, const char *format, ...);

/* The same for any exception type. */
int met_py_error_of(PyObject *type, const char *format, ...);

/*
 * Any array as a torch.Tensor on the same memory: tensors, NumPy arrays, DLPack and buffers. Arrays that a tensor
 * can't share (another byte order, negative or odd strides, memory that is not aligned) are copied. Read-only memory is
 * shared: nobody here may write to the tensor. TypeError "`what` must be
 * `wanted`" for everything else, and in other words for dtypes that are no real numbers and for sparse tensors.
 */
#define MET_PY_ARRAY "a torch tensor or a NumPy array"
PyObject *met_py_as_tensor(PyObject *value, const char *what, const char *wanted);

/* Whether value is a torch.Tensor; -1 with an exception. */
int met_py_is_tensor(PyObject *value);

/* A shape as a tuple, and a tuple of three sizes as a shape (-1 with an exception). */
PyObject *met_py_shape_tuple(const size_t *shape, int axes);
int met_py_shape(PyObject *tensor, size_t shape[MET_AXES]);

/* A new C-contiguous tensor on the CPU, and where its values lie. `dtype` by torch's name: "float32", "bool". */
PyObject *met_py_tensor_new(const size_t *shape, int axes, const char *dtype, void **data);

/* Torch's name of a dtype. */
const char *met_py_dtype_name(met_dtype dtype);

/*
 * A raw view of a 3-D tensor; bands = -1, no mask, no wavelengths. *keep is a new reference that must live as long as
 * the view: the tensor, or a converted copy where its memory can't be read as it is (another device, half precision,
 * a lazy negation). -1 with an exception.
 */
int met_py_tensor_view(PyObject *tensor, met_image *view, PyObject **keep);

/* Values of a 1-D tensor as doubles in a new bytes object, *count of them; NULL with an exception. */
PyObject *met_py_doubles(PyObject *tensor, size_t *count);

#endif
