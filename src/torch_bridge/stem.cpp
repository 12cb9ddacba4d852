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
 *   traced  in the run that found it, of every image, all operators are seen, differentiable or not (trace.cpp): what
 *           depends on the input otherwise than by the cut must reach neither the output nor Python
 *   proved  the model is run with the cut's output put in place of its computation and NaN in place of its input: at
 *           the image, and at other points, it must give what the whole model gives there
 *
 * Otherwise the shortcut is declined with the reason. Compare incremental inference: Nakandala et al., SIGMOD 2019.
 */
#include "prepared.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <limits>
#include <memory>

namespace bridge {
namespace {

std::vector<int64_t> with_samples(std::vector<int64_t> shape, int64_t samples, int64_t of) {
    if (shape.empty() || shape[0] % of != 0) {
        throw Declined(MET_DECLINE_STRUCTURE, "the stem mixes the batch axis with others");
    }
    shape[0] = shape[0] / of * samples;
    return shape;
}

at::Tensor poison(const std::vector<int64_t> &shape, const at::TensorOptions &options) {
    return at::full({}, std::numeric_limits<double>::quiet_NaN(), options).expand(shape);
}

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

} // namespace

at::Tensor call_behind(const met_prepared &p, const at::Tensor &z, const std::vector<int64_t> &images) {
    auto n = static_cast<int64_t>(images.size());
    Replacing replacing;
    replacing.add(p.cut, p.protect ? z.clone() : z);
    for (const Upstream &upstream : p.upstream) {
        replacing.add(upstream.module, poison(with_samples(upstream.shape, n, upstream.samples), p.options));
    }
    std::vector<int64_t> shape = p.input;
    shape.insert(shape.begin(), n);
    return call(*p.model, poison(shape, p.options), images);
}

at::Tensor features_of(const met_prepared &p, const met_sample *s, const std::vector<int64_t> &rows) {
    at::NoGradGuard off;
    switch (p.kind) {
    case MET_BOX: return p.trunk->with_boxes(p.change, s, rows);
    case MET_BANDS: return p.trunk->with_bands(p.z_baseline, p.change, s, rows, p.bands);
    default: return between(p, s, rows);
    }
}

namespace {

int prepare(void *ctx, met_batch *x, met_batch *b, const met_sample *example, size_t most, met_prepared **out) {
    auto &model = *static_cast<Model *>(ctx);
    const met_kind kind = example->kind;
    return guarded(model.host, [&] {
        if (kind != MET_LERP && kind != MET_BOX && kind != MET_BANDS) {
            throw Declined(MET_DECLINE_NOTHING_SHARED, "there is no shortcut for samples of this kind");
        }
        if (model.script) {
            throw Declined(MET_DECLINE_NOT_OFFERED, "a TorchScript module runs as a whole");
        }
        if (!model.module) {
            throw Declined(MET_DECLINE_NOT_OFFERED, "the model is not a torch.nn.Module");
        }
        if (model.dtype) {
            throw Declined(MET_DECLINE_NOT_OFFERED, "the model computes in half precision");
        }
        if (kind != MET_LERP && !has_convolution(model.module.get())) {
            throw Declined(MET_DECLINE_STRUCTURE,
                           "a part of the image can't be followed: the model has no convolution");
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
        prepare_stem(*p, image, baseline, *example, most);
        *out = p.release();
    });
}

/* Additions in the features' own dtype before they go to the sum in double: torch adds unlike types slowly. */
const int RECENT_MOST = 32;

/* The sums of gradients at the cut, zero at first. */
void start_sums(met_prepared &p) {
    const at::Tensor &z = p.kind == MET_LERP ? p.way : p.z_image;
    p.recent = at::zeros_like(z);
    p.sum = at::zeros_like(z, z.options().dtype(at::kDouble));
    p.additions.assign(p.images.size(), 0);
}

void settle(met_prepared &p, int64_t row) {
    at::Tensor recent = p.recent.select(0, row);
    p.sum.select(0, row).add_(recent);
    recent.zero_();
    p.additions[static_cast<size_t>(row)] = 0;
}

/* Add gradients (n, ...) at the cut to the sums of their images, one by one: batches make no difference. */
void add_gradients(met_prepared &p, const at::Tensor &g, const std::vector<int64_t> &rows) {
    if (!p.sum.defined()) {
        start_sums(p);
    }
    for (size_t i = 0; i < rows.size(); i++) {
        p.recent.select(0, rows[i]).add_(g.select(0, static_cast<int64_t>(i)));
        if (++p.additions[static_cast<size_t>(rows[i])] == RECENT_MOST) {
            settle(p, rows[i]);
        }
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
        at::Tensor outputs;
        attempt([&] { outputs = call_behind(*p, features_of(*p, s, behind.rows), behind.images); });
        write_outputs(model, outputs, n, y);
    });
}

int gradient(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n, met_outputs *y) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        const Behind behind(*p, s, n);
        at::AutoGradMode on(true);
        at::Tensor z = features_of(*p, s, behind.rows).requires_grad_();
        at::Tensor outputs, selected;
        std::vector<at::Tensor> found;
        attempt([&] { outputs = call_behind(*p, z, behind.images); });
        selected = select_targets(model, outputs, y->targets, n);
        outputs.reset();
        auto weights = at::tensor(at::ArrayRef<double>(weight, n), at::kDouble).to(selected.options());
        attempt([&] { found = torch::autograd::grad({selected}, {z}, {weights}, false, false, true); });
        write_values(selected, y);
        if (found[0].defined()) { /* else this output does not depend on the input: nothing to add */
            at::NoGradGuard off;
            add_gradients(*p, found[0], behind.rows);
        }
    });
}

int collect(void *ctx, met_prepared *p, met_batch *dx_sum) {
    auto &model = *static_cast<Model *>(ctx);
    return guarded(model.host, [&] {
        if (!p->sum.defined()) { /* no output depended on the input */
            start_sums(*p);
        }
        for (size_t i = 0; i < p->images.size(); i++) {
            settle(*p, static_cast<int64_t>(i));
        }
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
        const bool wide = p->options.dtype() == at::kDouble;
        export_batch(sums.size() == 1 ? sums[0] : at::cat(sums), wide ? MET_FLOAT64 : MET_FLOAT32, dx_sum);
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
