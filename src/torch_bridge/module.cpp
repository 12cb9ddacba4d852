/* module.cpp - meteors_c._torch: makes models for the core, and gives it torch's thread pool. */
#include "recordings.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/jit/python/module_python.h>

#include <memory>

namespace {

using bridge::Model;
using bridge::Object;

void run_parallel(size_t n, size_t grain, void (*body)(void *, size_t, size_t), void *arg) {
    bridge::ThreadsBeside threads;
    at::parallel_for(0, static_cast<int64_t>(n), static_cast<int64_t>(grain),
                     [&](int64_t from, int64_t to) { body(arg, static_cast<size_t>(from), static_cast<size_t>(to)); });
}

const met_parallel torch_threads = {run_parallel};

void free_model(PyObject *capsule) {
    auto *table = static_cast<met_model *>(PyCapsule_GetPointer(capsule, MET_MODEL_CAPSULE));
    delete static_cast<Model *>(table->ctx);
}

/* Store the arguments behind the input in the model. */
void read_extras(Model &model, PyObject *extras, PyObject *per_image) {
    if (PyTuple_GET_SIZE(extras) != PyTuple_GET_SIZE(per_image)) {
        throw bridge::Failure(MET_EVALUE, "per_image must have one entry for each extra");
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(extras); i++) {
        PyObject *value = PyTuple_GET_ITEM(extras, i);
        bridge::Extra extra;
        extra.python = Object::borrow(value);
        extra.per_image = PyTuple_GET_ITEM(per_image, i) == Py_True;
        if (THPVariable_Check(value)) {
            extra.tensor = THPVariable_Unpack(value);
        } else if (extra.per_image) {
            throw bridge::Failure(MET_ETYPE, "an extra with one entry for each image must be a tensor");
        }
        model.extras.push_back(std::move(extra));
    }
}

at::ScalarType dtype_named(const std::string &name) {
    return name == "float64"    ? at::kDouble
           : name == "float16"  ? at::kHalf
           : name == "bfloat16" ? at::kBFloat16
                                : at::kFloat;
}

const char *const RECORDINGS_CAPSULE = "meteors_c.recordings";

void free_recordings(PyObject *capsule) {
    delete static_cast<std::shared_ptr<bridge::Recordings> *>(PyCapsule_GetPointer(capsule, RECORDINGS_CAPSULE));
}

PyDoc_STRVAR(recordings_doc, "recordings()\n--\n\n"
                             "No recorded runs yet, in a capsule for make_model, which keeps those of a model there.");

PyObject *recordings(PyObject *, PyObject *) {
    auto made = std::make_unique<std::shared_ptr<bridge::Recordings>>(std::make_shared<bridge::Recordings>());
    PyObject *capsule = PyCapsule_New(made.get(), RECORDINGS_CAPSULE, free_recordings);
    if (capsule != nullptr) {
        made.release(); /* the capsule owns it now */
    }
    return capsule;
}

PyDoc_STRVAR(
    make_model_doc,
    "make_model(callable, module, extras, per_image, device, dtype, tensor_of, own_kernels, measure_threads, "
    "recordings)\n--\n\n"
    "A torch model in a capsule for the core.\n\n"
    "callable is called as callable(x, *extras); module is the torch.nn.Module in it, or None. per_image tells of\n"
    "each extra whether it is a tensor with one entry for each image, which is repeated with the image's samples.\n"
    "device and dtype are strings, those of x. tensor_of(output) makes a tensor of an output that is none.\n"
    "own_kernels: whether gradients may be computed by faster kernels than torch's, which round otherwise.\n"
    "measure_threads: whether a run finds how many of torch's threads are the fastest, or uses all. recordings: what\n"
    "recordings() gave for this callable, which serves its later calls.");

PyObject *make_model(PyObject *, PyObject *args) {
    PyObject *callable, *module, *extras, *per_image, *tensor_of, *earlier;
    const char *device, *dtype;
    int own_kernels, measure_threads;
    if (!PyArg_ParseTuple(args, "OOO!O!ssOppO", &callable, &module, &PyTuple_Type, &extras, &PyTuple_Type, &per_image,
                          &device, &dtype, &tensor_of, &own_kernels, &measure_threads, &earlier)) {
        return nullptr;
    }
    auto *known = static_cast<std::shared_ptr<bridge::Recordings> *>(PyCapsule_GetPointer(earlier, RECORDINGS_CAPSULE));
    if (known == nullptr) {
        return nullptr;
    }
    auto *host = static_cast<const met_host *>(PyCapsule_Import(MET_HOST_CAPSULE, 0));
    if (host == nullptr) {
        return nullptr;
    }
    auto model = std::make_unique<Model>();
    model->host = host;
    model->recordings = *known;
    int status = bridge::guarded(host, [&] {
        model->device = at::Device(device);
        model->input_dtype = dtype_named(dtype);
        model->own_kernels = own_kernels != 0;
        if (measure_threads != 0 && model->device.is_cpu()) {
            const int start = bridge::threads_for_which_there_are_cores();
            model->replay_threads.measure(start, true, true);
            model->threads.measure(start);
        }
        if (model->input_dtype == at::kHalf || model->input_dtype == at::kBFloat16) {
            model->dtype = model->input_dtype;
        }
        model->callable = Object::borrow(callable);
        model->tensor_of = Object::borrow(tensor_of);
        if (module != Py_None) {
            model->module = Object::borrow(module);
        }
        if (auto script = torch::jit::as_module(pybind11::handle(callable))) {
            model->script = *script;
        }
        read_extras(*model, extras, per_image);
    });
    if (status != MET_OK) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, host->detail());
        }
        return nullptr;
    }
    model->table = bridge::torch_table(model.get());
    PyObject *capsule = PyCapsule_New(&model->table, MET_MODEL_CAPSULE, free_model);
    if (capsule != nullptr) {
        model.release(); /* the capsule owns it now */
    }
    return capsule;
}

PyMethodDef functions[] = {
    {"make_model", make_model, METH_VARARGS, make_model_doc},
    {"recordings", recordings, METH_NOARGS, recordings_doc},
    {nullptr, nullptr, 0, nullptr},
};

int fill_module(PyObject *module) {
    auto *host = static_cast<const met_host *>(PyCapsule_Import(MET_HOST_CAPSULE, 0));
    if (host == nullptr) {
        return -1;
    }
    if (host->version != MET_HOST_VERSION) {
        PyErr_Format(PyExc_ImportError, "meteors_c._torch was built for core interface %d, not %d", MET_HOST_VERSION,
                     host->version);
        return -1;
    }
    PyObject *threads = PyCapsule_New(const_cast<met_parallel *>(&torch_threads), MET_PARALLEL_CAPSULE, nullptr);
    int failed = threads == nullptr ? -1 : PyModule_AddObjectRef(module, "parallel", threads);
    Py_XDECREF(threads);
    /* Python looks for this sentence in the file before it loads it. */
    const char *built = "meteors_c was built for torch " METEORS_C_TORCH_VERSION;
    return failed < 0 ? -1 : PyModule_AddStringConstant(module, "built", built);
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void *>(fill_module)},
#if PY_VERSION_HEX >= 0x030C0000
    /* torch itself lives in one interpreter only. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* Models and their capsules are used by one thread at a time. */
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, nullptr},
};

struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_torch",
    "Torch models behind the vtable of meteors_c._core.",
    0,
    functions,
    slots,
    nullptr,
    nullptr,
    nullptr,
};

} // namespace

PyMODINIT_FUNC PyInit__torch() {
    return PyModuleDef_Init(&definition);
}
