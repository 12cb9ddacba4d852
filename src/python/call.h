/* call.h - one call of a method: arguments in, a run without the GIL, arrays and a report out. */
#ifndef MET_PY_CALL_H
#define MET_PY_CALL_H

#include <Python.h>

#include "method.h"

typedef struct met_py_call {
    met_call call;
    met_options options;
    met_report report;
    met_input *inputs; /* (images,) */
    met_results results;
    PyObject *arrays;  /* list of lists of (d0, d1, d2) arrays: for each image, one for each output */
    PyObject *further; /* dict of further results by name, each a list with one entry for each image */
    PyObject *kept;    /* list of whatever views and options point into */
    PyObject *progress;
    PyThreadState *thread;
    double progress_shown; /* when it was */
} met_py_call;

/*
 * Read what all methods share.
 *   images     list of HSI
 *   targets    list of tuples of int, one for each image; () = the only output
 *   baselines  list of float or 3-D tensor, one for each image, or None
 *   model      capsule
 *   options    dict: max_batch_size, memory_budget (int or None), shortcuts ("off", "where faster",
 *              "always"), finite ("warn", "raise", "ignore"),
 *              tune_allocator (bool), dtype ("float32", "float64" or None: that of the images), parallel (capsule or
 *              None), progress (callable or None)
 * -1 with an exception on failure; met_py_call_close() is due either way.
 */
int met_py_call_open(met_py_call *c, PyObject *images, PyObject *targets, PyObject *baselines, PyObject *model,
                     PyObject *options);
void met_py_call_close(met_py_call *c);

/* Run a method over the opened call; -1 with an exception. */
int met_py_call_run(met_py_call *c, const met_method *method, const void *options);

/* The report as a dict. */
PyObject *met_py_report(const met_report *report);

/* The list of a further result by its name, of None for each image at first, borrowed; NULL with an exception. */
PyObject *met_py_further(met_py_call *c, const char *name);

/* A new array of the images' shape and the call's dtype, not cleared. */
PyObject *met_py_result_array(const met_py_call *c);

/* Keep an object until the call is closed; steals the reference. -1 with an exception, also where object is NULL. */
int met_py_keep(met_py_call *c, PyObject *object);

/* The position of a string among `names`, which end with NULL; -1 with an exception that lists them. */
int met_py_choice(PyObject *value, const char *argument, const char *const *names);

/* A tuple of int (or ()) as a target; -1 with an exception otherwise. */
int met_py_target(PyObject *indices, met_target *out);

/* A tuple of three bytes objects or None, one byte for each index along an axis; the bytes are borrowed. */
int met_py_axis_flags(PyObject *tuple, const size_t shape[MET_AXES], const uint8_t *out[MET_AXES]);

#endif
