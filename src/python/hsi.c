/* hsi.c - the type HSI: construction, fields, orientation, device. What it computes is in hsi_bands.c. */
#include "hsi_object.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

#include "hsi_doc.h"
#include "image.h"
#include "windows.h"

enum { IMAGE, WAVELENGTHS, ORIENTATION, DEVICE, MASK, GEOREFERENCE, SOURCE, FIELDS, UNIT = FIELDS, KEYWORDS_TAKEN };

static const char *const field_names[KEYWORDS_TAKEN] = {
    "image", "wavelengths", "orientation", "device", "binary_mask", "georeference", "source", "wavelength_unit"};

int met_py_hsi_ready(const met_py_hsi *self) {
    if (self->image == NULL) {
        PyErr_SetString(PyExc_AttributeError, "this HSI has no image yet: its __init__ has not run");
        return -1;
    }
    return 0;
}

PyObject *met_py_hsi_mask(met_py_hsi *self) {
    if (self->mask == NULL) {
        self->mask = met_py_full_mask(self->image, self->device);
        return Py_XNewRef(self->mask);
    }
    PyObject *expanded = met_py_expand_mask(self->mask, self->image, self->orientation);
    if (expanded == NULL) {
        return NULL;
    }
    PyObject *shape = PyObject_GetAttrString(self->mask, "shape");
    PyObject *wanted = shape == NULL ? NULL : PyObject_GetAttrString(expanded, "shape");
    const int same = wanted == NULL ? -1 : PyObject_RichCompareBool(shape, wanted, Py_EQ);
    Py_XDECREF(shape);
    Py_XDECREF(wanted);
    if (same < 0) {
        Py_DECREF(expanded);
        return NULL;
    }
    if (!same) { /* kept, so that the same object comes back next time */
        Py_SETREF(self->mask, Py_NewRef(expanded));
    }
    Py_DECREF(expanded);
    return Py_NewRef(self->mask);
}

/* ------------------------------------------------------------------ construction */

/* Take over the checked fields (mask: None = all true). Consumes the references. */
static void set_fields(met_py_hsi *self, PyObject *fields[FIELDS]) {
    for (int f = MASK; f < FIELDS; f++) {
        if (fields[f] == Py_None) {
            Py_CLEAR(fields[f]);
        }
    }
    Py_XSETREF(self->image, fields[IMAGE]);
    Py_XSETREF(self->wavelengths, fields[WAVELENGTHS]);
    Py_XSETREF(self->orientation, fields[ORIENTATION]);
    Py_XSETREF(self->device, fields[DEVICE]);
    Py_XSETREF(self->mask, fields[MASK]);
    Py_XSETREF(self->georeference, fields[GEOREFERENCE]);
    Py_XSETREF(self->source, fields[SOURCE]);
}

static void drop_fields(PyObject *fields[FIELDS]) {
    for (int f = 0; f < FIELDS; f++) {
        Py_CLEAR(fields[f]);
    }
}

/* Sort keyword arguments into the fields (borrowed); unknown ones are ignored with one warning. */
static int read_keywords(PyObject *kwargs, PyObject *given[KEYWORDS_TAKEN]) {
    PyObject *key, *value, *unknown = NULL;
    Py_ssize_t position = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &position, &key, &value)) {
        int f = 0;
        while (f < KEYWORDS_TAKEN && PyUnicode_CompareWithASCIIString(key, field_names[f]) != 0) {
            f++;
        }
        if (f < KEYWORDS_TAKEN) {
            given[f] = value;
        } else if (unknown == NULL) {
            unknown = PyUnicode_FromFormat("%R", key);
        } else {
            PyObject *more = PyUnicode_FromFormat("%U, %R", unknown, key);
            Py_SETREF(unknown, more);
        }
        if (f == KEYWORDS_TAKEN && unknown == NULL) {
            return -1;
        }
    }
    if (unknown == NULL) {
        return 0;
    }
    int failed = PyErr_WarnFormat(PyExc_UserWarning, 1,
                                  "HSI() ignores the unknown argument %U; it takes image, wavelengths, orientation, "
                                  "device, binary_mask, wavelength_unit, georeference and source",
                                  unknown);
    Py_DECREF(unknown);
    return failed;
}

/* The wavelengths as a checked tensor, nm. */
static PyObject *make_wavelengths(PyObject *value, PyObject *unit) {
    if (unit == NULL || unit == Py_None) {
        PyObject *wavelengths = met_py_wavelengths_field(value);
        if (wavelengths != NULL && met_py_warn_of_micrometres(wavelengths) < 0) {
            Py_CLEAR(wavelengths);
        }
        return wavelengths;
    }
    PyObject *converted = met_py_wavelengths_in_nm(value, unit);
    PyObject *wavelengths = converted == NULL ? NULL : met_py_wavelengths_field(converted);
    Py_XDECREF(converted);
    return wavelengths;
}

/* Check the values that were given, in the order in which they need each other; -1 with an exception. */
static int make_fields(PyObject *const given[KEYWORDS_TAKEN], PyObject *made[FIELDS]) {
    if ((made[IMAGE] = met_py_image_field(given[IMAGE])) == NULL) {
        return -1;
    }
    made[ORIENTATION] = given[ORIENTATION] == NULL ? Py_BuildValue("(sss)", "C", "H", "W")
                                                   : met_py_orientation_field(given[ORIENTATION]);
    if (made[ORIENTATION] == NULL) {
        return -1;
    }
    if (given[DEVICE] == NULL || given[DEVICE] == Py_None) {
        made[DEVICE] = PyObject_GetAttrString(made[IMAGE], "device");
    } else if ((made[DEVICE] = met_py_device_field(given[DEVICE])) != NULL) {
        Py_SETREF(made[IMAGE], met_py_move(made[IMAGE], made[DEVICE]));
    }
    if (made[DEVICE] == NULL || made[IMAGE] == NULL ||
        (made[WAVELENGTHS] = make_wavelengths(given[WAVELENGTHS], given[UNIT])) == NULL ||
        met_py_check_wavelengths(made[WAVELENGTHS], made[IMAGE], met_py_spectral_axis(made[ORIENTATION])) < 0) {
        return -1;
    }
    made[MASK] =
        met_py_mask_field(given[MASK] == NULL ? Py_None : given[MASK], made[IMAGE], made[ORIENTATION], made[DEVICE]);
    if (made[MASK] != NULL && made[MASK] != Py_None) {
        Py_SETREF(made[MASK], met_py_expand_mask(made[MASK], made[IMAGE], made[ORIENTATION]));
    }
    made[GEOREFERENCE] = made[MASK] == NULL
                             ? NULL
                             : met_py_georeference_field(given[GEOREFERENCE] == NULL ? Py_None : given[GEOREFERENCE]);
    made[SOURCE] =
        made[GEOREFERENCE] == NULL ? NULL : met_py_source_field(given[SOURCE] == NULL ? Py_None : given[SOURCE]);
    return made[SOURCE] == NULL ? -1 : 0;
}

static int hsi_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    PyObject *given[KEYWORDS_TAKEN] = {NULL};
    PyObject *made[FIELDS] = {NULL};
    PyObject *read = NULL;
    int result = -1;
    if (PyTuple_GET_SIZE(args) != 0) {
        PyErr_SetString(PyExc_TypeError, "HSI() takes keyword arguments only: HSI(image=..., wavelengths=...)");
        return -1;
    }
    if (read_keywords(kwargs, given) < 0) {
        return -1;
    }
    if (given[IMAGE] != NULL) {
        read = met_py_hsi_read_source(given[IMAGE], kwargs);
        if (read == NULL) {
            return -1;
        }
        if (read != Py_None) { /* what was unknown has been warned of, and is not in the new arguments */
            memset(given, 0, sizeof given);
            if (read_keywords(read, given) < 0) {
                goto done;
            }
        }
    }
    for (int f = IMAGE; f <= WAVELENGTHS; f++) {
        if (given[f] == NULL) {
            met_py_error("ValidationError", "HSI() needs the keyword argument %s", field_names[f]);
            goto done;
        }
    }
    if (make_fields(given, made) == 0) {
        set_fields((met_py_hsi *)object, made);
        result = 0;
    } else {
        drop_fields(made);
    }
done:
    Py_XDECREF(read);
    return result;
}

/* ------------------------------------------------------------------ fields */

static PyObject *get_field(PyObject *object, void *closure) {
    met_py_hsi *self = (met_py_hsi *)object;
    if (met_py_hsi_ready(self) < 0) {
        return NULL;
    }
    switch ((int)(intptr_t)closure) {
    case IMAGE: return Py_NewRef(self->image);
    case WAVELENGTHS: return Py_NewRef(self->wavelengths);
    case ORIENTATION: return Py_NewRef(self->orientation);
    case DEVICE: return Py_NewRef(self->device);
    case GEOREFERENCE: return Py_NewRef(self->georeference == NULL ? Py_None : self->georeference);
    case SOURCE: return Py_NewRef(self->source == NULL ? Py_None : self->source);
    default: break;
    }
    PyObject *mask = met_py_hsi_mask(self);
    if (mask == NULL && self->mask != NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear(); /* the image has changed its shape, and the mask is about to follow: show what is there */
        mask = Py_NewRef(self->mask);
    }
    return mask;
}

static int set_field(PyObject *object, PyObject *value, void *closure) {
    met_py_hsi *self = (met_py_hsi *)object;
    const int f = (int)(intptr_t)closure;
    PyObject *made = NULL;
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "%s can be replaced, not deleted", field_names[f]);
        return -1;
    }
    if (met_py_hsi_ready(self) < 0) {
        return -1;
    }
    switch (f) {
    case IMAGE: made = met_py_image_field(value); break;
    case WAVELENGTHS: made = make_wavelengths(value, NULL); break;
    case ORIENTATION: made = met_py_orientation_field(value); break;
    case DEVICE:
        made = value == Py_None ? PyObject_GetAttrString(self->image, "device") : met_py_device_field(value);
        break;
    case GEOREFERENCE: made = met_py_georeference_field(value); break;
    case SOURCE: made = met_py_source_field(value); break;
    default: made = met_py_mask_field(value, self->image, self->orientation, self->device); break;
    }
    if (made == NULL) {
        return -1;
    }
    if (f >= MASK && made == Py_None) {
        Py_CLEAR(made);
    }
    switch (f) {
    case IMAGE: Py_SETREF(self->image, made); break;
    case WAVELENGTHS: Py_SETREF(self->wavelengths, made); break;
    case ORIENTATION: Py_SETREF(self->orientation, made); break;
    case DEVICE: Py_SETREF(self->device, made); break;
    case GEOREFERENCE: Py_XSETREF(self->georeference, made); break;
    case SOURCE: Py_XSETREF(self->source, made); break;
    default: Py_XSETREF(self->mask, made);
    }
    return 0;
}

static PyObject *get_spectral_axis(PyObject *object, void *closure) {
    met_py_hsi *self = (met_py_hsi *)object;
    (void)closure;
    return met_py_hsi_ready(self) < 0 ? NULL : PyLong_FromLong(met_py_spectral_axis(self->orientation));
}

static PyObject *get_spatial_mask(PyObject *object, void *closure) {
    met_py_hsi *self = (met_py_hsi *)object;
    (void)closure;
    PyObject *mask = met_py_hsi_ready(self) < 0 ? NULL : met_py_hsi_mask(self);
    PyObject *plane =
        mask == NULL ? NULL : PyObject_CallMethod(mask, "select", "ii", met_py_spectral_axis(self->orientation), 0);
    Py_XDECREF(mask);
    return plane;
}

/* ------------------------------------------------------------------ device, orientation */

static PyObject *hsi_to(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"device", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    PyObject *value, *device, *image = NULL, *mask = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:to", names, &value) || met_py_hsi_ready(self) < 0 ||
        (device = met_py_device_field(value)) == NULL) {
        return NULL;
    }
    image = met_py_move(self->image, device);
    mask = image == NULL ? NULL : self->mask == NULL ? Py_NewRef(Py_None) : met_py_move(self->mask, device);
    if (mask == NULL) {
        Py_XDECREF(image);
        Py_DECREF(device);
        return NULL;
    }
    if (mask == Py_None) {
        Py_CLEAR(mask);
    }
    Py_SETREF(self->image, image);
    Py_XSETREF(self->mask, mask);
    Py_SETREF(self->device, device);
    return Py_NewRef(object);
}

/* The axes of `target` as positions in `orientation`, a tuple for tensor.permute(). */
static PyObject *permutation(PyObject *orientation, PyObject *target) {
    PyObject *order = PyTuple_New(MET_AXES);
    for (Py_ssize_t i = 0; order != NULL && i < MET_AXES; i++) {
        const Py_ssize_t axis = PySequence_Index(orientation, PyTuple_GET_ITEM(target, i));
        PyObject *position = axis < 0 ? NULL : PyLong_FromSsize_t(axis);
        if (position == NULL) {
            Py_CLEAR(order);
        } else {
            PyTuple_SET_ITEM(order, i, position);
        }
    }
    return order;
}

static PyObject *hsi_change_orientation(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"target_orientation", "inplace", NULL};
    met_py_hsi *self = (met_py_hsi *)object;
    PyObject *value, *target = NULL, *order = NULL, *image = NULL, *mask = NULL, *result = NULL;
    int inplace = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p:change_orientation", names, &value, &inplace) ||
        met_py_hsi_ready(self) < 0 || (target = met_py_orientation_field(value)) == NULL) {
        return NULL;
    }
    if ((order = permutation(self->orientation, target)) == NULL ||
        (image = PyObject_CallMethod(self->image, "permute", "(O)", order)) == NULL) {
        goto done;
    }
    if (self->mask != NULL) {
        PyObject *whole = met_py_hsi_mask(self);
        mask = whole == NULL ? NULL : PyObject_CallMethod(whole, "permute", "(O)", order);
        Py_XDECREF(whole);
        if (mask == NULL) {
            goto done;
        }
    }
    result = inplace ? Py_NewRef(object) : met_py_hsi_shallow(object);
    if (result != NULL) {
        met_py_hsi *turned = (met_py_hsi *)result;
        Py_SETREF(turned->image, Py_NewRef(image));
        Py_XSETREF(turned->mask, Py_XNewRef(mask));
        Py_SETREF(turned->orientation, Py_NewRef(target));
    }
done:
    Py_XDECREF(mask);
    Py_XDECREF(image);
    Py_XDECREF(order);
    Py_XDECREF(target);
    return result;
}

/* For notebooks: written in Python, and imported when one asks. */
static PyObject *hsi_html(PyObject *object, PyObject *unused) {
    (void)unused;
    PyObject *module =
        met_py_hsi_ready((met_py_hsi *)object) < 0 ? NULL : PyImport_ImportModule("meteors_c.pages._notebook");
    PyObject *html = module == NULL ? NULL : PyObject_CallMethod(module, "hsi_html", "O", object);
    Py_XDECREF(module);
    return html;
}

/* ------------------------------------------------------------------ memory */

static int hsi_traverse(PyObject *object, visitproc visit, void *arg) {
    met_py_hsi *self = (met_py_hsi *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->image);
    Py_VISIT(self->wavelengths);
    Py_VISIT(self->orientation);
    Py_VISIT(self->device);
    Py_VISIT(self->mask);
    Py_VISIT(self->georeference);
    Py_VISIT(self->source);
    Py_VISIT(self->dict);
    return 0;
}

static int hsi_clear(PyObject *object) {
    met_py_hsi *self = (met_py_hsi *)object;
    Py_CLEAR(self->image);
    Py_CLEAR(self->wavelengths);
    Py_CLEAR(self->orientation);
    Py_CLEAR(self->device);
    Py_CLEAR(self->mask);
    Py_CLEAR(self->georeference);
    Py_CLEAR(self->source);
    Py_CLEAR(self->dict);
    return 0;
}

static void hsi_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (((met_py_hsi *)object)->weak != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    hsi_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ------------------------------------------------------------------ the type */

#define FIELD(name, index, doc) {name, get_field, set_field, doc, (void *)(intptr_t)(index)}

static PyGetSetDef hsi_getset[] = {
    FIELD("image", IMAGE, image_doc),
    FIELD("wavelengths", WAVELENGTHS, wavelengths_doc),
    FIELD("orientation", ORIENTATION, orientation_doc),
    FIELD("device", DEVICE, device_doc),
    FIELD("binary_mask", MASK, mask_doc),
    FIELD("georeference", GEOREFERENCE, georeference_doc),
    FIELD("source", SOURCE, source_doc),
    {"spectral_axis", get_spectral_axis, NULL, spectral_axis_doc, NULL},
    {"spatial_binary_mask", get_spatial_mask, NULL, spatial_mask_doc, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef hsi_methods[] = {
    {"to", KEYWORDS(hsi_to), to_doc},
    {"change_orientation", KEYWORDS(hsi_change_orientation), change_orientation_doc},
    {"get_image", KEYWORDS(met_py_hsi_get_image), get_image_doc},
    {"extract_band_by_name", KEYWORDS(met_py_hsi_extract_band), extract_band_doc},
    {"get_rgb_image", KEYWORDS(met_py_hsi_get_rgb), get_rgb_doc},
    {"get_picture", KEYWORDS(met_py_hsi_get_picture), get_picture_doc},
    {"_substitute_bands", met_py_hsi_substitute_bands, METH_NOARGS, substitute_bands_doc},
    {"_extract_central_slice_from_band", KEYWORDS(met_py_hsi_central_slice), central_slice_doc},
    {"from_xarray", (PyCFunction)(void (*)(void))met_py_hsi_from_xarray, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     from_xarray_doc},
    {"bands", met_py_hsi_named_bands, METH_O, named_bands_doc},
    {"model_copy", KEYWORDS(met_py_hsi_model_copy), model_copy_doc},
    {"_repr_html_", hsi_html, METH_NOARGS, NULL},
    {"stack", KEYWORDS(met_py_hsi_stack) | METH_CLASS, stack_doc},
    {"__reduce__", met_py_hsi_reduce, METH_NOARGS, NULL},
    {"__setstate__", met_py_hsi_setstate, METH_O, NULL},
    {"__deepcopy__", met_py_hsi_deepcopy, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef hsi_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(met_py_hsi, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(met_py_hsi, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot hsi_slots[] = {
    {Py_tp_doc, (void *)hsi_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, hsi_init},
    {Py_tp_dealloc, hsi_dealloc},
    {Py_tp_traverse, hsi_traverse},
    {Py_tp_clear, hsi_clear},
    {Py_tp_repr, met_py_hsi_repr},
    {Py_tp_richcompare, met_py_hsi_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_getset, hsi_getset},
    {Py_tp_methods, hsi_methods},
    {Py_tp_members, hsi_members},
    {0, NULL},
};

static PyType_Spec hsi_spec = {
    .name = "meteors_c.hsi.HSI",
    .basicsize = sizeof(met_py_hsi),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = hsi_slots,
};

bool met_py_is_hsi(PyObject *object) {
    /* the slots of the type are its mark, whichever module object made it */
    for (PyTypeObject *type = Py_TYPE(object); type != NULL; type = type->tp_base) {
        if (type->tp_getset == hsi_getset) {
            return true;
        }
    }
    return false;
}

int met_py_add_hsi(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &hsi_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    PyObject *ranges = failed < 0 ? NULL : met_py_band_ranges();
    failed = PyModule_AddObjectRef(module, "band_ranges", ranges); /* -1 where ranges is NULL */
    Py_XDECREF(ranges);
    return failed < 0 ? -1 : PyModule_AddFunctions(module, met_py_hsi_functions);
}

/* ------------------------------------------------------------------ raw views */

int met_py_image_view(PyObject *object, met_image *view, PyObject **keep) {
    met_image seen, mask_seen;
    PyObject *image = NULL, *mask = NULL, *wavelengths = NULL;
    size_t count;
    int result = -1;
    if (!met_py_is_hsi(object)) {
        PyErr_Format(PyExc_TypeError, "an HSI is needed, not %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    met_py_hsi *self = (met_py_hsi *)object;
    if (met_py_hsi_ready(self) < 0) {
        return -1;
    }
    const int axis = met_py_spectral_axis(self->orientation);
    if (met_py_check_wavelengths(self->wavelengths, self->image, axis) < 0 ||
        met_py_tensor_view(self->image, &seen, &image) < 0 ||
        (wavelengths = met_py_doubles(self->wavelengths, &count)) == NULL) {
        goto done;
    }
    seen.bands = axis;
    seen.rows = met_py_axis(self->orientation, "H");
    seen.wavelengths = (const double *)(const void *)PyBytes_AS_STRING(wavelengths);
    if (self->mask != NULL) {
        PyObject *whole = met_py_hsi_mask(self);
        int failed = whole == NULL ? -1 : met_py_tensor_view(whole, &mask_seen, &mask);
        Py_XDECREF(whole);
        if (failed < 0) {
            goto done;
        }
        seen.mask = mask_seen.data;
        for (int a = 0; a < MET_AXES; a++) {
            seen.mask_strides[a] = mask_seen.strides[a];
        }
        if (met_mask_is_full(&seen)) {
            seen.mask = NULL;
        }
    }
    *keep = PyTuple_Pack(3, image, wavelengths, mask == NULL ? Py_None : mask);
    if (*keep != NULL) {
        *view = seen;
        result = 0;
    }
done:
    Py_XDECREF(mask);
    Py_XDECREF(wavelengths);
    Py_XDECREF(image);
    return result;
}
