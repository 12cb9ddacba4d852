/* schedule.h - which of several ways to evaluate is the fastest, found while the work runs. */
#ifndef METEORS_C_SCHEDULE_H
#define METEORS_C_SCHEDULE_H

#include <cstddef>
#include <functional>
#include <vector>

namespace bridge {

/* A way to evaluate a batch. */
struct Way {
    int threads = 1;      /* that work at once: */
    bool samples = false; /* each on samples of its own, with serial operators, or all together on each operator */
};

/* Evaluations whose times can be compared: what is evaluated, and how many samples at once. */
struct Work {
    enum class Kind { forward, gradient, replayed_forward, replayed_gradient };
    Kind kind = Kind::forward;
    size_t batch = 0;
    bool operator==(const Work &other) const { return kind == other.kind && batch == other.batch; }
};

/*
 * Of other work on the machine, what does not end in a moment: the least that `look` finds in a few looks, and for
 * `patience` seconds if that is longer, or nothing as soon as it finds none. Threads of a process whose work is done spin
 * for some milliseconds more. `wait` lets a moment pass and returns its seconds.
 */
int lasting(const std::function<int()> &look, const std::function<double()> &wait, double patience);

/*
 * Rests at one way and now and then looks at another. A look ends as soon as the two can be told apart, and each one
 * that was in vain makes the next one rarer.
 *
 * All threads is where it begins, so that a quiet machine loses nothing. Fewer threads are looked at where the calling
 * thread did not run: then it waited for threads that share their cores with other work. More are looked at where no
 * other work is left, and, as the cause may be hidden, once they can hardly cost anything beside what was done. `curious`
 * looks at all ways in that manner, without a sign. What operators round can depend on their threads, so that is for
 * work whose last bits nobody was promised.
 */
class Schedule {
  public:
    struct Settings {
        int threads = 1;           /* the most */
        int start = 1;             /* how many to begin with */
        bool samples = false;      /* whether samples can be given to threads */
        bool curious = false;      /* above */
        bool (*alone)() = nullptr; /* whether no other work runs on the machine; nullptr: unknown */
    };

    explicit Schedule(const Settings &settings);

    /* How the next evaluation is to run. */
    Way next(const Work &work) const;
    /* The threads that work is best shared by which is no evaluation. */
    int threads() const { return ways_[rest_].threads; }
    /* An evaluation ran as next() said, for `seconds`, in which the calling thread did not run for `waited`. */
    void took(const Work &work, double seconds, double waited);

  private:
    struct Timing {
        double seconds = 0, waited = 0;
        size_t samples = 0;
        double cost() const { return seconds / static_cast<double>(samples); } /* of a sample */
        void add(size_t n, double time, double wait) { seconds += time, waited += wait, samples += n; }
    };
    static constexpr size_t NONE = static_cast<size_t>(-1);

    bool fits(size_t way, const Work &work) const;
    bool looks_at(const Work &work) const;
    void judge();
    size_t choose(const Timing &last);
    double price(size_t way, const Timing &last) const;
    size_t cheapest_look(const Timing &last) const;

    Settings settings_;
    std::vector<Way> ways_;     /* all threads, fewer, one, samples */
    std::vector<double> ratio_; /* cost of a way over that of the one at rest, when it was last seen; 0: never */
    size_t rest_ = 0;
    Work work_;
    Timing resting_;      /* the latest evaluations, of `work_` */
    double since_ = 0;    /* seconds at rest since the last look */
    double patience_ = 0; /* seconds at rest before a sign is followed */
    int in_vain_ = 0;     /* looks in a row */
    int quiet_ = 0;       /* times in a row that no other work was seen */

    size_t look_ = NONE; /* a way */
    Work look_work_;
    Timing looking_;
    double cost_at_rest_ = 0; /* what it is compared with */
    int missed_ = 0;          /* evaluations of other work while it was to be taken */
};

} // namespace bridge

#endif
