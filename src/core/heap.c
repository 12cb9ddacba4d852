/*
 * heap.c - freed memory stays with the process during a run.
 *
 * A model allocates the same large tensors at every evaluation. The C library gives large blocks back to the system
 * as they are freed, and the next ones are cleared page by page when they are first touched: on images of 30 MB that
 * costs a tenth to a third of an evaluation. While a run holds the heap, freed blocks are kept for the next ones; when
 * the last run ends, the thresholds go where glibc itself moves them once blocks of that size have been freed, so that
 * what is free goes back as other memory is freed. Other C libraries are left alone.
 */
#include "engine.h"

#include <stdatomic.h>

#ifdef __GLIBC__
#include <malloc.h>

#define HELD ((int)1 << 30)
/* glibc's own upper limits of its dynamic thresholds on 64-bit systems. */
#define MMAP_THRESHOLD ((int)32 << 20)
#define TRIM_THRESHOLD ((int)64 << 20)

static atomic_int holders;

void met_heap_hold(void) {
    if (atomic_fetch_add(&holders, 1) == 0) {
        mallopt(M_MMAP_THRESHOLD, HELD);
        mallopt(M_TRIM_THRESHOLD, HELD);
    }
}

void met_heap_release(void) {
    if (atomic_fetch_sub(&holders, 1) == 1) {
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    }
}
#else
void met_heap_hold(void) {}

void met_heap_release(void) {}
#endif
