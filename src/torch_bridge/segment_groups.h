/* segment_groups.h - places of a value that the same segments reach, and which coalitions have to be seen there. */
#ifndef METEORS_C_SEGMENT_GROUPS_H
#define METEORS_C_SEGMENT_GROUPS_H

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace bridge {

/* Which segments take the baseline's values: (segments,), 1 = baseline. */
using Replaced = std::vector<uint8_t>;

/* Places that the same segments reach: what is summed over them depends on which of those segments are replaced. */
struct Group {
    std::vector<int32_t> members;                   /* segments, in order */
    std::unordered_map<std::string, int64_t> known; /* row of the sums, by the members' flags */

    std::string key(const Replaced &replaced) const;
};

/* The groups of one value of one image. */
struct Groups {
    at::Tensor order;           /* (places,) all places, group by group */
    std::vector<int64_t> sizes; /* of the groups, in places */
    std::vector<Group> groups;

    /* reached (segments, places): whether a segment reaches a place. */
    explicit Groups(const at::Tensor &reached);
};

/* What an evaluated coalition tells that was not known. */
struct News {
    size_t coalition, value, group; /* which of the evaluated ones, which value, which group of it */
    int64_t row;
};

struct Plan {
    std::vector<Replaced> coalitions; /* to evaluate */
    std::vector<News> news;
};

/*
 * Coalitions to evaluate so that all groups of some values know what `asked` ones need; what they will tell counts as known.
 * Never more than those of `asked` that miss something. They are put together from parts: what one asked coalition needs
 * in one corner of the image goes with what another one needs elsewhere, and what nobody has asked for yet fills the rest.
 *   rows  (values,) rows that are taken, of each value
 */
Plan plan_coalitions(const std::vector<Groups *> &values, const std::vector<Replaced> &asked,
                     std::vector<int64_t> &rows);

} // namespace bridge

#endif
