/* platform.c - sizes of numbers, work over the host's threads, a monotonic clock. */
#define _POSIX_C_SOURCE 200809L
#include "platform.h"

#include <time.h>

size_t met_dtype_size(met_dtype dtype) {
    switch (dtype) {
    case MET_BOOL:
    case MET_UINT8:
    case MET_INT8: return 1;
    case MET_UINT16:
    case MET_INT16: return 2;
    case MET_UINT32:
    case MET_INT32:
    case MET_FLOAT32: return 4;
    case MET_UINT64:
    case MET_INT64:
    case MET_FLOAT64: return 8;
    }
    return 0;
}

void met_parallel_for(const met_parallel *pool, size_t n, size_t grain, void (*body)(void *arg, size_t from, size_t to),
                      void *arg) {
    if (n == 0) {
        return;
    }
    if (pool == NULL || n <= grain) {
        body(arg, 0, n);
    } else {
        pool->run(n, grain, body, arg);
    }
}

double met_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
