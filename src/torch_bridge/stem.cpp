/*
 * stem.cpp - evaluation of samples behind the model's affine stem, z(x) = A x + c.
 *
 *   MET_LERP   z(b + a (x - b)) = z(b) + a (z(x) - z(b)): two evaluations of the stem serve every sample
 *   MET_BOX    z changes only where the box reaches, by A of what changed: a convolution over that part (local.cpp)
 *   MET_BANDS  the same over the bands that changed, or over those that did not, whichever are fewer
 *
 * Gradients are summed at z, and one backward pass through the stem gives the sum at x. The stem is found in the graph
 * that autograd records, and then proved:
 *
 *   found   from x on, each operation is affine in one argument and alone reads what the one before it made; the cut
 *           is the last of these that is the output of a module called once. To follow a part of the image, they must
 *           be a convolution and what scales its outputs
 *   proved  the model is run with the cut's output put in place of its computation and NaN in place of its input: at
 *           the image, and at other points, it must give what the whole model gives there. A model that reads the
 *           input elsewhere, or whose stem is not affine, does not.
 *
 * Otherwise the shortcut is declined with the reason. Compare incremental inference: Nakandala et al., SIGMOD 2019.
 */
#include "bridge.h"
#include "graph.h"
#include "modules.h"
#include "trunk.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <unordered_set>

using torch::autograd::Node;

namespace bridge {
namespace {

/* ---- the prepared stem */

struct Upstream {
    PyObject *module;
    std::vector<int64_t> shape; /* of its output for `samples` samples */
    int64_t samples;
};

} // namespace
} // namespace bridge

struct met_prepared {
    bridge::Model *model = nullptr;
    std::vector<int64_t> images; /* of the job, in order */
    std::vector<int64_t> input;  /* shape of one input */
    at::TensorOptions options;
    PyObject *cut = nullptr; /* borrowed */
    std::vector<bridge::Upstream> upstream;
    std::vector<at::Tensor> inputs;     /* leaves, a chunk of images each */
    std::vector<at::Tensor> features;   /* z(inputs), with their graphs */
    met_kind kind = MET_LERP;           /* of the samples */
    std::string name = "affine stem";   /* for reports */
    int bands = 0;                      /* axis of the bands */
    at::Tensor z_image;                 /* z(x) of all images; not for MET_LERP */
    at::Tensor z_baseline;              /* z(b) of all images; not for MET_BOX */
    at::Tensor way;                     /* z(x) - z(b) of all images, for MET_LERP */
    at::Tensor change;                  /* b - x as the convolution reads it; not for MET_LERP */
    std::optional<bridge::Trunk> trunk; /* there */
    at::Tensor recent;                  /* gradients that are not in `sum` yet, in the features' dtype */
    int additions = 0;                  /* to `recent` */
    at::Tensor sum;                     /* weighted sum of gradients at z, in double */
};

namespace bridge {
namespace {

std::vector<int64_t> with_samples(std::vector<int64_t> shape, int64_t samples, int64_t of) {
    if (shape.empty() || shape[0] % of != 0) {
        throw Declined("the stem mixes the batch axis with others");
    }
    shape[0] = shape[0] / of * samples;
    return shape;
}

at::Tensor poison(const std::vector<int64_t> &shape, const at::TensorOptions &options) {
    return at::full({}, std::numeric_limits<double>::quiet_NaN(), options).expand(shape);
}

/* The model behind the cut, at features z (n, ...). */
at::Tensor call_behind(const met_prepared &p, const at::Tensor &z, const std::vector<int64_t> &images) {
    auto n = static_cast<int64_t>(images.size());
    Replacing replacing;
    replacing.add(p.cut, z);
    for (const Upstream &upstream : p.upstream) {
        replacing.add(upstream.module, poison(with_samples(upstream.shape, n, upstream.samples), p.options));
    }
    std::vector<int64_t> shape = p.input;
    shape.insert(shape.begin(), n);
    return call(*p.model, poison(shape, p.options), images);
}

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
            if (!output.defined() || output.grad_fn().get() != chain[i]) {
                continue;
            }
            twice = twice || calls[c].count > 1;
            if (calls[c].count == 1 && output.dim() > 0 && output.size(0) == samples) {
                p.cut = calls[c].module;
                length = i + 1;
                p.features.push_back(output);
                std::unordered_set<const Node *> before(chain.begin(), chain.begin() + static_cast<ptrdiff_t>(i));
                for (const Call &call : calls) {
                    if (!call.output.defined() || before.count(call.output.grad_fn().get()) == 0) {
                        continue;
                    }
                    if (call.count > 1) {
                        throw Declined("a layer of the stem is called twice (" + type_name(call.module) + ")");
                    }
                    p.upstream.push_back({call.module, call.output.sizes().vec(), samples});
                }
            }
        }
    }
    if (p.cut == nullptr) {
        throw Declined(twice           ? "a layer of the stem is called twice"
                       : chain.empty() ? "the model does not begin with an affine layer: " + end
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

/* Run the whole model on x (n, ...), with gradients to the chunk's leaf; find the cut at the first call. */
at::Tensor record_image(met_prepared &p, const at::Tensor &values, const std::vector<int64_t> &images,
                        const met_sample &example) {
    at::AutoGradMode on(true);
    at::Tensor x = values.detach().requires_grad_();
    Recording recording(watched(p));
    at::Tensor y = call(*p.model, x, images);
    std::vector<Call> &calls = recording.calls();
    if (p.cut != nullptr) {
        p.features.push_back(recording.output_of(p.cut));
        if (!p.features.back().requires_grad()) {
            throw Declined("the model does not run the same way for every image");
        }
    } else {
        if (!y.requires_grad()) {
            throw Declined("the model's output is cut off from its input");
        }
        std::string end;
        auto leaf = torch::autograd::impl::grad_accumulator(x);
        if (p.kind == MET_LERP) {
            auto chain = affine_chain(y.grad_fn().get(), leaf.get(), &end);
            choose_cut(p, calls, chain, static_cast<int64_t>(images.size()), end);
        } else {
            auto chain = lone_chain(y.grad_fn().get(), leaf.get());
            p.trunk.emplace(chain, p.input);
            if (p.kind == MET_BOX) {
                p.trunk->stop_where_it_spreads(example.box);
                p.trunk->stop_where_unknown(calls);
            } else {
                p.trunk->stop_at_convolution();
            }
            chain.resize(p.trunk->operations());
            p.trunk->stop_behind(choose_cut(p, calls, chain, static_cast<int64_t>(images.size()), end));
        }
    }
    if (p.trunk) {
        p.trunk->keep(recording);
    }
    p.inputs.push_back(x);
    return y.detach();
}

/* Run the whole model on x; the features at the cut go to `z`. */
at::Tensor record_features(const met_prepared &p, const at::Tensor &x, const std::vector<int64_t> &images,
                           at::Tensor *z) {
    Recording recording({p.cut});
    at::Tensor y = call(*p.model, x, images);
    *z = recording.output_of(p.cut).detach();
    return y;
}

/* ---- features of samples */

/* MET_LERP samples that share runs of images. */
at::Tensor between(const met_prepared &p, const met_sample *s, const std::vector<int64_t> &rows) {
    const size_t n = rows.size();
    if (n == 1) {
        return at::add(p.z_baseline.slice(0, rows[0], rows[0] + 1), p.way.slice(0, rows[0], rows[0] + 1), s[0].alpha);
    }
    std::vector<double> alphas(n);
    for (size_t i = 0; i < n; i++) {
        alphas[i] = s[i].alpha;
    }
    std::vector<int64_t> shape(static_cast<size_t>(p.way.dim()), 1);
    shape[0] = static_cast<int64_t>(n);
    at::Tensor alpha = at::tensor(alphas, at::kDouble).to(p.way.options()).reshape(shape);
    if (rows.front() == rows.back()) {
        return at::addcmul(p.z_baseline.slice(0, rows[0], rows[0] + 1), p.way.slice(0, rows[0], rows[0] + 1), alpha);
    }
    at::Tensor index = at::tensor(rows, at::kLong).to(p.way.device());
    return at::addcmul(p.z_baseline.index_select(0, index), p.way.index_select(0, index), alpha);
}

/* z of samples; rows (n,) is which prepared image each belongs to. */
at::Tensor features_of(const met_prepared &p, const met_sample *s, const std::vector<int64_t> &rows) {
    at::NoGradGuard off;
    switch (p.kind) {
    case MET_BOX: return p.trunk->with_boxes(p.change, s, rows);
    case MET_BANDS: return p.trunk->with_bands(p.z_baseline, p.change, s, rows, p.bands);
    default: return between(p, s, rows);
    }
}

/* ---- the proof */

/* A sample of the first image, what the whole model gives for it, and how far rounding may take the folded one. */
struct Point {
    const char *where;
    double tolerance;
    met_sample sample;
    at::Tensor features, outputs;
};

void compare(const at::Tensor &whole, const at::Tensor &folded, double tolerance, double scale, const char *where) {
    if (whole.sizes() != folded.sizes()) {
        throw Declined("the model behind the stem gives outputs of another shape");
    }
    at::Tensor a = whole.to(at::kDouble).reshape({-1});
    at::Tensor b = folded.to(at::kDouble).reshape({-1});
    if (b.isnan().any().item<bool>()) {
        throw Declined("the input is read again behind the stem");
    }
    scale = std::max(scale, a.abs().max().item<double>());
    double error = (a - b).abs().max().item<double>();
    if (!(error <= tolerance * scale)) {
        throw Declined(std::string("the model behind the stem does not give the whole model's output at ") + where);
    }
}

/* The folded model must give the same; the points behind the first in one call where that is allowed. */
void compare_behind(const met_prepared &p, const std::vector<Point> &points, size_t most) {
    for (size_t from = 0; from < points.size();) {
        const size_t to = from > 0 && most >= points.size() - from ? points.size() : from + 1;
        std::vector<at::Tensor> features;
        for (size_t i = from; i < to; i++) {
            features.push_back(features_of(p, &points[i].sample, {0}));
        }
        std::vector<int64_t> images(to - from, p.images[0]);
        at::Tensor outputs = call_behind(p, features.size() == 1 ? features[0] : at::cat(features), images);
        if (outputs.dim() == 0 || outputs.size(0) != static_cast<int64_t>(to - from)) {
            throw Declined("the model gives one number for a whole batch");
        }
        for (size_t i = from; i < to; i++) {
            const Point &point = points[i];
            const auto row = static_cast<int64_t>(i - from);
            const double scale = points[0].features.abs().max().item<double>();
            compare(point.features, features[i - from], point.tolerance, scale, point.where);
            compare(point.outputs, outputs.slice(0, row, row + 1), point.tolerance, 0, point.where);
        }
        from = to;
    }
}

/* Run `proof`; a failure of the model while it is being proved is a reason to decline, not an error of the run. */
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
        throw Declined("the model raised " + name + " when run from its stem");
    } catch (const c10::Error &error) {
        throw Declined(std::string("the model failed when run from its stem: ") + error.what_without_backtrace());
    }
}

/* Lay features out in memory as `format` says. */
void lay_out(met_prepared &p, at::MemoryFormat format) {
    for (at::Tensor *features : {&p.z_image, &p.z_baseline, &p.way}) {
        if (features->defined()) {
            *features = features->contiguous(format);
        }
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
                p.change = p.trunk->as_input(b - x);
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

/* A sample that tries the shortcut, rendered from x and b (1, ...); `dropped` (bands,) is room for one of them. */
std::pair<Point, at::Tensor> trial(const met_prepared &p, const at::Tensor &x, const at::Tensor &b,
                                   const met_sample &example, std::vector<uint8_t> &dropped) {
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
        dropped.assign(static_cast<size_t>(p.input[static_cast<size_t>(p.bands)]), 0);
        std::vector<int64_t> shape = {1, 1, 1, 1};
        shape[static_cast<size_t>(p.bands) + 1] = static_cast<int64_t>(dropped.size());
        for (size_t band = 0; band < dropped.size(); band += 3) {
            dropped[band] = 1;
        }
        point.sample.dropped = dropped.data();
        at::Tensor flags = at::tensor(at::ArrayRef<uint8_t>(dropped.data(), dropped.size()), at::kByte);
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
        Point image = {"the image", exact, {}, ends[0].slice(0, 0, 1), {}};
        image.sample.kind = p.kind == MET_LERP ? MET_LERP : MET_IDENTITY;
        image.sample.alpha = 1;
        Point baseline = image;
        baseline.where = "the baseline";
        baseline.sample.alpha = 0;
        if (from == 0) {
            if (y.dim() == 0 || y.size(0) != to) {
                throw Declined("the model gives one number for a whole batch");
            }
            image.outputs = y.slice(0, 0, 1);
            points.push_back(image);
        }
        if (p.kind != MET_BOX) {
            at::Tensor z;
            y = record_features(p, b.slice(0, from, to), images, &z);
            starts.push_back(z);
            if (from == 0 && p.kind == MET_LERP) {
                baseline.features = z.slice(0, 0, 1);
                baseline.outputs = y.slice(0, 0, 1);
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

void prepare_all(met_prepared &p, const at::Tensor &x, const at::Tensor &b, const met_sample &example, size_t most) {
    std::vector<Point> points = record_all(p, x, b, example, most);
    std::vector<uint8_t> dropped;
    at::NoGradGuard off;
    auto [point, sample] = trial(p, x.slice(0, 0, 1), b.slice(0, 0, 1), example, dropped);
    point.outputs = record_features(p, sample, {p.images[0]}, &point.features);
    points.push_back(point);
    prove(p, x, b, points, most);
    if (p.kind == MET_BOX) {
        p.name = "incremental inference, " + p.trunk->text();
    }
}

int prepare(void *ctx, met_batch *x, met_batch *b, const met_sample *example, size_t most, met_prepared **out) {
    auto &model = *static_cast<Model *>(ctx);
    const met_kind kind = example->kind;
    return guarded(model.host, [&] {
        if (kind != MET_LERP && kind != MET_BOX && kind != MET_BANDS) {
            throw Declined("there is no shortcut for samples of this kind");
        }
        if (model.script) {
            throw Declined("a TorchScript module runs as a whole");
        }
        if (!model.module) {
            throw Declined("the model is not a torch.nn.Module");
        }
        if (model.dtype) {
            throw Declined("the model computes in half precision");
        }
        if (kind != MET_LERP && !has_convolution(model.module.get())) {
            throw Declined("a part of the image can't be followed: the model has no convolution");
        }
        auto p = std::make_unique<met_prepared>();
        p->model = &model;
        p->kind = kind;
        p->bands = x->bands;
        p->images.assign(x->image, x->image + x->n);
        at::Tensor image = batch_tensor(*x).to(model.device);
        at::Tensor baseline = batch_tensor(*b).to(model.device);
        p->input = image.sizes().slice(1).vec();
        p->options = image.options();
        check_modules(model.module.get());
        attempt([&] { prepare_all(*p, image, baseline, *example, most); });
        *out = p.release();
    });
}

/* Move what was added lately to the sum in double. Torch adds unlike types slowly, so not every time. */
void settle(met_prepared &p) {
    if (!p.recent.defined()) { /* nothing was added at all */
        p.recent = at::zeros_like(p.kind == MET_LERP ? p.way : p.z_image);
    }
    if (!p.sum.defined()) {
        const at::Tensor &z = p.kind == MET_LERP ? p.way : p.z_image;
        p.sum = at::zeros_like(z, z.options().dtype(at::kDouble));
    }
    p.sum.add_(p.recent);
    p.recent.zero_();
    p.additions = 0;
}

/* Add gradients (n, ...) at the cut to the sums of their images; samples of one image are neighbours. */
void add_gradients(met_prepared &p, const at::Tensor &g, const std::vector<int64_t> &rows) {
    if (!p.recent.defined()) {
        p.recent = at::zeros_like(p.kind == MET_LERP ? p.way : p.z_image);
    }
    for (size_t from = 0; from < rows.size();) {
        size_t to = from;
        while (to < rows.size() && rows[to] == rows[from]) {
            to++;
        }
        at::Tensor part = g.slice(0, static_cast<int64_t>(from), static_cast<int64_t>(to));
        p.recent.select(0, rows[from]).add_(to - from == 1 ? part.select(0, 0) : part.sum(0));
        from = to;
    }
    if (++p.additions == 32) {
        settle(p);
    }
}

/* Which prepared image, and which image of the call, each of n samples belongs to. */
struct Behind {
    std::vector<int64_t> rows, images;

    Behind(const met_prepared &p, const met_sample *s, size_t n) {
        for (size_t i = 0; i < n; i++) {
            rows.push_back(static_cast<int64_t>(s[i].image));
            images.push_back(p.images[s[i].image]);
        }
    }
};

int forward(void *ctx, met_prepared *p, const met_sample *s, size_t n, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        at::NoGradGuard off;
        p->inputs.clear(); /* no gradient will be asked for */
        p->features.clear();
        const Behind behind(*p, s, n);
        write_outputs(model, call_behind(*p, features_of(*p, s, behind.rows), behind.images), n, 0, y);
    });
}

int gradient(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        const Behind behind(*p, s, n);
        at::AutoGradMode on(true);
        at::Tensor z = features_of(*p, s, behind.rows).requires_grad_();
        at::Tensor outputs = call_behind(*p, z, behind.images);
        at::Tensor selected = select_targets(model, outputs, y->targets, n);
        outputs.reset();
        auto weights = at::tensor(at::ArrayRef<double>(weight, n), at::kDouble).to(selected.options());
        auto found = torch::autograd::grad({selected}, {z}, {weights}, false, false, true);
        write_values(selected, 0, y);
        if (found[0].defined()) { /* else this output does not depend on the input: nothing to add */
            at::NoGradGuard off;
            add_gradients(*p, found[0], behind.rows);
        }
    });
}

int collect(void *ctx, met_prepared *p, met_batch *dx_sum) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        settle(*p);
        std::vector<at::Tensor> sums;
        int64_t from = 0;
        for (size_t i = 0; i < p->inputs.size(); i++) {
            int64_t to = from + p->features[i].size(0);
            at::Tensor g = p->sum.slice(0, from, to).to(p->features[i].scalar_type());
            sums.push_back(torch::autograd::grad({p->features[i]}, {p->inputs[i]}, {g})[0]);
            p->features[i].reset();
            p->inputs[i].reset();
            from = to;
        }
        lend(sums.size() == 1 ? sums[0] : at::cat(sums), dx_sum);
    });
}

const char *name(const met_prepared *p) {
    return p->name.c_str();
}

void release(void *, met_prepared *p) {
    delete p;
}

} // namespace

const met_shortcut affine_stem = {3, 16, prepare, forward, gradient, collect, name, release};

} // namespace bridge
