/*
 * met.h - the one public header of the meteors_c core.
 *
 * An attribution method is a description (which samples, what to ask of the model, how to reduce the answers);
 * met_run() evaluates it over raw buffers against a model that it knows as a handful of function pointers.
 *
 * Conventions. Functions that can fail return a met_status; met_detail() then holds one sentence for the user.
 * Outputs are written on success only. Shapes are in the image's own axis order, whatever that is; strides of
 * images are in bytes. Nothing here knows Python, NumPy or torch.
 */
#ifndef MET_H
#define MET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ status (status.c) */

typedef enum met_status {
    MET_OK = 0,
    MET_ENOMEM,     /* memory could not be had */
    MET_EVALUE,     /* an argument has an unusable value */
    MET_ETYPE,      /* an argument has an unusable type */
    MET_ESHAPE,     /* shapes do not agree */
    MET_EINDEX,     /* an index is out of range */
    MET_EGRADIENT,  /* the model cannot be differentiated */
    MET_EMODEL,     /* the model broke its contract: wrong shape, wrong dtype, not a number */
    MET_ECALLBACK,  /* an exception of the host language is pending: leave it alone */
    MET_ECANCELLED, /* the caller asked to stop */
    MET_EDECLINED   /* a shortcut does not apply; the detail says why */
} met_status;

/* Store a printf-formatted detail for this thread and return `status`. */
int met_fail(int status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* The detail of this thread's last failure; valid until the next met_fail() on this thread. Never NULL. */
const char *met_detail(void);

/* A short name for a status, such as "out of memory". */
const char *met_status_text(int status);

/* ------------------------------------------------------------------ numbers, devices, threads */

typedef enum met_dtype {
    MET_BOOL,
    MET_UINT8,
    MET_INT8,
    MET_UINT16,
    MET_INT16,
    MET_UINT32,
    MET_INT32,
    MET_UINT64,
    MET_INT64,
    MET_FLOAT32,
    MET_FLOAT64
} met_dtype;

/* Bytes of one value. */
size_t met_dtype_size(met_dtype dtype);

typedef enum met_device_type { MET_CPU = 0, MET_CUDA = 1 } met_device_type;

typedef struct met_device {
    met_device_type type;
    int index;
} met_device;

/*
 * The host's thread pool. run() calls body(arg, from, to) over disjoint parts of [0, n), each at least `grain`
 * long but the last, and returns when all are done. The core starts no threads of its own.
 */
typedef struct met_parallel {
    void (*run)(size_t n, size_t grain, void (*body)(void *arg, size_t from, size_t to), void *arg);
} met_parallel;

/* Run body over [0, n) on `pool`, or on this thread where pool is NULL or the work is small. */
void met_parallel_for(const met_parallel *pool, size_t n, size_t grain, void (*body)(void *arg, size_t from, size_t to),
                      void *arg);

/* Seconds of a monotonic clock. */
double met_seconds(void);

/* ------------------------------------------------------------------ memory (buffer.c) */

/*
 * Somebody's claim on memory. Whoever keeps the memory beyond the call that lent it calls retain() and later
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

/* ------------------------------------------------------------------ images (image.c) */

#define MET_AXES 3

/*
 * A raw view of a hyperspectral image. The viewer owns nothing: data, mask and wavelengths belong to the caller.
 *   data        (shape[0], shape[1], shape[2]) values of `dtype`, byte strides; a stride of 0 repeats a value
 *   bands       the axis of the bands: 0, 1 or 2 (-1 where it does not matter, as for a baseline)
 *   mask        one byte a value, non-zero = use; NULL = use all; byte strides, 0 along axes it does not depend on
 *   wavelengths (shape[bands],) nanometres; may be NULL
 */
typedef struct met_image {
    const void *data;
    met_dtype dtype;
    size_t shape[MET_AXES];
    ptrdiff_t strides[MET_AXES];
    int bands;
    const uint8_t *mask;
    ptrdiff_t mask_strides[MET_AXES];
    const double *wavelengths;
} met_image;

/* Number of values. */
size_t met_image_size(const met_image *image);

/* Whether the raw memory already is what met_image_read() would write: `dtype`, C-contiguous and without a mask. */
bool met_image_is_plain(const met_image *image, met_dtype dtype);

/*
 * Write the image where its mask is true and 0 elsewhere, C-contiguous, as `dtype` (MET_FLOAT32, MET_FLOAT64 or its
 * own) to out (size values). Values under the mask have no effect, NaN and infinity included. pool may be NULL.
 */
int met_image_read(const met_image *image, met_dtype dtype, const met_parallel *pool, void *out);

/*
 * Permute the axes of a view in place: axis i of the result is axis order[i] of the input. Strides move, data
 * does not.
 */
int met_image_permute(met_image *image, const int order[MET_AXES]);

/*
 * The band at the centre of a range: of the m wavelengths in [low, high] (ends included) in ascending order, equal
 * ones in the image's order, the one at m / 2, wherever it lies. MET_EVALUE where none lies inside.
 */
int met_band_center(const double *wavelengths, size_t n, double low, double high, size_t *index);

typedef struct met_band_options {
    bool apply_mask;       /* values outside the mask become 0, and do not count for the others */
    bool apply_min_cutoff; /* the minimum is that of the non-zero values, and the smallest values become 0 */
    bool normalize;        /* (x - min) / (max - min) where max > min, over finite values; others become 0 */
} met_band_options;

/*
 * One band as a (rows, columns) plane, the two spatial axes in the image's order, C-contiguous, in the image's
 * dtype where that is a floating one, else MET_FLOAT32. The image is only read.
 */
int met_band_extract(const met_image *image, size_t band, const met_band_options *options, void *out);

/* ------------------------------------------------------------------ random numbers (rng.c) */

/*
 * Counter-based Philox 4x32-10 (Salmon et al., SC 2011): a value depends on (seed, stream, index) alone, so a
 * sample is the same whatever the chunk size, the number of threads or the order of images.
 */
typedef struct met_stream {
    uint64_t seed;
    uint64_t stream;
} met_stream;

/* Four 32-bit words at counter `index`. */
void met_philox(met_stream s, uint64_t index, uint32_t out[4]);
/* Uniform doubles in [0, 1), values index .. index + n - 1 of the stream. */
void met_uniform(met_stream s, uint64_t index, size_t n, double *out);
/* Standard normal values index .. index + n - 1 of the stream, by inversion; the floats are other numbers (normal.c). */
void met_normal(met_stream s, uint64_t index, size_t n, double *out);
void met_normal_float(met_stream s, uint64_t index, size_t n, float *out);
/* Choose exactly k of n without replacement (Floyd 1987): chosen (n,) becomes 1 or 0. */
int met_choose(met_stream s, size_t n, size_t k, uint8_t *chosen);

/* ------------------------------------------------------------------ quadrature on [0, 1] (quadrature.c) */

typedef enum met_quadrature {
    MET_GAUSS_LEGENDRE,
    MET_RIEMANN_LEFT,
    MET_RIEMANN_RIGHT,
    MET_RIEMANN_MIDDLE,
    MET_RIEMANN_TRAPEZOID
} met_quadrature;

/* Most Gauss-Legendre nodes that can be asked for. */
#define MET_GAUSS_MAX 16384

typedef struct met_rule {
    met_quadrature kind;
    size_t n;
    double *nodes;   /* (n,), Gauss-Legendre only */
    double *weights; /* (n,), Gauss-Legendre only */
} met_rule;

/* Make a rule of n nodes; the Riemann rules take no memory. Release with met_rule_free(). */
int met_rule_new(met_quadrature kind, size_t n, met_rule *out);
void met_rule_free(met_rule *rule);
double met_rule_node(const met_rule *rule, size_t k);
double met_rule_weight(const met_rule *rule, size_t k);

/* ------------------------------------------------------------------ samples (sample.c) */

typedef enum met_kind {
    MET_IDENTITY, /* the image itself */
    MET_LERP,     /* baseline + alpha (image - baseline) */
    MET_BOX,      /* a box takes the baseline's values */
    MET_BANDS,    /* some bands take the baseline's values */
    MET_SEGMENTS, /* some superpixels take the baseline's values */
    MET_NOISE     /* image + stdev * normal noise of a stream, where it is selected and used */
} met_kind;

typedef struct met_box {
    size_t start[MET_AXES];
    size_t stop[MET_AXES];
} met_box;

/* How one sample differs from its image. Arrays belong to the method and outlive the run, or lie in `scratch`. */
typedef struct met_sample {
    met_kind kind;
    size_t image;                      /* which image of the job; for a shortcut: which of the prepared ones */
    double alpha;                      /* MET_LERP */
    met_box box;                       /* MET_BOX: [start, stop) in the image's axes */
    const uint8_t *dropped;            /* MET_BANDS: (bands,); MET_SEGMENTS: (segments,); 1 = take the baseline */
    const int32_t *segments;           /* MET_SEGMENTS: (size of the image,) ids in [0, number of segments) */
    met_stream noise;                  /* MET_NOISE */
    double stdev;                      /* MET_NOISE */
    const uint8_t *selected[MET_AXES]; /* MET_NOISE: (shape[a],) 1 = disturb; NULL: all along this axis */
    uint8_t *scratch;                  /* met_job.scratch bytes for describe() to fill, one piece a sample */
} met_sample;

/* An image and its baseline as samples read them: C-contiguous, both of one floating dtype. */
typedef struct met_base {
    met_dtype dtype;
    size_t shape[MET_AXES];
    int bands;
    const void *image;
    const void *baseline; /* NULL: baseline_value everywhere */
    double baseline_value;
    const uint8_t *mask; /* as in met_image: noise stays off values that are not used */
    ptrdiff_t mask_strides[MET_AXES];
} met_base;

/* Write sample `s` of `base` into out (size values of base->dtype), whatever out held. */
void met_sample_render(const met_base *base, const met_sample *s, const met_parallel *pool, void *out);
/* Whether `s` differs from the image in a part only, so that apply and undo are cheap. */
bool met_sample_is_local(const met_sample *s);
/* Whether a local sample has another value than its image anywhere. */
bool met_sample_changes(const met_base *base, const met_sample *s);
/* out holds the image: make it sample `s` (local kinds). */
void met_sample_apply(const met_base *base, const met_sample *s, void *out);
/* out holds sample `s`: make it the image again (local kinds). */
void met_sample_undo(const met_base *base, const met_sample *s, void *out);

/* ------------------------------------------------------------------ models */

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
 *   bands    the axis of the bands among the image's three
 *   owner    holds `data`; who keeps data beyond the call retains it
 *   image    (n,) met_input.origin of the image that each sample belongs to (gradients: NULL)
 *   touched  set by a model that wrote into data
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
    bool touched;
} met_batch;

/*
 * What is asked of the outputs, and the answer. The model calls reserve(y, width) and then fills value (n, width):
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
 *   forward   evaluate x, fill y
 *   gradient  d(target output of sample i) / d(sample i) for every i, lent through dx (data, owner: the core
 *             releases dx->owner when it is done), and y as in forward. NULL: not differentiable
 *   shortcut  NULL, or evaluation from descriptions
 */
typedef struct met_model {
    void *ctx;
    int (*forward)(void *ctx, met_batch *x, met_outputs *y);
    int (*gradient)(void *ctx, met_batch *x, met_batch *dx, met_outputs *y);
    const struct met_shortcut *shortcut;
} met_model;

typedef struct met_prepared met_prepared; /* the provider's */

/*
 * Evaluation from descriptions, without rendering. Every call may return MET_EDECLINED with a reason: the engine
 * then takes the plain path, for all samples of these images.
 *   least     evaluations of an image, of gradients or of outputs alone, that are worth preparing it
 *   prepare   caches what all samples of the images x (n, ...) with baselines b (n, ...) share, and proves that the
 *             shortcut holds; example is one of the samples to come, all of its kind or copies of the image; most is
 *             the largest batch that the model may see
 *   forward   outputs of n samples
 *   gradient  adds weight[i] * gradient of sample i to the prepared sum of its image
 *   collect   lends the sums, (images, ...) in the order of prepare(); called once
 *   name      what was prepared, for reports; as long as `p` lives
 *   release   frees `p`
 */
typedef struct met_shortcut {
    size_t least_gradients;
    size_t least_outputs;
    int (*prepare)(void *ctx, met_batch *x, met_batch *b, const met_sample *example, size_t most, met_prepared **out);
    int (*forward)(void *ctx, met_prepared *p, const met_sample *s, size_t n, met_outputs *y);
    int (*gradient)(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n, met_outputs *y);
    int (*collect)(void *ctx, met_prepared *p, met_batch *dx_sum);
    const char *(*name)(const met_prepared *p);
    void (*release)(void *ctx, met_prepared *p);
} met_shortcut;

/* ------------------------------------------------------------------ reducers (reduce.c) */

/* MET_STANDARD_ERROR is that of the mean, sqrt(variance / (n - 1)), for n > 1 results of weight 1. */
typedef enum met_moment { MET_SUM, MET_MEAN, MET_MEAN_SQUARE, MET_VARIANCE, MET_STANDARD_ERROR } met_moment;

/*
 * Streaming weighted moments over `size` values, accumulated in double, in the order in which add() is called:
 *   sum = sum_k w_k v_k,  square = sum_k w_k v_k^2
 */
typedef struct met_reducer {
    size_t size;
    bool squares;
    bool empty; /* sum and square are not written yet */
    double weight;
    met_buffer *sum_buffer;
    met_buffer *square_buffer;
    double *sum;
    double *square;
} met_reducer;

/* A result that is made as it is added: value * times, squared where that is asked for, * after. NULL: no factor. */
typedef struct met_factors {
    const void *value;
    const void *times;
    bool squared;
    const void *after;
} met_factors;

int met_reducer_new(size_t size, bool squares, met_account *account, met_reducer *out);
void met_reducer_free(met_reducer *r);
void met_reducer_clear(met_reducer *r);
void met_reducer_add(met_reducer *r, met_dtype dtype, const void *values, double weight, const met_parallel *pool);
void met_reducer_add_product(met_reducer *r, met_dtype dtype, const met_factors *factors, double weight,
                             const met_parallel *pool);
/* Write a moment as `dtype`: MET_SUM is sum as it is, the others are divided by the sum of the weights. */
void met_reducer_read(const met_reducer *r, met_moment moment, met_dtype dtype, const met_parallel *pool, void *out);

/* The largest standard error as a part of the largest |mean|: 0 where all results were the same. */
double met_reducer_precision(const met_reducer *r);

/* out = |values|, or values * (image - baseline), or values * image, elementwise; out may be values. */
void met_absolute(met_dtype dtype, size_t size, const void *values, const met_parallel *pool, void *out);
void met_times_image(const met_base *base, bool minus_baseline, const void *values, const met_parallel *pool,
                     void *out);

/* ------------------------------------------------------------------ windows (windows.c) */

/*
 * Windows that slide over an image: along axis a, ceil((shape - window) / stride) + 1 of them, at 0, stride,
 * 2 stride, ..., cut off at the border. Numbered in row-major order, the last axis fastest.
 */
typedef struct met_windows {
    size_t shape[MET_AXES];
    size_t window[MET_AXES];
    size_t stride[MET_AXES];
    size_t count[MET_AXES];
} met_windows;

/* MET_EVALUE where a window is empty, larger than the image, or leaves gaps. */
int met_windows_new(const size_t shape[MET_AXES], const size_t window[MET_AXES], const size_t stride[MET_AXES],
                    met_windows *out);
size_t met_windows_number(const met_windows *w);
void met_windows_box(const met_windows *w, size_t k, met_box *box);
/* out (size of the image,) of `dtype`: the mean of value (number of windows,) over the windows that cover it. */
int met_windows_mean(const met_windows *w, const double *value, met_dtype dtype, const met_parallel *pool, void *out);

/* ------------------------------------------------------------------ the engine (engine.c) */

/* One image of a job, with what belongs to it. */
typedef struct met_input {
    met_image image;
    met_image baseline; /* data NULL: baseline_value everywhere */
    double baseline_value;
    met_target target;
    size_t origin; /* which image of the user's call it belongs to: the model is told */
} met_input;

/* The answer to one sample, valid during fold(). */
typedef struct met_result {
    size_t image;
    size_t k;            /* which evaluation of that image */
    const double *value; /* (width,) outputs; NULL: those of the image, of which the sample is a copy */
    size_t width;
    const int64_t *shape; /* (axes,) of one sample's outputs, where all are asked for */
    int axes;
    const void *gradient; /* (size,) of base->dtype; NULL in forward jobs */
    const void *sample;   /* (size,) what the model saw, where met_job.reads_sample says so; else NULL */
    const met_base *base;
} met_result;

/*
 * A method, as the engine sees it. `evaluations` samples are evaluated for each image, image by image in order.
 *   describe  the k-th sample of an image
 *   weight    gradient jobs whose result is sum_k weight(k) gradient_k: the engine writes it to sums[image] (size,)
 *             of `dtype`, the method's memory. Only such jobs can run through a gradient shortcut. NULL: none
 *   fold      one result, in the order of k (whatever the chunks were); samples that are copies of the image come
 *             as soon as they are seen. NULL: not needed
 *   enough    after fold(): whether the remaining evaluations of this image are not needed. NULL: they are
 *   finish    an image is complete. NULL: not needed
 */
typedef struct met_job {
    void *method;
    const met_input *inputs;
    size_t images;
    size_t evaluations;
    met_dtype dtype; /* MET_FLOAT32 or MET_FLOAT64: what the model is given */
    met_kind kind;
    bool gradient;
    bool all_outputs; /* forward jobs: ask for every output, not for the target */
    bool skip_copies; /* forward jobs: do not evaluate local samples that change nothing */
    bool reads_sample;
    size_t scratch; /* bytes of met_sample.scratch */
    int (*describe)(void *method, size_t image, size_t k, met_sample *s);
    double (*weight)(void *method, size_t k);
    void *const *sums;
    int (*fold)(void *method, const met_result *r);
    bool (*enough)(void *method, size_t image, size_t k);
    int (*finish)(void *method, size_t image, const met_base *base);
} met_job;

typedef struct met_options {
    size_t most;              /* largest batch; 0: the engine chooses */
    size_t memory;            /* bytes that one chunk and the caches may take; 0: no limit */
    bool shortcuts;           /* take them where they are offered */
    const met_parallel *pool; /* NULL: this thread alone */
    /* Called between chunks with evaluations done and to do, without any lock held; non-zero stops the run. NULL: none. */
    int (*tick)(void *ctx, size_t done, size_t total);
    void *tick_ctx;
    size_t before; /* evaluations of runs that went before this one, and of those to come, for tick */
    size_t after;
} met_options;

/* What a run did. Runs add to it, so that several make one report. */
typedef struct met_report {
    size_t evaluations;          /* samples that were evaluated */
    size_t saved;                /* samples whose result was known without the model */
    size_t calls;                /* calls of the model */
    size_t chunk_first;          /* samples in the first call */
    size_t chunk_last;           /* samples a call, where the tuner came to rest */
    size_t chunk_most;           /* largest call */
    double seconds;              /* all of the run */
    double seconds_model;        /* inside the model */
    met_account memory;          /* the core's own buffers */
    size_t shortcut_evaluations; /* samples evaluated through a shortcut */
    char shortcut[64];           /* what kind; empty: none */
    char declined[256];          /* why not; empty: none was offered, or it was taken */
} met_report;

/* Evaluate a job. On any failure all is freed and the report is left as far as it came. */
int met_run(const met_job *job, const met_model *model, const met_options *options, met_report *report);

/* Chunk size while the work runs (tuner.c): climb while samples get cheaper, fall back when they get dearer. */
typedef struct met_tuner {
    size_t most;
    size_t first;
    size_t chunk; /* being tried */
    size_t best;
    double best_cost;  /* seconds a sample at `best`; 0: not measured yet */
    double cost;       /* the same at `chunk`, so far */
    unsigned measured; /* timings in `cost` */
    int direction;     /* +1 climbing, -1 descending, 0 at rest */
} met_tuner;

void met_tuner_start(met_tuner *t, size_t first, size_t most, bool may_grow);
/* Tell the cost of a chunk of n samples; returns the size of the next one. */
size_t met_tuner_next(met_tuner *t, size_t n, double seconds);

/* ------------------------------------------------------------------ methods */

/* Saliency (Simonyan et al., 2013): |d f / d x|. out[i] (size,) of `dtype`, one for each image. */
typedef struct met_saliency_options {
    bool absolute;
} met_saliency_options;
int met_saliency(const met_input *inputs, size_t images, met_dtype dtype, const met_saliency_options *method,
                 const met_model *model, const met_options *options, void *const *out, met_report *report);

/* Input x gradient (Shrikumar et al., 2016): x * d f / d x. */
int met_input_x_gradient(const met_input *inputs, size_t images, met_dtype dtype, const met_model *model,
                         const met_options *options, void *const *out, met_report *report);

/* Integrated gradients (Sundararajan et al., 2017): (x - b) * integral over a of d f(b + a (x - b)) / d x. */
typedef struct met_integrated_gradients_options {
    met_quadrature quadrature;
    size_t steps;
    bool multiply_by_inputs;
    double *delta; /* (images,) sum of attributions - (f(x) - f(b)); NULL: not wanted */
} met_integrated_gradients_options;
int met_integrated_gradients(const met_input *inputs, size_t images, met_dtype dtype,
                             const met_integrated_gradients_options *method, const met_model *model,
                             const met_options *options, void *const *out, met_report *report);

/*
 * Occlusion (Zeiler and Fergus, 2014): f(x) - f(x with a window replaced by the baseline), for every window.
 *   targets   (n_targets,) outputs to explain; n_targets 0 with all_targets false: that of each input
 *   differences  on success (images, outputs, number of windows), to be spread by met_windows_mean(); the caller
 *                frees it with met_deallocate()
 */
typedef struct met_occlusion_options {
    met_windows windows;
    bool all_targets;
    const met_target *targets;
    size_t n_targets;
} met_occlusion_options;
typedef struct met_occlusion_result {
    size_t outputs;
    int axes; /* all_targets: the shape of a sample's outputs */
    int64_t shape[MET_TARGET_AXES];
    double *differences;
} met_occlusion_result;
int met_occlusion(const met_input *inputs, size_t images, met_dtype dtype, const met_occlusion_options *method,
                  const met_model *model, const met_options *options, met_occlusion_result *out, met_report *report);

/*
 * Noise tunnel: a moment of the attributions of disturbed images. SmoothGrad (Smilkov et al., 2017), SmoothGrad
 * squared (Hooker et al., 2019), VarGrad (Adebayo et al., 2018).
 *   kind       MET_NOISE: image + N(0, stdev); MET_BANDS: random bands take the baseline. Then the mask multiplies
 *   stdev      (images,); MET_NOISE
 *   selected   as in met_sample; MET_NOISE
 *   probability, exact  each band with a probability, or exactly that many (SIZE_MAX: by probability); MET_BANDS
 *   inner      the explainer of the disturbed images, whose baseline is 0
 *   error      (images,) pointers to (size,) values of dtype: standard error of the result, or NULL
 *   slope      (images,) pointers to (size,) values of dtype: derivative of the result by the image where the
 *              model's gradient counts as a constant, or NULL
 *   tolerance  stop once the largest standard error is at most this part of the largest value; 0: never
 *   used       (images,) samples taken, or NULL
 */
typedef enum met_inner {
    MET_INNER_SALIENCY, /* signed */
    MET_INNER_INPUT_X_GRADIENT,
    MET_INNER_INTEGRATED_GRADIENTS,
    MET_INNER_OCCLUSION
} met_inner;
typedef struct met_noise_tunnel_options {
    met_kind kind;
    size_t samples;
    uint64_t seed;
    met_moment moment;
    const double *stdev;
    const uint8_t *selected[MET_AXES];
    double probability;
    size_t exact;
    met_inner inner;
    met_integrated_gradients_options integrated_gradients;
    met_windows windows;
    double tolerance;
    void *const *error;
    void *const *slope;
    size_t *used;
} met_noise_tunnel_options;
int met_noise_tunnel(const met_input *inputs, size_t images, met_dtype dtype, const met_noise_tunnel_options *method,
                     const met_model *model, const met_options *options, void *const *out, met_report *report);

/* Write the bands (bands,) that sample k of a run with `seed` replaces: 1 = baseline. */
int met_draw_bands(uint64_t seed, size_t k, double probability, size_t exact, size_t bands, uint8_t *dropped);

/* ------------------------------------------------------------------ what the core offers a provider */

/* Handed over in a capsule, so that a provider needs no link to the core. */
typedef struct met_host {
    int version; /* MET_HOST_VERSION */
    int (*fail)(int status, const char *format, ...);
    const char *(*detail)(void);
    int (*target_resolve)(const met_target *target, const int64_t *shape, int axes, size_t *flat);
} met_host;

#define MET_HOST_VERSION 1
#define MET_HOST_CAPSULE "meteors_c._core.host"
#define MET_MODEL_CAPSULE "meteors_c.model"
#define MET_PARALLEL_CAPSULE "meteors_c.parallel"

#ifdef __cplusplus
}
#endif

#endif
