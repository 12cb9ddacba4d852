#include "errors.h"
#include "job.h"
#include "methods.h"

const char met_py_integrated_gradients_doc[] = PyDoc_STR(
    "integrated_gradients(images, targets, baselines, model, options, n_steps, method, multiply_by_inputs, delta)\n"
    "--\n\n"
    "(list of arrays, list of float or None, report dict): integrated gradients from each baseline to its image, and\n"
    "with delta the error of completeness. The arguments are those of job.h; method is gausslegendre, riemann_left,\n"
    "riemann_right, riemann_middle or riemann_trapezoid. Source: Sundararajan et al., 2017 (arXiv:1703.01365).");

int met_py_quadrature(PyObject *name, met_quadrature *out) {
    static const struct {
        const char *name;
        met_quadrature quadrature;
    } known[] = {{"gausslegendre", MET_GAUSS_LEGENDRE},
                 {"riemann_left", MET_RIEMANN_LEFT},
                 {"riemann_right", MET_RIEMANN_RIGHT},
                 {"riemann_middle", MET_RIEMANN_MIDDLE},
                 {"riemann_trapezoid", MET_RIEMANN_TRAPEZOID}};
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "method must be the name of a quadrature rule, such as 'gausslegendre', not %R",
                     name);
        return -1;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (PyUnicode_CompareWithASCIIString(name, known[i].name) == 0) {
            *out = known[i].quadrature;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "method must be one of gausslegendre, riemann_left, riemann_right, riemann_middle, "
                 "riemann_trapezoid, not %R",
                 name);
    return -1;
}

static PyObject *float_list(const double *values, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *value = PyFloat_FromDouble(values[i]);
        if (value == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, value);
    }
    return list;
}

PyObject *met_py_integrated_gradients(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"images",  "targets", "baselines",          "model", "options",
                            "n_steps", "method",  "multiply_by_inputs", "delta", NULL};
    PyObject *images, *targets, *baselines, *model, *options, *quadrature;
    Py_ssize_t steps;
    int multiply, want_delta;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOnOpp", names, &images, &targets, &baselines, &model, &options,
                                     &steps, &quadrature, &multiply, &want_delta)) {
        return NULL;
    }
    if (steps < 1) {
        PyErr_Format(PyExc_ValueError, "n_steps must be a positive int, not %zd", steps);
        return NULL;
    }
    met_integrated_gradients_options method = {.steps = (size_t)steps, .multiply_by_inputs = multiply != 0};
    if (met_py_quadrature(quadrature, &method.quadrature) < 0) {
        return NULL;
    }
    met_py_job job;
    PyObject *answer = NULL;
    if (met_py_job_open(&job, images, targets, baselines, model, options) < 0) {
        goto done;
    }
    if (want_delta && (method.delta = PyMem_RawCalloc(job.images, sizeof *method.delta)) == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    met_py_job_leave(&job);
    int status = met_integrated_gradients(job.inputs, job.images, job.dtype, &method, job.model, &job.options, job.out,
                                          &job.report);
    if (met_py_job_enter(&job, status) == 0) {
        PyObject *delta = want_delta ? float_list(method.delta, job.images) : Py_NewRef(Py_None);
        answer = delta == NULL ? NULL : met_py_job_answer_with(&job, job.results, delta);
        Py_XDECREF(delta);
    }
done:
    PyMem_RawFree(method.delta);
    met_py_job_close(&job);
    return answer;
}
