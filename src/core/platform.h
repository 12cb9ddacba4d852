/*
 * platform.h - numbers, devices, the host's threads and a clock.
 */
#ifndef MET_PLATFORM_H
#define MET_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum met_dtype {
    MET_BOOL,
    MET_UINT8,
    MET_INT8,
    MET_UINT16,
    MET_INT16,
    MET_UINT32,
    MET_INT32,
    MET_UINT64,
    MET_INT64,
    MET_FLOAT32,
    MET_FLOAT64
} met_dtype;

/* Bytes of one value. */
size_t met_dtype_size(met_dtype dtype);

typedef enum met_device_type { MET_CPU = 0, MET_CUDA = 1 } met_device_type;

typedef struct met_device {
    met_device_type type;
    int index;
} met_device;

/*
 * The host's thread pool. run() calls body(arg, from, to) over disjoint parts of [0, n), each at least `grain`
 * long but the last, and returns when all are done. The core starts no threads of its own.
 */
typedef struct met_parallel {
    void (*run)(size_t n, size_t grain, void (*body)(void *arg, size_t from, size_t to), void *arg);
} met_parallel;

/* Run body over [0, n) on `pool`, or on this thread where pool is NULL or the work is small. */
void met_parallel_for(const met_parallel *pool, size_t n, size_t grain, void (*body)(void *arg, size_t from, size_t to),
                      void *arg);

static inline size_t met_min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Seconds of a monotonic clock. */
double met_seconds(void);

#ifdef __cplusplus
}
#endif

#endif
