/*
 * segment_reach.cpp - segments are followed through a program as masks: each operator widens them by its receptive field.
 *
 * The masks of several segments stand in the place of several samples, so that most rules are the operator itself, or a
 * maximum over the axes that it mixes. They may be too wide (an operator that is not known mixes everything), never too
 * narrow.
 */
#include "segment_reach.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

namespace bridge {

Reach reach_in_image(const met_segments &segments, const std::vector<int64_t> &image, int64_t from, int64_t to) {
    std::vector<int64_t> sizes(MET_AXES), strides(MET_AXES);
    for (size_t a = 0; a < MET_AXES; a++) {
        sizes[a] = segments.strides[a] == 0 ? 1 : image[a];
        strides[a] = static_cast<int64_t>(segments.strides[a]);
    }
    at::Tensor ids = at::from_blob(const_cast<int32_t *>(segments.ids), sizes, strides, at::kInt);
    at::Tensor which = at::arange(from, to, at::kInt).reshape({-1, 1, 1, 1});
    return ids.unsqueeze(0).eq(which).to(at::kFloat);
}

namespace {

using Shape = std::vector<int64_t>;

/* A node with the masks of what it reads. */
struct Step {
    const Program &program;
    const Node &node;
    const std::vector<Reach> &masks; /* by value */
    int64_t segments;

    const Reach &mask(int value) const { return masks[static_cast<size_t>(value)]; }
    const Shape &shape(int value) const { return program.values[static_cast<size_t>(value)].shape; }
    bool is_dependent(int value) const { return program.values[static_cast<size_t>(value)].dependent; }
    const Reach &first() const { return mask(node.arguments[0].value); }
    const Shape &first_shape() const { return shape(node.arguments[0].value); }
    const Shape &out() const { return shape(node.makes[0]); }
    /* Whether the first argument is the only one that depends on the input. */
    bool first_alone() const {
        for (size_t k = 0; k < node.reads.size(); k++) {
            if (is_dependent(node.reads[k]) && node.reads[k] != node.arguments[0].value) {
                return false;
            }
        }
        return node.is_value(0) && is_dependent(node.arguments[0].value);
    }
};

/* No mask: the rule does not apply, and the operator counts as unknown. */
using Rule = std::vector<Reach> (*)(const Step &);

int64_t wrapped(int64_t axis, size_t axes) {
    return axis < 0 ? axis + static_cast<int64_t>(axes) : axis;
}

/* The axes that a fixed argument names; none where it does not, or names that of the samples. */
std::vector<int64_t> axes_of(const Step &step, size_t argument, size_t axes) {
    const auto &schema = step.node.op.schema().arguments();
    if (argument >= schema.size() || schema[argument].name().rfind("dim", 0) != 0 ||
        step.node.arguments[argument].kind != Argument::Kind::fixed) {
        return {};
    }
    const Argument &a = step.node.arguments[argument];
    std::vector<int64_t> named;
    if (a.fixed.isInt()) {
        named = {a.fixed.toInt()};
    } else if (a.fixed.isIntList()) {
        named = a.fixed.toIntVector();
    }
    for (int64_t &axis : named) {
        axis = wrapped(axis, axes);
        if (axis == 0) {
            return {};
        }
    }
    return named;
}

Reach over(const Reach &mask, const std::vector<int64_t> &axes) {
    return axes.empty() ? mask : mask.amax(axes, true);
}

/* The last `count` axes. */
std::vector<int64_t> last(const Reach &mask, int64_t count) {
    std::vector<int64_t> axes(static_cast<size_t>(count));
    std::iota(axes.begin(), axes.end(), mask.dim() - count);
    return axes;
}

/* The mask with an axis at its full size. */
Reach full_along(const Reach &mask, int64_t axis, const Shape &shape) {
    Shape sizes = mask.sizes().vec();
    sizes[static_cast<size_t>(axis)] = shape[static_cast<size_t>(axis)];
    return mask.expand(sizes);
}

/* Everything that reaches a value of a sample reaches all of `out`. */
Reach everywhere(const std::vector<Reach> &masks, const Shape &out, int64_t segments) {
    Reach any;
    for (const Reach &mask : masks) {
        Reach of_one = mask.reshape({segments, -1}).amax(1);
        any = any.defined() ? at::maximum(any, of_one) : of_one;
    }
    Shape sizes(out.size(), 1);
    sizes[0] = segments * out[0];
    return any.repeat_interleave(out[0]).reshape(sizes);
}

/* Functions of the values in one place of all arguments, with the usual broadcasting. */
std::vector<Reach> by_place(const Step &step) {
    Reach all;
    for (int value : step.node.reads) {
        if (!step.is_dependent(value)) {
            continue;
        }
        const Reach &mask = step.mask(value);
        if (step.shape(value).size() != step.out().size() || step.shape(value)[0] != step.out()[0]) {
            return {};
        }
        all = all.defined() ? at::maximum(all, mask) : mask;
    }
    return std::vector<Reach>(step.node.makes.size(), all);
}

/* Normalisation: by kept statistics where argument 5 says that those of the input are not used. */
std::vector<Reach> batch_norm(const Step &step) {
    const bool kept = step.node.arguments[5].kind == Argument::Kind::fixed && !step.node.fixed(5).toBool();
    return kept ? by_place(step) : std::vector<Reach>();
}

std::vector<Reach> instance_norm(const Step &step) {
    if (!step.first_alone()) {
        return {};
    }
    const bool kept = step.node.arguments[5].kind == Argument::Kind::fixed && !step.node.fixed(5).toBool();
    return {kept ? step.first() : over(step.first(), last(step.first(), step.first().dim() - 2))};
}

/* Sums over the last axis, with weights that do not depend on the input. */
std::vector<Reach> linear(const Step &step) {
    return step.first_alone() && step.out().size() > 1
               ? std::vector<Reach>{over(step.first(), {step.first().dim() - 1})}
               : std::vector<Reach>();
}

/* Mixes the last axes, as many as argument 1 has entries. */
std::vector<Reach> layer_norm(const Step &step) {
    if (!step.first_alone() || step.node.arguments[1].kind != Argument::Kind::fixed) {
        return {};
    }
    const auto count = static_cast<int64_t>(step.node.fixed(1).toIntVector().size());
    return count < step.first().dim() ? std::vector<Reach>{over(step.first(), last(step.first(), count))}
                                      : std::vector<Reach>();
}

/* Mixes the axis that argument 1 names, and keeps it. */
std::vector<Reach> along(const Step &step) {
    std::vector<int64_t> axes =
        step.first_alone() ? axes_of(step, 1, step.first_shape().size()) : std::vector<int64_t>();
    return axes.empty() ? std::vector<Reach>() : std::vector<Reach>(step.node.makes.size(), over(step.first(), axes));
}

/* Takes axes together that argument 1 names; they are gone, or of size 1. */
std::vector<Reach> reduction(const Step &step) {
    std::vector<int64_t> axes =
        step.first_alone() ? axes_of(step, 1, step.first_shape().size()) : std::vector<int64_t>();
    if (axes.empty()) {
        return {};
    }
    const bool stay = step.out().size() == step.first_shape().size();
    return std::vector<Reach>(step.node.makes.size(), step.first().amax(axes, stay));
}

/* matmul: rows of the left by columns of the right. */
std::vector<Reach> matmul(const Step &step) {
    Reach all;
    for (size_t k = 0; k < 2; k++) {
        const Argument &a = step.node.arguments[k];
        if (a.kind != Argument::Kind::value || !step.is_dependent(a.value)) {
            continue;
        }
        const auto axes = static_cast<int64_t>(step.out().size());
        const Reach &mask = step.mask(a.value);
        if (axes < 3 || mask.dim() != axes || step.shape(a.value)[0] != step.out()[0]) {
            return {};
        }
        Reach part = over(mask, {axes - 1 - static_cast<int64_t>(k)});
        all = all.defined() ? at::maximum(all, part) : part;
    }
    return {all};
}

/* Numbers for each spatial axis; those of axes along which the mask does not differ are `neutral`. */
Shape by_axis(const Step &step, const Reach &mask, size_t argument, const Shape &otherwise, int64_t neutral) {
    const size_t spatial = otherwise.size();
    const c10::IValue &given = step.node.fixed(argument);
    Shape numbers = given.isInt() ? Shape{given.toInt()} : given.isIntList() ? given.toIntVector() : Shape();
    if (numbers.size() != spatial) {
        numbers = numbers.size() == 1 ? Shape(spatial, numbers[0]) : otherwise;
    }
    for (size_t a = 0; a < spatial; a++) {
        numbers[a] = mask.size(static_cast<int64_t>(a) + 2) == 1 ? neutral : numbers[a];
    }
    return numbers;
}

/* How convolutions read their input: any channel, anything under the kernel. */
struct Kernel {
    Reach mask, ones;
    Shape zero, one;

    explicit Kernel(const Step &step) : mask(over(step.first(), {1})) {
        Shape sizes = step.node.constant(1).sizes().vec();
        sizes[0] = sizes[1] = 1;
        for (size_t a = 2; a < sizes.size(); a++) {
            sizes[a] = mask.size(static_cast<int64_t>(a)) == 1 ? 1 : sizes[a];
        }
        ones = at::ones(sizes, mask.options());
        zero = Shape(sizes.size() - 2, 0);
        one = Shape(sizes.size() - 2, 1);
    }
    static bool fits(const Step &step) {
        return step.first_alone() && step.node.is_constant(1) && step.first_shape().size() > 2 &&
               static_cast<int64_t>(step.first_shape().size()) == step.node.constant(1).dim();
    }
};

/* (input, weight, bias, stride, padding, dilation, groups) */
std::vector<Reach> convolution(const Step &step) {
    if (!Kernel::fits(step)) {
        return {};
    }
    const Kernel k(step);
    Shape stride = by_axis(step, k.mask, 3, k.one, 1), dilation = by_axis(step, k.mask, 5, k.one, 1);
    if (step.node.fixed(4).isString()) {
        return {
            at::_convolution_mode(k.mask, k.ones, {}, stride, step.node.fixed(4).toStringView(), dilation, 1).gt(0.5)};
    }
    return {at::convolution(k.mask, k.ones, {}, stride, by_axis(step, k.mask, 4, k.zero, 0), dilation, false, k.zero, 1)
                .gt(0.5)};
}

/* (input, weight, bias, stride, padding, output_padding, groups, dilation) */
std::vector<Reach> transposed_convolution(const Step &step) {
    if (!Kernel::fits(step)) {
        return {};
    }
    const Kernel k(step);
    return {at::convolution(k.mask, k.ones, {}, by_axis(step, k.mask, 3, k.one, 1), by_axis(step, k.mask, 4, k.zero, 0),
                            by_axis(step, k.mask, 7, k.one, 1), true, by_axis(step, k.mask, 5, k.zero, 0), 1)
                .gt(0.5)};
}

/* Whatever lies in a window of a pool reaches its output. */
std::vector<Reach> windows(const Step &step, size_t spatial, bool dilates) {
    if (!step.first_alone() || step.first_shape().size() != spatial + 2) {
        return {};
    }
    const Reach &mask = step.first();
    const Shape one(spatial, 1);
    Shape kernel = by_axis(step, mask, 1, one, 1), stride = by_axis(step, mask, 2, kernel, 1);
    Shape padding = by_axis(step, mask, 3, Shape(spatial, 0), 0);
    Shape dilation = dilates ? by_axis(step, mask, 4, one, 1) : one;
    const bool ceil_mode = step.node.fixed(dilates ? 5 : 4).toBool();
    Reach out = spatial == 1   ? at::max_pool1d(mask, kernel, stride, padding, dilation, ceil_mode)
                : spatial == 2 ? at::max_pool2d(mask, kernel, stride, padding, dilation, ceil_mode)
                               : at::max_pool3d(mask, kernel, stride, padding, dilation, ceil_mode);
    return std::vector<Reach>(step.node.makes.size(), out);
}

template <size_t spatial, bool dilates> std::vector<Reach> window_pool(const Step &step) {
    return windows(step, spatial, dilates);
}

/* (input, output size) */
template <size_t spatial> std::vector<Reach> adaptive_pool(const Step &step) {
    if (!step.first_alone() || step.first_shape().size() != spatial + 2) {
        return {};
    }
    const Reach &mask = step.first();
    Shape size(step.out().begin() + 2, step.out().end());
    for (size_t a = 0; a < spatial; a++) {
        size[a] = mask.size(static_cast<int64_t>(a) + 2) == 1 ? 1 : size[a];
    }
    Reach out = spatial == 1   ? std::get<0>(at::adaptive_max_pool1d(mask, size))
                : spatial == 2 ? std::get<0>(at::adaptive_max_pool2d(mask, size))
                               : std::get<0>(at::adaptive_max_pool3d(mask, size));
    return std::vector<Reach>(step.node.makes.size(), out);
}

/* Argument 0 of a node is the masks, all else is as recorded. */
Reach same_operator(const Step &step, const Reach &mask) {
    torch::jit::Stack stack{mask};
    for (size_t k = 1; k < step.node.arguments.size(); k++) {
        if (step.node.arguments[k].kind != Argument::Kind::fixed) {
            return {};
        }
        stack.push_back(step.node.fixed(k));
    }
    step.node.op.callBoxed(stack);
    return stack[0].isTensor() ? stack[0].toTensor() : Reach();
}

/* Upsampling with weights that are not negative. */
std::vector<Reach> upsampling(const Step &step) {
    if (!step.first_alone()) {
        return {};
    }
    Reach mask = step.first();
    for (int64_t a = 2; a < mask.dim(); a++) {
        mask = full_along(mask, a, step.first_shape());
    }
    return {same_operator(step, mask.contiguous())};
}

/* (input, 2 numbers for each padded axis from the last on, mode, value): constants are reached by nothing. */
std::vector<Reach> padding(const Step &step) {
    if (!step.first_alone() || step.node.arguments[1].kind != Argument::Kind::fixed) {
        return {};
    }
    const Shape amounts = step.node.fixed(1).toIntVector();
    Reach mask = step.first();
    const auto padded = static_cast<int64_t>(amounts.size() / 2);
    if (padded >= mask.dim()) {
        return {};
    }
    for (int64_t a = mask.dim() - padded; a < mask.dim(); a++) {
        mask = full_along(mask, a, step.first_shape());
    }
    const std::string mode =
        step.node.name == "constant_pad_nd" ? "constant" : std::string(step.node.fixed(2).toStringView());
    return {mode == "constant" ? at::constant_pad_nd(mask, amounts, 0) : at::pad(mask.contiguous(), amounts, mode)};
}

/* Takes a part along an axis, turns it, or shifts it. */
std::vector<Reach> part(const Step &step) {
    if (!step.first_alone()) {
        return {};
    }
    const std::vector<int64_t> axes = axes_of(step, step.node.name == "roll" ? 2 : 1, step.first_shape().size());
    if (axes.empty()) {
        return {};
    }
    Reach mask = step.first();
    for (int64_t axis : axes) {
        mask = full_along(mask, axis, step.first_shape());
    }
    return {same_operator(step, mask)};
}

/* Pieces along the last argument's axis: chunk, split, unbind; they lie one behind the other. */
std::vector<Reach> pieces(const Step &step) {
    const size_t argument = step.node.name == "unbind" ? 1 : 2;
    std::vector<int64_t> axes =
        step.first_alone() ? axes_of(step, argument, step.first_shape().size()) : std::vector<int64_t>();
    if (axes.size() != 1) {
        return {};
    }
    const int64_t axis = axes[0];
    const bool gone = step.node.name == "unbind";
    Reach mask = full_along(step.first(), axis, step.first_shape());
    std::vector<Reach> out;
    int64_t from = 0;
    for (int value : step.node.makes) {
        if (value < 0) {
            return {};
        }
        const int64_t length = gone ? 1 : step.shape(value)[static_cast<size_t>(axis)];
        Reach piece = mask.narrow(axis, from, length);
        out.push_back(gone ? piece.squeeze(axis) : piece);
        from += length;
    }
    return out;
}

/* ([inputs], axis): places of the inputs one behind the other, or any of them where none differs along the axis. */
std::vector<Reach> concatenation(const Step &step) {
    const std::vector<int64_t> axes = axes_of(step, 1, step.out().size());
    const Argument &list = step.node.arguments[0];
    if (axes.size() != 1 || list.kind != Argument::Kind::list) {
        return {};
    }
    const auto axis = static_cast<size_t>(axes[0]);
    Shape sizes(step.out().size(), 1), lengths;
    sizes[0] = step.segments * step.out()[0];
    std::vector<Reach> masks;
    for (const Argument &entry : list.entries) {
        const bool is_value = entry.kind == Argument::Kind::value;
        const Shape shape = is_value ? step.shape(entry.value) : entry.fixed.toTensor().sizes().vec();
        if (shape.size() != sizes.size() || shape[0] != step.out()[0]) {
            return {};
        }
        masks.push_back(is_value && step.is_dependent(entry.value) ? step.mask(entry.value)
                                                                   : at::zeros(Shape(sizes.size(), 1), at::kFloat));
        lengths.push_back(shape[axis]);
        for (size_t a = 1; a < sizes.size(); a++) {
            sizes[a] = std::max(sizes[a], masks.back().size(static_cast<int64_t>(a)));
        }
    }
    const bool differs = sizes[axis] > 1;
    for (size_t k = 0; k < masks.size(); k++) {
        sizes[axis] = differs ? lengths[k] : 1;
        masks[k] = masks[k].expand(sizes);
    }
    return {differs ? at::cat(masks, axes[0]) : at::stack(masks).amax(0)};
}

/* Permutations of axes that leave the first one where it is. */
std::vector<Reach> permutation(const Step &step) {
    if (!step.first_alone()) {
        return {};
    }
    Shape sizes(step.first_shape().size());
    std::iota(sizes.begin(), sizes.end(), 2);
    const at::Tensor probe = at::empty(sizes, at::kChar), turned = same_operator(step, probe);
    return turned.defined() && turned.size(0) == 2 ? std::vector<Reach>{same_operator(step, step.first())}
                                                   : std::vector<Reach>();
}

/* Whether a reshape keeps the samples in the first axis, one behind the other. */
bool keeps_samples_first(const Step &step) {
    const Value &out = step.program.values[static_cast<size_t>(step.node.makes[0])];
    if (out.by_sample) {
        return true;
    }
    if (step.node.arguments.size() < 2 || step.node.name == "flatten") {
        return step.node.name == "flatten";
    }
    const Argument &sizes = step.node.arguments[1];
    if (sizes.kind == Argument::Kind::integers) {
        return !sizes.scales.empty() && sizes.scales[0] &&
               std::count(sizes.scales.begin(), sizes.scales.end(), true) == 1;
    }
    return sizes.kind == Argument::Kind::fixed && sizes.fixed.isIntList() && !sizes.fixed.toIntVector().empty() &&
           sizes.fixed.toIntVector()[0] == -1;
}

/*
 * The same values in their order under other axes. Axes are taken in the smallest groups whose products agree; a group along
 * which nothing differs stays small.
 */
std::vector<Reach> reshaping(const Step &step) {
    if (!step.first_alone() || !keeps_samples_first(step)) {
        return {};
    }
    Shape from = step.first_shape(), to = step.out();
    Shape expanded, sizes;
    for (size_t i = 0, j = 0; i < from.size() || j < to.size();) {
        const size_t first_i = i, first_j = j;
        int64_t left = i < from.size() ? from[i++] : 1, right = j < to.size() ? to[j++] : 1;
        while (left != right) {
            if (left == 0 || right == 0) {
                return {};
            }
            left < right ? left *= from[i++] : right *= to[j++];
        }
        bool differs = first_i == 0;
        for (size_t a = first_i; a < i; a++) {
            differs = differs || step.first().size(static_cast<int64_t>(a)) != 1;
        }
        for (size_t a = first_i; a < i; a++) {
            expanded.push_back((differs ? from[a] : 1) * (a == 0 ? step.segments : 1));
        }
        for (size_t a = first_j; a < j; a++) {
            sizes.push_back((differs ? to[a] : 1) * (a == 0 ? step.segments : 1));
        }
    }
    return {step.first().expand(expanded).reshape(sizes)};
}

/* More of the same along axes of size 1, without new axes. */
std::vector<Reach> expansion(const Step &step) {
    const bool same_axes = step.first_alone() && step.first_shape().size() == step.out().size();
    return same_axes ? std::vector<Reach>{step.first()} : std::vector<Reach>();
}

/* Channels become places, r by r (pixel_shuffle), or the other way round. */
std::vector<Reach> shuffle(const Step &step) {
    if (!step.first_alone() || step.first_shape().size() != 4) {
        return {};
    }
    Reach mask = over(step.first(), {1});
    const int64_t r = step.node.fixed(1).toInt();
    const bool apart = step.node.name == "pixel_shuffle";
    for (int64_t a = 2; a < 4; a++) {
        Shape window{a == 2 ? r : 1, a == 3 ? r : 1};
        if (mask.size(a) != 1) {
            mask = apart ? mask.repeat_interleave(r, a) : at::max_pool2d(mask, window);
        }
    }
    return {mask};
}

const std::unordered_set<std::string> functions_of_values = {
    "abs",
    "add",
    "addcdiv",
    "addcmul",
    "alias",
    "alpha_dropout",
    "atan",
    "ceil",
    "celu",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "contiguous",
    "copysign",
    "cos",
    "detach",
    "div",
    "divide",
    "dropout",
    "elu",
    "eq",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "feature_alpha_dropout",
    "feature_dropout",
    "fill",
    "float",
    "floor",
    "floor_divide",
    "fmod",
    "frac",
    "ge",
    "gelu",
    "gt",
    "half",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "heaviside",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "leaky_relu",
    "lerp",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_sigmoid",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "maximum",
    "minimum",
    "mish",
    "mul",
    "multiply",
    "nan_to_num",
    "ne",
    "neg",
    "negative",
    "positive",
    "pow",
    "prelu",
    "reciprocal",
    "relu",
    "relu6",
    "remainder",
    "round",
    "rsqrt",
    "rsub",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softplus",
    "softshrink",
    "sqrt",
    "square",
    "sub",
    "subtract",
    "tan",
    "tanh",
    "threshold",
    "to",
    "trunc",
    "type_as",
    "where",
    "zeros_like",
    "ones_like",
    "_to_copy",
    "true_divide",
    "xlogy",
};

const std::unordered_map<std::string, Rule> rules = {
    {"batch_norm", batch_norm},
    {"instance_norm", instance_norm},
    {"layer_norm", layer_norm},
    {"rms_norm", layer_norm},
    {"linear", linear},
    {"matmul", matmul},
    {"bmm", matmul},
    {"softmax", along},
    {"_softmax", along},
    {"log_softmax", along},
    {"_log_softmax", along},
    {"cumsum", along},
    {"glu", along},
    {"sort", along},
    {"mean", reduction},
    {"sum", reduction},
    {"amax", reduction},
    {"amin", reduction},
    {"max", reduction},
    {"min", reduction},
    {"var", reduction},
    {"std", reduction},
    {"prod", reduction},
    {"logsumexp", reduction},
    {"argmax", reduction},
    {"argmin", reduction},
    {"any", reduction},
    {"all", reduction},
    {"conv1d", convolution},
    {"conv2d", convolution},
    {"conv3d", convolution},
    {"conv_transpose1d", transposed_convolution},
    {"conv_transpose2d", transposed_convolution},
    {"conv_transpose3d", transposed_convolution},
    {"max_pool1d", window_pool<1, true>},
    {"max_pool2d", window_pool<2, true>},
    {"max_pool3d", window_pool<3, true>},
    {"max_pool2d_with_indices", window_pool<2, true>},
    {"max_pool3d_with_indices", window_pool<3, true>},
    {"avg_pool1d", window_pool<1, false>},
    {"avg_pool2d", window_pool<2, false>},
    {"avg_pool3d", window_pool<3, false>},
    {"adaptive_avg_pool1d", adaptive_pool<1>},
    {"adaptive_avg_pool2d", adaptive_pool<2>},
    {"adaptive_avg_pool3d", adaptive_pool<3>},
    {"adaptive_max_pool1d", adaptive_pool<1>},
    {"adaptive_max_pool2d", adaptive_pool<2>},
    {"adaptive_max_pool3d", adaptive_pool<3>},
    {"upsample_nearest1d", upsampling},
    {"upsample_nearest2d", upsampling},
    {"upsample_nearest3d", upsampling},
    {"_upsample_nearest_exact1d", upsampling},
    {"_upsample_nearest_exact2d", upsampling},
    {"_upsample_nearest_exact3d", upsampling},
    {"upsample_linear1d", upsampling},
    {"upsample_bilinear2d", upsampling},
    {"upsample_trilinear3d", upsampling},
    {"pad", padding},
    {"constant_pad_nd", padding},
    {"slice", part},
    {"select", part},
    {"narrow", part},
    {"flip", part},
    {"index_select", part},
    {"roll", part},
    {"chunk", pieces},
    {"split", pieces},
    {"split_with_sizes", pieces},
    {"tensor_split", pieces},
    {"unbind", pieces},
    {"cat", concatenation},
    {"concat", concatenation},
    {"concatenate", concatenation},
    {"permute", permutation},
    {"transpose", permutation},
    {"movedim", permutation},
    {"moveaxis", permutation},
    {"swapaxes", permutation},
    {"swapdims", permutation},
    {"view", reshaping},
    {"reshape", reshaping},
    {"flatten", reshaping},
    {"unflatten", reshaping},
    {"squeeze", reshaping},
    {"unsqueeze", reshaping},
    {"_unsafe_view", reshaping},
    {"expand", expansion},
    {"expand_as", expansion},
    {"pixel_shuffle", shuffle},
    {"pixel_unshuffle", shuffle},
};

/* Whether a mask can stand for a value. */
bool fits(const Reach &mask, const Shape &shape, int64_t segments) {
    if (!mask.defined() || mask.dim() != static_cast<int64_t>(shape.size()) || mask.size(0) != segments * shape[0]) {
        return false;
    }
    for (size_t a = 1; a < shape.size(); a++) {
        const int64_t size = mask.size(static_cast<int64_t>(a));
        if (size != 1 && size != shape[a]) {
            return false;
        }
    }
    return true;
}

std::vector<Reach> results(const Step &step) {
    auto rule = rules.find(step.node.name);
    std::vector<Reach> found;
    if (functions_of_values.count(step.node.name) != 0) {
        found = by_place(step);
    } else if (rule != rules.end()) {
        found = rule->second(step);
    }
    found.resize(step.node.makes.size());
    return found;
}

/* Follow the masks through one node. */
void follow(const Program &program, const Node &node, int64_t segments, std::vector<Reach> &masks) {
    std::vector<Reach> read;
    bool samples_first = false;
    for (int value : node.reads) {
        const Value &v = program.values[static_cast<size_t>(value)];
        if (v.dependent) {
            read.push_back(masks[static_cast<size_t>(value)]);
            samples_first = samples_first || v.by_sample;
            if (!read.back().defined()) {
                return;
            }
        }
    }
    if (read.empty() || node.opaque || node.makes.empty() || node.makes[0] < 0) {
        return;
    }
    const std::vector<Reach> found = results({program, node, masks, segments});
    for (size_t k = 0; k < node.makes.size(); k++) {
        if (node.makes[k] < 0) {
            continue;
        }
        const auto value = static_cast<size_t>(node.makes[k]);
        const Value &v = program.values[value];
        if (fits(found[k], v.shape, segments)) {
            masks[value] = found[k].gt(0).to(at::kFloat);
        } else if (v.by_sample) {
            masks[value] = everywhere(read, v.shape, segments);
        }
        auto rule = rules.find(node.name);
        if (samples_first && !v.by_sample && (rule == rules.end() || rule->second != reshaping)) {
            masks[value] = Reach();
        }
    }
}

} // namespace

std::vector<Reach> reach_of(const Program &program, const Reach &in_image, const std::vector<int> &wanted) {
    std::vector<Reach> masks(program.values.size());
    std::vector<bool> stays(masks.size(), false);
    size_t end = 0;
    for (int value : wanted) {
        stays[static_cast<size_t>(value)] = true;
        end = std::max(end, static_cast<size_t>(program.values[static_cast<size_t>(value)].made_by + 1));
    }
    masks[static_cast<size_t>(program.input)] = in_image;
    for (size_t i = 0; i < end; i++) {
        const Node &node = program.nodes[i];
        if (!node.dependent || !node.needed) {
            continue;
        }
        follow(program, node, in_image.size(0), masks);
        for (int value : node.reads) {
            if (program.values[static_cast<size_t>(value)].last_read == static_cast<int>(i) &&
                !stays[static_cast<size_t>(value)]) {
                masks[static_cast<size_t>(value)] = Reach();
            }
        }
    }
    std::vector<Reach> found;
    for (int value : wanted) {
        found.push_back(masks[static_cast<size_t>(value)]);
    }
    return found;
}

} // namespace bridge
