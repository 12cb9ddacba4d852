/* run.cpp - running a program, or a part of it, without the model and without Python. */
#include "max_pool.h"
#include "modes.h"
#include "packed.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <unordered_set>

namespace bridge {

bool is_zero(const at::Tensor &x) {
    if (!x.device().is_cpu() || x.numel() == 0 || !at::isFloatingType(x.scalar_type()) ||
        !x.is_non_overlapping_and_dense()) {
        return false;
    }
    const auto *bytes = static_cast<const uint8_t *>(x.const_data_ptr());
    return bytes[0] == 0 && std::equal(bytes + 1, bytes + x.nbytes(), bytes); /* each is what the one before it is */
}

/* The smallest and the largest one tell, in one pass: any NaN is both. */
bool is_finite(const at::Tensor &x) {
    if (x.numel() == 0) {
        return true;
    }
    const at::Tensor line = x.is_non_overlapping_and_dense() ? x.as_strided({x.numel()}, {1}) : x;
    const auto [low, high] = at::aminmax(line);
    return std::isfinite(low.item<double>()) && std::isfinite(high.item<double>());
}

namespace {

bool is_dtype(const c10::Argument &argument) {
    c10::TypePtr type = argument.real_type();
    if (const auto optional = type->cast<c10::OptionalType>()) {
        type = optional->getElementType();
    }
    return type->kind() == c10::TypeKind::ScalarTypeType;
}

} // namespace

Run::Run(const Program &program, const Model &model, const std::vector<int64_t> &images)
    : program_(program), model_(model), samples_(static_cast<int64_t>(images.size())), slots_(program.slot_last.size()),
      given_(program.slot_last.size(), false), kept_(program.values.size()), keeps_(program.values.size(), false) {
    const std::vector<at::Tensor> entries = entries_of(model, images);
    for (size_t i = 0; i < entries.size(); i++) {
        give(program.extras[i], entries[i]);
    }
}

void Run::give(int value, at::Tensor tensor) {
    const auto slot = static_cast<size_t>(program_.values[static_cast<size_t>(value)].slot);
    given_[slot] = true;
    if (keeps_[static_cast<size_t>(value)]) {
        kept_[static_cast<size_t>(value)] = tensor;
    }
    slots_[slot] = program_.values[static_cast<size_t>(value)].overwritten ? tensor.clone() : std::move(tensor);
}

void Run::keep(int value) {
    keeps_[static_cast<size_t>(value)] = true;
}

const at::Tensor &Run::value(int value) const {
    const at::Tensor &kept = kept_[static_cast<size_t>(value)];
    return kept.defined() ? kept : slots_[static_cast<size_t>(program_.values[static_cast<size_t>(value)].slot)];
}

/* A fixed argument, in double where the run is. */
c10::IValue Run::constant(const c10::IValue &value) const {
    if (double_ && value.isTensor() && value.toTensor().defined() &&
        at::isFloatingType(value.toTensor().scalar_type())) {
        return value.toTensor().to(at::kDouble);
    }
    return value;
}

c10::IValue Run::argument(const Argument &a, bool dtype) const {
    switch (a.kind) {
    case Argument::Kind::fixed:
        if (double_ && dtype && a.fixed.isInt() && at::isFloatingType(static_cast<at::ScalarType>(a.fixed.toInt()))) {
            return static_cast<int64_t>(at::kDouble);
        }
        return constant(a.fixed);
    case Argument::Kind::value: return slots_[static_cast<size_t>(program_.values[static_cast<size_t>(a.value)].slot)];
    case Argument::Kind::integers: return a.at(samples_);
    default: break;
    }
    if (a.fixed.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const Argument &entry : a.entries) {
            list.push_back(argument(entry, false).toTensor());
        }
        return list;
    }
    c10::impl::GenericList list(a.fixed.toList().elementType());
    for (const Argument &entry : a.entries) { /* of optional tensors, say: those that are not there have no tensor */
        const c10::IValue value = argument(entry, false);
        list.push_back(value.isTensor() && !value.toTensor().defined() ? c10::IValue() : value);
    }
    return list;
}

/* Put a result where it is read; `reader` is the node that has made it. */
void Run::store(int value, const at::Tensor &tensor, int reader) {
    const Value &v = program_.values[static_cast<size_t>(value)];
    const auto slot = static_cast<size_t>(v.slot);
    if (keeps_[static_cast<size_t>(value)]) {
        kept_[static_cast<size_t>(value)] = v.overwritten ? tensor.clone() : tensor;
    }
    if (program_.slot_last[slot] > reader) {
        slots_[slot] = tensor;
    }
}

/* What a convolution or linear layer makes of zeros; undefined: it is given others, or is another operator. */
at::Tensor Run::of_zeros(const Node &node) const {
    static const std::unordered_set<std::string> names = {"conv1d", "conv2d", "conv3d", "linear"};
    const bool known = names.count(node.name) != 0 && !node.autocast && node.is_value(0) && node.is_constant(1) &&
                       !node.is_value(2) && node.reads.size() == 1 &&
                       program_.values[static_cast<size_t>(node.makes[0])].by_sample;
    if (!known || !is_zero(value(node.reads[0])) || !is_finite(node.constant(1))) {
        return {};
    }
    const Value &made = program_.values[static_cast<size_t>(node.makes[0])];
    std::vector<int64_t> shape = made.shape, along(shape.size(), 1);
    shape[0] = samples_;
    along[node.name == "linear" ? shape.size() - 1 : 1] = -1;
    const at::Tensor bias = node.constant(2);
    at::Tensor y = at::zeros(shape, node.constant(1).options().dtype(double_ ? at::kDouble : made.dtype));
    return bias.defined() ? y.copy_(bias.view(along)) : y;
}

/* What a node gives, by its operator or by what stands for it. */
torch::jit::Stack Run::results_of(const Node &node) const {
    if (zeros_) {
        const at::Tensor y = of_zeros(node);
        if (y.defined()) {
            return {y};
        }
    }
    if ((node.packed || node.pool) && !double_) {
        const Value &value = program_.values[static_cast<size_t>(node.reads[0])];
        const at::Tensor &x = slots_[static_cast<size_t>(value.slot)];
        const bool recorded = at::GradMode::is_enabled() && node.mode.get_grad_mode() && x.requires_grad();
        if (node.packed) {
            return {recorded ? node.packed->differentiable(x) : (*node.packed)(x)};
        }
        if (MaxPool::takes(x)) {
            return {recorded ? node.pool->differentiable(x) : (*node.pool)(x)};
        }
    }
    const auto &arguments = node.op.schema().arguments();
    torch::jit::Stack stack;
    stack.reserve(node.arguments.size());
    for (size_t a = 0; a < node.arguments.size(); a++) {
        stack.push_back(argument(node.arguments[a], double_ && is_dtype(arguments[a])));
    }
    const Modes modes(node, model_.device.type());
    node.op.callBoxed(stack);
    return stack;
}

void Run::execute(size_t i) {
    const Node &node = program_.nodes[i];
    torch::jit::Stack stack;
    try {
        stack = results_of(node);
    } catch (c10::Error &error) {
        error.add_context("in " + node.full_name());
        throw;
    }
    for (int v : node.reads) { /* before results are stored: memory is used again */
        const auto slot = static_cast<size_t>(program_.values[static_cast<size_t>(v)].slot);
        if (program_.slot_last[slot] <= static_cast<int>(i)) {
            slots_[slot].reset();
        }
    }
    size_t made = 0;
    for (const c10::IValue &result : stack) {
        if (result.isTensorList()) {
            for (const at::Tensor &tensor : result.toTensorVector()) {
                store(node.makes[made++], tensor, static_cast<int>(i));
            }
        } else if (node.makes[made] >= 0) {
            store(node.makes[made++], result.toTensor(), static_cast<int>(i));
        } else {
            made++;
        }
    }
}

void Run::go(size_t from, size_t to) {
    for (; done_ < from; done_++) {
        const Node &node = program_.nodes[done_];
        if (!node.needed || node.dependent) {
            continue;
        }
        const bool over = std::any_of(node.makes.begin(), node.makes.end(), [&](int v) {
            return v >= 0 && given_[static_cast<size_t>(program_.values[static_cast<size_t>(v)].slot)];
        });
        if (!over) {
            execute(done_);
        }
    }
    for (size_t i = from; i < to; i++) {
        if (program_.nodes[i].needed) {
            execute(i);
        }
    }
    done_ = std::max(done_, to);
}

} // namespace bridge
