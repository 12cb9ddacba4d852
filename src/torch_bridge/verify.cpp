/* verify.cpp - what a program gives must be what the model gives, on samples of the job. */
#include "prepared.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <chrono>

namespace bridge {
namespace {

double largest(const at::Tensor &values) {
    return values.numel() == 0 ? 0 : values.abs().max().item<double>();
}

} // namespace

void compare(const at::Tensor &model, const at::Tensor &program, bool wide, const char *what) {
    if (model.sizes() != program.sizes()) {
        throw Declined(MET_DECLINE_VERIFICATION, std::string("the program gives ") + what + " of another shape");
    }
    at::Tensor a = model.to(at::kDouble), b = program.to(at::kDouble);
    if (!a.isfinite().all().item<bool>()) {
        return; /* the plain path will say so */
    }
    const double error = largest(a - b), scale = largest(a);
    if (!(error <= (wide ? 1e-9 : 2e-4) * scale)) {
        throw Declined(MET_DECLINE_VERIFICATION, std::string("the program does not give the model's ") + what);
    }
}

at::Tensor gradient_of(const met_prepared &p, const Recorded &run, const met_trial &trial, size_t j) {
    at::AutoGradMode on(true);
    const auto start = std::chrono::steady_clock::now();
    at::Tensor selected = select_targets(*p.model, run.graph, trial.targets + j, 1);
    at::Tensor gradient = gradients_of(*p.model, {selected.sum()}, {run.x})[0];
    trial.tried->seconds_alone += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return gradient.defined() ? gradient.detach() : at::zeros_like(run.x).detach();
}

void compare_gradients(met_prepared &p, const met_trial &trial, size_t j, const at::Tensor &model, bool wide) {
    const double one = 1;
    const auto row = static_cast<int64_t>(trial.samples[j].image);
    sum_gradients(p, trial.samples + j, {row}, trial.targets + j, &one);
    at::Tensor program = gradient_sums(p).slice(0, row, row + 1);
    at::NoGradGuard off;
    /* In float32 values near the kink of a ReLU or a tie of a pool take another side, and single entries differ by all. */
    const double scale = model.norm().item<double>(), error = (model - program).norm().item<double>();
    p.sum.clear();
    p.recent.clear();
    if (!(error <= (wide ? 1e-8 : 0.1) * scale)) {
        throw Declined(MET_DECLINE_VERIFICATION, "the program does not give the model's gradient");
    }
}

void verify(met_prepared &p, const met_trial &trial, const at::Tensor &samples, int64_t several, const Known &known) {
    const auto n = static_cast<int64_t>(trial.batch.n);
    const bool wide = samples.scalar_type() == at::kDouble;
    at::NoGradGuard off;
    for (int64_t from = 0, to = several; from < n; from = to, to = std::min(n, from + static_cast<int64_t>(p.most))) {
        std::vector<int64_t> rows, origins;
        for (int64_t i = from; i < to; i++) {
            rows.push_back(static_cast<int64_t>(trial.samples[i].image));
            origins.push_back(p.origins[trial.samples[i].image]);
        }
        at::Tensor program = outputs_of(p, p.features->of(trial.samples + from, rows), rows);
        const auto first = known.lower_bound(from), last = known.lower_bound(to);
        for (auto one = first; one != last; one++) {
            compare(one->second, program.slice(0, one->first - from, one->first - from + 1), wide, "outputs");
        }
        if (first == last) {
            trial.tried->evaluated += static_cast<size_t>(to - from);
            compare(call(*p.model, samples.slice(0, from, to).clone(), entries_of(*p.model, origins)), program, wide,
                    "outputs");
        }
    }
}

} // namespace bridge
