/* Ways to evaluate, on machines whose speed is a formula. */
#include "schedule.h"

#include <functional>

extern "C" {
#include "check.h"
}

namespace {

using bridge::Schedule;
using bridge::Way;
using bridge::Work;

struct Machine {
    std::function<double(const Way &)> seconds; /* of one sample */
    std::function<double(const Way &)> waited;  /* the part of them in which the calling thread does not run */
};

/* Cores without other work: each thread helps. */
const Machine quiet = {[](const Way &way) { return 0.1 / way.threads; }, [](const Way &) { return 0.0; }};

/* Beside one busy process on two cores, threads wait for each other. */
const Machine busy = {[](const Way &way) { return way.threads > 1 ? 0.25 : 0.1; },
                      [](const Way &way) { return way.threads > 1 ? 0.5 : 0.0; }};

bool machine_is_quiet;

bool alone() {
    return machine_is_quiet;
}

/* Seconds of so many evaluations; `last` is the way of the last one. */
double run(Schedule &schedule, const Machine &machine, int evaluations, size_t batch = 1, Way *last = nullptr,
           Work::Kind kind = Work::Kind::gradient) {
    double total = 0;
    for (int i = 0; i < evaluations; i++) {
        const Work work = {kind, batch};
        const Way way = schedule.next(work);
        const double seconds = machine.seconds(way) * static_cast<double>(batch);
        schedule.took(work, seconds, seconds * machine.waited(way));
        total += seconds;
        if (last != nullptr) {
            *last = way;
        }
    }
    return total;
}

Machine scaled(const Machine &machine, double factor) {
    return {[=](const Way &way) { return factor * machine.seconds(way); }, machine.waited};
}

} // namespace

extern "C" {

void test_schedule_keeps_all_threads_on_a_quiet_machine(void) {
    for (double factor : {1.0, 0.01, 1e-5}) {
        Schedule schedule({2, 2, false, false, alone});
        Way last;
        const Machine machine = scaled(quiet, factor);
        CHECK_CLOSE(run(schedule, machine, 5000, 1, &last), 5000 * 0.05 * factor, 1e-9);
        CHECK_INT(last.threads, 2);
    }
}

void test_schedule_leaves_threads_that_wait(void) {
    machine_is_quiet = false;
    for (int evaluations : {30, 300, 3000}) {
        for (double factor : {1.0, 0.01, 1e-4}) {
            Schedule schedule({2, 2, false, false, alone});
            const double one = 0.1 * factor * evaluations;
            /* What was slow before anything was known is two evaluations, or so many as say something. */
            const double known = factor < 1 ? 0.1 : 0;
            CHECK(run(schedule, scaled(busy, factor), evaluations) <= 1.1 * one + known);
        }
    }
}

void test_schedule_begins_with_few_threads_beside_others(void) {
    machine_is_quiet = false;
    const Machine hundredfold = {[](const Way &way) { return way.threads > 1 ? 0.1 : 0.001; }, busy.waited};
    for (int evaluations : {1, 10, 100, 400, 1000, 3500, 30000}) {
        Schedule schedule({2, 1, false, false, alone});
        CHECK(run(schedule, hundredfold, evaluations) <= 1.15 * 0.001 * evaluations);
    }
}

void test_schedule_takes_all_threads_when_others_are_gone(void) {
    machine_is_quiet = false;
    Schedule schedule({2, 2, false, false, alone});
    Way last;
    run(schedule, busy, 20, 1, &last);
    CHECK_INT(last.threads, 1);
    machine_is_quiet = true;
    run(schedule, quiet, 4, 1, &last);
    CHECK_INT(last.threads, 2);
    run(schedule, busy, 4, 1, &last);
    CHECK_INT(last.threads, 1);
}

void test_schedule_tries_all_threads_without_a_sign_in_the_end(void) {
    Schedule schedule({2, 1, false, false, nullptr});
    Way last;
    run(schedule, quiet, 2000, 1, &last);
    CHECK_INT(last.threads, 2);
}

void test_schedule_is_not_misled_by_a_model_that_sleeps(void) {
    const Machine sleepy = {quiet.seconds, [](const Way &) { return 0.6; }};
    Schedule schedule({2, 2, false, false, alone});
    CHECK(run(schedule, sleepy, 10) <= 1.1 * 0.05 * 10);
    CHECK(run(schedule, sleepy, 1000) <= 1.01 * 0.05 * 1000);
}

void test_schedule_finds_the_best_of_many_numbers(void) {
    machine_is_quiet = false;
    /* Six other processes on sixteen cores. */
    const Machine shared = {[](const Way &way) { return way.threads > 8 ? 0.03 : 0.08 / way.threads; },
                            [](const Way &way) { return way.threads > 8 ? 0.4 : 0.0; }};
    Schedule schedule({16, 16, false, false, alone});
    Way last;
    run(schedule, shared, 50, 1, &last);
    CHECK_INT(last.threads, 8);
    Schedule odd({15, 15, false, false, alone});
    run(odd, shared, 50, 1, &last);
    CHECK_INT(last.threads, 7);
}

void test_schedule_compares_batches_of_one_size_alone(void) {
    /* Large batches are cheap for each sample: a change of the size must not pass for one of the threads. */
    Schedule schedule({2, 2, false, false, alone});
    double total = 0, right = 0;
    for (int i = 0; i < 200; i++) {
        const size_t batch = i % 3 == 0 ? 8 : 1;
        const Machine machine = {[=](const Way &way) { return (batch > 1 ? 0.01 : 0.1) / way.threads; },
                                 [](const Way &) { return 0.6; }};
        const auto kind = i % 2 == 0 ? Work::Kind::forward : Work::Kind::gradient;
        total += run(schedule, machine, 1, batch, nullptr, kind);
        right += static_cast<double>(batch) * machine.seconds({2, false});
    }
    CHECK(total <= 1.03 * right);
}

void test_schedule_that_is_curious_finds_what_nothing_tells(void) {
    machine_is_quiet = true;
    /* Operators so small that threads do not help. */
    const Machine small = {[](const Way &way) { return way.threads > 1 ? 0.002 : 0.001; },
                           [](const Way &) { return 0.0; }};
    Schedule schedule({2, 2, false, true, alone});
    Way last;
    run(schedule, small, 1000, 1, &last);
    CHECK_INT(last.threads, 1);
    Schedule brief({2, 2, false, true, alone});
    CHECK_CLOSE(run(brief, quiet, 50), 50 * 0.05, 1e-9);
    Schedule in_vain({2, 2, false, true, alone});
    CHECK(run(in_vain, quiet, 10000) <= 1.003 * 0.05 * 10000);
}

void test_schedule_gives_samples_to_threads_where_that_is_faster(void) {
    machine_is_quiet = true;
    const Machine small = {[](const Way &way) { return way.samples ? 0.0006 : 0.001; },
                           [](const Way &) { return 0.0; }};
    Schedule schedule({2, 2, true, true, alone});
    Way last;
    run(schedule, small, 50, 8, &last);
    CHECK(last.samples);
    CHECK(!schedule.next({Work::Kind::gradient, 1}).samples);
    machine_is_quiet = false;
    run(schedule, scaled(busy, 0.01), 50, 8, &last);
    CHECK_INT(last.threads, 1);
    machine_is_quiet = true;
    run(schedule, small, 100, 8, &last);
    CHECK(last.samples);
    const Machine large = {[](const Way &way) { return way.samples ? 0.006 : 0.005; }, [](const Way &) { return 0.0; }};
    Schedule other({2, 2, true, true, alone});
    CHECK(run(other, large, 1000, 8, &last) <= 1.01 * 0.005 * 8 * 1000);
    CHECK(!last.samples);
}

void test_schedule_waits_for_threads_that_spin_where_that_is_worth_it(void) {
    double now = 0;
    const auto wait = [&] { return now += 0.001, 0.001; };
    const auto look = [&](double spinning, int others) {
        now = 0;
        return [&now, spinning, others] { return now < spinning ? others + 1 : others; };
    };
    CHECK_INT(bridge::lasting(look(0.007, 0), wait, 0.01), 0);
    CHECK_CLOSE(now, 0.007, 1e-9);
    CHECK_INT(bridge::lasting(look(0.007, 0), wait, 0), 1);
    CHECK_CLOSE(now, 0.002, 1e-9);
    CHECK_INT(bridge::lasting(look(0.007, 2), wait, 0.01), 2);
    CHECK_INT(bridge::lasting(look(1, 0), wait, 0.01), 1);
    CHECK(now < 0.0111);
    CHECK_INT(bridge::lasting(look(0, 0), wait, 0.01), 0);
    CHECK_CLOSE(now, 0, 0);
}

} /* extern "C" */
