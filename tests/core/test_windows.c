#include "check.h"
#include "pool.h"
#include "toy_model.h"

#include <string.h>

static uint32_t draw(uint32_t n) {
    static uint64_t drawn;
    uint32_t words[4];
    met_philox((met_stream){21, 0}, drawn++, words);
    return words[0] % n;
}

/* Seven values, windows of three every two: at 0, 2, 4; of four every three: at 0 and 3; cut off where they stick out. */
void test_windows_by_hand(void) {
    static const size_t shape[] = {1, 7, 8}, window[] = {1, 3, 4}, stride[] = {1, 2, 3};
    static const size_t starts[3] = {0, 2, 4}, columns[3] = {0, 3, 6};
    met_windows w;
    REQUIRE(met_windows_new(shape, window, stride, &w) == MET_OK);
    CHECK_INT(w.count[0], 1);
    CHECK_INT(w.count[1], 3);
    CHECK_INT(w.count[2], 3);
    CHECK_INT(met_windows_number(&w), 9);
    for (size_t k = 0; k < 9; k++) {
        met_box box;
        met_windows_box(&w, k, &box);
        CHECK_INT(box.start[1], starts[k / 3]);
        CHECK_INT(box.stop[1], starts[k / 3] + 3);
        CHECK_INT(box.start[2], columns[k % 3]);
        CHECK_INT(box.stop[2], k % 3 == 2 ? 8 : columns[k % 3] + 4);
    }
    /* the windows of the showcase: 5 x 7 x 7 */
    static const size_t scene[] = {150, 224, 224}, fifty[] = {50, 50, 50}, thirty[] = {30, 30, 30};
    REQUIRE(met_windows_new(scene, fifty, thirty, &w) == MET_OK);
    CHECK_INT(met_windows_number(&w), 245);
    /* a stride beyond a window that spans the axis leaves no gap */
    static const size_t all[] = {1, 7, 8}, far[] = {9, 9, 9};
    REQUIRE(met_windows_new(shape, all, far, &w) == MET_OK);
    CHECK_INT(met_windows_number(&w), 1);
}

/* For random windows: every value is covered, and reads the mean of those that cover it. */
void test_windows_mean_by_definition(void) {
    static double value[4096], got[1000], want[1000];
    static float got32[1000];
    for (int trial = 0; trial < 300; trial++) {
        size_t shape[MET_AXES], window[MET_AXES], stride[MET_AXES];
        met_windows w;
        for (int a = 0; a < MET_AXES; a++) {
            shape[a] = 1 + draw(10);
            window[a] = 1 + draw((uint32_t)shape[a]);
            stride[a] = 1 + draw((uint32_t)window[a]);
        }
        REQUIRE(met_windows_new(shape, window, stride, &w) == MET_OK);
        const size_t n = met_windows_number(&w), size = shape[0] * shape[1] * shape[2];
        REQUIRE(n <= 4096);
        size_t covered[1000] = {0};
        memset(want, 0, sizeof want);
        for (size_t k = 0; k < n; k++) {
            met_box box;
            value[k] = toy_value(50, k + (size_t)trial);
            met_windows_box(&w, k, &box);
            for (size_t v = 0; v < size; v++) {
                const size_t at[] = {v / (shape[1] * shape[2]), v / shape[2] % shape[1], v % shape[2]};
                bool inside = true;
                for (int a = 0; a < MET_AXES; a++) {
                    inside = inside && at[a] >= box.start[a] && at[a] < box.stop[a];
                }
                want[v] += inside ? value[k] : 0;
                covered[v] += inside;
            }
        }
        for (size_t v = 0; v < size; v++) {
            CHECK(covered[v] > 0);
            want[v] /= (double)covered[v];
        }
        REQUIRE(met_windows_mean(&w, value, MET_FLOAT64, &backwards, got) == MET_OK);
        CHECK_CLOSE_N(got, want, size, 1e-13);
        REQUIRE(met_windows_mean(&w, value, MET_FLOAT32, NULL, got32) == MET_OK);
        for (size_t v = 0; v < size; v++) {
            CHECK_CLOSE(got32[v], (float)got[v], 0);
        }
    }
}

void test_windows_refuse(void) {
    static const size_t shape[] = {3, 4, 5}, one[] = {1, 1, 1}, zero[] = {1, 0, 1}, big[] = {1, 5, 1},
                        two[] = {1, 1, 2};
    met_windows w = {.shape = {77, 0, 0}};
    CHECK_INT(met_windows_new(shape, zero, one, &w), MET_EVALUE);
    CHECK(strstr(met_detail(), "zero") != NULL);
    CHECK_INT(met_windows_new(shape, one, zero, &w), MET_EVALUE);
    CHECK_INT(met_windows_new(shape, big, one, &w), MET_EVALUE);
    CHECK(strstr(met_detail(), "(1, 5, 1)") != NULL && strstr(met_detail(), "(3, 4, 5)") != NULL);
    CHECK_INT(met_windows_new(shape, one, two, &w), MET_EVALUE);
    CHECK(strstr(met_detail(), "strides (1, 1, 2)") != NULL);
    CHECK_INT(w.shape[0], 77);
}

/* ---- occlusion */

#define IMAGES 2

static double images[IMAGES][TOY_SIZE];
static double baseline[TOY_SIZE];
static met_input inputs[IMAGES];

static void make_inputs(void) {
    for (size_t v = 0; v < TOY_SIZE; v++) {
        for (size_t i = 0; i < IMAGES; i++) {
            images[i][v] = toy_value(30 + i, v);
        }
        baseline[v] = toy_value(40, v);
    }
    for (size_t i = 0; i < IMAGES; i++) {
        inputs[i] = toy_input(images[i], MET_FLOAT64);
        inputs[i].target.index[0] = (int64_t)i;
    }
    inputs[0].baseline = toy_input(baseline, MET_FLOAT64).image;
    inputs[1].baseline_value = 0.5;
}

static met_windows make_windows(void) {
    static const size_t shape[] = TOY_SHAPE, window[] = {2, 3, 2}, stride[] = {1, 2, 2};
    met_windows w;
    met_windows_new(shape, window, stride, &w);
    return w;
}

/* f_t(x) - f_t(x with the box replaced). */
static double difference(const toy *t, size_t image, const met_box *box, size_t target) {
    const met_base base = {.dtype = MET_FLOAT64,
                           .shape = TOY_SHAPE,
                           .image = images[image],
                           .baseline = image == 0 ? baseline : NULL,
                           .baseline_value = 0.5};
    const met_sample s = {.kind = MET_BOX, .box = *box};
    double x[TOY_SIZE], whole[TOY_FEATURES], part[TOY_FEATURES];
    met_sample_render(&base, &s, NULL, x);
    toy_features(t, images[image], whole);
    toy_features(t, x, part);
    return toy_output(whole, target) - toy_output(part, target);
}

void test_occlusion_by_definition(void) {
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t most = 0; most < 9; most += 4) {
            toy t;
            met_report report = {0};
            met_occlusion_result result;
            const met_options options = {.max_batch_size = most, .shortcuts = true};
            const met_occlusion_options method = {.windows = make_windows()};
            const size_t n = met_windows_number(&method.windows);
            toy_init(&t, shortcut != 0);
            REQUIRE(met_occlusion(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, &result, &report) ==
                    MET_OK);
            CHECK_INT(result.outputs, 1);
            for (size_t i = 0; i < IMAGES; i++) {
                for (size_t k = 0; k < n; k++) {
                    met_box box;
                    met_windows_box(&method.windows, k, &box);
                    CHECK_CLOSE(result.differences[i * n + k], difference(&t, i, &box, i), 1e-12);
                }
            }
            met_deallocate(result.differences);
            CHECK_INT(report.evaluations, IMAGES * (n + 1)); /* the image itself once */
            CHECK_INT(report.shortcut_evaluations, shortcut ? IMAGES * (n + 1) : 0);
        }
    }
}

/* Windows that hold the baseline already cost nothing and differ by exactly 0, wherever they lie among the others. */
void test_occlusion_skips_copies(void) {
    for (size_t most = 0; most < 4; most++) {
        toy t;
        met_report report = {0};
        met_occlusion_result result;
        const met_options options = {.max_batch_size = most};
        const met_occlusion_options method = {.windows = make_windows()};
        const size_t n = met_windows_number(&method.windows);
        size_t copies = 0;
        make_inputs();
        for (size_t v = 0; v < TOY_SIZE; v++) { /* the first rows of one image, the last columns of the other */
            images[0][v] = v / 5 % 4 < 3 ? baseline[v] : images[0][v];
            images[1][v] = v % 5 > 1 ? 0.5 : images[1][v];
        }
        toy_init(&t, false);
        REQUIRE(met_occlusion(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, &result, &report) == MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t k = 0; k < n; k++) {
                met_box box;
                met_windows_box(&method.windows, k, &box);
                const bool copy = i == 0 ? box.stop[1] <= 3 : box.start[2] >= 2;
                copies += copy;
                CHECK_CLOSE(result.differences[i * n + k], copy ? 0 : difference(&t, i, &box, i), copy ? 0 : 1e-12);
            }
        }
        met_deallocate(result.differences);
        CHECK(copies > 4);
        CHECK_INT(report.evaluations_saved, copies);
        CHECK_INT(report.evaluations, IMAGES * (n + 1) - copies);
        CHECK_INT(t.samples, report.evaluations);
    }
}

void test_occlusion_of_many_outputs(void) {
    static const met_target wanted[2] = {{1, {-1}}, {1, {0}}}, outside[1] = {{1, {TOY_OUTPUTS}}};
    make_inputs();
    for (int all = 0; all < 2; all++) {
        toy t;
        met_report report = {0};
        met_occlusion_result result;
        const met_options options = {.max_batch_size = 3};
        const met_occlusion_options method = {
            .windows = make_windows(), .all_targets = all != 0, .targets = wanted, .n_targets = all ? 0 : 2};
        const size_t n = met_windows_number(&method.windows), outputs = all ? TOY_OUTPUTS : 2;
        toy_init(&t, false);
        REQUIRE(met_occlusion(inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, &result, &report) == MET_OK);
        CHECK_INT(result.outputs, outputs);
        CHECK_INT(report.evaluations, IMAGES * (n + 1));
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t o = 0; o < outputs; o++) {
                met_box box;
                met_windows_box(&method.windows, 5, &box);
                const size_t target = all ? o : o == 0 ? TOY_OUTPUTS - 1 : 0;
                CHECK_CLOSE(result.differences[(i * outputs + o) * n + 5], difference(&t, i, &box, target), 1e-12);
            }
        }
        met_deallocate(result.differences);
        const met_occlusion_options wrong = {.windows = make_windows(), .targets = outside, .n_targets = 1};
        CHECK_INT(met_occlusion(inputs, 1, MET_FLOAT64, &wrong, &t.model, &options, &result, &report), MET_EINDEX);
    }
}
