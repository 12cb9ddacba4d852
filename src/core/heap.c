/*
 * heap.c - freed memory stays with the process during a run, and goes back after it.
 *
 * A model allocates the same large tensors at every evaluation. The C library gives large blocks back to the system
 * as they are freed, and the next ones are cleared page by page when they are first touched: on images of 30 MB that
 * costs a tenth to a third of an evaluation. While a run holds the heap, freed blocks are kept for the next ones. When
 * the last run ends, the thresholds go where glibc itself moves them once blocks of that size have been freed, and
 * what is free returns to the system where that is cheap beside the run, or where much has gathered: results that are
 * kept lie between the blocks that their runs freed, so those would never be joined and returned by themselves.
 *
 * The thresholds are those of the whole process; met_options.leave_allocator_alone leaves them alone. Other C libraries
 * are left alone too.
 */
#include "run.h"

#include <stdatomic.h>

#ifdef __GLIBC__
#include <malloc.h>

#define HELD ((int)1 << 30)
/* glibc's own upper limits of its dynamic thresholds on 64-bit systems. */
#define MMAP_THRESHOLD ((int)32 << 20)
#define TRIM_THRESHOLD ((int)64 << 20)
/* Free memory that may gather before it is returned, whatever that costs. */
#define GATHERED ((size_t)64 << 20)
/* Bytes that the system clears and maps in a second, about, and the part of a run that this may cost. */
#define REFILL_RATE 4e9
#define REFILL_PART 0.01

static atomic_int holders;
static atomic_size_t returned; /* free bytes of the heap when memory was returned last: those are not resident */
static _Atomic double held_since;

/* Bytes of the heap that are free; 0 where this C library does not tell. */
static size_t free_bytes(void) {
#if __GLIBC_PREREQ(2, 33)
    return mallinfo2().fordblks;
#else
    return 0;
#endif
}

static void return_memory(double seconds) {
    const size_t free_now = free_bytes(), known = atomic_load(&returned);
    const size_t gathered = free_now > known ? free_now - known : 0;
    if (gathered > GATHERED || (gathered > 0 && (double)free_now / REFILL_RATE < REFILL_PART * seconds)) {
        malloc_trim(0);
        atomic_store(&returned, free_bytes());
    } else if (free_now < known) {
        atomic_store(&returned, free_now);
    }
}

void met_heap_hold(const met_options *options) {
    if (!options->leave_allocator_alone && atomic_fetch_add(&holders, 1) == 0) {
        atomic_store(&held_since, met_seconds());
        mallopt(M_MMAP_THRESHOLD, HELD);
        mallopt(M_TRIM_THRESHOLD, HELD);
    }
}

void met_heap_release(const met_options *options) {
    if (!options->leave_allocator_alone && atomic_fetch_sub(&holders, 1) == 1) {
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        return_memory(met_seconds() - atomic_load(&held_since));
    }
}
#else
void met_heap_hold(const met_options *options) {
    (void)options;
}

void met_heap_release(const met_options *options) {
    (void)options;
}
#endif
