/*
 * buffer.c - reference-counted memory.
 *
 * The engine exports its chunk to the model; a model (or a user's hook) may keep what it was given. The count tells
 * the engine whether somebody did, so that it never overwrites memory that another owner still looks at.
 */
#include "buffer.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

struct met_buffer {
    met_owner owner; /* first: an owner pointer is a buffer pointer */
    atomic_size_t references;
    size_t bytes;
    met_account *account;
    void *memory; /* what the allocator gave */
    void *data;   /* aligned */
};

static void *(*allocate)(size_t) = malloc;
static void (*deallocate)(void *) = free;

void met_set_allocator(void *(*new_allocate)(size_t bytes), void (*new_release)(void *memory)) {
    allocate = new_allocate != NULL ? new_allocate : malloc;
    deallocate = new_release != NULL ? new_release : free;
}

void *met_allocate(size_t count, size_t size) {
    void *memory = size > 0 && count > SIZE_MAX / size ? NULL : allocate(count * size > 0 ? count * size : 1);
    return memory == NULL ? NULL : memset(memory, 0, count * size);
}

void met_deallocate(void *memory) {
    if (memory != NULL) {
        deallocate(memory);
    }
}

static void retain(met_owner *self) {
    atomic_fetch_add(&((met_buffer *)self)->references, 1);
}

static void release(met_owner *self) {
    met_buffer *buffer = (met_buffer *)self;
    if (atomic_fetch_sub(&buffer->references, 1) == 1) {
        deallocate(buffer->memory);
        deallocate(buffer);
    }
}

int met_buffer_new(size_t bytes, const char *what, met_account *account, met_buffer **out) {
    met_buffer *buffer = allocate(sizeof *buffer);
    void *memory = buffer == NULL || bytes > SIZE_MAX - ALIGNMENT ? NULL : allocate(bytes + ALIGNMENT);
    if (memory == NULL) {
        if (buffer != NULL) {
            deallocate(buffer);
        }
        return met_fail(MET_ENOMEM, "%zu bytes for %s could not be had", bytes, what);
    }
    buffer->owner.retain = retain;
    buffer->owner.release = release;
    atomic_init(&buffer->references, 1);
    buffer->bytes = bytes;
    buffer->account = account;
    buffer->memory = memory;
    buffer->data = (void *)(((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
    if (account != NULL) {
        account->bytes += bytes;
        account->peak = account->bytes > account->peak ? account->bytes : account->peak;
    }
    *out = buffer;
    return MET_OK;
}

void *met_buffer_data(met_buffer *buffer) {
    return buffer->data;
}

met_owner *met_buffer_owner(met_buffer *buffer) {
    return &buffer->owner;
}

bool met_buffer_shared(const met_buffer *buffer) {
    return atomic_load(&buffer->references) > 1;
}

/* The core lets go; the account is the core's, so it is updated here and not at the last release elsewhere. */
void met_buffer_release(met_buffer *buffer) {
    if (buffer == NULL) {
        return;
    }
    if (buffer->account != NULL) {
        buffer->account->bytes -= buffer->bytes;
        buffer->account = NULL;
    }
    release(&buffer->owner);
}
