/*
 * method.c - the methods of the core as Python objects: one type for all, which reads arguments as a method's record
 * describes them.
 */
#include "call.h"
#include "errors.h"
#include "method_type.h"
#include "numpy_api.h"

#include <string.h>

typedef struct method_object {
    PyObject_HEAD const met_method *method;
} method_object;

/* ---- arguments, by kind */

/* Memory that lives as long as the call, cleared. */
static void *keep_memory(met_py_call *c, size_t count, size_t size) {
    const size_t bytes = count * size;
    if (size > 0 && count > (size_t)PY_SSIZE_T_MAX / size) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *memory = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(bytes > 0 ? bytes : 1));
    if (memory == NULL) {
        return NULL;
    }
    memset(PyBytes_AS_STRING(memory), 0, bytes > 0 ? bytes : 1);
    return met_py_keep(c, memory) < 0 ? NULL : PyBytes_AS_STRING(memory);
}

static int wrong_type(const met_argument *a, PyObject *value, const char *wanted) {
    PyErr_Format(PyExc_TypeError, "%s must be %s, not %R", a->name, wanted, value);
    return -1;
}

static int read_count(const met_argument *a, PyObject *value, size_t *out) {
    if (value == Py_None && a->least == 0) {
        *out = SIZE_MAX;
        return 0;
    }
    PyObject *index = PyNumber_Index(value);
    const Py_ssize_t n = index == NULL ? -1 : PyLong_AsSsize_t(index);
    Py_XDECREF(index);
    if (index == NULL || (n == -1 && PyErr_Occurred())) {
        return -1;
    }
    if (n < 0 || (size_t)n < a->least) {
        PyErr_Format(PyExc_ValueError, "%s must be %s, not %zd", a->name,
                     a->least > 0 ? "a positive int" : "a non-negative int", n);
        return -1;
    }
    *out = (size_t)n;
    return 0;
}

static int read_sizes(const met_argument *a, PyObject *value, size_t out[MET_AXES]) {
    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != MET_AXES) {
        return wrong_type(a, value, "a tuple of three int");
    }
    for (int axis = 0; axis < MET_AXES; axis++) {
        if (read_count(a, PyTuple_GET_ITEM(value, axis), &out[axis]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_numbers(met_py_call *c, const met_argument *a, PyObject *value, const double **out) {
    const size_t images = c->call.images;
    if (!PyList_Check(value) || (size_t)PyList_GET_SIZE(value) != images) {
        return wrong_type(a, value, "a list with one number for each image");
    }
    double *numbers = keep_memory(c, images, sizeof *numbers);
    for (size_t i = 0; numbers != NULL && i < images; i++) {
        numbers[i] = PyFloat_AsDouble(PyList_GET_ITEM(value, (Py_ssize_t)i));
    }
    *out = numbers;
    return numbers == NULL || PyErr_Occurred() ? -1 : 0;
}

int met_py_axis_flags(PyObject *tuple, const size_t shape[MET_AXES], const uint8_t *out[MET_AXES]) {
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

/* An int32 array of the image's shape with ids from -1 on, whatever its strides; as many as the largest id says. */
static int read_features_of(met_py_call *c, const met_argument *a, size_t i, PyObject *value, met_segments *out) {
    PyArrayObject *array = (PyArrayObject *)value;
    bool fits = PyArray_Check(value) && PyArray_TYPE(array) == NPY_INT32 && PyArray_NDIM(array) == MET_AXES;
    npy_intp looked[MET_AXES]; /* an axis along which ids only repeat is looked at once */
    for (int axis = 0; fits && axis < MET_AXES; axis++) {
        const npy_intp stride = PyArray_STRIDE(array, axis);
        fits = (size_t)PyArray_DIM(array, axis) == c->inputs[i].image.shape[axis] && stride % 4 == 0;
        out->strides[axis] = stride / 4;
        looked[axis] = stride == 0 ? 1 : PyArray_DIM(array, axis);
    }
    if (!fits) {
        return wrong_type(a, value, "a list of int32 arrays of the images' shape");
    }
    int32_t largest = -1, smallest = 0;
    out->ids = PyArray_DATA(array);
    for (npy_intp x = 0; x < looked[0]; x++) {
        for (npy_intp y = 0; y < looked[1]; y++) {
            const int32_t *row = out->ids + x * out->strides[0] + y * out->strides[1];
            for (npy_intp z = 0; z < looked[2]; z++) {
                const int32_t id = row[z * out->strides[2]];
                largest = id > largest ? id : largest;
                smallest = id < smallest ? id : smallest;
            }
        }
    }
    if (smallest < -1 || largest < 0) {
        PyErr_Format(PyExc_ValueError, "%s must have an id from 0 on, and -1 where there is none", a->name);
        return -1;
    }
    out->count = (size_t)largest + 1;
    return met_py_keep(c, Py_NewRef(value));
}

/* A list with an entry for each image; -1 with an exception. */
static int check_list(const met_py_call *c, const met_argument *a, PyObject *value) {
    if (!PyList_Check(value) || (size_t)PyList_GET_SIZE(value) != c->call.images) {
        return wrong_type(a, value, "a list with an entry for each image");
    }
    return 0;
}

static int read_features(met_py_call *c, const met_argument *a, PyObject *value, const met_segments **out) {
    met_segments *features = keep_memory(c, c->call.images, sizeof *features);
    if (features == NULL || check_list(c, a, value) < 0) {
        return -1;
    }
    for (size_t i = 0; i < c->call.images; i++) {
        if (read_features_of(c, a, i, PyList_GET_ITEM(value, (Py_ssize_t)i), &features[i]) < 0) {
            return -1;
        }
    }
    *out = features;
    return 0;
}

/* None, or a list with a C-contiguous 2-D array for each image, or None where it has none. */
static int read_tables(met_py_call *c, const met_argument *a, PyObject *value, const met_table **out) {
    const int type = a->kind == MET_FLAG_TABLES ? NPY_UINT8 : NPY_FLOAT64;
    if (value == Py_None) {
        *out = NULL;
        return 0;
    }
    met_table *tables = keep_memory(c, c->call.images, sizeof *tables);
    if (tables == NULL || check_list(c, a, value) < 0) {
        return -1;
    }
    for (size_t i = 0; i < c->call.images; i++) {
        PyObject *item = PyList_GET_ITEM(value, (Py_ssize_t)i);
        PyArrayObject *array = (PyArrayObject *)item;
        if (item == Py_None) {
            continue;
        }
        if (!PyArray_Check(item) || PyArray_TYPE(array) != type || PyArray_NDIM(array) != 2 ||
            !PyArray_IS_C_CONTIGUOUS(array)) {
            return wrong_type(a, item,
                              a->kind == MET_FLAG_TABLES ? "a C-contiguous 2-D array of uint8"
                                                         : "a C-contiguous 2-D array of float64");
        }
        tables[i] = (met_table){PyArray_DATA(array), (size_t)PyArray_DIM(array, 0), (size_t)PyArray_DIM(array, 1)};
        if (met_py_keep(c, Py_NewRef(item)) < 0) {
            return -1;
        }
    }
    *out = tables;
    return 0;
}

/* None, 'all' or a list of targets. */
static int read_targets(met_py_call *c, const met_argument *a, PyObject *value, met_targets *out) {
    if (value == Py_None) {
        return 0;
    }
    if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "all") == 0) {
        out->all = true;
        return 0;
    }
    if (!PyList_Check(value)) {
        return wrong_type(a, value, "None, 'all' or a list of targets");
    }
    out->count = (size_t)PyList_GET_SIZE(value);
    met_target *targets = keep_memory(c, out->count, sizeof *targets);
    for (size_t i = 0; targets != NULL && i < out->count; i++) {
        if (met_py_target(PyList_GET_ITEM(value, (Py_ssize_t)i), &targets[i]) < 0) {
            return -1;
        }
    }
    out->target = targets;
    return targets == NULL ? -1 : 0;
}

static int read_arguments(met_py_call *c, const met_method *method, PyObject *arguments, void *options, bool nested);

/* (method, dict of its arguments). */
static int read_method(met_py_call *c, const met_argument *a, PyObject *value, met_nested *out) {
    PyObject *object, *arguments;
    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 2 || !PyDict_Check(PyTuple_GET_ITEM(value, 1)) ||
        (out->method = met_py_method_of(object = PyTuple_GET_ITEM(value, 0))) == NULL) {
        PyErr_Clear();
        return wrong_type(a, value, "a tuple of a method and a dict of its arguments");
    }
    arguments = PyTuple_GET_ITEM(value, 1);
    void *options = keep_memory(c, 1, out->method->options);
    out->options = options;
    return options == NULL ? -1 : read_arguments(c, out->method, arguments, options, true);
}

/* Memory for a further result of each image, and a list of it under its name. */
static int make_result(met_py_call *c, const met_argument *a, PyObject *wanted, void *field, bool nested) {
    const size_t images = c->call.images;
    const int want = PyObject_IsTrue(wanted);
    if (want <= 0) {
        return want;
    }
    if (nested) {
        PyErr_Format(PyExc_ValueError, "%s: a method inside another one has no further results", a->name);
        return -1;
    }
    if (a->kind != MET_RESULT_ARRAYS) {
        const size_t size = a->kind == MET_RESULT_NUMBERS ? sizeof(double) : sizeof(size_t);
        *(void **)field = keep_memory(c, images, size);
        return *(void **)field == NULL || met_py_further(c, a->name) == NULL ? -1 : 0;
    }
    void **out = keep_memory(c, images, sizeof *out);
    PyObject *list = out == NULL ? NULL : met_py_further(c, a->name);
    for (size_t i = 0; list != NULL && i < images; i++) {
        PyObject *array = met_py_result_array(c);
        if (array == NULL) {
            return -1;
        }
        out[i] = PyArray_DATA((PyArrayObject *)array);
        if (PyList_SetItem(list, (Py_ssize_t)i, array) < 0) {
            return -1;
        }
    }
    *(void **)field = out;
    return list == NULL ? -1 : 0;
}

static int read_argument(met_py_call *c, const met_argument *a, PyObject *value, void *options, bool nested) {
    void *field = (char *)options + a->offset;
    switch (a->kind) {
    case MET_FLAG: {
        const int flag = PyObject_IsTrue(value);
        *(bool *)field = flag > 0;
        return flag < 0 ? -1 : 0;
    }
    case MET_COUNT: return read_count(a, value, field);
    case MET_NUMBER: *(double *)field = PyFloat_AsDouble(value); return PyErr_Occurred() ? -1 : 0;
    case MET_SEED: *(uint64_t *)field = PyLong_AsUnsignedLongLong(value); return PyErr_Occurred() ? -1 : 0;
    case MET_CHOICE: *(int *)field = met_py_choice(value, a->name, a->choices); return *(int *)field < 0 ? -1 : 0;
    case MET_SIZES: return read_sizes(a, value, field);
    case MET_NUMBERS: return read_numbers(c, a, value, field);
    case MET_AXIS_FLAGS: return met_py_axis_flags(value, c->inputs[0].image.shape, field);
    case MET_FEATURES: return read_features(c, a, value, field);
    case MET_FLAG_TABLES:
    case MET_NUMBER_TABLES: return read_tables(c, a, value, field);
    case MET_TARGETS: return read_targets(c, a, value, field);
    case MET_METHOD: return read_method(c, a, value, field);
    case MET_RESULT_NUMBERS:
    case MET_RESULT_COUNTS:
    case MET_RESULT_ARRAYS: return make_result(c, a, value, field, nested);
    }
    return -1;
}

static bool is_result(const met_argument *a) {
    return a->kind == MET_RESULT_NUMBERS || a->kind == MET_RESULT_COUNTS || a->kind == MET_RESULT_ARRAYS;
}

/* Every argument must be given but those that ask for further results. */
static int read_arguments(met_py_call *c, const met_method *method, PyObject *arguments, void *options, bool nested) {
    Py_ssize_t used = 0;
    for (const met_argument *a = method->arguments; a->name != NULL; a++) {
        PyObject *value = PyDict_GetItemString(arguments, a->name);
        if (value == NULL && is_result(a)) {
            continue;
        }
        if (value == NULL) {
            PyErr_Format(PyExc_TypeError, "%s needs the argument %s", method->name, a->name);
            return -1;
        }
        used++;
        if (read_argument(c, a, value, options, nested) < 0) {
            return -1;
        }
    }
    if (used != PyDict_GET_SIZE(arguments)) {
        PyErr_Format(PyExc_TypeError, "%s has no such argument among %R", method->name, arguments);
        return -1;
    }
    return 0;
}

/* ---- results */

/* Numbers and counts were written to plain memory: make lists of them. */
static int fill_further(met_py_call *c, const met_method *method, const void *options) {
    for (const met_argument *a = method->arguments; a->name != NULL; a++) {
        const void *field = (const char *)options + a->offset;
        if (!is_result(a) || a->kind == MET_RESULT_ARRAYS || *(void *const *)field == NULL) {
            continue;
        }
        PyObject *list = met_py_further(c, a->name);
        for (size_t i = 0; list != NULL && i < c->call.images; i++) {
            PyObject *number = a->kind == MET_RESULT_NUMBERS ? PyFloat_FromDouble((*(double *const *)field)[i])
                                                             : PyLong_FromSize_t((*(size_t *const *)field)[i]);
            if (number == NULL || PyList_SetItem(list, (Py_ssize_t)i, number) < 0) {
                return -1;
            }
        }
        if (list == NULL) {
            return -1;
        }
    }
    return 0;
}

/* The shape of a sample's outputs. */
static PyObject *shape_tuple(const met_results *results) {
    PyObject *shape = PyTuple_New(results->axes);
    for (int a = 0; shape != NULL && a < results->axes; a++) {
        PyObject *size = PyLong_FromLongLong(results->shape[a]);
        if (size == NULL) {
            Py_CLEAR(shape);
            break;
        }
        PyTuple_SET_ITEM(shape, a, size);
    }
    return shape;
}

static PyObject *call_method(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"images", "targets", "baselines", "model", "options", "arguments", NULL};
    const met_method *method = ((method_object *)self)->method;
    PyObject *images, *targets, *baselines, *model, *options, *arguments;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO!", names, &images, &targets, &baselines, &model, &options,
                                     &PyDict_Type, &arguments)) {
        return NULL;
    }
    met_py_call c;
    PyObject *answer = NULL, *shape = NULL, *report = NULL;
    void *read = NULL;
    if (met_py_call_open(&c, images, targets, baselines, model, options) == 0) {
        read = keep_memory(&c, 1, method->options);
    }
    if (read != NULL && read_arguments(&c, method, arguments, read, false) == 0 &&
        met_py_call_run(&c, method, read) == 0 && fill_further(&c, method, read) == 0) {
        shape = shape_tuple(&c.results);
        report = shape == NULL ? NULL : met_py_report(&c.report);
        answer = report == NULL ? NULL : PyTuple_Pack(4, c.arrays, shape, c.further, report);
    }
    Py_XDECREF(shape);
    Py_XDECREF(report);
    met_py_call_close(&c);
    return answer;
}

/* ---- the type */

static PyObject *get_name(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((method_object *)self)->method->name);
}

static PyObject *get_arguments(PyObject *self, void *unused) {
    (void)unused;
    PyObject *list = PyList_New(0);
    for (const met_argument *a = ((method_object *)self)->method->arguments; list != NULL && a->name != NULL; a++) {
        PyObject *name = PyUnicode_FromString(a->name);
        if (name == NULL || PyList_Append(list, name) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(name);
    }
    PyObject *tuple = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return tuple;
}

static PyObject *get_doc(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((method_object *)self)->method->doc);
}

static PyObject *get_nests(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(((method_object *)self)->method->nesting != NULL);
}

static PyObject *repr(PyObject *self) {
    return PyUnicode_FromFormat("<method %s of meteors_c>", ((method_object *)self)->method->name);
}

/* There is one object of a method, found again by its name. */
static PyObject *reduce(PyObject *self, PyObject *unused) {
    (void)unused;
    PyObject *module = PyImport_ImportModule("meteors_c._core");
    PyObject *find = module == NULL ? NULL : PyObject_GetAttrString(module, "find_method");
    PyObject *answer = find == NULL ? NULL : Py_BuildValue("O(s)", find, ((method_object *)self)->method->name);
    Py_XDECREF(find);
    Py_XDECREF(module);
    return answer;
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyGetSetDef attributes[] = {
    {"name", get_name, NULL, "By which the method is found.", NULL},
    {"arguments", get_arguments, NULL, "Names of what goes into `arguments` of a call.", NULL},
    {"__doc__", get_doc, NULL, NULL, NULL},
    {"nests", get_nests, NULL, "Whether a noise tunnel runs around it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"__reduce__", reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_call, call_method},  {Py_tp_repr, repr},       {Py_tp_dealloc, dealloc},
    {Py_tp_getset, attributes}, {Py_tp_methods, methods}, {0, NULL},
};

static PyType_Spec spec = {
    .name = "meteors_c._core.Method",
    .basicsize = sizeof(method_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = type_slots,
};

const met_method *met_py_method_of(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (PyType_GetSlot(type, Py_tp_call) != (void *)call_method) {
        PyErr_Format(PyExc_TypeError, "a method of meteors_c._core is wanted, not %.200s", type->tp_name);
        return NULL;
    }
    return ((method_object *)object)->method;
}

int met_py_add_methods(PyObject *module) {
    PyObject *type = PyType_FromSpec(&spec);
    PyObject *dict = type == NULL ? NULL : PyDict_New();
    int failed = dict == NULL || PyModule_AddObjectRef(module, "Method", type) < 0;
    for (size_t i = 0; !failed && met_methods[i] != NULL; i++) {
        method_object *object = (method_object *)PyType_GenericAlloc((PyTypeObject *)type, 0);
        if (object != NULL) {
            object->method = met_methods[i];
        }
        failed = object == NULL || PyDict_SetItemString(dict, met_methods[i]->name, (PyObject *)object) < 0;
        Py_XDECREF((PyObject *)object);
    }
    failed = failed || PyModule_AddObjectRef(module, "methods", dict) < 0;
    Py_XDECREF(dict);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
