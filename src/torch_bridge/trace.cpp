/* trace.cpp - see trace.h. */
#include "trace.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/variable.h>

namespace bridge {

namespace {

thread_local Trace *current = nullptr;

/* Whether anything waits for the gradient of a tensor. */
bool has_hooks(const at::Tensor &tensor) {
    return tensor.requires_grad() && !torch::autograd::impl::hooks(tensor).empty();
}

} // namespace

void wait_for(at::Device device) {
    if (!device.is_cpu()) {
        const c10::impl::VirtualGuardImpl guard(device.type());
        guard.synchronizeDevice(device.has_index() ? device.index() : guard.getDevice().index());
    }
}

struct Trace::Observed : at::ObserverContext {
    bool counted = false; /* it has raised the depth */
    bool kept = false;    /* it is the last step */
};

bool is_written(const c10::OperatorHandle &op, size_t argument) {
    const auto &arguments = op.schema().arguments();
    const auto *alias = argument < arguments.size() ? arguments[argument].alias_info() : nullptr;
    return alias != nullptr && alias->isWrite();
}

/* ---- identities */

int Trace::storage_of(const at::Tensor &tensor, bool foreign) {
    if (!tensor.has_storage()) {
        return -1;
    }
    const c10::StorageImpl *key = tensor.storage().unsafeGetStorageImpl();
    const auto found = storage_of_.find(key);
    if (found != storage_of_.end()) {
        return found->second;
    }
    const int number = static_cast<int>(memory_.size());
    storage_of_.emplace(key, number);
    memory_.push_back(tensor.storage().getWeakStorageImpl());
    foreign_.push_back(foreign);
    dependent_.push_back(false);
    made_there_.emplace_back();
    return number;
}

/*
 * The slot of a tensor; -1: no operator of the run has given it. Functions such as torch.zeros hand out another tensor than
 * the operator gave, over the same memory.
 */
int Trace::slot_of(const at::Tensor &tensor, int storage) {
    const c10::TensorImpl *key = tensor.unsafeGetTensorImpl();
    const auto found = slot_of_.find(key);
    if (found != slot_of_.end() || storage < 0) {
        return found == slot_of_.end() ? -1 : found->second;
    }
    const at::Tensor &made = made_there_[static_cast<size_t>(storage)];
    const bool same = made.defined() && made.sizes() == tensor.sizes() && made.strides() == tensor.strides() &&
                      made.storage_offset() == tensor.storage_offset() && made.scalar_type() == tensor.scalar_type();
    if (!same) {
        return -1;
    }
    const int slot = slot_of_.at(made.unsafeGetTensorImpl());
    slot_of_.emplace(key, slot);
    handed_out_.emplace_back(tensor.getIntrusivePtr());
    return slot;
}

bool Trace::depends(const at::Tensor &tensor) const {
    if (tensor.has_storage()) {
        const auto found = storage_of_.find(tensor.storage().unsafeGetStorageImpl());
        return found != storage_of_.end() && dependent_[static_cast<size_t>(found->second)];
    }
    const auto found = slot_of_.find(tensor.unsafeGetTensorImpl());
    return found != slot_of_.end() && slot_dependent_[static_cast<size_t>(found->second)];
}

namespace {

void describe(const at::Tensor &tensor, Taped *out) {
    out->grad = tensor.requires_grad();
    out->hooked = has_hooks(tensor);
    out->shape = tensor.sizes().vec();
    out->dtype = tensor.scalar_type();
}

} // namespace

/* A tensor that an operator is given. */
Taped Trace::read(const at::Tensor &tensor) {
    Taped taped;
    describe(tensor, &taped);
    taped.storage = storage_of(tensor, true);
    taped.slot = slot_of(tensor, taped.storage);
    const bool dependent = taped.storage >= 0 ? dependent_[static_cast<size_t>(taped.storage)]
                                              : taped.slot >= 0 && slot_dependent_[static_cast<size_t>(taped.slot)];
    taped.alias = dependent && taped.slot < 0;
    depends_ = depends_ || dependent;
    if (!dependent) {
        taped.constant = tensor;
    }
    return taped;
}

/* A tensor that an operator gives, or that the model is given. */
Taped Trace::make(const at::Tensor &tensor) {
    Taped taped;
    describe(tensor, &taped);
    const c10::TensorImpl *key = tensor.unsafeGetTensorImpl();
    taped.storage = storage_of(tensor, false);
    const auto found = slot_of_.find(key);
    if (found != slot_of_.end()) {
        taped.slot = found->second;
    } else {
        taped.slot = static_cast<int>(tensors_.size());
        slot_of_.emplace(key, taped.slot);
        tensors_.emplace_back(tensor.getIntrusivePtr());
        slot_dependent_.push_back(false);
    }
    if (depends_) {
        slot_dependent_[static_cast<size_t>(taped.slot)] = true;
        if (taped.storage >= 0) {
            dependent_[static_cast<size_t>(taped.storage)] = true;
        }
    } else {
        taped.constant = tensor;
        if (taped.storage >= 0) {
            made_there_[static_cast<size_t>(taped.storage)] = tensor;
        }
    }
    return taped;
}

template <typename Look> TapedValue Trace::tape(const c10::IValue &value, const Look &look) {
    TapedValue taped;
    if (value.isTensor()) {
        taped.is_tensor = value.toTensor().defined();
        if (taped.is_tensor) {
            taped.tensor = look(value.toTensor());
        } else {
            taped.other = value;
        }
    } else if (value.isTensorList()) {
        taped.is_list = true;
        for (const at::Tensor &tensor : value.toTensorVector()) {
            taped.entries.push_back(tape(c10::IValue(tensor), look));
        }
        taped.other = value;
    } else if (value.isList() && !value.isIntList() && !value.isDoubleList() && !value.isBoolList()) {
        taped.is_list = true;
        for (const c10::IValue &entry : value.toListRef()) {
            taped.entries.push_back(tape(entry, look));
        }
        taped.other = value;
    } else {
        taped.other = value;
    }
    if (taped.is_list) { /* its type alone: what is in it stands in the entries */
        taped.other = value.isTensorList() ? c10::IValue(c10::List<at::Tensor>())
                                           : c10::IValue(c10::impl::GenericList(value.toList().elementType()));
    }
    return taped;
}

/* ---- the callbacks */

void Trace::start(const c10::OperatorHandle &op, c10::ArrayRef<const c10::IValue> inputs) {
    Step step(op);
    depends_ = false;
    for (const c10::IValue &value : inputs) {
        step.arguments.push_back(tape(value, [&](const at::Tensor &tensor) { return read(tensor); }));
    }
    step.mode = c10::AutogradState::get_tls_state();
    step.autocast = at::autocast::is_autocast_enabled(device_.type());
    step.autocast_dtype = at::autocast::get_autocast_dtype(device_.type());
    /* Transforms (vmap, grad of functions), modes of Python and inference mode stand between a call and its kernel. */
    const c10::DispatchKeySet transforms({c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::FuncTorchVmapMode,
                                          c10::DispatchKey::FuncTorchGradWrapper,
                                          c10::DispatchKey::FuncTorchDynamicLayerFrontMode,
                                          c10::DispatchKey::Functionalize, c10::DispatchKey::Python});
    step.foreign_mode =
        step.mode.get_inference_mode() || !(c10::impl::tls_local_dispatch_key_set().included_ & transforms).empty();
    if (depends_) { /* whatever is written depends on the input from here on */
        for (size_t i = 0; i < inputs.size(); i++) {
            if (is_written(op, i) && inputs[i].isTensor() && inputs[i].toTensor().defined()) {
                const Taped &written = step.arguments[i].tensor;
                if (written.storage >= 0) {
                    dependent_[static_cast<size_t>(written.storage)] = true;
                }
                if (written.slot >= 0) {
                    slot_dependent_[static_cast<size_t>(written.slot)] = true;
                }
            }
        }
    }
    steps.push_back(std::move(step));
    begun_ = std::chrono::steady_clock::now();
}

void Trace::end(const std::vector<c10::IValue> &outputs) {
    Step &step = steps.back();
    wait_for(device_);
    step.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
    for (const c10::IValue &value : outputs) {
        step.results.push_back(tape(value, [&](const at::Tensor &tensor) { return make(tensor); }));
    }
    const bool lone = outputs.size() == 1 && outputs[0].isTensor() && outputs[0].toTensor().defined() &&
                      outputs[0].toTensor().requires_grad();
    edges.resize(steps.size());
    edges.back() = lone ? torch::autograd::impl::gradient_edge(outputs[0].toTensor()) : torch::autograd::Edge();
}

std::unique_ptr<at::ObserverContext> Trace::on_start(const at::RecordFunction &function) {
    auto context = std::make_unique<Observed>();
    const auto name = function.operator_name();
    if (current == nullptr || !name) {
        return context;
    }
    context->counted = true;
    if (current->depth_++ > 0) {
        return context;
    }
    const auto op = c10::Dispatcher::singleton().findSchema(*name);
    if (op) {
        try { /* what is thrown here would not reach anybody */
            current->start(*op, function.inputs());
            context->kept = true;
        } catch (const std::exception &) {
            current->unreadable = c10::toString(*name);
        }
    }
    return context;
}

void Trace::on_end(const at::RecordFunction &function, at::ObserverContext *context) {
    const auto *observed = static_cast<const Observed *>(context);
    if (current == nullptr || observed == nullptr || !observed->counted) {
        return;
    }
    current->depth_--;
    if (observed->kept) {
        try {
            current->end({function.outputs().begin(), function.outputs().end()});
        } catch (const std::exception &) {
            current->unreadable = current->steps.back().op.schema().name();
        }
    }
}

Trace::Trace(const std::vector<at::Tensor> &inputs, at::Device device, size_t varying)
    : outer_(current), device_(device) {
    for (size_t i = 0; i < inputs.size(); i++) {
        depends_ = i < varying;
        given.push_back(make(inputs[i]));
    }
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(on_start, on_end)
                                             .needsInputs(true)
                                             .needsOutputs(true)
                                             .scopes({at::RecordScope::FUNCTION}));
    recording_ = true;
    current = this;
}

Trace::~Trace() {
    if (recording_) {
        current = outer_;
        at::removeCallback(handle_);
    }
}

void Trace::stop(const at::Tensor &y) {
    current = outer_;
    at::removeCallback(handle_);
    recording_ = false;
    output = read(y);
}

} // namespace bridge
