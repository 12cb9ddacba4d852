/* job.h - what every attribution call has in common: arguments in, a run without the GIL, arrays and a report out. */
#ifndef MET_PY_JOB_H
#define MET_PY_JOB_H

#include <Python.h>

#include "met.h"

typedef struct met_py_job {
    size_t images;
    met_input *inputs; /* (images,) */
    void **out;        /* (images,) memory of the result arrays */
    met_dtype dtype;
    const met_model *model;
    met_options options;
    met_report report;
    PyObject *results; /* list of (d0, d1, d2) arrays */
    PyObject *kept;    /* list of whatever the views point into */
    PyObject *progress;
    PyThreadState *thread;
    double ticked;
} met_py_job;

/*
 * Read the common arguments and make the result arrays.
 *   images     list of HSI
 *   targets    list of tuples of int, one for each image; () = the only output
 *   baselines  list of float or 3-D tensor, one for each image; NULL where the method has none
 *   model      capsule
 *   options    dict: most, memory (int), shortcuts (bool), parallel (capsule or None), progress (callable or None)
 * -1 with an exception on failure; met_py_job_close() is due either way.
 */
int met_py_job_open(met_py_job *job, PyObject *images, PyObject *targets, PyObject *baselines, PyObject *model,
                    PyObject *options);

/* Around the call of the core: give up the GIL, and take it back and raise where `status` says so (-1). */
void met_py_job_leave(met_py_job *job);
int met_py_job_enter(met_py_job *job, int status);

/* A new array of the images' shape and the job's dtype, not cleared. */
PyObject *met_py_job_array(const met_py_job *job);

/* (results, report dict), or (results, more, report dict). */
PyObject *met_py_job_answer(const met_py_job *job, PyObject *results);
PyObject *met_py_job_answer_with(const met_py_job *job, PyObject *results, PyObject *more);

void met_py_job_close(met_py_job *job);

/* A tuple of int (or ()) as a target; -1 with an exception otherwise. */
int met_py_target(PyObject *indices, met_target *out);

#endif
