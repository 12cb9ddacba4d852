#include "check.h"
#include "pool.h"
#include "script.h"
#include "toy_game.h"

#include <math.h>
#include <string.h>

/* ---- asking */

static double no_value(const void *ctx, const double *z, size_t players, size_t output) {
    (void)ctx;
    (void)players;
    return z[0] + (double)output;
}

/* A game over one image of a toy_game. */
typedef struct asking {
    toy_game g;
    met_options run;
    met_report report;
    met_call call;
    met_game_options options;
    met_game game;
} asking;

static int open_asking(asking *a, size_t players) {
    toy_game_init(&a->g, players, 1, no_value, NULL);
    a->run = (met_options){0};
    a->report = (met_report){0};
    a->options = (met_game_options){.features = &a->g.segments};
    a->call = (met_call){&a->g.input, 1, MET_FLOAT64, &a->g.model, &a->run, &a->report};
    return met_game_open(&a->game, &a->call, &a->options, 0);
}

/* Forgotten coalitions are evaluated again, those that are kept are not. */
void test_game_forgets(void) {
    static asking a;
    size_t position[8];
    REQUIRE(open_asking(&a, 3) == MET_OK);
    for (uint64_t s = 0; s < 8; s++) {
        REQUIRE(met_game_ask(&a.game, 0, &s, &position[s]) == MET_OK);
    }
    REQUIRE(met_game_evaluate(&a.game) == MET_OK);
    const size_t before = a.g.samples;
    REQUIRE(met_game_evaluate(&a.game) == MET_OK); /* nothing is new */
    CHECK_INT(a.g.samples, before);
    met_game_forget(&a.game, 0, 100);
    CHECK_INT(a.game.of[0].count, 8);
    met_game_forget(&a.game, 0, 5);
    for (uint64_t s = 8; s-- > 0;) { /* in another order */
        REQUIRE(met_game_ask(&a.game, 0, &s, &position[s]) == MET_OK);
        CHECK(s >= 5 ? position[s] >= 5 : position[s] == s);
    }
    const size_t evaluations = a.report.evaluations;
    REQUIRE(met_game_evaluate(&a.game) == MET_OK);
    CHECK_INT(a.report.evaluations - evaluations, 3);
    for (uint64_t s = 0; s < 8; s++) {
        CHECK_CLOSE(met_game_value(&a.game, 0, position[s], 0), s & 1, 0);
    }
    met_game_forget(&a.game, 0, 0);
    CHECK_INT(a.game.of[0].count, 0);
    met_game_close(&a.game);
}

/* ---- evaluating: games over the images of the toy model, with features and counts of their own */

typedef struct play {
    toy t;
    met_options run;
    met_report report;
    met_call call;
    met_game_options options;
    met_game game;
    int32_t ids[IMAGES][TOY_SIZE];
    met_segments segments[IMAGES];
    met_table backgrounds[IMAGES];
    double spectra[2][3];
    size_t asked[IMAGES];
    uint64_t bits[IMAGES][32];
    size_t position[IMAGES][32];
    size_t done, total;
    bool forward;
} play;

static int note_progress(void *ctx, size_t done, size_t total) {
    play *p = ctx;
    p->forward = p->forward && done > p->done && done <= total;
    p->done = done;
    p->total = total;
    return MET_OK;
}

/* Images of 2, 3 and 4 features, some values in none; by_band: of whole bands. */
static void make_play(play *p, bool by_band, bool shortcut) {
    script_make_inputs();
    memset(p, 0, sizeof *p);
    toy_init(&p->t, shortcut);
    for (size_t i = 0; i < IMAGES; i++) {
        for (size_t v = 0; v < TOY_SIZE; v++) {
            const size_t features = by_band ? 2 : 2 + i;
            p->ids[i][v] = (int32_t)(by_band ? (v / 20 + i) % 3 : v * 7 % (features + 1)) - 1;
        }
        p->segments[i] = (met_segments){p->ids[i], {20, 5, 1}, by_band ? 2 : 2 + i};
    }
    p->forward = true;
    p->report.seconds_alone = 1;
    p->run = (met_options){.shortcuts = MET_SHORTCUTS_ALWAYS,
                           .pool = &backwards,
                           .progress = note_progress,
                           .progress_ctx = p,
                           .evaluations_before = 3};
    p->options = (met_game_options){.features = p->segments};
    p->call = (met_call){script_inputs, IMAGES, MET_FLOAT64, &p->t.model, &p->run, &p->report};
}

/* Image i with the features outside of a coalition replaced, by its baseline or by a background (2: the baseline). */
static void render(const play *p, size_t i, uint64_t bits, size_t background, double x[TOY_SIZE]) {
    for (size_t v = 0; v < TOY_SIZE; v++) {
        const int32_t id = p->ids[i][v];
        const bool kept = id < 0 || met_coalition_has(&bits, (size_t)id);
        x[v] = kept ? script_images[i][v] : background < 2 ? p->spectra[background][v / 20] : script_baselines[i][v];
    }
}

static double expected(const play *p, size_t i, uint64_t bits, size_t output) {
    double sum = 0;
    const bool averaged = p->options.backgrounds != NULL && p->options.backgrounds[i].data != NULL;
    for (size_t b = averaged ? 0 : 2; b < (averaged ? 2 : 3); b++) {
        double x[TOY_SIZE], z[TOY_FEATURES];
        render(p, i, bits, b, x);
        toy_features(&p->t, x, z);
        sum += toy_output(z, output);
    }
    return averaged ? sum / 2 : sum;
}

/* Ask for `count` coalitions of each image, more for later ones; image 0 for none at first. */
static int ask_some(play *p, size_t round) {
    int status = MET_OK;
    for (size_t i = 0; i < IMAGES && status == MET_OK; i++) {
        const size_t most = (size_t)1 << p->segments[i].count, wanted = round == 0 ? 2 * i : most;
        for (; p->asked[i] < wanted && p->asked[i] < most && status == MET_OK; p->asked[i]++) {
            const uint64_t s = most - 1 - p->asked[i];
            p->bits[i][p->asked[i]] = s;
            status = met_game_ask(&p->game, i, &s, &p->position[i][p->asked[i]]);
        }
    }
    return status;
}

/* The output of the model that explained output t of image i is. */
static size_t output_of(const play *p, size_t i, size_t t) {
    return p->options.outputs.count > 0 ? (size_t)(p->options.outputs.target[t].index[0] + TOY_OUTPUTS) % TOY_OUTPUTS
           : p->options.outputs.all     ? t
                                        : i;
}

static void check_values(const play *p) {
    for (size_t i = 0; i < IMAGES; i++) {
        for (size_t k = 0; k < p->asked[i]; k++) {
            for (size_t t = 0; t < p->game.outputs; t++) {
                CHECK_CLOSE(met_game_value(&p->game, i, p->position[i][k], t),
                            expected(p, i, p->bits[i][k], output_of(p, i, t)), 1e-11);
            }
        }
    }
}

/* Two rounds of whatever is asked for: right values, no coalition twice, progress up to the total each time. */
static void check_play(play *p, size_t backgrounds) {
    REQUIRE(met_game_open(&p->game, &p->call, &p->options, MET_GAME_SUMS) == MET_OK);
    REQUIRE(met_game_evaluate(&p->game) == MET_OK); /* nothing was asked for */
    CHECK_INT(p->t.calls, 0);
    size_t evaluations = 0;
    for (size_t round = 0; round < 2; round++) {
        REQUIRE(ask_some(p, round) == MET_OK);
        REQUIRE(met_game_evaluate(&p->game) == MET_OK);
        check_values(p);
        CHECK(p->forward);
        CHECK_INT(p->done, p->total);
    }
    for (size_t i = 0; i < IMAGES; i++) {
        evaluations +=
            p->asked[i] * (p->options.backgrounds != NULL && p->backgrounds[i].data != NULL ? backgrounds : 1);
    }
    CHECK_INT(p->report.evaluations, evaluations);
    CHECK_INT(p->report.memory.bytes, 0);
    CHECK_INT(p->t.prepared, 0);
    met_game_close(&p->game);
}

void test_game_values_by_definition(void) {
    static const met_target some[] = {{.axes = 1, .index = {-1}}, {.axes = 1, .index = {0}}};
    static const size_t chunks[] = {1, 2, 7, 0};
    for (int by_band = 0; by_band < 2; by_band++) {
        for (int shortcut = 0; shortcut < 2; shortcut++) {
            for (size_t c = 0; c < 4; c++) {
                for (int outputs = 0; outputs < 3; outputs++) {
                    static play p;
                    make_play(&p, by_band != 0, shortcut != 0);
                    p.run.max_batch_size = chunks[c];
                    p.options.outputs.all = outputs == 1;
                    p.options.outputs.target = outputs == 2 ? some : NULL;
                    p.options.outputs.count = outputs == 2 ? 2 : 0;
                    check_play(&p, 1);
                    CHECK(chunks[c] == 0 || p.t.largest <= chunks[c]);
                    CHECK_INT(p.report.shortcut_evaluations > 0, shortcut);
                }
            }
        }
    }
}

/* The shortcut gets bands where every feature is made of whole bands, and superpixels elsewhere. */
static met_kind kind_seen;
static int (*prepare_of_toy)(void *, met_batch *, met_batch *, const met_trial *, size_t, met_prepared **);

static int note_kind(void *ctx, met_batch *x, met_batch *b, const met_trial *trial, size_t max_batch,
                     met_prepared **out) {
    kind_seen = trial->samples[0].kind;
    return prepare_of_toy(ctx, x, b, trial, max_batch, out);
}

void test_game_of_bands_goes_as_bands(void) {
    for (int by_band = 0; by_band < 3; by_band++) { /* 2: all images but the last */
        static play p;
        make_play(&p, by_band > 0, true);
        if (by_band == 2) {
            p.ids[2][7] = 1 - p.ids[2][7] < 2 ? 1 - p.ids[2][7] : 0;
        }
        met_shortcut shortcut = *p.t.model.shortcut;
        prepare_of_toy = shortcut.prepare;
        shortcut.prepare = note_kind;
        p.t.model.shortcut = &shortcut;
        REQUIRE(met_game_open(&p.game, &p.call, &p.options, 0) == MET_OK);
        for (uint64_t s = 0; s < 3; s++) { /* not the image itself, which is of no kind */
            for (size_t i = 0; i < IMAGES; i++) {
                REQUIRE(met_game_ask(&p.game, i, &s, &p.position[i][s]) == MET_OK);
            }
        }
        REQUIRE(met_game_evaluate(&p.game) == MET_OK);
        CHECK_INT(kind_seen, by_band == 1 ? MET_BANDS : MET_SEGMENTS);
        CHECK_CLOSE(met_game_value(&p.game, 2, p.position[2][1], 0), expected(&p, 2, 1, 2), 1e-11);
        met_game_close(&p.game);
    }
}

/* A shortcut that declines at whatever call leaves no trace in the values. */
void test_game_restarts_after_a_shortcut_that_declines(void) {
    for (size_t at = 1; at < 12; at++) {
        static play p;
        make_play(&p, at % 2 == 0, true);
        p.t.decline_at = at;
        p.t.decline_on = true;
        p.run.max_batch_size = 3;
        REQUIRE(met_game_open(&p.game, &p.call, &p.options, 0) == MET_OK);
        for (size_t round = 0; round < 2; round++) {
            REQUIRE(ask_some(&p, round) == MET_OK);
            REQUIRE(met_game_evaluate(&p.game) == MET_OK);
        }
        check_values(&p);
        CHECK_INT(p.t.prepared, 0);
        met_game_close(&p.game);
    }
}

void test_game_of_a_model_that_takes_one_sample(void) {
    static play p;
    make_play(&p, false, false);
    p.t.lone = true;
    p.options.outputs.all = true;
    check_play(&p, 1);
    CHECK_INT(p.report.batching, MET_BATCHING_SINGLE);
}

/* The value is the mean over backgrounds of the outputs; images without any keep their baseline. */
void test_game_averages_backgrounds(void) {
    for (int by_band = 0; by_band < 2; by_band++) {
        for (size_t chunk = 0; chunk < 5; chunk++) {
            static play p;
            make_play(&p, by_band != 0, chunk % 2 == 0);
            for (size_t k = 0; k < 6; k++) {
                p.spectra[k / 3][k % 3] = toy_value(60, k);
            }
            p.backgrounds[0] = p.backgrounds[2] = (met_table){p.spectra, 2, 3};
            p.options.backgrounds = p.backgrounds;
            p.options.outputs.all = chunk == 1;
            p.run.max_batch_size = chunk;
            check_play(&p, 2);
        }
    }
}

/* Features that hold the baseline's values, or every background's, are in every coalition. */
void test_game_merges_features_of_the_baseline(void) {
    for (int background = 0; background < 2; background++) {
        static play p;
        make_play(&p, false, false);
        for (size_t k = 0; k < 6; k++) {
            p.spectra[k / 3][k % 3] = 0.25;
        }
        for (size_t v = 0; v < TOY_SIZE; v++) {
            if (p.ids[2][v] == 1 || p.ids[2][v] == 3) {
                script_images[2][v] = background ? 0.25 : script_baselines[2][v];
            }
        }
        p.backgrounds[2] = (met_table){p.spectra, 2, 3};
        p.options.backgrounds = background ? p.backgrounds : NULL;
        REQUIRE(met_game_open(&p.game, &p.call, &p.options, 0) == MET_OK);
        CHECK_INT(p.game.measures[2].differs[1 + 0], 1);
        CHECK_INT(p.game.measures[2].differs[1 + 1], 0);
        CHECK_INT(p.game.measures[2].differs[1 + 2], 1);
        CHECK_INT(p.game.measures[2].differs[1 + 3], 0);
        REQUIRE(ask_some(&p, 1) == MET_OK);
        CHECK_INT(p.game.of[2].count, 4);
        REQUIRE(met_game_evaluate(&p.game) == MET_OK);
        check_values(&p);
        met_game_close(&p.game);
    }
}

/* Sums over each feature, by definition. */
void test_game_measures(void) {
    static play p;
    make_play(&p, false, false);
    REQUIRE(met_game_open(&p.game, &p.call, &p.options, MET_GAME_SUMS) == MET_OK);
    for (size_t i = 0; i < IMAGES; i++) {
        double want[4][6] = {{0}};
        for (size_t v = 0; v < TOY_SIZE; v++) {
            const double x = script_images[i][v], b = script_baselines[i][v];
            const size_t place = (size_t)(p.ids[i][v] + 1);
            want[0][place] += x * x;
            want[1][place] += b * b;
            want[2][place] += x * b;
            want[3][place] += (x - b) * (x - b);
        }
        const met_measures *m = &p.game.measures[i];
        CHECK_CLOSE_N(m->image, want[0], p.segments[i].count + 1, 1e-14);
        CHECK_CLOSE_N(m->baseline, want[1], p.segments[i].count + 1, 1e-14);
        CHECK_CLOSE_N(m->cross, want[2], p.segments[i].count + 1, 1e-14);
        CHECK_CLOSE_N(m->difference, want[3], p.segments[i].count + 1, 1e-14);
    }
    met_game_close(&p.game);
}

/* ---- what is known of an earlier run */

void test_game_does_not_evaluate_what_is_known(void) {
    static play p;
    static const uint8_t flags[4][3] = {{0, 0, 0}, {1, 1, 1}, {0, 2, 0}, {1, 1, 1}};
    static const double values[4] = {10, 20, 30, 40}; /* made up, so that they can be told from the model's */
    make_play(&p, false, false);
    met_table known[IMAGES] = {{0}}, known_values[IMAGES] = {{0}};
    known[1] = (met_table){flags, 4, 3};
    known_values[1] = (met_table){values, 4, 1};
    p.options.known = known;
    p.options.known_values = known_values;
    REQUIRE(met_game_open(&p.game, &p.call, &p.options, 0) == MET_OK);
    CHECK_INT(p.game.of[1].count, 3);
    REQUIRE(ask_some(&p, 1) == MET_OK);
    REQUIRE(met_game_evaluate(&p.game) == MET_OK);
    CHECK_INT(p.report.evaluations, 4 + 8 - 3 + 16);
    for (size_t k = 0; k < 8; k++) {
        const uint64_t s = p.bits[1][k];
        const double want = s == 0 ? 10 : s == 7 ? 20 : s == 2 ? 30 : expected(&p, 1, s, 1);
        CHECK_CLOSE(met_game_value(&p.game, 1, p.position[1][k], 0), want, 1e-11);
    }
    met_game_close(&p.game);
}

/* All that a game evaluated, handed to the host and back, leaves nothing to evaluate. */
void test_game_continues(void) {
    static play p;
    toy_host h;
    double *per_feature[IMAGES], zeros[TOY_OUTPUTS * 4] = {0};
    met_table known[IMAGES], known_values[IMAGES];
    make_play(&p, false, false);
    p.options.outputs.all = true;
    toy_host_init(&h, IMAGES, TOY_SIZE);
    REQUIRE(met_game_open(&p.game, &p.call, &p.options, 0) == MET_OK);
    REQUIRE(ask_some(&p, 1) == MET_OK);
    REQUIRE(met_game_evaluate(&p.game) == MET_OK);
    for (size_t i = 0; i < IMAGES; i++) {
        per_feature[i] = zeros;
    }
    for (size_t k = 0; k < sizeof zeros / sizeof *zeros; k++) {
        zeros[k] = 1 + (double)k;
    }
    REQUIRE(met_game_spread(&p.game, per_feature, &h.results) == MET_OK);
    CHECK_INT(h.results.outputs, TOY_OUTPUTS);
    CHECK_INT(h.results.axes, 1);
    CHECK_INT(h.results.shape[0], TOY_OUTPUTS);
    for (size_t v = 0; v < TOY_SIZE; v++) { /* output 1 of image 2, of 4 features */
        const int32_t id = p.ids[2][v];
        CHECK_CLOSE(((double *)h.results.out[2 * TOY_OUTPUTS + 1])[v], id < 0 ? 0 : 1 + 4 + id, 0);
    }
    REQUIRE(met_game_put(&p.game, &h.results) == MET_OK);
    met_game_close(&p.game);
    const size_t evaluations = p.report.evaluations;
    for (size_t i = 0; i < IMAGES; i++) {
        const size_t *shape = toy_host_shape(&h, i, "coalitions");
        REQUIRE(shape != NULL && shape[0] == (size_t)1 << p.segments[i].count && shape[1] == p.segments[i].count);
        CHECK_INT(toy_host_shape(&h, i, "values")[1], TOY_OUTPUTS);
        known[i] = (met_table){toy_host_table(&h, i, "coalitions"), shape[0], shape[1]};
        known_values[i] = (met_table){toy_host_table(&h, i, "values"), shape[0], TOY_OUTPUTS};
        p.asked[i] = 0;
    }
    p.options.known = known;
    p.options.known_values = known_values;
    REQUIRE(met_game_open(&p.game, &p.call, &p.options, 0) == MET_OK);
    REQUIRE(ask_some(&p, 1) == MET_OK);
    REQUIRE(met_game_evaluate(&p.game) == MET_OK);
    CHECK_INT(p.report.evaluations, evaluations);
    check_values(&p);
    met_game_close(&p.game);
    toy_host_free(&h);
}

/* ---- failures */

static int open_and_evaluate(play *p) {
    int status = met_game_open(&p->game, &p->call, &p->options, 0);
    status = status == MET_OK ? ask_some(p, 1) : status;
    status = status == MET_OK ? met_game_evaluate(&p->game) : status;
    met_game_close(&p->game);
    memset(p->asked, 0, sizeof p->asked);
    return status;
}

void test_game_refuses(void) {
    static play p;
    static const uint8_t flags[2][2] = {{0}};
    static const double numbers[12] = {0};
    static const met_target outside = {.axes = 1, .index = {TOY_OUTPUTS}};
    met_table known[IMAGES] = {{flags, 2, 2}}, values[IMAGES] = {{0}};
    make_play(&p, false, false);
    p.options.features = NULL;
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE);
    make_play(&p, false, false);
    p.segments[1].count = 0;
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE);
    CHECK(strstr(met_detail(), "image 1") != NULL);

    make_play(&p, false, false);
    p.options.known = known;
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE); /* no values */
    p.options.known_values = values;
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE); /* none for this image */
    values[0] = (met_table){numbers, 3, 1};
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE); /* too many */
    values[0] = (met_table){numbers, 2, 3};
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE); /* of three outputs, while one is explained */
    p.options.outputs = (met_targets){.target = &outside, .count = 1};
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE);
    p.options.outputs = (met_targets){.all = true};
    CHECK_INT(open_and_evaluate(&p), MET_OK); /* the model has as many */
    values[0] = (met_table){numbers, 2, 4};
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE);
    values[0] = (met_table){numbers, 2, 3};
    known[0] = (met_table){flags, 2, 1};
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE); /* of another number of features */

    make_play(&p, false, false);
    p.options.outputs = (met_targets){.target = &outside, .count = 1};
    CHECK_INT(open_and_evaluate(&p), MET_EINDEX);
    make_play(&p, false, false);
    p.spectra[1][2] = (double)NAN;
    p.backgrounds[1] = (met_table){p.spectra, 2, 3};
    p.options.backgrounds = p.backgrounds;
    CHECK_INT(open_and_evaluate(&p), MET_EVALUE);
    CHECK(strstr(met_detail(), "background 1") != NULL && strstr(met_detail(), "band 2") != NULL);
    p.backgrounds[1].columns = 2;
    CHECK_INT(open_and_evaluate(&p), MET_ESHAPE);
    CHECK_INT(p.t.calls, 0);
}

/* A failure of the model at whatever call is passed on, and the game can be closed. */
void test_game_passes_failures_on(void) {
    for (size_t at = 1; at < 6; at++) {
        static play p;
        make_play(&p, false, at % 2 == 0);
        p.run.max_batch_size = 2;
        p.t.fail_at = at;
        CHECK_INT(open_and_evaluate(&p), MET_ECALLBACK);
        CHECK_INT(p.t.prepared, 0);
        CHECK_INT(p.report.memory.bytes, 0);
    }
}

/* Outputs that change their number half-way are an error, not somebody else's memory. */
void test_game_of_a_model_that_changes_its_outputs(void) {
    static asking a;
    size_t position;
    toy_game_init(&a.g, 3, 1, no_value, NULL);
    REQUIRE(open_asking(&a, 3) == MET_OK);
    a.g.outputs = 3;
    a.g.narrow_at = 3;
    a.options.outputs.all = true;
    a.run.max_batch_size = 1;
    for (uint64_t s = 0; s < 8; s++) {
        REQUIRE(met_game_ask(&a.game, 0, &s, &position) == MET_OK);
    }
    CHECK_INT(met_game_evaluate(&a.game), MET_EMODEL);
    met_game_close(&a.game);
}

void test_game_without_memory(void) {
    static play p;
    static const uint8_t flags[2][4] = {{0}, {1, 0, 1, 0}};
    static const double values[2][TOY_OUTPUTS] = {{1}};
    met_table known[IMAGES] = {{0}}, known_values[IMAGES] = {{0}};
    int status = MET_ENOMEM;
    long ration = 0;
    known[2] = (met_table){flags, 2, 4};
    known_values[2] = (met_table){values, 2, TOY_OUTPUTS};
    toy_ration_memory();
    for (; status != MET_OK && ration < 300; ration++) {
        make_play(&p, false, false);
        p.backgrounds[1] = (met_table){p.spectra, 2, 3};
        p.options.backgrounds = p.backgrounds;
        p.options.known = known;
        p.options.known_values = known_values;
        p.options.outputs.all = true;
        p.run.max_batch_size = 3;
        toy_allocations_left = ration;
        status = open_and_evaluate(&p);
        CHECK(status == MET_OK || status == MET_ENOMEM);
        CHECK_INT(toy_allocations_alive, 0);
        CHECK_INT(p.report.memory.bytes, 0);
    }
    CHECK_INT(status, MET_OK);
    CHECK(ration > 20);
    met_set_allocator(NULL, NULL);
}

void test_feature_ablation_without_memory(void) {
    static play p;
    toy_options options = {0};
    make_play(&p, false, false);
    TOY_SET(met_feature_ablation, options, "features", const met_segments *, p.segments);
    TOY_SET(met_feature_ablation, options, "outputs", met_targets, (met_targets){.all = true});
    toy_host_run_without_memory(&met_feature_ablation, script_inputs, IMAGES, TOY_SIZE, &options, &p.t.model, 300);
}
