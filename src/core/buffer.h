/*
 * buffer.h - memory: reference-counted blocks, small arrays, the allocator behind both.
 */
#ifndef MET_BUFFER_H
#define MET_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Somebody's claim on memory. Whoever keeps the memory beyond the call that exported it calls retain() and later
 * release(); the last release() frees it. Both are safe from any thread.
 */
typedef struct met_owner {
    void (*retain)(struct met_owner *self);
    void (*release)(struct met_owner *self);
} met_owner;

/* Running account of what the core holds, for reports. */
typedef struct met_account {
    size_t bytes;
    size_t peak;
} met_account;

typedef struct met_buffer met_buffer; /* reference-counted, 64-byte aligned memory */

/* New memory of `bytes` (not cleared), with one reference; `what` names it in the error. */
int met_buffer_new(size_t bytes, const char *what, met_account *account, met_buffer **out);
void *met_buffer_data(met_buffer *buffer);
met_owner *met_buffer_owner(met_buffer *buffer);
/* True where somebody else holds the buffer too: its content must then not be written again. */
bool met_buffer_shared(const met_buffer *buffer);
void met_buffer_release(met_buffer *buffer); /* NULL is fine */

/* Small arrays of the core: cleared, NULL where count * size cannot be had. met_deallocate(NULL) is fine. */
void *met_allocate(size_t count, size_t size);
void met_deallocate(void *memory);

/* The allocator behind all of the above; tests replace it to make allocations fail. NULL restores malloc/free. */
void met_set_allocator(void *(*allocate)(size_t bytes), void (*release)(void *memory));

#ifdef __cplusplus
}
#endif

#endif
