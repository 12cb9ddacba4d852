/* segment_groups.cpp - groups of places, and the coalitions from which their sums become known. */
#include "segment_groups.h"

#include <algorithm>
#include <numeric>

namespace bridge {
namespace {

/* More open segments than this are not tried in every combination, only replaced one at a time. */
const size_t OPEN_MOST = 4;

constexpr uint8_t OPEN = 2; /* neither replaced nor kept yet */

/* A coalition that is being put together. */
class Draft {
  public:
    explicit Draft(size_t segments) : flags_(segments, OPEN) {}

    /* Take over what `wanted` says of a group, unless that was decided otherwise. */
    void add(const Group &group, const Replaced &wanted) {
        for (int32_t s : group.members) {
            if (flags_[at(s)] != OPEN && flags_[at(s)] != wanted[at(s)]) {
                return;
            }
        }
        for (int32_t s : group.members) {
            flags_[at(s)] = wanted[at(s)];
        }
    }

    /* Decide the open segments of a group so that something new is learned there, if that is possible. */
    void explore(const Group &group) {
        std::vector<size_t> open;
        for (int32_t s : group.members) {
            if (flags_[at(s)] == OPEN) {
                open.push_back(at(s));
            }
        }
        if (open.empty()) {
            return;
        }
        Replaced trial = flags_;
        for (size_t s : open) {
            trial[s] = 0;
        }
        if (is_new(group, trial)) {
            return;
        }
        for (size_t s : open) {
            trial[s] = 1;
            if (is_new(group, trial)) {
                return;
            }
            trial[s] = 0;
        }
        for (unsigned bits = 3; open.size() <= OPEN_MOST && bits < 1u << open.size(); bits++) {
            for (size_t k = 0; k < open.size(); k++) {
                trial[open[k]] = bits >> k & 1;
            }
            if (is_new(group, trial)) {
                return;
            }
        }
    }

    /* What is still open goes as in `otherwise`. */
    Replaced finish(const Replaced &otherwise) const {
        Replaced flags = flags_;
        for (size_t s = 0; s < flags.size(); s++) {
            flags[s] = flags[s] == OPEN ? otherwise[s] : flags[s];
        }
        return flags;
    }

  private:
    static size_t at(int32_t segment) { return static_cast<size_t>(segment); }

    bool is_new(const Group &group, const Replaced &trial) {
        if (group.known.count(group.key(trial)) != 0) {
            return false;
        }
        for (int32_t s : group.members) {
            flags_[at(s)] = trial[at(s)];
        }
        return true;
    }

    Replaced flags_;
};

/* Values and groups that miss something of a coalition. */
std::vector<std::pair<size_t, size_t>> missing(const std::vector<Groups *> &values, const Replaced &asked) {
    std::vector<std::pair<size_t, size_t>> found;
    for (size_t v = 0; v < values.size(); v++) {
        for (size_t g = 0; g < values[v]->groups.size(); g++) {
            const Group &group = values[v]->groups[g];
            if (group.known.count(group.key(asked)) == 0) {
                found.emplace_back(v, g);
            }
        }
    }
    return found;
}

} // namespace

std::string Group::key(const Replaced &replaced) const {
    std::string bits((members.size() + 7) / 8, '\0');
    for (size_t k = 0; k < members.size(); k++) {
        if (replaced[static_cast<size_t>(members[k])] != 0) {
            bits[k / 8] = static_cast<char>(bits[k / 8] | 1 << k % 8);
        }
    }
    return bits;
}

Groups::Groups(const at::Tensor &reached) {
    const at::Tensor flags = reached.t().to(at::kByte).contiguous(); /* (places, segments) */
    const int64_t places = flags.size(0), segments = flags.size(1);
    const auto *data = reinterpret_cast<const char *>(flags.data_ptr<uint8_t>());
    std::unordered_map<std::string, size_t> by_members;
    std::vector<std::vector<int64_t>> of_group;
    for (int64_t p = 0; p < places; p++) {
        std::string members(data + p * segments, static_cast<size_t>(segments));
        auto [found, is_new] = by_members.emplace(std::move(members), of_group.size());
        if (is_new) {
            of_group.emplace_back();
            groups.emplace_back();
            for (int64_t s = 0; s < segments; s++) {
                if (data[p * segments + s] != 0) {
                    groups.back().members.push_back(static_cast<int32_t>(s));
                }
            }
        }
        of_group[found->second].push_back(p);
    }
    std::vector<int64_t> all;
    for (const std::vector<int64_t> &at_places : of_group) {
        sizes.push_back(static_cast<int64_t>(at_places.size()));
        all.insert(all.end(), at_places.begin(), at_places.end());
    }
    order = at::tensor(all, at::kLong);
}

Plan plan_coalitions(const std::vector<Groups *> &values, const std::vector<Replaced> &asked,
                     std::vector<int64_t> &rows) {
    Plan plan;
    std::vector<std::pair<size_t, size_t>> widest; /* groups, those that many segments reach first */
    for (size_t v = 0; v < values.size(); v++) {
        for (size_t g = 0; g < values[v]->groups.size(); g++) {
            widest.emplace_back(v, g);
        }
    }
    auto group = [&](const std::pair<size_t, size_t> &at) -> Group & { return values[at.first]->groups[at.second]; };
    std::stable_sort(widest.begin(), widest.end(),
                     [&](const auto &a, const auto &b) { return group(a).members.size() > group(b).members.size(); });
    for (size_t i = 0; i < asked.size(); i++) {
        const auto first = missing(values, asked[i]);
        if (first.empty()) {
            continue;
        }
        Draft draft(asked[i].size());
        for (const auto &at : first) {
            draft.add(group(at), asked[i]);
        }
        for (size_t j = i + 1; j < asked.size(); j++) {
            for (const auto &at : missing(values, asked[j])) {
                draft.add(group(at), asked[j]);
            }
        }
        for (const auto &at : widest) {
            draft.explore(group(at));
        }
        const Replaced coalition = draft.finish(asked[i]);
        for (const auto &at : widest) {
            auto [found, is_new] = group(at).known.emplace(group(at).key(coalition), rows[at.first]);
            if (is_new) {
                plan.news.push_back({plan.coalitions.size(), at.first, at.second, rows[at.first]++});
            }
        }
        plan.coalitions.push_back(coalition);
    }
    return plan;
}

} // namespace bridge
