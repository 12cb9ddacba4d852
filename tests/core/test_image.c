/* Views, reading, masks and bands: values by hand on an image whose value at (c, h, w) is 10000 c + 100 h + w. */
#include "band.h"
#include "buffer.h"
#include "check.h"
#include "image.h"
#include "pool.h"

#include <math.h>
#include <string.h>

#define BANDS 3
#define ROWS 70 /* more than a tile */
#define COLUMNS 90
#define SIZE (BANDS * ROWS * COLUMNS)

static double value_at(size_t c, size_t h, size_t w) {
    return 10000.0 * (double)c + 100.0 * (double)h + (double)w;
}

static met_image view_of(const void *data, met_dtype dtype, size_t c, size_t h, size_t w) {
    const ptrdiff_t step = (ptrdiff_t)met_dtype_size(dtype);
    return (met_image){.data = data,
                       .dtype = dtype,
                       .shape = {c, h, w},
                       .strides = {step * (ptrdiff_t)(h * w), step * (ptrdiff_t)w, step},
                       .bands = 0};
}

void test_image_reads_every_order_of_axes(void) {
    static const int orders[6][MET_AXES] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static float data[SIZE];
    static uint8_t mask[ROWS * COLUMNS];
    static float out[SIZE], want[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (float)value_at(i / (ROWS * COLUMNS), i / COLUMNS % ROWS, i % COLUMNS);
    }
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        mask[i] = i % 7 != 0;
    }
    for (int masked = 0; masked < 2; masked++) {
        for (int k = 0; k < 6; k++) {
            met_image view = view_of(data, MET_FLOAT32, BANDS, ROWS, COLUMNS);
            if (masked) {
                view.mask = mask;
                view.mask_strides[1] = COLUMNS;
                view.mask_strides[2] = 1;
            }
            REQUIRE(met_image_permute(&view, orders[k]) == MET_OK);
            CHECK_INT(orders[k][view.bands], 0);
            size_t n = 0;
            size_t at[MET_AXES];
            for (at[0] = 0; at[0] < view.shape[0]; at[0]++) {
                for (at[1] = 0; at[1] < view.shape[1]; at[1]++) {
                    for (at[2] = 0; at[2] < view.shape[2]; at[2]++) {
                        size_t source[MET_AXES];
                        for (int axis = 0; axis < MET_AXES; axis++) {
                            source[orders[k][axis]] = at[axis];
                        }
                        const int use = !masked || mask[source[1] * COLUMNS + source[2]];
                        want[n++] = use ? (float)value_at(source[0], source[1], source[2]) : 0.0F;
                    }
                }
            }
            REQUIRE(met_image_read(&view, MET_FLOAT32, NULL, out) == MET_OK);
            CHECK_CLOSE_NF(out, want, SIZE, 0.0);
            CHECK_INT(met_image_is_plain(&view, MET_FLOAT32), k == 0 && !masked);
        }
    }
}

#define CHECK_DTYPE(TYPE, TAG, A, B) \
    do { \
        const TYPE data[4] = {(TYPE)(A), (TYPE)(B), (TYPE)1, (TYPE)0}; \
        const uint8_t mask[4] = {1, 1, 0, 1}; \
        const double want[4] = {(double)data[0], (double)data[1], 0.0, 0.0}; \
        const float want_float[4] = {(float)data[0], (float)data[1], 0.0F, 0.0F}; \
        double wide[4]; \
        float narrow[4]; \
        TYPE own[4]; \
        met_image view = view_of(data, TAG, 1, 1, 4); \
        view.mask = mask; \
        view.mask_strides[2] = 1; \
        CHECK_INT(met_image_read(&view, MET_FLOAT64, NULL, wide), MET_OK); \
        CHECK_CLOSE_N(wide, want, 4, 0.0); \
        CHECK_INT(met_image_read(&view, MET_FLOAT32, NULL, narrow), MET_OK); \
        CHECK_CLOSE_NF(narrow, want_float, 4, 0.0); \
        CHECK_INT(met_image_read(&view, TAG, NULL, own), MET_OK); \
        CHECK(own[0] == data[0] && own[1] == data[1] && own[2] == (TYPE)0 && own[3] == data[3]); \
    } while (0)

void test_image_reads_every_dtype(void) {
    CHECK_DTYPE(uint8_t, MET_BOOL, 1, 0);
    CHECK_DTYPE(uint8_t, MET_UINT8, 255, 7);
    CHECK_DTYPE(int8_t, MET_INT8, -128, 127);
    CHECK_DTYPE(uint16_t, MET_UINT16, 65535, 7);
    CHECK_DTYPE(int16_t, MET_INT16, -32768, 32767);
    CHECK_DTYPE(uint32_t, MET_UINT32, 4294967295U, 7);
    CHECK_DTYPE(int32_t, MET_INT32, INT32_MIN, INT32_MAX);
    CHECK_DTYPE(uint64_t, MET_UINT64, UINT64_MAX, 7);
    CHECK_DTYPE(int64_t, MET_INT64, INT64_MIN, INT64_MAX);
    CHECK_DTYPE(float, MET_FLOAT32, -1.5, 0.1);
    CHECK_DTYPE(double, MET_FLOAT64, -1.5, 0.1);
}

/* NaN and infinity under the mask become 0 whatever the strides of values and mask, in every floating dtype. */
#define CHECK_MASKED(TYPE, TAG) \
    do { \
        const TYPE data[2][4] = {{(TYPE)NAN, (TYPE)2, (TYPE)INFINITY, (TYPE) - 4}, \
                                 {(TYPE) - INFINITY, (TYPE)NAN, (TYPE)7, (TYPE)8}}; \
        const uint8_t mask[2][4] = {{0, 1, 0, 1}, {0, 0, 1, 0}}; \
        const double want[2][4] = {{0.0, 2.0, 0.0, -4.0}, {0.0, 0.0, 7.0, 0.0}}; \
        const double turned[4][2] = {{0.0, 0.0}, {2.0, 0.0}, {0.0, 7.0}, {-4.0, 0.0}}; \
        static const int order[MET_AXES] = {0, 2, 1}; \
        double wide[8]; \
        float narrow[8]; \
        met_image view = view_of(data, TAG, 1, 2, 4); \
        view.mask = &mask[0][0]; \
        view.mask_strides[1] = 4; \
        view.mask_strides[2] = 1; \
        REQUIRE(met_image_read(&view, MET_FLOAT64, NULL, wide) == MET_OK); \
        CHECK_CLOSE_N(wide, &want[0][0], 8, 0.0); \
        REQUIRE(met_image_read(&view, MET_FLOAT32, NULL, narrow) == MET_OK); \
        for (size_t i = 0; i < 8; i++) { \
            CHECK_CLOSE(narrow[i], (&want[0][0])[i], 0.0); \
        } \
        REQUIRE(met_image_permute(&view, order) == MET_OK); \
        REQUIRE(met_image_read(&view, MET_FLOAT64, NULL, wide) == MET_OK); \
        CHECK_CLOSE_N(wide, &turned[0][0], 8, 0.0); \
        view = view_of(data, TAG, 1, 2, 4); /* one byte for each row */ \
        view.mask = &mask[0][0]; \
        view.mask_strides[1] = 1; \
        REQUIRE(met_image_read(&view, MET_FLOAT64, NULL, wide) == MET_OK); \
        CHECK(wide[0] == 0.0 && wide[1] == 0.0 && wide[2] == 0.0 && wide[3] == 0.0); \
        CHECK(isinf(wide[4]) && isnan(wide[5]) && wide[6] == 7.0 && wide[7] == 8.0); \
    } while (0)

void test_image_masked_values_have_no_effect(void) {
    CHECK_MASKED(float, MET_FLOAT32);
    CHECK_MASKED(double, MET_FLOAT64);
}

/* NaN and infinity at chosen places of an image, counted through every order of axes and under masks. */
#define CHECK_NONFINITE(TYPE, TAG) \
    do { \
        static TYPE data[SIZE]; \
        static uint8_t mask[SIZE]; \
        static const int orders[6][MET_AXES] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}; \
        static const size_t places[3][MET_AXES] = {{0, 3, COLUMNS - 1}, {1, 69, 0}, {2, 0, 5}}; \
        for (size_t i = 0; i < SIZE; i++) { \
            data[i] = (TYPE)1 / (TYPE)(i + 1); \
            mask[i] = 1; \
        } \
        data[7] = (TYPE)0; \
        met_image view = view_of(data, TAG, BANDS, ROWS, COLUMNS); \
        size_t count = 99; \
        size_t at[MET_AXES] = {9, 9, 9}; \
        CHECK_INT(met_image_nonfinite(&view, &backwards, &count, at), MET_OK); \
        CHECK_INT(count, 0); \
        CHECK_INT(at[0], 9); \
        for (int p = 0; p < 3; p++) { \
            data[(places[p][0] * ROWS + places[p][1]) * COLUMNS + places[p][2]] = p == 0   ? (TYPE)NAN \
                                                                                  : p == 1 ? (TYPE)INFINITY \
                                                                                           : (TYPE) - INFINITY; \
        } \
        view.mask = mask; \
        for (int a = 0; a < MET_AXES; a++) { \
            view.mask_strides[a] = view.strides[a] / (ptrdiff_t)sizeof(TYPE); \
        } \
        for (int hidden = -1; hidden < 3; hidden++) { /* one of the three is under the mask */ \
            size_t hole = hidden < 0 ? 0 : (size_t)hidden; \
            hole = (places[hole][0] * ROWS + places[hole][1]) * COLUMNS + places[hole][2]; \
            mask[hole] = hidden < 0; \
            for (int k = 0; k < 6; k++) { \
                met_image turned = view; \
                REQUIRE(met_image_permute(&turned, orders[k]) == MET_OK); \
                size_t first = SIZE; \
                for (int p = 0; p < 3; p++) { \
                    const size_t *place = places[p]; \
                    const size_t flat = \
                        (place[orders[k][0]] * turned.shape[1] + place[orders[k][1]]) * turned.shape[2] + \
                        place[orders[k][2]]; \
                    first = p != hidden && flat < first ? flat : first; \
                } \
                REQUIRE(met_image_nonfinite(&turned, k % 2 ? &backwards : NULL, &count, at) == MET_OK); \
                CHECK_INT(count, hidden < 0 ? 3 : 2); \
                CHECK_INT((at[0] * turned.shape[1] + at[1]) * turned.shape[2] + at[2], first); \
            } \
            mask[hole] = 1; \
        } \
    } while (0)

void test_image_counts_what_is_not_finite(void) {
    CHECK_NONFINITE(float, MET_FLOAT32);
    CHECK_NONFINITE(double, MET_FLOAT64);

    const float large[4] = {3.4e38F, -3.4e38F, 1e-45F, 0.0F};
    const int32_t whole[4] = {0x7f800000, -1, 0, 1};
    const float bad[4] = {1.0F, NAN, 2.0F, NAN};
    const uint8_t rows[2] = {0, 1};
    size_t count = 99;
    size_t at[MET_AXES] = {9, 9, 9};
    met_image view = view_of(large, MET_FLOAT32, 1, 2, 2);
    CHECK_INT(met_image_nonfinite(&view, NULL, &count, NULL), MET_OK);
    CHECK_INT(count, 0);
    view = view_of(whole, MET_INT32, 1, 2, 2);
    count = 99;
    CHECK_INT(met_image_nonfinite(&view, NULL, &count, at), MET_OK);
    CHECK_INT(count, 0);
    view = view_of(bad, MET_FLOAT32, 1, 2, 2);
    view.mask = rows; /* a byte for each row */
    view.mask_strides[1] = 1;
    CHECK_INT(met_image_nonfinite(&view, NULL, &count, at), MET_OK);
    CHECK(count == 1 && at[0] == 0 && at[1] == 1 && at[2] == 1);
    view.mask = NULL;
    view.strides[0] = 0; /* repeated values count each time */
    view.shape[0] = 5;
    CHECK_INT(met_image_nonfinite(&view, NULL, &count, at), MET_OK);
    CHECK(count == 10 && at[0] == 0 && at[1] == 0 && at[2] == 1);
    view.data = bad + 3; /* backwards */
    view.strides[0] = -16;
    view.strides[1] = -8;
    view.strides[2] = -4;
    view.shape[0] = 1;
    CHECK_INT(met_image_nonfinite(&view, NULL, &count, at), MET_OK);
    CHECK(count == 2 && at[0] == 0 && at[1] == 0 && at[2] == 0);
    CHECK_INT(met_image_nonfinite(NULL, NULL, &count, at), MET_EVALUE);
    CHECK_INT(met_image_nonfinite(&view, NULL, NULL, at), MET_EVALUE);
}

void test_image_repeats_along_stride_zero(void) {
    const double data[2] = {3.0, 4.0};
    const double want[4] = {3.0, 4.0, 3.0, 4.0};
    double out[4];
    met_image view = view_of(data, MET_FLOAT64, 2, 1, 2);
    view.strides[0] = 0;
    CHECK(!met_image_is_plain(&view, MET_FLOAT64));
    REQUIRE(met_image_read(&view, MET_FLOAT64, NULL, out) == MET_OK);
    CHECK_CLOSE_N(out, want, 4, 0.0);
}

void test_image_refuses(void) {
    const float data[4] = {0};
    float out[4];
    met_image view = view_of(data, MET_FLOAT32, 1, 2, 2);
    const int twice[MET_AXES] = {0, 0, 2};
    const int outside[MET_AXES] = {0, 1, 3};
    CHECK_INT(met_image_permute(&view, twice), MET_EVALUE);
    CHECK_INT(met_image_permute(&view, outside), MET_EVALUE);
    CHECK_INT(view.shape[1], 2);
    CHECK_INT(met_image_read(&view, MET_INT16, NULL, out), MET_ETYPE);
    CHECK_INT(met_image_read(NULL, MET_FLOAT32, NULL, out), MET_EVALUE);
    CHECK_INT(met_image_read(&view, MET_FLOAT32, NULL, NULL), MET_EVALUE);
}

void test_mask_is_full(void) {
    static uint8_t mask[BANDS * ROWS * COLUMNS];
    static const int orders[3][MET_AXES] = {{0, 1, 2}, {1, 2, 0}, {2, 0, 1}};
    memset(mask, 1, sizeof mask);
    met_image view = view_of(mask, MET_UINT8, BANDS, ROWS, COLUMNS);
    CHECK(met_mask_is_full(&view));
    view.mask = mask;
    memcpy(view.mask_strides, view.strides, sizeof view.mask_strides);
    static const size_t places[] = {0, 1, COLUMNS, ROWS * COLUMNS, BANDS * ROWS * COLUMNS - 1};
    for (int k = 0; k < 3; k++) {
        met_image turned = view;
        REQUIRE(met_image_permute(&turned, orders[k]) == MET_OK);
        CHECK(met_mask_is_full(&turned));
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            mask[places[i]] = 0;
            CHECK(!met_mask_is_full(&turned));
            mask[places[i]] = 1;
        }
    }
    view.mask_strides[0] = 0; /* what lies behind the first plane does not count */
    mask[ROWS * COLUMNS] = 0;
    CHECK(met_mask_is_full(&view));
    memset(view.mask_strides, 0, sizeof view.mask_strides);
    CHECK(met_mask_is_full(&view));
    mask[0] = 0;
    CHECK(!met_mask_is_full(&view));
}

void test_band_center_by_hand(void) {
    const double ascending[6] = {500.0, 600.0, 620.0, 650.0, 690.0, 700.0};
    const double shuffled[6] = {650.0, 500.0, 690.0, 620.0, 700.0, 640.0};
    const double descending[4] = {690.0, 650.0, 630.0, 620.0};
    const double repeated[6] = {650.0, 700.0, 650.0, 630.0, 650.0, 680.0};
    size_t index = 99;
    REQUIRE(met_band_center(ascending, 6, 620.0, 690.0, &index) == MET_OK); /* both ends count: m = 3 */
    CHECK_INT(index, 3);
    REQUIRE(met_band_center(ascending, 6, 600.0, 690.0, &index) == MET_OK); /* m = 4: the third */
    CHECK_INT(index, 3);
    REQUIRE(met_band_center(ascending, 6, 640.0, 660.0, &index) == MET_OK);
    CHECK_INT(index, 3);
    REQUIRE(met_band_center(shuffled, 6, 620.0, 690.0, &index) == MET_OK); /* 620, 640, 650, 690 */
    CHECK_INT(index, 0);
    REQUIRE(met_band_center(descending, 4, 620.0, 690.0, &index) == MET_OK); /* 620, 630, 650, 690 */
    CHECK_INT(index, 1);
    REQUIRE(met_band_center(repeated, 6, 620.0, 690.0, &index) == MET_OK); /* 630, 650 three times, 680: the second */
    CHECK_INT(index, 2);
    index = 99;
    CHECK_INT(met_band_center(ascending, 6, 701.0, 800.0, &index), MET_EVALUE);
    CHECK_INT(met_band_center(NULL, 3, 620.0, 690.0, &index), MET_EVALUE);
    CHECK_INT(index, 99);
}

void test_band_center_of_a_list(void) {
    const double repeated[6] = {650.0, 700.0, 650.0, 630.0, 650.0, 680.0};
    const double list[5] = {680.0, 650.0, 650.0, 630.0, 650.0};
    const double more[4] = {700.0, 700.0, 700.0, 700.0}; /* the image has it once */
    const double other[2] = {650.0, 651.0};
    size_t index = 99;
    REQUIRE(met_band_center_of(repeated, 6, list, 5, &index) == MET_OK); /* the second of the three 650 */
    CHECK_INT(index, 2);
    REQUIRE(met_band_center_of(repeated, 6, list + 1, 1, &index) == MET_OK);
    CHECK_INT(index, 0);
    REQUIRE(met_band_center_of(repeated, 6, more, 4, &index) == MET_OK);
    CHECK_INT(index, 1);
    index = 99;
    CHECK_INT(met_band_center_of(repeated, 6, other, 2, &index), MET_EINDEX);
    CHECK_INT(met_band_center_of(repeated, 6, list, 0, &index), MET_EVALUE);
    CHECK_INT(index, 99);
}

void test_band_substitutes_by_hand(void) {
    const double wavelengths[7] = {1600.0, 1000.0, 1300.0, 1100.0, 1500.0, 1200.0, 1400.0};
    size_t rgb[3] = {99, 99, 99};
    REQUIRE(met_band_substitutes(wavelengths, 7, rgb) == MET_OK); /* sorted at 5, 3 and 1: 1500, 1300, 1100 */
    CHECK(rgb[0] == 4 && rgb[1] == 2 && rgb[2] == 3);
    REQUIRE(met_band_substitutes(wavelengths, 3, rgb) == MET_OK);
    CHECK(rgb[0] == 0 && rgb[1] == 2 && rgb[2] == 1);
    REQUIRE(met_band_substitutes(wavelengths, 2, rgb) == MET_OK);
    CHECK(rgb[0] == 0 && rgb[1] == 0 && rgb[2] == 1);
    REQUIRE(met_band_substitutes(wavelengths, 1, rgb) == MET_OK);
    CHECK(rgb[0] == 0 && rgb[1] == 0 && rgb[2] == 0);
    CHECK_INT(met_band_substitutes(wavelengths, 0, rgb), MET_EVALUE);
}

void test_wavelengths_are_positive_and_finite(void) {
    const double good[3] = {900.0, 1e-3, 400.0};
    CHECK_INT(met_wavelengths_check(good, 3), 3);
    CHECK_INT(met_wavelengths_check(good, 0), 0);
    const double bad[5] = {NAN, INFINITY, -INFINITY, 0.0, -1.0};
    for (size_t i = 0; i < 5; i++) {
        const double values[3] = {500.0, bad[i], 0.0};
        CHECK_INT(met_wavelengths_check(values, 3), 1);
    }
}

/* The stretched plane of n values, in every floating dtype and as an integer. */
static void check_stretch(const double *x, const double *want, size_t n, bool cutoff) {
    const met_band_options options = {.apply_mask = true, .apply_min_cutoff = cutoff, .normalize = true};
    double wide[8];
    float narrow[8], from_float[8], wanted[8];
    int16_t whole[8];
    for (size_t i = 0; i < n; i++) {
        narrow[i] = (float)x[i];
        wanted[i] = (float)want[i];
        whole[i] = (int16_t)x[i];
    }
    met_image view = view_of(x, MET_FLOAT64, 1, 1, n);
    REQUIRE(met_band_extract(&view, 0, &options, wide) == MET_OK);
    CHECK_CLOSE_N(wide, want, n, 1e-15);
    view = view_of(narrow, MET_FLOAT32, 1, 1, n);
    REQUIRE(met_band_extract(&view, 0, &options, from_float) == MET_OK);
    CHECK_CLOSE_NF(from_float, wanted, n, 1e-7);
    view = view_of(whole, MET_INT16, 1, 1, n);
    REQUIRE(met_band_extract(&view, 0, &options, from_float) == MET_OK);
    CHECK_CLOSE_NF(from_float, wanted, n, 1e-7);
}

void test_band_stretch_by_hand(void) {
    const double plain[4] = {2.0, 4.0, 0.0, 8.0};
    const double stretched[4] = {0.25, 0.5, 0.0, 1.0};
    const double cut[4] = {0.0, 1.0 / 3.0, 0.0, 1.0}; /* min = 2; the zero would fall to -1/3 and becomes 0 */
    check_stretch(plain, stretched, 4, false);
    check_stretch(plain, cut, 4, true);

    const double constant[3] = {2.0, 2.0, 2.0};
    const double zero[3] = {0.0, 0.0, 0.0};
    check_stretch(constant, constant, 3, false);
    check_stretch(constant, zero, 3, true);
    check_stretch(zero, zero, 3, false);
    check_stretch(zero, zero, 3, true);

    const double one_level[3] = {0.0, 2.0, 2.0}; /* nothing to divide by among the non-zero values */
    check_stretch(one_level, one_level, 3, true);
    const double negative[3] = {-3.0, -1.0, 0.0};
    const double lifted[3] = {0.0, 2.0 / 3.0, 1.0};
    check_stretch(negative, lifted, 3, true);
}

void test_band_stretch_is_over_used_values(void) {
    const float data[2][4] = {{9.0F, 9.0F, 9.0F, 9.0F}, {1.0F, 3.0F, 5.0F, -9999.0F}};
    const uint8_t mask[4] = {1, 1, 1, 0};
    const float want[4] = {0.0F, 0.5F, 1.0F, 0.0F};
    const float bare[4] = {10000.0F / 10004.0F, 10002.0F / 10004.0F, 1.0F, 0.0F};
    const float raw[4] = {1.0F, 3.0F, 5.0F, 0.0F};
    const float none[4] = {0};
    float out[4];
    met_image view = view_of(data, MET_FLOAT32, 2, 2, 2);
    view.mask = mask;
    view.mask_strides[1] = 2;
    view.mask_strides[2] = 1;
    met_band_options options = {.apply_mask = true, .normalize = true};
    REQUIRE(met_band_extract(&view, 1, &options, out) == MET_OK);
    CHECK_CLOSE_NF(out, want, 4, 0.0);
    options.apply_mask = false;
    REQUIRE(met_band_extract(&view, 1, &options, out) == MET_OK);
    CHECK_CLOSE_NF(out, bare, 4, 1e-7);
    options = (met_band_options){.apply_mask = true, .apply_min_cutoff = true, .normalize = false};
    REQUIRE(met_band_extract(&view, 1, &options, out) == MET_OK);
    CHECK_CLOSE_NF(out, raw, 4, 0.0);
    for (int cutoff = 0; cutoff < 2; cutoff++) { /* no value is used */
        const uint8_t nothing[4] = {0};
        options = (met_band_options){.apply_mask = true, .apply_min_cutoff = cutoff, .normalize = true};
        view.mask = nothing;
        REQUIRE(met_band_extract(&view, 1, &options, out) == MET_OK);
        CHECK_CLOSE_NF(out, none, 4, 0.0);
    }
    CHECK_INT(met_band_extract(&view, 2, &options, out), MET_EINDEX);
    CHECK_INT(met_band_extract(&view, 1, NULL, out), MET_EVALUE);
}

void test_band_stretch_ignores_what_is_not_finite(void) {
    const double data[5] = {1.0, NAN, 3.0, INFINITY, -INFINITY};
    const double want[5] = {0.0, 0.0, 1.0, 0.0, 0.0};
    const double level[3] = {2.0, NAN, 2.0};
    const double level_want[3] = {2.0, 0.0, 2.0};
    double out[5];
    met_image view = view_of(data, MET_FLOAT64, 1, 1, 5);
    met_band_options options = {.normalize = true};
    REQUIRE(met_band_extract(&view, 0, &options, out) == MET_OK);
    CHECK_CLOSE_N(out, want, 5, 0.0);
    view = view_of(level, MET_FLOAT64, 1, 1, 3);
    REQUIRE(met_band_extract(&view, 0, &options, out) == MET_OK);
    CHECK_CLOSE_N(out, level_want, 3, 0.0);
    options.normalize = false; /* the values as they are */
    view = view_of(data, MET_FLOAT64, 1, 1, 5);
    REQUIRE(met_band_extract(&view, 0, &options, out) == MET_OK);
    CHECK(out[0] == 1.0 && isnan(out[1]) && isinf(out[3]));
}

void test_band_stretch_of_extreme_values(void) {
    const float data[3] = {-3e38F, 0.0F, 3e38F}; /* max - min is no float */
    const float halves[3] = {0.0F, 0.5F, 1.0F};
    float out[3];
    met_image view = view_of(data, MET_FLOAT32, 1, 1, 3);
    const met_band_options options = {.normalize = true};
    REQUIRE(met_band_extract(&view, 0, &options, out) == MET_OK);
    CHECK_CLOSE_NF(out, halves, 3, 1e-7);

    const uint32_t close[3] = {4000000000U, 4000000001U, 4000000002U}; /* one float32 value, three levels */
    const float want[3] = {0.0F, 0.5F, 1.0F};
    float levels[3];
    view = view_of(close, MET_UINT32, 1, 1, 3);
    REQUIRE(met_band_extract(&view, 0, &options, levels) == MET_OK);
    CHECK_CLOSE_NF(levels, want, 3, 0.0);
}

void test_band_nonzero_by_hand(void) {
    const int16_t data[2][4] = {{0, -1, 5, 0}, {1, 1, 1, 1}};
    uint8_t out[4] = {9, 9, 9, 9};
    met_image view = view_of(data, MET_INT16, 2, 2, 2);
    REQUIRE(met_band_nonzero(&view, 0, out) == MET_OK);
    CHECK(out[0] == 0 && out[1] == 1 && out[2] == 1 && out[3] == 0);
    CHECK_INT(met_band_nonzero(&view, 2, out), MET_EINDEX);
}

static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

static void no_release(void *memory) {
    (void)memory;
}

void test_band_without_memory(void) {
    const int16_t data[2] = {1, 2};
    const met_band_options options = {.normalize = true};
    float out[2] = {7.0F, 7.0F};
    uint8_t used[2] = {7, 7};
    met_image view = view_of(data, MET_INT16, 1, 1, 2);
    met_set_allocator(no_memory, no_release);
    size_t index = 7;
    const double wavelength = 500.0;
    const int extracted = met_band_extract(&view, 0, &options, out);
    const int found = met_band_center(&wavelength, 1, 400.0, 600.0, &index);
    const int compared = met_band_nonzero(&view, 0, used);
    met_set_allocator(NULL, NULL);
    CHECK_INT(extracted, MET_ENOMEM);
    CHECK_INT(compared, MET_ENOMEM);
    CHECK_INT(found, MET_ENOMEM);
    CHECK_INT(index, 7);
    CHECK(out[0] == 7.0F && used[0] == 7);
}
