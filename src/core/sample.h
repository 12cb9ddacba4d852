/*
 * sample.h - samples as descriptions of how they differ from an image.
 */
#ifndef MET_SAMPLE_H
#define MET_SAMPLE_H

#include "rng.h"
#include "segments.h"

#ifdef __cplusplus
extern "C" {
#endif

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
    size_t image;                 /* which image of the job; for a shortcut: which of the prepared ones */
    double alpha;                 /* MET_LERP */
    met_box box;                  /* MET_BOX: [start, stop) in the image's axes */
    const uint8_t *replaced;      /* MET_BANDS: (bands,); MET_SEGMENTS: (segments,) with a 0 before; 1 = baseline */
    const met_segments *segments; /* MET_SEGMENTS */
    met_stream noise;             /* MET_NOISE */
    double stdev;                 /* MET_NOISE */
    const uint8_t *selected[MET_AXES]; /* MET_NOISE: (shape[a],) 1 = perturb; NULL: all along this axis */
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

/* Number of values. */
static inline size_t met_base_size(const met_base *base) {
    return base->shape[0] * base->shape[1] * base->shape[2];
}

/* Write sample `s` of `base` into out (size values of base->dtype), whatever out held. */
void met_sample_render(const met_base *base, const met_sample *s, const met_parallel *pool, void *out);
/* Whether `s` differs from the image in a part only, so that apply and undo are cheap. */
bool met_sample_is_local(const met_sample *s);
/* Whether a local sample has another value than its image anywhere. */
bool met_sample_changes(const met_base *base, const met_sample *s);
/* out holds the image: make it sample `s` (local kinds). */
void met_sample_apply(const met_base *base, const met_sample *s, const met_parallel *pool, void *out);
/* out holds sample `s`: make it the image again (local kinds). */
void met_sample_undo(const met_base *base, const met_sample *s, const met_parallel *pool, void *out);
/* out holds sample `held`: make it sample `wanted` (both local). */
void met_sample_move(const met_base *base, const met_sample *held, const met_sample *wanted, const met_parallel *pool,
                     void *out);

#ifdef __cplusplus
}
#endif

#endif
