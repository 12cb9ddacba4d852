#include "errors.h"
#include "job.h"
#include "methods.h"
#include "numpy_api.h"

const char met_py_occlusion_doc[] = PyDoc_STR(
    "occlusion(images, targets, baselines, model, options, window, stride, outputs)\n--\n\n"
    "(list of lists of arrays, shape of a sample's outputs if all are asked for, report dict): for each image and each "
    "explained output, the mean over the windows that\n"
    "cover a value of what the output loses when the window takes the baseline. The arguments are those of job.h;\n"
    "window and stride are tuples of three int; outputs is None (the target of each image), 'all', or a list of\n"
    "tuples of int. Source: Zeiler and Fergus, 2014 (arXiv:1311.2901).");

int met_py_windows(PyObject *window, PyObject *stride, const size_t shape[MET_AXES], met_windows *out) {
    Py_ssize_t w[MET_AXES], s[MET_AXES];
    size_t sizes[MET_AXES], steps[MET_AXES];
    if (!PyArg_ParseTuple(window, "nnn;window must be three int", &w[0], &w[1], &w[2]) ||
        !PyArg_ParseTuple(stride, "nnn;stride must be three int", &s[0], &s[1], &s[2])) {
        return -1;
    }
    for (int a = 0; a < MET_AXES; a++) {
        if (w[a] < 0 || s[a] < 0) {
            PyErr_SetString(PyExc_ValueError, "sliding_window_shapes and strides must be positive");
            return -1;
        }
        sizes[a] = (size_t)w[a];
        steps[a] = (size_t)s[a];
    }
    int status = met_windows_new(shape, sizes, steps, out);
    return status == MET_OK ? 0 : met_py_raise(status);
}

/* None, 'all' or a list of targets. */
static int read_outputs(PyObject *outputs, met_occlusion_options *method, met_target **targets) {
    if (outputs == Py_None) {
        return 0;
    }
    if (!PyList_Check(outputs)) {
        method->all_targets = true;
        return 0;
    }
    Py_ssize_t n = PyList_GET_SIZE(outputs);
    *targets = PyMem_RawCalloc((size_t)n + 1, sizeof **targets);
    if (*targets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (met_py_target(PyList_GET_ITEM(outputs, i), &(*targets)[i]) < 0) {
            return -1;
        }
    }
    method->targets = *targets;
    method->n_targets = (size_t)n;
    return 0;
}

/* Spread the differences of image i over an array for each output. */
static PyObject *spread(met_py_job *job, const met_windows *windows, const met_occlusion_result *result, size_t i) {
    const size_t number = met_windows_number(windows);
    PyObject *list = PyList_New((Py_ssize_t)result->outputs);
    for (size_t t = 0; list != NULL && t < result->outputs; t++) {
        PyObject *array = met_py_job_array(job);
        if (array == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)t, array);
        const double *values = result->differences + (i * result->outputs + t) * number;
        void *out = PyArray_DATA((PyArrayObject *)array);
        met_py_job_leave(job);
        int status = met_windows_mean(windows, values, job->dtype, job->options.pool, out);
        if (met_py_job_enter(job, status) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* The shape of a sample's outputs. */
static PyObject *shape_tuple(const met_occlusion_result *result) {
    PyObject *shape = PyTuple_New(result->axes);
    for (int a = 0; shape != NULL && a < result->axes; a++) {
        PyObject *size = PyLong_FromLongLong(result->shape[a]);
        if (size == NULL) {
            Py_CLEAR(shape);
            break;
        }
        PyTuple_SET_ITEM(shape, a, size);
    }
    return shape;
}

PyObject *met_py_occlusion(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"images", "targets", "baselines", "model", "options", "window", "stride", "outputs", NULL};
    PyObject *images, *targets, *baselines, *model, *options, *window, *stride, *outputs;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO!O!O", names, &images, &targets, &baselines, &model, &options,
                                     &PyTuple_Type, &window, &PyTuple_Type, &stride, &outputs)) {
        return NULL;
    }
    met_py_job job;
    met_occlusion_options method = {0};
    met_occlusion_result result = {0};
    met_target *wanted = NULL;
    PyObject *answer = NULL;
    PyObject *lists = NULL;
    PyObject *shape = NULL;
    if (met_py_job_open(&job, images, targets, baselines, model, options) < 0 ||
        met_py_windows(window, stride, job.inputs[0].image.shape, &method.windows) < 0 ||
        read_outputs(outputs, &method, &wanted) < 0) {
        goto done;
    }
    met_py_job_leave(&job);
    int status =
        met_occlusion(job.inputs, job.images, job.dtype, &method, job.model, &job.options, &result, &job.report);
    if (met_py_job_enter(&job, status) < 0) {
        goto done;
    }
    lists = PyList_New((Py_ssize_t)job.images);
    for (size_t i = 0; lists != NULL && i < job.images; i++) {
        PyObject *list = spread(&job, &method.windows, &result, i);
        if (list == NULL) {
            Py_CLEAR(lists);
            break;
        }
        PyList_SET_ITEM(lists, (Py_ssize_t)i, list);
    }
    shape = lists == NULL ? NULL : shape_tuple(&result);
    if (shape != NULL) {
        answer = met_py_job_answer_with(&job, lists, shape);
    }
done:
    Py_XDECREF(lists);
    Py_XDECREF(shape);
    met_deallocate(result.differences);
    PyMem_RawFree(wanted);
    met_py_job_close(&job);
    return answer;
}
