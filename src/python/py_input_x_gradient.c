#include "job.h"
#include "methods.h"

const char met_py_input_x_gradient_doc[] =
    PyDoc_STR("input_x_gradient(images, targets, model, options)\n--\n\n"
              "(list of arrays, report dict): each masked image times the gradient of the target output.\n"
              "The arguments are those of job.h. Source: Shrikumar et al., 2016 (arXiv:1605.01713).");

PyObject *met_py_input_x_gradient(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"images", "targets", "model", "options", NULL};
    PyObject *images, *targets, *model, *options;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO", names, &images, &targets, &model, &options)) {
        return NULL;
    }
    met_py_job job;
    PyObject *answer = NULL;
    if (met_py_job_open(&job, images, targets, NULL, model, options) == 0) {
        met_py_job_leave(&job);
        int status =
            met_input_x_gradient(job.inputs, job.images, job.dtype, job.model, &job.options, job.out, &job.report);
        if (met_py_job_enter(&job, status) == 0) {
            answer = met_py_job_answer(&job, job.results);
        }
    }
    met_py_job_close(&job);
    return answer;
}
