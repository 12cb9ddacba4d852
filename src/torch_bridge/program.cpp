/* program.cpp - the program that two recorded runs have in common: see program.h. */
#include "program.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace bridge {

/* ---- reading a program */

c10::IValue Argument::at(int64_t samples) const {
    if (kind != Kind::integers) {
        return fixed;
    }
    if (fixed.isIntList()) {
        c10::List<int64_t> numbers = fixed.toIntList().copy();
        for (size_t i = 0; i < numbers.size(); i++) {
            if (scales[i]) {
                numbers[i] = numbers.get(i) * samples;
            }
        }
        return numbers;
    }
    return fixed.toInt() * samples;
}

std::vector<int64_t> Node::integers(size_t argument, size_t n, int64_t otherwise) const {
    if (argument >= arguments.size() || fixed(argument).isNone()) {
        return std::vector<int64_t>(n, otherwise);
    }
    const c10::IValue &value = fixed(argument);
    std::vector<int64_t> numbers = value.isIntList() ? value.toIntVector() : std::vector<int64_t>{value.toInt()};
    if (numbers.size() == 1) {
        numbers.resize(n, numbers[0]);
    }
    return numbers.empty() ? std::vector<int64_t>(n, otherwise) : numbers;
}

std::string Node::full_name() const {
    return c10::toString(op.operator_name());
}

std::vector<int> Program::live(size_t position) const {
    std::vector<int> found;
    std::unordered_set<int> slots_seen;
    for (size_t v = values.size(); v-- > 0;) { /* the newest of a slot */
        const Value &value = values[v];
        const bool before = value.made_by < 0 || static_cast<size_t>(value.made_by) < position;
        if (value.dependent && before && slots_seen.insert(value.slot).second && value.last_read >= 0 &&
            static_cast<size_t>(value.last_read) >= position) {
            found.push_back(static_cast<int>(v));
        }
    }
    std::reverse(found.begin(), found.end());
    return found;
}

bool Program::can_cut(size_t position) const {
    /* Tensors that share memory, which is written later: given one by one, they would share it no more. */
    std::unordered_map<int, std::unordered_set<int>> alive;
    for (const Value &value : values) {
        const bool before = value.made_by < 0 || static_cast<size_t>(value.made_by) < position;
        const bool read = slot_last[static_cast<size_t>(value.slot)] >= static_cast<int>(position);
        if (value.dependent && before && read && value.storage >= 0) {
            alive[value.storage].insert(value.slot);
        }
    }
    for (size_t i = position; i < nodes.size(); i++) {
        for (int storage : nodes[i].writes) {
            if (storage >= 0 && alive[storage].size() > 1) {
                return false;
            }
        }
    }
    return true;
}

void Program::number_slots() {
    std::fill(slot_last.begin(), slot_last.end(), -1);
    for (const Value &value : values) {
        int &last = slot_last[static_cast<size_t>(value.slot)];
        last = std::max(last, value.last_read);
    }
}

size_t Program::count(size_t from, size_t to) const {
    size_t n = 0;
    for (size_t i = from; i < to && i < nodes.size(); i++) {
        n += nodes[i].dependent && nodes[i].needed ? 1 : 0;
    }
    return n;
}

} // namespace bridge
