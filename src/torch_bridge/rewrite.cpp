/*
 * rewrite.cpp - the same program with less work: what a batch norm in eval mode scales and shifts is scaled and shifted in
 * the weights of the convolution before it, and a maximum pool comes before a ReLU, which leaves it fewer values.
 */
#include "rewrite.h"

#include "max_pool.h"
#include "shortcut.h"

#include <algorithm>

namespace bridge {
namespace {

/* The only node that reads what `node` makes, if it makes one value and nothing else shares its memory; -1. */
int only_reader(const Program &p, size_t node) {
    const Node &from = p.nodes[node];
    if (from.makes.size() != 1 || from.makes[0] < 0 || from.opaque || from.autocast || from.makes[0] == p.output) {
        return -1;
    }
    int reader = -1;
    for (size_t i = node + 1; i < p.nodes.size(); i++) {
        for (int v : p.nodes[i].reads) {
            if (v == from.makes[0]) {
                if (reader >= 0) {
                    return -1;
                }
                reader = static_cast<int>(i);
            }
        }
    }
    /* Another tensor of the same memory would see the other values. */
    const int storage = p.values[static_cast<size_t>(from.makes[0])].storage;
    for (const Value &value : p.values) {
        const bool next = reader >= 0 && value.made_by == reader;
        const bool before = value.made_by >= 0 && value.made_by < static_cast<int>(node);
        if (storage >= 0 && value.storage == storage &&
            value.slot != p.values[static_cast<size_t>(from.makes[0])].slot && !next && !before) {
            return -1;
        }
    }
    return reader;
}

bool is_plain(const Node &node) {
    return node.needed && node.dependent && !node.opaque && !node.autocast && node.makes.size() == 1 &&
           node.makes[0] >= 0;
}

/* Numbers (channels,) of an optional constant argument in double. */
at::Tensor numbers(const Node &node, size_t argument, const at::Tensor &like, double otherwise) {
    at::Tensor given = node.constant(argument);
    return given.defined() ? given.to(at::kDouble) : at::full_like(like, otherwise, like.options().dtype(at::kDouble));
}

/* A node that does nothing any more: who reads its result reads `instead`. */
void leave_out(Program *p, size_t node, int instead) {
    Node &gone = p->nodes[node];
    const int made = gone.makes[0];
    gone.needed = gone.dependent = false;
    gone.reads.clear();
    gone.makes.clear();
    for (Node &reader : p->nodes) {
        std::replace(reader.reads.begin(), reader.reads.end(), made, instead);
        for (Argument &argument : reader.arguments) {
            argument.value = argument.value == made ? instead : argument.value;
            for (Argument &entry : argument.entries) {
                entry.value = entry.value == made ? instead : entry.value;
            }
        }
    }
    p->output = p->output == made ? instead : p->output;
}

/* y = norm(conv(x)): the norm's scale and shift in the convolution's weights. */
bool fold(Program *p, size_t i) {
    Node &conv = p->nodes[i];
    const bool known = conv.name == "conv1d" || conv.name == "conv2d" || conv.name == "conv3d";
    const int next = known && is_plain(conv) && conv.is_constant(1) ? only_reader(*p, i) : -1;
    if (next < 0) {
        return false;
    }
    const Node &norm = p->nodes[static_cast<size_t>(next)];
    const bool ends = norm.name == "batch_norm" && is_plain(norm) && norm.is_constant(3) && norm.is_constant(4) &&
                      norm.mode.get_grad_mode() == conv.mode.get_grad_mode() && !conv.is_value(2) &&
                      !norm.is_value(1) && !norm.is_value(2);
    if (!ends) {
        return false;
    }
    const at::Tensor mean = norm.constant(3).to(at::kDouble), weight = conv.constant(1);
    const at::Tensor scale =
        numbers(norm, 1, mean, 1) / (norm.constant(4).to(at::kDouble) + norm.fixed(7).toDouble()).sqrt();
    const at::Tensor shift = numbers(norm, 2, mean, 0) + (numbers(conv, 2, mean, 0) - mean) * scale;
    std::vector<int64_t> shape(static_cast<size_t>(weight.dim()), 1);
    shape[0] = -1;
    conv.arguments[1].fixed = (weight.to(at::kDouble) * scale.view(shape)).to(weight.scalar_type());
    conv.arguments[2] = {};
    conv.arguments[2].fixed = shift.to(weight.scalar_type());
    leave_out(p, static_cast<size_t>(next), conv.makes[0]);
    return true;
}

/* pool(relu(x)) = relu(pool(x)), to the last bit, gradients too: the largest value stays the largest, or both are 0. */
bool swap(Program *p, size_t i) {
    const bool known = p->nodes[i].name == "relu" && is_plain(p->nodes[i]) && p->nodes[i].reads.size() == 1;
    const int next = known ? only_reader(*p, i) : -1;
    if (next < 0) {
        return false;
    }
    const auto j = static_cast<size_t>(next);
    const Node &pool = p->nodes[j];
    const bool ends = (pool.name == "max_pool1d" || pool.name == "max_pool2d" || pool.name == "max_pool3d") &&
                      is_plain(pool) && pool.mode.get_grad_mode() == p->nodes[i].mode.get_grad_mode();
    for (size_t k = i + 1; k < j && ends; k++) { /* the input of the ReLU has to stay as it is up to the pool */
        for (int storage : p->nodes[k].writes) {
            if (storage >= 0 && storage == p->values[static_cast<size_t>(p->nodes[i].reads[0])].storage) {
                return false;
            }
        }
    }
    const auto relu = c10::Dispatcher::singleton().findSchema({"aten::relu", ""});
    if (!ends || !relu || p->nodes[i].writes.size() > 1) {
        return false;
    }
    const int x = p->nodes[i].reads[0], pooled = p->nodes[j].makes[0];
    Value between = p->values[static_cast<size_t>(pooled)];
    between.slot = static_cast<int>(p->slot_last.size());
    between.storage = -1;
    p->slot_last.push_back(0);
    const int made = static_cast<int>(p->values.size());
    p->values.push_back(between);
    /* The pool takes the ReLU's place, and the ReLU the pool's. */
    Node first = p->nodes[j], second(*relu);
    first.reads = {x};
    first.makes = {made};
    first.arguments[0].value = x;
    second.name = "relu";
    second.arguments.resize(1);
    second.arguments[0].kind = Argument::Kind::value;
    second.arguments[0].value = made;
    second.reads = {made};
    second.makes = {pooled};
    second.dependent = second.needed = true;
    second.mode = p->nodes[i].mode;
    const int was = p->nodes[i].makes[0];
    p->nodes[i] = first;
    p->nodes[j] = second;
    p->values[static_cast<size_t>(made)].made_by = static_cast<int>(i);
    p->values[static_cast<size_t>(was)].dependent = false;
    return true;
}

/* An operator that writes over its first argument, as a function: what it reads need not be copied for it. */
bool free_of_writing(Program *p, size_t i) {
    Node &node = p->nodes[i];
    if (node.writes.size() != 1 || !is_plain(node) || !node.is_value(0)) {
        return false;
    }
    const std::string &name = node.op.schema().name();
    const auto function =
        c10::Dispatcher::singleton().findSchema({name.substr(0, name.size() - 1), node.op.schema().overload_name()});
    const at::ScalarType dtype = p->values[static_cast<size_t>(node.makes[0])].dtype;
    bool same = function && name.back() == '_' && node.name != "copy" && node.name != "fill" &&
                function->schema().arguments().size() == node.arguments.size();
    for (const Argument &argument : node.arguments) {
        const at::Tensor constant = argument.kind == Argument::Kind::fixed && argument.fixed.isTensor()
                                        ? argument.fixed.toTensor()
                                        : at::Tensor();
        same =
            same && argument.kind != Argument::Kind::list && (!constant.defined() || constant.scalar_type() == dtype);
    }
    for (int v : node.reads) {
        same = same && p->values[static_cast<size_t>(v)].dtype == dtype;
    }
    if (same) {
        node.op = *function;
        node.writes.clear();
    }
    return same;
}

/* Views of values whose channels lie together may have to be copies; nothing writes into one any more. */
void free_of_views(Program *p) {
    const auto reshape = c10::Dispatcher::singleton().findSchema({"aten::reshape", ""});
    for (const Node &node : p->nodes) {
        if (!reshape || !node.writes.empty()) {
            return;
        }
    }
    for (Node &node : p->nodes) {
        if (node.full_name() == "aten::view" || node.full_name() == "aten::_unsafe_view") {
            node.op = *reshape;
        }
    }
}

/* Who reads and writes over what, anew. */
void number_reads(Program *p) {
    for (Value &value : p->values) {
        value.last_read = -1;
    }
    for (size_t i = 0; i < p->nodes.size(); i++) {
        for (int v : p->nodes[i].reads) {
            p->values[static_cast<size_t>(v)].last_read = static_cast<int>(i);
        }
    }
    p->values[static_cast<size_t>(p->output)].last_read = static_cast<int>(p->nodes.size());
    p->number_slots();
    for (Value &value : p->values) {
        value.overwritten = false;
        for (size_t i = 0; i < p->nodes.size(); i++) {
            const auto &writes = p->nodes[i].writes;
            value.overwritten = value.overwritten || (value.made_by < static_cast<int>(i) && value.storage >= 0 &&
                                                      std::count(writes.begin(), writes.end(), value.storage) > 0);
        }
    }
}

} // namespace

void rewrite(Program *p, bool exact_prefix) {
    for (const Node &node : p->nodes) {
        if (node.opaque) { /* memory is written through one tensor and read through another */
            return;
        }
    }
    bool changed = false, behind = !exact_prefix;
    for (size_t i = 0; i < p->nodes.size(); i++) {
        behind = behind || (p->nodes[i].needed && p->nodes[i].dependent && !is_affine(*p, p->nodes[i]));
        changed = free_of_writing(p, i) || changed;
        changed = (behind && fold(p, i)) || changed;
    }
    for (size_t i = 0; i < p->nodes.size(); i++) {
        changed = swap(p, i) || changed;
    }
    if (changed) {
        number_reads(p);
    }
    free_of_views(p);
    for (Node &node : p->nodes) {
        node.pool = node.needed && node.dependent ? max_pool_of(*p, node) : nullptr;
    }
}

} // namespace bridge
