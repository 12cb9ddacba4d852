#include "check.h"
#include "met.h"
#include "pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void test_reducer_by_hand(void) {
    static const float first[3] = {1, 2, -3}, second[3] = {3, 2, 5};
    static const double sum[3] = {6, 8, -4}, mean[3] = {1.5, 2, -1}, square[3] = {3, 4, 13},
                        variance[3] = {0.75, 0, 12};
    met_account account = {0};
    met_reducer r;
    double out[3];
    float out32[3];
    REQUIRE(met_reducer_new(3, true, &account, &r) == MET_OK);
    CHECK_INT(account.bytes, 2 * 3 * sizeof(double));
    for (int round = 0; round < 2; round++) {
        met_reducer_add(&r, MET_FLOAT32, first, 3.0, NULL);
        met_reducer_add(&r, MET_FLOAT32, second, 1.0, NULL);
        CHECK_CLOSE(r.weight, 4.0, 0.0);
        met_reducer_read(&r, MET_SUM, MET_FLOAT64, NULL, out);
        CHECK_CLOSE_N(out, sum, 3, 0.0);
        met_reducer_read(&r, MET_MEAN, MET_FLOAT64, NULL, out);
        CHECK_CLOSE_N(out, mean, 3, 0.0);
        met_reducer_read(&r, MET_MEAN_SQUARE, MET_FLOAT64, NULL, out);
        CHECK_CLOSE_N(out, square, 3, 0.0);
        met_reducer_read(&r, MET_VARIANCE, MET_FLOAT32, NULL, out32);
        for (int i = 0; i < 3; i++) {
            CHECK_CLOSE(out32[i], variance[i], 0.0);
        }
        met_reducer_clear(&r, NULL); /* and once more from nothing */
    }
    met_reducer_free(&r);
    CHECK_INT(account.bytes, 0);
    met_reducer_free(&r);
    met_reducer_free(NULL);
}

void test_reducer_without_squares(void) {
    static const double values[2] = {1.0, -2.0}, sum[2] = {0.25, -0.5};
    met_reducer r;
    double out[2];
    REQUIRE(met_reducer_new(2, false, NULL, &r) == MET_OK);
    CHECK(r.square == NULL && r.square_buffer == NULL);
    met_reducer_add(&r, MET_FLOAT64, values, 0.25, NULL);
    met_reducer_read(&r, MET_MEAN, MET_FLOAT64, NULL, out);
    CHECK_CLOSE_N(out, values, 2, 0.0);
    met_reducer_read(&r, MET_SUM, MET_FLOAT64, NULL, out);
    CHECK_CLOSE_N(out, sum, 2, 0.0);
    met_reducer_free(&r);
}

/* A million small float32 steps: a float32 sum would be off in the second digit. */
void test_reducer_sums_in_double(void) {
    static const float values[1] = {0.1f};
    met_reducer r;
    double out;
    REQUIRE(met_reducer_new(1, true, NULL, &r) == MET_OK);
    for (int k = 0; k < 1000000; k++) {
        met_reducer_add(&r, MET_FLOAT32, values, 1.0, NULL);
    }
    met_reducer_read(&r, MET_MEAN, MET_FLOAT64, NULL, &out);
    CHECK_CLOSE(out, (double)0.1f, 1e-11);
    met_reducer_read(&r, MET_VARIANCE, MET_FLOAT64, NULL, &out);
    CHECK(out >= 0.0 && out < 1e-11);
    met_reducer_free(&r);
}

/* Rounding alone never makes a variance negative, and not a number is not hidden. */
void test_reducer_variance_of_constants(void) {
    enum { N = 1000 };
    double values[N], out[N];
    size_t negative = 0;
    met_reducer r;
    REQUIRE(met_reducer_new(N, true, NULL, &r) == MET_OK);
    met_normal((met_stream){1, 1}, 0, N, values);
    values[7] = NAN;
    values[8] = INFINITY;
    for (int k = 0; k < 7; k++) {
        met_reducer_add(&r, MET_FLOAT64, values, 1.0, NULL);
    }
    met_reducer_read(&r, MET_VARIANCE, MET_FLOAT64, NULL, out);
    for (int i = 0; i < N; i++) {
        const double mean = r.sum[i] / r.weight;
        negative += r.square[i] / r.weight - mean * mean < 0.0;
        if (i != 7 && i != 8) {
            CHECK(out[i] >= 0.0 && out[i] <= 1e-14 * (1.0 + values[i] * values[i]));
        }
    }
    CHECK(negative > 0); /* the clamp had something to do */
    CHECK(isnan(out[7]) && isnan(out[8]));
    met_reducer_free(&r);
}

void test_reducer_without_results_is_not_a_number(void) {
    met_reducer r;
    double out[2] = {1.0, 1.0};
    REQUIRE(met_reducer_new(2, true, NULL, &r) == MET_OK);
    met_reducer_read(&r, MET_SUM, MET_FLOAT64, NULL, out);
    CHECK(out[0] == 0.0 && out[1] == 0.0);
    met_reducer_read(&r, MET_MEAN, MET_FLOAT64, NULL, out);
    CHECK(isnan(out[0]) && isnan(out[1]));
    met_reducer_free(&r);
}

/* Against sums written out, on an array that is split, in both types: same bits with and without a pool. */
#define LARGE 70001
void test_reducer_does_not_depend_on_threads(void) {
    static double values[LARGE], sum[LARGE], square[LARGE], alone[LARGE], split[LARGE];
    static float narrow[LARGE];
    met_reducer a, b;
    REQUIRE(met_reducer_new(LARGE, true, NULL, &a) == MET_OK);
    if (!CHECK(met_reducer_new(LARGE, true, NULL, &b) == MET_OK)) {
        met_reducer_free(&a);
        return;
    }
    for (int k = 0; k < 5; k++) {
        const double weight = 0.1 * (k + 1);
        met_normal((met_stream){9, (uint64_t)k}, 0, LARGE, values);
        for (size_t i = 0; i < LARGE; i++) {
            narrow[i] = (float)values[i];
            const double v = k % 2 ? (double)narrow[i] : values[i];
            sum[i] += weight * v;
            square[i] += weight * v * v;
        }
        const void *given = k % 2 ? (const void *)narrow : (const void *)values;
        met_reducer_add(&a, k % 2 ? MET_FLOAT32 : MET_FLOAT64, given, weight, NULL);
        met_reducer_add(&b, k % 2 ? MET_FLOAT32 : MET_FLOAT64, given, weight, &backwards);
    }
    CHECK_CLOSE_N(a.sum, sum, LARGE, 1e-15);
    CHECK_CLOSE_N(a.square, square, LARGE, 1e-15);
    for (int moment = MET_SUM; moment <= MET_VARIANCE; moment++) {
        met_reducer_read(&a, (met_moment)moment, MET_FLOAT64, NULL, alone);
        met_reducer_read(&b, (met_moment)moment, MET_FLOAT64, &backwards, split);
        CHECK(memcmp(alone, split, sizeof alone) == 0);
    }
    met_reducer_clear(&b, &backwards);
    CHECK(b.weight == 0.0 && b.sum[0] == 0.0 && b.sum[LARGE - 1] == 0.0 && b.square[LARGE / 2] == 0.0);
    met_reducer_free(&a);
    met_reducer_free(&b);
}

/* ------------------------------------------------------------------ elementwise */

void test_absolute(void) {
    static float alone[LARGE], split[LARGE];
    double wide[4] = {-1.5, 2.0, -0.0, -INFINITY};
    met_absolute(MET_FLOAT64, 4, NULL, wide);
    CHECK(wide[0] == 1.5 && wide[1] == 2.0 && wide[2] == 0.0 && !signbit(wide[2]) && wide[3] == INFINITY);
    for (size_t i = 0; i < LARGE; i++) {
        alone[i] = split[i] = (float)i - 30000.5f;
    }
    met_absolute(MET_FLOAT32, LARGE, NULL, alone);
    met_absolute(MET_FLOAT32, LARGE, &backwards, split);
    CHECK(memcmp(alone, split, sizeof alone) == 0);
    CHECK(alone[0] == 30000.5f && alone[30001] == 0.5f && alone[LARGE - 1] == 39999.5f);
}

void test_times_image(void) {
    static const double image[4] = {1, 2, 3, -4}, baseline[4] = {1, 0, 5, 2};
    static const float image32[4] = {1, 2, 3, -4}, baseline32[4] = {1, 0, 5, 2};
    static const double by_image[4] = {10, 40, 90, -160}, by_array[4] = {0, 40, -60, -240},
                        by_number[4] = {5, 30, 75, -180};
    for (int c = 0; c < 6; c++) {
        const double *want = c / 2 == 0 ? by_image : c / 2 == 1 ? by_array : by_number;
        double values[4] = {10, 20, 30, 40};
        float values32[4] = {10, 20, 30, 40};
        met_base base = {.dtype = MET_FLOAT64, .shape = {1, 2, 2}, .image = image, .baseline_value = 0.5};
        if (c % 2 == 0) {
            base.baseline = c / 2 == 1 ? baseline : NULL;
            met_times_image(&base, c / 2 > 0, NULL, values);
        } else {
            base.dtype = MET_FLOAT32;
            base.image = image32;
            base.baseline = c / 2 == 1 ? baseline32 : NULL;
            met_times_image(&base, c / 2 > 0, NULL, values32);
            for (int i = 0; i < 4; i++) {
                values[i] = (double)values32[i];
            }
        }
        CHECK_CLOSE_N(values, want, 4, 0.0);
    }
}

/* ------------------------------------------------------------------ windows */

/* Overlapping windows on 1 x 2 x 4: the mean of those that cover a value, 0 where none does. */
void test_window_mean_by_hand(void) {
    static const size_t shape[MET_AXES] = {1, 2, 4};
    static const met_box left = {{0, 0, 0}, {1, 2, 2}}, middle = {{0, 0, 1}, {1, 1, 3}};
    static const double want[8] = {3, 4, 5, 0, 3, 3, 0, 0};
    met_account account = {0};
    met_window_mean w;
    double out[8];
    float out32[8];
    REQUIRE(met_window_mean_new(shape, &account, &w) == MET_OK);
    CHECK_INT(account.bytes, 8 * (sizeof(double) + sizeof(uint32_t)));
    for (int round = 0; round < 2; round++) {
        met_window_mean_add(&w, &left, 3.0);
        met_window_mean_add(&w, &middle, 5.0);
        met_window_mean_read(&w, MET_FLOAT64, out);
        CHECK_CLOSE_N(out, want, 8, 0.0);
        met_window_mean_read(&w, MET_FLOAT32, out32);
        for (int i = 0; i < 8; i++) {
            CHECK_CLOSE(out32[i], want[i], 0.0);
        }
        met_window_mean_clear(&w);
    }
    met_window_mean_free(&w);
    CHECK_INT(account.bytes, 0);
    met_window_mean_free(&w);
    met_window_mean_free(NULL);
}

/* One window a value, in three axes: each value reads its own difference. */
void test_window_mean_of_single_values(void) {
    static const size_t shape[MET_AXES] = {3, 4, 5};
    met_window_mean w;
    double out[60], want[60];
    REQUIRE(met_window_mean_new(shape, NULL, &w) == MET_OK);
    for (size_t i = 0; i < 60; i++) {
        const size_t at[MET_AXES] = {i / 20, i / 5 % 4, i % 5};
        const met_box box = {{at[0], at[1], at[2]}, {at[0] + 1, at[1] + 1, at[2] + 1}};
        want[i] = (double)i - 17.5;
        met_window_mean_add(&w, &box, want[i]);
    }
    met_window_mean_read(&w, MET_FLOAT64, out);
    CHECK_CLOSE_N(out, want, 60, 0.0);
    met_window_mean_free(&w);
}

/* ------------------------------------------------------------------ memory that is not there */

static int allocations_left;

static void *scarce(size_t bytes) {
    return allocations_left-- > 0 ? malloc(bytes) : NULL;
}

/* Whichever allocation fails, nothing leaks, the account is settled and the output is as it was. */
void test_accumulators_without_memory(void) {
    static const size_t shape[MET_AXES] = {2, 3, 4};
    int failed = 0;
    for (int allowed = 0; allowed < 8; allowed++) {
        met_account account = {0};
        met_reducer r = {.size = 77};
        met_window_mean w = {.shape = {77, 0, 0}};
        met_set_allocator(scarce, NULL);
        allocations_left = allowed;
        const int of_reducer = met_reducer_new(24, true, &account, &r);
        allocations_left = allowed;
        const int of_windows = met_window_mean_new(shape, &account, &w);
        met_set_allocator(NULL, NULL);
        CHECK(of_reducer == MET_OK || of_reducer == MET_ENOMEM);
        if (of_reducer == MET_OK) {
            met_reducer_free(&r);
        } else {
            CHECK_INT(r.size, 77);
            failed++;
        }
        CHECK(of_windows == MET_OK || of_windows == MET_ENOMEM);
        if (of_windows == MET_OK) {
            met_window_mean_free(&w);
        } else {
            CHECK_INT(w.shape[0], 77);
            failed++;
        }
        CHECK_INT(account.bytes, 0);
    }
    CHECK(failed > 0 && failed < 16);
}

void test_accumulators_refuse_what_overflows(void) {
    const size_t wraps = SIZE_MAX / sizeof(double) + 2; /* to 8 bytes */
    const size_t huge[MET_AXES] = {SIZE_MAX / 2 + 2, 2, 1}, wide[MET_AXES] = {wraps, 1, 1};
    static const size_t fine[MET_AXES] = {1, 1, 1};
    met_reducer r;
    met_window_mean w;
    CHECK_INT(met_reducer_new(wraps, false, NULL, &r), MET_ENOMEM);
    CHECK_INT(met_window_mean_new(huge, NULL, &w), MET_ENOMEM);
    CHECK_INT(met_window_mean_new(wide, NULL, &w), MET_ENOMEM);
    CHECK_INT(met_reducer_new(1, false, NULL, NULL), MET_EVALUE);
    CHECK_INT(met_window_mean_new(NULL, NULL, &w), MET_EVALUE);
    CHECK_INT(met_window_mean_new(fine, NULL, NULL), MET_EVALUE);
}
