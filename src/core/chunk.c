/*
 * chunk.c - the memory of a run: one image as samples read it, and one chunk of samples.
 *
 * A slot is written in place. Where two samples of one slot differ from the same image in a part only, just what is
 * different between them is written.
 */
#include "run.h"

#include <string.h>

/* ---- images */

/* View `image` as C-contiguous values of dtype: its own memory where it is that already, else a copy. */
static int readable(const met_image *image, const char *what, met_dtype dtype, const met_parallel *pool,
                    met_account *account, met_buffer **copy, const void **out) {
    int status = MET_OK;
    if (met_image_is_plain(image, dtype)) {
        *out = image->data;
        return MET_OK;
    }
    if (*copy == NULL) {
        status = met_buffer_new(met_image_size(image) * met_dtype_size(dtype), what, account, copy);
    }
    if (status == MET_OK) {
        status = met_image_read(image, dtype, pool, met_buffer_data(*copy));
    }
    if (status == MET_OK) {
        *out = met_buffer_data(*copy);
    }
    return status;
}

int met_read_input(met_readable *r, const met_input *input, met_dtype dtype, const met_parallel *pool,
                   met_account *account, met_base *out) {
    met_base base = {.dtype = dtype, .bands = input->image.bands, .baseline_value = input->baseline_value};
    int status = readable(&input->image, "an image", dtype, pool, account, &r->image, &base.image);
    if (status == MET_OK && input->baseline.data != NULL) {
        status = readable(&input->baseline, "a baseline", dtype, pool, account, &r->baseline, &base.baseline);
    }
    memcpy(base.shape, input->image.shape, sizeof base.shape);
    base.mask = input->image.mask;
    memcpy(base.mask_strides, input->image.mask_strides, sizeof base.mask_strides);
    if (status == MET_OK) {
        *out = base;
    }
    return status;
}

void met_readable_free(met_readable *r) {
    met_buffer_release(r->image);
    met_buffer_release(r->baseline);
    *r = (met_readable){0};
}

/* Make e->base that of image i. */
int met_load_image(engine *e, size_t i) {
    if (e->base_image == i) {
        return MET_OK;
    }
    e->base_image = MET_NO_IMAGE;
    int status =
        met_read_input(&e->readable, &e->job->inputs[i], e->job->dtype, e->options->pool, &e->report->memory, &e->base);
    e->base_image = status == MET_OK ? i : MET_NO_IMAGE;
    return status;
}

/* ---- the chunk */

void met_invalidate_slots(engine *e) {
    for (size_t i = 0; i < e->slot_capacity; i++) {
        e->slots[i].image = MET_NO_IMAGE;
    }
}

void met_free_slots(engine *e) {
    met_deallocate(e->slots);
    met_deallocate(e->scratch);
    met_deallocate(e->image_of);
    met_deallocate(e->origin_of);
    met_deallocate(e->k_of);
    met_deallocate(e->is_image);
    met_deallocate(e->weights);
    met_deallocate(e->samples);
    met_deallocate(e->targets);
    e->slot_capacity = 0;
}

/* Memory to describe n samples. */
int met_reserve_slots(engine *e, size_t n) {
    if (n <= e->slot_capacity) {
        return MET_OK;
    }
    met_free_slots(e);
    e->slots = met_allocate(n, sizeof *e->slots);
    e->scratch = met_allocate(n, 2 * e->job->scratch + 1);
    e->image_of = met_allocate(n, sizeof *e->image_of);
    e->origin_of = met_allocate(n, sizeof *e->origin_of);
    e->k_of = met_allocate(n, sizeof *e->k_of);
    e->is_image = met_allocate(n, sizeof *e->is_image);
    e->weights = met_allocate(n, sizeof *e->weights);
    e->samples = met_allocate(n, sizeof *e->samples);
    e->targets = met_allocate(n, sizeof *e->targets);
    if (!e->slots || !e->scratch || !e->image_of || !e->origin_of || !e->k_of || !e->is_image || !e->weights ||
        !e->samples || !e->targets) {
        return met_fail(MET_ENOMEM, "the description of %zu samples does not fit into memory", n);
    }
    e->slot_capacity = n;
    met_invalidate_slots(e);
    return MET_OK;
}

void met_free_chunk(engine *e) {
    met_buffer_release(e->chunk);
    e->chunk = NULL;
    e->chunk_capacity = 0;
    met_invalidate_slots(e);
}

/* Memory to render n samples, in memory that nobody else looks at. */
int met_reserve_chunk(engine *e, size_t n) {
    int status = met_reserve_slots(e, n);
    if (status != MET_OK || (n <= e->chunk_capacity && !met_buffer_shared(e->chunk))) {
        return status;
    }
    if (n > SIZE_MAX / 2 / e->bytes) {
        return met_fail(MET_ENOMEM, "a chunk of %zu samples of %zu bytes does not fit into memory", n, e->bytes);
    }
    n = n > e->chunk_capacity ? n : e->chunk_capacity;
    met_free_chunk(e);
    status = met_buffer_new(n * e->bytes, "a chunk of samples", &e->report->memory, &e->chunk);
    e->chunk_capacity = status == MET_OK ? n : 0;
    return status;
}

/* Describe evaluation k of image i, or with MET_REFERENCE the image itself, for slot j. */
int met_describe_sample(engine *e, size_t j, size_t i, size_t k, uint8_t *scratch, met_sample *s) {
    const met_job *job = e->job;
    *s = (met_sample){.kind = job->kind, .image = i, .scratch = scratch};
    e->image_of[j] = i;
    e->origin_of[j] = job->inputs[i].origin;
    e->k_of[j] = k;
    e->targets[j] = &job->inputs[i].target;
    e->weights[j] = 1.0;
    e->is_image[j] = true;
    if (k == MET_REFERENCE) {
        s->kind = MET_IDENTITY;
        return MET_OK;
    }
    e->weights[j] = job->weight != NULL ? job->weight(job->method, k) : 1.0;
    const int status = job->describe != NULL ? job->describe(job->method, i, k, s) : MET_OK;
    e->is_image[j] = s->kind == MET_IDENTITY;
    return status;
}

/* Write evaluation k of image i into slot j, unless it is a copy of the image that the job wants skipped. */
int met_fill_slot(engine *e, size_t j, size_t i, size_t k, bool *copy) {
    slot *held = &e->slots[j];
    uint8_t *out = (uint8_t *)met_buffer_data(e->chunk) + j * e->bytes;
    int status = met_load_image(e, i);
    if (status != MET_OK) {
        return status;
    }
    met_sample next;
    uint8_t *scratch = e->scratch + (2 * j + !held->second) * e->job->scratch;
    status = met_describe_sample(e, j, i, k, scratch, &next);
    if (status != MET_OK) {
        return status;
    }
    *copy = e->job->skip_copies && !met_sample_changes(&e->base, &next);
    if (*copy) { /* what the slot holds is left as it is */
        return MET_OK;
    }
    if (held->image == i && met_sample_is_local(&held->sample) && met_sample_is_local(&next)) {
        met_sample_move(&e->base, &held->sample, &next, e->options->pool, out);
    } else {
        met_sample_render(&e->base, &next, e->options->pool, out);
    }
    *held = (slot){.image = i, .sample = next, .second = !held->second};
    return MET_OK;
}

/* n samples of a buffer from sample `first` of the chunk on. */
met_batch met_batch_view(const engine *e, met_buffer *buffer, size_t first, size_t n) {
    const met_image *image = &e->job->inputs[0].image;
    met_batch x = {.dtype = e->job->dtype, .n = n, .bands = image->bands, .image = e->origin_of + first};
    memcpy(x.shape, image->shape, sizeof x.shape);
    x.data = (uint8_t *)met_buffer_data(buffer) + first * e->bytes;
    x.owner = met_buffer_owner(buffer);
    return x;
}
