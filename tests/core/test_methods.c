#include "check.h"
#include "input_x_gradient.h"
#include "integrated_gradients.h"
#include "pool.h"
#include "saliency.h"
#include "toy_model.h"

#include <math.h>
#include <string.h>

#define IMAGES 2

static double images[IMAGES][TOY_SIZE];
static double baseline[TOY_SIZE];
static met_input inputs[IMAGES];

static void make_inputs(void) {
    for (size_t v = 0; v < TOY_SIZE; v++) {
        for (size_t i = 0; i < IMAGES; i++) {
            images[i][v] = toy_value(i, v);
        }
        baseline[v] = toy_value(20, v);
    }
    for (size_t i = 0; i < IMAGES; i++) {
        inputs[i] = toy_input(images[i], MET_FLOAT64);
        inputs[i].target.index[0] = -1; /* the last output */
    }
    inputs[0].baseline = toy_input(baseline, MET_FLOAT64).image;
    inputs[1].baseline_value = 0.25;
}

/* d f / d x of the last output. */
static void expected_gradient(const toy *t, const double *x, double *out) {
    toy_gradient(t, x, TOY_OUTPUTS - 1, out);
}

void test_saliency_and_input_x_gradient(void) {
    toy t;
    met_report report = {0};
    double out[IMAGES][TOY_SIZE], want[TOY_SIZE];
    void *outs[IMAGES] = {out[0], out[1]};
    const met_options options = {.pool = &backwards, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
    make_inputs();
    toy_init(&t, true);
    for (int absolute = 0; absolute < 2; absolute++) {
        const met_saliency_options method = {absolute != 0};
        REQUIRE(toy_run(&met_saliency, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs, &report) ==
                MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            expected_gradient(&t, images[i], want);
            for (size_t v = 0; v < TOY_SIZE; v++) {
                want[v] = absolute ? fabs(want[v]) : want[v];
            }
            CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-14);
        }
    }
    REQUIRE(toy_run(&met_input_x_gradient, inputs, IMAGES, MET_FLOAT64, NULL, &t.model, &options, outs, &report) ==
            MET_OK);
    for (size_t i = 0; i < IMAGES; i++) {
        expected_gradient(&t, images[i], want);
        for (size_t v = 0; v < TOY_SIZE; v++) {
            want[v] *= images[i][v];
        }
        CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-14);
    }
    CHECK_INT(report.evaluations, 3 * IMAGES);
    CHECK_INT(report.decline_reason, MET_DECLINE_NOTHING_SHARED); /* one gradient: there is nothing to cut short */
}

/* On a quadratic the gradient is linear in alpha: two Gauss nodes, or the middle, give the integral exactly. */
void test_integrated_gradients_of_a_quadratic(void) {
    static const struct {
        met_quadrature quadrature;
        size_t steps;
    } exact[] = {{MET_GAUSS_LEGENDRE, 1}, {MET_GAUSS_LEGENDRE, 12}, {MET_RIEMANN_MIDDLE, 14}};
    make_inputs();
    for (int shortcut = 0; shortcut < 2; shortcut++) {
        for (size_t e = 0; e < 3; e++) {
            toy t;
            met_report report = {.seconds_alone = 1}; /* a shortcut pays */
            double out[IMAGES][TOY_SIZE], delta[IMAGES] = {9, 9}, at_x[TOY_SIZE], at_b[TOY_SIZE], want[TOY_SIZE];
            void *outs[IMAGES] = {out[0], out[1]};
            const met_options options = {
                .max_batch_size = 3, .pool = &backwards, .shortcuts = MET_SHORTCUTS_WHERE_FASTER};
            const met_integrated_gradients_options method = {exact[e].steps, (int)exact[e].quadrature, true, delta};
            toy_init(&t, shortcut != 0);
            delta[0] = delta[1] = 0;
            REQUIRE(toy_run(&met_integrated_gradients, inputs, IMAGES, MET_FLOAT64, &method, &t.model, &options, outs,
                            &report) == MET_OK);
            for (size_t i = 0; i < IMAGES; i++) {
                double b[TOY_SIZE];
                for (size_t v = 0; v < TOY_SIZE; v++) {
                    b[v] = i == 0 ? baseline[v] : 0.25;
                }
                expected_gradient(&t, images[i], at_x);
                expected_gradient(&t, b, at_b);
                for (size_t v = 0; v < TOY_SIZE; v++) {
                    want[v] = (images[i][v] - b[v]) * (at_x[v] + at_b[v]) / 2;
                }
                CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-13);
                CHECK_CLOSE(delta[i], 0, 1e-11);
            }
            CHECK_INT(report.evaluations, IMAGES * (exact[e].steps + 2));
            CHECK_INT(report.shortcut_evaluations, shortcut && exact[e].steps > 1 ? IMAGES * exact[e].steps : 0);
        }
    }
}

/* delta is what the rule misses: the left rule is one-sided, and float32 leaves rounding only. */
void test_integrated_gradients_delta(void) {
    toy t;
    met_report report = {0};
    float image[TOY_SIZE], out[TOY_SIZE];
    double x[TOY_SIZE], zx[TOY_FEATURES], sum = 0, delta = 0;
    void *outs[1] = {out};
    const met_options options = {.shortcuts = false};
    const met_integrated_gradients_options method = {4, MET_RIEMANN_LEFT, true, &delta};
    for (size_t v = 0; v < TOY_SIZE; v++) {
        image[v] = (float)toy_value(3, v);
        x[v] = image[v];
    }
    met_input input = toy_input(image, MET_FLOAT32);
    toy_init(&t, false);
    REQUIRE(toy_run(&met_integrated_gradients, &input, 1, MET_FLOAT32, &method, &t.model, &options, outs, &report) ==
            MET_OK);
    for (size_t v = 0; v < TOY_SIZE; v++) {
        sum += (double)out[v];
    }
    toy_features(&t, x, zx);
    CHECK_CLOSE(delta, sum - toy_output(zx, 0), 1e-5);
    CHECK_CLOSE(sum, 0.75 * toy_output(zx, 0), 1e-4); /* 2 * mean(0, 1/4, 2/4, 3/4) of the whole */
}

void test_integrated_gradients_refuses(void) {
    toy t;
    met_report report = {0};
    double out[TOY_SIZE];
    void *outs[1] = {out};
    const met_options options = {0};
    met_integrated_gradients_options method = {(size_t)1000000000, MET_GAUSS_LEGENDRE, true, NULL};
    make_inputs();
    toy_init(&t, false);
    CHECK_INT(toy_run(&met_integrated_gradients, inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    method.rule = MET_RIEMANN_TRAPEZOID;
    method.steps = 1;
    CHECK_INT(toy_run(&met_integrated_gradients, inputs, 1, MET_FLOAT64, &method, &t.model, &options, outs, &report),
              MET_EVALUE);
    CHECK_INT(t.calls, 0);
}

/* ---- the records */

/* Bytes that an argument is read into. */
static size_t bytes_of(met_argument_kind kind) {
    switch (kind) {
    case MET_FLAG: return sizeof(bool);
    case MET_COUNT: return sizeof(size_t);
    case MET_NUMBER: return sizeof(double);
    case MET_SEED: return sizeof(uint64_t);
    case MET_CHOICE: return sizeof(int);
    case MET_SIZES: return sizeof(size_t[MET_AXES]);
    case MET_AXIS_FLAGS: return sizeof(const uint8_t *[MET_AXES]);
    case MET_TARGETS: return sizeof(met_targets);
    case MET_METHOD: return sizeof(met_nested);
    case MET_FEATURES:
    case MET_FLAG_TABLES:
    case MET_NUMBER_TABLES:
    case MET_NUMBERS:
    case MET_RESULT_NUMBERS:
    case MET_RESULT_COUNTS:
    case MET_RESULT_ARRAYS: return sizeof(void *);
    }
    return SIZE_MAX;
}

static void check_arguments(const met_method *method) {
    for (const met_argument *a = method->arguments; a->name != NULL; a++) {
        const size_t bytes = bytes_of(a->kind);
        CHECK(a->name[0] != '\0');
        CHECK(bytes <= method->options && a->offset <= method->options - bytes);
        CHECK((a->kind == MET_CHOICE) == (a->choices != NULL));
        CHECK(a->choices == NULL || a->choices[0] != NULL);
        for (const met_argument *b = method->arguments; b != a; b++) {
            CHECK(strcmp(a->name, b->name) != 0);
            CHECK(a->offset >= b->offset + bytes_of(b->kind) || b->offset >= a->offset + bytes); /* no field twice */
        }
    }
}

/* Hosts find methods by their names and fill options by their arguments: none is ambiguous or outside. */
void test_records_of_methods(void) {
    size_t methods = 0;
    for (; met_methods[methods] != NULL; methods++) {
        const met_method *method = met_methods[methods];
        REQUIRE(method->name != NULL && method->doc != NULL && method->arguments != NULL && method->run != NULL);
        CHECK(method->name[0] != '\0' && method->doc[0] != '\0');
        for (size_t other = 0; other < methods; other++) {
            CHECK(strcmp(method->name, met_methods[other]->name) != 0);
        }
        check_arguments(method);
        const met_nesting *nesting = method->nesting;
        if (nesting != NULL && !nesting->of_gradient) {
            CHECK(nesting->run != NULL && nesting->evaluations != NULL);
        }
    }
    CHECK(methods >= 5);
}

/* A method that nests says how many evaluations it makes of an image, and makes as many. */
void test_records_count_their_evaluations(void) {
    const met_options options = {.max_batch_size = 1};
    make_inputs();
    for (size_t k = 0; met_methods[k] != NULL; k++) {
        const met_nesting *nesting = met_methods[k]->nesting;
        if (nesting == NULL || nesting->of_gradient) {
            continue;
        }
        /* counts are 3, windows 2 x 2 x 2, segments 3: what each of the methods accepts */
        int32_t ids[TOY_SIZE];
        for (size_t v = 0; v < TOY_SIZE; v++) {
            ids[v] = (int32_t)(v % 4) - 1;
        }
        const met_segments segments[IMAGES] = {{ids, {20, 5, 1}, 3}, {ids, {20, 5, 1}, 3}}, *features = segments;
        union {
            double aligned;
            uint8_t bytes[512];
        } given = {0};
        REQUIRE(met_methods[k]->options <= sizeof given.bytes);
        for (const met_argument *a = met_methods[k]->arguments; a->name != NULL; a++) {
            const size_t count = 3, sizes[MET_AXES] = {2, 2, 2};
            if (a->kind == MET_COUNT) {
                memcpy(given.bytes + a->offset, &count, sizeof count);
            } else if (a->kind == MET_SIZES) {
                memcpy(given.bytes + a->offset, sizes, sizeof sizes);
            } else if (a->kind == MET_FEATURES) {
                memcpy(given.bytes + a->offset, &features, sizeof features);
            }
        }
        toy t;
        met_report report = {0};
        double out[IMAGES][TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1]};
        toy_init(&t, false);
        const met_call call = {inputs, IMAGES, MET_FLOAT64, &t.model, &options, &report};
        met_results results = {.out = outs, .outputs = 1};
        REQUIRE(nesting->run(&call, given.bytes, &results) == MET_OK);
        CHECK_INT(IMAGES * nesting->evaluations(&call, given.bytes), report.evaluations + report.evaluations_saved);
    }
}

/* The options of a method that has no header, by the names of its arguments. */
static void *field(const met_method *method, void *options, const char *name) {
    for (const met_argument *a = method->arguments; a->name != NULL; a++) {
        if (strcmp(a->name, name) == 0) {
            return (uint8_t *)options + a->offset;
        }
    }
    return NULL;
}

/* Every value of a feature has f(x) - f(x with the feature replaced), and those of none 0; whole bands or not. */
void test_feature_ablation_by_definition(void) {
    const met_method *ablation = NULL;
    make_inputs();
    for (size_t k = 0; met_methods[k] != NULL; k++) {
        ablation = strcmp(met_methods[k]->name, "feature_ablation") == 0 ? met_methods[k] : ablation;
    }
    REQUIRE(ablation != NULL);
    for (int by_band = 0; by_band < 2; by_band++) {
        int32_t ids[TOY_SIZE];
        for (size_t v = 0; v < TOY_SIZE; v++) {
            ids[v] = (int32_t)(by_band ? v / 20 : v * 7 % 4) - 1;
        }
        union {
            double aligned;
            uint8_t bytes[256];
        } given = {0};
        REQUIRE(ablation->options <= sizeof given.bytes);
        const met_segments of = {ids, {20, 5, 1}, by_band ? 2 : 3}, features[IMAGES] = {of, of}, *all = features;
        REQUIRE(field(ablation, given.bytes, "features") != NULL);
        memcpy(field(ablation, given.bytes, "features"), &all, sizeof all);
        toy t;
        met_report report = {0};
        double out[IMAGES][TOY_SIZE];
        void *outs[IMAGES] = {out[0], out[1]};
        const met_options options = {.max_batch_size = 3};
        toy_init(&t, false);
        REQUIRE(toy_run(ablation, inputs, IMAGES, MET_FLOAT64, given.bytes, &t.model, &options, outs, &report) ==
                MET_OK);
        for (size_t i = 0; i < IMAGES; i++) {
            double whole[TOY_FEATURES], want[TOY_SIZE] = {0};
            toy_features(&t, images[i], whole);
            for (int32_t f = 0; f < (int32_t)of.count; f++) {
                double x[TOY_SIZE], z[TOY_FEATURES];
                for (size_t v = 0; v < TOY_SIZE; v++) {
                    x[v] = images[i][v];
                    if (ids[v] == f) {
                        x[v] = i == 0 ? baseline[v] : 0.25;
                    }
                }
                toy_features(&t, x, z);
                const size_t target = TOY_OUTPUTS - 1;
                for (size_t v = 0; v < TOY_SIZE; v++) {
                    want[v] = ids[v] == f ? toy_output(whole, target) - toy_output(z, target) : want[v];
                }
            }
            CHECK_CLOSE_N(out[i], want, TOY_SIZE, 1e-12);
        }
        CHECK_INT(report.evaluations, IMAGES * (of.count + 1));
    }
}

/* Names of choices stand in the order of the enumeration. */
void test_records_name_their_choices(void) {
    size_t rules = 0;
    while (met_quadrature_names[rules] != NULL) {
        rules++;
    }
    CHECK_INT(rules, MET_RIEMANN_TRAPEZOID + 1);
    CHECK_STR(met_quadrature_names[MET_GAUSS_LEGENDRE], "gausslegendre");
    CHECK_STR(met_quadrature_names[MET_RIEMANN_TRAPEZOID], "riemann_trapezoid");
}
