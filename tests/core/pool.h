/* A pool for tests: parts of an odd length, far below the grain, run backwards on this thread. What gives the same
 * bits here does not depend on how work is split. */
#ifndef METEORS_C_TESTS_POOL_H
#define METEORS_C_TESTS_POOL_H

#include "platform.h"

static void run_backwards(size_t n, size_t grain, void (*body)(void *arg, size_t from, size_t to), void *arg) {
    const size_t part = 1009;
    (void)grain;
    for (size_t parts = (n + part - 1) / part; parts > 0; parts--) {
        const size_t from = (parts - 1) * part;
        body(arg, from, n - from < part ? n : from + part);
    }
}

static const met_parallel backwards = {run_backwards};

#endif
