/* reads.cpp - see reads.h. A mode of torch would see these calls too, but models take other paths where one is on. */
#include "reads.h"

#include <torch/csrc/autograd/python_variable.h>

#include <cstring>

namespace bridge {
namespace {

thread_local Trace *watched = nullptr;

/* Methods of a tensor that give its values, or its memory, to Python. */
bool gives_values(const char *name) {
    static const char *const names[] = {"numpy",   "tolist",    "data_ptr",       "untyped_storage", "_typed_storage",
                                        "storage", "__array__", "const_data_ptr", "__reduce_ex__"};
    for (const char *one : names) {
        if (std::strcmp(name, one) == 0) {
            return true;
        }
    }
    return false;
}

int on_call(PyObject *, PyFrameObject *, int what, PyObject *function) {
    if (what != PyTrace_C_CALL || watched == nullptr || function == nullptr || !PyCFunction_Check(function)) {
        return 0;
    }
    const char *name = reinterpret_cast<PyCFunctionObject *>(function)->m_ml->ml_name;
    PyObject *self = PyCFunction_GET_SELF(function);
    if (std::strstr(name, "to_dlpack") != nullptr) { /* of which tensor, is not told */
        watched->read_by_python = name;
    } else if (self != nullptr && THPVariable_Check(self) && gives_values(name) &&
               watched->depends(THPVariable_Unpack(self))) {
        watched->read_by_python = std::string("Tensor.") + name;
    }
    return 0;
}

} // namespace

Reads::Reads(Trace &trace) : trace_(trace) {
    Object getter = Object::borrow(PySys_GetObject("getprofile"));
    Object profile = getter ? checked(PyObject_CallNoArgs(getter.get())) : Object();
    trace_.python_watched = watched == nullptr && profile.get() == Py_None;
    if (trace_.python_watched) {
        watched = &trace_;
        PyEval_SetProfile(on_call, nullptr);
    }
}

Reads::~Reads() {
    if (watched == &trace_) {
        watched = nullptr;
        PyEval_SetProfile(nullptr, nullptr);
    }
}

} // namespace bridge
