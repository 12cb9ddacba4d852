/*
 * recorded.cpp - the program that two recorded runs have in common.
 *
 * The runs call the same operators with the same arguments, but for integers that are multiples of how many samples there
 * were. What depends on the input is known of every value; so is what varies with the batch. All other values are
 * constants and stand in the arguments. Anything that could not be run again is declined with the operator's name.
 */
#include "batch_axis.h"
#include "calls.h"

#include <algorithm>
#include <unordered_set>

namespace bridge {
namespace {

const char *const OTHERWISE = "the model does not run the same way for every sample";
const char *const TOGETHER = "samples influence each other";

/* ---- the program while it is made */

class Maker {
  public:
    Maker(const Trace &a, int64_t first, const Trace &b, int64_t second, bool gradient)
        : a_(a), b_(b), first_(first), second_(second), gradient_(gradient), p_(std::make_unique<Program>()),
          current_(a.slots(), -1), fresh_(a.slots(), 0), writes_(a.storages(), 0), writer_(a.storages(), -1) {}

    std::unique_ptr<Program> make();

  private:
    /* What both runs know of a value. */
    struct Made {
        at::Tensor a, b; /* constants */
        bool grad = false;
    };

    Argument argument(const Step &step, const TapedValue &a, const TapedValue &b, Node *node);
    Argument tensor(const Step &step, const Taped &a, const Taped &b, Node *node);
    Argument others(const Step &step, const c10::IValue &a, const c10::IValue &b) const;
    int new_value(const Taped &a, const Taped &b, int made_by);
    int read(const Taped &taped);
    void results(const Step &step, const TapedValue &a, const TapedValue &b, Node *node);
    void add(size_t i);
    void find_varying();
    void find_needed();
    void settle(Argument &argument, const Step &step);
    void check_unread() const;

    Value &value(int v) { return p_->values[static_cast<size_t>(v)]; }

    const Trace &a_, &b_;
    int64_t first_, second_;
    bool gradient_;
    std::unique_ptr<Program> p_;
    std::vector<Made> made_;     /* by value */
    std::vector<int> current_;   /* by slot: its newest value */
    std::vector<size_t> fresh_;  /* by slot: how often its memory had been written when that was made */
    std::vector<size_t> writes_; /* by storage: how often it was written */
    std::vector<int> writer_;    /* by storage: the last node that did */
};

int Maker::new_value(const Taped &a, const Taped &b, int made_by) {
    Value made;
    made.slot = a.slot;
    made.storage = a.storage;
    made.made_by = made_by;
    made.dtype = a.dtype;
    made.shape = a.shape;
    made.by_sample = !a.shape.empty() && a.shape.size() == b.shape.size() && a.shape[0] == first_ &&
                     b.shape[0] == second_ && std::equal(a.shape.begin() + 1, a.shape.end(), b.shape.begin() + 1);
    if (made.by_sample) {
        made.shape[0] = 1;
    }
    const int v = static_cast<int>(p_->values.size());
    p_->values.push_back(std::move(made));
    made_.push_back({a.constant, b.constant, a.grad});
    current_[static_cast<size_t>(a.slot)] = v;
    if (a.storage >= 0) {
        fresh_[static_cast<size_t>(a.slot)] = writes_[static_cast<size_t>(a.storage)];
    }
    return v;
}

/* The value that a slot holds now: a new one where its memory was written through another tensor. */
int Maker::read(const Taped &taped) {
    const auto slot = static_cast<size_t>(taped.slot);
    int v = current_[slot];
    if (taped.storage >= 0 && fresh_[slot] < writes_[static_cast<size_t>(taped.storage)]) {
        const int writer = writer_[static_cast<size_t>(taped.storage)];
        p_->nodes[static_cast<size_t>(writer)].opaque = true;
        Taped now = taped;
        v = new_value(now, now, writer);
        value(v).by_sample = false;
        value(v).dependent = p_->nodes[static_cast<size_t>(writer)].dependent || !taped.constant.defined();
    }
    value(v).last_read = static_cast<int>(p_->nodes.size());
    return v;
}

Argument Maker::tensor(const Step &step, const Taped &a, const Taped &b, Node *node) {
    if (a.alias || b.alias) {
        decline(step, "a value that depends on the input is read again through memory that no operator made");
    }
    Argument argument;
    if (a.slot != b.slot) {
        decline(step, OTHERWISE);
    }
    if (a.slot < 0) {
        if (!same_values(a.constant, b.constant)) {
            decline(step, "a constant of the model is another one for other samples");
        }
        argument.fixed = a.constant;
        return argument;
    }
    argument.kind = Argument::Kind::value;
    argument.value = read(a);
    made_[static_cast<size_t>(argument.value)].a = a.constant;
    made_[static_cast<size_t>(argument.value)].b = b.constant;
    node->reads.push_back(argument.value);
    if (gradient_ && value(argument.value).dependent && value(argument.value).made_by >= 0) {
        if (a.hooked) {
            decline(step, "a hook waits for a gradient inside the model");
        }
        if (a.grad != made_[static_cast<size_t>(argument.value)].grad) {
            decline(step, "a gradient inside the model is computed by Python");
        }
    }
    return argument;
}

Argument Maker::others(const Step &step, const c10::IValue &a, const c10::IValue &b) const {
    Argument argument;
    argument.fixed = a;
    if (same_others(a, b)) {
        return argument;
    }
    const bool numbers = a.isIntList() && b.isIntList();
    if (!numbers && !(a.isInt() && b.isInt())) {
        decline(step, "a number in the model is another one for other samples");
    }
    const auto x = numbers ? a.toIntVector() : std::vector<int64_t>{a.toInt()};
    const auto y = numbers ? b.toIntVector() : std::vector<int64_t>{b.toInt()};
    if (x.size() != y.size()) {
        decline(step, OTHERWISE);
    }
    argument.kind = Argument::Kind::integers;
    std::vector<int64_t> one;
    for (size_t i = 0; i < x.size(); i++) {
        if (x[i] != y[i] && (x[i] * second_ != y[i] * first_ || x[i] % first_ != 0)) {
            decline(step, "a number in the model is another one for other samples");
        }
        argument.scales.push_back(x[i] != y[i]);
        one.push_back(x[i] != y[i] ? x[i] / first_ : x[i]);
    }
    argument.fixed = numbers ? c10::IValue(c10::List<int64_t>(one)) : c10::IValue(one[0]);
    return argument;
}

Argument Maker::argument(const Step &step, const TapedValue &a, const TapedValue &b, Node *node) {
    if (a.is_tensor != b.is_tensor || a.is_list != b.is_list || a.entries.size() != b.entries.size()) {
        decline(step, OTHERWISE);
    }
    if (a.is_tensor) {
        return tensor(step, a.tensor, b.tensor, node);
    }
    if (!a.is_list) {
        return others(step, a.other, b.other);
    }
    Argument list;
    list.kind = Argument::Kind::list;
    list.fixed = a.other;
    for (size_t i = 0; i < a.entries.size(); i++) {
        list.entries.push_back(argument(step, a.entries[i], b.entries[i], node));
    }
    return list;
}

void Maker::results(const Step &step, const TapedValue &a, const TapedValue &b, Node *node) {
    if (a.is_tensor != b.is_tensor || a.entries.size() != b.entries.size()) {
        decline(step, OTHERWISE);
    }
    if (a.is_list) {
        for (size_t i = 0; i < a.entries.size(); i++) {
            results(step, a.entries[i], b.entries[i], node);
        }
        return;
    }
    if (!a.is_tensor) {
        node->makes.push_back(-1);
        return;
    }
    if (a.tensor.slot != b.tensor.slot) {
        decline(step, OTHERWISE);
    }
    const int64_t size = c10::multiply_integers(a.tensor.shape), other = c10::multiply_integers(b.tensor.shape);
    if (node->dependent && size * second_ != other * first_) {
        decline(step, TOGETHER, MET_DECLINE_VERIFICATION);
    }
    const int v = new_value(a.tensor, b.tensor, static_cast<int>(p_->nodes.size()));
    value(v).dependent = node->dependent;
    node->makes.push_back(v);
}

void Maker::add(size_t i) {
    const Step &a = a_.steps[i], &b = b_.steps[i];
    if (!(a.op.operator_name() == b.op.operator_name()) || a.arguments.size() != b.arguments.size() ||
        a.results.size() != b.results.size() || a.mode.get_grad_mode() != b.mode.get_grad_mode() ||
        a.autocast != b.autocast || a.autocast_dtype != b.autocast_dtype) {
        decline(a, OTHERWISE);
    }
    check_call(a_, a);
    Node node(a.op);
    node.name = function_name(a.op);
    node.mode = a.mode;
    node.autocast = a.autocast;
    node.autocast_dtype = a.autocast_dtype;
    for (size_t j = 0; j < a.arguments.size(); j++) {
        node.arguments.push_back(argument(a, a.arguments[j], b.arguments[j], &node));
        if (is_written(a.op, j) && a.arguments[j].is_tensor) {
            node.writes.push_back(a.arguments[j].tensor.storage);
            node.opaque = node.opaque || j > 0; /* an output that is an argument */
        }
    }
    for (int v : node.reads) {
        node.dependent = node.dependent || value(v).dependent;
    }
    if (node.dependent) {
        check_dependent_call(a);
        if (works_along_samples(a, b, {first_, second_})) {
            decline(a, TOGETHER, MET_DECLINE_VERIFICATION);
        }
    }
    for (int storage : node.writes) {
        if (storage >= 0) {
            writes_[static_cast<size_t>(storage)]++;
            writer_[static_cast<size_t>(storage)] = static_cast<int>(p_->nodes.size());
            for (Value &other : p_->values) {
                other.overwritten = other.overwritten || other.storage == storage;
            }
        }
    }
    for (size_t j = 0; j < a.results.size(); j++) {
        results(a, a.results[j], b.results[j], &node);
    }
    p_->nodes.push_back(std::move(node));
}

bool has_scales(const Argument &argument) {
    return argument.kind == Argument::Kind::integers ||
           std::any_of(argument.entries.begin(), argument.entries.end(), has_scales);
}

/* What is no constant although it does not depend on the input: it varies with the batch, or is written into. */
void Maker::find_varying() {
    std::vector<bool> replayed(a_.storages(), false);
    for (bool more = true; more;) {
        more = false;
        for (Node &node : p_->nodes) {
            bool varies = std::any_of(node.arguments.begin(), node.arguments.end(), has_scales);
            auto touch = [&](int v) {
                const Value &touched = value(v);
                varies = varies || touched.varying ||
                         (touched.storage >= 0 && replayed[static_cast<size_t>(touched.storage)]);
            };
            for (int v : node.reads) {
                touch(v);
            }
            for (int v : node.makes) {
                if (v >= 0) {
                    touch(v);
                }
            }
            varies = varies || node.dependent;
            for (int v : node.makes) {
                if (v >= 0 && varies && !value(v).varying) {
                    value(v).varying = more = true;
                }
            }
            for (int storage : node.writes) {
                if (varies && storage >= 0 && !replayed[static_cast<size_t>(storage)]) {
                    replayed[static_cast<size_t>(storage)] = more = true;
                }
            }
        }
        for (Value &v : p_->values) {
            if (!v.varying && v.storage >= 0 && replayed[static_cast<size_t>(v.storage)]) {
                v.varying = more = true;
            }
        }
    }
}

void Maker::find_needed() {
    std::unordered_set<int> slots = {value(p_->output).slot}, storages = {value(p_->output).storage};
    storages.erase(-1);
    for (size_t i = p_->nodes.size(); i-- > 0;) {
        Node &node = p_->nodes[i];
        for (int v : node.makes) {
            node.needed = node.needed || (v >= 0 && slots.count(value(v).slot) != 0);
        }
        for (int storage : node.writes) {
            node.needed = node.needed || storages.count(storage) != 0;
        }
        if (!node.needed) {
            continue;
        }
        node.needed = node.dependent; /* constants are known */
        for (int v : node.makes) {
            node.needed = node.needed || (v >= 0 && value(v).varying);
        }
        for (int v : node.reads) {
            slots.insert(value(v).slot);
            if (value(v).storage >= 0) {
                storages.insert(value(v).storage);
            }
        }
    }
}

/* Constants in place of values that are some. */
void Maker::settle(Argument &argument, const Step &step) {
    for (Argument &entry : argument.entries) {
        settle(entry, step);
    }
    if (argument.kind == Argument::Kind::value) {
        const Value &read = value(argument.value);
        if (read.dependent || read.varying) {
            return;
        }
        const Made &made = made_[static_cast<size_t>(argument.value)];
        if (!same_values(made.a, made.b)) {
            decline(step, "a constant of the model is another one for other samples");
        }
        if (read.overwritten) {
            decline(step, "a constant of the model is written over after it was read");
        }
        argument.kind = Argument::Kind::fixed;
        argument.fixed = made.a;
    }
    if (argument.kind == Argument::Kind::fixed && argument.fixed.isTensor() && argument.fixed.toTensor().defined()) {
        argument.fixed = argument.fixed.toTensor().detach();
    }
}

/*
 * Values that go to Python. Where its code was not watched, a value that no operator reads counts as such; of several
 * results of a call some may lie idle.
 */
void Maker::check_unread() const {
    for (const Trace *trace : {&a_, &b_}) {
        if (!trace->read_by_python.empty()) {
            throw Declined(MET_DECLINE_STRUCTURE, "a value that depends on the input leaves torch's operators (" +
                                                      trace->read_by_python + ")");
        }
    }
    if (a_.python_watched && b_.python_watched) {
        return;
    }
    const auto end = static_cast<int>(p_->nodes.size());
    std::vector<int> last(a_.storages(), -1);
    for (const Value &v : p_->values) {
        if (v.storage >= 0) {
            last[static_cast<size_t>(v.storage)] = std::max(last[static_cast<size_t>(v.storage)], v.last_read);
        }
    }
    for (int i = 0; i < end; i++) {
        const Node &node = p_->nodes[static_cast<size_t>(i)];
        bool read = !node.dependent || node.makes.empty();
        for (int v : node.makes) {
            read = read || (v >= 0 && p_->values[static_cast<size_t>(v)].last_read >= 0);
        }
        for (int storage : node.writes) {
            read = read || (storage >= 0 && last[static_cast<size_t>(storage)] > i);
        }
        if (!read) {
            decline(a_.steps[static_cast<size_t>(i)], "a value that depends on the input leaves torch's operators");
        }
    }
}

std::unique_ptr<Program> Maker::make() {
    for (size_t i = 0; i < a_.given.size(); i++) {
        const int v = new_value(a_.given[i], b_.given[i], -1);
        value(v).dependent = i == 0;
        value(v).varying = true;
        made_.back() = {};
        if (i > 0) {
            p_->extras.push_back(v);
        }
    }
    const size_t steps = std::min(a_.steps.size(), b_.steps.size());
    for (size_t i = 0; i < steps; i++) {
        add(i);
    }
    if (a_.steps.size() != b_.steps.size()) {
        decline((a_.steps.size() > steps ? a_ : b_).steps[steps], OTHERWISE);
    }
    if (a_.slots() != b_.slots() || a_.output.slot < 0 || a_.output.slot != b_.output.slot) {
        throw Declined(MET_DECLINE_STRUCTURE,
                       "the model's output does not come from its input by operators that torch records");
    }
    p_->output = read(a_.output);
    if (!value(p_->output).dependent) {
        throw Declined(MET_DECLINE_STRUCTURE,
                       "the model's output does not come from its input by operators that torch records");
    }
    if (gradient_ && a_.output.grad != made_[static_cast<size_t>(p_->output)].grad) {
        throw Declined(MET_DECLINE_STRUCTURE, "a gradient inside the model is computed by Python");
    }
    value(p_->output).last_read = static_cast<int>(p_->nodes.size());
    find_varying();
    find_needed();
    check_unread();
    p_->slot_last.resize(a_.slots());
    p_->number_slots();
    for (size_t i = 0; i < p_->nodes.size(); i++) {
        for (Argument &argument : p_->nodes[i].arguments) {
            if (p_->nodes[i].needed) {
                settle(argument, a_.steps[i]);
            }
        }
        auto &reads = p_->nodes[i].reads;
        reads.erase(
            std::remove_if(reads.begin(), reads.end(), [&](int v) { return !value(v).dependent && !value(v).varying; }),
            reads.end());
    }
    return std::move(p_);
}

} // namespace

std::unique_ptr<Program> program_of(const Trace &a, int64_t first, const Trace &b, int64_t second, bool gradient) {
    return Maker(a, first, b, second, gradient).make();
}

} // namespace bridge
