/*
 * heap.c - freed memory stays with the process during a run, and goes back after it.
 *
 * A model allocates the same large tensors at every evaluation. The C library gives large blocks back to the system
 * as they are freed, and the next ones are cleared page by page when they are first touched: on images of 30 MB that
 * costs a tenth to a third of an evaluation. While a run holds the heap, freed blocks are kept for the next ones. When
 * the last run ends, the thresholds go where glibc itself moves them once blocks of that size have been freed, or as far
 * as the next run needs, and what is free returns to the system where that is cheap beside the run, or where much has
 * gathered: results that are kept lie between the blocks that their runs freed, so those would never be joined and
 * returned by themselves.
 *
 * The thresholds are those of the whole process; met_options.leave_allocator_alone leaves them alone. Other C libraries
 * are left alone too.
 */
#include "run.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __GLIBC__
#include <malloc.h>

#define HELD ((int)1 << 30)
/* glibc's own upper limits of its dynamic thresholds on 64-bit systems. */
#define MMAP_THRESHOLD ((int)32 << 20)
#define TRIM_THRESHOLD ((int)64 << 20)
/* The most free memory at the end of the heap that stays between runs. */
#define MOST_KEPT ((int)256 << 20)
/* Free memory beyond what the next run needs that may gather before it is returned, whatever that costs. */
#define GATHERED ((size_t)64 << 20)
/* Bytes that the system clears and maps in a second, about, and the part of a run that this may cost. */
#define REFILL_RATE 4e9
#define REFILL_PART 0.01
/* Less is not worth the search through the heap. */
#define WORTH_RETURNING ((size_t)8 << 20)
#define PAGE_BYTES ((size_t)4096)

static atomic_int holders;
static _Atomic double held_since;

/* Resident memory and the heap's used bytes when memory was returned last; what a run leaves free right after that. */
static atomic_size_t returned_resident, returned_used, working_set;
static atomic_bool just_returned = true;

/* Resident bytes of the process that belong to no file; 0 where the system does not tell. */
static size_t resident_bytes(void) {
    size_t pages = 0, resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%zu %zu %zu", &pages, &resident, &shared) != 3) {
            resident = shared = 0;
        }
        fclose(file);
    }
    return (resident - shared) * PAGE_BYTES;
}

/* Bytes of the heap that are in use; 0 where this C library does not tell. */
static size_t used_bytes(void) {
#if __GLIBC_PREREQ(2, 33)
    const struct mallinfo2 heap = mallinfo2();
    return heap.uordblks + heap.hblkhd;
#else
    return 0;
#endif
}

static void remember(void) {
    atomic_store(&returned_resident, resident_bytes());
    atomic_store(&returned_used, used_bytes());
    atomic_store(&just_returned, true);
}

/*
 * Free memory that is resident has grown since memory was returned last by what the process has grown more than what it
 * uses. The next run needs about as much as one run leaves, results that were dropped included; what is there beyond twice
 * that was left between results that are kept.
 */
static void return_memory(double seconds) {
    const size_t grown = resident_bytes() - atomic_load(&returned_resident);
    const size_t used = used_bytes() - atomic_load(&returned_used);
    const size_t gathered = (ptrdiff_t)(grown - used) > 0 ? grown - used : 0;
    if (atomic_exchange(&just_returned, false)) {
        atomic_store(&working_set, gathered);
    }
    if (gathered > 2 * atomic_load(&working_set) + GATHERED ||
        (gathered > WORTH_RETURNING && (double)gathered / REFILL_RATE < REFILL_PART * seconds)) {
        malloc_trim(0);
        remember();
    }
}

/* Results that are dropped go back at once only beyond what the next run takes. */
static int trim_threshold(void) {
    const size_t kept = 2 * atomic_load(&working_set);
    return kept < TRIM_THRESHOLD ? TRIM_THRESHOLD : kept > MOST_KEPT ? MOST_KEPT : (int)kept;
}

void met_heap_hold(const met_options *options) {
    if (!options->leave_allocator_alone && atomic_fetch_add(&holders, 1) == 0) {
        atomic_store(&held_since, met_seconds());
        if (atomic_load(&returned_resident) == 0) {
            remember();
        }
        mallopt(M_MMAP_THRESHOLD, HELD);
        mallopt(M_TRIM_THRESHOLD, HELD);
    }
}

void met_heap_release(const met_options *options) {
    if (!options->leave_allocator_alone && atomic_fetch_sub(&holders, 1) == 1) {
        return_memory(met_seconds() - atomic_load(&held_since));
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        mallopt(M_TRIM_THRESHOLD, trim_threshold());
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
