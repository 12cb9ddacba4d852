#include "job.h"
#include "methods.h"

const char met_py_saliency_doc[] =
    PyDoc_STR("saliency(images, targets, model, options, absolute)\n--\n\n"
              "(list of arrays, report dict): the gradient of the target output at each image, or its absolute\n"
              "value. The arguments are those of job.h. Source: Simonyan et al., 2013 (arXiv:1312.6034).");

PyObject *met_py_saliency(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"images", "targets", "model", "options", "absolute", NULL};
    PyObject *images, *targets, *model, *options;
    int absolute;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOp", names, &images, &targets, &model, &options, &absolute)) {
        return NULL;
    }
    met_py_job job;
    PyObject *answer = NULL;
    if (met_py_job_open(&job, images, targets, NULL, model, options) == 0) {
        const met_saliency_options method = {.absolute = absolute != 0};
        met_py_job_leave(&job);
        int status =
            met_saliency(job.inputs, job.images, job.dtype, &method, job.model, &job.options, job.out, &job.report);
        if (met_py_job_enter(&job, status) == 0) {
            answer = met_py_job_answer(&job, job.results);
        }
    }
    met_py_job_close(&job);
    return answer;
}
