/*
 * packed.cpp - see packed.h. A convolution of torch lays its weights out for the kernels of the machine at every call, which
 * takes longer than the arithmetic where many channels meet few places, and in three dimensions it lays out images, too. The
 * operators that torch's own compiler uses take weights that are laid out. They would do what follows in the same pass, too,
 * but a ReLU there makes a 0 of what is not a number, and hides it.
 */
#include "packed.h"

#include "region/rules.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cstring>
#include <set>

namespace bridge {
namespace {

/* Forms of images that weights are laid out for; for more, torch lays them out in every call. */
const size_t FORMS = 64;
/* Samples that weights are laid out for, but those of products. */
const int64_t BATCH = 8;
/* A product of matrices with fewer multiplications is faster than the convolution that it is. */
const int64_t PRODUCT = int64_t(1) << 26;
/* Numbers of one sample alone for which setting up a kernel takes longer than a plain product: torch has the same limit. */
const int64_t SMALL = 20480;

bool are_all(at::IntArrayRef numbers, int64_t value) {
    return std::all_of(numbers.begin(), numbers.end(), [&](int64_t n) { return n == value; });
}

/* Whether each place of the result is made of the one at the same place: a product of matrices. */
bool is_product(const ConvolutionForm &form) {
    return form.groups == 1 && !form.transposed && are_all(form.weight.sizes().slice(2), 1) &&
           are_all(form.stride, 1) && are_all(form.padding, 0);
}

using Operator = std::optional<c10::OperatorHandle>;

/* Nothing where this torch has none of that name, with so many arguments. */
Operator operator_of(const char *name, size_t arguments, const char *overload = "") {
    const Operator found = c10::Dispatcher::singleton().findSchema({name, overload});
    return found && found->schema().arguments().size() == arguments ? found : std::nullopt;
}

const Operator &convolve() {
    static const Operator found = operator_of("mkldnn::_convolution_pointwise", 10);
    return found;
}

const Operator &convolve_and_add() {
    static const Operator found = operator_of("mkldnn::_convolution_pointwise", 13, "binary");
    return found;
}

const Operator &lay_out(int64_t axes) {
    static const Operator two = operator_of("aten::mkldnn_reorder_conv2d_weight", 6),
                          three = operator_of("aten::mkldnn_reorder_conv3d_weight", 6);
    return axes == 3 ? three : two;
}

const Operator &data() {
    static const Operator found = operator_of("mkldnn::data_ptr", 1);
    return found;
}

const Operator &bytes() {
    static const Operator found = operator_of("mkldnn::_nbytes", 1);
    return found;
}

at::Tensor called(const c10::OperatorHandle &op, std::vector<c10::IValue> stack) {
    op.callBoxed(stack);
    return stack.at(0).toTensor();
}

/* The same values in another layout. Of images with channels last torch turns matrices around faster than images. */
at::Tensor laid_out(const at::Tensor &x, at::MemoryFormat layout) {
    const bool turned = layout == at::MemoryFormat::Contiguous && x.dim() == 4 && !x.is_contiguous(layout) &&
                        x.is_contiguous(at::MemoryFormat::ChannelsLast);
    if (!turned) {
        return x.contiguous(layout);
    }
    at::Tensor planes = at::empty(x.sizes(), x.options());
    for (int64_t i = 0; i < x.size(0); i++) {
        planes[i].flatten(1).copy_(x[i].permute({1, 2, 0}).flatten(0, 1).t());
    }
    return planes;
}

/* Whether two tensors of oneDNN's hold the same bytes; false where this torch does not say. */
bool are_alike(const at::Tensor &a, const at::Tensor &b) {
    if (!data() || !bytes()) {
        return false;
    }
    const auto number = [](const c10::OperatorHandle &op, const at::Tensor &x) {
        torch::jit::Stack stack{x};
        op.callBoxed(stack);
        return stack.at(0).toInt();
    };
    const int64_t size = number(*bytes(), a);
    return size == number(*bytes(), b) &&
           std::memcmp(reinterpret_cast<const void *>(number(*data(), a)),
                       reinterpret_cast<const void *>(number(*data(), b)), static_cast<size_t>(size)) == 0;
}

} // namespace

std::optional<ConvolutionForm> convolution_form(const Node &node) {
    using namespace region;
    static const std::set<std::string> names = {"conv1d",           "conv2d",           "conv3d",
                                                "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                                                "convolution",      "_convolution"};
    ConvolutionForm form;
    form.weight = names.count(node.name) != 0 ? constant_of(node, "weight") : at::Tensor();
    if (!form.weight.defined() || form.weight.dim() < 3) {
        return std::nullopt;
    }
    form.weight = form.weight.detach();
    form.bias = constant_of(node, "bias");
    form.bias = form.bias.defined() ? form.bias.detach() : form.bias;
    const auto n = static_cast<size_t>(form.weight.dim()) - 2;
    form.stride = integers_of(node, "stride", n, 1);
    form.dilation = integers_of(node, "dilation", n, 1);
    form.groups = integer_of(node, "groups", 1);
    form.transposed = node.name.rfind("conv_transpose", 0) == 0 || flag_of(node, "transposed");
    const c10::IValue padding = fixed_of(node, "padding");
    if (!padding.isString()) {
        form.padding = integers_of(node, "padding", n, 0);
        return form;
    }
    const std::string &how = padding.toStringRef();
    form.padding.assign(n, 0);
    for (size_t d = 0; d < n && how == "same"; d++) { /* the odd one is on the right */
        const int64_t both = form.dilation[d] * (form.weight.size(static_cast<int64_t>(d) + 2) - 1);
        form.padding[d] = both / 2;
        form.symmetric = form.symmetric && both % 2 == 0;
    }
    return how == "same" || how == "valid" ? std::optional<ConvolutionForm>(form) : std::nullopt;
}

bool PackedConvolution::takes(const at::Tensor &weight) {
    return weight.device().is_cpu() && weight.scalar_type() == at::kFloat && weight.layout() == at::kStrided &&
           weight.dim() >= 3 && weight.dim() <= 5 && weight.numel() > 0 && at::hasMKLDNN() &&
           at::globalContext().userEnabledMkldnn() && convolve() && lay_out(weight.dim() - 2);
}

PackedConvolution::PackedConvolution(ConvolutionForm form, bool by_planes)
    : form_(std::move(form)), one_axis_(form_.weight.dim() == 3), by_planes_(by_planes),
      is_product_(!by_planes && is_product(form_)) {
    form_.weight = by_planes ? form_.weight.contiguous() : form_.weight;
    if (one_axis_) {
        form_.weight = form_.weight.unsqueeze(2);
        form_.stride.insert(form_.stride.begin(), 1);
        form_.padding.insert(form_.padding.begin(), 0);
        form_.dilation.insert(form_.dilation.begin(), 1);
    }
}

/*
 * Laid out for images of that form, as oneDNN says: with the layout for other sizes its kernels take up to a hundred times
 * as long, those of products with that for another number of samples or threads, too. Undefined: there are too many forms.
 */
at::Tensor PackedConvolution::weight_for(const at::Tensor &x, const std::vector<int64_t> &padding) const {
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes[0] = is_product_ ? sizes[0] : BATCH;
    std::vector<int64_t> form = sizes;
    form.insert(form.end(), padding.begin(), padding.end());
    form.push_back(!is_product_ ? 0 : at::in_parallel_region() ? 1 : at::get_num_threads());
    const std::lock_guard<std::mutex> guard(alone_);
    const auto known = weights_.find(form);
    if (known != weights_.end()) {
        return known->second;
    }
    if (weights_.size() >= FORMS) {
        return {};
    }
    at::Tensor found = called(*lay_out(x.dim() - 2), {form_.weight.contiguous().to_mkldnn(), padding, form_.stride,
                                                      form_.dilation, form_.groups, sizes});
    for (const auto &other : weights_) {
        if (are_alike(other.second, found)) {
            found = other.second;
            break;
        }
    }
    return weights_[form] = found;
}

/* x (n, channels, ...) times the weights: a small convolution waits longer for its kernel than that runs. */
at::Tensor PackedConvolution::product(const at::Tensor &x) const {
    const at::Tensor last = x.movedim(1, -1), weight = form_.weight.flatten(1).t();
    std::vector<int64_t> sizes = last.sizes().vec();
    const at::Tensor rows = last.reshape({-1, sizes.back()});
    sizes.back() = form_.weight.size(0);
    const at::Tensor y = form_.bias.defined() ? at::addmm(form_.bias, rows, weight) : at::mm(rows, weight);
    return y.view(sizes).movedim(-1, 1);
}

at::Tensor PackedConvolution::operator()(const at::Tensor &x, const std::vector<int64_t> &padding) const {
    const at::NoGradGuard off;
    if (is_product_ && x.numel() * form_.weight.size(0) < PRODUCT && are_all(padding, 0)) {
        return product(x);
    }
    const at::Tensor in = one_axis_ ? x.unsqueeze(2) : x;
    std::vector<int64_t> around(padding);
    if (around.size() < form_.stride.size()) {
        around.insert(around.begin(), 0);
    }
    const bool torchs = by_planes_ || (in.size(0) == 1 && in.numel() <= SMALL);
    const at::Tensor weight = torchs ? at::Tensor() : weight_for(in, around);
    if (!weight.defined()) {
        const std::vector<int64_t> zeros(around.size(), 0);
        at::Tensor y = at::convolution(by_planes_ ? laid_out(in, at::MemoryFormat::Contiguous) : in, form_.weight,
                                       form_.bias, form_.stride, around, form_.dilation, false, zeros, form_.groups);
        return one_axis_ ? y.squeeze(2) : y;
    }
    const c10::impl::GenericList nothing(c10::OptionalType::create(c10::NumberType::get()));
    const c10::IValue bias = form_.bias.defined() ? c10::IValue(form_.bias) : c10::IValue();
    at::Tensor y = called(*convolve(), {in, weight, bias, around, form_.stride, form_.dilation, form_.groups,
                                        std::string("none"), nothing, std::string()});
    return one_axis_ ? y.squeeze(2) : y;
}

at::Tensor added_convolution(const ConvolutionForm &form, const at::Tensor &x, const at::Tensor &other) {
    const auto layout = at::MemoryFormat::ChannelsLast;
    if (x.dim() != 4 || x.scalar_type() != at::kFloat || x.numel() <= SMALL || other.scalar_type() != at::kFloat ||
        other.numel() <= SMALL || !x.is_contiguous(layout) || !other.is_contiguous(layout) || form.transposed ||
        !form.symmetric || !PackedConvolution::takes(form.weight) || !convolve_and_add()) {
        return {};
    }
    const c10::impl::GenericList nothing(c10::OptionalType::create(c10::NumberType::get()));
    const c10::IValue bias = form.bias.defined() ? c10::IValue(form.bias) : c10::IValue();
    return called(*convolve_and_add(), {x, other, form.weight, bias, form.padding, form.stride, form.dilation,
                                        form.groups, std::string("add"), 1.0, c10::IValue(), nothing, c10::IValue()});
}

/* ---- gradients */

namespace {

/*
 * The gradient of a convolution without strides is a convolution with the weights turned around, from output channels to
 * input channels.
 */
std::optional<ConvolutionForm> backward_form(const ConvolutionForm &form) {
    ConvolutionForm back;
    const auto n = static_cast<size_t>(form.weight.dim()) - 2;
    std::vector<int64_t> turned;
    for (size_t d = 0; d < n; d++) {
        const auto axis = static_cast<int64_t>(d) + 2;
        back.padding.push_back(form.dilation[d] * (form.weight.size(axis) - 1) - form.padding[d]);
        turned.push_back(axis);
        if (form.stride[d] != 1 || back.padding[d] < 0) {
            return std::nullopt;
        }
    }
    const int64_t outputs = form.weight.size(0), inputs = form.weight.size(1) * form.groups;
    std::vector<int64_t> by_group = form.weight.sizes().vec(), sizes = by_group;
    by_group[0] = outputs / form.groups;
    by_group.insert(by_group.begin(), form.groups);
    sizes[0] = inputs;
    sizes[1] = outputs / form.groups;
    back.weight = form.weight.flip(turned).reshape(by_group).transpose(1, 2).reshape(sizes).contiguous();
    back.stride = form.stride;
    back.dilation = form.dilation;
    back.groups = form.groups;
    return back;
}

class Differentiable : public torch::autograd::Function<Differentiable> {
  public:
    /* The convolution outlives the graph: both belong to what was prepared for one call. */
    static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &x,
                              const PackedConvolution *convolution) {
        context->saved_data["convolution"] = reinterpret_cast<int64_t>(convolution);
        context->saved_data["sizes"] = x.sizes().vec();
        context->saved_data["layout"] = static_cast<int64_t>(x.suggest_memory_format());
        return (*convolution)(x);
    }
    static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                   const torch::autograd::variable_list &of_results) {
        const auto *convolution =
            reinterpret_cast<const PackedConvolution *>(context->saved_data["convolution"].toInt());
        const auto layout = static_cast<at::MemoryFormat>(context->saved_data["layout"].toInt());
        return {convolution->gradient(of_results[0], context->saved_data["sizes"].toIntVector(), layout), at::Tensor()};
    }
};

} // namespace

at::Tensor PackedConvolution::differentiable(const at::Tensor &x) const {
    return Differentiable::apply(x, this);
}

/* Its kernels leave channels last, and what is added to an image elsewhere is not: turning that around costs more. */
at::Tensor PackedConvolution::gradient(const at::Tensor &of_result, at::IntArrayRef sizes,
                                       at::MemoryFormat wanted) const {
    const at::MemoryFormat layout = by_planes_ ? at::MemoryFormat::Contiguous : wanted;
    std::call_once(once_back_, [&] {
        const std::optional<ConvolutionForm> back = by_planes_ ? std::nullopt : backward_form(form_);
        back_ = back ? std::make_unique<PackedConvolution>(*back) : nullptr;
    });
    if (back_ && layout == at::MemoryFormat::ChannelsLast) {
        return (*back_)(of_result);
    }
    const at::Tensor x = at::empty(sizes, of_result.options().memory_format(layout)); /* only its form is read */
    const std::vector<int64_t> none(form_.stride.size(), 0);
    return std::get<0>(at::convolution_backward(laid_out(of_result, layout), x, form_.weight, std::nullopt,
                                                form_.stride, form_.padding, form_.dilation, false, none, form_.groups,
                                                {true, false, false}));
}

std::unique_ptr<PackedConvolution> packed_convolution(const Program &p, const Node &node, bool exact) {
    const bool plain = !node.opaque && !node.autocast && node.writes.empty() && node.reads.size() == 1 &&
                       node.arguments.size() > 2 && node.is_value(0);
    const std::optional<ConvolutionForm> form = plain ? convolution_form(node) : std::nullopt;
    if (!form || form->transposed || !form->symmetric || !PackedConvolution::takes(form->weight)) {
        return nullptr;
    }
    const Value &x = p.values[static_cast<size_t>(node.reads[0])];
    const bool fits = x.dtype == at::kFloat && static_cast<int64_t>(x.shape.size()) == form->weight.dim() &&
                      (!form->bias.defined() || form->bias.scalar_type() == at::kFloat);
    return fits ? std::make_unique<PackedConvolution>(*form, exact && is_long_sum(form->weight)) : nullptr;
}

int64_t terms_of_windows(const at::Tensor &weight) {
    return weight.dim() == 4 && weight.size(2) * weight.size(3) > 1 ? weight[0].numel() : 0;
}

bool is_long_sum(const at::Tensor &weight) {
    return terms_of_windows(weight) > 512;
}

void lay_out_weights(Program *p, bool channels_last, const met_trial &trial) {
    const bool exact = trial.gradient && !trial.replay;
    for (Node &node : p->nodes) {
        const bool runs = node.needed && node.dependent && !node.autocast;
        const bool two_axes = node.name == "conv2d" || node.name == "conv_transpose2d";
        node.packed =
            runs && channels_last && (!trial.gradient || two_axes) ? packed_convolution(*p, node, exact) : nullptr;
        if (runs && two_axes && !node.packed && node.is_constant(1) && node.constant(1).dim() == 4) {
            const auto layout = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
            node.arguments[1].fixed = node.constant(1).detach().contiguous(layout);
        }
    }
}

} // namespace bridge
