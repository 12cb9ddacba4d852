/* calls.cpp - see calls.h. */
#include "calls.h"

#include <unordered_set>

namespace bridge {

int argument_named(const Step &step, const char *name) {
    const auto &arguments = step.op.schema().arguments();
    for (size_t i = 0; i < arguments.size() && i < step.arguments.size(); i++) {
        if (arguments[i].name() == name) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

namespace {

bool is_true(const Step &step, const char *name) {
    const int place = argument_named(step, name);
    const c10::IValue value = place < 0 ? c10::IValue() : step.arguments[static_cast<size_t>(place)].other;
    return value.isBool() && value.toBool();
}

/* Whether an operator that can draw random numbers draws some: dropout in eval mode does not. */
bool is_random(const Step &step) {
    if (!step.op.hasTag(at::Tag::nondeterministic_seeded)) {
        return false;
    }
    for (const char *name : {"train", "training"}) {
        if (argument_named(step, name) >= 0) {
            return is_true(step, name);
        }
    }
    const int place = argument_named(step, "dropout_p");
    return place < 0 || step.arguments[static_cast<size_t>(place)].other.toDouble() != 0;
}

bool is_batch_norm(const std::string &name) {
    static const std::unordered_set<std::string> names = {"aten::batch_norm", "aten::native_batch_norm",
                                                          "aten::_batch_norm_impl_index", "aten::cudnn_batch_norm"};
    return names.count(name) != 0;
}

} // namespace

std::string function_name(const c10::OperatorHandle &op) {
    const std::string &name = op.schema().name();
    std::string function = name.rfind("aten::", 0) == 0 ? name.substr(6) : name;
    const bool in_place = function.size() > 1 && function.back() == '_' && function[function.size() - 2] != '_';
    return in_place ? function.substr(0, function.size() - 1) : function;
}

bool is_pointwise(const std::string &function, const c10::OperatorHandle &op) {
    static const std::unordered_set<std::string> names = {
        "relu",     "relu6",       "gelu",       "silu",       "hardswish",   "hardsigmoid", "hardtanh",
        "elu",      "selu",        "celu",       "leaky_relu", "sigmoid",     "tanh",        "softplus",
        "mish",     "log_sigmoid", "threshold",  "clamp",      "where",       "masked_fill", "nan_to_num",
        "softsign", "softshrink",  "hardshrink", "tanhshrink", "square",      "rsub",        "addcmul",
        "addcdiv",  "lerp",        "logit",      "clip",       "floor_divide"};
    return names.count(function) != 0 || op.hasTag(at::Tag::pointwise);
}

bool passes_on(const std::string &function) {
    static const std::unordered_set<std::string> names = {
        "contiguous", "clone",      "detach",          "alias",         "to",       "_to_copy",    "dropout",
        "type_as",    "lift_fresh", "feature_dropout", "alpha_dropout", "positive", "detach_copy", "alias_copy"};
    return names.count(function) != 0;
}

void decline(const Step &step, const std::string &why, met_decline reason) {
    throw Declined(reason, why + " (" + step.op.schema().name() + ")");
}

void check_call(const Trace &a, const Step &step) {
    if (step.foreign_mode) {
        decline(step, "a part of the model runs in a mode of torch that can't be repeated");
    }
    if (is_random(step)) {
        decline(step, "the model draws random numbers", MET_DECLINE_MODEL_STATE);
    }
    const std::string &name = step.op.schema().name();
    if (is_batch_norm(name) && is_true(step, "training")) {
        decline(step, "samples influence each other by the statistics of their batch", MET_DECLINE_MODEL_STATE);
    }
    const int statistics = argument_named(step, "running_mean");
    if (is_true(step, "use_input_stats") && statistics >= 0 &&
        step.arguments[static_cast<size_t>(statistics)].is_tensor) {
        decline(step, "the model writes its running statistics", MET_DECLINE_MODEL_STATE);
    }
    for (size_t i = 0; i < step.arguments.size(); i++) {
        const Taped &written = step.arguments[i].tensor;
        if (is_written(step.op, i) && written.storage >= 0 && a.is_foreign(written.storage)) {
            decline(step, "the model writes to a tensor that it did not make in this run", MET_DECLINE_MODEL_STATE);
        }
    }
}

void check_dependent_call(const Step &step) {
    static const std::unordered_set<std::string> to_python = {"aten::item", "aten::_local_scalar_dense",
                                                              "aten::is_nonzero", "aten::equal", "aten::allclose"};
    const std::string &name = step.op.schema().name();
    if (to_python.count(name) != 0 || step.op.hasTag(at::Tag::data_dependent_output)) {
        decline(step, "the model decides by a value that depends on the input");
    }
    if (!step.op.hasTag(at::Tag::dynamic_output_shape)) {
        return;
    }
    bool by_values = name != "aten::index"; /* by numbers it has the shape of the numbers */
    for (size_t i = 1; i < step.arguments.size() && !by_values; i++) {
        for (const TapedValue &entry : step.arguments[i].entries) {
            const bool flags = entry.is_tensor && (entry.tensor.dtype == at::kBool || entry.tensor.dtype == at::kByte);
            by_values = by_values || (flags && !entry.tensor.constant.defined());
        }
    }
    if (by_values) {
        decline(step, "the shape of a value depends on the input");
    }
}

bool same_values(const at::Tensor &a, const at::Tensor &b) {
    if (a.is_same(b)) {
        return true;
    }
    if (!a.defined() || !b.defined() || a.sizes() != b.sizes() || a.dtype() != b.dtype() || a.device() != b.device()) {
        return false;
    }
    at::NoGradGuard off;
    if (at::equal(a, b)) {
        return true;
    }
    return at::isFloatingType(a.scalar_type()) && at::allclose(a, b, 0, 0, true);
}

bool same_others(const c10::IValue &a, const c10::IValue &b) {
    if (a.tagKind() != b.tagKind()) {
        return false;
    }
    if (a.isTensor()) { /* there is none: tensors are compared elsewhere */
        return !a.toTensor().defined() && !b.toTensor().defined();
    }
    if (a.isGenerator() || a.isObject() || a.isCapsule()) {
        return a.is(b);
    }
    if (a.isDoubleList()) {
        return a.toDoubleVector() == b.toDoubleVector();
    }
    return a == b;
}

} // namespace bridge
