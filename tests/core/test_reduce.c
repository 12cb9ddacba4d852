#include "check.h"
#include "pool.h"
#include "reduce.h"

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
        met_reducer_clear(&r); /* and once more from nothing */
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
    met_reducer_clear(&b);
    met_reducer_read(&b, MET_SUM, MET_FLOAT64, &backwards, split);
    CHECK(b.weight == 0.0 && split[0] == 0.0 && split[LARGE - 1] == 0.0);
    CHECK(b.square[0] == 0.0 && b.square[LARGE / 2] == 0.0);
    met_reducer_free(&a);
    met_reducer_free(&b);
}

/* ------------------------------------------------------------------ elementwise */

void test_absolute(void) {
    static float alone[LARGE], split[LARGE];
    double wide[4] = {-1.5, 2.0, -0.0, -INFINITY};
    met_absolute(MET_FLOAT64, 4, wide, NULL, wide);
    CHECK(wide[0] == 1.5 && wide[1] == 2.0 && wide[2] == 0.0 && !signbit(wide[2]) && wide[3] == INFINITY);
    for (size_t i = 0; i < LARGE; i++) {
        alone[i] = split[i] = (float)i - 30000.5f;
    }
    met_absolute(MET_FLOAT32, LARGE, alone, NULL, alone);
    met_absolute(MET_FLOAT32, LARGE, split, &backwards, split);
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
            met_times_image(&base, c / 2 > 0, values, NULL, values);
        } else {
            base.dtype = MET_FLOAT32;
            base.image = image32;
            base.baseline = c / 2 == 1 ? baseline32 : NULL;
            met_times_image(&base, c / 2 > 0, values32, NULL, values32);
            for (int i = 0; i < 4; i++) {
                values[i] = (double)values32[i];
            }
        }
        CHECK_CLOSE_N(values, want, 4, 0.0);
    }
}

/* ------------------------------------------------------------------ memory that is not there */

static int allocations_left;

static void *scarce(size_t bytes) {
    return allocations_left-- > 0 ? malloc(bytes) : NULL;
}

/* Whichever allocation fails, nothing leaks, the account is settled and the output is as it was. */
void test_accumulators_without_memory(void) {
    int failed = 0;
    for (int allowed = 0; allowed < 8; allowed++) {
        met_account account = {0};
        met_reducer r = {.size = 77};
        met_set_allocator(scarce, NULL);
        allocations_left = allowed;
        const int status = met_reducer_new(24, true, &account, &r);
        met_set_allocator(NULL, NULL);
        CHECK(status == MET_OK || status == MET_ENOMEM);
        if (status == MET_OK) {
            met_reducer_free(&r);
        } else {
            CHECK_INT(r.size, 77);
            failed++;
        }
        CHECK_INT(account.bytes, 0);
    }
    CHECK(failed > 0 && failed < 8);
}

void test_accumulators_refuse_what_overflows(void) {
    const size_t wraps = SIZE_MAX / sizeof(double) + 2; /* to 8 bytes */
    met_reducer r;
    CHECK_INT(met_reducer_new(wraps, false, NULL, &r), MET_ENOMEM);
    CHECK_INT(met_reducer_new(1, false, NULL, NULL), MET_EVALUE);
}

/* Of 1, 2, 3, 6: mean 3, variance 3.5, so the mean's standard error is sqrt(3.5 / 3); the other value never moves. */
void test_reducer_standard_error(void) {
    static const double values[4][2] = {{1, -4}, {2, -4}, {3, -4}, {6, -4}};
    double out[2];
    met_reducer r;
    REQUIRE(met_reducer_new(2, true, NULL, &r) == MET_OK);
    for (int k = 0; k < 4; k++) {
        met_reducer_add(&r, MET_FLOAT64, values[k], 1.0, NULL);
    }
    met_reducer_read(&r, MET_STANDARD_ERROR, MET_FLOAT64, NULL, out);
    CHECK_CLOSE(out[0], sqrt(3.5 / 3), 1e-15);
    CHECK_CLOSE(out[1], 0, 0);
    CHECK_CLOSE(met_reducer_precision(&r), sqrt(3.5 / 3) / 4, 1e-15);
    met_reducer_clear(&r);
    for (int k = 0; k < 3; k++) {
        met_reducer_add(&r, MET_FLOAT64, values[0], 1.0, NULL);
    }
    CHECK_CLOSE(met_reducer_precision(&r), 0, 0);
    met_reducer_free(&r);
}

/* (value times)^2 after, with each factor left out in turn; the moments are those of the products. */
void test_results_may_be_products(void) {
    enum { N = 1300 }; /* more than one block */
    static float value[N], times[N], after[N];
    met_reducer r;
    double sum[N], square[N];
    for (size_t i = 0; i < N; i++) {
        value[i] = (float)i - 600.0f;
        times[i] = (float)(i % 7) * 0.5f;
        after[i] = i % 3 == 0 ? -1.0f : 0.25f;
    }
    for (int form = 0; form < 8; form++) {
        const met_factors factors = {value, form & 1 ? times : NULL, (form & 2) != 0, form & 4 ? after : NULL};
        REQUIRE(met_reducer_new(N, true, NULL, &r) == MET_OK);
        met_reducer_add_product(&r, MET_FLOAT32, &factors, 3.0, NULL);
        met_reducer_add_product(&r, MET_FLOAT32, &factors, 1.0, NULL);
        met_reducer_read(&r, MET_MEAN, MET_FLOAT64, NULL, sum);
        met_reducer_read(&r, MET_MEAN_SQUARE, MET_FLOAT64, NULL, square);
        for (size_t i = 0; i < N; i++) {
            const float product = value[i] * (form & 1 ? times[i] : 1.0f);
            const float want = (form & 2 ? product * product : product) * (form & 4 ? after[i] : 1.0f);
            CHECK(sum[i] == (double)want);
            CHECK_CLOSE(square[i], (double)want * (double)want, 0.0);
        }
        met_reducer_free(&r);
    }
}

/* Results go to other memory or in place. */
void test_elementwise_results_may_go_in_place(void) {
    float values[3] = {1, -2, 3}, out[3];
    static const float image[3] = {4, 5, -0.5f};
    const met_base base = {.dtype = MET_FLOAT32, .shape = {1, 1, 3}, .image = image, .baseline_value = 1};
    met_absolute(MET_FLOAT32, 3, values, NULL, out);
    CHECK(out[0] == 1 && out[1] == 2 && out[2] == 3 && values[1] == -2);
    met_times_image(&base, true, values, NULL, out);
    CHECK(out[0] == 3 && out[1] == -8 && out[2] == -4.5f);
    met_times_image(&base, false, values, NULL, values);
    CHECK(values[0] == 4 && values[1] == -10 && values[2] == -1.5f);
    met_absolute(MET_FLOAT32, 3, values, NULL, values);
    CHECK(values[1] == 10);
}
