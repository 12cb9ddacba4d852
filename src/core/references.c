/*
 * references.c - what an image itself gives, for jobs that compare its samples with it.
 *
 * Kernels for batches of another size add in another order, so that a difference between outputs of two batches is off by
 * rounding that a difference within one is not. So every sample is compared with its image as that came from a call for
 * as many samples, on the same path: path.c puts the image into the first call of each size.
 */
#include "run.h"

#include <string.h>

static const reference *find(const engine *e, size_t image, size_t n) {
    for (size_t i = e->reference_count; i > 0; i--) {
        const reference *r = &e->references[i - 1];
        if (r->image == image && r->shortcut == e->shortcut && r->n == n) {
            return r;
        }
    }
    return NULL;
}

bool met_has_reference(const engine *e, size_t image, size_t n) {
    return find(e, image, n) != NULL;
}

/* That of a call for n samples; where a model forced calls of another size, the last one there is. NULL: none fits. */
const double *met_find_reference(const engine *e, size_t image, size_t n, size_t width) {
    const reference *r = find(e, image, n);
    for (size_t i = e->reference_count; i > 0 && r == NULL; i--) {
        r = e->references[i - 1].image == image ? &e->references[i - 1] : NULL;
    }
    return r != NULL && r->width == width ? r->value : NULL;
}

static int grow(engine *e) {
    const size_t capacity = e->reference_capacity == 0 ? 16 : 2 * e->reference_capacity;
    reference *more = met_allocate(capacity, sizeof *more);
    if (more == NULL) {
        return met_fail(MET_ENOMEM, "the outputs of %zu images do not fit into memory", capacity);
    }
    if (e->reference_count > 0) {
        memcpy(more, e->references, e->reference_count * sizeof *more);
    }
    met_deallocate(e->references);
    e->references = more;
    e->reference_capacity = capacity;
    return MET_OK;
}

int met_add_reference(engine *e, size_t image, size_t n, const double *value, size_t width) {
    if (met_has_reference(e, image, n)) {
        return MET_OK;
    }
    int status = e->reference_count == e->reference_capacity ? grow(e) : MET_OK;
    double *copy = status == MET_OK ? met_allocate(width, sizeof *copy) : NULL;
    if (copy == NULL) {
        return status != MET_OK ? status : met_fail(MET_ENOMEM, "%zu outputs do not fit into memory", width);
    }
    memcpy(copy, value, width * sizeof *copy);
    e->references[e->reference_count++] = (reference){image, n, e->shortcut, width, copy};
    return MET_OK;
}

void met_forget_references(engine *e, size_t image) {
    size_t kept = 0;
    for (size_t i = 0; i < e->reference_count; i++) {
        const reference r = e->references[i];
        if (image == MET_NO_IMAGE ? r.shortcut : r.image == image) {
            met_deallocate(r.value);
        } else {
            e->references[kept++] = r;
        }
    }
    e->reference_count = kept;
}

void met_free_references(engine *e) {
    for (size_t i = 0; i < e->reference_count; i++) {
        met_deallocate(e->references[i].value);
    }
    met_deallocate(e->references);
    e->references = NULL;
    e->reference_count = e->reference_capacity = 0;
}
