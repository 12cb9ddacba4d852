/* run.h - the state of a run, shared by the files of the engine alone. */
#ifndef MET_RUN_H
#define MET_RUN_H

#include "engine.h"
#include "reduce.h"
#include "tuner.h"

#define MET_NO_IMAGE SIZE_MAX

/* Copies of an image and a baseline that could not be read where they lie. Starts as zeros. */
typedef struct met_readable {
    met_buffer *image;
    met_buffer *baseline;
} met_readable;

/* chunk.c: an input as samples read it, valid until the next call with the same `r`. */
int met_read_input(met_readable *r, const met_input *input, met_dtype dtype, const met_parallel *pool,
                   met_account *account, met_base *out);
void met_readable_free(met_readable *r);

typedef struct slot {
    size_t image; /* whose sample it holds; MET_NO_IMAGE: nothing that can be undone */
    met_sample sample;
    bool second; /* which half of its scratch the sample is described in */
} slot;

typedef struct engine {
    const met_job *job;
    const met_model *model;
    const met_options *options;
    met_report *report;
    size_t size;  /* values of an image */
    size_t bytes; /* bytes of a sample */
    size_t done;
    size_t *remaining; /* (images,) evaluations that are not folded yet */

    met_buffer *chunk; /* (chunk_capacity, size) */
    size_t chunk_capacity;

    size_t slot_capacity;
    slot *slots;         /* (slot_capacity,), and so are the next ones */
    uint8_t *scratch;    /* (slot_capacity, 2, job->scratch): the sample that a slot holds, and the next one */
    size_t *image_of;    /* image of the job */
    size_t *origin_of;   /* image of the user's call */
    size_t *k_of;        /* evaluation of that image */
    double *weights;     /* of its gradient in a sum */
    met_sample *samples; /* descriptions, for shortcuts */
    const met_target **targets;

    met_readable readable;
    met_base base; /* of image base_image */
    size_t base_image;

    met_prepared *prepared; /* of the images from `first_prepared` on, while they go through a shortcut */
    size_t first_prepared;

    double *
        first_values; /* (width,) outputs of the first sample evaluated alone: a shortcut must give them too; or NULL */
    met_reducer sum;
    double *values; /* outputs of a chunk */
    size_t values_capacity;
    size_t width; /* outputs of a sample, once one was evaluated */
} engine;

/* What is requested of the model for a chunk; reserve() finds the memory behind `y`. */
typedef struct output_request {
    met_outputs y;
    double **values;
    size_t *capacity;
} output_request;

/* chunk.c: images as samples read them, and the slots that hold samples. */
int met_load_image(engine *e, size_t i);
int met_reserve_slots(engine *e, size_t n);
int met_reserve_chunk(engine *e, size_t n);
void met_invalidate_slots(engine *e);
void met_free_slots(engine *e);
int met_describe_sample(engine *e, size_t j, size_t i, size_t k, uint8_t *scratch, met_sample *s);
/* *copy: the sample is a copy of its image and need not be evaluated. */
int met_fill_slot(engine *e, size_t j, size_t i, size_t k, bool *copy);
/* The n samples in a buffer, the first of which is sample `first` of the chunk. */
met_batch met_batch_view(const engine *e, met_buffer *buffer, size_t first, size_t n);

/* engine.c: requesting, counting, reducing. */
output_request met_request_outputs(const engine *e, size_t first, size_t n, double **values, size_t *capacity);
void met_count_call(engine *e, size_t n, double seconds);
int met_report_progress(engine *e, size_t n);
int met_fold(engine *e, size_t first, size_t n, const met_batch *dx, const met_outputs *y);
size_t met_chunk_limit(const engine *e);
size_t met_chunk_first(const engine *e);
/* The largest chunk that the engine comes to, rendered or behind a shortcut. */
size_t met_largest_chunk(const engine *e, bool prepared);

/*
 * One of the two paths that samples take: rendered, or through a shortcut.
 *   reserve  memory for n of them
 *   fill     put evaluation k of an image into place j; *copy: it is a copy of its image that need not be evaluated
 *   run      evaluate and fold the first n
 */
typedef struct met_path {
    int (*reserve)(engine *e, size_t n);
    int (*fill)(engine *e, size_t j, size_t image, size_t k, bool *copy);
    int (*run)(engine *e, size_t n, double *seconds);
} met_path;

/* Samples [next, end) of all by that path, in chunks of the tuner's size. */
int met_run_path(engine *e, const met_path *path, size_t next, size_t end, met_tuner *tuner);

/* The first sample of all by itself, rendered: its outputs are kept as e->first_values, its time in the report. */
int met_run_first(engine *e);
/* Free what only the plain path needs; it is made again where it is. */
void met_free_plain(engine *e);

/* Call the model; no outputs, or no gradient where one is wanted, is an error. */
int met_evaluate(engine *e, met_batch *x, met_batch *dx, met_outputs *y, double *seconds);
void met_release_batch(met_batch *batch);

/* batches.c: whether the n evaluated samples of the chunk may stand as they came from one batch. */
int met_verify_batch(engine *e, size_t n, const met_batch *dx, const met_outputs *y);
/* From here on the model gets one sample at a time. */
void met_note_single(engine *e, const char *why);
/* Evaluate the first sample of all alone once more, and tell the time it took. */
int met_time_first(engine *e, double *seconds);
/* Whether what a shortcut gave for a sample is what the model gave; see batches.c. */
bool met_agree(const engine *e, const double *model, const double *shortcut, size_t width, double scale);

/* finite.c: count what is not finite among the outputs of n samples; an error where the caller wants one. */
int met_note_outputs(engine *e, size_t first, size_t n, const met_outputs *y);
int met_note_gradient(engine *e, size_t image, size_t k, const void *gradient);

/* prepared.c: samples through the model's shortcut. */
int met_wants_shortcut(engine *e, bool *wanted, size_t *done);
size_t met_group_size(const engine *e);
int met_run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner);

#endif
