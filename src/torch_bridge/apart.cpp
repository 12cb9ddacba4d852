/* apart.cpp - see apart.h. */
#include "apart.h"
#include "batch_axis.h"
#include "calls.h"
#include "recordings.h"

namespace bridge {
namespace {

/* Two runs, step by step. */
class Pair {
  public:
    Pair(const Trace &a, int64_t first, const Trace &b, int64_t second) : a_(a), b_(b), sizes_{first, second} {}

    bool is_apart() const {
        bool apart = a_.steps.size() == b_.steps.size() && a_.slots() == b_.slots() && is_result(a_.output) &&
                     is_result(b_.output) && a_.output.slot == b_.output.slot &&
                     batch_axis(a_.output, b_.output, sizes_) == 0;
        for (size_t i = 0; i < a_.steps.size() && apart; i++) {
            apart = step(a_.steps[i], b_.steps[i]);
        }
        return apart;
    }

  private:
    /* Whether an operator of the run has given it, from the input. */
    static bool is_result(const Taped &x) { return x.slot >= 0 && !x.constant.defined(); }

    /* Both read the same: one value of the run, or one constant. */
    static bool reads_alike(const TapedValue &a, const TapedValue &b, bool *dependent) {
        bool alike = a.is_tensor == b.is_tensor && a.entries.size() == b.entries.size();
        if (a.is_tensor && alike) {
            *dependent = *dependent || !a.tensor.constant.defined();
            alike = !a.tensor.alias && !b.tensor.alias && a.tensor.slot == b.tensor.slot &&
                    a.tensor.constant.defined() == b.tensor.constant.defined() &&
                    (a.tensor.slot >= 0 || same_values(a.tensor.constant, b.tensor.constant));
        }
        for (size_t i = 0; i < a.entries.size() && alike; i++) {
            alike = reads_alike(a.entries[i], b.entries[i], dependent);
        }
        return alike;
    }

    /* The same values are made; no number of the input, which would be one for the whole batch. */
    static bool results_alike(const TapedValue &a, const TapedValue &b, bool dependent) {
        bool alike = a.is_tensor == b.is_tensor && a.entries.size() == b.entries.size();
        if (a.is_tensor && alike) {
            alike = a.tensor.slot == b.tensor.slot;
        } else if (!a.is_list && alike) {
            alike = !dependent || a.other.isNone() || a.other.isTensor();
        }
        for (size_t i = 0; i < a.entries.size() && alike; i++) {
            alike = results_alike(a.entries[i], b.entries[i], dependent);
        }
        return alike;
    }

    bool step(const Step &a, const Step &b) const {
        bool dependent = false;
        bool alike = a.op.operator_name() == b.op.operator_name() && a.arguments.size() == b.arguments.size() &&
                     a.results.size() == b.results.size();
        for (size_t i = 0; i < a.arguments.size() && alike; i++) {
            alike = reads_alike(a.arguments[i], b.arguments[i], &dependent);
        }
        for (size_t i = 0; i < a.results.size() && alike; i++) {
            alike = results_alike(a.results[i], b.results[i], dependent);
        }
        if (!alike || !keeps_samples_apart(a, b, sizes_)) {
            return false;
        }
        try {
            check_call(a_, a);
            if (dependent) {
                check_dependent_call(a);
            }
        } catch (const Declined &) {
            return false;
        }
        return true;
    }

    const Trace &a_, &b_;
    const RunSizes sizes_;
};

} // namespace

at::Tensor Watch::call(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries,
                       std::shared_ptr<Trace> *kept) {
    const int64_t samples = x.size(0);
    if (runs_.size() == 2 || (runs_.size() == 1 && runs_[0].samples == samples)) {
        return bridge::call(model, x, entries);
    }
    at::Tensor y;
    auto trace = watched_call(model, x, entries, true, &y);
    trace->edges.clear(); /* they hold the graph */
    *kept = trace;
    const bool seen =
        trace->unreadable.empty() && (model.script || trace->python_watched) && trace->read_by_python.empty();
    runs_.push_back({samples, std::move(trace), seen});
    return y;
}

bool Watch::shows_apart() const {
    return runs_.size() == 2 && runs_[0].seen && runs_[1].seen &&
           Pair(*runs_[0].trace, runs_[0].samples, *runs_[1].trace, runs_[1].samples).is_apart();
}

} // namespace bridge
