/*
 * model.h - the whole contract of a provider of models: what it is given, what it returns, how it declines, and
 * what the core offers it. Nothing here knows Python or torch.
 */
#ifndef MET_MODEL_H
#define MET_MODEL_H

#include "buffer.h"
#include "platform.h"
#include "sample.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MET_TARGET_AXES 8

/* Which output is explained: an index into the axes behind the batch axis. axes = 0: the only one there is. */
typedef struct met_target {
    int axes;
    int64_t index[MET_TARGET_AXES]; /* negative counts from the end */
} met_target;

/*
 * The flat position of a target among outputs of `shape` (axes behind the batch). MET_EINDEX or MET_EVALUE with a
 * detail that shows the shape where the target does not name exactly one output.
 */
int met_target_resolve(const met_target *target, const int64_t *shape, int axes, size_t *flat);

/*
 * A batch of samples or of gradients, (n, shape[0], shape[1], shape[2]), C-contiguous.
 *   bands     the axis of the bands among the image's three
 *   owner     holds `data`; who keeps data beyond the call retains it
 *   image     (n,) met_input.origin of the image that each sample belongs to (gradients: NULL)
 *   modified  set by a model that wrote into data
 */
typedef struct met_batch {
    met_dtype dtype;
    met_device device;
    size_t n;
    size_t shape[MET_AXES];
    int bands;
    void *data;
    met_owner *owner;
    const size_t *image;
    bool modified;
} met_batch;

/*
 * The outputs that are requested, and their values. The model calls reserve(y, width) and then fills value (n, width):
 * with targets (n pointers), width is 1 and value[i] the target output of sample i; with targets NULL, every output
 * of a sample, flattened, is wanted, and the model tells their shape.
 */
typedef struct met_outputs {
    size_t n;
    const met_target *const *targets;
    size_t width;
    double *value;
    int axes;
    int64_t shape[MET_TARGET_AXES];
    int (*reserve)(struct met_outputs *y, size_t width);
} met_outputs;

struct met_shortcut;

/*
 * A model. All calls are batched and return a met_status. ctx is the provider's; the core never frees it.
 *   forward   evaluate x, fill y. MET_ESINGLE where one number came for several samples: the engine then evaluates one
 *             sample at a time. Values that are not finite are passed on as they are: the engine looks after them
 *   gradient  d(target output of sample i) / d(sample i) for every i, exported through dx (data, owner: the core
 *             releases dx->owner when it is done), and y as in forward. NULL: not differentiable
 *   shortcut  NULL, or evaluation from descriptions
 *   kernels   what the provider has computed so far by kernels of its own, which round otherwise than the model's, in
 *             words; NULL: nothing. May itself be NULL
 *   watch     look at how the model computes in the calls that follow, or with `on` false no longer: then whether calls of
 *             two sizes have shown that no sample of a batch influences another. NULL: the provider does not see that
 *   drawn     a number that is another one after random numbers were drawn from the generators that a model draws from.
 *             NULL: the provider does not know them
 */
typedef struct met_model {
    void *ctx;
    int (*forward)(void *ctx, met_batch *x, met_outputs *y);
    int (*gradient)(void *ctx, met_batch *x, met_batch *dx, met_outputs *y);
    const struct met_shortcut *shortcut;
    const char *(*kernels)(void *ctx);
    bool (*watch)(void *ctx, bool on);
    uint64_t (*drawn)(void *ctx);
} met_model;

/* Why a shortcut was not taken. The Python enumeration has the same names in lower case. */
#define MET_DECLINE_REASONS(X) \
    X(NONE)           /* it was taken */ \
    X(SWITCHED_OFF)   /* the caller did not want one */ \
    X(NOT_OFFERED)    /* a model driven in this way has none */ \
    X(NOTHING_SHARED) /* samples of this kind share nothing, or the method reads every single one */ \
    X(LITTLE_WORK)    /* preparing it would cost more than it saves */ \
    X(MODEL_STATE)    /* train mode, hooks, a replaced forward: the model may do something else each time */ \
    X(STRUCTURE)      /* no part of the model was found that can be computed once for all samples */ \
    X(VALUES)         /* values of the image or the baseline would lose digits */ \
    X(VERIFICATION)   /* it gave other numbers than the model */ \
    X(FAILURE)        /* something failed behind it */

typedef enum met_decline {
#define MET_DECLINE_NAME(name) MET_DECLINE_##name,
    MET_DECLINE_REASONS(MET_DECLINE_NAME)
#undef MET_DECLINE_NAME
} met_decline;

/* Store a reason and a printf-formatted detail for this thread and return MET_EDECLINED. */
int met_declined(met_decline reason, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/* The reason of this thread's last met_declined(). */
met_decline met_decline_reason(void);

typedef struct met_prepared met_prepared; /* the provider's */

/*
 * What a provider may tell of a trial.
 *   evaluated      samples that the model evaluated for it; batch.n where the provider tells nothing
 *   seconds_alone  what the model's own call took for one sample alone, gradient included where one is wanted; or 0
 *   postponed      preparing would not pay in this job, but where more of its form follow
 */
typedef struct met_tried {
    size_t evaluated;
    double seconds_alone;
    bool postponed;
} met_tried;

/*
 * Samples of a job, described and rendered: what a provider tries a shortcut with.
 *   samples  (batch.n,) of the kind of all samples to come, or copies of their image; .image: which of the prepared ones
 *   batch    the same, rendered. The first two belong to the first image, whose second is not like its first unless the
 *            job has one sample only; then comes one of each further image. Of a large image alone there is one sample
 *   targets  (batch.n,) of the outputs
 *   count    evaluations of an image
 *   gradient whether gradients will be asked for
 *   always   prepare whatever the model allows, as far as it allows, without a look at the costs
 *   replay   evaluate whole samples: nothing is to be shared among them
 *   images   of the job that are still to do, these among them
 *   part     what the plain path takes for a sample in its batches, as a part of what one takes alone
 *   first    no such job was run on the model before: what preparing costs is to be saved by this one
 *   proven   the last such job took the shortcut, and what it took does not speak against that
 *   counted  evaluations that were rendered, and count beside those of a shortcut
 *   apart    in batches of this job, samples were seen not to influence each other
 *   tried    for the provider to write to, also where it declines
 */
typedef struct met_trial {
    const met_sample *samples;
    met_batch batch;
    const met_target *const *targets;
    size_t count;
    bool gradient;
    bool always;
    bool replay;
    size_t images;
    double part;
    bool first;
    bool proven;
    size_t counted;
    bool apart;
    met_tried *tried;
} met_trial;

/*
 * Evaluation from descriptions, without rendering. Every call may return met_declined() with a reason: the engine
 * then takes the plain path, for all samples of these images from the first on.
 *   least     evaluations of an image, of gradients or of outputs alone, that are worth preparing it; two are for
 *             MET_SHORTCUTS_ALWAYS
 *   prepare   caches what all samples of the images x (n, ...) with baselines b (n, ...) share, and verifies on the
 *             trial that the shortcut holds; max_batch is the largest batch that the model may see
 *   forward   outputs of n samples, copies of their image (MET_IDENTITY) among them
 *   gradient  adds weight[i] * gradient of sample i to the prepared sum of its image
 *   collect   exports the sums, (images, ...) in the order of prepare(); called once
 *   name      what was prepared, for reports; as long as `p` lives
 *   program   what of the model's program is done how, and what that was planned to cost, for reports; as `name`, or NULL
 *   release   frees `p`
 *   spared    seconds of the last evaluation in which it was found what later ones need, and which these are spared; or NULL
 *   together  how many samples are best given at once where the caller does not say, at no more memory than one takes; 0:
 *             as many as the engine finds. May be NULL
 *   look      keep how the model computes in its next calls, for prepare() to see what would be gained before the model
 *             is evaluated for that; with `on` false forget it. May be NULL
 */
typedef struct met_shortcut {
    size_t least_gradients;
    size_t least_outputs;
    int (*prepare)(void *ctx, met_batch *x, met_batch *b, const met_trial *trial, size_t max_batch, met_prepared **out);
    int (*forward)(void *ctx, met_prepared *p, const met_sample *s, size_t n, met_outputs *y);
    int (*gradient)(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n, met_outputs *y);
    int (*collect)(void *ctx, met_prepared *p, met_batch *dx_sum);
    const char *(*name)(const met_prepared *p);
    const char *(*program)(const met_prepared *p);
    void (*release)(void *ctx, met_prepared *p);
    double (*spared)(const met_prepared *p);
    size_t (*together)(const met_prepared *p);
    void (*look)(void *ctx, bool on);
} met_shortcut;

/* ---- what the core offers a provider */

/* Handed over in a capsule, so that a provider needs no link to the core. */
typedef struct met_host {
    int version; /* MET_HOST_VERSION */
    int (*fail)(int status, const char *format, ...);
    int (*declined)(met_decline reason, const char *format, ...);
    const char *(*detail)(void);
    int (*target_resolve)(const met_target *target, const int64_t *shape, int axes, size_t *flat);
} met_host;

#define MET_HOST_VERSION 3
#define MET_HOST_CAPSULE "meteors_c._core.host"
#define MET_MODEL_CAPSULE "meteors_c.model"
#define MET_PARALLEL_CAPSULE "meteors_c.parallel"

#ifdef __cplusplus
}
#endif

#endif
