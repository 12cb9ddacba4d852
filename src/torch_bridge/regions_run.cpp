/* regions_run.cpp - samples whose images differ in a part, computed in groups that are alike but for the place. */
#include "modes.h"
#include "regions.h"

#include <map>
#include <numeric>
#include <set>

namespace bridge {
namespace {

/* The part of x (n, ...) at a box, where the first value of x lies at `origin`. */
at::Tensor cut(const at::Tensor &x, const Box &box, const Box &origin) {
    int64_t offset = x.storage_offset();
    for (size_t d = 0; d < box.axes(); d++) {
        offset += (box[d].first - origin[d].first) * x.stride(static_cast<int64_t>(d) + 1);
    }
    return x.as_strided(box.sizes(x.size(0)), x.strides(), offset);
}

/* Axes of a tensor, those with the largest strides first, so that what is copied lies in memory as it does there. */
std::vector<int64_t> memory_order(const at::Tensor &x) {
    std::vector<int64_t> order(static_cast<size_t>(x.dim()) - 1);
    std::iota(order.begin(), order.end(), 1);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x.stride(a) > x.stride(b); });
    return order;
}

/* How far a box that is read goes beyond the borders. */
std::vector<std::pair<int64_t, int64_t>> outside(const Box &reads, const Box &inside) {
    std::vector<std::pair<int64_t, int64_t>> around;
    for (size_t d = 0; d < reads.axes(); d++) {
        around.emplace_back(inside[d].first - reads[d].first, reads[d].last - inside[d].last);
    }
    return around;
}

} // namespace

void Regions::keep(const std::vector<at::Tensor> &values, Images images) {
    const at::NoGradGuard off;
    images_ = std::move(images);
    zeros_ = is_zero(images_.baselines);
    base_.assign(program_.values.size(), {});
    baseline_.assign(program_.values.size(), {});
    summaries_.assign(steps_.size(), {});
    for (size_t i = 0; i < values.size(); i++) {
        base_[static_cast<size_t>(wanted_[i])] = is_flattened(wanted_[i]) ? values[i].contiguous() : values[i];
    }
}

/* Whether all that is done with a value is to write it out in the usual order: then samples are made in that. */
bool Regions::is_flattened(int value) const {
    static const std::set<std::string> names = {"flatten", "view", "reshape", "_unsafe_view"};
    size_t readers = 0;
    bool found = value != program_.output;
    for (const Node &node : program_.nodes) {
        if (std::count(node.reads.begin(), node.reads.end(), value) > 0) {
            found = found && names.count(node.name) > 0;
            readers++;
        }
    }
    return found && readers > 0;
}

/* A value for whole images, made when it is first asked for. */
const at::Tensor &Regions::made_once(std::vector<at::Tensor> *known, const at::Tensor &images, int value) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    at::Tensor &made = (*known)[static_cast<size_t>(value)];
    if (made.defined()) {
        return made;
    }
    const auto made_by = program_.values[static_cast<size_t>(value)].made_by;
    std::vector<at::Tensor> parts;
    for (int64_t i = 0; i < images.size(0); i++) {
        Run run(program_, model_, {images_.origins[static_cast<size_t>(i)]});
        run.expect_zeros();
        run.keep(value);
        run.give(program_.input, images.narrow(0, i, 1));
        run.go(0, static_cast<size_t>(made_by + 1));
        parts.push_back(run.value(value));
    }
    made = parts.size() == 1 ? parts[0] : at::cat(parts);
    return made;
}

/* Most are known before: those that the examples have told. */
const at::Tensor &Regions::base_of(int value) const {
    return made_once(&base_, images_.images, value);
}

const at::Tensor &Regions::baseline_of(int value) const {
    return made_once(&baseline_, images_.baselines, value);
}

/* What the result of a step is updated from. */
at::Tensor Regions::before(size_t i) const {
    const at::Tensor &base = base_of(steps_[i].rule->operands[0].value);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        at::Tensor &known = summaries_[i];
        known = known.defined() ? known : steps_[i].rule->summary(base);
        if (known.defined()) {
            return known;
        }
    }
    return base_of(steps_[i].value);
}

/* Parts of the same size of rows of a tensor (rows, ...), one for each sample, in new memory. */
at::Tensor Regions::gathered(const at::Tensor &base, const std::vector<Box> &at,
                             const std::vector<int64_t> &rows) const {
    const std::vector<int64_t> order = memory_order(base);
    std::vector<int64_t> sizes{0}, strides{1}, back(order.size() + 1, 0);
    for (size_t j = 0; j < order.size(); j++) {
        const auto d = static_cast<size_t>(order[j]);
        sizes.push_back(at[0][d - 1].size());
        strides.push_back(base.stride(order[j]));
        back[d] = static_cast<int64_t>(j) + 1;
    }
    std::vector<int64_t> offsets(at.size());
    for (size_t i = 0; i < at.size(); i++) {
        offsets[i] = rows[i] * base.stride(0);
        for (size_t d = 0; d < at[i].axes(); d++) {
            offsets[i] += at[i][d].first * base.stride(static_cast<int64_t>(d) + 1);
        }
    }
    sizes[0] = *std::max_element(offsets.begin(), offsets.end()) + 1; /* parts that begin one value after the other */
    const at::Tensor parts = base.as_strided(sizes, strides, base.storage_offset());
    const at::Tensor index = at::tensor(offsets, at::kLong).to(base.device());
    return parts.index_select(0, index).permute(back);
}

/* Parts of what changed of operand k, one for each sample. */
at::Tensor Regions::fresh_part(const Group &group, const Step &step, size_t k, const std::vector<Box> &parts) const {
    const auto place = static_cast<size_t>(step.places[k]);
    if (place == 0 && !group.fresh[0].defined()) {
        return gathered(images_.baselines, parts, group.rows);
    }
    const Box &changed = group.routes[0]->changed[place];
    return changed == parts[0] ? group.fresh[place] : cut(group.fresh[place], parts[0], changed);
}

/* What a step reads of operand k, (samples, ...): `reads` of each sample. */
at::Tensor Regions::patch(const Group &group, const Step &step, size_t k, const std::vector<Box> &reads) const {
    const Operand &operand = step.rule->operands[k];
    const Box all = Box::all(operand.shape);
    if (reads[0].empty()) {
        return {};
    }
    if (operand.value < 0 && reads[0] == all) {
        return operand.constant;
    }
    std::vector<Box> inside, part;
    for (size_t j = 0; j < reads.size(); j++) {
        inside.push_back(common(reads[j], all));
        part.push_back(step.places[k] < 0
                           ? Box::nothing()
                           : common(inside[j], group.routes[j]->changed[static_cast<size_t>(step.places[k])]));
    }
    at::Tensor x;
    if (!part[0].empty() && part[0] == inside[0]) {
        x = fresh_part(group, step, k, part);
    } else {
        const bool constant = operand.value < 0;
        const std::vector<int64_t> zeros(constant ? group.rows.size() : 0, 0);
        x = gathered(constant ? operand.constant : base_of(operand.value), inside, constant ? zeros : group.rows);
        if (!part[0].empty()) {
            cut(x, part[0], inside[0]).copy_(fresh_part(group, step, k, part));
        }
    }
    return pad(x, outside(reads[0], inside[0]), step.rule->beyond());
}

/* A part of a step's result, for each sample. */
at::Tensor Regions::computed(const Group &group, size_t i, const std::vector<Box> &out) const {
    const Step &step = steps_[i];
    std::vector<at::Tensor> patches;
    for (size_t k = 0; k < step.places.size(); k++) {
        std::vector<Box> reads;
        for (const Box &part : out) {
            reads.push_back(step.rule->reads(k, part, step.result));
        }
        patches.push_back(patch(group, step, k, reads));
    }
    return step.rule->compute(patches, out[0], step.result);
}

/* What a step gives where it is settled is the baseline's; the rest is computed. */
at::Tensor Regions::framed(const Group &group, size_t i) const {
    const Box &out = group.routes[0]->changed[i + 1];
    const at::Tensor &baseline = baseline_of(steps_[i].value);
    const Box all = Box::all(program_.values[static_cast<size_t>(steps_[i].value)].shape);
    std::vector<Box> inner;
    std::vector<std::vector<Box>> pieces; /* by sample */
    for (const Route *route : group.routes) {
        inner.push_back(route->settled[i + 1]);
        pieces.push_back(frame(route->changed[i + 1], inner.back()));
    }
    if (pieces[0].empty()) {
        return gathered(baseline, inner, group.rows);
    }
    at::Tensor y;
    for (size_t piece = 0; piece < pieces[0].size(); piece++) {
        std::vector<Box> at;
        for (const std::vector<Box> &of_sample : pieces) {
            at.push_back(of_sample[piece]);
        }
        const at::Tensor found = computed(group, i, at);
        if (!y.defined()) {
            const auto n = static_cast<int64_t>(group.samples.size());
            y = at::empty(out.sizes(n), found.options().memory_format(found.suggest_memory_format()));
        }
        cut(y, at[0], out).copy_(found);
    }
    for (size_t j = 0; j < inner.size(); j++) {
        const at::Tensor known = baseline.narrow(0, group.rows[j], 1);
        cut(y.narrow(0, static_cast<int64_t>(j), 1), inner[0], out).copy_(cut(known, inner[j], all));
    }
    return y;
}

at::Tensor Regions::updated(const Group &group, size_t i) const {
    const Step &step = steps_[i];
    const auto place = static_cast<size_t>(step.places[0]);
    std::vector<Box> changed, out;
    for (const Route *route : group.routes) {
        changed.push_back(route->changed[place]);
        out.push_back(route->changed[i + 1]);
    }
    const at::Tensor &base = base_of(step.rule->operands[0].value);
    const at::Tensor old = gathered(base, changed, group.rows), none;
    return step.rule->update(
        {place == 0 && zeros_ ? none : group.fresh[place], old, changed[0], gathered(before(i), out, group.rows)},
        out[0]);
}

/* Whether more of what changed in the image is read than around what is settled, or to take it off. */
bool Regions::reads_all_fresh(const Route &route) const {
    bool found = std::count(live_.begin(), live_.end(), program_.input) > 0;
    for (size_t i = 0; i < steps_.size() && steps_[i].node < stop_; i++) {
        const bool reads = std::count(steps_[i].places.begin(), steps_[i].places.end(), 0) > 0;
        found = found || (reads && !route.framed[i] && !(route.updates[i] && zeros_) && !route.changed[i + 1].empty());
    }
    return found;
}

void Regions::compute(Group *group) const {
    std::vector<bool> stays(steps_.size() + 1, false);
    for (int value : live_) {
        stays[static_cast<size_t>(place_[static_cast<size_t>(value)])] = true;
    }
    for (size_t i = 0; i < steps_.size() && steps_[i].node < stop_; i++) {
        const Step &step = steps_[i];
        const Node &node = program_.nodes[step.node];
        const Box &out = group->routes[0]->changed[i + 1];
        if (!out.empty()) {
            const Modes modes(node, model_.device.type());
            at::Tensor y;
            if (group->routes[0]->updates[i]) {
                y = updated(*group, i);
            } else if (group->routes[0]->framed[i]) {
                y = framed(*group, i);
            } else {
                std::vector<Box> parts;
                for (const Route *route : group->routes) {
                    parts.push_back(route->changed[i + 1]);
                }
                y = computed(*group, i, parts);
            }
            group->fresh[i + 1] = y.to(program_.values[static_cast<size_t>(step.value)].dtype);
        }
        for (int place : step.places) {
            const bool last = place >= 0 && !stays[static_cast<size_t>(place)] &&
                              (place == 0 ? false : steps_[static_cast<size_t>(place) - 1].last_use <= i);
            if (last) {
                group->fresh[static_cast<size_t>(place)].reset();
            }
        }
    }
}

/* A value for all samples: what it is for their images, and the new parts in it. */
at::Tensor Regions::spliced(int value, const std::vector<Group> &groups, const std::vector<int64_t> &rows) const {
    const auto place = static_cast<size_t>(place_[static_cast<size_t>(value)]);
    const Box all = Box::all(program_.values[static_cast<size_t>(value)].shape);
    const bool whole = std::all_of(groups.begin(), groups.end(),
                                   [&](const Group &group) { return group.routes[0]->changed[place] == all; });
    if (whole && groups.size() == 1) {
        const at::Tensor &x = groups[0].fresh[place];
        return place == 0 ? x.clone() : x;
    }
    const int64_t n = static_cast<int64_t>(rows.size());
    const at::Tensor &model = whole ? groups[0].fresh[place] : base_of(value);
    std::vector<int64_t> sizes = model.sizes().vec();
    sizes[0] = n;
    at::Tensor x = at::empty(sizes, model.options().memory_format(model.suggest_memory_format()));
    for (size_t i = 0, next = 0; i < rows.size() && !whole; i = next) { /* samples of an image follow each other */
        for (next = i; next < rows.size() && rows[next] == rows[i]; next++) {}
        const auto count = static_cast<int64_t>(next - i);
        std::vector<int64_t> several = sizes;
        several[0] = count;
        x.narrow(0, static_cast<int64_t>(i), count).copy_(model.narrow(0, rows[i], 1).expand(several));
    }
    for (const Group &group : groups) {
        for (size_t j = 0; j < group.samples.size(); j++) {
            const Box &changed = group.routes[j]->changed[place];
            if (!changed.empty()) {
                const at::Tensor row = x.narrow(0, static_cast<int64_t>(group.samples[j]), 1);
                cut(row, changed, all).copy_(group.fresh[place].narrow(0, static_cast<int64_t>(j), 1));
            }
        }
    }
    return x;
}

std::vector<at::Tensor> Regions::features(const std::vector<Box> &changed, const std::vector<int64_t> &rows) const {
    const at::NoGradGuard off;
    std::vector<Route> routes;
    std::map<std::vector<int64_t>, size_t> known;
    std::vector<Group> groups;
    routes.reserve(changed.size());
    for (size_t i = 0; i < changed.size(); i++) {
        routes.push_back(route(changed[i].empty() ? Box::nothing() : changed[i]));
        const auto [at, is_new] = known.emplace(routes[i].key, groups.size());
        if (is_new) {
            groups.emplace_back();
        }
        Group &group = groups[at->second];
        group.samples.push_back(i);
        group.routes.push_back(&routes[i]);
        group.rows.push_back(rows[i]);
    }
    for (Group &group : groups) {
        group.fresh.resize(steps_.size() + 1);
        if (group.routes[0]->changed[0].empty()) {
            continue;
        }
        std::vector<Box> boxes;
        for (size_t i : group.samples) {
            boxes.push_back(changed[i]);
        }
        if (reads_all_fresh(*group.routes[0])) {
            group.fresh[0] = gathered(images_.baselines, boxes, group.rows);
        }
        compute(&group);
    }
    std::vector<at::Tensor> found;
    for (int value : live_) {
        found.push_back(spliced(value, groups, rows));
    }
    return found;
}

} // namespace bridge
