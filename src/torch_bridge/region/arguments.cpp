/* arguments.cpp - arguments of operators by the names of their schemas, and operators called with other tensors. */
#include "region/rules.h"

namespace bridge::region {

std::optional<size_t> place_of(const Node &node, const char *name) {
    const std::optional<int> found = node.op.schema().argumentIndexWithName(name);
    return found ? std::optional<size_t>(static_cast<size_t>(*found)) : std::nullopt;
}

c10::IValue fixed_of(const Node &node, const char *name) {
    const std::optional<size_t> place = place_of(node, name);
    return place ? node.fixed(*place) : c10::IValue();
}

bool are_fixed(const Node &node, const Strings &names) {
    return std::all_of(names.begin(), names.end(), [&](const std::string &name) {
        const std::optional<size_t> place = place_of(node, name.c_str());
        return !place || node.arguments[*place].kind == Argument::Kind::fixed;
    });
}

at::Tensor constant_of(const Node &node, const char *name) {
    const c10::IValue value = fixed_of(node, name);
    return value.isTensor() ? value.toTensor() : at::Tensor();
}

int64_t integer_of(const Node &node, const char *name, int64_t otherwise) {
    const c10::IValue value = fixed_of(node, name);
    return value.isInt() ? value.toInt() : otherwise;
}

bool flag_of(const Node &node, const char *name, bool otherwise) {
    const c10::IValue value = fixed_of(node, name);
    return value.isBool() ? value.toBool() : otherwise;
}

Ints integers_of(const Node &node, const char *name, size_t n, int64_t otherwise) {
    const std::optional<size_t> place = place_of(node, name);
    return place ? node.integers(*place, n, otherwise) : Ints(n, otherwise);
}

Ints axes_of(const Node &node, const char *name, size_t rank) {
    const c10::IValue value = fixed_of(node, name);
    Ints found = value.isIntList() ? value.toIntVector() : value.isInt() ? Ints{value.toInt()} : Ints{};
    for (int64_t &axis : found) {
        axis += axis < 0 ? static_cast<int64_t>(rank) : 0;
    }
    return found;
}

/* Whether a value has places for boxes. */
static bool is_regional(const Value &v) {
    return v.by_sample && v.shape.size() >= 2 && v.shape.size() <= Box::MOST_AXES + 1;
}

std::optional<Operand> operand_of(const Program &p, int value) {
    const Value &v = p.values[static_cast<size_t>(value)];
    if (!is_regional(v)) {
        return std::nullopt;
    }
    return Operand{value, {}, v.shape, v.dependent};
}

std::optional<Operand> operand_of(const Program &p, const Node &node, size_t argument) {
    return node.is_value(argument) ? operand_of(p, node.arguments[argument].value) : std::nullopt;
}

std::optional<Operand> lone_operand(const Program &p, const Node &node) {
    const bool lone = !node.arguments.empty() && node.is_value(0) && node.reads.size() == 1;
    return lone ? operand_of(p, node, 0) : std::nullopt;
}

std::optional<Ints> shape_of(const Program &p, const Node &node, size_t result) {
    if (result >= node.makes.size() || node.makes[result] < 0) {
        return std::nullopt;
    }
    const Value &v = p.values[static_cast<size_t>(node.makes[result])];
    return is_regional(v) ? std::optional<Ints>(v.shape) : std::nullopt;
}

std::optional<c10::OperatorHandle> function_of(const Node &node) {
    const c10::OperatorName &name = node.op.operator_name();
    if (!node.op.schema().is_mutable()) {
        return node.op;
    }
    if (name.name.empty() || name.name.back() != '_') {
        return std::nullopt;
    }
    std::string plain = name.name.substr(0, name.name.size() - 1);
    auto found = c10::Dispatcher::singleton().findSchema({plain, name.overload_name});
    const bool alike = found && found->schema().arguments().size() == node.op.schema().arguments().size() &&
                       !found->schema().is_mutable();
    return alike ? found : std::nullopt;
}

std::vector<at::Tensor> Call::operator()(const std::vector<at::Tensor> &tensors, int64_t samples) const {
    torch::jit::Stack stack;
    for (size_t a = 0; a < node->arguments.size(); a++) {
        const Argument &argument = node->arguments[a];
        if (argument.kind != Argument::Kind::list) {
            stack.push_back(argument.kind == Argument::Kind::value ? c10::IValue(at::Tensor()) : argument.at(samples));
            continue;
        }
        c10::impl::GenericList list(argument.fixed.toList().elementType());
        for (const Argument &entry : argument.entries) {
            list.push_back(entry.kind == Argument::Kind::fixed ? entry.fixed : c10::IValue(at::Tensor()));
        }
        stack.emplace_back(list);
    }
    for (size_t k = 0; k < places.size(); k++) {
        const auto [argument, entry] = places[k];
        if (entry < 0) {
            stack[argument] = tensors[k];
        } else {
            stack[argument].toList().set(static_cast<size_t>(entry), tensors[k]);
        }
    }
    op.callBoxed(stack);
    std::vector<at::Tensor> results;
    for (const c10::IValue &value : stack) {
        if (value.isTensorList()) {
            const std::vector<at::Tensor> list = value.toTensorVector();
            results.insert(results.end(), list.begin(), list.end());
        } else {
            results.push_back(value.isTensor() ? value.toTensor() : at::Tensor());
        }
    }
    return results;
}

} // namespace bridge::region
