#include "job.h"

#include "capsule.h"
#include "errors.h"
#include "hsi.h"
#include "numpy_api.h"

/* Progress is shown to people: telling them this often is enough. Signals are looked at after every chunk. */
#define TICK_SECONDS 0.05

int met_py_target(PyObject *indices, met_target *out) {
    if (!PyTuple_Check(indices) || PyTuple_GET_SIZE(indices) > MET_TARGET_AXES) {
        PyErr_Format(PyExc_TypeError, "target must be a tuple of at most %d int, not %R", MET_TARGET_AXES, indices);
        return -1;
    }
    out->axes = (int)PyTuple_GET_SIZE(indices);
    for (int a = 0; a < out->axes; a++) {
        out->index[a] = PyLong_AsLongLong(PyTuple_GET_ITEM(indices, a));
        if (out->index[a] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

/* Between chunks, without the GIL: look for signals, then tell the progress callback. */
static int tick(void *ctx, size_t done, size_t total) {
    met_py_job *job = ctx;
    PyEval_RestoreThread(job->thread);
    int failed = PyErr_CheckSignals();
    double now = met_seconds();
    if (!failed && job->progress != NULL && (now - job->ticked > TICK_SECONDS || done == total)) {
        job->ticked = now;
        PyObject *answer = PyObject_CallFunction(job->progress, "nn", (Py_ssize_t)done, (Py_ssize_t)total);
        failed = answer == NULL;
        Py_XDECREF(answer);
    }
    job->thread = PyEval_SaveThread();
    return failed ? MET_ECALLBACK : MET_OK;
}

static int read_options(met_py_job *job, PyObject *options) {
    PyObject *item;
    job->options = (met_options){.shortcuts = true, .tick = tick, .tick_ctx = job};
    if (!PyDict_Check(options)) {
        PyErr_SetString(PyExc_TypeError, "options must be a dict");
        return -1;
    }
    if ((item = PyDict_GetItemString(options, "most")) != NULL && item != Py_None) {
        job->options.most = PyLong_AsSize_t(item);
    }
    if ((item = PyDict_GetItemString(options, "memory")) != NULL && item != Py_None) {
        job->options.memory = PyLong_AsSize_t(item);
    }
    if ((item = PyDict_GetItemString(options, "shortcuts")) != NULL) {
        job->options.shortcuts = PyObject_IsTrue(item) == 1;
    }
    if ((item = PyDict_GetItemString(options, "progress")) != NULL && item != Py_None) {
        job->progress = Py_NewRef(item);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    return met_py_parallel(PyDict_GetItemString(options, "parallel"), &job->options.pool);
}

static int keep(met_py_job *job, PyObject *object) {
    int failed = object == NULL ? 0 : PyList_Append(job->kept, object);
    Py_XDECREF(object);
    return failed;
}

static int read_baseline(met_py_job *job, PyObject *baseline, met_input *input) {
    if (PyFloat_Check(baseline)) {
        input->baseline_value = PyFloat_AS_DOUBLE(baseline);
        return 0;
    }
    PyObject *owner = NULL;
    if (met_py_tensor_view(baseline, &input->baseline, &owner) < 0) {
        return -1;
    }
    return keep(job, owner);
}

static int read_input(met_py_job *job, size_t i, PyObject *images, PyObject *targets, PyObject *baselines) {
    met_input *input = &job->inputs[i];
    input->origin = i;
    PyObject *owner = NULL;
    if (met_py_image_view(PyList_GET_ITEM(images, (Py_ssize_t)i), &input->image, &owner) < 0 || keep(job, owner) < 0 ||
        met_py_target(PyList_GET_ITEM(targets, (Py_ssize_t)i), &input->target) < 0) {
        return -1;
    }
    if (baselines != NULL && read_baseline(job, PyList_GET_ITEM(baselines, (Py_ssize_t)i), input) < 0) {
        return -1;
    }
    if (input->image.dtype == MET_FLOAT64) {
        job->dtype = MET_FLOAT64;
    }
    return 0;
}

PyObject *met_py_job_array(const met_py_job *job) {
    npy_intp shape[MET_AXES];
    for (int a = 0; a < MET_AXES; a++) {
        shape[a] = (npy_intp)job->inputs[0].image.shape[a];
    }
    return PyArray_SimpleNew(MET_AXES, shape, job->dtype == MET_FLOAT64 ? NPY_FLOAT64 : NPY_FLOAT32);
}

static int make_results(met_py_job *job) {
    for (size_t i = 0; i < job->images; i++) {
        PyObject *array = met_py_job_array(job);
        if (array == NULL) {
            return -1;
        }
        job->out[i] = PyArray_DATA((PyArrayObject *)array);
        PyList_SET_ITEM(job->results, (Py_ssize_t)i, array);
    }
    return 0;
}

static int same_length(PyObject *list, size_t n, const char *name) {
    if (!PyList_Check(list) || (size_t)PyList_GET_SIZE(list) != n || n == 0) {
        PyErr_Format(PyExc_ValueError, "%s must be a list with one entry for each image (%zu)", name, n);
        return -1;
    }
    return 0;
}

int met_py_job_open(met_py_job *job, PyObject *images, PyObject *targets, PyObject *baselines, PyObject *model,
                    PyObject *options) {
    *job = (met_py_job){.dtype = MET_FLOAT32};
    job->images = PyList_Check(images) ? (size_t)PyList_GET_SIZE(images) : 0;
    if (same_length(images, job->images, "images") < 0 || same_length(targets, job->images, "targets") < 0 ||
        (baselines != NULL && same_length(baselines, job->images, "baselines") < 0)) {
        return -1;
    }
    job->model = met_py_model(model);
    job->kept = PyList_New(0);
    job->results = PyList_New((Py_ssize_t)job->images);
    if (job->model == NULL || job->kept == NULL || job->results == NULL || read_options(job, options) < 0 ||
        keep(job, Py_NewRef(model)) < 0) {
        return -1;
    }
    job->inputs = PyMem_RawCalloc(job->images, sizeof *job->inputs);
    job->out = PyMem_RawCalloc(job->images, sizeof *job->out);
    if (job->inputs == NULL || job->out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < job->images; i++) {
        if (read_input(job, i, images, targets, baselines) < 0) {
            return -1;
        }
    }
    return make_results(job);
}

void met_py_job_leave(met_py_job *job) {
    job->thread = PyEval_SaveThread();
}

int met_py_job_enter(met_py_job *job, int status) {
    PyEval_RestoreThread(job->thread);
    return status == MET_OK ? 0 : met_py_raise(status);
}

/* The report as a dict. */
static PyObject *report_dict(const met_py_job *job) {
    const met_report *r = &job->report;
    return Py_BuildValue("{s:n,s:n,s:n,s:n,s:n,s:n,s:d,s:d,s:n,s:n,s:z,s:z}",         /* */
                         "evaluations", (Py_ssize_t)r->evaluations,                   /* */
                         "evaluations_saved", (Py_ssize_t)r->saved,                   /* */
                         "model_calls", (Py_ssize_t)r->calls,                         /* */
                         "chunk_first", (Py_ssize_t)r->chunk_first,                   /* */
                         "chunk_size", (Py_ssize_t)r->chunk_last,                     /* */
                         "chunk_largest", (Py_ssize_t)r->chunk_most,                  /* */
                         "seconds", r->seconds,                                       /* */
                         "seconds_in_model", r->seconds_model,                        /* */
                         "peak_bytes", (Py_ssize_t)r->memory.peak,                    /* */
                         "shortcut_evaluations", (Py_ssize_t)r->shortcut_evaluations, /* */
                         "shortcut", r->shortcut[0] != '\0' ? r->shortcut : NULL,     /* */
                         "shortcut_declined", r->declined[0] != '\0' ? r->declined : NULL);
}

PyObject *met_py_job_answer(const met_py_job *job, PyObject *results) {
    PyObject *report = report_dict(job);
    PyObject *answer = report == NULL ? NULL : PyTuple_Pack(2, results, report);
    Py_XDECREF(report);
    return answer;
}

PyObject *met_py_job_answer_with(const met_py_job *job, PyObject *results, PyObject *more) {
    PyObject *report = report_dict(job);
    PyObject *answer = report == NULL ? NULL : PyTuple_Pack(3, results, more, report);
    Py_XDECREF(report);
    return answer;
}

void met_py_job_close(met_py_job *job) {
    PyMem_RawFree(job->inputs);
    PyMem_RawFree(job->out);
    Py_CLEAR(job->results);
    Py_CLEAR(job->kept);
    Py_CLEAR(job->progress);
}
