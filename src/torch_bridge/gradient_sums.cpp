/*
 * gradient_sums.cpp - gradients of samples are summed at the cut, and one backward pass through the part before it gives the
 * sum at the image.
 */
#include "prepared.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <map>
#include <mutex>

namespace bridge {
namespace {

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

/* The gradients of all samples, which were found in parts. */
std::vector<at::Tensor> joined(const std::map<size_t, PartGradient> &parts) {
    std::vector<at::Tensor> all = parts.begin()->second.gradients;
    for (size_t v = 0; v < all.size() && parts.size() > 1; v++) {
        std::vector<at::Tensor> pieces;
        for (const auto &part : parts) {
            if (part.second.gradients[v].defined()) {
                pieces.push_back(part.second.gradients[v]);
            }
        }
        all[v] = pieces.empty() ? at::Tensor() : at::cat(pieces);
    }
    return all;
}

} // namespace

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
    const bool sums = p.features->sums();
    if (!sums && p.sum.empty()) {
        start_sums(p, features);
    }
    std::vector<at::Tensor> selected;
    for (const auto &[from, part] : parts) { /* in the order of the samples */
        const auto first = rows.begin() + static_cast<std::ptrdiff_t>(from);
        if (!sums) {
            add_gradients(p, part.gradients, {first, first + part.selected.size(0)});
        }
        selected.push_back(part.selected);
    }
    if (sums) {
        p.features->add(joined(parts), rows);
    }
    return selected.size() == 1 ? selected[0] : at::cat(selected);
}

std::vector<at::Tensor> sums_at_cut(met_prepared &p) {
    if (p.features->sums()) {
        return p.features->summed();
    }
    for (size_t row = 0; row < p.origins.size() && !p.sum.empty(); row++) {
        settle(p, row);
    }
    return p.sum;
}

at::Tensor gradient_sums(met_prepared &p) {
    const std::vector<at::Tensor> at_cut = sums_at_cut(p);
    if (at_cut.empty()) { /* no output was asked for */
        return at::zeros_like(p.images);
    }
    const std::vector<int> live = p.program->live(p.features->back());
    at::AutoGradMode on(true);
    const bool keep = !p.features->graph.empty();
    const Prefix prefix{*p.program, *p.model, p.origins, p.most, p.features->back(), p.features->back_in_double};
    const std::vector<Evaluated> graph = keep ? p.features->graph : prefix.of(p.images, live);
    std::vector<at::Tensor> sums;
    for (const Evaluated &part : graph) {
        std::vector<at::Tensor> ends, gradients;
        for (size_t v = 0; v < live.size(); v++) {
            const at::Tensor &z = part.values[v];
            if (z.requires_grad()) {
                ends.push_back(z);
                gradients.push_back(at_cut[v].slice(0, part.from, part.from + z.size(0)).to(z.scalar_type()));
            }
        }
        at::Tensor sum = ends.empty() ? at::Tensor() : gradients_of(*p.model, ends, {part.x}, gradients, keep)[0];
        sums.push_back((sum.defined() ? sum : at::zeros_like(part.x).detach()).to(p.images.scalar_type()));
    }
    return sums.size() == 1 ? sums[0] : at::cat(sums);
}

} // namespace bridge
