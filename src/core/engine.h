/*
 * engine.h - the one loop: a method as the engine sees it (met_job), what a caller may choose (met_options), and what
 * a run did (met_report).
 */
#ifndef MET_ENGINE_H
#define MET_ENGINE_H

#include "buffer.h"
#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One image of a job, with what belongs to it. */
typedef struct met_input {
    met_image image;
    met_image baseline; /* data NULL: baseline_value everywhere */
    double baseline_value;
    met_target target;
    size_t origin;   /* which image of the user's call it belongs to: the model is told */
    uint64_t stream; /* what its random draws are numbered by, below 2^24: origin, unless the host numbers otherwise */
} met_input;

/* What the model said of one sample, valid during fold(). */
typedef struct met_result {
    size_t image;
    size_t k;            /* which evaluation of that image */
    const double *value; /* (width,) outputs; NULL: those of the image, of which the sample is a copy */
    size_t width;
    const double *reference; /* (width,) outputs of the image, where met_job.reference says so; else NULL */
    const int64_t *shape;    /* (axes,) of one sample's outputs, where all are asked for */
    int axes;
    const void *gradient; /* (size,) of base->dtype; NULL in forward jobs */
    const void *sample;   /* (size,) what the model saw, where met_job.reads_sample says so; else NULL */
    const met_base *base;
    bool *finite; /* fold() sets it to false where it came across a value that is not: the engine then looks closer */
} met_result;

/*
 * A method, as the engine sees it. `evaluations` samples are evaluated for each image, image by image in order.
 *   counts     (images,) evaluations of each image where they differ, none more than `evaluations`. NULL: all alike
 *   describe   the k-th sample of an image. NULL: the image itself
 *   weight     gradient jobs whose result is sum_k weight(k) gradient_k: the engine writes it to sums[image] (size,)
 *              of `dtype`, the method's memory. Only such jobs can run through a gradient shortcut. NULL: none
 *   begin      the first result of an image is about to be folded. After a shortcut that declined half-way it comes
 *              again, even for an image that was finished: what was folded of it is void. NULL: not needed
 *   fold       one result, in the order of k (whatever the chunks were); samples that are copies of the image come
 *              as soon as they are seen. NULL: not needed
 *   converged  after fold(): whether the remaining evaluations of this image are not needed. NULL: they are
 *   finish     an image is complete. NULL: not needed
 */
typedef struct met_job {
    void *method;
    const met_input *inputs;
    size_t images;
    size_t evaluations;
    const size_t *counts;
    met_dtype dtype; /* MET_FLOAT32 or MET_FLOAT64: what the model is given */
    met_kind kind;
    bool gradient;
    bool all_outputs; /* forward jobs: ask for every output, not for the target */
    bool skip_copies; /* forward jobs: do not evaluate local samples that change nothing */
    bool reference;   /* forward jobs: results come with the image's own outputs from a batch of the same size */
    bool reads_sample;
    size_t scratch; /* bytes of met_sample.scratch */
    int (*describe)(void *method, size_t image, size_t k, met_sample *s);
    double (*weight)(void *method, size_t k);
    void *const *sums;
    int (*begin)(void *method, size_t image);
    int (*fold)(void *method, const met_result *r);
    bool (*converged)(void *method, size_t image, size_t k);
    int (*finish)(void *method, size_t image, const met_base *base);
} met_job;

/* What becomes of values that are NaN or infinite (finite.c). */
typedef enum met_finite {
    MET_FINITE_WARN,  /* in an image or a baseline: an error; elsewhere they are counted and kept */
    MET_FINITE_RAISE, /* an error wherever they are */
    MET_FINITE_IGNORE /* nobody looks at images and baselines; elsewhere they are counted and kept */
} met_finite;

typedef enum met_shortcuts {
    MET_SHORTCUTS_OFF,
    MET_SHORTCUTS_WHERE_FASTER, /* where they are offered and the work is worth preparing them */
    MET_SHORTCUTS_ALWAYS,       /* wherever they are offered */
    MET_SHORTCUTS_REPLAY        /* the model's recorded program on whole samples, wherever that is offered */
} met_shortcuts;

typedef struct met_experience met_experience; /* experience.h */

typedef struct met_options {
    size_t max_batch_size; /* largest batch; 0: the engine chooses */
    size_t memory_budget;  /* bytes that one chunk and the caches may take; 0: no limit */
    met_shortcuts shortcuts;
    met_finite finite;
    bool leave_allocator_alone; /* see heap.c */
    const met_parallel *pool;   /* NULL: this thread alone */
    met_experience *experience; /* of this model in earlier calls, or NULL */
    /*
     * Called with evaluations done and to do, before the first one and between chunks, without any lock held; non-zero
     * stops the run. NULL: none.
     */
    int (*progress)(void *ctx, size_t done, size_t total);
    void *progress_ctx;
    /* Drop the exception of the host language that a call in vain has left pending, unless it is to end the run. NULL: all are. */
    bool (*forgive)(void);
    size_t evaluations_before; /* of runs that went before this one, and of those to come, for progress */
    size_t evaluations_after;
} met_options;

/* Whether samples of one batch leave each other alone (batches.c). */
typedef enum met_batching {
    MET_BATCHING_UNKNOWN, /* the model has seen one sample at a time so far */
    MET_BATCHING_FREE,    /* a sample gave the same alone as in a batch */
    MET_BATCHING_SINGLE   /* it did not, or cannot: the model gets one sample at a time */
} met_batching;

/* Counts of a report, in the order in which they are shown. The Python report has fields of the same names. */
#define MET_REPORT_COUNTS(X) \
    X(evaluations)           /* samples that the model evaluated and whose results were used */ \
    X(evaluations_saved)     /* samples whose result was known without the model */ \
    X(evaluations_verifying) /* samples that were evaluated once more, to verify or to compare with */ \
    X(evaluations_discarded) /* samples of a shortcut that declined half-way: evaluated again */ \
    X(model_calls)           /* calls of the model that evaluated `evaluations` */ \
    X(chunk_first)           /* samples in the first call */ \
    X(chunk_size)            /* samples a call, where the tuner came to rest */ \
    X(chunk_largest)         /* largest call */ \
    X(shortcut_evaluations)  /* samples that went through a shortcut */ \
    X(nonfinite_outputs)     /* outputs that were NaN or infinite */ \
    X(nonfinite_gradients)   /* samples whose gradient had such a value */ \
    X(nonfinite_results)     /* such values in the attributions */

/* What a run did. Runs add to it, so that several make one report. Exactly one of shortcut and shortcut_declined is set. */
typedef struct met_report {
#define MET_REPORT_FIELD(name) size_t name;
    MET_REPORT_COUNTS(MET_REPORT_FIELD)
#undef MET_REPORT_FIELD
    double seconds;              /* all of the run */
    double seconds_in_model;     /* its part inside the model */
    met_account memory;          /* the core's own buffers */
    char shortcut[64];           /* what kind; empty: none */
    char program[160];           /* of its operators, which are done how, and the planned cost; empty: unknown */
    double shortcut_seconds;     /* in calls through it */
    char shortcut_declined[256]; /* why none was taken, where none was */
    met_decline decline_reason;
    char shortcut_failed[256]; /* what a shortcut gave that the model did not, found while it ran; empty: nothing */
    met_batching batching;
    char one_at_a_time[256]; /* why the model got one sample at a time; empty: it did not */
    const char *kernels;     /* what the model's provider computed by kernels of its own; NULL: nothing */
    char nonfinite[160];     /* where the first value was that is not finite; empty: nowhere */
    double seconds_alone;    /* the fastest evaluation of one sample alone; 0: none was timed */
} met_report;

/* The evaluations of an image. */
static inline size_t met_job_count(const met_job *job, size_t image) {
    return job->counts != NULL ? job->counts[image] : job->evaluations;
}

/* Evaluate a job. On any failure all is freed and the report is left as far as it came. */
int met_run(const met_job *job, const met_model *model, const met_options *options, met_report *report);

/* Count what is not finite in the result of an image of the user's call; MET_EFINITE where the caller wants an error. */
int met_note_results(met_report *report, const met_options *options, met_dtype dtype, const void *values, size_t n,
                     size_t image);

/* Around all runs of one call (heap.c): every hold is followed by a release; they nest. */
void met_heap_hold(const met_options *options);
void met_heap_release(const met_options *options);

#ifdef __cplusplus
}
#endif

#endif
