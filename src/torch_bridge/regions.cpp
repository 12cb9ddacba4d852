/*
 * regions.cpp - planning: what a changed part of the image reaches, what that costs, and where it is cheapest to stop.
 *
 * Source of the idea: S. Nakandala, K. Nagrecha, A. Kumar and Y. Papakonstantinou, "Incremental and approximate inference
 * for faster occlusion-based deep CNN explanations", SIGMOD 2019. There it is worked out for chains of layers; here the
 * steps are operators of a recorded program, in any order that they depend on each other.
 */
#include "regions.h"

#include <set>

namespace bridge {
namespace {

/* Seconds that a call of an operator costs beside its arithmetic, its share where samples are computed together, and
 * values that are copied in a second. */
const double CALL = 10e-6, SHARE = 0.25, COPIED = 1e9;
/* Thin pieces of a frame take so many times longer for each value, and so many calls each. */
const double THIN = 1.5, CALLS_A_PIECE = 4;

/* Values of a node's constant tensors. */
double constants_of(const Node &node) {
    double count = 0;
    for (size_t a = 0; a < node.arguments.size(); a++) {
        const at::Tensor constant = node.constant(a);
        count += constant.defined() ? static_cast<double>(constant.numel()) : 0;
    }
    return count;
}

} // namespace

Regions::Regions(const Program &program, const Model &model, const std::vector<Box> &examples,
                 const std::vector<double> &seconds, size_t samples, bool differences, bool furthest)
    : program_(program), model_(model), seconds_(seconds), differences_(differences), furthest_(furthest),
      place_(program.values.size(), -1) {
    const at::NoGradGuard off;
    add_steps();
    for (size_t i = 0; i < program.nodes.size(); i++) {
        full_ += program.nodes[i].needed ? seconds_[i] : 0;
        once_.push_back(full_ / static_cast<double>(std::max<size_t>(samples, 1)));
    }
    std::vector<Route> routes;
    for (const Box &example : examples) {
        routes.push_back(route(example));
    }
    planned_ = full_;
    if (!routes.empty()) {
        choose(routes, furthest);
        live_ = program.live(stop_);
        find_wanted(examples);
    }
}

/* ---- the steps: one for each result of a node that is read */

void Regions::add_steps() {
    int places = 0;
    place_[static_cast<size_t>(program_.input)] = places++;
    std::vector<size_t> made_by(1, 0); /* by place: the step */
    for (limit_ = 0; limit_ < program_.nodes.size(); limit_++) {
        const Node &node = program_.nodes[limit_];
        if (!node.dependent || !node.needed) {
            continue;
        }
        std::unique_ptr<Rule> rule = rule_of(program_, node);
        if (!rule) {
            return;
        }
        std::vector<int> from;
        for (const Operand &operand : rule->operands) {
            from.push_back(operand.value < 0 ? -1 : place_[static_cast<size_t>(operand.value)]);
            if (operand.dependent && from.back() < 0) {
                return;
            }
        }
        std::vector<size_t> read; /* results */
        for (size_t r = 0; r < node.makes.size(); r++) {
            const int value = node.makes[r];
            if (value < 0 || program_.values[static_cast<size_t>(value)].last_read < 0) {
                continue;
            }
            if (r >= rule->results || !program_.values[static_cast<size_t>(value)].by_sample) {
                return;
            }
            read.push_back(r);
        }
        for (size_t r : read) {
            const int value = node.makes[r];
            for (int place : from) {
                if (place > 0) {
                    steps_[made_by[static_cast<size_t>(place)]].last_use = steps_.size();
                }
            }
            made_by.push_back(steps_.size());
            place_[static_cast<size_t>(value)] = places++;
            steps_.push_back({limit_, r, value, rule.get(), from, reads_, steps_.size()});
            reads_ += from.size();
        }
        rules_.push_back(std::move(rule));
    }
}

Route Regions::route(const Box &box) const {
    Route found;
    found.changed.resize(steps_.size() + 1);
    found.changed[0] = box;
    found.settled.assign(steps_.size() + 1, Box::nothing());
    found.settled[0] = box;
    found.reads.resize(reads_);
    found.updates.resize(steps_.size());
    found.framed.resize(steps_.size());
    found.key = box.sizes(0);
    Changes changed;
    for (size_t i = 0; i < steps_.size() && (stop_ == 0 || steps_[i].node < stop_); i++) {
        const Step &step = steps_[i];
        const size_t count = step.places.size();
        changed.assign(count, nullptr);
        bool any = false;
        for (size_t k = 0; k < count; k++) {
            const Box *of = step.places[k] >= 0 ? &found.changed[static_cast<size_t>(step.places[k])] : nullptr;
            changed[k] = of != nullptr && !of->empty() ? of : nullptr;
            any = any || changed[k] != nullptr;
        }
        Box &out = found.changed[i + 1];
        out = any ? step.rule->reach(changed, step.result) : Box::nothing();
        found.key.push_back(out.empty());
        if (out.empty()) {
            out = Box::nothing();
            continue;
        }
        found.updates[i] = step.rule->updates(changed, differences_);
        found.key.push_back(found.updates[i]);
        for (const Range &r : out) {
            found.key.push_back(r.size());
        }
        for (size_t k = 0; k < count; k++) {
            Box &reads = found.reads[step.first_read + k];
            reads = step.rule->reads(k, out, step.result);
            const std::vector<int64_t> &shape = step.rule->operands[k].shape;
            for (size_t d = 0; d < reads.axes(); d++) {
                const Range inside = common(reads[d], {0, shape[d + 1]});
                found.key.push_back(reads[d].size());
                found.key.push_back(inside.first - reads[d].first);
                found.key.push_back(inside.size());
                found.key.push_back(changed[k] != nullptr ? (*changed[k])[d].first - reads[d].first : 0);
            }
        }
        step.rule->phase(changed, out, step.result, &found.key);
        found.settled[i + 1] = settled(found, i, out);
        found.framed[i] = is_framed(found, i);
        found.key.push_back(found.framed[i]);
        for (size_t d = 0; d < out.axes() && found.framed[i]; d++) {
            found.key.push_back(found.settled[i + 1][d].first - out[d].first);
            found.key.push_back(found.settled[i + 1][d].size());
        }
    }
    return found;
}

/* Where a step reads nothing else of what depends on the image than what is settled. */
Box Regions::settled(const Route &route, size_t i, const Box &out) const {
    const Step &step = steps_[i];
    Box found = out;
    for (size_t k = 0; k < step.places.size() && !found.empty(); k++) {
        if (step.rule->operands[k].dependent) {
            const Box &known = route.settled[static_cast<size_t>(step.places[k])];
            found = known.empty() ? Box::nothing() : common(found, step.rule->within(k, known, step.result));
        }
    }
    return found.empty() ? Box::nothing() : found;
}

/* Whether a step is computed around what is settled, which is the baseline's, and has all channels. */
bool Regions::is_framed(const Route &route, size_t i) const {
    const Box &out = route.changed[i + 1], &inner = route.settled[i + 1];
    const bool can = steps_[i].rule->has_pieces() && !route.updates[i] && !inner.empty() && inner[0] == out[0];
    return can && (furthest_ || frame_seconds(route, i) < whole_seconds(route, i));
}

/* ---- what it costs */

int64_t Regions::size_of(int value) const {
    return c10::multiply_integers(program_.values[static_cast<size_t>(value)].shape);
}

/* Whether a step reads more of operand k than what is new. */
bool Regions::needs_base(const Route &route, const Step &step, size_t k) const {
    const Operand &operand = step.rule->operands[k];
    const Box inside = common(route.reads[step.first_read + k], Box::all(operand.shape));
    if (operand.value < 0 || inside.empty()) {
        return false;
    }
    const Box *changed = step.places[k] >= 0 ? &route.changed[static_cast<size_t>(step.places[k])] : nullptr;
    return changed == nullptr || changed->empty() || !changed->holds(inside);
}

/* A frame's pieces, and what is settled, which is copied from what is found once for the baseline. */
double Regions::frame_seconds(const Route &route, size_t i) const {
    const Step &step = steps_[i];
    const Box &out = route.changed[i + 1], &inner = route.settled[i + 1];
    const double whole = static_cast<double>(size_of(step.value)), copied = static_cast<double>(inner.count());
    double cost = CALL * SHARE + copied / COPIED + once_[step.node];
    for (const Box &piece : frame(out, inner)) {
        cost += CALLS_A_PIECE * CALL + THIN * seconds_[step.node] * static_cast<double>(piece.count()) / whole;
        for (size_t k = 0; k < step.places.size(); k++) {
            cost += static_cast<double>(step.rule->reads(k, piece, step.result).count()) / COPIED;
        }
    }
    return cost;
}

double Regions::step_seconds(const Route &route, size_t i) const {
    return route.changed[i + 1].empty() ? 0 : route.framed[i] ? frame_seconds(route, i) : whole_seconds(route, i);
}

double Regions::whole_seconds(const Route &route, size_t i) const {
    const Step &step = steps_[i];
    const Box &out = route.changed[i + 1];
    double cost = CALL * SHARE, part = static_cast<double>(out.count()) / static_cast<double>(size_of(step.value));
    if (route.updates[i]) {
        const Box &changed = route.changed[static_cast<size_t>(step.places[0])];
        const std::vector<int64_t> &shape = step.rule->operands[0].shape;
        const bool sums = changed.axes() != out.axes() || out.count() < changed.count();
        part = sums ? static_cast<double>(changed.count()) / static_cast<double>(size_of(step.rule->operands[0].value))
                    : part * static_cast<double>(changed[0].size()) / static_cast<double>(shape[1]);
        cost += 3 * CALL * SHARE + static_cast<double>(changed.count() + out.count()) / COPIED;
    }
    for (size_t k = 0; k < step.places.size() && !route.updates[i]; k++) {
        if (needs_base(route, step, k)) {
            const Box &reads = route.reads[step.first_read + k];
            cost += 2 * CALL * SHARE + static_cast<double>(reads.count()) / COPIED;
        }
    }
    const Node &node = program_.nodes[step.node];
    const double seconds = seconds_[step.node] / static_cast<double>(node.makes.size());
    const double weights = std::min(seconds, constants_of(node) / COPIED); /* they are read whole for a part, too */
    return cost + weights + part * (seconds - weights);
}

/* Copying what is live at a position and putting the new part into it. */
double Regions::splice_seconds(const std::vector<Route> &routes, size_t position) const {
    double cost = 0;
    for (int value : program_.live(position)) {
        const Box all = Box::all(program_.values[static_cast<size_t>(value)].shape);
        for (const Route &route : routes) {
            const Box &changed = route.changed[static_cast<size_t>(place_[static_cast<size_t>(value)])];
            cost += changed == all ? 0 : 2 * CALL + static_cast<double>(size_of(value)) / COPIED;
        }
    }
    return cost / static_cast<double>(routes.size());
}

/* Positions and what a sample costs that is cut there, the cheapest first. */
std::vector<std::pair<double, size_t>> Regions::candidates(const std::vector<Route> &routes) const {
    std::vector<std::pair<double, size_t>> found;
    double before = 0, behind = full_;
    size_t next = 0;
    for (size_t position = 1; position <= limit_; position++) {
        const Node &node = program_.nodes[position - 1];
        behind -= node.needed ? seconds_[position - 1] : 0;
        for (; next < steps_.size() && steps_[next].node < position; next++) {
            for (const Route &route : routes) {
                before += step_seconds(route, next) / static_cast<double>(routes.size());
            }
        }
        const std::vector<int> live = program_.live(position);
        const bool known =
            std::all_of(live.begin(), live.end(), [&](int value) { return place_[static_cast<size_t>(value)] >= 0; });
        if (node.dependent && node.needed && known) {
            found.emplace_back(before + behind + splice_seconds(routes, position), position);
        }
    }
    std::stable_sort(found.begin(), found.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
    return found;
}

void Regions::choose(const std::vector<Route> &routes, bool furthest) {
    std::vector<std::pair<double, size_t>> found = candidates(routes);
    if (furthest) {
        std::stable_sort(found.begin(), found.end(), [](const auto &a, const auto &b) { return a.second > b.second; });
    }
    for (const auto &[cost, position] : found) {
        if (!furthest && cost >= full_) {
            return;
        }
        if (program_.can_cut(position)) {
            planned_ = cost;
            stop_ = position;
            return;
        }
    }
}

size_t Regions::local() const {
    return program_.count(0, stop_);
}

std::string Regions::ends_at() const {
    return limit_ < program_.nodes.size() ? program_.nodes[limit_].full_name() : std::string();
}

/* ---- what must be known of whole images */

void Regions::find_wanted(const std::vector<Box> &examples) {
    const Box image = Box::all(program_.values[static_cast<size_t>(program_.input)].shape);
    std::vector<Box> probes;
    for (const Box &example : examples) {
        for (int where = 0; where < 4; where++) { /* as it is, at both ends, in the middle */
            Box box = example;
            for (size_t d = 0; d < box.axes() && where > 0; d++) {
                const int64_t size = box[d].size(), first = (image[d].last - size) * (where - 1) / 2;
                box[d] = {first, first + size};
            }
            probes.push_back(box);
        }
    }
    std::set<int> found;
    for (const Box &probe : probes) {
        const Route at = route(probe);
        for (size_t i = 0; i < steps_.size() && steps_[i].node < stop_; i++) {
            const Step &step = steps_[i];
            for (size_t k = 0; k < step.places.size() && !at.changed[i + 1].empty(); k++) {
                if (at.updates[i] || needs_base(at, step, k)) {
                    found.insert(step.rule->operands[k].value);
                }
            }
            if (at.updates[i]) {
                found.insert(step.value);
            }
        }
    }
    found.insert(live_.begin(), live_.end()); /* the image itself is a sample, too */
    wanted_.assign(found.begin(), found.end());
}

} // namespace bridge
