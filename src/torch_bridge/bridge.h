/* bridge.h - torch models behind the vtable of model.h. */
#ifndef METEORS_C_BRIDGE_H
#define METEORS_C_BRIDGE_H

#include <Python.h>

#include <ATen/ATen.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/jit/api/module.h>

#include <atomic>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.h"
#include "threads.h"

namespace bridge {

/* Holds the GIL for a scope. */
class WithGil {
  public:
    WithGil() : state_(PyGILState_Ensure()) {}
    ~WithGil() { PyGILState_Release(state_); }
    WithGil(const WithGil &) = delete;
    WithGil &operator=(const WithGil &) = delete;

  private:
    PyGILState_STATE state_;
};

/* A new reference to a Python object, given back in any thread. */
class Object {
  public:
    Object() = default;
    explicit Object(PyObject *stolen) : object_(stolen) {}
    Object(Object &&other) noexcept : object_(other.object_) { other.object_ = nullptr; }
    Object &operator=(Object &&other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    Object(const Object &) = delete;
    Object &operator=(const Object &) = delete;
    ~Object() {
        if (object_ != nullptr && Py_IsInitialized()) {
            WithGil gil;
            Py_DECREF(object_);
        }
    }
    static Object borrow(PyObject *object) {
        Py_XINCREF(object);
        return Object(object);
    }
    PyObject *get() const { return object_; }
    explicit operator bool() const { return object_ != nullptr; }

  private:
    PyObject *object_ = nullptr;
};

/* A Python exception is pending: the caller of the core will see it. */
struct Pending {};

/* `object`, or Pending where a C API call has failed. */
inline Object checked(PyObject *object) {
    if (object == nullptr) {
        throw Pending();
    }
    return Object(object);
}

/* A status with its detail, and for MET_EDECLINED the reason. */
struct Failure : std::runtime_error {
    Failure(int code, const std::string &text, met_decline why = MET_DECLINE_NONE)
        : std::runtime_error(text), status(code), reason(why) {}
    int status;
    met_decline reason;
};

/* Run `body` and turn every exception into a status. */
int guarded(const met_host *host, const std::function<void()> &body);

/* An argument behind the input; `per_image`: a tensor with one entry for each image of the call. */
struct Extra {
    Object python;
    at::Tensor tensor;
    bool per_image = false;
};

class Recordings; /* recordings.h */
class Watch;      /* apart.h */
class Trace;      /* trace.h */

struct Model {
    met_model table;
    const met_host *host = nullptr;
    Object callable;                          /* called as callable(x, *extras) */
    Object module;                            /* the nn.Module inside it, or empty */
    std::optional<torch::jit::Module> script; /* run without Python */
    Object tensor_of;                         /* called as tensor_of(output) where an output is no tensor */
    std::vector<Extra> extras;
    at::Device device = at::kCPU;
    at::ScalarType input_dtype = at::kFloat;     /* of the batches that the model is given */
    std::optional<at::ScalarType> dtype;         /* the same where that is neither float32 nor float64 */
    bool own_kernels = false;                    /* its gradients may be computed by ours (block_gradients.h), */
    mutable std::atomic<bool> by_blocks = false; /* and some were */
    Threads threads;                             /* of its evaluations */
    Threads replay_threads;                      /* of its program's */
    std::shared_ptr<Recordings> recordings;      /* of its calls so far */
    std::shared_ptr<Watch> watch;                /* on the call that runs; empty: nobody looks */
    bool looking = false;                        /* at how it computes in the next call, */
    struct {
        std::shared_ptr<const Trace> run;
        int64_t samples;
    } seen{}; /* which is this one */
};

/* Shape as text, "(2, 150, 8, 8)". */
std::string shape_text(at::IntArrayRef shape);

/* Of each extra that has one entry for each image, the entries that belong to samples of these images. */
std::vector<at::Tensor> entries_of(const Model &model, const std::vector<int64_t> &images);

/* Call the model on x, whose samples have those entries; autograd records as the thread's grad mode says. */
at::Tensor call(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries);

/* The target output of each sample, (n,). Throws Failure where outputs or targets do not fit. */
at::Tensor select_targets(const Model &model, const at::Tensor &y, const met_target *const *targets, size_t n);

/*
 * The gradients of `ends`, weighted by `weights` of their shapes, with respect to `wanted`; undefined where they do not
 * depend on it. `keep`: the graph is needed again.
 */
std::vector<at::Tensor> gradients_of(const Model &model, const std::vector<at::Tensor> &ends,
                                     const std::vector<at::Tensor> &wanted, const std::vector<at::Tensor> &weights = {},
                                     bool keep = false);

/* The gradients of one number at places in its graph; undefined where it does not depend on them. */
std::vector<at::Tensor> gradients_at(const Model &model, const at::Tensor &end,
                                     const std::vector<torch::autograd::Edge> &places);

/* Write the values of `selected` (n,) to y. */
void write_values(const at::Tensor &selected, met_outputs *y);

/* Write the outputs of n samples that `y` requests: one target a sample, or all. */
void write_outputs(const Model &model, const at::Tensor &outputs, size_t n, met_outputs *y);

/* The batch's memory as a tensor that holds a reference to its owner. */
at::Tensor batch_tensor(const met_batch &x);

/* Export a tensor (n, d0, d1, d2) of any device as a batch of `dtype` in the host's memory. */
void export_batch(const at::Tensor &values, met_dtype dtype, met_batch *out);

/* Samples as the model takes them: on its device, in its dtype. */
inline at::Tensor to_model(const Model &model, const at::Tensor &x) {
    return x.to(model.device, model.input_dtype);
}

/* Whether the model gave one number for several samples. */
inline bool is_lone(const at::Tensor &y, size_t n) {
    return n > 1 && y.numel() == 1;
}

/* The vtable of a model whose fields are filled; `model` must outlive it. */
met_model torch_table(Model *model);

/* Evaluation through the recorded program (shortcut.cpp). */
extern const met_shortcut recorded_program;

} // namespace bridge

#endif
