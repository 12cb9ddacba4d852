/* local.cpp - see local.h. */
#include "local.h"

#include "modules.h"

#include <torch/csrc/autograd/generated/Functions.h>

#include <algorithm>
#include <array>
#include <map>

using torch::autograd::Node;
using torch::autograd::generated::ConvolutionBackward0;
using torch::autograd::generated::NativeBatchNormBackward0;
using torch::autograd::generated::UnsqueezeBackward0;

namespace bridge {
namespace {

std::vector<int64_t> integers(const std::vector<c10::SymInt> &values, int64_t count) {
    std::vector<int64_t> found;
    for (const c10::SymInt &value : values) {
        found.push_back(value.expect_int());
    }
    found.resize(static_cast<size_t>(count), found.empty() ? 0 : found.back());
    return found;
}

/* Channels of one input (1, channels, rows, columns), in its memory format. */
at::Tensor take_channels(const at::Tensor &input, const at::Tensor &index) {
    if (!input.is_contiguous(at::MemoryFormat::ChannelsLast)) {
        return input.index_select(1, index);
    }
    /* Torch gathers from a plain matrix several times faster. */
    at::Tensor pixels = input.permute({0, 2, 3, 1});
    at::Tensor taken = pixels.reshape({-1, input.size(1)}).index_select(1, index);
    return taken.view({1, input.size(2), input.size(3), index.size(0)}).permute({0, 3, 1, 2});
}

} // namespace

Convolution::Convolution(const std::vector<Node *> &chain, size_t *length) {
    size_t at = 0;
    bool lifted = false;
    if (at < chain.size()) {
        if (auto *node = dynamic_cast<UnsqueezeBackward0 *>(chain[at])) {
            lifted = node->dim == 1 || node->dim == -4; /* (n, d0, d1, d2) -> (n, 1, d0, d1, d2) */
            at++;
        }
    }
    auto *node = at < chain.size() ? dynamic_cast<ConvolutionBackward0 *>(chain[at]) : nullptr;
    if (node == nullptr || at != (lifted ? 1u : 0u)) {
        throw Declined("a part of the image can't be followed: the model does not begin with a convolution");
    }
    at++;
    at::NoGradGuard off;
    weight_ = node->weight_.unpack().detach();
    const int64_t spatial = weight_.dim() - 2;
    if (node->transposed || node->groups.expect_int() != 1 || spatial != (lifted ? 3 : 2)) {
        throw Declined("a part of the image can't be followed through a convolution of this form");
    }
    stride_ = integers(node->stride, spatial);
    padding_ = integers(node->padding, spatial);
    dilation_ = integers(node->dilation, spatial);
    first_ = lifted ? 0 : 1;
    auto *norm = at < chain.size() ? dynamic_cast<NativeBatchNormBackward0 *>(chain[at]) : nullptr;
    if (norm != nullptr && !norm->training) {
        at::Tensor scale = (norm->running_var_.unpack().to(at::kDouble) + norm->eps).rsqrt();
        at::Tensor learned = norm->weight_.unpack();
        if (learned.defined()) {
            scale = scale * learned.detach().to(at::kDouble);
        }
        std::vector<int64_t> shape(static_cast<size_t>(weight_.dim()), 1);
        shape[0] = -1;
        weight_ = (weight_.to(at::kDouble) * scale.view(shape)).to(weight_.scalar_type());
        at++;
    }
    *length = at;
}

at::Tensor Convolution::as_input(const at::Tensor &images, const at::Tensor &features) const {
    return first_ == 1 ? images.contiguous(features.suggest_memory_format()) : images.unsqueeze(1).contiguous();
}

at::Tensor Convolution::run(const at::Tensor &input, const at::Tensor &weight,
                            const std::vector<int64_t> &padding) const {
    return at::convolution(input, weight, {}, stride_, padding, dilation_, false,
                           std::vector<int64_t>(stride_.size(), 0), 1);
}

/* A box in the convolution's input, and what depends on it: half-open ranges. */
struct Convolution::Reach {
    int64_t channels[2];
    std::array<int64_t, 3> box[2];    /* along the spatial axes */
    std::array<int64_t, 3> input[2];  /* what the outputs read; it may reach into the padding */
    std::array<int64_t, 3> output[2]; /* features that change */
    bool nothing = false;

    /* Samples with the same key go through one convolution. */
    std::vector<int64_t> key(size_t spatial) const {
        std::vector<int64_t> found = {channels[0], channels[1]};
        for (size_t d = 0; d < spatial; d++) {
            found.push_back(input[1][d] - input[0][d]);
        }
        return found;
    }
};

/* Output o reads the inputs o stride - padding + dilation j, j = 0 .. extent - 1. */
Convolution::Reach Convolution::reach_of(const met_box &box, const at::Tensor &features) const {
    Reach r;
    r.channels[0] = first_ == 1 ? static_cast<int64_t>(box.start[0]) : 0;
    r.channels[1] = first_ == 1 ? static_cast<int64_t>(box.stop[0]) : 1;
    r.nothing = r.channels[0] >= r.channels[1];
    for (size_t d = 0; d < stride_.size(); d++) {
        const auto low = static_cast<int64_t>(box.start[static_cast<size_t>(first_) + d]);
        const auto high = static_cast<int64_t>(box.stop[static_cast<size_t>(first_) + d]);
        const int64_t wide = dilation_[d] * (weight_.size(static_cast<int64_t>(d) + 2) - 1);
        const int64_t before = std::max<int64_t>(low + padding_[d] - wide, 0);
        r.output[0][d] = (before + stride_[d] - 1) / stride_[d];
        r.output[1][d] = high + padding_[d] < 1 ? 0 : (high - 1 + padding_[d]) / stride_[d] + 1;
        r.output[1][d] = std::min(r.output[1][d], features.size(static_cast<int64_t>(d) + 2));
        r.input[0][d] = r.output[0][d] * stride_[d] - padding_[d];
        r.input[1][d] = (r.output[1][d] - 1) * stride_[d] - padding_[d] + wide + 1;
        r.box[0][d] = std::max(low, r.input[0][d]);
        r.box[1][d] = std::min(high, r.input[1][d]);
        r.nothing = r.nothing || r.output[0][d] >= r.output[1][d] || r.box[0][d] >= r.box[1][d];
    }
    return r;
}

at::Tensor Convolution::with_boxes(const at::Tensor &images, const at::Tensor &change, const met_sample *s,
                                   const std::vector<int64_t> &rows) const {
    const size_t n = rows.size(), spatial = stride_.size();
    std::vector<int64_t> shape = images.sizes().vec();
    shape[0] = static_cast<int64_t>(n);
    at::Tensor features = at::empty(shape, images.options(), images.suggest_memory_format());
    std::vector<Reach> reaches;
    std::map<std::vector<int64_t>, std::vector<size_t>> alike;
    for (size_t i = 0; i < n; i++) {
        features[static_cast<int64_t>(i)].copy_(images[rows[i]]);
        reaches.push_back(s[i].kind == MET_BOX ? reach_of(s[i].box, images) : Reach{{}, {}, {}, {}, true});
        if (!reaches.back().nothing) {
            alike[reaches.back().key(spatial)].push_back(i);
        }
    }
    for (const auto &[key, samples] : alike) {
        std::vector<int64_t> extents = {static_cast<int64_t>(samples.size()), key[1] - key[0]};
        extents.insert(extents.end(), key.begin() + 2, key.end());
        at::Tensor parts = at::empty(extents, change.options(), change.suggest_memory_format()).zero_();
        for (size_t j = 0; j < samples.size(); j++) {
            const Reach &r = reaches[samples[j]];
            at::Tensor from = change[rows[samples[j]]].slice(0, key[0], key[1]);
            at::Tensor to = parts[static_cast<int64_t>(j)];
            for (size_t d = 0; d < spatial; d++) {
                const auto axis = static_cast<int64_t>(d) + 1;
                from = from.slice(axis, r.box[0][d], r.box[1][d]);
                to = to.slice(axis, r.box[0][d] - r.input[0][d], r.box[1][d] - r.input[0][d]);
            }
            to.copy_(from);
        }
        at::Tensor changes = run(parts, weight_.slice(1, key[0], key[1]), std::vector<int64_t>(spatial, 0));
        for (size_t j = 0; j < samples.size(); j++) {
            const Reach &r = reaches[samples[j]];
            at::Tensor to = features[static_cast<int64_t>(samples[j])];
            for (size_t d = 0; d < spatial; d++) {
                to = to.slice(static_cast<int64_t>(d) + 1, r.output[0][d], r.output[1][d]);
            }
            to.add_(changes[static_cast<int64_t>(j)]);
        }
    }
    return features;
}

at::Tensor Convolution::with_bands(const at::Tensor &images, const at::Tensor &baselines, const at::Tensor &change,
                                   const met_sample *s, const std::vector<int64_t> &rows, int axis) const {
    const auto n = static_cast<int64_t>(rows.size());
    const bool channels = axis < first_;
    const auto band_axis = static_cast<size_t>(channels ? 1 : axis - first_ + 2);
    const int64_t bands = change.size(static_cast<int64_t>(band_axis));
    std::vector<uint8_t> dropped(rows.size() * static_cast<size_t>(bands), 0);
    for (int64_t i = 0; i < n; i++) {
        if (s[i].kind == MET_BANDS) {
            std::copy_n(s[i].dropped, bands, dropped.begin() + i * bands);
        }
    }
    if (n == 1 && channels) { /* the smaller part of the bands: those that are dropped, or those that are kept */
        const bool most = 2 * std::count(dropped.begin(), dropped.end(), 1) > bands;
        std::vector<int64_t> taken;
        for (int64_t b = 0; b < bands; b++) {
            if ((dropped[static_cast<size_t>(b)] != 0) != most) {
                taken.push_back(b);
            }
        }
        at::Tensor features = (most ? baselines : images).slice(0, rows[0], rows[0] + 1);
        if (taken.empty()) {
            return features.clone();
        }
        at::Tensor index = at::tensor(taken, at::kLong).to(change.device());
        at::Tensor part = take_channels(change.slice(0, rows[0], rows[0] + 1), index);
        return at::add(features, run(part, weight_.index_select(1, index), padding_), most ? -1 : 1);
    }
    std::vector<int64_t> shape(static_cast<size_t>(change.dim()), 1);
    shape[0] = n;
    shape[band_axis] = bands;
    at::Tensor flags = at::from_blob(dropped.data(), shape, at::kByte).to(change.options());
    at::Tensor index = at::tensor(rows, at::kLong).to(change.device());
    return images.index_select(0, index) + run(change.index_select(0, index).mul_(flags), weight_, padding_);
}

} // namespace bridge
