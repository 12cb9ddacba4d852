/*
 * follow.cpp - incremental evaluation of a model's first layers. Source of the idea: S. Nakandala, K. Nagrecha, A. Kumar
 * and Y. Papakonstantinou, "Incremental and approximate inference for faster occlusion-based deep CNN explanations",
 * SIGMOD 2019. Here what is handed from layer to layer is the change of the outputs, so that convolutions need no bias
 * and padding is 0.
 */
#include "trunk.h"

#include <algorithm>
#include <limits>
#include <map>

namespace bridge {
namespace {

/* Bands are taken in multiples of this: every new number costs oneDNN a convolution to prepare and to keep. */
const size_t ROUND = 16;

at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, const std::vector<int64_t> &stride,
                    const std::vector<int64_t> &padding, const std::vector<int64_t> &dilation) {
    return at::convolution(x, weight, {}, stride, padding, dilation, false, std::vector<int64_t>(stride.size(), 0), 1);
}

/* x (n, channels, ...) with `value` around it, or less of it where an amount is negative. */
at::Tensor pad(const at::Tensor &x, const std::vector<std::pair<int64_t, int64_t>> &around, double value) {
    std::vector<int64_t> amounts;
    for (size_t d = around.size(); d-- > 0;) { /* the last axis comes first */
        amounts.push_back(around[d].first);
        amounts.push_back(around[d].second);
    }
    const bool any = std::any_of(amounts.begin(), amounts.end(), [](int64_t amount) { return amount != 0; });
    return any ? at::constant_pad_nd(x, amounts, value) : x;
}

/* Slice i of x (n, channels, ...), cut to ranges along the spatial axes. */
template <typename Range> at::Tensor cut(const at::Tensor &x, int64_t i, size_t spatial, const Range &range) {
    at::Tensor part = x.slice(0, i, i + 1);
    for (size_t d = 0; d < spatial; d++) {
        const std::pair<int64_t, int64_t> r = range(d);
        part = part.slice(static_cast<int64_t>(d) + 2, r.first, r.second);
    }
    return part;
}

/* Parts of equal shape (1, ...) as (n, ...): memory of its own where there are several. */
at::Tensor join(const std::vector<at::Tensor> &parts) {
    if (parts.size() == 1) {
        return parts[0];
    }
    std::vector<int64_t> shape = parts[0].sizes().vec();
    shape[0] = static_cast<int64_t>(parts.size());
    at::Tensor joined = at::empty(shape, parts[0].options(), parts[0].suggest_memory_format());
    for (size_t j = 0; j < parts.size(); j++) {
        joined.select(0, static_cast<int64_t>(j)).copy_(parts[j].select(0, 0));
    }
    return joined;
}

} // namespace

std::vector<int64_t> Trunk::Plan::key() const {
    std::vector<int64_t> found = {channels[0], channels[1]};
    for (const auto &of_layer : layers) {
        for (const Reach &r : of_layer) {
            for (int64_t value :
                 {r.changed[0] - r.read[0], r.changed[1] - r.read[0], r.read[1] - r.read[0], r.output[1] - r.output[0],
                  std::max<int64_t>(-r.read[0], 0), std::max<int64_t>(r.read[1] - r.size, 0)}) {
                found.push_back(value);
            }
        }
    }
    return found;
}

/* The change of the last layer's outputs, for samples whose plans have the same key. */
at::Tensor Trunk::follow(at::Tensor change, const std::vector<const Plan *> &plans,
                         const std::vector<int64_t> &rows) const {
    const size_t spatial = size_.size();
    for (size_t i = 0; i < layers_.size(); i++) {
        const Layer &layer = layers_[i];
        /* Parts of a layer's outputs for the whole images. */
        auto parts = [&](const at::Tensor &outputs, auto range) {
            std::vector<at::Tensor> found;
            for (size_t j = 0; j < plans.size(); j++) {
                found.push_back(
                    cut(outputs, rows[j], spatial, [&](size_t d) { return range(plans[j]->layers[i][d]); }));
            }
            return join(found);
        };
        auto output = [](const Reach &r) { return std::make_pair(r.output[0], r.output[1]); };
        std::vector<std::pair<int64_t, int64_t>> around;
        if (layer.kind == Kind::convolution) {
            for (const Reach &r : plans[0]->layers[i]) {
                around.emplace_back(r.changed[0] - r.read[0], r.read[1] - r.changed[1]);
            }
            at::Tensor weight =
                i == 0 ? layer.weight.slice(1, plans[0]->channels[0], plans[0]->channels[1]) : layer.weight;
            const std::vector<int64_t> none(spatial, 0);
            change = convolve(pad(change, around, 0), weight, layer.stride, none, layer.dilation);
        } else if (layer.kind == Kind::scale) {
            std::vector<int64_t> shape(spatial + 2, 1);
            shape[1] = -1;
            change = change * layer.weight.to(change.scalar_type()).view(shape);
        } else if (layer.kind == Kind::pointwise) {
            change = layer.apply(parts(layers_[i - 1].output, output) + change) - parts(layer.output, output);
        } else {
            auto inside = [](const Reach &r) {
                return std::make_pair(std::max<int64_t>(r.read[0], 0), std::min(r.read[1], r.size));
            };
            at::Tensor values = parts(layers_[i - 1].output, inside);
            values = plans.size() == 1 ? values.clone() : values; /* it is written to */
            at::Tensor changed = values, by = change;
            for (size_t d = 0; d < spatial; d++) {
                const Reach &r = plans[0]->layers[i][d];
                const auto [low, high] = inside(r);
                const int64_t from = std::max(r.changed[0], low), to = std::min(r.changed[1], high);
                changed = changed.slice(static_cast<int64_t>(d) + 2, from - low, to - low);
                by = by.slice(static_cast<int64_t>(d) + 2, from - r.changed[0], to - r.changed[0]);
                around.emplace_back(low - r.read[0], r.read[1] - high);
            }
            changed.add_(by);
            values = pad(values, around, -std::numeric_limits<double>::infinity());
            const std::vector<int64_t> none(spatial, 0);
            change = layer.pooled(values, none) - parts(layer.output, output);
        }
    }
    return change;
}

at::Tensor Trunk::with_boxes(const at::Tensor &change, const met_sample *s, const std::vector<int64_t> &rows) const {
    const size_t n = rows.size(), spatial = size_.size();
    std::vector<int64_t> shape = features().sizes().vec();
    shape[0] = static_cast<int64_t>(n);
    at::Tensor samples = at::empty(shape, features().options(), features().suggest_memory_format());
    std::vector<Plan> plans(n);
    std::map<std::vector<int64_t>, std::vector<size_t>> alike;
    for (size_t i = 0; i < n; i++) {
        samples.select(0, static_cast<int64_t>(i)).copy_(features().select(0, rows[i]));
        if (s[i].kind == MET_BOX && reach(s[i].box, &plans[i])) {
            alike[plans[i].key()].push_back(i);
        }
    }
    for (const auto &group : alike) {
        std::vector<const Plan *> some;
        std::vector<int64_t> of;
        std::vector<at::Tensor> parts;
        for (size_t i : group.second) {
            const Plan &plan = plans[i];
            at::Tensor part = cut(change, rows[i], spatial, [&](size_t d) {
                return std::make_pair(plan.layers[0][d].changed[0], plan.layers[0][d].changed[1]);
            });
            parts.push_back(part.slice(1, plan.channels[0], plan.channels[1]));
            some.push_back(&plan);
            of.push_back(rows[i]);
        }
        at::Tensor changes = follow(join(parts), some, of);
        for (size_t j = 0; j < some.size(); j++) {
            at::Tensor part = cut(samples, static_cast<int64_t>(group.second[j]), spatial, [&](size_t d) {
                return std::make_pair(some[j]->layers.back()[d].output[0], some[j]->layers.back()[d].output[1]);
            });
            part.add_(changes.slice(0, static_cast<int64_t>(j), static_cast<int64_t>(j) + 1));
        }
    }
    return samples;
}

/*
 * Channels of one input (1, channels, rows, columns), in its memory format. Torch gathers from a plain matrix several
 * times faster, and pieces of another size each time would break the heap up: they go to the same room.
 */
at::Tensor Trunk::take_channels(const at::Tensor &input, const at::Tensor &index) const {
    if (!input.is_contiguous(at::MemoryFormat::ChannelsLast)) {
        return input.index_select(1, index);
    }
    const int64_t rows = input.size(2), columns = input.size(3), taken = index.size(0);
    if (!room_.defined()) {
        room_ = at::empty({rows * columns * (input.size(1) / 2 + static_cast<int64_t>(ROUND))}, input.options());
    }
    at::Tensor pixels = input.permute({0, 2, 3, 1}).reshape({-1, input.size(1)});
    at::Tensor out = room_.slice(0, 0, rows * columns * taken).view({-1, taken});
    at::index_select_out(out, pixels, 1, index);
    return out.view({1, rows, columns, taken}).permute({0, 3, 1, 2});
}

at::Tensor Trunk::with_bands(const at::Tensor &baselines, const at::Tensor &change, const met_sample *s,
                             const std::vector<int64_t> &rows, int axis) const {
    const Layer &layer = layers_[0];
    const auto n = static_cast<int64_t>(rows.size());
    const bool channels = axis < first_;
    const auto band_axis = static_cast<size_t>(channels ? 1 : axis - first_ + 2);
    const int64_t bands = change.size(static_cast<int64_t>(band_axis));
    std::vector<uint8_t> replaced(rows.size() * static_cast<size_t>(bands), 0);
    for (int64_t i = 0; i < n; i++) {
        if (s[i].kind == MET_BANDS) {
            std::copy_n(s[i].replaced, bands, replaced.begin() + i * bands);
        }
    }
    auto convolution = [&](const at::Tensor &x, const at::Tensor &weight) {
        return convolve(x, weight, layer.stride, layer.padding, layer.dilation);
    };
    if (channels) { /* by the smaller part of the bands: those that are replaced, or those that are kept */
        std::vector<at::Tensor> samples;
        for (int64_t i = 0; i < n; i++) {
            const uint8_t *flags = replaced.data() + i * bands;
            const bool most = 2 * std::count(flags, flags + bands, 1) > bands;
            std::vector<int64_t> taken;
            for (int64_t b = 0; b < bands; b++) {
                if ((flags[b] != 0) != most) {
                    taken.push_back(b);
                }
            }
            const int64_t row = rows[static_cast<size_t>(i)];
            at::Tensor whole = (most ? baselines : features()).slice(0, row, row + 1);
            if (taken.empty()) {
                samples.push_back(whole.clone());
                continue;
            }
            const auto count = static_cast<int64_t>(taken.size());
            taken.resize((taken.size() + ROUND - 1) / ROUND * ROUND, 0); /* with weights of 0 */
            at::Tensor index = at::tensor(taken, at::kLong).to(change.device());
            at::Tensor part = take_channels(change.slice(0, row, row + 1), index);
            at::Tensor weight = layer.weight.index_select(1, index);
            weight.slice(1, count).zero_();
            samples.push_back(at::add(whole, convolution(part, weight), most ? -1 : 1));
        }
        return join(samples);
    }
    std::vector<int64_t> shape(static_cast<size_t>(change.dim()), 1);
    shape[0] = n;
    shape[band_axis] = bands;
    at::Tensor flags = at::from_blob(replaced.data(), shape, at::kByte).to(change.options());
    at::Tensor index = at::tensor(rows, at::kLong).to(change.device());
    at::Tensor parts = change.index_select(0, index).mul_(flags);
    return features().index_select(0, index) + convolution(parts, layer.weight);
}

} // namespace bridge
