/* batch_axis.cpp - see batch_axis.h. */
#include "batch_axis.h"

#include "calls.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>
#include <sstream>

namespace bridge {
namespace {

using Names = std::set<std::string>;
using Sizes = std::vector<int64_t>;

Names words(const std::string &text) {
    std::istringstream stream(text);
    return Names(std::istream_iterator<std::string>(stream), {});
}

/* A tensor that depends on the input, in the first run. */
struct Operand {
    const Taped *tensor;
    int axis;        /* of the samples */
    size_t argument; /* of the call */

    int64_t rank() const { return static_cast<int64_t>(tensor->shape.size()); }
    /* How many axes there are from that of the samples on. */
    int64_t from_right() const { return rank() - axis; }
    /* How many numbers there are before a step along that axis is made. */
    int64_t outside() const {
        return std::accumulate(tensor->shape.begin(), tensor->shape.begin() + axis, int64_t{1}, std::multiplies<>());
    }
};

/* A call, with the tensors that it reads and gives. */
struct Call {
    const Step &step;
    std::string name;
    std::vector<Operand> reads, gives;

    const c10::IValue *other(const char *argument) const {
        const int place = argument_named(step, argument);
        return place < 0 ? nullptr : &step.arguments[static_cast<size_t>(place)].other;
    }
    /* Numbers of an argument; nothing: it is not there, or is none. */
    std::optional<Sizes> numbers(const char *argument) const {
        const c10::IValue *value = other(argument);
        if (value != nullptr && value->isInt()) {
            return Sizes{value->toInt()};
        }
        return value != nullptr && value->isIntList() ? std::optional(value->toIntVector()) : std::nullopt;
    }
    bool is(const Names &names) const { return names.count(name) != 0; }
    /* Whether the samples lie along the first axis of all. */
    bool is_first() const {
        const auto first = [](const Operand &x) { return x.axis == 0; };
        return std::all_of(reads.begin(), reads.end(), first) && std::all_of(gives.begin(), gives.end(), first);
    }
    /* Whether they lie along the same axis of all, as tensors are broadcast. */
    bool is_aligned() const {
        const auto aligned = [&](const Operand &x) { return x.from_right() == reads[0].from_right(); };
        return std::all_of(reads.begin(), reads.end(), aligned) && std::all_of(gives.begin(), gives.end(), aligned);
    }
};

/* Whether a constant says the same of every sample. */
bool is_for_all(const Taped &a, const Taped &b, const RunSizes &sizes) {
    if (same_values(a.constant, b.constant)) {
        return true;
    }
    const int axis = batch_axis(a, b, sizes);
    if (axis < 0 || a.constant.device() != b.constant.device() || a.constant.dtype() != b.constant.dtype()) {
        return false;
    }
    const at::NoGradGuard off;
    const auto by_sample = [&](const at::Tensor &x, int64_t samples) { return x.unflatten(axis, {samples, -1}); };
    const at::Tensor of_a = by_sample(a.constant, sizes.first), of_b = by_sample(b.constant, sizes.second);
    const at::Tensor one = of_a.narrow(axis, 0, 1);
    return at::equal(of_a, one.expand_as(of_a)) && at::equal(of_b, one.expand_as(of_b));
}

/* Add the dependent tensors of an argument or a result; false: the samples do not lie along an axis of one. */
bool collect(const TapedValue &a, const TapedValue &b, size_t argument, const RunSizes &sizes,
             std::vector<Operand> *found) {
    if (a.is_tensor && a.tensor.constant.defined()) {
        return b.tensor.constant.defined() && is_for_all(a.tensor, b.tensor, sizes);
    }
    if (a.is_tensor) {
        const int axis = batch_axis(a.tensor, b.tensor, sizes);
        found->push_back({&a.tensor, axis, argument});
        return axis >= 0;
    }
    bool all = true;
    for (size_t i = 0; i < a.entries.size(); i++) {
        all = collect(a.entries[i], b.entries[i], argument, sizes, found) && all;
    }
    return all;
}

/* The call in the first of two runs; false: the samples do not lie along an axis of all that it reads and gives. */
bool read(const Step &a, const Step &b, const RunSizes &sizes, Call *call) {
    bool found = true;
    for (size_t i = 0; i < a.arguments.size(); i++) {
        found = collect(a.arguments[i], b.arguments[i], i, sizes, &call->reads) && found;
    }
    for (size_t i = 0; i < a.results.size() && !call->reads.empty(); i++) {
        found = collect(a.results[i], b.results[i], i, sizes, &call->gives) && found;
    }
    return found;
}

/* Functions of each value, and what passes values on. */
bool by_value(const Call &call, const Step &again) {
    static const Names names = words("zeros_like ones_like copy fill zero float double");
    if (!call.is(names) && !passes_on(call.name) && !is_pointwise(call.name, call.step.op)) {
        return false;
    }
    for (size_t i = 0; i < call.step.arguments.size(); i++) { /* a number may be how many samples there are */
        const TapedValue &one = call.step.arguments[i];
        if (!one.is_tensor && !one.is_list && !same_others(one.other, again.arguments[i].other)) {
            return false;
        }
    }
    return call.is_aligned();
}

/* A sum or the like over other axes: over that of the samples it would leave one number for all. */
bool reduces(const Call &call) {
    static const Names names =
        words("mean sum amax amin linalg_vector_norm norm logsumexp var std prod any all argmax argmin "
              "max min var_mean std_mean median nansum");
    return call.is(names) && call.reads.size() == 1;
}

/* Layers that are defined on samples along the first axis. */
bool is_of_batches(const Call &call) {
    static const Names names =
        words("conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d "
              "conv_transpose3d batch_norm native_batch_norm instance_norm group_norm "
              "native_group_norm prelu max_pool1d max_pool2d max_pool3d max_pool2d_with_indices "
              "max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
              "adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
              "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d "
              "upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
              "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d "
              "upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d pixel_shuffle "
              "pixel_unshuffle channel_shuffle im2col col2im grid_sampler grid_sampler_2d "
              "grid_sampler_3d pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
              "replication_pad1d replication_pad2d replication_pad3d _pad_circular _pad_enum");
    return call.is(names) && call.is_first();
}

/* Whether a call names the axis that it works along, and whether that is the one of the samples. */
std::optional<bool> is_along_samples(const Call &call) {
    std::optional<Sizes> axes = call.numbers("dim");
    axes = axes ? axes : call.numbers("dims");
    if (!axes || axes->empty() || call.reads.empty() || call.gives.empty()) {
        return std::nullopt;
    }
    const Operand &where = call.name == "stack" ? call.gives[0] : call.reads[0];
    return std::any_of(axes->begin(), axes->end(),
                       [&](int64_t axis) { return (axis < 0 ? axis + where.rank() : axis) == where.axis; });
}

/* What along the axis of the samples computes something of several. */
const Names &computing() {
    static const Names names =
        words("softmax log_softmax _softmax _log_softmax cumsum cumprod cummax cummin logcumsumexp "
              "sort argsort");
    return names;
}

/* Softmax, sums along an axis, slices and the like: along another axis. */
bool goes_along_another(const Call &call) {
    static const Names moving =
        words("topk kthvalue select slice narrow chunk split split_with_sizes unsafe_chunk "
              "unsafe_split tensor_split unbind glu cat concat concatenate stack roll flip gather "
              "diff");
    const auto same = [&](const Operand &x) { return x.axis == call.reads[0].axis; };
    return (call.is(computing()) || call.is(moving)) && is_along_samples(call) == false &&
           std::all_of(call.reads.begin(), call.reads.end(), same);
}

/* Axes in another order. */
bool permutes(const Call &call) {
    static const Names swaps = words("transpose swapaxes swapdims t mT numpy_T permute");
    if (!call.is(swaps) || call.reads.size() != 1) {
        return false;
    }
    const int64_t rank = call.reads[0].rank();
    Sizes order(static_cast<size_t>(rank)); /* the axis of what is read, by axis of what is given */
    std::iota(order.begin(), order.end(), 0);
    const auto place = [&](int64_t axis) { return static_cast<size_t>(axis < 0 ? axis + rank : axis); };
    if (call.name == "permute") {
        const std::optional<Sizes> dims = call.numbers("dims");
        for (size_t i = 0; dims && i < dims->size(); i++) {
            order[i] = static_cast<int64_t>(place((*dims)[i]));
        }
    } else if (call.name == "numpy_T") {
        std::reverse(order.begin(), order.end());
    } else if (rank >= 2) {
        const auto axis = [&](const char *name, const char *also) {
            const std::optional<Sizes> one = call.numbers(name), two = call.numbers(also);
            return one ? (*one)[0] : two ? (*two)[0] : -1;
        };
        const bool last = call.name == "t" || call.name == "mT";
        std::swap(order[place(last ? -2 : axis("dim0", "axis0"))], order[place(last ? -1 : axis("dim1", "axis1"))]);
    }
    return order[static_cast<size_t>(call.gives[0].axis)] == call.reads[0].axis;
}

/* Other axes over the same numbers in the same order: a sample's stay together where a step along its axis starts there. */
bool reshapes(const Call &call) {
    static const Names names = words("view reshape _unsafe_view view_as reshape_as flatten unflatten unsqueeze squeeze "
                                     "_reshape_alias");
    const bool known = call.is(names) && call.reads[0].outside() == call.gives[0].outside();
    return known || (call.is({"expand", "expand_as", "broadcast_to"}) && call.is_aligned());
}

/* Products of matrices whose samples lie along an axis in front of both, or along the rows that are no sums. */
bool multiplies(const Call &call) {
    if (!call.is({"linear", "matmul", "mm", "bmm", "addmm", "baddbmm"})) {
        return false;
    }
    const size_t left = call.name == "addmm" || call.name == "baddbmm" ? 1 : 0;
    if (call.reads.size() == 1) {
        const Operand &x = call.reads[0];
        return x.argument == left
                   ? x.rank() >= 2 && x.from_right() > 1
                   : x.argument == left + 1 && call.name != "linear" && x.rank() >= 2 && x.from_right() != 2;
    }
    const bool both = call.reads.size() == 2 && call.reads[0].argument == left && call.reads[1].argument == left + 1;
    return both && call.is_aligned() && call.reads[0].from_right() >= 3;
}

/* Attention, whose samples and heads lie in front of places and features. */
bool attends(const Call &call) {
    return call.is({"scaled_dot_product_attention"}) && call.is_aligned() && call.reads[0].from_right() >= 3;
}

/* Recurrent layers, in the layout that they are told; states have the samples along axis 1. */
bool recurs(const Call &call) {
    const c10::IValue *first = call.other("batch_first");
    if (!call.is({"gru", "lstm", "rnn_tanh", "rnn_relu"}) || first == nullptr || !first->isBool()) {
        return false;
    }
    const int axis = first->toBool() ? 0 : 1;
    bool along = call.reads[0].argument == 0 && call.reads[0].rank() == 3 && call.reads[0].axis == axis;
    for (size_t i = 1; i < call.reads.size(); i++) {
        along = along && call.reads[i].axis == 1;
    }
    for (const Operand &result : call.gives) {
        along = along && result.axis == (result.argument == 0 ? axis : 1);
    }
    return along;
}

/* Norms over the last axes. */
bool normalizes(const Call &call) {
    const std::optional<Sizes> shape = call.numbers("normalized_shape");
    return call.is({"layer_norm", "native_layer_norm", "rms_norm"}) && shape && call.reads.size() == 1 &&
           call.reads[0].from_right() > static_cast<int64_t>(shape->size());
}

} // namespace

int batch_axis(const Taped &a, const Taped &b, const RunSizes &sizes) {
    int found = -1;
    if (a.shape.size() != b.shape.size()) {
        return -1;
    }
    for (size_t d = 0; d < a.shape.size(); d++) {
        if (a.shape[d] == b.shape[d]) {
            continue;
        }
        if (found >= 0 || a.shape[d] % sizes.first != 0 || a.shape[d] / sizes.first * sizes.second != b.shape[d]) {
            return -1;
        }
        found = static_cast<int>(d);
    }
    return found;
}

bool keeps_samples_apart(const Step &a, const Step &b, const RunSizes &sizes) {
    Call call{a, function_name(a.op), {}, {}};
    const bool found = read(a, b, sizes, &call);
    if (call.reads.empty()) { /* what it gives is looked at where it is read */
        return true;
    }
    return found && !call.gives.empty() &&
           (by_value(call, b) || reduces(call) || is_of_batches(call) || goes_along_another(call) || permutes(call) ||
            reshapes(call) || multiplies(call) || attends(call) || recurs(call) || normalizes(call));
}

bool works_along_samples(const Step &a, const Step &b, const RunSizes &sizes) {
    Call call{a, function_name(a.op), {}, {}};
    return call.is(computing()) && read(a, b, sizes, &call) && is_along_samples(call) == true;
}

} // namespace bridge
