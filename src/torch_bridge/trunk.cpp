/*
 * trunk.cpp - a model's first layers, read from the graph that autograd recorded: see trunk.h, and follow.cpp for their
 * incremental evaluation.
 */
#include "trunk.h"

#include <torch/csrc/autograd/generated/Functions.h>

#include <algorithm>

using torch::autograd::Node;
namespace nodes = torch::autograd::generated;

namespace bridge {
namespace {

std::vector<int64_t> integers(const std::vector<c10::SymInt> &values, size_t count) {
    std::vector<int64_t> found;
    for (const c10::SymInt &value : values) {
        found.push_back(value.expect_int());
    }
    found.resize(count, found.empty() ? 0 : found.back());
    return found;
}

std::vector<int64_t> integers(std::vector<int64_t> values, size_t count) {
    values.resize(count, values.empty() ? 0 : values.back());
    return values;
}

/* The function of each value that a node computes; empty where it is none. */
std::function<at::Tensor(const at::Tensor &)> function_of(Node *node) {
    if (dynamic_cast<nodes::ReluBackward0 *>(node) != nullptr) {
        return [](const at::Tensor &x) { return at::relu(x); };
    }
    if (dynamic_cast<nodes::TanhBackward0 *>(node) != nullptr) {
        return [](const at::Tensor &x) { return at::tanh(x); };
    }
    if (dynamic_cast<nodes::SigmoidBackward0 *>(node) != nullptr) {
        return [](const at::Tensor &x) { return at::sigmoid(x); };
    }
    if (dynamic_cast<nodes::SiluBackward0 *>(node) != nullptr) {
        return [](const at::Tensor &x) { return at::silu(x); };
    }
    if (dynamic_cast<nodes::HardswishBackward0 *>(node) != nullptr) {
        return [](const at::Tensor &x) { return at::hardswish(x); };
    }
    if (auto *gelu = dynamic_cast<nodes::GeluBackward0 *>(node)) {
        return [how = gelu->approximate](const at::Tensor &x) { return at::gelu(x, how); };
    }
    if (auto *leaky = dynamic_cast<nodes::LeakyReluBackward0 *>(node)) {
        return [slope = leaky->negative_slope](const at::Tensor &x) { return at::leaky_relu(x, slope); };
    }
    if (auto *elu = dynamic_cast<nodes::EluBackward0 *>(node)) {
        return
            [a = elu->alpha, b = elu->scale, c = elu->input_scale](const at::Tensor &x) { return at::elu(x, a, b, c); };
    }
    if (auto *clamp = dynamic_cast<nodes::HardtanhBackward0 *>(node)) {
        return
            [low = clamp->min_val, high = clamp->max_val](const at::Tensor &x) { return at::hardtanh(x, low, high); };
    }
    return {};
}

/* The output of a module that a node made, where the module was called once; NULL where there is none. */
const Call *call_by(const std::vector<Call> &calls, const Node *node) {
    auto found = std::find_if(calls.begin(), calls.end(), [&](const Call &call) {
        return call.count == 1 && call.output.defined() && call.node.get() == node;
    });
    return found == calls.end() ? nullptr : &*found;
}

} // namespace

/* ---- reading the graph */

Trunk::Trunk(const std::vector<Node *> &chain, const std::vector<int64_t> &image) {
    at::NoGradGuard off;
    size_t at = 0;
    first_ = 1;
    if (!chain.empty()) {
        if (auto *node = dynamic_cast<nodes::UnsqueezeBackward0 *>(chain[0])) {
            if (node->dim == 1 || node->dim == -4) { /* (n, d0, d1, d2) -> (n, 1, d0, d1, d2) */
                first_ = 0;
                at = 1;
            }
        }
    }
    size_.assign(image.begin() + first_, image.end());
    while (at < chain.size() && add(chain[at], at + 1)) {
        at++;
    }
    if (layers_.empty()) {
        throw Declined(MET_DECLINE_STRUCTURE,
                       "a part of the image can't be followed: the model does not begin with a convolution over it");
    }
}

/* The form of a maximum pool; false where it rounds its size up. */
template <typename Pool> bool Trunk::Layer::read_pool(const Pool &pool) {
    const size_t spatial = kernel.size();
    kind = Kind::max_pool;
    kernel = integers(pool.kernel_size, spatial);
    stride = pool.stride.empty() ? kernel : integers(pool.stride, spatial);
    padding = integers(pool.padding, spatial);
    dilation = integers(pool.dilation, spatial);
    return !pool.ceil_mode;
}

/* Append the layer that a node stands for; false where there is none. */
bool Trunk::add(Node *node, size_t operations) {
    const size_t spatial = size_.size();
    const std::vector<int64_t> ones(spatial, 1), zeros(spatial, 0);
    Layer layer = {Kind::pointwise, node, operations, {}, {}, ones, ones, zeros, ones, {}, nullptr, {}, {}};
    if (auto *convolution = dynamic_cast<nodes::ConvolutionBackward0 *>(node)) {
        layer.kind = Kind::convolution;
        layer.weight = convolution->weight_.unpack().detach();
        if (convolution->transposed || convolution->groups.expect_int() != 1 ||
            layer.weight.dim() != static_cast<int64_t>(spatial) + 2) {
            return false;
        }
        layer.kernel = layer.weight.sizes().slice(2).vec();
        layer.stride = integers(convolution->stride, spatial);
        layer.padding = integers(convolution->padding, spatial);
        layer.dilation = integers(convolution->dilation, spatial);
    } else if (layers_.empty()) {
        return false;
    } else if (auto *norm = dynamic_cast<nodes::NativeBatchNormBackward0 *>(node)) {
        if (norm->training) {
            return false;
        }
        layer.kind = Kind::scale;
        layer.weight = (norm->running_var_.unpack().to(at::kDouble) + norm->eps).rsqrt();
        at::Tensor learned = norm->weight_.unpack();
        if (learned.defined()) {
            layer.weight = layer.weight * learned.detach().to(at::kDouble);
        }
    } else if (auto *flat = dynamic_cast<nodes::MaxPool2DWithIndicesBackward0 *>(node)) {
        if (spatial != 2 || !layer.read_pool(*flat)) {
            return false;
        }
    } else if (auto *deep = dynamic_cast<nodes::MaxPool3DWithIndicesBackward0 *>(node)) {
        if (spatial != 3 || !layer.read_pool(*deep)) {
            return false;
        }
    } else {
        layer.apply = function_of(node);
        if (!layer.apply) {
            return false;
        }
    }
    const std::vector<int64_t> &before = layers_.empty() ? size_ : layers_.back().size;
    for (size_t d = 0; d < spatial; d++) {
        const int64_t wide = layer.dilation[d] * (layer.kernel[d] - 1);
        layer.size.push_back((before[d] + 2 * layer.padding[d] - wide - 1) / layer.stride[d] + 1);
    }
    layers_.push_back(std::move(layer));
    return true;
}

/* ---- how far to go */

/* Output o reads the inputs o stride - padding + dilation j, j = 0 .. kernel - 1. False: the box changes nothing. */
bool Trunk::reach(const met_box &box, Plan *plan) const {
    plan->channels[0] = first_ == 1 ? static_cast<int64_t>(box.start[0]) : 0;
    plan->channels[1] = first_ == 1 ? static_cast<int64_t>(box.stop[0]) : 1;
    plan->layers.clear();
    std::vector<int64_t> size = size_;
    for (const Layer &layer : layers_) {
        std::vector<Reach> reaches(size.size());
        for (size_t d = 0; d < size.size(); d++) {
            Reach &r = reaches[d];
            r.size = size[d];
            if (plan->layers.empty()) {
                r.changed[0] = static_cast<int64_t>(box.start[static_cast<size_t>(first_) + d]);
                r.changed[1] = static_cast<int64_t>(box.stop[static_cast<size_t>(first_) + d]);
            } else {
                std::copy_n(plan->layers.back()[d].output, 2, r.changed);
            }
            const int64_t wide = layer.dilation[d] * (layer.kernel[d] - 1);
            const int64_t first = std::max<int64_t>(r.changed[0] + layer.padding[d] - wide, 0);
            const int64_t last = r.changed[1] - 1 + layer.padding[d];
            r.output[0] = (first + layer.stride[d] - 1) / layer.stride[d];
            r.output[1] = std::min(last / layer.stride[d] + 1, layer.size[d]);
            r.read[0] = r.output[0] * layer.stride[d] - layer.padding[d];
            r.read[1] = (r.output[1] - 1) * layer.stride[d] - layer.padding[d] + wide + 1;
            if (r.changed[0] >= r.changed[1] || r.output[0] >= r.output[1]) {
                return false;
            }
        }
        plan->layers.push_back(reaches);
        size = layer.size;
    }
    return plan->channels[0] < plan->channels[1];
}

void Trunk::shorten(size_t length) {
    layers_.erase(layers_.begin() + static_cast<ptrdiff_t>(length), layers_.end());
}

void Trunk::stop_at_convolution() {
    shorten(layers_.size() > 1 && layers_[1].kind == Kind::scale ? 2 : 1);
}

void Trunk::stop_where_it_spreads(const met_box &box) {
    Plan plan;
    size_t worthwhile = 0;
    if (!reach(box, &plan)) { /* between the places that a stride visits: it tells nothing about other boxes */
        return;
    }
    for (size_t i = 0; i < plan.layers.size(); i++) {
        double part = 1;
        for (size_t d = 0; d < size_.size(); d++) {
            const Reach &r = plan.layers[i][d];
            part *= static_cast<double>(r.output[1] - r.output[0]) / static_cast<double>(layers_[i].size[d]);
        }
        worthwhile = part <= 0.5 ? i + 1 : worthwhile;
    }
    if (worthwhile < 2) {
        stop_at_convolution();
    } else {
        shorten(worthwhile);
    }
}

void Trunk::stop_where_unknown(const std::vector<Call> &calls) {
    for (size_t i = 0; i + 1 < layers_.size(); i++) {
        const bool computed = layers_[i].kind == Kind::pointwise || layers_[i].kind == Kind::max_pool;
        const bool needed = layers_[i + 1].kind == Kind::pointwise || layers_[i + 1].kind == Kind::max_pool;
        if (computed || !needed) {
            continue;
        }
        const Call *call = call_by(calls, layers_[i].node);
        if (call == nullptr) {
            shorten(i + 1);
            return;
        }
        layers_[i].module = call->module;
    }
}

void Trunk::stop_behind(size_t operations) {
    while (layers_.size() > 1 && layers_.back().operations > operations) {
        layers_.pop_back();
    }
    if (layers_.back().operations != operations) {
        throw Declined(MET_DECLINE_STRUCTURE,
                       "a part of the image can't be followed: no module gives what its convolution computes");
    }
    layers_.back().module = nullptr; /* its outputs are the features */
}

/* ---- what is kept for the whole image */

at::Tensor Trunk::Layer::pooled(const at::Tensor &x, const std::vector<int64_t> &around) const {
    return kernel.size() == 2 ? at::max_pool2d(x, kernel, stride, around, dilation)
                              : at::max_pool3d(x, kernel, stride, around, dilation);
}

std::vector<PyObject *> Trunk::modules() const {
    std::vector<PyObject *> found;
    for (const Layer &layer : layers_) {
        if (layer.module != nullptr) {
            found.push_back(layer.module);
        }
    }
    return found;
}

void Trunk::keep(const Recording &recording) {
    for (Layer &layer : layers_) {
        if (layer.module != nullptr) {
            layer.kept.push_back(recording.call_of(layer.module).output.detach());
        }
    }
}

void Trunk::settle(const at::Tensor &features, at::MemoryFormat format) {
    std::vector<Layer> folded;
    for (Layer &layer : layers_) {
        const bool scales = layer.kind == Kind::scale && folded.back().kind == Kind::convolution;
        if (scales) {
            Layer &convolution = folded.back();
            std::vector<int64_t> shape(static_cast<size_t>(convolution.weight.dim()), 1);
            shape[0] = -1;
            at::Tensor weight = convolution.weight.to(at::kDouble) * layer.weight.view(shape);
            layer.weight = weight.to(convolution.weight.scalar_type());
            layer.kind = Kind::convolution;
            layer.kernel = convolution.kernel;
            layer.stride = convolution.stride;
            layer.padding = convolution.padding;
            layer.dilation = convolution.dilation;
            folded.pop_back();
        }
        folded.push_back(std::move(layer));
    }
    layers_ = std::move(folded);
    for (size_t i = 0; i < layers_.size(); i++) {
        Layer &layer = layers_[i];
        if (i + 1 == layers_.size()) {
            layer.output = features;
        } else if (!layer.kept.empty()) {
            layer.output = layer.kept.size() == 1 ? layer.kept[0] : at::cat(layer.kept);
            layer.kept.clear();
        } else if (layer.kind == Kind::pointwise && !layer.output.defined()) {
            layer.output = layer.apply(layers_[i - 1].output);
        } else if (layer.kind == Kind::max_pool && !layer.output.defined()) {
            layer.output = layer.pooled(layers_[i - 1].output, layer.padding);
        }
        if (layer.output.defined()) {
            layer.output = layer.output.contiguous(format);
        }
    }
}

std::string Trunk::text() const {
    return std::to_string(layers_.size()) + (layers_.size() == 1 ? " layer" : " layers");
}

at::Tensor Trunk::as_input(const at::Tensor &images) const {
    return first_ == 1 ? images.contiguous(features().suggest_memory_format()) : images.unsqueeze(1).contiguous();
}

} // namespace bridge
