/* modules.h - watching the modules of an eager model, and putting an output in place of a module's computation. */
#ifndef METEORS_C_MODULES_H
#define METEORS_C_MODULES_H

#include "bridge.h"

#include <torch/csrc/autograd/function.h>

#include <mutex>

namespace bridge {

/* A reason why a shortcut does not apply. */
struct Declined : Failure {
    Declined(met_decline why, const std::string &text) : Failure(MET_EDECLINED, text, why) {}
};

std::string type_name(PyObject *object);

/* Throws Declined unless all modules are as they are read: in eval mode, without hooks or replaced methods. */
void check_modules(PyObject *root);

/* Whether any of the modules is a convolution: without one, no call is needed to tell that none comes first. */
bool has_convolution(PyObject *root);

/* A call of a module: its output as it was made, and how often the module was called in all. */
struct Call {
    PyObject *module; /* borrowed: the model keeps it */
    at::Tensor output;
    int count;
    std::decay_t<decltype(std::declval<const at::Tensor &>().grad_fn())>
        node; /* that made the output; NULL: none did */
    int64_t version;
    size_t position; /* operators that were called before it was made, in a trace */

    /* Whether the values were written over since. */
    bool overwritten() const { return output.defined() && output._version() != version; }
};

/*
 * Records module calls of this thread while it lives; those of some modules where they are given. Where it protects
 * their outputs, the model goes on with copies.
 */
class Recording {
  public:
    Recording(std::vector<PyObject *> wanted, bool protect);
    ~Recording();
    std::vector<Call> &calls() { return calls_; }
    /* A module's only call, with an output; throws Declined where there is none, or another number of calls. */
    const Call &call_of(const PyObject *module) const;
    /* True where the model is to go on with a copy. */
    bool add(PyObject *module, PyObject *output);

  private:
    unsigned long thread_ = 0;
    std::vector<PyObject *> wanted_;
    bool protect_;
    std::vector<Call> calls_;
    Object recorder_;
    Object handle_;
};

/*
 * Replaces the outputs of modules, for this thread, while it lives; other threads see the modules as they are. One
 * thread at a time replaces: make it without holding the GIL.
 */
class Replacing {
  public:
    Replacing();
    void add(PyObject *module, const at::Tensor &output);
    ~Replacing();

  private:
    std::unique_lock<std::recursive_mutex> alone_; /* first: given back last */
    std::vector<Object> dicts_;
};

} // namespace bridge

#endif
