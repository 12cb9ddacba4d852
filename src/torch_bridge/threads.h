/* threads.h - how many of torch's threads an evaluation uses. */
#ifndef METEORS_C_THREADS_H
#define METEORS_C_THREADS_H

#include "schedule.h"

#include <functional>
#include <memory>

namespace bridge {

/* Torch's operators use at most `threads` threads where the calling thread runs them, as long as this lives. */
class ThreadLimit {
  public:
    explicit ThreadLimit(int threads);
    ~ThreadLimit();
    ThreadLimit(const ThreadLimit &) = delete;
    ThreadLimit &operator=(const ThreadLimit &) = delete;

  private:
    int before_ = 0, limit_ = 0; /* 0: nothing was changed */
};

/*
 * Call body(from, to) for parts of [0, n), one for each of torch's threads, in which operators are serial. Each part has
 * the caller's grad mode, autocast and the like. The first exception is thrown here, after all parts have ended.
 * The caller does not hold the GIL.
 */
void run_over_threads(size_t n, const std::function<void(size_t, size_t)> &body);

/*
 * How many of torch's threads find a core that does no other work. It may take some milliseconds to tell, up to a part of
 * what the latest run took.
 */
int threads_for_which_there_are_cores();

/* The threads of one run: as many as the caller's torch uses, or measured while it goes on (schedule.h). */
class Threads {
  public:
    Threads() = default;
    ~Threads();
    Threads(const Threads &) = delete;
    Threads &operator=(const Threads &) = delete;
    /*
     * Measure from now on, for a run in the calling thread that begins with `start` of them. `samples`: evaluations can
     * give samples to threads. `curious` as in schedule.h.
     */
    void measure(int start, bool samples = false, bool curious = false);

  private:
    friend class Turn;
    std::shared_ptr<Schedule> schedule_; /* empty: nothing to choose */
    double start_ = 0;                   /* when that began */
};

/* The same for what the run in the calling thread does beside evaluations, as long as its Threads live. */
class ThreadsBeside {
  public:
    ThreadsBeside();

  private:
    std::unique_ptr<ThreadLimit> limit_;
};

/*
 * One evaluation, as long as this lives: its operators use the threads that were chosen for it, and how long it took is
 * written down unless it ends by an exception.
 */
class Turn {
  public:
    Turn(Threads &threads, const Work &work);
    ~Turn();
    Turn(const Turn &) = delete;
    Turn &operator=(const Turn &) = delete;
    /* Whether samples are to be given to threads, by run_over_threads. */
    bool over_samples() const { return way_.samples; }

  private:
    Schedule *schedule_; /* nullptr: nothing to choose */
    Work work_;
    Way way_;
    std::unique_ptr<ThreadLimit> limit_;
    int exceptions_;
    double start_ = 0, start_running_ = 0;
};

} // namespace bridge

#endif
