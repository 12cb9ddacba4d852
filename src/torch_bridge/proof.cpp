/*
 * proof.cpp - where the stem ends, and the proof that the model behind it can be run alone: see stem.cpp.
 */
#include "graph.h"
#include "modules.h"
#include "prepared.h"
#include "trace.h"

#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <unordered_set>

using torch::autograd::Node;

namespace bridge {
namespace {

/* ---- finding the cut */

/*
 * Choose the cut among recorded calls: the last node of the chain that a module, called once, gave. Returns how many
 * nodes of the chain are before it.
 */
size_t choose_cut(met_prepared &p, const std::vector<Call> &calls, const std::vector<Node *> &chain, int64_t samples,
                  const std::string &end) {
    size_t length = 0;
    bool twice = false;
    for (size_t i = chain.size(); i-- > 0 && p.cut == nullptr;) {
        for (size_t c = calls.size(); c-- > 0 && p.cut == nullptr;) { /* last first: the outermost module */
            const at::Tensor &output = calls[c].output;
            if (!output.defined() || calls[c].node.get() != chain[i]) {
                continue;
            }
            twice = twice || calls[c].count > 1;
            if (calls[c].count == 1 && output.dim() > 0 && output.size(0) == samples) {
                p.cut = calls[c].module;
                length = i + 1;
                std::unordered_set<const Node *> before(chain.begin(), chain.begin() + static_cast<ptrdiff_t>(i));
                for (const Call &call : calls) {
                    if (!call.output.defined() || before.count(call.node.get()) == 0) {
                        continue;
                    }
                    if (call.count > 1) {
                        throw Declined(MET_DECLINE_STRUCTURE,
                                       "a layer of the stem is called twice (" + type_name(call.module) + ")");
                    }
                    p.upstream.push_back({call.module, call.output.sizes().vec(), samples});
                }
            }
        }
    }
    if (p.cut == nullptr) {
        throw Declined(MET_DECLINE_STRUCTURE, twice ? "a layer of the stem is called twice"
                                              : chain.empty()
                                                  ? "the model does not begin with an affine layer: " + end
                                                  : "no module gives what the affine operations at the input compute");
    }
    return length;
}

/* Modules whose outputs are wanted; none: all. */
std::vector<PyObject *> watched(const met_prepared &p) {
    std::vector<PyObject *> modules = p.trunk ? p.trunk->modules() : std::vector<PyObject *>();
    if (p.cut != nullptr) {
        modules.push_back(p.cut);
    }
    return modules;
}

/*
 * Keep what a run on the leaf x gave at the cut and before it, if its output is a function of the cut alone: of all images,
 * for what a model reads may depend on their values.
 */
void keep(met_prepared &p, const Recording &recording, const Trace &trace, const at::Tensor &x, const at::Tensor &y) {
    const Call &cut = recording.call_of(p.cut);
    const std::string why = trace.why_not_behind(cut.output, cut.position, y);
    if (!why.empty()) {
        throw Declined(MET_DECLINE_STRUCTURE, why);
    }
    p.features.push_back(cut.output);
    if (!p.features.back().requires_grad()) {
        throw Declined(MET_DECLINE_VERIFICATION, "the model does not run the same way for every image");
    }
    if (p.trunk) {
        p.trunk->keep(recording);
    }
    p.inputs.push_back(x);
}

/* Find the cut, and the trunk before it, in what one run of the model gave. */
void find_cut(met_prepared &p, const std::vector<Call> &calls, const at::Tensor &x, const at::Tensor &y,
              const met_sample &example) {
    if (!y.requires_grad()) {
        throw Declined(MET_DECLINE_STRUCTURE, "the model's output is cut off from its input");
    }
    std::string end;
    auto leaf = torch::autograd::impl::grad_accumulator(x);
    if (p.kind == MET_LERP) {
        choose_cut(p, calls, affine_chain(y.grad_fn().get(), leaf.get(), &end), x.size(0), end);
        return;
    }
    auto chain = lone_chain(y.grad_fn().get(), leaf.get());
    p.trunk.emplace(chain, p.input);
    if (p.kind == MET_BOX) {
        p.trunk->stop_where_it_spreads(example.box);
        p.trunk->stop_where_unknown(calls);
    } else {
        p.trunk->stop_at_convolution();
    }
    chain.resize(p.trunk->operations());
    p.trunk->stop_behind(choose_cut(p, calls, chain, x.size(0), end));
}

/* Run the whole model on x (n, ...), with gradients to the chunk's leaf; find the cut at the first call. */
at::Tensor record_image(met_prepared &p, const at::Tensor &values, const std::vector<int64_t> &images,
                        const met_sample &example) {
    at::AutoGradMode on(true);
    at::Tensor x = values.detach().requires_grad_();
    if (p.cut == nullptr) {
        Recording recording({}, false);
        Trace trace(x);
        at::Tensor y = call(*p.model, x, images);
        find_cut(p, recording.calls(), x, y, example);
        for (const PyObject *module : watched(p)) {
            p.protect = p.protect || recording.call_of(module).overwritten();
        }
        if (!p.protect) {
            keep(p, recording, trace, x, y);
            return y.detach();
        }
    }
    Recording recording(watched(p), p.protect);
    Trace trace(x);
    at::Tensor y = call(*p.model, x, images);
    keep(p, recording, trace, x, y);
    return y.detach();
}

/* Run the whole model on x; the features at the cut go to `z`. */
at::Tensor record_features(const met_prepared &p, const at::Tensor &x, const std::vector<int64_t> &images,
                           at::Tensor *z) {
    Recording recording({p.cut}, p.protect);
    at::Tensor y = call(*p.model, x, images);
    *z = recording.call_of(p.cut).output.detach();
    return y;
}

/* ---- the proof */

/* A sample of the first image, what the whole model gives for it, and how far rounding may take the folded one. */
struct Point {
    const char *where;
    double tolerance; /* of the outputs, as a part of the largest */
    met_sample sample;
    at::Tensor features, outputs;
};

void compare(const at::Tensor &whole, const at::Tensor &folded, double tolerance, double scale, const char *where) {
    if (whole.sizes() != folded.sizes()) {
        throw Declined(MET_DECLINE_VERIFICATION, "the model behind the stem gives outputs of another shape");
    }
    at::Tensor a = whole.to(at::kDouble).reshape({-1});
    at::Tensor b = folded.to(at::kDouble).reshape({-1});
    if (b.isnan().any().item<bool>()) {
        throw Declined(MET_DECLINE_VERIFICATION, "the input is read again behind the stem");
    }
    scale = std::max(scale, a.abs().max().item<double>());
    double error = (a - b).abs().max().item<double>();
    if (!(error <= tolerance * scale)) {
        throw Declined(MET_DECLINE_VERIFICATION,
                       std::string("the model behind the stem does not give the whole model's output at ") + where);
    }
}

/* The folded model must give the same; the points behind the first in one call where that is allowed. */
void compare_behind(const met_prepared &p, const std::vector<Point> &points, size_t most) {
    const double rounding = points[0].features.scalar_type() == at::kDouble ? 1e-11 : 1e-4; /* of features */
    const double scale = points[0].features.abs().max().item<double>();
    for (size_t from = 0; from < points.size();) {
        const size_t to = from > 0 && most >= points.size() - from ? points.size() : from + 1;
        std::vector<at::Tensor> features;
        for (size_t i = from; i < to; i++) {
            features.push_back(features_of(p, &points[i].sample, {0}));
        }
        std::vector<int64_t> images(to - from, p.images[0]);
        at::Tensor outputs = call_behind(p, features.size() == 1 ? features[0] : at::cat(features), images);
        if (outputs.dim() == 0 || outputs.size(0) != static_cast<int64_t>(to - from)) {
            throw Declined(MET_DECLINE_STRUCTURE, "the model gives one number for a whole batch");
        }
        for (size_t i = from; i < to; i++) {
            const Point &point = points[i];
            const auto row = static_cast<int64_t>(i - from);
            compare(point.features, features[i - from], rounding, scale, point.where);
            compare(point.outputs, outputs.slice(0, row, row + 1), point.tolerance, 0, point.where);
        }
        from = to;
    }
}

} // namespace

void attempt(const std::function<void()> &proof) {
    try {
        proof();
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
        throw Declined(MET_DECLINE_FAILURE, "the model raised " + name + " when run from its stem");
    } catch (const c10::Error &error) {
        throw Declined(MET_DECLINE_FAILURE,
                       std::string("the model failed when run from its stem: ") + error.what_without_backtrace());
    }
}

namespace {

/* Lay features out in memory as `format` says. */
void lay_out(met_prepared &p, at::MemoryFormat format) {
    for (at::Tensor *features : {&p.z_image, &p.z_baseline, &p.way}) {
        if (features->defined()) {
            *features = features->contiguous(format);
        }
    }
}

/*
 * A part that is followed is the difference of what it was and what it is: where single values are very much larger
 * than the rest (-9999 for no data, say), little of the others is left in that difference.
 */
void check_range(const at::Tensor &change) {
    const double limit = change.scalar_type() == at::kDouble ? 1e5 : 256;
    at::Tensor all = at::as_strided(change, {change.numel()}, {1}, change.storage_offset()); /* in memory's order */
    const int64_t step = std::max<int64_t>(all.numel() / 4096, 1) | 1; /* odd: not the same band every time */
    at::Tensor some = all.slice(0, 0, all.numel(), step).abs();
    some = some.masked_select(some > 0);
    if (some.numel() == 0) {
        return;
    }
    const double usual = some.median().item<double>();
    const auto ends = at::aminmax(all);
    const double largest = std::max(-std::get<0>(ends).item<double>(), std::get<1>(ends).item<double>());
    if (!(largest <= limit * usual)) {
        throw Declined(MET_DECLINE_VALUES, "the values of the image range too widely to follow a part of it exactly");
    }
}

/*
 * Prove the shortcut on the first image. Convolutions like channels last best, and features are laid out once for all
 * samples; a model that does not take them so is proved with the usual order.
 */
void prove(met_prepared &p, const at::Tensor &x, const at::Tensor &b, const std::vector<Point> &points, size_t most) {
    const at::Tensor &z = p.z_baseline.defined() ? p.z_baseline : p.z_image;
    std::vector<at::MemoryFormat> formats;
    if (z.dim() == 4) {
        formats.push_back(at::MemoryFormat::ChannelsLast);
    } else if (z.dim() == 5 && p.kind == MET_LERP) {
        formats.push_back(at::MemoryFormat::ChannelsLast3d);
    }
    formats.push_back(at::MemoryFormat::Contiguous);
    for (size_t i = 0; i < formats.size(); i++) {
        try {
            lay_out(p, formats[i]);
            if (p.trunk) {
                p.trunk->settle(p.z_image, formats[i]);
                p.change = p.trunk->as_input(b - x); /* faster than in one step */
                check_range(p.change);
            }
            attempt([&] { compare_behind(p, points, most); });
            return;
        } catch (const Declined &) {
            if (i + 1 == formats.size()) {
                throw;
            }
        }
    }
}

/* A sample that tries the shortcut, rendered from x and b (1, ...); `replaced` (bands,) is room for one of them. */
std::pair<Point, at::Tensor> trial(const met_prepared &p, const at::Tensor &x, const at::Tensor &b,
                                   const met_sample &example, std::vector<uint8_t> &replaced) {
    const bool wide = x.scalar_type() == at::kDouble;
    const double linear = wide ? 1e-10 : 1e-3; /* features are rounded, and the model amplifies that */
    Point point = {"", linear, {}, {}, {}};
    point.sample.kind = p.kind;
    if (p.kind == MET_LERP) {
        point.where = "the point halfway";
        point.sample.alpha = 0.5;
        return {point, b + 0.5 * (x - b)};
    }
    if (p.kind == MET_BANDS) {
        point.where = "an image without every third band";
        replaced.assign(static_cast<size_t>(p.input[static_cast<size_t>(p.bands)]), 0);
        std::vector<int64_t> shape = {1, 1, 1, 1};
        shape[static_cast<size_t>(p.bands) + 1] = static_cast<int64_t>(replaced.size());
        for (size_t band = 0; band < replaced.size(); band += 3) {
            replaced[band] = 1;
        }
        point.sample.replaced = replaced.data();
        at::Tensor flags = at::tensor(at::ArrayRef<uint8_t>(replaced.data(), replaced.size()), at::kByte);
        return {point, at::where(flags.to(x.device(), at::kBool).view(shape), b, x)};
    }
    point.where = "an image without a box";
    point.sample.box = example.box;
    at::Tensor sample = x.clone(), hidden = sample, by = b;
    for (int a = 0; a < MET_AXES; a++) {
        const auto start = static_cast<int64_t>(example.box.start[a]), stop = static_cast<int64_t>(example.box.stop[a]);
        hidden = hidden.slice(a + 1, start, stop);
        by = by.slice(a + 1, start, stop);
    }
    hidden.copy_(by);
    return {point, sample};
}

/* Features of all images and baselines, and points to prove the shortcut with. */
std::vector<Point> record_all(met_prepared &p, const at::Tensor &x, const at::Tensor &b, const met_sample &example,
                              size_t most) {
    const int64_t n = x.size(0);
    const int64_t step = std::max<int64_t>(1, std::min<int64_t>(n, static_cast<int64_t>(std::min<size_t>(most, 64))));
    const double exact = x.scalar_type() == at::kDouble ? 1e-12 : 1e-5; /* rounding of another batch size only */
    std::vector<Point> points;
    std::vector<at::Tensor> ends, starts;
    for (int64_t from = 0; from < n; from += step) {
        const int64_t to = std::min(n, from + step);
        std::vector<int64_t> images(p.images.begin() + from, p.images.begin() + to);
        at::Tensor y = record_image(p, x.slice(0, from, to), images, example);
        at::NoGradGuard off;
        ends.push_back(p.features.back().detach());
        if (from == 0) {
            if (y.dim() == 0 || y.size(0) != to) {
                throw Declined(MET_DECLINE_STRUCTURE, "the model gives one number for a whole batch");
            }
            Point image = {"the image", exact, {}, ends[0].slice(0, 0, 1), y.slice(0, 0, 1)};
            image.sample.kind = p.kind == MET_LERP ? MET_LERP : MET_IDENTITY;
            image.sample.alpha = 1;
            points.push_back(image);
        }
        if (p.kind != MET_BOX) {
            at::Tensor z;
            y = record_features(p, b.slice(0, from, to), images, &z);
            starts.push_back(z);
            if (from == 0 && p.kind == MET_LERP) {
                Point baseline = {"the baseline", exact, {}, z.slice(0, 0, 1), y.slice(0, 0, 1)};
                baseline.sample.kind = MET_LERP; /* with alpha 0 */
                points.push_back(baseline);
            }
        }
    }
    at::Tensor z_image = ends.size() == 1 ? ends[0] : at::cat(ends);
    if (!starts.empty()) {
        p.z_baseline = starts.size() == 1 ? starts[0] : at::cat(starts);
    }
    if (p.kind == MET_LERP) {
        p.way = z_image - p.z_baseline;
    } else {
        p.z_image = z_image;
    }
    return points;
}

} // namespace

void prepare_stem(met_prepared &p, const at::Tensor &x, const at::Tensor &b, const met_sample &example, size_t most) {
    check_modules(p.model->module.get());
    attempt([&] {
        std::vector<Point> points = record_all(p, x, b, example, most);
        std::vector<uint8_t> replaced;
        at::NoGradGuard off;
        auto [point, sample] = trial(p, x.slice(0, 0, 1), b.slice(0, 0, 1), example, replaced);
        point.outputs = record_features(p, sample, {p.images[0]}, &point.features);
        points.push_back(point);
        if (p.kind != MET_LERP && most > 1) { /* two samples in one call, as three points of MET_LERP have it */
            points.push_back(points[0]);
        }
        prove(p, x, b, points, most);
        if (p.kind == MET_BOX) {
            p.name = "incremental inference, " + p.trunk->text();
        }
    });
}

} // namespace bridge
