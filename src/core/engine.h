/* engine.h - the state of a run, shared by the files of the engine. Not part of the public header. */
#ifndef MET_ENGINE_H
#define MET_ENGINE_H

#include "met.h"

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
} slot;

typedef struct engine {
    const met_job *job;
    const met_model *model;
    const met_options *options;
    met_report *report;
    size_t size;  /* values of an image */
    size_t bytes; /* bytes of a sample */
    size_t room;  /* slots */
    size_t done;
    size_t *left; /* (images,) evaluations that are not folded yet */

    met_buffer *chunk; /* (chunk_room, size) */
    size_t chunk_room;
    slot *slots;         /* (room,) */
    uint8_t *scratch;    /* (room, job->scratch) */
    size_t *image_of;    /* (room,) */
    size_t *origin_of;   /* (room,) */
    size_t *k_of;        /* (room,) */
    double *weights;     /* (room,) */
    met_sample *samples; /* (room,), for shortcuts */
    const met_target **targets;

    met_readable readable;
    met_base base; /* of image base_image */
    size_t base_image;

    met_prepared *prepared; /* of the images from `first` on, while they go through a shortcut */
    size_t first;

    met_reducer sum;
    double *values; /* outputs of a chunk */
    size_t values_room;
} engine;

/* What is asked of the model for a chunk; reserve() finds the engine behind `y`. */
typedef struct answer {
    met_outputs y;
    engine *e;
} answer;

/* chunk.c: images as samples read them, and the slots that hold samples. */
int met_take_base(engine *e, size_t i);
int met_take_slots(engine *e, size_t n);
int met_take_chunk(engine *e, size_t n);
void met_forget_slots(engine *e);
void met_free_slots(engine *e);
int met_describe(engine *e, size_t j, size_t i, size_t k, met_sample *s);
/* *copy: the sample is a copy of its image and need not be evaluated. */
int met_fill_slot(engine *e, size_t j, size_t i, size_t k, bool *copy);
met_batch met_batch_of(engine *e, met_buffer *buffer, size_t n);

/* engine.c: asking, counting, reducing. */
answer met_ask(engine *e, size_t n);
void met_count_call(engine *e, size_t n, double seconds);
int met_tick(engine *e, size_t n);
int met_fold(engine *e, size_t n, const met_batch *dx, const met_outputs *y);
size_t met_chunk_limit(const engine *e);

/*
 * One of the two ways to evaluate samples: rendered, or through a shortcut.
 *   take  room for n of them
 *   fill  put evaluation k of an image into place j; *copy: it is a copy of its image that need not be evaluated
 *   run   evaluate and fold the first n
 */
typedef struct path {
    int (*take)(engine *e, size_t n);
    int (*fill)(engine *e, size_t j, size_t image, size_t k, bool *copy);
    int (*run)(engine *e, size_t n, double *seconds);
} path;

/* Images [from, to) by that way, in chunks of the tuner's size. */
int met_run_path(engine *e, const path *way, size_t from, size_t to, met_tuner *tuner);

/* heap.c: every hold is followed by a release; they nest. */
void met_heap_hold(void);
void met_heap_release(void);

/* prepared.c: samples through the model's shortcut. */
bool met_wants_shortcut(const engine *e);
size_t met_group_size(const engine *e);
int met_run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner);

#endif
