/* status.c - status codes in words, the detail of the last failure, and the small services every file uses. */
#define _POSIX_C_SOURCE 200809L
#include "met.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static _Thread_local char detail[512];

int met_fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return status;
}

const char *met_detail(void) {
    return detail;
}

const char *met_status_text(int status) {
    switch (status) {
    case MET_OK: return "no error";
    case MET_ENOMEM: return "out of memory";
    case MET_EVALUE: return "unusable value";
    case MET_ETYPE: return "unusable type";
    case MET_ESHAPE: return "shapes do not agree";
    case MET_EINDEX: return "index out of range";
    case MET_EGRADIENT: return "model is not differentiable";
    case MET_EMODEL: return "model broke its contract";
    case MET_ECALLBACK: return "exception pending";
    case MET_ECANCELLED: return "cancelled";
    case MET_EDECLINED: return "shortcut declined";
    default: return "unknown status";
    }
}

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
