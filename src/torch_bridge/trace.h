/* trace.h - the operators that one run of a model calls, and which values they make of its input. */
#ifndef METEORS_C_TRACE_H
#define METEORS_C_TRACE_H

#include "bridge.h"

#include <ATen/record_function.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/TensorImpl.h>

#include <memory>
#include <vector>

namespace bridge {

/*
 * Records the outermost operators that this thread calls while it lives, whatever calls them: modules, functions,
 * operators in place, scripted parts. Values are told apart by identity; their memory is not kept.
 *
 * Autograd's graph shows what is differentiable alone. Here a comparison, a mask or a rounding is a call like any other,
 * so whether a value depends on the input is known for all of them.
 */
class Trace {
  public:
    /* What the input is must be said before it is used. */
    explicit Trace(const at::Tensor &input);
    ~Trace();
    Trace(const Trace &) = delete;
    Trace &operator=(const Trace &) = delete;

    /* How many operators were called so far; 0 outside of a trace of this thread. */
    static size_t position();

    /*
     * Why the output is not a function of `cut`, as it was after `position` operators, alone; empty: it is.
     *   the output must come from the cut by recorded operators
     *   what depends on the input otherwise must reach neither the output nor Python, which could decide by it
     */
    std::string why_not_behind(const at::Tensor &cut, size_t position, const at::Tensor &output) const;

  private:
    /* Identities, which no other value takes as long as they are held. */
    struct Value {
        c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> tensor;
        c10::weak_intrusive_ptr<c10::StorageImpl> storage;
        bool written = false; /* by the operator that reads it */
    };

    struct Step {
        c10::OperatorName name;
        std::vector<Value> in, out;
    };

    struct Observed;
    class Dependence;

    static std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction &function);
    static void on_end(const at::RecordFunction &function, at::ObserverContext *context);
    static Value value_of(const at::Tensor &tensor, bool written);

    Trace *outer_; /* of this thread, until now */
    at::CallbackHandle handle_;
    int depth_ = 0;
    Value input_;
    std::vector<Step> steps_;
};

} // namespace bridge

#endif
