#include "call.h"

#include "capsule.h"
#include "errors.h"
#include "hsi.h"
#include "numpy_api.h"

#include <stddef.h>

/* Progress is shown to people: telling them this often is enough. Signals are looked at after every chunk. */
#define PROGRESS_SECONDS 0.05

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
static int show_progress(void *ctx, size_t done, size_t total) {
    met_py_call *c = ctx;
    PyEval_RestoreThread(c->thread);
    int failed = PyErr_CheckSignals();
    double now = met_seconds();
    if (!failed && c->progress != NULL && (now - c->progress_shown > PROGRESS_SECONDS || done == total)) {
        c->progress_shown = now;
        PyObject *answer = PyObject_CallFunction(c->progress, "nn", (Py_ssize_t)done, (Py_ssize_t)total);
        failed = answer == NULL;
        Py_XDECREF(answer);
    }
    c->thread = PyEval_SaveThread();
    return failed ? MET_ECALLBACK : MET_OK;
}

/* Without the GIL: drop an exception that is none of the interpreter's own, such as an interrupt. */
static bool forgive(void) {
    const PyGILState_STATE gil = PyGILState_Ensure();
    const bool forgiven = PyErr_ExceptionMatches(PyExc_Exception) != 0;
    if (forgiven) {
        PyErr_Clear();
    }
    PyGILState_Release(gil);
    return forgiven;
}

/* ---- arguments */

/* An optional entry of a dict, borrowed; NULL where it is missing or None. */
static PyObject *entry(PyObject *options, const char *name) {
    PyObject *item = PyDict_GetItemString(options, name);
    return item == Py_None ? NULL : item;
}

int met_py_choice(PyObject *value, const char *argument, const char *const *names) {
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a string, not %R", argument, value);
        return -1;
    }
    for (int i = 0; names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            return i;
        }
    }
    PyObject *known = PyUnicode_FromString(names[0]);
    for (int i = 1; known != NULL && names[i] != NULL; i++) {
        Py_SETREF(known, PyUnicode_FromFormat("%U, %s", known, names[i]));
    }
    if (known != NULL) {
        PyErr_Format(PyExc_ValueError, "%s must be one of %U, not %R", argument, known, value);
        Py_DECREF(known);
    }
    return -1;
}

static int read_options(met_py_call *c, PyObject *options) {
    static const char *const policies[] = {"warn", "raise", "ignore", NULL};
    static const char *const uses[] = {"off", "where faster", "always", "replay", NULL};
    static const char *const dtypes[] = {"float32", "float64", NULL};
    PyObject *item;
    c->options = (met_options){
        .shortcuts = MET_SHORTCUTS_WHERE_FASTER, .progress = show_progress, .progress_ctx = c, .forgive = forgive};
    if (!PyDict_Check(options)) {
        PyErr_SetString(PyExc_TypeError, "options must be a dict");
        return -1;
    }
    if ((item = entry(options, "max_batch_size")) != NULL) {
        c->options.max_batch_size = PyLong_AsSize_t(item);
    }
    if ((item = entry(options, "memory_budget")) != NULL) {
        c->options.memory_budget = PyLong_AsSize_t(item);
    }
    if ((item = entry(options, "tune_allocator")) != NULL) {
        c->options.leave_allocator_alone = PyObject_IsTrue(item) == 0;
    }
    if ((item = entry(options, "progress")) != NULL) {
        c->progress = Py_NewRef(item);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if ((item = entry(options, "finite")) != NULL) {
        const int policy = met_py_choice(item, "finite", policies);
        c->options.finite = (met_finite)policy;
        if (policy < 0) {
            return -1;
        }
    }
    if ((item = entry(options, "shortcuts")) != NULL) {
        const int shortcuts = met_py_choice(item, "shortcuts", uses);
        c->options.shortcuts = (met_shortcuts)shortcuts;
        if (shortcuts < 0) {
            return -1;
        }
    }
    if ((item = entry(options, "dtype")) != NULL) {
        const int dtype = met_py_choice(item, "dtype", dtypes);
        if (dtype < 0) {
            return -1;
        }
        c->call.dtype = dtype == 1 ? MET_FLOAT64 : MET_FLOAT32;
    } else {
        c->call.dtype = MET_BOOL; /* that of the images */
    }
    if ((item = entry(options, "experience")) != NULL &&
        (met_py_experience(item, &c->options.experience) < 0 || met_py_keep(c, Py_NewRef(item)) < 0)) {
        return -1;
    }
    return met_py_parallel(entry(options, "parallel"), &c->options.pool);
}

int met_py_keep(met_py_call *c, PyObject *object) {
    int failed = object == NULL ? -1 : PyList_Append(c->kept, object);
    Py_XDECREF(object);
    return failed;
}

static int read_baseline(met_py_call *c, PyObject *baseline, met_input *input) {
    if (PyFloat_Check(baseline)) {
        input->baseline_value = PyFloat_AS_DOUBLE(baseline);
        return 0;
    }
    PyObject *owner = NULL;
    if (met_py_tensor_view(baseline, &input->baseline, &owner) < 0 || met_py_keep(c, owner) < 0) {
        return -1;
    }
    input->baseline.bands = input->image.bands;
    input->baseline.rows = input->image.rows;
    return 0;
}

static int read_input(met_py_call *c, size_t i, PyObject *images, PyObject *targets, PyObject *baselines) {
    met_input *input = &c->inputs[i];
    input->origin = i;
    PyObject *owner = NULL;
    if (met_py_image_view(PyList_GET_ITEM(images, (Py_ssize_t)i), &input->image, &owner) < 0 ||
        met_py_keep(c, owner) < 0 || met_py_target(PyList_GET_ITEM(targets, (Py_ssize_t)i), &input->target) < 0) {
        return -1;
    }
    if (baselines != Py_None && read_baseline(c, PyList_GET_ITEM(baselines, (Py_ssize_t)i), input) < 0) {
        return -1;
    }
    return 0;
}

/* What the random draws of an image are numbered by: its place in the call, or what the host says. */
static int read_stream(PyObject *streams, size_t i, met_input *input) {
    input->stream = i;
    if (streams != NULL) {
        input->stream = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(streams, (Py_ssize_t)i));
        if (input->stream >> 24 != 0 && !PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "streams must be below 2^24");
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

static int same_length(PyObject *list, size_t n, const char *name) {
    if (!PyList_Check(list) || (size_t)PyList_GET_SIZE(list) != n || n == 0) {
        PyErr_Format(PyExc_ValueError, "%s must be a list with one entry for each image (%zu)", name, n);
        return -1;
    }
    return 0;
}

/* ---- results */

PyObject *met_py_result_array(const met_py_call *c) {
    npy_intp shape[MET_AXES];
    for (int a = 0; a < MET_AXES; a++) {
        shape[a] = (npy_intp)c->inputs[0].image.shape[a];
    }
    return PyArray_SimpleNew(MET_AXES, shape, c->call.dtype == MET_FLOAT64 ? NPY_FLOAT64 : NPY_FLOAT32);
}

/* Make one array for each image and output. */
static int make_arrays(met_py_call *c, size_t outputs) {
    const size_t images = c->call.images;
    PyObject *lists = PyList_New(0);
    void **out = PyMem_RawCalloc(images * outputs, sizeof *out);
    if (lists == NULL || out == NULL) {
        Py_XDECREF(lists);
        PyMem_RawFree(out);
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < images * outputs; i++) {
        PyObject *list =
            i % outputs == 0 ? PyList_New(0) : Py_NewRef(PyList_GET_ITEM(lists, (Py_ssize_t)(i / outputs)));
        PyObject *array = list == NULL ? NULL : met_py_result_array(c);
        int failed =
            array == NULL || PyList_Append(list, array) < 0 || (i % outputs == 0 && PyList_Append(lists, list) < 0);
        out[i] = failed ? NULL : PyArray_DATA((PyArrayObject *)array);
        Py_XDECREF(array);
        Py_XDECREF(list);
        if (failed) {
            Py_DECREF(lists);
            PyMem_RawFree(out);
            return -1;
        }
    }
    Py_XSETREF(c->arrays, lists);
    PyMem_RawFree(c->results.out);
    c->results.out = out;
    c->results.outputs = outputs;
    return 0;
}

/* A method explains several outputs: allocate them, with the GIL for as long as that takes. */
static int reserve(met_results *results, size_t outputs) {
    met_py_call *c = (met_py_call *)((char *)results - offsetof(met_py_call, results));
    PyEval_RestoreThread(c->thread);
    const int failed = make_arrays(c, outputs);
    c->thread = PyEval_SaveThread();
    return failed ? MET_ECALLBACK : MET_OK;
}

PyObject *met_py_further(met_py_call *c, const char *name) {
    PyObject *list = PyDict_GetItemString(c->further, name);
    if (list != NULL) {
        return list;
    }
    list = PyList_New((Py_ssize_t)c->call.images);
    for (size_t i = 0; list != NULL && i < c->call.images; i++) {
        PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(Py_None));
    }
    const int failed = list == NULL || PyDict_SetItemString(c->further, name, list) < 0;
    Py_XDECREF(list);
    return failed ? NULL : list;
}

/* A method has a further result of any shape: an array for it, with the GIL for as long as that takes. */
static int table(met_results *results, size_t image, const char *name, met_dtype dtype, int axes, const size_t *shape,
                 void **out) {
    met_py_call *c = (met_py_call *)((char *)results - offsetof(met_py_call, results));
    npy_intp sizes[8];
    for (int a = 0; a < axes; a++) {
        sizes[a] = (npy_intp)shape[a];
    }
    PyEval_RestoreThread(c->thread);
    PyObject *list = met_py_further(c, name);
    PyObject *array =
        list == NULL ? NULL : PyArray_SimpleNew(axes, sizes, dtype == MET_UINT8 ? NPY_UINT8 : NPY_FLOAT64);
    if (array != NULL) {
        *out = PyArray_DATA((PyArrayObject *)array);
        if (PyList_SetItem(list, (Py_ssize_t)image, array) < 0) {
            array = NULL;
        }
    }
    c->thread = PyEval_SaveThread();
    return array == NULL ? MET_ECALLBACK : MET_OK;
}

int met_py_call_open(met_py_call *c, PyObject *images, PyObject *targets, PyObject *baselines, PyObject *model,
                     PyObject *options) {
    *c = (met_py_call){0};
    const size_t n = PyList_Check(images) ? (size_t)PyList_GET_SIZE(images) : 0;
    if (same_length(images, n, "images") < 0 || same_length(targets, n, "targets") < 0 ||
        (baselines != Py_None && same_length(baselines, n, "baselines") < 0)) {
        return -1;
    }
    c->call.images = n;
    c->call.model = met_py_model(model);
    c->kept = PyList_New(0);
    c->further = PyDict_New();
    if (c->call.model == NULL || c->kept == NULL || c->further == NULL || read_options(c, options) < 0 ||
        met_py_keep(c, Py_NewRef(model)) < 0) {
        return -1;
    }
    PyObject *streams = entry(options, "streams");
    if (streams != NULL && same_length(streams, n, "streams") < 0) {
        return -1;
    }
    c->inputs = PyMem_RawCalloc(n, sizeof *c->inputs);
    if (c->inputs == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    bool wide = false;
    for (size_t i = 0; i < n; i++) {
        if (read_input(c, i, images, targets, baselines) < 0 || read_stream(streams, i, &c->inputs[i]) < 0) {
            return -1;
        }
        wide = wide || c->inputs[i].image.dtype == MET_FLOAT64;
    }
    if (c->call.dtype == MET_BOOL) {
        c->call.dtype = wide ? MET_FLOAT64 : MET_FLOAT32;
    }
    c->call.inputs = c->inputs;
    c->call.options = &c->options;
    c->call.report = &c->report;
    c->results.reserve = reserve;
    c->results.table = table;
    return make_arrays(c, 1);
}

int met_py_call_run(met_py_call *c, const met_method *method, const void *options) {
    c->thread = PyEval_SaveThread();
    const int status = met_method_run(method, &c->call, options, &c->results);
    PyEval_RestoreThread(c->thread);
    return status == MET_OK ? 0 : met_py_raise(status);
}

static PyObject *text_or_none(const char *text) {
    return text[0] != '\0' ? PyUnicode_FromString(text) : Py_NewRef(Py_None);
}

/* Add an entry to a dict; steals the value. */
static int put(PyObject *dict, const char *name, PyObject *value) {
    const int failed = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);
    Py_XDECREF(value);
    return failed;
}

static PyObject *decline_name(met_decline reason) {
    static const char *const names[] = {
#define NAME(name) #name,
        MET_DECLINE_REASONS(NAME)
#undef NAME
    };
    PyObject *upper = reason == MET_DECLINE_NONE ? Py_NewRef(Py_None) : PyUnicode_FromString(names[reason]);
    PyObject *lower = upper == NULL || upper == Py_None ? Py_XNewRef(upper) : PyObject_CallMethod(upper, "lower", NULL);
    Py_XDECREF(upper);
    return lower;
}

PyObject *met_py_report(const met_report *r) {
    PyObject *dict = PyDict_New();
    int failed = dict == NULL;
#define COUNT(name) failed = failed || put(dict, #name, PyLong_FromSize_t(r->name)) < 0;
    MET_REPORT_COUNTS(COUNT)
#undef COUNT
    failed = failed || put(dict, "seconds", PyFloat_FromDouble(r->seconds)) < 0 ||
             put(dict, "seconds_in_model", PyFloat_FromDouble(r->seconds_in_model)) < 0 ||
             put(dict, "peak_bytes", PyLong_FromSize_t(r->memory.peak)) < 0 ||
             put(dict, "shortcut", text_or_none(r->shortcut)) < 0 ||
             put(dict, "program", text_or_none(r->program)) < 0 ||
             put(dict, "shortcut_seconds", PyFloat_FromDouble(r->shortcut_seconds)) < 0 ||
             put(dict, "shortcut_declined", text_or_none(r->shortcut_declined)) < 0 ||
             put(dict, "decline_reason", decline_name(r->decline_reason)) < 0 ||
             put(dict, "shortcut_failed", text_or_none(r->shortcut_failed)) < 0 ||
             put(dict, "one_at_a_time", text_or_none(r->one_at_a_time)) < 0 ||
             put(dict, "kernels", text_or_none(r->kernels != NULL ? r->kernels : "")) < 0 ||
             put(dict, "nonfinite", text_or_none(r->nonfinite)) < 0;
    if (failed) {
        Py_CLEAR(dict);
    }
    return dict;
}

void met_py_call_close(met_py_call *c) {
    PyMem_RawFree(c->inputs);
    PyMem_RawFree(c->results.out);
    Py_CLEAR(c->arrays);
    Py_CLEAR(c->kept);
    Py_CLEAR(c->further);
    Py_CLEAR(c->progress);
}
