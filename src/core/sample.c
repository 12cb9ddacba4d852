/*
 * sample.c - from the description of a sample to its values, and back.
 *
 * Every kind comes down to runs: stretches of consecutive values that take the baseline, are mixed with it, or get
 * noise. Work is split over values, not over runs, so one run across the whole image is still shared by all threads.
 */
#include "sample.h"

#include <string.h>

/* Values that one thread should have at least. */
#define GRAIN 32768
/* Normal values made at a time: whole blocks of normal.c. */
#define NOISE_BLOCK ((size_t)1024)

/* Where replaced values come from: an array of the image's shape, or one number for all. */
typedef struct source {
    const void *values; /* (size,) of the image's dtype; NULL: number */
    double number;
} source;

/* The stretches of a box in C-contiguous memory: `count` of `length` values each. */
typedef struct runs {
    size_t count;
    size_t length;
    size_t first;     /* position of the first value of the box */
    size_t inner;     /* runs along the faster of the two axes that select a run */
    size_t stride[2]; /* values between runs along the slower and the faster one */
} runs;

/* What a body of met_parallel_for() sees; for bands and superpixels, flags of what the output holds and shall hold. */
typedef struct work {
    const met_base *base;
    const met_sample *sample;
    const uint8_t *held;   /* NULL: it holds the image */
    const uint8_t *wanted; /* NULL: it shall hold the image */
    source from;
    runs box;
    void *out;
} work;

/*
 * The kernels, once for each floating type. `at` is the flat position of the first of n values.
 *   put     out = source
 *   lerp    out = b + alpha (x - b), in the type itself
 *   differs whether x is not everywhere the source
 *   noise   out = x + stdev z where selected and used, z the normal value of the stream at the flat position
 */
#define KERNELS(T, normal) \
    static inline void put_##T(T *restrict out, const source *from, size_t at, size_t n) { \
        if (n == 1) { /* bands last: every run is one value, too short for a call */ \
            out[at] = from->values != NULL ? ((const T *)from->values)[at] : (T)from->number; \
        } else if (from->values != NULL) { \
            memcpy(out + at, (const T *)from->values + at, n * sizeof(T)); \
        } else { \
            const T number = (T)from->number; \
            for (size_t i = at; i < at + n; i++) { \
                out[i] = number; \
            } \
        } \
    } \
\
    static inline void lerp_##T(T *restrict out, const T *restrict x, const source *from, double alpha, size_t at, \
                                size_t n) { \
        const T a = (T)alpha; \
        const T *restrict b = from->values; \
        const T number = (T)from->number; \
        if (b != NULL) { \
            for (size_t i = at; i < at + n; i++) { \
                out[i] = b[i] + a * (x[i] - b[i]); \
            } \
        } else { \
            for (size_t i = at; i < at + n; i++) { \
                out[i] = number + a * (x[i] - number); \
            } \
        } \
    } \
\
    static inline bool differs_##T(const T *restrict x, const source *from, size_t at, size_t n) { \
        const T *restrict values = from->values; \
        const T number = (T)from->number; \
        for (size_t i = at; i < at + n; i++) { \
            if (x[i] != (values != NULL ? values[i] : number)) { \
                return true; \
            } \
        } \
        return false; \
    } \
\
    static inline void noise_##T(T *restrict out, const work *w, const uint8_t *selected, const uint8_t *mask, \
                                 size_t at, size_t n) { \
        const T *restrict x = w->base->image; \
        const ptrdiff_t step = w->base->mask_strides[2]; \
        const T stdev = (T)w->sample->stdev; \
        T z[NOISE_BLOCK]; \
        for (size_t done = 0, m; done < n; done += m) { \
            m = met_min_size(NOISE_BLOCK - (at + done) % NOISE_BLOCK, n - done); \
            normal(w->sample->noise, at + done, m, z); \
            for (size_t i = 0; i < m; i++) { \
                out[at + done + i] = x[at + done + i] + stdev * z[i]; \
            } \
            for (size_t i = done; i < done + m && (selected != NULL || mask != NULL); i++) { \
                if ((selected != NULL && !selected[i]) || (mask != NULL && !mask[(ptrdiff_t)i * step])) { \
                    out[at + i] = x[at + i]; \
                } \
            } \
        } \
    }

KERNELS(float, met_normal_float)
KERNELS(double, met_normal)

/* Call a kernel in the type of the image. */
#define TYPED(w, kernel, ...) \
    do { \
        if ((w)->base->dtype == MET_FLOAT32) { \
            kernel##_float((w)->out, __VA_ARGS__); \
        } else { \
            kernel##_double((w)->out, __VA_ARGS__); \
        } \
    } while (0)

/* Split a box into its runs: trailing axes that the box spans belong to the run. */
static runs runs_of(const met_box *box, const size_t shape[MET_AXES]) {
    size_t extent[MET_AXES];
    for (int a = 0; a < MET_AXES; a++) {
        extent[a] = box->stop[a] > box->start[a] ? box->stop[a] - box->start[a] : 0;
    }
    runs r = {.count = extent[0] * extent[1],
              .length = extent[2],
              .first = (box->start[0] * shape[1] + box->start[1]) * shape[2] + box->start[2],
              .inner = extent[1],
              .stride = {shape[1] * shape[2], shape[2]}};
    if (extent[2] == shape[2]) {
        r.count = extent[0];
        r.length *= extent[1];
        r.inner = 1;
        if (extent[1] == shape[1]) {
            r.count = 1;
            r.length *= extent[0];
        }
    }
    return r;
}

/* Position of value `from` of a box, and in n how many values from there to `to` lie in its run. */
static size_t locate(const runs *r, size_t from, size_t to, size_t *n) {
    const size_t run = from / r->length, offset = from % r->length;
    *n = met_min_size(r->length - offset, to - from);
    return r->first + run / r->inner * r->stride[0] + run % r->inner * r->stride[1] + offset;
}

/* Values [from, to) of a box, counted within the box, take the source (MET_BOX). */
static void box_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    for (size_t n; from < to; from += n) {
        const size_t at = locate(&w->box, from, to, &n);
        TYPED(w, put, &w->from, at, n);
    }
}

/* Values from one place to the next where the noise has to be asked anew whether it applies: axes without a say join. */
static size_t noise_row(const met_base *base, const met_sample *s) {
    size_t row = base->shape[2];
    if (base->mask == NULL && s->selected[2] == NULL && s->selected[1] == NULL) {
        row *= base->shape[1] * (s->selected[0] == NULL ? base->shape[0] : 1);
    }
    return row;
}

/* Values [from, to) of the image, with noise where they are selected and used (MET_NOISE). */
static void noise_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    const met_base *base = w->base;
    const uint8_t *const *selected = w->sample->selected;
    const size_t columns = base->shape[2], length = noise_row(base, w->sample);
    const source image = {.values = base->image};
    for (size_t n; from < to; from += n) {
        const size_t plane = from / columns / base->shape[1], row = from / columns % base->shape[1];
        const size_t column = from % columns;
        n = met_min_size(length - from % length, to - from);
        if ((selected[0] != NULL && !selected[0][plane]) || (selected[1] != NULL && !selected[1][row])) {
            TYPED(w, put, &image, from, n);
            continue;
        }
        const uint8_t *mask = base->mask;
        if (mask != NULL) {
            mask += (ptrdiff_t)plane * base->mask_strides[0] + (ptrdiff_t)row * base->mask_strides[1] +
                    (ptrdiff_t)column * base->mask_strides[2];
        }
        TYPED(w, noise, w, selected[2] == NULL ? NULL : selected[2] + column, mask, from, n);
    }
}

static source baseline_of(const met_base *base) {
    return (source){.values = base->baseline, .number = base->baseline_value};
}

static source image_of(const met_base *base) {
    return (source){.values = base->image};
}

/* n values of a band or superpixel, from what the output holds of it to what it shall hold. */
static void move(const work *w, int32_t id, size_t at, size_t n) {
    const bool held = w->held != NULL && w->held[id], wanted = w->wanted != NULL && w->wanted[id];
    if (held != wanted) {
        const source from = wanted ? baseline_of(w->base) : image_of(w->base);
        TYPED(w, put, &from, at, n);
    }
}

/* Those of the values [from, to) of the image that lie in a band whose flags differ (MET_BANDS). */
static void bands_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    const met_base *base = w->base;
    const size_t bands = base->shape[base->bands];
    size_t inner = 1; /* consecutive values of one band */
    for (int a = base->bands + 1; a < MET_AXES; a++) {
        inner *= base->shape[a];
    }
    size_t band = from / inner % bands, left = inner - from % inner;
    while (from < to) {
        const size_t n = met_min_size(left, to - from);
        move(w, (int32_t)band, from, n);
        from += n;
        left = inner;
        band = band + 1 == bands ? 0 : band + 1;
    }
}

/* Those of the values [from, to) of the image that lie in a superpixel whose flags differ (MET_SEGMENTS). */
static void segments_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    const met_sample *s = w->sample;
    while (from < to) {
        const met_segment_row row = met_segments_row(s->segments, w->base->shape, from, to);
        for (size_t i = 0, n; i < row.length; i += n) {
            int32_t id;
            n = met_segment_run(&row, i, &id);
            move(w, id, from + i, n);
        }
        from += row.length;
    }
}

/* Stretches that are looked up once for all planes. */
#define PIECES 512

typedef struct piece {
    size_t at;
    size_t n;
    int32_t id;
} piece;

/* The stretches of positions [from, to) of a plane whose flags differ, as many as there is room for; where that ends. */
static size_t find_pieces(const work *w, size_t from, size_t to, piece pieces[PIECES], size_t *count) {
    *count = 0;
    while (from < to && *count < PIECES) {
        const met_segment_row row = met_segments_row(w->sample->segments, w->base->shape, from, to);
        size_t i = 0;
        while (i < row.length && *count < PIECES) {
            piece p = {.at = from + i};
            p.n = met_segment_run(&row, i, &p.id);
            i += p.n;
            if ((w->held != NULL && w->held[p.id]) != (w->wanted != NULL && w->wanted[p.id])) {
                pieces[(*count)++] = p;
            }
        }
        from += i;
    }
    return from;
}

/* The same for positions [from, to) of all planes, where these share their superpixels. */
static void planes_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    const size_t plane = w->base->shape[1] * w->base->shape[2];
    piece pieces[PIECES];
    while (from < to) {
        size_t count;
        from = find_pieces(w, from, to, pieces, &count);
        for (size_t at = 0; at < met_base_size(w->base); at += plane) {
            for (size_t i = 0; i < count; i++) {
                move(w, pieces[i].id, at + pieces[i].at, pieces[i].n);
            }
        }
    }
}

/* Values [from, to) of the image are copied from the source. */
static void copy_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    TYPED(w, put, &w->from, from, to - from);
}

/* Values [from, to) of the image are mixed with the baseline (MET_LERP). */
static void lerp_body(void *arg, size_t from, size_t to) {
    const work *w = arg;
    TYPED(w, lerp, w->base->image, &w->from, w->sample->alpha, from, to - from);
}

/* From sample `held` to sample `wanted`, of one local kind and the same superpixels; NULL is the image. */
static void change(const met_base *base, const met_sample *held, const met_sample *wanted, const met_parallel *pool,
                   void *out) {
    const met_sample *s = wanted != NULL ? wanted : held;
    work w = {.base = base, .sample = s, .out = out};
    w.from = wanted != NULL ? baseline_of(base) : image_of(base);
    w.held = held != NULL ? held->replaced : NULL;
    w.wanted = wanted != NULL ? wanted->replaced : NULL;
    switch (s->kind) {
    case MET_BOX:
        if (held != NULL && wanted != NULL) {
            change(base, held, NULL, pool, out);
        }
        w.box = runs_of(&s->box, base->shape);
        met_parallel_for(pool, w.box.count * w.box.length, GRAIN, box_body, &w);
        break;
    case MET_BANDS: met_parallel_for(pool, met_base_size(base), GRAIN, bands_body, &w); break;
    case MET_SEGMENTS:
        if (s->segments->strides[0] == 0) {
            met_parallel_for(pool, base->shape[1] * base->shape[2], GRAIN / base->shape[0] + 1, planes_body, &w);
        } else {
            met_parallel_for(pool, met_base_size(base), GRAIN, segments_body, &w);
        }
        break;
    case MET_IDENTITY:
    case MET_LERP:
    case MET_NOISE: break; /* not local */
    }
}

/*
 * Write sample `s` of an image, whatever the output held. Values do not depend on how the work is split.
 *   base  image and baseline, C-contiguous; `bands` is needed for MET_BANDS alone
 *   s     the description; alpha = 0 gives the baseline bit for bit, even where the image is not finite
 *   pool  the host's threads, or NULL
 *   out   (size of the image,) values of base->dtype, owned by the caller, apart from image and baseline
 */
void met_sample_render(const met_base *base, const met_sample *s, const met_parallel *pool, void *out) {
    work w = {.base = base, .sample = s, .out = out};
    if (s->kind == MET_LERP) {
        w.from = baseline_of(base);
        met_parallel_for(pool, met_base_size(base), GRAIN, s->alpha == 0.0 ? copy_body : lerp_body, &w);
        return;
    }
    if (s->kind == MET_NOISE) {
        met_parallel_for(pool, met_base_size(base), GRAIN, noise_body, &w);
        return;
    }
    w.from = image_of(base);
    met_parallel_for(pool, met_base_size(base), GRAIN, copy_body, &w);
    change(base, NULL, s, pool, out);
}

/* Whether `s` differs from its image in a part only: boxes, bands and superpixels. */
bool met_sample_is_local(const met_sample *s) {
    return s->kind == MET_BOX || s->kind == MET_BANDS || s->kind == MET_SEGMENTS;
}

/* differs() in the type of the image. */
static bool differs(const met_base *base, size_t at, size_t n) {
    const source from = baseline_of(base);
    return base->dtype == MET_FLOAT32 ? differs_float(base->image, &from, at, n)
                                      : differs_double(base->image, &from, at, n);
}

/*
 * Whether a local sample has a value that its image has not; NaN differs from itself. Other kinds count as changes.
 *   base  image and baseline
 *   s     the description
 */
bool met_sample_changes(const met_base *base, const met_sample *s) {
    const size_t size = met_base_size(base);
    bool changes = false;
    if (s->kind == MET_BOX) {
        const runs r = runs_of(&s->box, base->shape);
        const size_t values = r.count * r.length;
        for (size_t from = 0, n; from < values && !changes; from += n) {
            const size_t at = locate(&r, from, values, &n);
            changes = differs(base, at, n);
        }
    } else if (s->kind == MET_BANDS) {
        size_t inner = 1;
        for (int a = base->bands + 1; a < MET_AXES; a++) {
            inner *= base->shape[a];
        }
        for (size_t at = 0; at < size && !changes; at += inner) {
            changes = s->replaced[at / inner % base->shape[base->bands]] && differs(base, at, inner);
        }
    } else if (s->kind == MET_SEGMENTS) {
        for (size_t at = 0; at < size && !changes;) {
            const met_segment_row row = met_segments_row(s->segments, base->shape, at, size);
            for (size_t i = 0, n; i < row.length && !changes; i += n) {
                int32_t id;
                n = met_segment_run(&row, i, &id);
                changes = s->replaced[id] && differs(base, at + i, n);
            }
            at += row.length;
        }
    } else {
        changes = true;
    }
    return changes;
}

/*
 * Turn the image into a local sample, writing only what differs; other kinds are left alone.
 *   base  image and baseline
 *   s     the description
 *   pool  the host's threads, or NULL
 *   out   (size of the image,) holds the image, then the sample
 */
void met_sample_apply(const met_base *base, const met_sample *s, const met_parallel *pool, void *out) {
    change(base, NULL, s, pool, out);
}

/*
 * Turn a local sample back into the image, bit for bit.
 *   base, s, pool  as given to met_sample_apply()
 *   out            (size of the image,) holds the sample, then the image
 */
void met_sample_undo(const met_base *base, const met_sample *s, const met_parallel *pool, void *out) {
    change(base, s, NULL, pool, out);
}

/*
 * Turn a local sample into another one of the same image, writing only where they differ.
 *   base    image and baseline
 *   held    what out holds
 *   wanted  what it shall hold
 *   pool    the host's threads, or NULL
 *   out     (size of the image,)
 */
void met_sample_move(const met_base *base, const met_sample *held, const met_sample *wanted, const met_parallel *pool,
                     void *out) {
    if (held->kind == wanted->kind && held->segments == wanted->segments) {
        change(base, held, wanted, pool, out);
    } else {
        change(base, held, NULL, pool, out);
        change(base, NULL, wanted, pool, out);
    }
}
