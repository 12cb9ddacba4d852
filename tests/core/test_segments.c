#include "check.h"
#include "pool.h"
#include "segments.h"
#include "toy_model.h"

#include <stdlib.h>
#include <string.h>

#define MOST ((size_t)7 * 7 * 7)

/* A whole number in [0, n) that looks random. */
static size_t pick(size_t trial, size_t i, size_t n) {
    return (size_t)((toy_value(300 + trial, i) + 1) / 2 * (double)n);
}

/* Features of a random shape, in a random order of axes, repeated along random ones; ids come in runs. */
typedef struct partition {
    size_t shape[MET_AXES];
    size_t size;
    int32_t ids[MOST];
    met_segments segments;
} partition;

static void make_partition(partition *p, size_t trial) {
    static const int orders[6][MET_AXES] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const int *order = orders[trial % 6];
    ptrdiff_t step = 1;
    p->size = 1;
    for (int a = MET_AXES - 1; a >= 0; a--) {
        const int axis = order[a];
        p->shape[axis] = 1 + pick(trial, (size_t)axis, 7);
        p->size *= p->shape[axis];
        const bool repeated = trial / 6 >> axis & 1;
        p->segments.strides[axis] = repeated ? 0 : step;
        step *= repeated ? 1 : (ptrdiff_t)p->shape[axis];
    }
    p->segments.ids = p->ids;
    p->segments.count = 1 + pick(trial, 3, 5);
    for (size_t i = 0; i < MOST; i++) {
        const bool goes_on = i > 0 && toy_value(301 + trial, 100 + i) < 0.3;
        p->ids[i] = goes_on ? p->ids[i - 1] : (int32_t)pick(trial, 1000 + i, p->segments.count + 1) - 1;
    }
}

/* The feature of a value by definition. */
static int32_t id_at(const met_segments *s, const size_t shape[MET_AXES], size_t flat) {
    const size_t i = flat / (shape[1] * shape[2]), j = flat / shape[2] % shape[1], k = flat % shape[2];
    return s->ids[(ptrdiff_t)i * s->strides[0] + (ptrdiff_t)j * s->strides[1] + (ptrdiff_t)k * s->strides[2]];
}

void test_segment_rows_follow_their_definition(void) {
    for (size_t trial = 0; trial < 240; trial++) {
        partition p;
        make_partition(&p, trial);
        for (size_t at = 0; at < p.size; at++) {
            const size_t to = at + 1 + pick(trial, at, p.size - at);
            const met_segment_row row = met_segments_row(&p.segments, p.shape, at, to);
            REQUIRE(row.length >= 1 && row.length <= to - at);
            CHECK(row.length == to - at || at % p.shape[2] + row.length >= p.shape[2]); /* a line at least */
            for (size_t i = 0; i < row.length; i++) {
                CHECK_INT(row.ids[(ptrdiff_t)i * row.step], id_at(&p.segments, p.shape, at + i));
            }
            for (size_t i = 0, n; i < row.length; i += n) {
                int32_t id = -7;
                n = met_segment_run(&row, i, &id);
                REQUIRE(n >= 1 && n <= row.length - i);
                for (size_t k = 0; k < n; k++) {
                    CHECK_INT(id_at(&p.segments, p.shape, at + i + k), id);
                }
                CHECK(i + n == row.length || id_at(&p.segments, p.shape, at + i + n) != id);
            }
        }
    }
}

void test_segments_of_whole_bands(void) {
    size_t found = 0, missed = 0;
    for (size_t trial = 0; trial < 480; trial++) {
        partition p;
        int32_t want[7], *of_band = NULL;
        bool whole = true;
        make_partition(&p, trial);
        met_image image = {.bands = (int)(trial / 240 + trial) % 3};
        memcpy(image.shape, p.shape, sizeof p.shape);
        for (int b = 0; b < 7; b++) {
            want[b] = -7;
        }
        for (size_t at = 0; at < p.size; at++) {
            const size_t index[MET_AXES] = {at / (p.shape[1] * p.shape[2]), at / p.shape[2] % p.shape[1],
                                            at % p.shape[2]};
            int32_t *of = &want[index[image.bands]];
            const int32_t id = id_at(&p.segments, p.shape, at);
            whole = whole && (*of == -7 || *of == id);
            *of = id;
        }
        REQUIRE(met_segments_of_bands(&image, &p.segments, &of_band) == MET_OK);
        CHECK((of_band != NULL) == whole);
        for (size_t b = 0; b < p.shape[image.bands] && of_band != NULL && whole; b++) {
            CHECK_INT(of_band[b], want[b]);
        }
        found += whole;
        missed += !whole;
        met_deallocate(of_band);
    }
    CHECK(found > 40 && missed > 40); /* else the trials show nothing */
}

void test_segments_spread_by_definition(void) {
    for (size_t trial = 0; trial < 240; trial++) {
        partition p;
        double out[MOST], want[MOST], numbers[8];
        float out_f[MOST], want_f[MOST];
        make_partition(&p, trial);
        met_image image = {.bands = 0};
        memcpy(image.shape, p.shape, sizeof p.shape);
        for (size_t j = 0; j < 8; j++) {
            numbers[j] = toy_value(700, trial * 8 + j);
        }
        for (size_t at = 0; at < p.size; at++) {
            const int32_t id = id_at(&p.segments, p.shape, at);
            want[at] = id < 0 ? 0 : numbers[id];
            want_f[at] = (float)want[at];
            out[at] = 9;
            out_f[at] = 9;
        }
        met_segments_spread(&image, &p.segments, numbers, MET_FLOAT64, NULL, out);
        met_segments_spread(&image, &p.segments, numbers, MET_FLOAT32, NULL, out_f);
        CHECK(memcmp(out, want, p.size * sizeof *out) == 0);
        CHECK(memcmp(out_f, want_f, p.size * sizeof *out_f) == 0);
    }
}

/* Parts of a large image that begin and end anywhere. */
void test_segments_spread_does_not_depend_on_threads(void) {
    static const ptrdiff_t strides[][MET_AXES] = {{41 * 37, 37, 1}, {1, 50 * 37, 50}, {0, 37, 1}, {1, 0, 0}, {0, 0, 1}};
    const met_image image = {.shape = {50, 41, 37}};
    const size_t size = (size_t)50 * 41 * 37;
    const double numbers[] = {1.5, -2.25, 3};
    int32_t *ids = malloc(size * sizeof *ids);
    double *alone = malloc(size * sizeof *alone), *split = malloc(size * sizeof *split);
    for (size_t i = 0; i < size; i++) {
        ids[i] = (int32_t)(i / 5 % 4) - 1;
    }
    for (size_t s = 0; s < sizeof strides / sizeof *strides; s++) {
        met_segments segments = {.ids = ids, .count = 3};
        memcpy(segments.strides, strides[s], sizeof strides[s]);
        memset(split, 0x55, size * sizeof *split);
        met_segments_spread(&image, &segments, numbers, MET_FLOAT64, NULL, alone);
        met_segments_spread(&image, &segments, numbers, MET_FLOAT64, &backwards, split);
        CHECK(memcmp(alone, split, size * sizeof *alone) == 0);
        CHECK_CLOSE(alone[size - 1],
                    id_at(&segments, image.shape, size - 1) < 0 ? 0 : numbers[id_at(&segments, image.shape, size - 1)],
                    0);
    }
    free(ids);
    free(alone);
    free(split);
}

void test_segments_without_memory(void) {
    partition p;
    int32_t *of_band = NULL;
    make_partition(&p, 0);
    met_image image = {.bands = 0};
    memcpy(image.shape, p.shape, sizeof p.shape);
    toy_ration_memory();
    toy_allocations_left = 0;
    CHECK_INT(met_segments_of_bands(&image, &p.segments, &of_band), MET_ENOMEM);
    met_set_allocator(NULL, NULL);
    CHECK(of_band == NULL);
}
