/* by_place.cpp - see by_place.h. */
#include "by_place.h"

#include "region/rules.h"
#include "threads.h"

#include <algorithm>
#include <numeric>

namespace bridge {
namespace {

using Sizes = std::vector<int64_t>;

/* Places at a time: as many as take so many bytes. */
const size_t TILE_BYTES = 1 << 20;
const int64_t TILE_LEAST = 32, TILE_MOST = 1024;

/* Whether a node gives at each place what depends on that place alone, however many there are; `like` (1, ...): its reads. */
bool is_by_place(const Program &p, const Node &node, const Sizes &like, size_t features) {
    using namespace region;
    if (node.opaque || node.autocast || !node.writes.empty() || node.makes.size() != 1 || node.makes[0] < 0) {
        return false;
    }
    static const std::vector<Maker> everywhere = {identity, pointwise, joined, linear, along_axes};
    static const std::vector<Maker> of_channels = {prelu, batch_norm, convolution}; /* they are those of axis 1 */
    std::unique_ptr<Rule> rule;
    for (Maker maker : everywhere) {
        rule = rule ? std::move(rule) : maker(p, node);
    }
    for (Maker maker : of_channels) {
        rule = rule || features != 1 ? std::move(rule) : maker(p, node);
    }
    const auto *axes = dynamic_cast<const Separable *>(rule.get());
    const Sizes &shape = p.values[static_cast<size_t>(node.makes[0])].shape;
    if (axes == nullptr || axes->results != 1 || shape.size() != like.size()) {
        return false;
    }
    for (size_t d = 1; d < like.size(); d++) {
        if (d == features) {
            continue;
        }
        for (size_t k = 0; k < axes->operands.size(); k++) {
            const Operand &operand = axes->operands[k];
            if (operand.shape.size() != like.size() || (operand.value >= 0 && !operand.dependent)) {
                return false;
            }
            const Axis &axis = axes->axes[k][d - 1];
            const bool same = axis.kind == Axis::Kind::window && axis.out == static_cast<int>(d) - 1 &&
                              axis.stride == 1 && axis.padding == 0 && axis.wide == 0 && operand.shape[d] == like[d];
            if (shape[d] != like[d] || (operand.value >= 0 ? !same : operand.shape[d] != 1)) {
                return false;
            }
        }
    }
    return true;
}

/* The only value that is live at a position, where the program can be cut; -1: there are more. */
int lone_value(const Program &p, size_t position) {
    const std::vector<int> live = p.live(position);
    return live.size() == 1 && p.can_cut(position) ? live[0] : -1;
}

} // namespace

std::optional<ByPlace> ByPlace::behind(const Program &p, size_t from, bool features_last) {
    ByPlace found;
    found.from_ = from;
    found.value_ = lone_value(p, from);
    if (found.value_ < 0 || !p.values[static_cast<size_t>(found.value_)].by_sample) {
        return std::nullopt;
    }
    try {
        found.mean_ = cut_at_pools(p, from);
    } catch (const Declined &) {
        return std::nullopt;
    }
    const Sizes &like = p.values[static_cast<size_t>(found.value_)].shape;
    found.rank_ = like.size();
    found.last_ = features_last;
    const size_t features = features_last ? like.size() - 1 : 1;
    Sizes places(like.size() - 1);
    std::iota(places.begin(), places.end(), 1);
    places.erase(places.begin() + static_cast<std::ptrdiff_t>(features) - 1);
    if (found.mean_.pools.size() != 1) {
        return std::nullopt;
    }
    const SpatialPool &pool = found.mean_.pools[0];
    if (pool.maximum || pool.axes != places || lone_value(p, pool.node) != pool.source) {
        return std::nullopt;
    }
    for (size_t i = from; i < pool.node; i++) {
        if (p.nodes[i].needed && p.nodes[i].dependent && !is_by_place(p, p.nodes[i], like, features)) {
            return std::nullopt;
        }
    }
    found.tail_ = pool.node;
    for (size_t i = pool.node; i-- > from;) {
        const Node &node = p.nodes[i];
        if (node.needed && node.dependent && (!is_affine(p, node) || lone_value(p, i) < 0)) {
            break;
        }
        found.tail_ = node.needed && node.dependent ? i : found.tail_;
    }
    found.tail_value_ = lone_value(p, found.tail_);
    if (found.tail_value_ < 0) {
        return std::nullopt;
    }
    found.features_ = p.values[static_cast<size_t>(found.tail_value_)].shape[features];
    found.places_ = c10::multiply_integers(like) / like[features];
    return found;
}

/* Nodes [from, to) on one value, as they give another one. */
at::Tensor ByPlace::run(const Inputs &inputs, int64_t origin, const at::Tensor &values, size_t from, int given,
                        size_t to, int wanted) const {
    Run run(inputs.program, inputs.model, Sizes(static_cast<size_t>(values.size(0)), origin));
    run.keep(wanted);
    at::Tensor x = values;
    if (rank_ == 2) { /* one place, which has no axis */
        x = values.flatten(1);
    } else if (rank_ > 3) {
        Sizes shape(rank_, 1);
        shape[0] = values.size(0);
        shape[1] = values.size(1);
        shape[rank_ - 1] = values.size(2);
        x = values.reshape(shape);
    }
    run.give(given, last_ || rank_ == 2 ? x : x.movedim(-1, 1));
    run.go(from, to);
    const at::Tensor y = last_ || rank_ == 2 ? run.value(wanted) : run.value(wanted).movedim(1, -1);
    return y.reshape({values.size(0), -1, y.size(-1)});
}

at::Tensor ByPlace::run(const Inputs &inputs, int64_t origin, const at::Tensor &values) const {
    return run(inputs, origin, values, from_, value_, tail_, tail_value_);
}

at::Tensor ByPlace::source(const Inputs &inputs, int64_t origin, const at::Tensor &values) const {
    const SpatialPool &pool = mean_.pools[0];
    return run(inputs, origin, values, from_, value_, pool.node, pool.source);
}

at::Tensor ByPlace::of_mean(const Inputs &inputs, int64_t origin, const at::Tensor &mean) const {
    const SpatialPool &pool = mean_.pools[0];
    const at::Tensor y = run(inputs, origin, mean.unsqueeze(1), tail_, tail_value_, pool.node, pool.source);
    return y.squeeze(1) * (pool.factor * static_cast<double>(places_));
}

int64_t ByPlace::tile(size_t bytes) const {
    return std::clamp<int64_t>(static_cast<int64_t>(TILE_BYTES / std::max<size_t>(bytes, 1)), TILE_LEAST, TILE_MOST);
}

void ByPlace::over_tiles(int64_t tile, const std::function<void(int64_t, int64_t, size_t)> &body) const {
    const size_t count = tiles(tile);
    const auto some = [&](size_t from, size_t to) {
        for (size_t i = from; i < to; i++) {
            const int64_t first = static_cast<int64_t>(i) * tile;
            body(first, std::min(tile, places_ - first), i);
        }
    };
    if (count > 1) {
        run_over_threads(count, some);
    } else {
        some(0, count);
    }
}

at::Tensor ByPlace::mean_of(int64_t tile, const std::function<at::Tensor(int64_t, int64_t, size_t)> &of) const {
    std::vector<at::Tensor> parts(tiles(tile));
    over_tiles(tile, [&](int64_t first, int64_t places, size_t i) {
        parts[i] = of(first, places, i).sum(at::IntArrayRef{1});
    });
    const at::Tensor sums = at::stack(parts).sum(at::IntArrayRef{0}, false, at::kDouble);
    return sums.div_(static_cast<double>(places_)).to(parts[0].scalar_type());
}

} // namespace bridge
