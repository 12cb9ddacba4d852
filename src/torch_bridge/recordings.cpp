/* recordings.cpp - see recordings.h. */
#include "recordings.h"
#include "reads.h"

#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>

namespace bridge {
namespace {

/* Forms that are kept: each holds the model's constants, parameters as they are. */
const size_t FORMS = 4;

/* Call the model, and watch what its Python code does with values of the trace. */
at::Tensor call_in(const Model &model, Trace &trace, const at::Tensor &x, const std::vector<at::Tensor> &entries) {
    if (model.script) {
        return call(model, x, entries);
    }
    WithGil gil;
    const Reads reads(trace);
    return call(model, x, entries);
}

} // namespace

std::shared_ptr<Trace> watched_call(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries,
                                    bool all_vary, at::Tensor *y) {
    std::vector<at::Tensor> inputs = {x};
    inputs.insert(inputs.end(), entries.begin(), entries.end());
    auto trace = std::make_shared<Trace>(inputs, model.device, all_vary ? inputs.size() : 1);
    *y = call_in(model, *trace, x, entries);
    trace->stop(*y);
    return trace;
}

std::unique_ptr<Recorded> record(const Model &model, const at::Tensor &samples, const std::vector<int64_t> &origins,
                                 bool gradient) {
    at::AutoGradMode mode(gradient);
    const torch::jit::GraphOptimizerEnabledGuard open(false); /* TorchScript would hide operators in compiled parts */
    at::Tensor x = samples.detach();
    if (gradient) {
        x.requires_grad_();
    }
    auto recorded = std::make_unique<Recorded>();
    at::Tensor y;
    recorded->trace = watched_call(model, x, entries_of(model, origins), false, &y);
    recorded->edges = std::move(recorded->trace->edges); /* they hold the graph, which no later call needs */
    if (!recorded->trace->unreadable.empty()) {
        throw Declined(MET_DECLINE_STRUCTURE,
                       "an operator of the model can't be recorded (" + recorded->trace->unreadable + ")");
    }
    recorded->y = y.detach();
    recorded->x = x;
    recorded->graph = y;
    if (y.dim() == 0 || y.size(0) != samples.size(0)) {
        throw Declined(MET_DECLINE_STRUCTURE, "the model gives one number for a whole batch");
    }
    return recorded;
}

std::vector<double> seconds_of(const Trace &run, int64_t samples) {
    std::vector<double> seconds;
    for (const Step &step : run.steps) {
        seconds.push_back(step.seconds / static_cast<double>(samples));
    }
    return seconds;
}

Recordings::Entry Recordings::find(const Form &form) {
    const std::lock_guard<std::mutex> guard(alone_);
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const auto &one) { return one.first == form; });
    return found == kept_.end() ? Entry() : found->second;
}

void Recordings::keep(const Form &form, Entry entry) {
    std::vector<std::pair<Form, Entry>> gone; /* freed without the lock */
    const std::lock_guard<std::mutex> guard(alone_);
    for (size_t i = kept_.size(); i > 0; i--) {
        const bool oldest = i == 1 && kept_.size() == FORMS && entry.trace != nullptr;
        if (kept_[i - 1].first == form || oldest) {
            gone.push_back(std::move(kept_[i - 1]));
            kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(i - 1));
        }
    }
    if (entry.trace != nullptr) {
        kept_.emplace_back(form, std::move(entry));
    }
}

} // namespace bridge
