/* verify.cpp - what a program gives must be what the model gives, on samples of the job. */
#include "prepared.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace bridge {
namespace {

double largest(const at::Tensor &values) {
    return values.numel() == 0 ? 0 : values.abs().max().item<double>();
}

/* The sum of squares; of nothing: 0. */
double squares(const at::Tensor &values) {
    const double norm = values.defined() ? values.norm().item<double>() : 0;
    return norm * norm;
}

} // namespace

void compare(const at::Tensor &model, const at::Tensor &program, bool wide, const char *what, const at::Tensor &all) {
    if (model.sizes() != program.sizes()) {
        throw Declined(MET_DECLINE_VERIFICATION, std::string("the program gives ") + what + " of another shape");
    }
    at::Tensor a = model.to(at::kDouble), b = program.to(at::kDouble);
    if (!is_finite(a)) {
        return; /* the plain path will say so */
    }
    const double error = largest(a - b), scale = largest(all.defined() ? all.to(at::kDouble) : a);
    if (!(error <= (wide ? 1e-9 : 2e-4) * scale)) {
        throw Declined(MET_DECLINE_VERIFICATION, std::string("the program does not give the model's ") + what);
    }
}

namespace {

/* Gradients of the target output at places in the graph of a recorded run. */
ModelGradient gradient_at(const Model &model, const Recorded &run, const met_trial &trial, size_t j, size_t position,
                          const torch::autograd::edge_list &places) {
    at::AutoGradMode on(true);
    const auto start = std::chrono::steady_clock::now();
    at::Tensor selected = select_targets(model, run.graph, trial.targets + j, 1).sum();
    ModelGradient found{position, gradients_at(model, selected, places), 0};
    wait_for(model.device);
    found.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return found;
}

} // namespace

ModelGradient gradient_of(const Model &model, const Recorded &run, const met_trial &trial, size_t j) {
    return gradient_at(model, run, trial, j, 0, {torch::autograd::impl::gradient_edge(run.x)});
}

ModelGradient gradient_at_cut(const met_prepared &p, const Recorded &run, const met_trial &trial, size_t j) {
    const size_t position = p.features->back();
    const std::vector<size_t> affine = affine_positions(*p.program);
    bool found = std::count(affine.begin(), affine.end(), position) > 0;
    torch::autograd::edge_list places;
    for (int v : p.program->live(position)) {
        const int step = p.program->values[static_cast<size_t>(v)].made_by;
        found = found && step >= 0 && run.edges[static_cast<size_t>(step)].is_valid();
        places.push_back(found ? run.edges[static_cast<size_t>(step)] : torch::autograd::Edge());
    }
    return found ? gradient_at(*p.model, run, trial, j, position, places) : gradient_of(*p.model, run, trial, j);
}

void compare_gradients(met_prepared &p, const met_trial &trial, size_t j, const at::Tensor &y,
                       const ModelGradient &model, bool wide) {
    const double one = 1;
    const auto row = static_cast<int64_t>(trial.samples[j].image);
    if (model.position > 0 && model.position != p.features->back()) {
        throw Declined(MET_DECLINE_VERIFICATION, "the model's gradient is known at another place than the program's");
    }
    const at::Tensor output = sum_gradients(p, trial.samples + j, {row}, trial.targets + j, &one);
    const std::vector<at::Tensor> sums = model.position > 0 ? sums_at_cut(p) : std::vector{gradient_sums(p)};
    at::NoGradGuard off;
    p.sum.clear();
    p.recent.clear();
    compare(select_targets(*p.model, y, trial.targets + j, 1), output, wide, "outputs", y);
    double error = 0, scale = 0; /* squares of norms */
    for (size_t v = 0; v < model.values.size(); v++) {
        const at::Tensor &of_model = model.values[v];
        const at::Tensor of_program = v < sums.size() ? sums[v].slice(0, row, row + 1) : at::Tensor();
        const bool both = of_model.defined() && of_program.defined();
        scale += squares(of_model);
        error += both ? squares(of_model - of_program) : squares(of_model) + squares(of_program);
    }
    /* In float32 values near the kink of a ReLU or a tie of a pool take another side, and single entries differ by all. */
    if (!(std::sqrt(error) <= (wide ? 1e-8 : 0.1) * std::sqrt(scale))) {
        throw Declined(MET_DECLINE_VERIFICATION, "the program does not give the model's gradient");
    }
}

void verify(met_prepared &p, const met_trial &trial, const at::Tensor &samples, int64_t from, int64_t several,
            const Known &known) {
    const auto n = static_cast<int64_t>(trial.batch.n);
    const bool wide = samples.scalar_type() == at::kDouble;
    at::NoGradGuard off;
    for (int64_t to; from < n; from = to) {
        to = from < several ? several : std::min(n, from + static_cast<int64_t>(p.most));
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
