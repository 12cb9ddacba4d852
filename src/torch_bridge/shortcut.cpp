/*
 * shortcut.cpp - evaluation of samples through the recorded program.
 *
 *   recorded  the model runs on two batches of the job's own samples; what they have in common is the program
 *   cut       where a plan with measured costs says: what is before the cut is made from descriptions of samples, what is
 *             behind it is run by the program
 *   verified  on the trial's samples, of every image: outputs, and where gradients are wanted a gradient, must be the model's
 *
 * Otherwise the shortcut is declined with the reason.
 */
#include "packed.h"
#include "prepared.h"
#include "rewrite.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>

namespace bridge {

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

void evaluate(const met_prepared &p, Work::Kind kind, size_t n, const std::function<void(size_t, size_t)> &body) {
    Turn turn(p.model->replay_threads, {kind, n});
    if (turn.over_samples()) {
        run_over_threads(n, body);
    } else {
        body(0, n);
    }
}

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
 * The second run of a program whose first one is `first`: that of an earlier call, if it goes with it; that of a batch which
 * the model was seen to evaluate; or one more of the model, on the trial's first samples, and `known` has their outputs then.
 * Makes the program.
 */
Recordings::Entry second_run(met_prepared &p, const Recorded &first, const at::Tensor &samples, int64_t several,
                             const met_trial &trial, const Recordings::Form &form, const Recordings::Entry &earlier,
                             Known *known) {
    const Model &model = *p.model;
    if (earlier.trace) {
        try {
            p.program = program_of(*first.trace, 1, *earlier.trace, earlier.samples, trial.gradient);
            return earlier;
        } catch (const Declined &) { /* the model has changed, or does something else for another image */
            model.recordings->keep(form, {});
        }
    }
    if (several > 1 && model.seen.samples > 1 && trial.apart) {
        const auto &[run, n] = model.seen;
        p.program = program_of(*first.trace, 1, *run, n, trial.gradient);
        return {run, n, seconds_of(*run, n), 0};
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
    return {recorded->trace, several, seconds_of(*recorded->trace, several), 0};
}

/*
 * Whether more than half of the convolutions over windows behind what is affine in the input add up many terms: then all
 * keep the usual layout, which would change from one to the next.
 */
bool are_most_sums_long(const Program &p) {
    const std::vector<size_t> affine = affine_positions(p);
    size_t windows = 0, many = 0;
    for (size_t i = affine.empty() ? 0 : affine.back(); i < p.nodes.size(); i++) {
        const Node &node = p.nodes[i];
        if (node.name == "conv2d" && node.needed && node.dependent && node.is_constant(1)) {
            windows += terms_of_windows(node.constant(1)) > 0 ? 1 : 0;
            many += is_long_sum(node.constant(1)) ? 1 : 0;
        }
    }
    return 2 * many > windows;
}

/* What preparing costs, in evaluations of one sample alone; measured on the models of the benchmarks. */
struct Cost {
    double first; /* a job of this form was never prepared: two runs are recorded, ... */
    double later; /* ... which others use again */
    double image; /* each further one */
};
const Cost OF_GRADIENTS{5, 2.7, 1}, OF_OUTPUTS{8, 4, 2};
/* Gradients of a program save this part beside what is planned: nobody waits for Python. */
const double REPLAY_SAVES = 0.1;

/*
 * Look at what would be gained, by a recorded run of n samples: throws Declined where that is nothing, or less than what
 * preparing costs.
 */
void plan(const met_prepared &p, const Trace &run, int64_t n, const at::Tensor &baselines, const met_trial &trial,
          int bands) {
    const std::unique_ptr<Program> sketch = program_of(run, n, run, n, trial.gradient);
    const Subject subject{
        {*p.model, *sketch, p.images, baselines, p.origins, bands, p.most}, trial, seconds_of(run, n), true};
    const size_t end = sketch->nodes.size();
    const double whole = subject.cost(0, end);
    rewrite(sketch.get(), trial.gradient && !trial.replay);
    const std::unique_ptr<Features> features = features_for(subject);
    if (trial.always || trial.replay || trial.proven) {
        return;
    }
    const double passes = trial.gradient ? PASSES : 1, images = static_cast<double>(trial.images);
    const double left = (features->planned / passes + subject.cost(features->stop, end)) / whole;
    const double saved = 1 - left + (trial.gradient ? REPLAY_SAVES : 0);
    const Cost &cost = trial.gradient ? OF_GRADIENTS : OF_OUTPUTS;
    const double evaluations = images * static_cast<double>(trial.count) - static_cast<double>(trial.counted);
    const double gain = evaluations * trial.part * saved - (images - 1) * cost.image;
    if (gain < (trial.first ? cost.first : cost.later)) {
        trial.tried->postponed = gain >= cost.later;
        throw Declined(MET_DECLINE_LITTLE_WORK, "preparing it would take longer than it saves");
    }
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
    trial.tried->evaluated = 0;
    if (model.seen.run) {
        plan(p, *model.seen.run, model.seen.samples, baselines, trial, bands);
    }
    auto first = record(model, samples.slice(0, row, row + 1).clone(), {p.origins[0]}, trial.gradient);
    trial.tried->evaluated = 1;
    std::vector<double> seconds = seconds_of(*first->trace, 1);
    trial.tried->seconds_alone = std::accumulate(seconds.begin(), seconds.end(), 0.0);
    if (!model.seen.run) {
        plan(p, *first->trace, 1, baselines, trial, bands);
    }
    Recordings::Form form{samples.sizes().vec(), samples.scalar_type(), trial.gradient};
    form.shape[0] = several;
    const Recordings::Entry earlier = model.recordings->find(form);
    /*
     * A gradient at the image is compared for each new program. In later calls on it, the part of the program that is affine
     * in the input is the same matrix: gradients behind it are compared.
     */
    ModelGradient gradient;
    gradient.seconds = earlier.backward;
    if (trial.gradient && earlier.backward == 0) {
        gradient = gradient_of(model, *first, trial, alone);
    }
    trial.tried->seconds_alone += gradient.seconds;
    const at::Tensor y = first->y;
    Known known{{row, y}};
    Recordings::Entry second = second_run(p, *first, samples, several, trial, form, earlier, &known);
    const bool again = second.trace == earlier.trace;
    if (trial.gradient && second.backward == 0 && gradient.values.empty()) {
        gradient = gradient_of(model, *first, trial, alone);
    }
    rewrite(p.program.get(), trial.gradient && !trial.replay);
    for (size_t i = 0; i < seconds.size(); i++) {
        seconds[i] = second.seconds[i] = std::min(seconds[i], second.seconds[i]);
    }
    if (!gradient.values.empty()) {
        first.reset();
    }
    const bool exact = trial.gradient && !trial.replay && !wide && model.device.is_cpu();
    const bool together = !exact || !are_most_sums_long(*p.program);
    for (const bool channels_last : {together, false}) {
        lay_out_weights(p.program.get(), channels_last, trial);
        try {
            p.features =
                features_for({{model, *p.program, p.images, baselines, p.origins, bands, p.most, channels_last},
                              trial,
                              seconds,
                              false});
            p.live = p.program->live(p.features->stop);
            attempt([&] {
                if (trial.gradient && gradient.values.empty()) {
                    gradient = gradient_at_cut(p, *first, trial, alone);
                    first.reset();
                }
                /* In later calls, the one sample of its batch that is known is the one whose gradient is compared. */
                verify(p, trial, samples, trial.gradient && again ? std::max(several, row + 1) : 0, several, known);
                if (trial.gradient) {
                    compare_gradients(p, trial, alone, y, gradient, wide);
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
    if (trial.gradient && gradient.position == 0) {
        second.backward = second.backward > 0 ? std::min(second.backward, gradient.seconds) : gradient.seconds;
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

double spared(const met_prepared *p) {
    return p->features->learning;
}

size_t together(const met_prepared *p) {
    return p->features->together();
}

void look(void *ctx, bool on) {
    auto &model = *static_cast<Model *>(ctx);
    model.looking = on;
    model.seen = {};
}

} // namespace

const met_shortcut recorded_program = {3,    16,      prepare, forward, gradient, collect,
                                       name, program, release, spared,  together, look};

} // namespace bridge
