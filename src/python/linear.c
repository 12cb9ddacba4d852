/* linear.c - the linear fits of the core on NumPy arrays. */
#include "linear.h"

#include <string.h>

#include "errors.h"
#include "linear_fit.h"
#include "numpy_api.h"

const char met_py_fit_linear_doc[] = PyDoc_STR(
    "fit_linear(x, y, weight, kind, alpha, intercept, positive, max_iterations, tolerance)\n--\n\n"
    "Weighted linear regression of y (rows, outputs) on x (rows, features), C-contiguous float64 arrays, with\n"
    "weight (rows,) or None. kind is \"least_squares\", \"ridge\" or \"lasso\"; 0 stands for the default of "
    "max_iterations\n"
    "and tolerance, which the LASSO alone reads, as it does positive. Returns coefficients (outputs, features),\n"
    "intercepts (outputs,), the rank (of least squares, else 0) and whether the fit converged.");

static int read_kind(const char *name, met_fit_kind *out) {
    static const char *const names[] = {"least_squares", "ridge", "lasso"};
    static const met_fit_kind kinds[] = {MET_FIT_LEAST_SQUARES, MET_FIT_RIDGE, MET_FIT_LASSO};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = kinds[i];
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "kind must be \"least_squares\", \"ridge\" or \"lasso\", not \"%s\"", name);
    return -1;
}

/* The array behind an argument of `axes` axes that the core can read as it is; NULL with an exception. */
static PyArrayObject *read_array(PyObject *value, const char *name, int axes) {
    PyArrayObject *array = (PyArrayObject *)value;
    if (!PyArray_Check(value) || PyArray_TYPE(array) != NPY_FLOAT64 || !PyArray_ISCARRAY_RO(array)) {
        PyErr_Format(PyExc_TypeError, "%s must be a C-contiguous array of float64, not %R", name,
                     PyArray_Check(value) ? (PyObject *)PyArray_DESCR(array) : (PyObject *)Py_TYPE(value));
        return NULL;
    }
    if (PyArray_NDIM(array) != axes) {
        PyErr_Format(PyExc_ValueError, "%s must have %d axes, not %d", name, axes, PyArray_NDIM(array));
        return NULL;
    }
    return array;
}

/* The arguments x, y and weight as a problem of the core; the arrays stay the caller's. */
static int read_problem(PyObject *x, PyObject *y, PyObject *weight, met_fit_problem *out) {
    PyArrayObject *rows = read_array(x, "x", 2);
    PyArrayObject *values = rows == NULL ? NULL : read_array(y, "y", 2);
    PyArrayObject *weights = values == NULL || weight == Py_None ? NULL : read_array(weight, "weight", 1);
    if (values == NULL || (weights == NULL && weight != Py_None)) {
        return -1;
    }
    const npy_intp n = PyArray_DIM(rows, 0);
    if (PyArray_DIM(values, 0) != n || (weights != NULL && PyArray_DIM(weights, 0) != n)) {
        return met_py_raise(met_fail(MET_ESHAPE, "x has %zd rows, but y has %zd and weight %zd", (Py_ssize_t)n,
                                     (Py_ssize_t)PyArray_DIM(values, 0),
                                     (Py_ssize_t)(weights == NULL ? n : PyArray_DIM(weights, 0))));
    }
    *out = (met_fit_problem){.x = PyArray_DATA(rows),
                             .y = PyArray_DATA(values),
                             .weight = weights == NULL ? NULL : PyArray_DATA(weights),
                             .rows = (size_t)n,
                             .features = (size_t)PyArray_DIM(rows, 1),
                             .outputs = (size_t)PyArray_DIM(values, 1)};
    return 0;
}

PyObject *met_py_fit_linear(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"x",         "y",        "weight",         "kind",      "alpha",
                            "intercept", "positive", "max_iterations", "tolerance", NULL};
    PyObject *x, *y, *weight;
    const char *kind;
    int intercept, positive;
    Py_ssize_t sweeps;
    met_fit_options options;
    met_fit_problem problem;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOsdppnd", names, &x, &y, &weight, &kind, &options.alpha,
                                     &intercept, &positive, &sweeps, &options.tolerance) ||
        read_kind(kind, &options.kind) < 0 || read_problem(x, y, weight, &problem) < 0) {
        return NULL;
    }
    if (sweeps < 0) {
        return PyErr_Format(PyExc_ValueError, "max_iterations must not be negative, got %zd", sweeps);
    }
    options.intercept = intercept != 0;
    options.positive = positive != 0;
    options.max_iterations = (size_t)sweeps;
    npy_intp shape[] = {(npy_intp)problem.outputs, (npy_intp)problem.features};
    PyObject *coefficients = PyArray_SimpleNew(2, shape, NPY_FLOAT64);
    PyObject *intercepts = coefficients == NULL ? NULL : PyArray_SimpleNew(1, shape, NPY_FLOAT64);
    PyObject *fitted = NULL;
    if (intercepts != NULL) {
        met_fit_result result = {.coefficients = PyArray_DATA((PyArrayObject *)coefficients),
                                 .intercepts = PyArray_DATA((PyArrayObject *)intercepts)};
        int status;
        Py_BEGIN_ALLOW_THREADS status = met_linear_fit(&problem, &options, &result);
        Py_END_ALLOW_THREADS if (status != MET_OK) {
            met_py_raise(status);
        }
        else {
            fitted = Py_BuildValue("OOnO", coefficients, intercepts, (Py_ssize_t)result.rank,
                                   result.converged ? Py_True : Py_False);
        }
    }
    Py_XDECREF(coefficients);
    Py_XDECREF(intercepts);
    return fitted;
}
