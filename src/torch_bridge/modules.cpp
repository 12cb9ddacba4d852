/* modules.cpp - see modules.h. */
#include "modules.h"

#include "trace.h"

#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <memory>

namespace bridge {

namespace {

std::recursive_mutex replacing; /* taken before the GIL, never while holding it */

}

/* ---- conditions that need no run */

namespace {

bool truth(PyObject *object, const char *attribute) {
    Object value(PyObject_GetAttrString(object, attribute));
    int answer = value ? PyObject_IsTrue(value.get()) : 0;
    PyErr_Clear();
    return answer == 1;
}

/* Call `look` with each module of `root`, itself included, until it gives false. */
template <typename Look> void each_module(PyObject *root, const Look &look) {
    Object modules = checked(PyObject_CallMethod(root, "modules", nullptr));
    Object iterator = checked(PyObject_GetIter(modules.get()));
    for (Object module(PyIter_Next(iterator.get())); module && look(module.get());) {
        module = Object(PyIter_Next(iterator.get()));
    }
    if (PyErr_Occurred()) {
        throw Pending();
    }
}

} // namespace

std::string type_name(PyObject *object) {
    return Py_TYPE(object)->tp_name;
}

/* The model's modules must be as they are read: in eval mode, without hooks or replaced methods. */
void check_modules(PyObject *root) {
    std::unique_lock<std::recursive_mutex> settled(replacing); /* what another thread has replaced is back */
    WithGil gil;
    each_module(root, [](PyObject *module) {
        std::string name = type_name(module);
        if (truth(module, "training")) {
            throw Declined(MET_DECLINE_MODEL_STATE, "the model is in train mode (" + name + "): call model.eval()");
        }
        for (const char *hooks : {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"}) {
            if (truth(module, hooks)) {
                throw Declined(MET_DECLINE_MODEL_STATE, "the model carries hooks (" + name + ")");
            }
        }
        Object dict = checked(PyObject_GenericGetDict(module, nullptr));
        if (PyDict_GetItemString(dict.get(), "forward") != nullptr) {
            throw Declined(MET_DECLINE_MODEL_STATE, "forward of " + name + " was replaced on the object");
        }
        return true;
    });
}

bool has_convolution(PyObject *root) {
    WithGil gil;
    Object conv = checked(PyImport_ImportModule("torch.nn.modules.conv"));
    Object kind = checked(PyObject_GetAttrString(conv.get(), "_ConvNd"));
    int found = 0;
    each_module(root, [&](PyObject *module) {
        found = PyObject_IsInstance(module, kind.get());
        return found == 0;
    });
    return found == 1;
}

/* ---- what modules are called, and with what result */

namespace {

const char *const RECORDER = "meteors_c.recorder";

/* Keeps the exception that is pending while a destructor runs Python. */
class KeepException {
  public:
    KeepException() { PyErr_Fetch(&type_, &value_, &trace_); }
    ~KeepException() { PyErr_Restore(type_, value_, trace_); }
    KeepException(const KeepException &) = delete;
    KeepException &operator=(const KeepException &) = delete;

  private:
    PyObject *type_, *value_, *trace_;
};

/* What the hook holds: another thread may call it once more after the recording has ended. */
struct Recorder {
    Recording *recording;
};

void free_recorder(PyObject *capsule) {
    delete static_cast<Recorder *>(PyCapsule_GetPointer(capsule, RECORDER));
}

/* The global forward hook: (module, args, output) -> None, or a copy to go on with. */
PyObject *record(PyObject *self, PyObject *args) {
    PyObject *module, *inputs, *output;
    if (!PyArg_ParseTuple(args, "OOO", &module, &inputs, &output)) {
        return nullptr;
    }
    auto *recorder = static_cast<Recorder *>(PyCapsule_GetPointer(self, RECORDER));
    if (recorder->recording != nullptr && recorder->recording->add(module, output)) {
        return THPVariable_Wrap(THPVariable_Unpack(output).clone());
    }
    Py_RETURN_NONE;
}

PyMethodDef record_definition = {"record", record, METH_VARARGS, nullptr};

} // namespace

Recording::Recording(std::vector<PyObject *> wanted, bool protect) : wanted_(std::move(wanted)), protect_(protect) {
    WithGil gil;
    thread_ = PyThread_get_thread_ident();
    auto made = std::make_unique<Recorder>(Recorder{this});
    recorder_ = checked(PyCapsule_New(made.get(), RECORDER, free_recorder));
    made.release();
    Object hook = checked(PyCFunction_New(&record_definition, recorder_.get()));
    Object torch_module = checked(PyImport_ImportModule("torch.nn.modules.module"));
    handle_ = checked(PyObject_CallMethod(torch_module.get(), "register_module_forward_hook", "O", hook.get()));
}

Recording::~Recording() {
    WithGil gil;
    KeepException keep;
    static_cast<Recorder *>(PyCapsule_GetPointer(recorder_.get(), RECORDER))->recording = nullptr;
    Object answer(PyObject_CallMethod(handle_.get(), "remove", nullptr));
}

bool Recording::add(PyObject *module, PyObject *output) {
    const bool wanted = wanted_.empty() || std::find(wanted_.begin(), wanted_.end(), module) != wanted_.end();
    if (PyThread_get_thread_ident() != thread_ || !wanted) {
        return false;
    }
    Call made = {module, {}, 1, {}, 0, Trace::position()};
    for (Call &call : calls_) {
        if (call.module == module) {
            call.count++;
            made.count++;
        }
    }
    if (THPVariable_Check(output)) {
        made.output = THPVariable_Unpack(output);
        made.node = made.output.grad_fn();
        made.version = made.output._version();
    }
    calls_.push_back(made);
    return protect_ && made.output.defined();
}

const Call &Recording::call_of(const PyObject *module) const {
    auto found = std::find_if(calls_.begin(), calls_.end(), [&](const Call &call) { return call.module == module; });
    if (found == calls_.end() || found->count > 1 || !found->output.defined()) {
        throw Declined(MET_DECLINE_VERIFICATION, "the model does not run the same way for every image");
    }
    return *found;
}

/* ---- a module's output put in place of its computation */

namespace {

struct Replacement {
    unsigned long thread;
    PyObject *module; /* borrowed */
    at::Tensor output;
};

const char *const REPLACEMENT = "meteors_c.replacement";

/* forward(*args) of a replaced module; other threads get the module's own. */
PyObject *replaced_forward(PyObject *self, PyObject *args, PyObject *kwargs) {
    auto *replacement = static_cast<Replacement *>(PyCapsule_GetPointer(self, REPLACEMENT));
    if (PyThread_get_thread_ident() == replacement->thread) {
        return THPVariable_Wrap(replacement->output);
    }
    Object function(PyObject_GetAttrString(reinterpret_cast<PyObject *>(Py_TYPE(replacement->module)), "forward"));
    Object bound(function ? PyMethod_New(function.get(), replacement->module) : nullptr);
    return bound ? PyObject_Call(bound.get(), args, kwargs) : nullptr;
}

PyMethodDef replaced_definition = {"forward",
                                   reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(replaced_forward)),
                                   METH_VARARGS | METH_KEYWORDS, nullptr};

void free_replacement(PyObject *capsule) {
    delete static_cast<Replacement *>(PyCapsule_GetPointer(capsule, REPLACEMENT));
}

} // namespace

Replacing::Replacing() : alone_(replacing) {}

void Replacing::add(PyObject *module, const at::Tensor &output) {
    WithGil gil;
    auto made = std::make_unique<Replacement>(Replacement{PyThread_get_thread_ident(), module, output});
    Object self = checked(PyCapsule_New(made.get(), REPLACEMENT, free_replacement));
    made.release();
    Object function = checked(PyCFunction_New(&replaced_definition, self.get()));
    Object dict = checked(PyObject_GenericGetDict(module, nullptr));
    if (PyDict_SetItemString(dict.get(), "forward", function.get()) < 0) {
        throw Pending();
    }
    dicts_.push_back(std::move(dict));
}

Replacing::~Replacing() {
    WithGil gil;
    KeepException keep;
    for (Object &dict : dicts_) {
        if (PyDict_DelItemString(dict.get(), "forward") < 0) {
            PyErr_Clear();
        }
    }
}

} // namespace bridge
