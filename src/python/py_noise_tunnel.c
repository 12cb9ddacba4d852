#include "errors.h"
#include "hsi.h"
#include "job.h"
#include "methods.h"
#include "numpy_api.h"

#include <string.h>

const char met_py_noise_tunnel_doc[] = PyDoc_STR(
    "noise_tunnel(images, targets, baselines, model, options, kind, inner, method, n_samples, seed, stdevs, selected,\n"
    "             probability, exact, tolerance, error, slope, inner_arguments)\n--\n\n"
    "(list of arrays, (errors or None, slopes or None, list of int), report dict): a moment of the attributions of\n"
    "disturbed images. The arguments are those of job.h; kind is 'noise' or 'bands'; inner 'saliency',\n"
    "'input_x_gradient', 'integrated_gradients' or 'occlusion' with inner_arguments (n_steps, method,\n"
    "multiply_by_inputs) or (window, stride); method 'smoothgrad', 'smoothgrad_sq' or 'vargrad'; stdevs a list of\n"
    "float; selected a tuple of three bytes objects or None; exact a number of bands or None.");

const char met_py_perturb_doc[] =
    PyDoc_STR("perturb(image, baseline, n_samples, seed, stdev, selected, probability, exact)\n--\n\n"
              "An array (n_samples, d0, d1, d2) of disturbed copies of a 3-D tensor whose bands lie on axis 0: normal "
              "noise where\n"
              "baseline is None, else bands that take the baseline, a tensor of the same shape.");

const char met_py_choose_doc[] = PyDoc_STR("choose(n, k, n_samples, seed)\n--\n\n"
                                           "A bool array (n_samples, n) with exactly k True in each row.");

static int named(const char *name, const char *const *names, int count, const char *argument) {
    for (int i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_ValueError, "%s is not known: '%s'", argument, name);
    return -1;
}

/* A tuple of three bytes or None; the bytes are borrowed. */
static int read_selected(PyObject *tuple, const size_t shape[MET_AXES], const uint8_t *out[MET_AXES]) {
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != MET_AXES) {
        PyErr_SetString(PyExc_TypeError, "selected must be a tuple of three bytes objects or None");
        return -1;
    }
    for (int a = 0; a < MET_AXES; a++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, a);
        out[a] = NULL;
        if (item == Py_None) {
            continue;
        }
        if (!PyBytes_Check(item) || (size_t)PyBytes_GET_SIZE(item) != shape[a]) {
            PyErr_Format(PyExc_TypeError, "selected[%d] must be None or bytes, one for each of %zu values", a,
                         shape[a]);
            return -1;
        }
        out[a] = (const uint8_t *)PyBytes_AS_STRING(item);
    }
    return 0;
}

static int read_exact(PyObject *exact, size_t *out) {
    *out = exact == Py_None ? SIZE_MAX : PyLong_AsSize_t(exact);
    return PyErr_Occurred() ? -1 : 0;
}

static int read_inner(const met_py_job *job, PyObject *arguments, met_noise_tunnel_options *method) {
    PyObject *window, *stride;
    Py_ssize_t steps;
    PyObject *quadrature;
    int multiply;
    if (method->inner == MET_INNER_INTEGRATED_GRADIENTS) {
        if (!PyArg_ParseTuple(arguments, "nOp", &steps, &quadrature, &multiply) ||
            met_py_quadrature(quadrature, &method->integrated_gradients.quadrature) < 0) {
            return -1;
        }
        method->integrated_gradients.steps = (size_t)steps;
        method->integrated_gradients.multiply_by_inputs = multiply != 0;
    } else if (method->inner == MET_INNER_OCCLUSION) {
        if (!PyArg_ParseTuple(arguments, "O!O!", &PyTuple_Type, &window, &PyTuple_Type, &stride)) {
            return -1;
        }
        return met_py_windows(window, stride, job->inputs[0].image.shape, &method->windows);
    }
    return 0;
}

/* Where bands take the baseline, the mask comes after: what is not used stays 0 in the baseline too. */
static void mask_baselines(met_py_job *job) {
    for (size_t i = 0; i < job->images; i++) {
        met_input *input = &job->inputs[i];
        if (input->image.mask == NULL) {
            continue;
        }
        if (input->baseline.data == NULL) {
            input->baseline = input->image;
            input->baseline.data = &input->baseline_value;
            input->baseline.dtype = MET_FLOAT64;
            memset(input->baseline.strides, 0, sizeof input->baseline.strides);
        }
        input->baseline.mask = input->image.mask;
        memcpy(input->baseline.mask_strides, input->image.mask_strides, sizeof input->baseline.mask_strides);
    }
}

/* A list of arrays for more results and their memory, or None. */
static PyObject *more_arrays(const met_py_job *job, bool wanted, void ***memory) {
    if (!wanted) {
        return Py_NewRef(Py_None);
    }
    PyObject *list = PyList_New((Py_ssize_t)job->images);
    *memory = PyMem_RawCalloc(job->images, sizeof **memory);
    if (list == NULL || *memory == NULL) {
        Py_XDECREF(list);
        return PyErr_NoMemory();
    }
    for (size_t i = 0; i < job->images; i++) {
        PyObject *array = met_py_job_array(job);
        if (array == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        (*memory)[i] = PyArray_DATA((PyArrayObject *)array);
        PyList_SET_ITEM(list, (Py_ssize_t)i, array);
    }
    return list;
}

static PyObject *size_list(const size_t *values, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *value = PyLong_FromSize_t(values[i]);
        if (value == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, value);
    }
    return list;
}

static int read_stdevs(PyObject *list, size_t images, double *out) {
    if (!PyList_Check(list) || (size_t)PyList_GET_SIZE(list) != images) {
        PyErr_SetString(PyExc_ValueError, "stdevs must have one entry for each image");
        return -1;
    }
    for (size_t i = 0; i < images; i++) {
        out[i] = PyFloat_AsDouble(PyList_GET_ITEM(list, (Py_ssize_t)i));
    }
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *met_py_noise_tunnel(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"images", "targets",  "baselines",       "model",     "options",
                            "kind",   "inner",    "method",          "n_samples", "seed",
                            "stdevs", "selected", "probability",     "exact",     "tolerance",
                            "error",  "slope",    "inner_arguments", NULL};
    static const char *const kinds[] = {"noise", "bands"};
    static const char *const inners[] = {"saliency", "input_x_gradient", "integrated_gradients", "occlusion"};
    static const char *const moments[] = {"smoothgrad", "smoothgrad_sq", "vargrad"};
    static const met_moment moment_of[] = {MET_MEAN, MET_MEAN_SQUARE, MET_VARIANCE};
    PyObject *images, *targets, *baselines, *model, *options, *stdevs, *selected, *exact, *inner_arguments;
    const char *kind, *inner, *moment;
    Py_ssize_t samples;
    unsigned long long seed;
    int want_error, want_slope;
    met_noise_tunnel_options method = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOsssnKOOdOdppO!", names, &images, &targets, &baselines, &model,
                                     &options, &kind, &inner, &moment, &samples, &seed, &stdevs, &selected,
                                     &method.probability, &exact, &method.tolerance, &want_error, &want_slope,
                                     &PyTuple_Type, &inner_arguments)) {
        return NULL;
    }
    int which_kind = named(kind, kinds, 2, "kind");
    int which_inner = which_kind < 0 ? -1 : named(inner, inners, 4, "inner");
    int which_moment = which_inner < 0 ? -1 : named(moment, moments, 3, "method");
    if (which_moment < 0 || read_exact(exact, &method.exact) < 0) {
        return NULL;
    }
    method.kind = which_kind == 0 ? MET_NOISE : MET_BANDS;
    method.inner = (met_inner)which_inner;
    method.moment = moment_of[which_moment];
    method.samples = samples > 0 ? (size_t)samples : 0;
    method.seed = seed;

    met_py_job job;
    PyObject *answer = NULL, *errors = NULL, *slopes = NULL, *used = NULL, *more = NULL;
    void **error_memory = NULL, **slope_memory = NULL;
    double *deviations = NULL;
    if (met_py_job_open(&job, images, targets, baselines, model, options) < 0 ||
        read_selected(selected, job.inputs[0].image.shape, method.selected) < 0 ||
        read_inner(&job, inner_arguments, &method) < 0) {
        goto done;
    }
    deviations = PyMem_RawCalloc(job.images, sizeof *deviations);
    method.used = PyMem_RawCalloc(job.images, sizeof *method.used);
    if (deviations == NULL || method.used == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    errors = more_arrays(&job, want_error != 0, &error_memory);
    slopes = errors == NULL ? NULL : more_arrays(&job, want_slope != 0, &slope_memory);
    if (slopes == NULL || read_stdevs(stdevs, job.images, deviations) < 0) {
        goto done;
    }
    method.stdev = deviations;
    method.error = error_memory;
    method.slope = slope_memory;
    mask_baselines(&job);
    met_py_job_leave(&job);
    int status =
        met_noise_tunnel(job.inputs, job.images, job.dtype, &method, job.model, &job.options, job.out, &job.report);
    if (met_py_job_enter(&job, status) == 0) {
        used = size_list(method.used, job.images);
        more = used == NULL ? NULL : PyTuple_Pack(3, errors, slopes, used);
        answer = more == NULL ? NULL : met_py_job_answer_with(&job, job.results, more);
    }
done:
    Py_XDECREF(errors);
    Py_XDECREF(slopes);
    Py_XDECREF(used);
    Py_XDECREF(more);
    PyMem_RawFree(error_memory);
    PyMem_RawFree(slope_memory);
    PyMem_RawFree(deviations);
    PyMem_RawFree(method.used);
    met_py_job_close(&job);
    return answer;
}

/* ---- samples alone */

/* Write the disturbed copies of a view, n of them behind each other. */
static int render_all(const met_base *base, met_sample *s, uint64_t seed, Py_ssize_t n, double probability,
                      size_t exact, uint8_t *out) {
    size_t bytes = base->shape[0] * base->shape[1] * base->shape[2] * met_dtype_size(base->dtype);
    for (Py_ssize_t k = 0; k < n; k++) {
        s->noise = (met_stream){seed, (uint64_t)k};
        if (s->kind == MET_BANDS) {
            int status = met_draw_bands(seed, (size_t)k, probability, exact, base->shape[0], s->scratch);
            if (status != MET_OK) {
                return status;
            }
        }
        met_sample_render(base, s, NULL, out + (size_t)k * bytes);
    }
    return MET_OK;
}

PyObject *met_py_perturb(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"image",    "baseline",    "n_samples", "seed", "stdev",
                            "selected", "probability", "exact",     NULL};
    PyObject *image, *baseline, *selected, *exact_object;
    Py_ssize_t n;
    unsigned long long seed;
    met_sample s = {0};
    double probability;
    size_t exact;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOnKdOdO", names, &image, &baseline, &n, &seed, &s.stdev, &selected,
                                     &probability, &exact_object) ||
        read_exact(exact_object, &exact) < 0) {
        return NULL;
    }
    met_image views[2];
    PyObject *keep[2] = {NULL, NULL}, *plain[2] = {NULL, NULL}, *result = NULL;
    void *data[2] = {NULL, NULL};
    s.kind = baseline == Py_None ? MET_NOISE : MET_BANDS;
    const int count = baseline == Py_None ? 1 : 2;
    for (int i = 0; i < count; i++) {
        if (met_py_tensor_view(i == 0 ? image : baseline, &views[i], &keep[i]) < 0) {
            goto done;
        }
    }
    const met_dtype dtype = views[0].dtype == MET_FLOAT64 ? MET_FLOAT64 : MET_FLOAT32;
    const int type = dtype == MET_FLOAT64 ? NPY_FLOAT64 : NPY_FLOAT32;
    npy_intp shape[1 + MET_AXES] = {(npy_intp)(n > 0 ? n : 0), 0, 0, 0};
    for (int a = 0; a < MET_AXES; a++) {
        shape[a + 1] = (npy_intp)views[0].shape[a];
    }
    for (int i = 0; i < count; i++) {
        plain[i] = PyArray_SimpleNew(MET_AXES, shape + 1, type);
        if (plain[i] == NULL) {
            goto done;
        }
        data[i] = PyArray_DATA((PyArrayObject *)plain[i]);
        int status = met_image_read(&views[i], dtype, NULL, data[i]);
        if (status != MET_OK) {
            met_py_raise(status);
            goto done;
        }
    }
    const met_base base = {.dtype = dtype,
                           .shape = {views[0].shape[0], views[0].shape[1], views[0].shape[2]},
                           .image = data[0],
                           .baseline = data[1]};
    s.scratch = PyMem_RawCalloc(base.shape[0] + 1, 1);
    s.dropped = s.scratch;
    result = PyArray_SimpleNew(1 + MET_AXES, shape, type);
    if (s.scratch == NULL || result == NULL || read_selected(selected, base.shape, s.selected) < 0) {
        Py_CLEAR(result);
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        goto done;
    }
    int status = render_all(&base, &s, seed, n, probability, exact, PyArray_DATA((PyArrayObject *)result));
    if (status != MET_OK) {
        met_py_raise(status);
        Py_CLEAR(result);
    }
done:
    PyMem_RawFree(s.scratch);
    for (int i = 0; i < 2; i++) {
        Py_XDECREF(keep[i]);
        Py_XDECREF(plain[i]);
    }
    return result;
}

PyObject *met_py_choose(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"n", "k", "n_samples", "seed", NULL};
    Py_ssize_t n, k, samples;
    unsigned long long seed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nnnK", names, &n, &k, &samples, &seed)) {
        return NULL;
    }
    npy_intp shape[2] = {samples, n};
    PyObject *chosen = n < 0 || k < 0 || samples < 0 ? NULL : PyArray_SimpleNew(2, shape, NPY_BOOL);
    if (chosen == NULL) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "n, k and n_samples must not be negative");
    }
    for (Py_ssize_t i = 0; i < samples; i++) {
        uint8_t *row = (uint8_t *)PyArray_DATA((PyArrayObject *)chosen) + i * n;
        int status = met_choose((met_stream){seed, (uint64_t)i}, (size_t)n, (size_t)k, row);
        if (status != MET_OK) {
            met_py_raise(status);
            Py_CLEAR(chosen);
            break;
        }
    }
    return chosen;
}
