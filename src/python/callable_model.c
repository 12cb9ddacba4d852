/*
 * callable_model.c - any Python callable on arrays as a met_model.
 *
 * It serves models of other frameworks (forward only), and models of torch where its C++ interface cannot be used:
 * then gradient is a callable too. The callables are given arrays on the chunk's own memory, which they may keep.
 */
#include "capsule.h"
#include "numpy_api.h"

typedef struct callable_model {
    met_model model;
    PyObject *forward;
    PyObject *gradient; /* NULL: not differentiable */
} callable_model;

#define CLAIM "meteors_c.claim"

static void drop_claim(PyObject *capsule) {
    met_owner *owner = PyCapsule_GetPointer(capsule, CLAIM);
    owner->release(owner);
}

/* A batch as an array that keeps the batch's memory alive. */
static PyObject *batch_array(const met_batch *x) {
    npy_intp shape[1 + MET_AXES] = {(npy_intp)x->n, (npy_intp)x->shape[0], (npy_intp)x->shape[1],
                                    (npy_intp)x->shape[2]};
    int type = x->dtype == MET_FLOAT64 ? NPY_FLOAT64 : NPY_FLOAT32;
    PyObject *array = PyArray_SimpleNewFromData(1 + MET_AXES, shape, type, x->data);
    if (array == NULL) {
        return NULL;
    }
    x->owner->retain(x->owner);
    PyObject *claim = PyCapsule_New(x->owner, CLAIM, drop_claim);
    if (claim == NULL) {
        x->owner->release(x->owner);
        Py_DECREF(array);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, claim) < 0) { /* steals claim, on failure too */
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

/* The images that the samples belong to, as an array of intp. */
static PyObject *image_array(const met_batch *x) {
    npy_intp n = (npy_intp)x->n;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_INTP);
    for (npy_intp i = 0; array != NULL && i < n; i++) {
        ((npy_intp *)PyArray_DATA((PyArrayObject *)array))[i] = (npy_intp)x->image[i];
    }
    return array;
}

static PyObject *target_list(const met_outputs *y) {
    PyObject *list = PyList_New((Py_ssize_t)y->n);
    for (size_t i = 0; list != NULL && i < y->n; i++) {
        const met_target *target = y->targets[i];
        PyObject *tuple = PyTuple_New(target->axes);
        for (int a = 0; tuple != NULL && a < target->axes; a++) {
            PyObject *index = PyLong_FromLongLong(target->index[a]);
            if (index == NULL) {
                Py_CLEAR(tuple);
                break;
            }
            PyTuple_SET_ITEM(tuple, a, index);
        }
        if (tuple == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, tuple);
    }
    return list;
}

/* Whether `outputs` is one number for several samples. */
static bool is_lone(PyArrayObject *outputs, size_t samples) {
    return samples > 1 && PyArray_SIZE(outputs) == 1;
}

/* Copy outputs (n,) or (n, ...) into y. */
static int read_outputs(PyArrayObject *outputs, met_outputs *y) {
    const size_t n = y->n;
    int64_t shape[NPY_MAXDIMS];
    int axes = PyArray_NDIM(outputs) - 1;
    size_t width = 1;
    bool lone = n == 1 && PyArray_SIZE(outputs) == 1 && axes < 1;
    if (lone) {
        axes = 0;
    } else if (axes < 0 || (size_t)PyArray_DIM(outputs, 0) != n) {
        PyObject *came = PyObject_GetAttrString((PyObject *)outputs, "shape");
        PyErr_Format(PyExc_RuntimeError,
                     "the model must return (n,) or (n, outputs, ...) for n samples: it was given %zu samples and "
                     "returned shape %S",
                     n, came);
        Py_XDECREF(came);
        return MET_ECALLBACK;
    }
    for (int a = 0; a < axes; a++) {
        shape[a] = PyArray_DIM(outputs, a + 1);
        width *= (size_t)shape[a];
    }
    if (axes > MET_TARGET_AXES) {
        return met_fail(MET_EMODEL, "the model's outputs have %d axes, at most %d can be explained", axes,
                        MET_TARGET_AXES);
    }
    y->axes = axes;
    for (int a = 0; a < axes; a++) {
        y->shape[a] = shape[a];
    }
    int status = y->reserve(y, y->targets != NULL ? 1 : width);
    const double *values = PyArray_DATA(outputs);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        if (y->targets == NULL) {
            for (size_t j = 0; j < width; j++) {
                y->value[i * width + j] = values[i * width + j];
            }
        } else {
            size_t flat = 0;
            status = met_target_resolve(y->targets[i], shape, axes, &flat);
            if (status == MET_OK) {
                y->value[i] = values[i * width + flat];
            }
        }
    }
    return status;
}

/* Outputs of the model as a C-contiguous array of doubles. */
static PyArrayObject *as_outputs(PyObject *answer) {
    PyObject *array = PyArray_FROM_OTF(answer, NPY_FLOAT64, NPY_ARRAY_IN_ARRAY);
    if (array == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "the model must return an array of numbers, not %.200s",
                     Py_TYPE(answer)->tp_name);
    }
    return (PyArrayObject *)array;
}

static int call_forward(const callable_model *m, const met_batch *x, met_outputs *y) {
    PyObject *array = batch_array(x);
    PyObject *images = array == NULL ? NULL : image_array(x);
    PyObject *answer = images == NULL ? NULL : PyObject_CallFunctionObjArgs(m->forward, array, images, NULL);
    PyArrayObject *outputs = answer == NULL ? NULL : as_outputs(answer);
    Py_XDECREF(array);
    Py_XDECREF(images);
    Py_XDECREF(answer);
    int status = outputs == NULL ? MET_ECALLBACK : is_lone(outputs, x->n) ? MET_ESINGLE : read_outputs(outputs, y);
    Py_XDECREF(outputs);
    return status;
}

static int forward(void *ctx, met_batch *x, met_outputs *y) {
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = call_forward(ctx, x, y);
    x->modified = true; /* an array may have been written to without a trace */
    PyGILState_Release(gil);
    return status;
}

/* An array whose memory a met_batch exports. */
typedef struct array_owner {
    met_owner owner;
    size_t references; /* changed with the GIL held */
    PyObject *array;
} array_owner;

static void array_retain(met_owner *self) {
    PyGILState_STATE gil = PyGILState_Ensure();
    ((array_owner *)self)->references++;
    PyGILState_Release(gil);
}

static void array_release(met_owner *self) {
    PyGILState_STATE gil = PyGILState_Ensure();
    array_owner *held = (array_owner *)self;
    if (--held->references == 0) {
        Py_DECREF(held->array);
        PyMem_RawFree(held);
    }
    PyGILState_Release(gil);
}

/* Export a new (n, ...) array for gradients. */
static int export_gradients(const met_batch *x, met_batch *dx) {
    npy_intp shape[1 + MET_AXES] = {(npy_intp)x->n, (npy_intp)x->shape[0], (npy_intp)x->shape[1],
                                    (npy_intp)x->shape[2]};
    PyObject *array = PyArray_SimpleNew(1 + MET_AXES, shape, x->dtype == MET_FLOAT64 ? NPY_FLOAT64 : NPY_FLOAT32);
    array_owner *held = array == NULL ? NULL : PyMem_RawCalloc(1, sizeof *held);
    if (held == NULL) {
        Py_XDECREF(array);
        return PyErr_Occurred() ? MET_ECALLBACK : met_fail(MET_ENOMEM, "gradients do not fit into memory");
    }
    held->owner = (met_owner){array_retain, array_release};
    held->references = 1;
    held->array = array;
    *dx = *x;
    dx->data = PyArray_DATA((PyArrayObject *)array);
    dx->owner = &held->owner;
    dx->image = NULL;
    return MET_OK;
}

static int call_gradient(const callable_model *m, const met_batch *x, met_batch *dx, met_outputs *y) {
    int status = MET_ECALLBACK;
    PyObject *array = batch_array(x);
    PyObject *images = array == NULL ? NULL : image_array(x);
    PyObject *targets = images == NULL ? NULL : target_list(y);
    PyObject *answer = targets == NULL ? NULL : PyObject_CallFunctionObjArgs(m->gradient, array, images, targets, NULL);
    PyObject *place = NULL;
    PyArrayObject *values = NULL;
    if (answer == NULL) {
        goto done;
    }
    if (answer == Py_None) {
        status = MET_ESINGLE;
        goto done;
    }
    if (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 2 || !PyArray_Check(PyTuple_GET_ITEM(answer, 0))) {
        PyErr_SetString(PyExc_TypeError, "gradient must return (array of gradients, values) or None");
        goto done;
    }
    place = batch_array(dx);
    values = place == NULL ? NULL : as_outputs(PyTuple_GET_ITEM(answer, 1));
    if (values == NULL || PyArray_CopyInto((PyArrayObject *)place, (PyArrayObject *)PyTuple_GET_ITEM(answer, 0)) < 0) {
        goto done;
    }
    if ((size_t)PyArray_SIZE(values) != x->n) {
        PyErr_Format(PyExc_ValueError, "gradient must return one value for each of %zu samples, not %zd", x->n,
                     (Py_ssize_t)PyArray_SIZE(values));
        goto done;
    }
    status = y->reserve(y, 1);
    for (size_t i = 0; i < x->n && status == MET_OK; i++) {
        y->value[i] = ((const double *)PyArray_DATA(values))[i];
    }
done:
    Py_XDECREF(array);
    Py_XDECREF(images);
    Py_XDECREF(targets);
    Py_XDECREF(answer);
    Py_XDECREF(place);
    Py_XDECREF(values);
    return status;
}

static int gradient(void *ctx, met_batch *x, met_batch *dx, met_outputs *y) {
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = export_gradients(x, dx);
    if (status == MET_OK) {
        status = call_gradient(ctx, x, dx, y);
    }
    x->modified = true;
    PyGILState_Release(gil);
    return status;
}

static void free_model(PyObject *capsule) {
    callable_model *m = PyCapsule_GetPointer(capsule, MET_MODEL_CAPSULE);
    Py_XDECREF(m->forward);
    Py_XDECREF(m->gradient);
    PyMem_RawFree(m);
}

const char met_py_callable_model_doc[] =
    PyDoc_STR("callable_model(forward, gradient=None)\n--\n\n"
              "A Python callable as a model of the core, in a capsule.\n\n"
              "forward(x, images) gets an array (n, d0, d1, d2) and the image (n,) that each sample belongs to, and\n"
              "returns numbers (n,) or (n, outputs, ...). gradient(x, images, targets) gets a list of n tuples of int\n"
              "too and returns (gradients like x, values (n,)), or None where the model gave one number for all.");

PyObject *met_py_callable_model(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"forward", "gradient", NULL};
    PyObject *function;
    PyObject *derivative = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &function, &derivative)) {
        return NULL;
    }
    if (!PyCallable_Check(function) || (derivative != Py_None && !PyCallable_Check(derivative))) {
        PyErr_SetString(PyExc_TypeError, "forward must be callable, gradient callable or None");
        return NULL;
    }
    callable_model *m = PyMem_RawCalloc(1, sizeof *m);
    if (m == NULL) {
        return PyErr_NoMemory();
    }
    m->model.ctx = m;
    m->model.forward = forward;
    m->forward = Py_NewRef(function);
    if (derivative != Py_None) {
        m->model.gradient = gradient;
        m->gradient = Py_NewRef(derivative);
    }
    PyObject *capsule = PyCapsule_New(&m->model, MET_MODEL_CAPSULE, free_model);
    if (capsule == NULL) {
        Py_DECREF(m->forward);
        Py_XDECREF(m->gradient);
        PyMem_RawFree(m);
    }
    return capsule;
}
