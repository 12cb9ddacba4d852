/* perturb.c - the samples of the noise tunnels by themselves, without a model. */
#include "perturb.h"

#include "call.h"
#include "convert.h"
#include "errors.h"
#include "game.h"
#include "noise_tunnel.h"
#include "numpy_api.h"

const char met_py_perturb_doc[] =
    PyDoc_STR("perturb(image, baseline, n_samples, seed, stdev, selected, probability, exact)\n--\n\n"
              "An array (n_samples, d0, d1, d2) of perturbed copies of a 3-D tensor whose bands lie on axis 0: normal "
              "noise where\n"
              "baseline is None, else bands that take the baseline, a tensor of the same shape.");

const char met_py_draw_coalitions_doc[] =
    PyDoc_STR("draw_coalitions(seed, image, n_samples, features)\n--\n\n"
              "The uint8 array (n_samples, features) of what the method lime draws for an image of a call: 1 = kept.");

const char met_py_choose_doc[] = PyDoc_STR("choose(n, k, n_samples, seed)\n--\n\n"
                                           "A bool array (n_samples, n) with exactly k True in each row.");

static int read_exact(PyObject *exact, size_t *out) {
    *out = exact == Py_None ? SIZE_MAX : PyLong_AsSize_t(exact);
    return PyErr_Occurred() ? -1 : 0;
}

/* Write the perturbed copies of a view, n of them behind each other. */
static int render_all(const met_base *base, met_sample *s, uint64_t seed, Py_ssize_t n, double probability,
                      size_t exact, uint8_t *out) {
    size_t bytes = met_base_size(base) * met_dtype_size(base->dtype);
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
    s.replaced = s.scratch;
    result = PyArray_SimpleNew(1 + MET_AXES, shape, type);
    if (s.scratch == NULL || result == NULL || met_py_axis_flags(selected, base.shape, s.selected) < 0) {
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

PyObject *met_py_draw_coalitions(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"seed", "image", "n_samples", "features", NULL};
    unsigned long long seed, image;
    Py_ssize_t n, features;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KKnn", names, &seed, &image, &n, &features)) {
        return NULL;
    }
    if (n < 1 || features < 1) {
        PyErr_SetString(PyExc_ValueError, "n_samples and features must be positive");
        return NULL;
    }
    uint64_t *bits = met_allocate(((size_t)features + 63) / 64, sizeof *bits);
    npy_intp shape[2] = {n, features};
    PyObject *array = bits == NULL ? PyErr_NoMemory() : PyArray_SimpleNew(2, shape, NPY_UINT8);
    for (Py_ssize_t r = 0; array != NULL && r < n; r++) {
        uint8_t *row = (uint8_t *)PyArray_DATA((PyArrayObject *)array) + r * features;
        met_coalition_draw((met_stream){seed, image}, (size_t)r, (size_t)features, bits);
        for (Py_ssize_t j = 0; j < features; j++) {
            row[j] = met_coalition_has(bits, (size_t)j);
        }
    }
    met_deallocate(bits);
    return array;
}
