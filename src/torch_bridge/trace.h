/* trace.h - recording one run of a model: every operator that it calls, in the order of the calls. */
#ifndef METEORS_C_TRACE_H
#define METEORS_C_TRACE_H

#include "program.h"

#include <ATen/record_function.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/TensorImpl.h>
#include <torch/csrc/autograd/edge.h>

#include <chrono>
#include <memory>
#include <unordered_map>
#include <vector>

namespace bridge {

/* Wait until a device has done what it was told: calls to one that is not the CPU return before. */
void wait_for(at::Device device);

/* A tensor as an operator was given it, or gave it. */
struct Taped {
    int slot = -1;       /* tensors of the run are numbered as they come; -1: it was there before */
    int storage = -1;    /* memory is numbered too; -1: a tensor without */
    bool alias = false;  /* of memory that depends on the input, made by no operator */
    bool grad = false;   /* whether it required gradients */
    bool hooked = false; /* whether something waits for its gradient */
    at::Tensor constant; /* itself, where it does not depend on the input */
    std::vector<int64_t> shape;
    at::ScalarType dtype = at::kFloat;
};

/* An argument or a result: a tensor, a list with tensors in it, or something else. */
struct TapedValue {
    bool is_tensor = false, is_list = false;
    Taped tensor;
    std::vector<TapedValue> entries;
    c10::IValue other;
};

struct Step {
    explicit Step(c10::OperatorHandle handle) : op(std::move(handle)) {}
    c10::OperatorHandle op;
    std::vector<TapedValue> arguments, results;
    c10::AutogradState mode{true, false, true, true};
    bool autocast = false, foreign_mode = false; /* foreign: vmap, inference mode and the like */
    at::ScalarType autocast_dtype = at::kBFloat16;
    double seconds = 0;
};

/*
 * Records the outermost operators that this thread calls while it lives, whatever calls them: modules, functions,
 * operators in place, scripted parts. Tensors are told apart by identity; the memory of those that depend on the input
 * is not kept.
 *
 * Autograd's graph shows what is differentiable alone. Here a comparison, a mask or a rounding is a call like any other,
 * so whether a value depends on the input is known for all of them.
 */
class Trace {
  public:
    /*
     * Tensors that the model is given: its input first, then entries of extras. They must not be used before. What is
     * computed of the first `varying` of them depends on the input.
     */
    Trace(const std::vector<at::Tensor> &inputs, at::Device device, size_t varying = 1);
    ~Trace();
    Trace(const Trace &) = delete;
    Trace &operator=(const Trace &) = delete;

    /* Stop recording. */
    void stop(const at::Tensor &y);

    std::vector<Step> steps;
    std::vector<torch::autograd::Edge>
        edges; /* by step: its result in autograd's graph; invalid: it is no lone tensor there */
    std::vector<Taped> given;
    Taped output;
    std::string unreadable;      /* an operator whose tensors can't be looked at; empty: there is none */
    bool python_watched = false; /* reads of values by Python code are noted ... */
    std::string read_by_python;  /* ... here: the last one of a value that depends on the input */
    /* Whether a tensor of the run depends on the input. */
    bool depends(const at::Tensor &tensor) const;
    size_t slots() const { return tensors_.size(); }
    size_t storages() const { return memory_.size(); }
    /* Whether memory was there before the run. */
    bool is_foreign(int storage) const { return foreign_[static_cast<size_t>(storage)]; }

  private:
    struct Observed;
    static std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction &function);
    static void on_end(const at::RecordFunction &function, at::ObserverContext *context);
    void start(const c10::OperatorHandle &op, c10::ArrayRef<const c10::IValue> inputs);
    void end(const std::vector<c10::IValue> &outputs);
    int storage_of(const at::Tensor &tensor, bool foreign);
    int slot_of(const at::Tensor &tensor, int storage);
    Taped read(const at::Tensor &tensor);
    Taped make(const at::Tensor &tensor);
    template <typename Look> TapedValue tape(const c10::IValue &value, const Look &look);

    Trace *outer_; /* of this thread, until now */
    at::Device device_;
    at::CallbackHandle handle_ = 0;
    bool recording_ = false;
    int depth_ = 0;
    bool depends_ = false; /* the call that has begun reads a value that depends on the input */
    std::chrono::steady_clock::time_point begun_;
    /* Identities, which no other tensor or memory takes as long as they are held. */
    std::vector<c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>> tensors_, handed_out_;
    std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> memory_;
    std::vector<bool> foreign_, dependent_; /* by storage: it was there before; it depends on the input */
    std::vector<at::Tensor> made_there_;    /* by storage: what an operator made of constants there last */
    std::unordered_map<const c10::TensorImpl *, int> slot_of_;
    std::unordered_map<const c10::StorageImpl *, int> storage_of_;
    std::vector<bool> slot_dependent_;
};

/*
 * The program that two runs have in common, at `first` and `second` samples; throws Declined with the operator's name
 * where they differ in more than how many there are, or where something of them can't be run again.
 *   gradient  whether gradients of the program are wanted
 */
std::unique_ptr<Program> program_of(const Trace &a, int64_t first, const Trace &b, int64_t second, bool gradient);

/* Whether an argument of the schema is written. */
bool is_written(const c10::OperatorHandle &op, size_t argument);

} // namespace bridge

#endif
