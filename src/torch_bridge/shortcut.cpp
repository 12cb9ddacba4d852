/*
 * shortcut.cpp - evaluation of samples through the recorded program.
 *
 *   recorded  the model runs on two batches of the job's own samples; what they have in common is the program
 *   cut       where a plan with measured costs says: what is before the cut is made from descriptions of samples, what is
 *             behind it is run by the program
 *   verified  on the trial's samples, of every image: outputs, and where gradients are wanted a gradient, must be the model's
 *
 * Gradients are summed at the cut, and one backward pass through the part before it gives the sum at the image.
 * Otherwise the shortcut is declined with the reason.
 */
#include "shortcut.h"
#include "recordings.h"
#include "rewrite.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>

using bridge::Declined;
using bridge::Model;

struct met_prepared {
    bridge::Model *model = nullptr;
    std::vector<int64_t> origins; /* of the images */
    std::unique_ptr<bridge::Program> program;
    std::unique_ptr<bridge::Features> features;
    std::vector<int> live;  /* values at the cut */
    std::string name, text; /* for reports */
    at::Tensor images;      /* for the pass back */
    size_t most = 1;
    std::vector<at::Tensor> recent; /* gradients that are not in `sum` yet, in the features' dtype, by live value */
    std::vector<at::Tensor> sum;    /* weighted sums of gradients at the cut, in double */
    std::vector<int> additions;     /* to `recent`, of each image */
};

namespace bridge {
namespace {

/*
 * Run `body`; where the program fails, that is a reason to decline, not an error of the run: the model may take what its
 * parts don't.
 */
void attempt(const std::function<void()> &body) {
    try {
        body();
    } catch (const Pending &) {
        WithGil gil;
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            throw; /* an interrupt, say */
        }
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        std::string name = type == nullptr ? "an exception" : reinterpret_cast<PyTypeObject *>(type)->tp_name;
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
        throw Declined(MET_DECLINE_FAILURE, "the model raised " + name + " when its program was tried");
    } catch (const c10::Error &error) {
        throw Declined(MET_DECLINE_FAILURE,
                       std::string("the model's program failed: ") + error.what_without_backtrace());
    }
}

/* ---- the proof */

double largest(const at::Tensor &values) {
    return values.numel() == 0 ? 0 : values.abs().max().item<double>();
}

/* What the program makes of features must be what the model makes of the samples. */
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

/* Outputs of the program behind the cut, for those samples [from, to) of features; all of them as one batch. */
at::Tensor outputs_of(const met_prepared &p, const std::vector<at::Tensor> &features, const std::vector<int64_t> &rows,
                      size_t from, size_t to) {
    std::vector<int64_t> origins;
    for (size_t i = from; i < to; i++) {
        origins.push_back(p.origins[static_cast<size_t>(rows[i])]);
    }
    Run run(*p.program, *p.model, origins);
    const bool all = from == 0 && to == rows.size();
    for (size_t i = 0; i < features.size(); i++) {
        run.give(p.live[i],
                 all ? features[i] : features[i].slice(0, static_cast<int64_t>(from), static_cast<int64_t>(to)));
    }
    run.go(p.features->stop, p.program->nodes.size());
    return run.value(p.program->output);
}

/* Call body(from, to) for all n samples at once, or for a part on each of torch's threads, whichever was found faster. */
void evaluate(const met_prepared &p, Work::Kind kind, size_t n, const std::function<void(size_t, size_t)> &body) {
    Turn turn(p.model->replay_threads, {kind, n});
    if (turn.over_samples()) {
        run_over_threads(n, body);
    } else {
        body(0, n);
    }
}

/* The same, of all samples. */
at::Tensor outputs_of(const met_prepared &p, const std::vector<at::Tensor> &features,
                      const std::vector<int64_t> &rows) {
    std::map<size_t, at::Tensor> parts;
    std::mutex alone;
    evaluate(p, Work::Kind::replayed_forward, rows.size(), [&](size_t from, size_t to) {
        at::Tensor part = outputs_of(p, features, rows, from, to);
        const std::lock_guard<std::mutex> guard(alone);
        parts[from] = part;
    });
    std::vector<at::Tensor> outputs;
    for (const auto &part : parts) {
        outputs.push_back(part.second);
    }
    return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

/* Additions in the features' own dtype before they go to the sum in double: torch adds unlike types slowly. */
const int RECENT_MOST = 32;

void settle(met_prepared &p, size_t row) {
    for (size_t v = 0; v < p.sum.size(); v++) {
        at::Tensor recent = p.recent[v].select(0, static_cast<int64_t>(row));
        p.sum[v].select(0, static_cast<int64_t>(row)).add_(recent);
        recent.zero_();
    }
    p.additions[row] = 0;
}

/* Sums of gradients at the cut, zero at first, as the features are laid out. */
void start_sums(met_prepared &p, const std::vector<at::Tensor> &features) {
    const auto images = static_cast<int64_t>(p.origins.size());
    for (const at::Tensor &one : features) {
        std::vector<int64_t> shape = one.sizes().vec();
        shape[0] = images;
        p.recent.push_back(at::empty(shape, one.options().requires_grad(false), one.suggest_memory_format()).zero_());
        p.sum.push_back(at::zeros_like(p.recent.back(), at::kDouble));
    }
    p.additions.assign(p.origins.size(), 0);
}

/* Add gradients (n, ...) at the cut to the sums of their images, one by one: batches make no difference. */
void add_gradients(met_prepared &p, const std::vector<at::Tensor> &gradients, const std::vector<int64_t> &rows) {
    for (size_t i = 0; i < rows.size(); i++) {
        for (size_t v = 0; v < gradients.size(); v++) {
            if (gradients[v].defined()) {
                p.recent[v].select(0, rows[i]).add_(gradients[v].select(0, static_cast<int64_t>(i)));
            }
        }
        const auto row = static_cast<size_t>(rows[i]);
        if (++p.additions[row] == RECENT_MOST) {
            settle(p, row);
        }
    }
}

/* Target outputs of some samples, and their weighted gradients by live value; undefined: they do not depend on it. */
struct PartGradient {
    at::Tensor selected;
    std::vector<at::Tensor> gradients;
};

PartGradient part_gradient(const met_prepared &p, const std::vector<at::Tensor> &features,
                           const std::vector<int64_t> &rows, const met_target *const *targets, const double *weight,
                           size_t from, size_t to) {
    at::AutoGradMode on(true);
    const auto first = static_cast<int64_t>(from), last = static_cast<int64_t>(to);
    std::vector<at::Tensor> leaves, wanted;
    std::vector<size_t> place;
    for (const at::Tensor &one : features) {
        leaves.push_back(to - from == rows.size() ? one.detach() : one.detach().slice(0, first, last));
        if (at::isFloatingType(one.scalar_type())) {
            place.push_back(leaves.size() - 1);
            wanted.push_back(leaves.back().requires_grad_());
        }
    }
    const std::vector<int64_t> own(rows.begin() + first, rows.begin() + last);
    at::Tensor outputs = outputs_of(p, leaves, own, 0, own.size());
    at::Tensor selected = select_targets(*p.model, outputs, targets + from, own.size());
    auto weights = at::tensor(at::ArrayRef<double>(weight + from, own.size()), at::kDouble).to(selected.options());
    auto found = gradients_of(*p.model, {selected}, wanted, {weights});
    PartGradient part{selected.detach(), std::vector<at::Tensor>(leaves.size())};
    for (size_t i = 0; i < place.size(); i++) {
        part.gradients[place[i]] = found[i];
    }
    return part;
}

/* Add the weighted gradients of samples at the cut; returns their target outputs. */
at::Tensor sum_gradients(met_prepared &p, const met_sample *s, const std::vector<int64_t> &rows,
                         const met_target *const *targets, const double *weight) {
    const std::vector<at::Tensor> features = p.features->of(s, rows);
    std::map<size_t, PartGradient> parts;
    std::mutex alone;
    evaluate(p, Work::Kind::replayed_gradient, rows.size(), [&](size_t from, size_t to) {
        PartGradient part = part_gradient(p, features, rows, targets, weight, from, to);
        const std::lock_guard<std::mutex> guard(alone);
        parts[from] = std::move(part);
    });
    at::NoGradGuard off;
    if (p.sum.empty()) {
        start_sums(p, features);
    }
    std::vector<at::Tensor> selected;
    for (const auto &[from, part] : parts) { /* in the order of the samples */
        const auto first = rows.begin() + static_cast<std::ptrdiff_t>(from);
        add_gradients(p, part.gradients, {first, first + part.selected.size(0)});
        selected.push_back(part.selected);
    }
    return selected.size() == 1 ? selected[0] : at::cat(selected);
}

/* The sums at the images, (images, ...). */
at::Tensor gradient_sums(met_prepared &p) {
    if (p.sum.empty()) { /* no output was asked for */
        return at::zeros_like(p.images);
    }
    for (size_t row = 0; row < p.origins.size(); row++) {
        settle(p, row);
    }
    at::AutoGradMode on(true);
    const bool keep = !p.features->graph.empty();
    const Prefix prefix{*p.program, *p.model, p.origins, p.most, p.features->stop, p.features->back_in_double};
    const std::vector<Evaluated> graph = keep ? p.features->graph : prefix.of(p.images, p.live);
    std::vector<at::Tensor> sums;
    for (const Evaluated &part : graph) {
        std::vector<at::Tensor> ends, gradients;
        for (size_t v = 0; v < p.live.size(); v++) {
            const at::Tensor &z = part.values[v];
            if (z.requires_grad()) {
                ends.push_back(z);
                gradients.push_back(p.sum[v].slice(0, part.from, part.from + z.size(0)).to(z.scalar_type()));
            }
        }
        at::Tensor sum = ends.empty() ? at::Tensor() : gradients_of(*p.model, ends, {part.x}, gradients, keep)[0];
        sums.push_back((sum.defined() ? sum : at::zeros_like(part.x).detach()).to(p.images.scalar_type()));
    }
    return sums.size() == 1 ? sums[0] : at::cat(sums);
}

/* The gradient of the trial's sample j, which its recorded run has by the model. */
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

/* What the model gave for samples of the trial, (1, ...), by their place there. */
using Known = std::map<int64_t, at::Tensor>;

/*
 * Compare the program's outputs for the trial's samples, the first `several` as one batch, with those of the model. Of a
 * batch of which some are known, those are compared.
 */
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

/* ---- preparing */

std::unique_ptr<Features> features_for(const Subject &subject) {
    if (subject.trial.replay) {
        return subject.kind() == MET_LERP ? whole_points(subject) : whole_samples(subject);
    }
    switch (subject.kind()) {
    case MET_LERP: return between_points(subject);
    case MET_BOX: return with_windows(subject);
    case MET_BANDS: return without_bands(subject);
    case MET_SEGMENTS: return without_segments(subject);
    default: throw Declined(MET_DECLINE_NOTHING_SHARED, "there is no shortcut for samples of this kind");
    }
}

/* How many operators there are in front of the cut, those that are affine told apart, and behind it; the planned cost. */
std::string program_text(const met_prepared &p, const std::vector<double> &seconds) {
    const size_t stop = p.features->stop, end = p.program->nodes.size();
    size_t affine = 0;
    double behind = 0;
    for (size_t i = 0; i < end; i++) {
        const Node &node = p.program->nodes[i];
        if (node.needed && node.dependent) {
            affine += i < stop && is_affine(*p.program, node) ? 1 : 0;
            behind += i >= stop ? seconds[i] : 0;
        }
    }
    const size_t before = p.program->count(0, stop), full = p.program->count(stop, end);
    char text[160];
    std::snprintf(text, sizeof text,
                  "%zu operators: %zu affine and %zu others in front of the cut, %zu in full; planned %.3g ms",
                  before + full, affine, before - affine, full, 1e3 * (p.features->planned + behind));
    return text;
}

/*
 * The second run of a program whose first one is `first`: that of an earlier call, if it goes with it, or one more of the
 * model, on the trial's first samples; `known` has their outputs then. Makes the program.
 */
Recordings::Entry second_run(met_prepared &p, const Recorded &first, const at::Tensor &samples, int64_t several,
                             const met_trial &trial, const Recordings::Form &form, Known *known) {
    const Model &model = *p.model;
    Recordings::Entry earlier = model.recordings->find(form);
    if (earlier.trace) {
        try {
            p.program = program_of(*first.trace, 1, *earlier.trace, several, trial.gradient);
            return earlier;
        } catch (const Declined &) { /* the model has changed, or does something else for another image */
            model.recordings->keep(form, {});
        }
    }
    const auto recorded = record(model, several == 2 ? samples.slice(0, 0, 2) : samples.slice(0, 0, 1).clone(),
                                 std::vector<int64_t>(static_cast<size_t>(several), p.origins[0]), trial.gradient);
    trial.tried->evaluated += static_cast<size_t>(several);
    p.program = program_of(*first.trace, 1, *recorded->trace, several, trial.gradient);
    if (several == 2) {
        compare(first.y, recorded->y.slice(0, 1, 2), samples.scalar_type() == at::kDouble,
                "output where other samples are beside it");
    }
    for (int64_t i = 0; i < several; i++) {
        known->insert({i, recorded->y.slice(0, i, i + 1)});
    }
    return {recorded->trace, seconds_of(*recorded->trace, several)};
}

/*
 * The program that two runs of the model have in common, the first of which is of this call. That alone often tells that
 * nothing is gained; then there is no second.
 */
void prepare_program(met_prepared &p, const at::Tensor &baselines, const at::Tensor &samples, const met_trial &trial,
                     int bands) {
    const Model &model = *p.model;
    const bool wide = samples.scalar_type() == at::kDouble;
    const int64_t several = trial.batch.n > 1 && p.most > 1 ? 2 : 1;
    /*
     * One sample alone, then two, of which it comes last: a model that scales a batch by its first gives itself away. It is
     * the one that was drawn: the first may lie next to the baseline, where maxima are ties and gradients are by rounding.
     */
    const size_t alone = trial.batch.n > 1 ? 1 : 0;
    const auto row = static_cast<int64_t>(alone);
    auto first = record(model, samples.slice(0, row, row + 1).clone(), {p.origins[0]}, trial.gradient);
    trial.tried->evaluated = 1;
    std::vector<double> seconds = seconds_of(*first->trace, 1);
    trial.tried->seconds_alone = std::accumulate(seconds.begin(), seconds.end(), 0.0);
    const at::Tensor gradient = trial.gradient ? gradient_of(p, *first, trial, alone) : at::Tensor();
    std::unique_ptr<Program> sketch = program_of(*first->trace, 1, *first->trace, 1, trial.gradient);
    features_for({model, *sketch, p.images, baselines, p.origins, trial, bands, p.most, seconds, true, true});
    Recordings::Form form{samples.sizes().vec(), samples.scalar_type(), trial.gradient};
    form.shape[0] = several;
    Known known{{row, first->y}};
    Recordings::Entry second = second_run(p, *first, samples, several, trial, form, &known);
    rewrite(p.program.get(), trial.gradient && !trial.replay);
    for (size_t i = 0; i < seconds.size(); i++) {
        seconds[i] = second.seconds[i] = std::min(seconds[i], second.seconds[i]);
    }
    first.reset();
    for (const bool channels_last : {true, false}) {
        try {
            p.features = features_for({model, *p.program, p.images, baselines, p.origins, trial, bands, p.most, seconds,
                                       false, channels_last});
            p.live = p.program->live(p.features->stop);
            attempt([&] {
                verify(p, trial, samples, several, known);
                if (trial.gradient) {
                    compare_gradients(p, trial, alone, gradient, wide);
                }
            });
            break;
        } catch (const Declined &declined) { /* a model may take features in the usual layout only */
            const bool layout = declined.reason == MET_DECLINE_FAILURE || declined.reason == MET_DECLINE_VERIFICATION;
            if (!channels_last || !layout) {
                model.recordings->keep(form, {});
                throw;
            }
        }
    }
    model.recordings->keep(form, std::move(second));
    p.name = p.features->name();
    p.text = program_text(p, seconds);
}

int prepare(void *ctx, met_batch *x, met_batch *b, const met_trial *trial, size_t most, met_prepared **out) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        auto p = std::make_unique<met_prepared>();
        p->model = &model;
        p->most = std::max<size_t>(most, 1);
        p->origins.assign(x->image, x->image + x->n);
        p->images = to_model(model, batch_tensor(*x));
        attempt([&] {
            prepare_program(*p, to_model(model, batch_tensor(*b)), to_model(model, batch_tensor(trial->batch)), *trial,
                            x->bands);
        });
        *out = p.release();
    });
}

/* ---- running */

std::vector<int64_t> rows_of(const met_sample *s, size_t n) {
    std::vector<int64_t> rows;
    for (size_t i = 0; i < n; i++) {
        rows.push_back(static_cast<int64_t>(s[i].image));
    }
    return rows;
}

int forward(void *ctx, met_prepared *p, const met_sample *s, size_t n, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        at::NoGradGuard off;
        const std::vector<int64_t> rows = rows_of(s, n);
        at::Tensor outputs;
        attempt([&] { outputs = outputs_of(*p, p->features->of(s, rows), rows); });
        write_outputs(model, outputs, n, y);
    });
}

int gradient(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        at::Tensor selected;
        attempt([&] { selected = sum_gradients(*p, s, rows_of(s, n), y->targets, weight); });
        write_values(selected, y);
    });
}

int collect(void *ctx, met_prepared *p, met_batch *dx_sum) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        at::Tensor sums;
        attempt([&] { sums = gradient_sums(*p); });
        const bool wide = sums.scalar_type() == at::kDouble;
        export_batch(sums, wide ? MET_FLOAT64 : MET_FLOAT32, dx_sum);
    });
}

const char *name(const met_prepared *p) {
    return p->name.c_str();
}

const char *program(const met_prepared *p) {
    return p->text.c_str();
}

void release(void *, met_prepared *p) {
    delete p;
}

} // namespace

const met_shortcut recorded_program = {3, 16, prepare, forward, gradient, collect, name, program, release};

} // namespace bridge
