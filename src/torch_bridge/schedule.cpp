/* schedule.cpp - when to look at another way to evaluate, and when to stay there. */
#include "schedule.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace bridge {

namespace {

/* Seconds of evaluations that are compared: several turns of a scheduler that shares a core among processes. */
constexpr double SPAN = 0.02;
/* A look this long may end early where the difference is plain: by these factors. */
constexpr double GLANCE = 0.003, PLAINLY_WORSE = 1.3, PLAINLY_BETTER = 0.5;
/* Timings vary by a few per cent: another way must be better by more. */
constexpr double GAIN = 0.95;
/* The part of the time that a thread does not run without anybody's fault. */
constexpr double IDLE = 0.15;
/* What looks without a sign may cost, as a part of the time at rest: on all threads, and on fewer. */
constexpr double BUDGET = 0.01, BUDGET_ON_FEWER = 0.03;
/* How many times as long more threads may take that were never looked at: small operators wait at each end. */
constexpr double UNKNOWN = 30;
/* After a look in vain, so many times its seconds pass before a sign is followed again; twice that after each next. */
constexpr double PATIENCE = 20;
/* Evaluations of other work after which a look is given up. */
constexpr int MISSES = 8;
/* Times that the machine is looked at before other work on it is believed. */
constexpr int LOOKS = 3;

} // namespace

int lasting(const std::function<int()> &look, const std::function<double()> &wait, double patience) {
    double waited = 0;
    int least = look();
    for (int looks = 1; least > 0 && (looks < LOOKS || waited < patience); looks++) {
        waited += wait();
        least = std::min(least, look());
    }
    return least;
}

Schedule::Schedule(const Settings &settings) : settings_(settings) {
    int threads = std::max(settings.threads, 1), start = std::clamp(settings.start, 1, threads);
    std::vector<int> counts{start};
    for (int n = threads; n >= 1; n /= 2) {
        counts.push_back(n);
    }
    std::sort(counts.begin(), counts.end(), std::greater<int>());
    counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
    for (int n : counts) {
        rest_ = n == start ? ways_.size() : rest_;
        ways_.push_back({n, false});
    }
    if (settings.samples && threads > 1) {
        ways_.push_back({threads, true});
    }
    ratio_.assign(ways_.size(), 0);
}

bool Schedule::fits(size_t way, const Work &work) const {
    return !ways_[way].samples || work.batch > 1;
}

bool Schedule::looks_at(const Work &work) const {
    return look_ != NONE && look_work_ == work;
}

Way Schedule::next(const Work &work) const {
    if (looks_at(work)) {
        return ways_[look_];
    }
    return ways_[fits(rest_, work) ? rest_ : 0];
}

void Schedule::took(const Work &work, double seconds, double waited) {
    if (ways_.size() < 2 || work.batch == 0) {
        return;
    }
    if (looks_at(work)) {
        looking_.add(work.batch, seconds, waited);
        judge();
        return;
    }
    if (look_ != NONE && ++missed_ > MISSES) {
        look_ = NONE;
    }
    if (!fits(rest_, work)) {
        return;
    }
    since_ += seconds;
    if (!(work == work_)) {
        work_ = work;
        resting_ = {};
    }
    resting_.add(work.batch, seconds, waited);
    if (look_ != NONE || resting_.seconds < SPAN) {
        return;
    }
    look_ = choose(resting_);
    look_work_ = work;
    looking_ = {};
    missed_ = 0;
    cost_at_rest_ = resting_.cost();
    resting_ = {};
}

/* End the look if the two ways can be told apart. */
void Schedule::judge() {
    double ratio = looking_.cost() / cost_at_rest_;
    bool plain = looking_.seconds >= GLANCE && (ratio > PLAINLY_WORSE || ratio < PLAINLY_BETTER);
    if (looking_.seconds < SPAN && !plain) {
        return;
    }
    ratio_[look_] = ratio;
    if (ratio < GAIN) {
        ratio_.assign(ratio_.size(), 0); /* of the others against this one nothing is known */
        ratio_[rest_] = 1 / ratio;
        rest_ = look_;
        in_vain_ = 0;
        patience_ = 0;
    } else {
        in_vain_++;
        patience_ = std::max(2 * patience_, PATIENCE * looking_.seconds);
    }
    look_ = NONE;
    since_ = 0;
    quiet_ = 0;
    resting_ = {};
}

/* The way to look at after `last`, which ran at rest, or NONE. */
size_t Schedule::choose(const Timing &last) {
    const Way &rest = ways_[rest_];
    const bool fewer = rest.threads < ways_[0].threads;
    if (fewer && settings_.alone != nullptr) {
        quiet_ = settings_.alone() ? quiet_ + 1 : 0;
    }
    if (since_ >= patience_) {
        if (rest.threads > 1 && last.waited > IDLE * last.seconds) {
            return rest.samples ? rest_ - 1 : rest_ + 1; /* one thread, the next fewer */
        }
        if (fewer && quiet_ >= 2) {
            ratio_.assign(ratio_.size(), 0); /* they were seen beside other work */
            return 0;
        }
    }
    /* Where evaluations are short, sharing operators costs much and samples on threads of their own may save it. */
    const size_t last_way = ways_.size() - 1;
    const bool short_ones = last.samples > work_.batch;
    if (ways_[last_way].samples && rest_ == 0 && ratio_[last_way] == 0 && in_vain_ == 0 && short_ones &&
        fits(last_way, work_)) {
        return last_way;
    }
    return settings_.curious || fewer ? cheapest_look(last) : NONE;
}

/* The seconds that a look at `way` may take beyond those of the same evaluations at rest. */
double Schedule::price(size_t way, const Timing &last) const {
    double ratio = ratio_[way];
    if (ratio == 0) {
        const double fewer = static_cast<double>(ways_[rest_].threads) / ways_[way].threads;
        ratio = ways_[way].samples ? 2 : fewer > 1 ? fewer : UNKNOWN;
    }
    const double evaluation = last.cost() * static_cast<double>(work_.batch);
    return std::max(ratio - 1, 0.1) * std::max(evaluation, GLANCE);
}

/* The look that costs least, one that was never taken before all others; NONE where even that costs too much. */
size_t Schedule::cheapest_look(const Timing &last) const {
    const auto order = [&](size_t way) { return std::pair(ratio_[way] != 0, price(way, last)); };
    size_t best = NONE;
    for (size_t way = 0; way < ways_.size(); way++) {
        if (way != rest_ && fits(way, work_) && (best == NONE || order(way) < order(best))) {
            best = way;
        }
    }
    const double budget = ways_[rest_].threads < ways_[0].threads ? BUDGET_ON_FEWER : BUDGET;
    if (best == NONE) {
        return NONE;
    }
    const double rarer = ratio_[best] == 0 ? 1 : static_cast<double>(1 << std::min(in_vain_, 20));
    return since_ * budget >= rarer * price(best, last) ? best : NONE;
}

} // namespace bridge
