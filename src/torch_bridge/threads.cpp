/*
 * threads.cpp - torch's threads, and what else runs on the machine.
 *
 * The number of threads is set for the calling thread alone: in OpenMP, where it is a variable of each thread, and in
 * MKL, whose own setting would win. at::set_num_threads() would change it for the whole process.
 */
#include "threads.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#ifdef _OPENMP
#include <omp.h>

/* MKL is linked into some builds of torch. */
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int);
#endif

namespace bridge {

/* ---- limits */

#ifdef _OPENMP

namespace {

/* 0: MKL follows the setting of the process again. */
void limit_mkl(int threads) {
    if (MKL_Set_Num_Threads_Local != nullptr) {
        MKL_Set_Num_Threads_Local(threads);
    }
}

} // namespace

ThreadLimit::ThreadLimit(int threads) {
    int now = at::get_num_threads(); /* a thread's first use of torch sets its number: not after us */
    if (threads < now) {
        before_ = now;
        limit_ = threads;
        omp_set_num_threads(threads);
        limit_mkl(threads);
    }
}

ThreadLimit::~ThreadLimit() {
    if (limit_ == 0) {
        return;
    }
    limit_mkl(0);
    if (omp_get_max_threads() == limit_) { /* else the model has set its own number, which stays */
        omp_set_num_threads(before_);
    }
}

#else

ThreadLimit::ThreadLimit(int) {}
ThreadLimit::~ThreadLimit() = default;

#endif

void run_over_threads(size_t n, const std::function<void(size_t, size_t)> &body) {
    const auto threads = static_cast<size_t>(std::max(at::get_num_threads(), 1));
    const at::ThreadLocalState state;
    at::parallel_for(0, static_cast<int64_t>(n), static_cast<int64_t>((n + threads - 1) / threads),
                     [&](int64_t from, int64_t to) {
                         at::ThreadLocalStateGuard guard(state);
                         body(static_cast<size_t>(from), static_cast<size_t>(to));
                     });
}

/* ---- other work on the machine */

namespace {

thread_local double latest_run = 0; /* seconds; in this thread */

double seconds_of(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

} // namespace

#ifdef _OPENMP

namespace {

/* Threads of the whole machine that run or could run, the calling one among them; 0: unknown. */
int running_threads() {
    FILE *file = std::fopen("/proc/loadavg", "r");
    int running = 0;
    if (file != nullptr) {
        if (std::fscanf(file, "%*f %*f %*f %d/", &running) != 1) {
            running = 0;
        }
        std::fclose(file);
    }
    return running;
}

/* Whether a thread of this process runs or could run. */
bool is_running(const char *thread) {
    char state = 0;
    FILE *file = std::fopen((std::string("/proc/self/task/") + thread + "/stat").c_str(), "r");
    if (file != nullptr) {
        char text[256]; /* "id (name) state ...", and a name may hold anything within its 15 characters */
        size_t length = std::fread(text, 1, sizeof text - 1, file);
        std::fclose(file);
        std::string line(text, length);
        size_t end = line.rfind(") ");
        state = end != std::string::npos && end + 2 < line.size() ? line[end + 2] : '\0';
    }
    return state == 'R';
}

int own_running_threads() {
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    if (folder != nullptr) {
        while (const dirent *entry = readdir(folder)) {
            count += entry->d_name[0] != '.' && is_running(entry->d_name);
        }
        closedir(folder);
    }
    return count;
}

/* Threads of other processes that run or could run; none where that is unknown. */
int foreign_threads() {
    int running = running_threads();
    return running <= 1 ? 0 : std::max(running - std::max(own_running_threads(), 1), 0);
}

/* The same but for those that are gone in a moment; after a run that took long it may last a few milliseconds more. */
int lasting_foreign_threads() {
    constexpr double SPINNING = 0.01, WORTH = 0.1; /* seconds; a part of a run */
    const auto wait = [] {
        constexpr timespec MOMENT = {0, 1000000};
        const double start = seconds_of(CLOCK_MONOTONIC);
        nanosleep(&MOMENT, nullptr);
        return seconds_of(CLOCK_MONOTONIC) - start;
    };
    return lasting(foreign_threads, wait, std::min(SPINNING, WORTH * latest_run));
}

bool alone() {
    return running_threads() == 1;
}

} // namespace

#endif

/* ---- a run, an evaluation */

namespace {

thread_local std::weak_ptr<Schedule> of_this_thread; /* of the latest run in it */

} // namespace

#ifdef _OPENMP

int threads_for_which_there_are_cores() {
    const int most = at::get_num_threads();
    const auto cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    return cores < most || most == 1 ? most : std::max(std::min(most, cores - lasting_foreign_threads()), 1);
}

void Threads::measure(int start, bool samples, bool curious) {
    const int most = at::get_num_threads();
    if (most > 1 && !at::in_parallel_region()) {
        schedule_ = std::make_shared<Schedule>(Schedule::Settings{most, start, samples, curious, alone});
        of_this_thread = schedule_;
        start_ = seconds_of(CLOCK_MONOTONIC);
    }
}

#else

int threads_for_which_there_are_cores() {
    return at::get_num_threads();
}

void Threads::measure(int, bool, bool) {}

#endif

Threads::~Threads() {
    if (schedule_ != nullptr) {
        latest_run = seconds_of(CLOCK_MONOTONIC) - start_;
    }
}

ThreadsBeside::ThreadsBeside() {
    if (auto schedule = of_this_thread.lock()) {
        limit_ = std::make_unique<ThreadLimit>(schedule->threads());
    }
}

Turn::Turn(Threads &threads, const Work &work)
    : schedule_(threads.schedule_.get()), work_(work), exceptions_(std::uncaught_exceptions()) {
    if (schedule_ == nullptr) {
        return;
    }
    way_ = schedule_->next(work_);
    limit_ = std::make_unique<ThreadLimit>(way_.threads);
    start_ = seconds_of(CLOCK_MONOTONIC);
    start_running_ = seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

Turn::~Turn() {
    if (schedule_ != nullptr && std::uncaught_exceptions() == exceptions_) {
        const double seconds = seconds_of(CLOCK_MONOTONIC) - start_;
        const double running = seconds_of(CLOCK_THREAD_CPUTIME_ID) - start_running_;
        schedule_->took(work_, seconds, std::max(seconds - running, 0.0));
    }
}

} // namespace bridge
