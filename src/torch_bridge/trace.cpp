/* trace.cpp - see trace.h. */
#include "trace.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>
#include <unordered_set>

namespace bridge {

namespace {

thread_local Trace *current = nullptr;

/* Every tensor in a value: lists and tuples hold more of them. */
void each_tensor(const c10::IValue &value, const std::function<void(const at::Tensor &)> &look) {
    if (value.isTensor()) {
        if (value.toTensor().defined()) {
            look(value.toTensor());
        }
    } else if (value.isTensorList()) {
        for (const at::Tensor &tensor : value.toTensorVector()) {
            look(tensor);
        }
    } else if (value.isList()) {
        for (const c10::IValue &entry : value.toListRef()) {
            each_tensor(entry, look);
        }
    } else if (value.isTuple()) {
        for (const c10::IValue &entry : value.toTupleRef().elements()) {
            each_tensor(entry, look);
        }
    }
}

/* Operators that give a number or a decision to whoever calls them. */
bool gives_to_python(const std::string &name) {
    static const std::unordered_set<std::string> names = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero",
                                                          "aten::equal", "aten::allclose"};
    return names.count(name) != 0;
}

} // namespace

struct Trace::Observed : at::ObserverContext {
    bool counted = false; /* it has raised the depth */
    bool kept = false;    /* it is the last step */
};

Trace::Value Trace::value_of(const at::Tensor &tensor, bool written) {
    using Tensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;
    using Storage = c10::weak_intrusive_ptr<c10::StorageImpl>;
    return {Tensor(tensor.getIntrusivePtr()),
            tensor.has_storage() ? tensor.storage().getWeakStorageImpl()
                                 : Storage(c10::intrusive_ptr<c10::StorageImpl>()),
            written};
}

std::unique_ptr<at::ObserverContext> Trace::on_start(const at::RecordFunction &function) {
    auto context = std::make_unique<Observed>();
    auto name = function.operator_name();
    if (current == nullptr || !name) {
        return context;
    }
    context->counted = true;
    if (current->depth_++ > 0) {
        return context;
    }
    context->kept = true;
    Step step{*name, {}, {}};
    const auto schema = c10::Dispatcher::singleton().findSchema(*name);
    size_t argument = 0;
    for (const c10::IValue &value : function.inputs()) {
        bool written = false;
        if (schema && argument < schema->schema().arguments().size()) {
            const auto *alias = schema->schema().arguments()[argument].alias_info();
            written = alias != nullptr && alias->isWrite();
        }
        each_tensor(value, [&](const at::Tensor &tensor) { step.in.push_back(value_of(tensor, written)); });
        argument++;
    }
    current->steps_.push_back(std::move(step));
    return context;
}

void Trace::on_end(const at::RecordFunction &function, at::ObserverContext *context) {
    const auto *observed = static_cast<const Observed *>(context);
    if (current == nullptr || !observed->counted) {
        return;
    }
    current->depth_--;
    if (observed->kept) {
        for (const c10::IValue &value : function.outputs()) {
            each_tensor(value, [&](const at::Tensor &tensor) {
                current->steps_.back().out.push_back(value_of(tensor, false));
            });
        }
    }
}

Trace::Trace(const at::Tensor &input) : outer_(current), input_(value_of(input, false)) {
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(on_start, on_end)
                                             .needsInputs(true)
                                             .needsOutputs(true)
                                             .scopes({at::RecordScope::FUNCTION}));
    current = this;
}

Trace::~Trace() {
    current = outer_;
    at::removeCallback(handle_);
}

size_t Trace::position() {
    return current == nullptr ? 0 : current->steps_.size();
}

/* Which values depend on the input otherwise than by the cut; and which depend on it at all. */
class Trace::Dependence {
  public:
    void add(const Value &value) {
        tensors_.insert(value.tensor._unsafe_get_target());
        if (const void *storage = value.storage._unsafe_get_target()) {
            storages_.insert(storage);
        }
    }
    void remove(const Value &value) {
        tensors_.erase(value.tensor._unsafe_get_target());
        storages_.erase(value.storage._unsafe_get_target());
    }
    /* A tensor is known by itself; another one by the memory that it shares. */
    bool holds(const Value &value) const {
        return tensors_.count(value.tensor._unsafe_get_target()) != 0 ||
               storages_.count(value.storage._unsafe_get_target()) != 0;
    }

  private:
    std::unordered_set<const void *> tensors_, storages_;
};

std::string Trace::why_not_behind(const at::Tensor &cut, size_t position, const at::Tensor &output) const {
    Dependence on_input, beside; /* what depends on the input at all, and what not by the cut alone */
    const Value end = value_of(cut, false), result = value_of(output, false);
    on_input.add(input_);
    beside.add(input_);
    std::vector<std::pair<size_t, const Value *>> made; /* values that depend on the input beside the cut */
    for (size_t i = 0; i <= steps_.size(); i++) {
        if (i == position) {
            beside.remove(end);
        }
        if (i == steps_.size()) {
            break;
        }
        const Step &step = steps_[i];
        bool reads = false, reads_beside = false;
        for (const Value &value : step.in) {
            reads = reads || on_input.holds(value);
            reads_beside = reads_beside || beside.holds(value);
        }
        if (reads_beside && gives_to_python(step.name.name)) {
            return "the model decides by a value that depends on the input (" + step.name.name + ")";
        }
        for (const Value &value : step.in) {
            if (value.written) {
                if (reads) {
                    on_input.add(value);
                }
                if (reads_beside) {
                    beside.add(value);
                }
            }
        }
        for (const Value &value : step.out) {
            if (reads) {
                on_input.add(value);
            }
            if (reads_beside) {
                beside.add(value);
                made.emplace_back(i, &value);
            }
        }
    }
    if (!on_input.holds(result)) {
        return "the model's output does not come from its input by operators that torch records";
    }
    if (beside.holds(result)) {
        return "the input is read again behind the stem";
    }
    for (const auto &[i, value] : made) {
        bool read = value->tensor._unsafe_get_target() == end.tensor._unsafe_get_target();
        for (size_t later = i + 1; later < steps_.size() && !read; later++) {
            for (const Value &in : steps_[later].in) {
                read = read || in.tensor._unsafe_get_target() == value->tensor._unsafe_get_target();
            }
        }
        if (!read) {
            return "a value that depends on the input leaves torch's operators (" + steps_[i].name.name + ")";
        }
    }
    return "";
}

} // namespace bridge
