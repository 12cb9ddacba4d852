/*
 * stem.cpp - evaluation of MET_LERP samples behind the model's affine stem.
 *
 * Where a model begins with affine layers, z(x) = A x + c, then z(b + a (x - b)) = z(b) + a (z(x) - z(b)): two
 * evaluations of the stem serve every sample, gradients are summed at z, and one backward pass through the stem
 * gives the sum at x. The stem is found in the graph that autograd records, and then proved:
 *
 *   found   from x on, each operation is affine in one argument and alone reads what the one before it made; the cut
 *           is the last of these that is the output of a module called once
 *   proved  the model is run with the cut's output put in place of its computation and NaN in place of its input: at
 *           the image, the baseline and halfway it must give what the whole model gives there. A model that reads
 *           the input elsewhere, or whose stem is not affine, does not.
 *
 * Otherwise the shortcut is declined with the reason. Compare incremental inference: Nakandala et al., SIGMOD 2019.
 */
#include "bridge.h"
#include "graph.h"
#include "modules.h"

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
    std::vector<at::Tensor> inputs;   /* leaves, a chunk of images each */
    std::vector<at::Tensor> features; /* z(inputs), with their graphs */
    at::Tensor start;                 /* z(b) of all images */
    at::Tensor way;                   /* z(x) - z(b) of all images */
    at::Tensor recent;                /* gradients that are not in `sum` yet, in the features' dtype */
    int additions = 0;                /* to `recent` */
    at::Tensor sum;                   /* weighted sum of gradients at z, in double */
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

/* Choose the cut among recorded calls: the last node of the chain that a module, called once, gave. */
void choose_cut(met_prepared &p, const std::vector<Call> &calls, const std::vector<Node *> &chain, int64_t samples,
                const std::string &end) {
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
}

/* Run the whole model on x (n, ...), with gradients to the chunk's leaf; find the cut at the first call. */
at::Tensor record_image(met_prepared &p, const at::Tensor &values, const std::vector<int64_t> &images) {
    at::AutoGradMode on(true);
    at::Tensor x = values.detach().requires_grad_();
    Recording recording(p.cut);
    at::Tensor y = call(*p.model, x, images);
    std::vector<Call> &calls = recording.calls();
    if (p.cut != nullptr) {
        if (calls.size() != 1 || !calls[0].output.defined() || !calls[0].output.requires_grad()) {
            throw Declined("the model does not run the same way for every image");
        }
        p.features.push_back(calls[0].output);
    } else {
        if (!y.requires_grad()) {
            throw Declined("the model's output is cut off from its input");
        }
        std::string end;
        auto leaf = torch::autograd::impl::grad_accumulator(x);
        auto chain = affine_chain(y.grad_fn().get(), leaf.get(), &end);
        choose_cut(p, calls, chain, static_cast<int64_t>(images.size()), end);
    }
    p.inputs.push_back(x);
    return y.detach();
}

/* Run the whole model on x; the features at the cut go to `z`. */
at::Tensor record_features(const met_prepared &p, const at::Tensor &x, const std::vector<int64_t> &images,
                           at::Tensor *z) {
    Recording recording(p.cut);
    at::Tensor y = call(*p.model, x, images);
    if (recording.calls().size() != 1 || !recording.calls()[0].output.defined()) {
        throw Declined("the model does not run the same way for every image");
    }
    *z = recording.calls()[0].output.detach();
    return y;
}

/* Whether the outputs of the folded model are those of the whole one. */
void compare(const at::Tensor &whole, const at::Tensor &folded, double tolerance, const char *where) {
    if (whole.sizes() != folded.sizes()) {
        throw Declined("the model behind the stem gives outputs of another shape");
    }
    at::Tensor a = whole.to(at::kDouble).reshape({-1});
    at::Tensor b = folded.to(at::kDouble).reshape({-1});
    if (b.isnan().any().item<bool>()) {
        throw Declined("the input is read again behind the stem");
    }
    double scale = a.abs().max().item<double>();
    double error = (a - b).abs().max().item<double>();
    if (!(error <= tolerance * scale)) {
        throw Declined(std::string("the model behind the stem does not give the whole model's output at ") + where);
    }
}

/* Outputs of the whole model for the first image at three points of the way. */
struct Points {
    at::Tensor image, baseline, half;
};

/* The model behind the cut must give the same outputs; two points in one call where that is allowed. */
void compare_behind(const met_prepared &p, const Points &whole, size_t most) {
    bool wide = p.start.scalar_type() == at::kDouble;
    double exact = wide ? 1e-12 : 1e-5;  /* the same features: rounding of another batch size only */
    double linear = wide ? 1e-10 : 1e-3; /* the features themselves were rounded, and the model amplifies that */
    std::vector<int64_t> one = {p.images[0]};
    at::Tensor z_b = p.start.slice(0, 0, 1);
    at::Tensor z_x = z_b + p.way.slice(0, 0, 1);
    at::Tensor z_half = z_b + 0.5 * p.way.slice(0, 0, 1);
    at::Tensor folded_b = call_behind(p, z_b, one);
    at::Tensor folded_x;
    at::Tensor folded_half;
    if (most > 1) {
        at::Tensor both = call_behind(p, at::cat({z_x, z_half}), {one[0], one[0]});
        if (both.dim() == 0 || both.size(0) != 2) {
            throw Declined("the model gives one number for a whole batch");
        }
        folded_x = both.slice(0, 0, 1);
        folded_half = both.slice(0, 1, 2);
    } else {
        folded_x = call_behind(p, z_x, one);
        folded_half = call_behind(p, z_half, one);
    }
    compare(whole.image, folded_x, exact, "the image");
    compare(whole.baseline, folded_b, exact, "the baseline");
    compare(whole.half, folded_half, linear, "the point halfway");
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
    p.start = p.start.contiguous(format);
    p.way = p.way.contiguous(format);
}

/*
 * Prove the shortcut on the first image. Convolutions like channels last best, and features are laid out once for all
 * samples; a model that does not take them so is proved with the usual order.
 */
void prove(met_prepared &p, const at::Tensor &x, const at::Tensor &b, const at::Tensor &y_x, const at::Tensor &y_b,
           size_t most) {
    if (y_x.dim() == 0 || y_x.size(0) != p.features[0].size(0)) {
        throw Declined("the model gives one number for a whole batch");
    }
    at::Tensor half = b.slice(0, 0, 1) + 0.5 * (x.slice(0, 0, 1) - b.slice(0, 0, 1));
    const Points whole = {y_x.slice(0, 0, 1), y_b.slice(0, 0, 1), call(*p.model, half, {p.images[0]})};
    const auto axes = p.start.dim();
    if (axes == 4 || axes == 5) {
        try {
            lay_out(p, axes == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::ChannelsLast3d);
            attempt([&] { compare_behind(p, whole, most); });
            return;
        } catch (const Declined &) {
            lay_out(p, at::MemoryFormat::Contiguous);
        }
    }
    attempt([&] { compare_behind(p, whole, most); });
}

void prepare_all(met_prepared &p, const at::Tensor &x, const at::Tensor &b, size_t most) {
    int64_t n = x.size(0);
    int64_t step = std::max<int64_t>(1, std::min<int64_t>(n, static_cast<int64_t>(std::min<size_t>(most, 64))));
    at::Tensor first_x;
    at::Tensor first_b;
    std::vector<at::Tensor> starts;
    for (int64_t from = 0; from < n; from += step) {
        int64_t to = std::min(n, from + step);
        std::vector<int64_t> images(p.images.begin() + from, p.images.begin() + to);
        at::Tensor y_x = record_image(p, x.slice(0, from, to), images);
        at::NoGradGuard off;
        at::Tensor z_b;
        at::Tensor y_b = record_features(p, b.slice(0, from, to), images, &z_b);
        starts.push_back(z_b);
        if (from == 0) {
            first_x = y_x;
            first_b = y_b;
        }
    }
    at::NoGradGuard off;
    std::vector<at::Tensor> ends;
    for (const at::Tensor &z : p.features) {
        ends.push_back(z.detach());
    }
    p.start = starts.size() == 1 ? starts[0] : at::cat(starts);
    p.way = (ends.size() == 1 ? ends[0] : at::cat(ends)) - p.start;
    prove(p, x, b, first_x, first_b, most);
    p.recent = at::zeros_like(p.start);
    p.sum = at::zeros_like(p.start, p.start.options().dtype(at::kDouble));
}

int prepare(void *ctx, met_batch *x, met_batch *b, const met_target *const *, met_kind kind, size_t most,
            met_prepared **out) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        if (kind != MET_LERP) {
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
        auto p = std::make_unique<met_prepared>();
        p->model = &model;
        p->images.assign(x->image, x->image + x->n);
        at::Tensor image = batch_tensor(*x).to(model.device);
        at::Tensor baseline = batch_tensor(*b).to(model.device);
        p->input = image.sizes().slice(1).vec();
        p->options = image.options();
        check_modules(model.module.get());
        attempt([&] { prepare_all(*p, image, baseline, most); });
        *out = p.release();
    });
}

/* Features of samples that share runs of images. */
at::Tensor features_of(const met_prepared &p, const met_sample *s, size_t n, const std::vector<int64_t> &rows) {
    if (n == 1) {
        return at::add(p.start.slice(0, rows[0], rows[0] + 1), p.way.slice(0, rows[0], rows[0] + 1), s[0].alpha);
    }
    std::vector<double> alphas(n);
    for (size_t i = 0; i < n; i++) {
        alphas[i] = s[i].alpha;
    }
    std::vector<int64_t> shape(static_cast<size_t>(p.start.dim()), 1);
    shape[0] = static_cast<int64_t>(n);
    at::Tensor alpha = at::tensor(alphas, at::kDouble).to(p.start.options()).reshape(shape);
    if (rows.front() == rows.back()) {
        return at::addcmul(p.start.slice(0, rows[0], rows[0] + 1), p.way.slice(0, rows[0], rows[0] + 1), alpha);
    }
    at::Tensor index = at::tensor(rows, at::kLong).to(p.start.device());
    return at::addcmul(p.start.index_select(0, index), p.way.index_select(0, index), alpha);
}

/* Move what was added lately to the sum in double. Torch adds unlike types slowly, so not every time. */
void settle(met_prepared &p) {
    p.sum.add_(p.recent);
    p.recent.zero_();
    p.additions = 0;
}

/* Add gradients (n, ...) at the cut to the sums of their images; samples of one image are neighbours. */
void add_gradients(met_prepared &p, const at::Tensor &g, const std::vector<int64_t> &rows) {
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

int gradient(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        std::vector<int64_t> rows(n);
        std::vector<int64_t> images(n);
        for (size_t i = 0; i < n; i++) {
            rows[i] = static_cast<int64_t>(s[i].image);
            images[i] = p->images[s[i].image];
        }
        at::AutoGradMode on(true);
        at::Tensor z;
        {
            at::NoGradGuard off;
            z = features_of(*p, s, n, rows);
        }
        z.requires_grad_();
        at::Tensor outputs = call_behind(*p, z, images);
        at::Tensor selected = select_targets(model, outputs, y->targets, n);
        outputs.reset();
        auto weights = at::tensor(at::ArrayRef<double>(weight, n), at::kDouble).to(selected.options());
        auto found = torch::autograd::grad({selected}, {z}, {weights}, false, false, true);
        write_values(selected, 0, y);
        if (found[0].defined()) { /* else this output does not depend on the input: nothing to add */
            at::NoGradGuard off;
            add_gradients(*p, found[0], rows);
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

void release(void *, met_prepared *p) {
    delete p;
}

} // namespace

const met_shortcut affine_stem = {"affine stem", prepare, nullptr, gradient, collect, release};

} // namespace bridge
