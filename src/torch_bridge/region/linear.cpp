/* linear.cpp - products with constant matrices along one axis. */
#include "region/rules.h"

#include <map>

namespace bridge::region {
namespace {

/* A product that reads one or more axes whole, with constants. */
struct Product : Separable {
    explicit Product(Call c) : call(std::move(c)) {}
    Call call;
    at::Tensor weight; /* linear: (outputs, inputs), to update from part of the inputs */

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        return call(patches, patches[0].size(0))[0];
    }

    void phase(const Changes &changed, const Box &, size_t, Ints *key) const override {
        key->push_back(
            changed[0] == nullptr ? 0 : changed[0]->last().first); /* an update reads these columns of the weight */
    }

    bool updates(const Changes &changed, bool differences) const override {
        return differences && weight.defined() && changed[0]->last().size() < weight.size(1);
    }

    at::Tensor update(const Update &u, const Box &) const override {
        const Range part = u.changed.last();
        const at::Tensor change = u.fresh.defined() ? u.fresh - u.old : u.old.neg();
        return at::linear(change, weight.slice(1, part.first, part.last)).add_(u.before);
    }
};

/* The operand of a product whose other arguments are constants; nothing where there are more. */
std::optional<Operand> only_operand(const Program &p, const Node &node, size_t argument) {
    return node.reads.size() == 1 && argument < node.arguments.size() ? operand_of(p, node, argument) : std::nullopt;
}

std::unique_ptr<Rule> product(const Node &node, const Operand &input, const Ints &shape, size_t argument,
                              size_t whole) {
    if (whole == 0 || input.shape.size() < 2) {
        return nullptr;
    }
    auto rule = std::make_unique<Product>(Call{node.op, &node, {{argument, -1}}});
    std::vector<Axis> along;
    for (size_t d = 1; d < input.shape.size(); d++) {
        const auto out = static_cast<int>(d) - 1;
        if (d != whole) {
            along.push_back(Axis::same(out, input.shape[d]));
        } else {
            const bool drops = shape.size() < input.shape.size(); /* a product with a vector */
            along.push_back(Axis::whole(drops ? -1 : out, input.shape[d], drops ? 1 : shape[d]));
        }
    }
    if (node.name == "linear") {
        rule->weight = constant_of(node, "weight").detach();
        rule->weight = rule->weight.dim() == 2 ? rule->weight : at::Tensor();
    }
    rule->operands.push_back(input);
    rule->shapes.push_back(shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

/* The subscripts of an equation, one text for each operand and one for the result; empty where it has an ellipsis. */
Strings subscripts(const std::string &equation) {
    Strings found(1);
    for (size_t i = 0; i < equation.size(); i++) {
        const char c = equation[i];
        if (c == '.') {
            return {};
        }
        if (c == ',' || c == '>') {
            found.emplace_back();
        } else if (c != ' ' && c != '-') {
            found.back() += c;
        }
    }
    return equation.find('>') == std::string::npos ? Strings{} : found;
}

} // namespace

std::unique_ptr<Rule> linear(const Program &p, const Node &node) {
    const std::optional<Ints> shape = shape_of(p, node);
    if (!shape) {
        return nullptr;
    }
    const bool forward = node.name == "linear" || node.name == "matmul" || node.name == "mm" || node.name == "addmm";
    if (!forward) {
        return nullptr;
    }
    const size_t left = node.name == "addmm" ? 1 : 0;
    if (const std::optional<Operand> input = only_operand(p, node, left)) {
        const at::Tensor other = node.constant(left + 1);
        const bool fits = other.defined() && other.dim() <= 2;
        return fits ? product(node, *input, *shape, left, input->shape.size() - 1) : nullptr;
    }
    if (const std::optional<Operand> input = only_operand(p, node, left + 1)) {
        const at::Tensor other = node.constant(left);
        const bool fits = node.name == "matmul" && other.defined() && other.dim() == 2 && input->shape.size() >= 3;
        return fits ? product(node, *input, *shape, left + 1, input->shape.size() - 2) : nullptr;
    }
    return nullptr;
}

std::unique_ptr<Rule> einsum(const Program &p, const Node &node) {
    const std::optional<Ints> shape = shape_of(p, node);
    if (node.name != "einsum" || !shape || node.reads.size() != 1 || node.arguments[1].kind != Argument::Kind::list) {
        return nullptr;
    }
    const Strings letters = subscripts(node.fixed(0).toStringRef());
    const std::vector<Argument> &entries = node.arguments[1].entries;
    if (letters.size() != entries.size() + 1) {
        return nullptr;
    }
    const auto at =
        static_cast<size_t>(std::find_if(entries.begin(), entries.end(),
                                         [](const Argument &entry) { return entry.kind == Argument::Kind::value; }) -
                            entries.begin());
    const std::optional<Operand> input = at < entries.size() ? operand_of(p, entries[at].value) : std::nullopt;
    const std::string &own = letters[at], &result = letters.back();
    auto others = [&](char letter) { /* how many constants have it */
                                     size_t n = 0;
                                     for (size_t k = 0; k + 1 < letters.size(); k++) {
                                         n += k != at && letters[k].find(letter) != std::string::npos ? 1 : 0;
                                     }
                                     return n;
    };
    if (!input || own.size() != input->shape.size() || result.empty() || result[0] != own[0] || others(own[0]) != 0) {
        return nullptr;
    }
    auto rule = std::make_unique<Product>(Call{node.op, &node, {{1, static_cast<int>(at)}}});
    std::vector<Axis> along;
    for (size_t d = 1; d < own.size(); d++) {
        const size_t found = result.find(own[d]);
        const bool kept = found != std::string::npos;
        const auto out = kept ? static_cast<int>(found) - 1 : -1;
        const int64_t size = input->shape[d];
        along.push_back(kept && others(own[d]) == 0 ? Axis::same(out, size) : Axis::whole(out, size, kept ? size : 1));
        if (std::count(own.begin(), own.end(), own[d]) > 1) { /* a diagonal */
            return nullptr;
        }
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
