#include "check.h"
#include "pool.h"
#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A small random image, its baseline and masks, in both floating types. */
#define LIMIT 600
typedef struct scene {
    met_base base;
    size_t size;
    double image[LIMIT], baseline[LIMIT], out[LIMIT]; /* floats lie in the first half */
    uint8_t replaced[16];
    int32_t ids[LIMIT];
    met_segments segments; /* of those, along a random choice of axes */
} scene;

static met_stream numbers = {.seed = 5, .stream = 0};
static uint64_t drawn;

/* An integer in [0, bound). */
static size_t draw(size_t bound) {
    double u;
    met_uniform(numbers, drawn++, 1, &u);
    return (size_t)(u * (double)bound);
}

static void put(met_dtype dtype, void *values, size_t i, double value) {
    if (dtype == MET_FLOAT32) {
        ((float *)values)[i] = (float)value;
    } else {
        ((double *)values)[i] = value;
    }
}

static double get(met_dtype dtype, const void *values, size_t i) {
    return dtype == MET_FLOAT32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
}

static void make_scene(scene *s, met_dtype dtype, const size_t shape[MET_AXES], int bands, bool has_baseline) {
    double value;
    memset(s, 0, sizeof *s);
    s->base = (met_base){.dtype = dtype, .bands = bands, .image = s->image, .baseline_value = -0.75};
    memcpy(s->base.shape, shape, sizeof s->base.shape);
    s->base.baseline = has_baseline ? s->baseline : NULL;
    s->size = shape[0] * shape[1] * shape[2];
    for (size_t i = 0; i < s->size; i++) {
        met_normal(numbers, drawn++, 1, &value);
        put(dtype, s->image, i, value);
        met_normal(numbers, drawn++, 1, &value);
        put(dtype, s->baseline, i, value);
        s->ids[i] = (int32_t)draw(16);
    }
    s->segments = (met_segments){.ids = s->ids, .count = 16};
    ptrdiff_t stride = 1;
    for (int a = MET_AXES - 1; a >= 0; a--) {
        const bool depends = draw(2) == 1;
        s->segments.strides[a] = depends ? stride : 0;
        stride *= depends ? (ptrdiff_t)shape[a] : 1;
    }
    for (size_t i = 0; i < 16; i++) {
        s->replaced[i] = (uint8_t)draw(2);
    }
}

/* Value (i, j, k) of a sample by its definition. */
static double expected(const scene *s, const met_sample *sample, const size_t at[MET_AXES]) {
    const met_base *base = &s->base;
    const size_t flat = (at[0] * base->shape[1] + at[1]) * base->shape[2] + at[2];
    const double x = get(base->dtype, base->image, flat);
    const double b = base->baseline != NULL ? get(base->dtype, base->baseline, flat) : base->baseline_value;
    bool inside = true;
    bool perturbed = base->mask == NULL || base->mask[at[1] * 8 + at[2]];
    double z;
    float narrow;
    for (int a = 0; a < MET_AXES; a++) {
        inside = inside && at[a] >= sample->box.start[a] && at[a] < sample->box.stop[a];
        perturbed = perturbed && (sample->selected[a] == NULL || sample->selected[a][at[a]]);
    }
    switch (sample->kind) {
    case MET_IDENTITY: return x;
    case MET_LERP:
        if (base->dtype == MET_FLOAT32) {
            return (double)((float)b + (float)sample->alpha * ((float)x - (float)b));
        }
        return b + sample->alpha * (x - b);
    case MET_BOX: return inside ? b : x;
    case MET_BANDS: return sample->replaced[at[base->bands]] ? b : x;
    case MET_SEGMENTS: {
        const ptrdiff_t *strides = sample->segments->strides;
        const int32_t id =
            sample->segments
                ->ids[(ptrdiff_t)at[0] * strides[0] + (ptrdiff_t)at[1] * strides[1] + (ptrdiff_t)at[2] * strides[2]];
        return sample->replaced[id] ? b : x;
    }
    case MET_NOISE:
        met_normal(sample->noise, flat, 1, &z);
        met_normal_float(sample->noise, flat, 1, &narrow);
        narrow = (float)x + (float)sample->stdev * narrow;
        return !perturbed ? x : base->dtype == MET_FLOAT32 ? (double)narrow : x + sample->stdev * z;
    }
    return NAN;
}

static void check_sample(const scene *s, const met_sample *sample) {
    size_t wrong = 0, flat = 0, at[MET_AXES];
    for (at[0] = 0; at[0] < s->base.shape[0]; at[0]++) {
        for (at[1] = 0; at[1] < s->base.shape[1]; at[1]++) {
            for (at[2] = 0; at[2] < s->base.shape[2]; at[2]++) {
                wrong += get(s->base.dtype, s->out, flat++) != expected(s, sample, at);
            }
        }
    }
    CHECK_INT(wrong, 0);
}

/* A random box, often of full extent along some axes, now and then empty. */
static met_box random_box(const size_t shape[MET_AXES]) {
    met_box box;
    for (int a = 0; a < MET_AXES; a++) {
        box.start[a] = draw(2) ? 0 : draw(shape[a] + 1);
        box.stop[a] = draw(2) ? shape[a] : box.start[a] + draw(shape[a] - box.start[a] + 1);
    }
    return box;
}

/* Every kind, type, band axis and kind of baseline on small images of any shape, against the definition; rendering
 * overwrites what was there, apply equals render, undo gives the image back bit for bit. */
void test_samples_follow_their_definition(void) {
    static scene s;
    uint8_t spatial_mask[64];
    for (size_t i = 0; i < sizeof spatial_mask; i++) {
        spatial_mask[i] = (uint8_t)draw(2);
    }
    for (int trial = 0; trial < 600; trial++) {
        const size_t shape[MET_AXES] = {1 + draw(8), 1 + draw(8), 1 + draw(8)};
        const met_dtype dtype = trial % 2 ? MET_FLOAT32 : MET_FLOAT64;
        make_scene(&s, dtype, shape, (int)draw(3), draw(2) == 1);
        met_sample sample = {.kind = (met_kind)(trial % 6),
                             .alpha = 0.3,
                             .replaced = s.replaced,
                             .segments = &s.segments,
                             .noise = {3, (uint64_t)trial},
                             .stdev = 0.5};
        sample.box = random_box(shape);
        for (int a = 0; a < MET_AXES; a++) {
            sample.selected[a] = draw(2) ? NULL : s.replaced; /* any flags will do */
        }
        s.base.mask = draw(2) ? NULL : spatial_mask;
        s.base.mask_strides[1] = 8;
        s.base.mask_strides[2] = 1;
        memset(s.out, 0xff, sizeof s.out);
        met_sample_render(&s.base, &sample, NULL, s.out);
        check_sample(&s, &sample);
        if (met_sample_is_local(&sample)) {
            const size_t bytes = s.size * met_dtype_size(dtype);
            memcpy(s.out, s.image, bytes);
            met_sample_apply(&s.base, &sample, NULL, s.out);
            check_sample(&s, &sample);
            const met_kind local[] = {MET_BOX, MET_BANDS, MET_SEGMENTS};
            uint8_t other[16];
            for (size_t i = 0; i < 16; i++) {
                other[i] = (uint8_t)draw(2);
            }
            met_sample next = sample; /* mostly of the same kind, and then to any other one */
            next.kind = draw(2) ? sample.kind : local[draw(3)];
            next.replaced = other;
            next.box = random_box(shape);
            met_sample_move(&s.base, &sample, &next, NULL, s.out);
            check_sample(&s, &next);
            met_sample_move(&s.base, &next, &sample, NULL, s.out);
            check_sample(&s, &sample);
            met_sample_undo(&s.base, &sample, NULL, s.out);
            CHECK(memcmp(s.out, s.image, bytes) == 0);
        }
    }
}

/* The 3 x 2 x 2 image 0, 1, .. 11 with baseline 100. */
void test_samples_by_hand(void) {
    static const uint8_t first_and_last[] = {1, 0, 1}, second[] = {0, 1};
    static const int32_t ids[12] = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1}, rows[2] = {0, 1};
    static const met_segments segments = {ids, {4, 2, 1}, 2}, same = {rows, {0, 1, 0}, 2};
    static const struct {
        int bands;
        met_sample sample;
        float want[12];
    } cases[] = {
        {0, {.kind = MET_IDENTITY}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
        {0, {.kind = MET_LERP, .alpha = 0.5}, {50, 50.5, 51, 51.5, 52, 52.5, 53, 53.5, 54, 54.5, 55, 55.5}},
        {0, {.kind = MET_BOX, .box = {{1, 0, 1}, {3, 2, 2}}}, {0, 1, 2, 3, 4, 100, 6, 100, 8, 100, 10, 100}},
        {0, {.kind = MET_BOX, .box = {{1, 1, 0}, {2, 2, 2}}}, {0, 1, 2, 3, 4, 5, 100, 100, 8, 9, 10, 11}},
        {0, {.kind = MET_BOX, .box = {{0, 0, 1}, {3, 2, 0}}}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
        {0, {.kind = MET_BANDS, .replaced = first_and_last}, {100, 100, 100, 100, 4, 5, 6, 7, 100, 100, 100, 100}},
        {1, {.kind = MET_BANDS, .replaced = second}, {0, 1, 100, 100, 4, 5, 100, 100, 8, 9, 100, 100}},
        {2, {.kind = MET_BANDS, .replaced = second}, {0, 100, 2, 100, 4, 100, 6, 100, 8, 100, 10, 100}},
        {0,
         {.kind = MET_SEGMENTS, .replaced = second, .segments = &segments},
         {0, 1, 100, 100, 4, 5, 100, 100, 8, 9, 100, 100}},
        {0,
         {.kind = MET_SEGMENTS, .replaced = second, .segments = &same},
         {0, 1, 100, 100, 4, 5, 100, 100, 8, 9, 100, 100}},
    };
    float image[12], out[12];
    for (int i = 0; i < 12; i++) {
        image[i] = (float)i;
    }
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const met_base base = {
            .dtype = MET_FLOAT32, .shape = {3, 2, 2}, .bands = cases[c].bands, .image = image, .baseline_value = 100.0};
        met_sample_render(&base, &cases[c].sample, NULL, out);
        CHECK_CLOSE_NF(out, cases[c].want, 12, 0.0);
    }
}

/* Applying writes the box and nothing else: the rest of the slot keeps what is not even the image. */
void test_apply_touches_the_box_alone(void) {
    static scene s;
    for (int trial = 0; trial < 100; trial++) {
        const size_t shape[MET_AXES] = {1 + draw(8), 1 + draw(8), 1 + draw(8)};
        size_t inside = 0;
        make_scene(&s, MET_FLOAT64, shape, 0, trial % 2 == 0);
        met_sample sample = {.kind = MET_BOX, .box = random_box(shape)};
        const size_t volume = (sample.box.stop[0] - sample.box.start[0]) * (sample.box.stop[1] - sample.box.start[1]) *
                              (sample.box.stop[2] - sample.box.start[2]);
        for (size_t i = 0; i < s.size; i++) {
            s.out[i] = 1e300;
        }
        met_sample_apply(&s.base, &sample, NULL, s.out);
        for (size_t i = 0; i < s.size; i++) {
            inside += s.out[i] != 1e300;
        }
        CHECK_INT(inside, volume);
    }
}

/* alpha = 0 is the baseline to the bit, where b + 0 (x - b) would be NaN or lose the sign of zero. */
void test_lerp_at_zero_is_the_baseline(void) {
    const float image[4] = {INFINITY, NAN, 1.0f, -INFINITY}, baseline[4] = {1.0f, 2.0f, -0.0f, 1e-40f};
    const met_sample sample = {.kind = MET_LERP, .alpha = 0.0};
    float out[4];
    met_base base = {.dtype = MET_FLOAT32, .shape = {1, 2, 2}, .image = image, .baseline = baseline};
    met_sample_render(&base, &sample, NULL, out);
    CHECK(memcmp(out, baseline, sizeof out) == 0);
    base.baseline = NULL;
    base.baseline_value = 7.0;
    met_sample_render(&base, &sample, NULL, out);
    for (int i = 0; i < 4; i++) {
        CHECK(out[i] == 7.0f);
    }
}

void test_which_samples_are_local(void) {
    static const bool local[] = {[MET_IDENTITY] = false, [MET_LERP] = false,    [MET_BOX] = true,
                                 [MET_BANDS] = true,     [MET_SEGMENTS] = true, [MET_NOISE] = false};
    for (int kind = MET_IDENTITY; kind <= MET_NOISE; kind++) {
        const met_sample sample = {.kind = (met_kind)kind};
        CHECK_INT(met_sample_is_local(&sample), local[kind]);
    }
}

/* Large enough to be split: the same bits whatever the threads do, for every kind. */
void test_samples_do_not_depend_on_threads(void) {
    enum { N = 11 * 83 * 101 };
    static float image[N], baseline[N], alone[N], split[N];
    static int32_t ids[N];
    static const met_segments segments = {ids, {83 * 101, 101, 1}, 128}, shared = {ids, {0, 101, 1}, 128};
    static const uint8_t replaced[128] = {1, 0, 0, 1, 1, 0, 1, [20] = 1, [82] = 1, [100] = 1};
    for (size_t i = 0; i < N; i++) {
        double z[2];
        met_normal(numbers, 2 * i, 2, z);
        image[i] = (float)z[0];
        baseline[i] = (float)z[1];
        ids[i] = (int32_t)(i / 3 * 37 % 128);
    }
    for (int kind = MET_IDENTITY; kind <= MET_NOISE; kind++) {
        for (int bands = 0; bands < MET_AXES; bands++) {
            const met_base base = {.dtype = MET_FLOAT32,
                                   .shape = {11, 83, 101},
                                   .bands = bands,
                                   .image = image,
                                   .baseline = bands == 1 ? NULL : baseline};
            met_sample sample = {.kind = (met_kind)kind,
                                 .alpha = 0.7,
                                 .replaced = replaced,
                                 .segments = &segments,
                                 .noise = {1, 2},
                                 .stdev = 0.1,
                                 .box = {{0, 0, 0}, {11, 83, 101}}};
            sample.segments = bands == 0 ? &segments : &shared;
            sample.box.start[bands] = 3; /* a run across the image, or many short ones */
            memset(alone, 0xff, sizeof alone);
            memset(split, 0xfe, sizeof split);
            met_sample_render(&base, &sample, NULL, alone);
            met_sample_render(&base, &sample, &backwards, split);
            CHECK(memcmp(alone, split, sizeof alone) == 0);
            for (size_t v = 0; v < N && kind == MET_SEGMENTS; v += 101) { /* many stretches, against the definition */
                const size_t at = bands == 0 ? v : v % (83 * 101);
                const float b = base.baseline == NULL ? 0.0F : baseline[v];
                CHECK(alone[v] == (replaced[ids[at]] ? b : image[v]));
            }
        }
    }
}

/* A sample changes nothing exactly where every value it replaces is the baseline's already; NaN is never equal. */
void test_samples_that_change_nothing(void) {
    static scene s;
    int changed = 0;
    for (int trial = 0; trial < 600; trial++) {
        const size_t shape[MET_AXES] = {1 + draw(4), 1 + draw(4), 1 + draw(4)};
        const size_t size = shape[0] * shape[1] * shape[2];
        make_scene(&s, trial % 2 ? MET_FLOAT32 : MET_FLOAT64, shape, (int)draw(3), draw(2) == 1);
        const met_kind kinds[] = {MET_BOX, MET_BANDS, MET_SEGMENTS};
        met_sample sample = {.kind = kinds[trial % 3], .replaced = s.replaced, .segments = &s.segments};
        sample.box = random_box(shape);
        met_sample_render(&s.base, &sample, NULL, s.out);
        const bool moved = memcmp(s.out, s.base.image, size * met_dtype_size(s.base.dtype)) != 0;
        CHECK_INT(met_sample_changes(&s.base, &sample), moved);
        changed += moved;
        met_base same = s.base; /* the sample itself: nothing is left to change */
        static double copy[4096];
        memcpy(copy, s.out, size * met_dtype_size(s.base.dtype));
        same.image = copy;
        CHECK(!met_sample_changes(&same, &sample));
    }
    CHECK(changed > 100 && changed < 600);
    static const double nan_image[1] = {NAN};
    const met_base base = {.dtype = MET_FLOAT64, .shape = {1, 1, 1}, .image = nan_image, .baseline_value = NAN};
    const met_sample whole = {.kind = MET_BOX, .box = {{0, 0, 0}, {1, 1, 1}}};
    CHECK(met_sample_changes(&base, &whole));
}
