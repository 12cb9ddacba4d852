#include "check.h"
#include "occlusion.h"
#include "pool.h"
#include "toy_model.h"

#include <stdlib.h>
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

static const met_occlusion_options sliding = {.window = {2, 3, 2}, .stride = {1, 2, 2}};

static met_windows make_windows(void) {
    static const size_t shape[] = TOY_SHAPE;
    met_windows w;
    met_windows_new(shape, sliding.window, sliding.stride, &w);
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

/* The attributions of one output by definition. */
static void occlude(const toy *t, size_t image, size_t target, double out[TOY_SIZE]) {
    const met_windows w = make_windows();
    double d[64];
    for (size_t k = 0; k < met_windows_number(&w); k++) {
        met_box box;
        met_windows_box(&w, k, &box);
        d[k] = difference(t, image, &box, target);
    }
    met_windows_mean(&w, d, MET_FLOAT64, NULL, out);
}

void test_occlusion_by_definition(void) {
    const met_windows w = make_windows();
    const size_t n = met_windows_number(&w);
    make_inputs();
    for (int way = 0; way < 3; way++) { /* without a shortcut, through it, and through one that declines half-way */
        for (size_t limit = 0; limit < 9; limit += 4) {
            toy t;
            met_report report = {.seconds_alone = 1}; /* a shortcut pays */
            double out[IMAGES][TOY_SIZE], want[TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1]};
            const met_options options = {
                .max_batch_size = limit, .pool = &backwards, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            toy_init(&t, way > 0);
            t.decline_at = way < 2 ? 0 : limit == 0 ? 2 : 4;
            REQUIRE(toy_run(&met_occlusion, inputs, IMAGES, MET_FLOAT64, &sliding, &t.model, &options, outs, &report) ==
                    MET_OK);
            for (size_t i = 0; i < IMAGES; i++) {
                occlude(&t, i, i, want);
                CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-12);
            }
            CHECK_INT(report.evaluations, IMAGES * (n + 1)); /* the image itself once */
            CHECK_INT(report.shortcut_evaluations, way == 1 ? IMAGES * (n + 1) : 0);
            CHECK((report.evaluations_discarded > 0) == (way == 2 && limit > 0));
            CHECK_INT(report.memory.bytes, 0);
        }
    }
}

/* Windows that hold the baseline already cost nothing and differ by exactly 0, wherever they lie among the others. */
void test_occlusion_skips_copies(void) {
    const met_windows w = make_windows();
    const size_t n = met_windows_number(&w);
    for (size_t limit = 0; limit < 4; limit++) {
        toy t;
        met_report report = {0};
        double out[IMAGES][TOY_SIZE], want[TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1]};
        const met_options options = {.max_batch_size = limit};
        size_t copies = 0;
        make_inputs();
        for (size_t v = 0; v < TOY_SIZE; v++) { /* the first rows of one image, the last columns of the other */
            images[0][v] = v / 5 % 4 < 3 ? baseline[v] : images[0][v];
            images[1][v] = v % 5 > 1 ? 0.5 : images[1][v];
        }
        toy_init(&t, false);
        REQUIRE(toy_run(&met_occlusion, inputs, IMAGES, MET_FLOAT64, &sliding, &t.model, &options, outs, &report) ==
                MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t k = 0; k < n; k++) {
                met_box box;
                met_windows_box(&w, k, &box);
                copies += i == 0 ? box.stop[1] <= 3 : box.start[2] >= 2;
            }
            occlude(&t, i, i, want);
            CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-12);
        }
        for (size_t v = 0; v < TOY_SIZE; v++) { /* where no other window reaches */
            CHECK(v / 5 % 4 > 1 || out[0][v] == 0);
            CHECK(v % 5 < 4 || out[1][v] == 0);
        }
        CHECK(copies > 4);
        CHECK_INT(report.evaluations_saved, copies);
        CHECK_INT(report.evaluations, IMAGES * (n + 1) - copies);
        CHECK_INT(t.samples, report.evaluations + report.evaluations_verifying);
    }
}

/* Room for the attributions of several outputs, made when they are reserved. */
typedef struct room {
    met_results results; /* first */
    double *values;      /* (IMAGES, outputs, TOY_SIZE) */
} room;

static int make_room(met_results *results, size_t outputs) {
    room *r = (room *)results;
    r->values = malloc(IMAGES * outputs * TOY_SIZE * sizeof(double));
    results->out = malloc(IMAGES * outputs * sizeof(void *));
    results->outputs = outputs;
    for (size_t i = 0; i < IMAGES * outputs; i++) {
        results->out[i] = r->values + i * TOY_SIZE;
    }
    return MET_OK;
}

void test_occlusion_of_many_outputs(void) {
    static const met_target wanted[2] = {{1, {-1}}, {1, {0}}}, outside[1] = {{1, {TOY_OUTPUTS}}};
    const met_windows w = make_windows();
    const met_options options = {.max_batch_size = 3};
    make_inputs();
    for (int all = 0; all < 2; all++) {
        toy t;
        met_report report = {0};
        met_occlusion_options method = sliding;
        room r = {.results = {.outputs = 1, .reserve = make_room}};
        const size_t outputs = all ? TOY_OUTPUTS : 2;
        method.outputs = (met_targets){.all = all != 0, .target = wanted, .count = all ? 0 : 2};
        toy_init(&t, false);
        const met_call call = {inputs, IMAGES, MET_FLOAT64, &t.model, &options, &report};
        REQUIRE(met_method_run(&met_occlusion, &call, &method, &r.results) == MET_OK);
        CHECK_INT(r.results.outputs, outputs);
        CHECK_INT(r.results.axes, 1);
        CHECK_INT(r.results.shape[0], TOY_OUTPUTS);
        CHECK_INT(report.evaluations, IMAGES * (met_windows_number(&w) + 1));
        for (size_t i = 0; i < IMAGES; i++) {
            for (size_t o = 0; o < outputs; o++) {
                double want[TOY_SIZE];
                occlude(&t, i, all ? o : o == 0 ? TOY_OUTPUTS - 1 : 0, want);
                CHECK_CLOSE_N(r.values + (i * outputs + o) * TOY_SIZE, want, TOY_SIZE, 1e-12);
            }
        }
        free(r.values);
        free(r.results.out);
        double out[IMAGES][TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1]};
        method.outputs = (met_targets){.target = outside, .count = 1};
        CHECK_INT(toy_run(&met_occlusion, inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report),
                  MET_EINDEX);
        method.outputs = (met_targets){.target = wanted, .count = 2}; /* and room for one */
        CHECK_INT(toy_run(&met_occlusion, inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report),
                  MET_EVALUE);
        CHECK_INT(report.memory.bytes, 0);
    }
}
