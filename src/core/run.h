/* run.h - the state of a run, shared by the files of the engine alone. */
#ifndef MET_RUN_H
#define MET_RUN_H

#include "engine.h"
#include "experience.h"
#include "reduce.h"
#include "tuner.h"

#define MET_NO_IMAGE SIZE_MAX
/* In place of an evaluation of an image: the image itself, for its other evaluations to be compared with. */
#define MET_REFERENCE SIZE_MAX

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

/* What an image itself gave in a call for n samples, on one of the two paths. */
typedef struct reference {
    size_t image;
    size_t n;
    bool shortcut;
    size_t width;
    double *value; /* (width,) */
} reference;

/* A sample of the prepared images that is to be evaluated alone, rendered, and compared with what the shortcut gave. */
typedef struct spot_check {
    size_t from; /* the first sample from this position on is the one; until it comes, any other stands in for it */
    bool held;
    bool done;
    size_t image;
    size_t k;
    double *value; /* (width,) */
    size_t width;
    double scale; /* the largest output of its batch */
} spot_check;

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
    size_t *k_of;        /* evaluation of that image, or MET_REFERENCE */
    bool *is_image;      /* whether it is the image itself */
    double *weights;     /* of its gradient in a sum */
    met_sample *samples; /* descriptions, for shortcuts */
    const met_target **targets;

    met_readable readable;
    met_base base; /* of image base_image */
    size_t base_image;

    bool shortcut; /* which of the two paths samples take at the moment */
    bool last;     /* no chunk of samples follows the one that is evaluated */
    reference *references;
    size_t reference_count;
    size_t reference_capacity;

    met_prepared *prepared; /* of the images from `first_prepared` on, while they go through a shortcut */
    size_t first_prepared;
    spot_check spot;
    bool *carried;   /* (images,) job->sums holds gradients that were rendered, and waits for those of the shortcut */
    size_t carrying; /* image whose gradients `sum` holds in that case; or MET_NO_IMAGE */
    bool plain_is_best;  /* the shortcut was measured to be slower */
    uint64_t drawn;      /* of the generators that the model draws from, before its first call */
    bool called;         /* there was one */
    bool differentiable; /* it has given a gradient */
    bool draws;          /* the model was seen to draw random numbers: then nothing that is done depends on time */
    bool hopeless;       /* it was declined for a reason that all images share */
    bool failed;         /* it gave something else than the model */
    bool eligible;       /* the job is of a form that a shortcut can take */
    bool tried;          /* one was prepared */
    bool postponed;      /* it would not have paid in this call */
    met_decline refused; /* why it was not taken, where one was tried */
    char refusal[160];

    size_t measured;       /* samples that were rendered to learn what that costs, */
    met_tuner measuring;   /* their chunks, ... */
    bool goes_on;          /* ... with which the plain path goes on */
    bool timing;           /* they are being rendered */
    met_report unmeasured; /* the report before */
    double *first_values;  /* (width,) outputs of the first of them: a shortcut must give them too; or NULL */
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
void met_free_chunk(engine *e);
void met_invalidate_slots(engine *e);
void met_free_slots(engine *e);
int met_describe_sample(engine *e, size_t j, size_t i, size_t k, uint8_t *scratch, met_sample *s);
/* *copy: the sample is a copy of its image and need not be evaluated. */
int met_fill_slot(engine *e, size_t j, size_t i, size_t k, bool *copy);
/* The n samples in a buffer, the first of which is sample `first` of the chunk. */
met_batch met_batch_view(const engine *e, met_buffer *buffer, size_t first, size_t n);

/* evaluate.c: the outputs of samples [first, first + n) of the chunk, as they are requested. */
output_request met_request_outputs(const engine *e, size_t first, size_t n, double **values, size_t *capacity);
/* Call the model, for gradients too where the job has them and dx is not NULL; what is wanted and missing is an error. */
int met_evaluate(engine *e, met_batch *x, met_batch *dx, met_outputs *y, double *seconds);
void met_release_batch(met_batch *batch);
/* A number that changes where random numbers are drawn from the model's generators; 0: they are not known. */
uint64_t met_drawn(const met_model *model);
/* After the model's first call: whether it has drawn some. */
void met_note_draws(engine *e);

/* engine.c: counting, reducing. */
/* Count a call that evaluated samples [first, first + n) of the chunk; how many of them were evaluated before. */
size_t met_count_call(engine *e, size_t first, size_t n, double seconds);
int met_report_progress(engine *e, size_t n);
int met_fold(engine *e, size_t first, size_t n, const met_batch *dx, const met_outputs *y);
size_t met_chunk_limit(const engine *e);
size_t met_chunk_first(const engine *e);
/* The largest chunk that the engine comes to, rendered or behind a shortcut. */
size_t met_largest_chunk(const engine *e, bool prepared);
/* Samples from position *next of all to `end` by rendering, in `calls` calls at most. */
int met_run_plain(engine *e, size_t *next, size_t end, met_tuner *tuner, size_t calls);
/*
 * The next of the first samples of all, rendered: the outputs of the first one are kept, and what one takes alone is in the
 * report.
 */
int met_run_first(engine *e);
/* Note what a sample took alone, gradient and all, while that is what is measured. */
void met_note_alone(engine *e, double seconds);
/* Memory for the sum of an image's gradients, unless it is there. */
int met_reserve_sum(engine *e);
/* Free what only the plain path needs; it is made again where it is. */
void met_free_plain(engine *e);
/* Forget what images [from, to) gave since the report was `before`, but for the time it took; how many evaluations. */
size_t met_start_again(engine *e, size_t from, size_t to, const met_report *before, size_t done);

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
    bool shortcut;
} met_path;

/* path.c: samples from position *next of all to `end`, in `calls` chunks of the tuner's size at most. */
int met_run_path(engine *e, const met_path *path, size_t *next, size_t end, met_tuner *tuner, size_t calls);
/* A sample that is a copy of its image gives what the image gives. */
int met_fold_copy(engine *e, size_t image, size_t k);

/* references.c: what images themselves gave. */
bool met_has_reference(const engine *e, size_t image, size_t n);
const double *met_find_reference(const engine *e, size_t image, size_t n, size_t width);
int met_add_reference(engine *e, size_t image, size_t n, const double *value, size_t width);
/* Those of an image that is complete, or with MET_NO_IMAGE those of a shortcut that is not used any more. */
void met_forget_references(engine *e, size_t image);
void met_free_references(engine *e);

/* carried.c: sums of gradients some of which are rendered while others go through a shortcut. */
int met_carry(engine *e, size_t image, size_t k, const void *gradient, double weight);
/* What was added up of an image before there was a shortcut counts beside what that gives. */
void met_carry_over(engine *e, size_t image);
/* Add to job->sums[image] what the shortcut gave; it holds what was rendered, if anything was. */
int met_add_to_carried(engine *e, size_t image, const void *gradients);
void met_forget_carried(engine *e, size_t from, size_t to);

/* batches.c: whether one of the n samples of the chunk, which are not evaluated yet, is to be asked alone as well. */
bool met_wants_verification(const engine *e, size_t n);
/* Let the provider look at how the model computes, or no longer: then whether it saw that no sample influences another. */
bool met_watch(const engine *e, bool on);
/* Whether the n evaluated samples of the chunk may stand as they came from one batch. */
int met_verify_batch(engine *e, size_t n, const met_batch *dx, const met_outputs *y);
/* From here on the model gets one sample at a time. */
void met_note_single(engine *e, const char *why);
/* Outputs of evaluation k of an image, rendered and alone: value (width,) is the caller's to deallocate. */
int met_evaluate_alone(engine *e, size_t image, size_t k, double **value, size_t *width);
/* Whether what a shortcut gave for a sample is what the model gave; see batches.c. */
bool met_agree(const engine *e, const double *model, const double *shortcut, size_t width, double scale);

/* finite.c: count what is not finite among the outputs of n samples; an error where the caller wants one. */
int met_note_outputs(engine *e, size_t first, size_t n, const met_outputs *y);
int met_note_gradient(engine *e, size_t image, size_t k, const void *gradient);

/* trial.c: samples of images [from, to), described into the first slots and rendered into a buffer of their own. */
int met_make_trial(engine *e, size_t from, size_t to, met_buffer **buffer, met_trial *out);
/* A number below n that looks random and depends on the job and `which` alone. */
size_t met_draw(const engine *e, uint64_t which, size_t n);

/* spot.c: one sample of each prepared group is evaluated alone as well. */
void met_spot_start(engine *e, size_t from, size_t to);
/* Look at the n evaluated samples of a chunk. MET_EDECLINED: the model gives something else. */
int met_spot_watch(engine *e, size_t n, const met_outputs *y);
int met_spot_finish(engine *e);
/* The largest finite |output|. */
double met_output_scale(const met_outputs *y, size_t n);

/* prepared.c: samples through the model's shortcut. */
int met_wants_shortcut(engine *e, bool *wanted);
size_t met_group_size(const engine *e);
int met_run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner, met_tuner *plain);
/*
 * Whether what was rendered to learn what that costs counts beside what a shortcut gives: gradients do, in one sum, unless
 * it was asked for a shortcut by name. Of outputs, differences are wanted, so all take the same way.
 */
bool met_keeps_measured(const engine *e);
/* Write down for later calls what this run took. */
void met_note_experience(engine *e, double seconds);
/* Write down why no shortcut is taken, unless one was, or another reason came first. */
void met_note_decline(met_report *report, met_decline reason, const char *why);

#endif
