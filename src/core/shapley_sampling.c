/*
 * shapley_sampling.c - Shapley values of many features: the mean, over random orders, of what the output gains when a
 * feature joins those before it.
 * Sources: Castro, Gomez and Tejada, Computers & Operations Research 36(5), 2009; each order with its reverse: Mitchell,
 * Cooper, Frank and Holmes, JMLR 23, 2022 (arXiv:2104.12199).
 */
#include "game.h"
#include "rng.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* With a tolerance: samples before the first look, and the growth from one look to the next. */
#define FIRST_LOOK ((size_t)8)
#define GROWTH(n) ((n) + ((n) + 1) / 2)
/* Bytes of the coalitions of a round; and of those that are kept from round to round and in the result, a byte a flag. A
 * smaller memory budget wins. */
#define ROUND_BYTES ((size_t)8 << 20)
#define KEPT_BYTES ((size_t)128 << 20)

typedef struct sampling_options {
    met_game_options game;
    size_t permutations; /* of each image, reverses counted; with a tolerance: at most */
    double tolerance;
    uint64_t seed;
    bool antithetic;
} sampling_options;

/* The game of one image: its players are the features that differ from the baseline. */
typedef struct orders {
    size_t count;
    size_t *feature;  /* (count,) */
    size_t *order;    /* (count,) */
    uint64_t *bits;   /* (words,) */
    size_t *position; /* (samples of a round, orders of a sample, count + 1) of the growing coalitions */
    size_t samples;   /* taken so far */
    size_t round;     /* samples of this round */
    bool done;
    double *ends;   /* (outputs, 2) f(baseline), f(x); NULL: not known yet */
    double *gain;   /* (outputs, features) of one sample */
    double *mean;   /* (outputs, features) */
    double *square; /* (outputs, features): sum of squares about the mean; standard errors in the end */
} orders;

typedef struct shapley_sampling {
    const met_call *call;
    const sampling_options *options;
    met_game game;
    orders *of;
    size_t each; /* orders of a sample */
} shapley_sampling;

static int open_image(shapley_sampling *m, size_t image) {
    const met_coalitions *c = &m->game.of[image];
    orders *p = &m->of[image];
    p->feature = met_allocate(c->features, sizeof *p->feature);
    p->order = met_allocate(c->features, sizeof *p->order);
    p->bits = met_allocate(c->words, sizeof *p->bits);
    if (!p->feature || !p->order || !p->bits) {
        return met_fail(MET_ENOMEM, "%zu features do not fit into memory", c->features);
    }
    p->count = met_game_players(&m->game, image, p->feature);
    return MET_OK;
}

static void close_image(orders *p) {
    met_deallocate(p->feature);
    met_deallocate(p->order);
    met_deallocate(p->bits);
    met_deallocate(p->position);
    met_deallocate(p->ends);
    met_deallocate(p->gain);
    met_deallocate(p->mean);
    met_deallocate(p->square);
}

/* The order of a sample, or its reverse. */
static void draw(const shapley_sampling *m, size_t image, size_t sample, bool reverse) {
    orders *p = &m->of[image];
    met_permute((met_stream){m->options->seed, m->call->inputs[image].stream << 40 | sample}, p->count,
                p->order);
    for (size_t i = 0; reverse && i < p->count / 2; i++) {
        const size_t other = p->order[p->count - 1 - i];
        p->order[p->count - 1 - i] = p->order[i];
        p->order[i] = other;
    }
}

/* Ask for the coalitions of `samples` orders more: from the empty one, feature by feature, to the full one. */
static int ask(shapley_sampling *m, size_t image, size_t samples) {
    orders *p = &m->of[image];
    const size_t steps = p->count + 1;
    int status = MET_OK;
    met_deallocate(p->position);
    p->position =
        samples > SIZE_MAX / m->each / steps ? NULL : met_allocate(samples * m->each * steps, sizeof *p->position);
    if (p->position == NULL) {
        return met_fail(MET_ENOMEM, "%zu orders of %zu features do not fit into memory", samples, p->count);
    }
    for (size_t k = 0; k < samples * m->each && status == MET_OK; k++) {
        draw(m, image, p->samples + k / m->each, k % m->each == 1);
        for (size_t i = 0; i < p->count; i++) {
            met_coalition_set(p->bits, p->feature[i], false);
        }
        for (size_t i = 0; i < steps && status == MET_OK; i++) {
            if (i > 0) {
                met_coalition_set(p->bits, p->feature[p->order[i - 1]], true);
            }
            status = met_game_ask(&m->game, image, p->bits, &p->position[k * steps + i]);
        }
    }
    return status;
}

/* The first round tells how many outputs there are, and their values at both ends. */
static int read_ends(shapley_sampling *m, size_t image) {
    orders *p = &m->of[image];
    const size_t outputs = m->game.outputs, features = m->game.of[image].features;
    p->ends = met_allocate(2 * outputs, sizeof *p->ends);
    p->mean = met_allocate(outputs * features, sizeof *p->mean);
    p->square = met_allocate(outputs * features, sizeof *p->square);
    p->gain = met_allocate(outputs * features, sizeof *p->gain);
    if (!p->ends || !p->mean || !p->square || !p->gain) {
        return met_fail(MET_ENOMEM, "the values of %zu features for %zu outputs do not fit into memory", features,
                        outputs);
    }
    for (size_t t = 0; t < outputs; t++) {
        p->ends[2 * t] = met_game_value(&m->game, image, p->position[0], t);
        p->ends[2 * t + 1] = met_game_value(&m->game, image, p->position[p->count], t);
    }
    return MET_OK;
}

/* Add one sample: the mean of what each feature gains over its orders. */
static void add(shapley_sampling *m, size_t image, size_t k) {
    orders *p = &m->of[image];
    const size_t steps = p->count + 1, features = m->game.of[image].features, outputs = m->game.outputs;
    memset(p->gain, 0, outputs * features * sizeof *p->gain);
    for (size_t r = 0; r < m->each; r++) {
        const size_t *position = p->position + (k * m->each + r) * steps;
        draw(m, image, p->samples, r == 1);
        for (size_t i = 0; i < p->count; i++) {
            double *gain = p->gain + p->feature[p->order[i]];
            for (size_t t = 0; t < outputs; t++) {
                gain[t * features] += (met_game_value(&m->game, image, position[i + 1], t) -
                                       met_game_value(&m->game, image, position[i], t)) /
                                      (double)m->each;
            }
        }
    }
    p->samples++;
    for (size_t at = 0; at < outputs * features; at++) { /* 0 for features that have no part in the game */
        const double delta = p->gain[at] - p->mean[at];
        p->mean[at] += delta / (double)p->samples;
        p->square[at] += delta * (p->gain[at] - p->mean[at]);
    }
}

/* Of the mean; NaN where one sample cannot tell, 0 for features that have no part in the game. */
static double standard_error(const orders *p, double square) {
    return p->samples < 2 ? (double)NAN : sqrt(square / (double)(p->samples - 1) / (double)p->samples);
}

/* The largest standard error as a part of the largest |value|, of the worst output. */
static double precision(const shapley_sampling *m, size_t image) {
    const orders *p = &m->of[image];
    const size_t features = m->game.of[image].features;
    double worst = 0;
    for (size_t t = 0; t < m->game.outputs; t++) {
        double error = 0, largest = 0;
        for (size_t i = 0; i < p->count; i++) {
            error = fmax(error, standard_error(p, p->square[t * features + p->feature[i]]));
            largest = fmax(largest, fabs(p->mean[t * features + p->feature[i]]));
        }
        worst = fmax(worst, error > 0 ? error / largest : 0.0);
    }
    return worst;
}

/* `most` bytes, or what the caller allows. */
static size_t within_budget(const shapley_sampling *m, size_t most) {
    const size_t budget = m->call->options->memory_budget;
    return budget > 0 ? met_min_size(budget, most) : most;
}

/* Bytes of a coalition with its values, their number being known after the first round. */
static double bytes_each(const shapley_sampling *m, size_t image) {
    return ((double)m->game.of[image].words + (double)m->game.outputs + 1) * (double)sizeof(uint64_t);
}

/* Samples of the next round of an image that shall have `until`: as many as fit, one while nobody knows how wide it is. */
static size_t round_of(const shapley_sampling *m, size_t image, size_t until) {
    const orders *p = &m->of[image];
    const double bytes = (double)m->each * ((double)p->count + 1) * bytes_each(m, image);
    const size_t fits = (size_t)((double)within_budget(m, ROUND_BYTES) / bytes);
    const bool unknown = m->game.outputs == 0 && m->options->game.outputs.all;
    return met_min_size(fits > 0 && !unknown ? fits : 1, until - p->samples);
}

/* The first ones, which a later run asks for first as well, the empty one among them. */
static size_t coalitions_kept(const shapley_sampling *m, size_t image) {
    const double each = (double)m->game.of[image].features + bytes_each(m, image);
    const double fit = (double)within_budget(m, KEPT_BYTES) / each;
    return fit >= 1.0 ? (size_t)fit : 1;
}

/* Evaluate and add samples until each open image has `until` of them. */
static int take(shapley_sampling *m, size_t until) {
    const size_t images = m->call->images;
    int status = MET_OK;
    for (bool more = true; more && status == MET_OK;) {
        more = false;
        for (size_t i = 0; i < images && status == MET_OK; i++) {
            if (!m->of[i].done && m->of[i].samples < until) {
                m->of[i].round = round_of(m, i, until);
                status = ask(m, i, m->of[i].round);
            }
        }
        status = status == MET_OK ? met_game_evaluate(&m->game) : status;
        for (size_t i = 0; i < images && status == MET_OK; i++) {
            orders *p = &m->of[i];
            if (p->done || p->samples >= until) {
                continue;
            }
            status = p->ends == NULL ? read_ends(m, i) : MET_OK;
            for (size_t k = 0; k < p->round && status == MET_OK; k++) {
                add(m, i, k);
            }
            met_game_forget(&m->game, i, coalitions_kept(m, i));
            more = more || p->samples < until;
        }
    }
    return status;
}

static int put(const shapley_sampling *m, size_t i, met_results *results) {
    const orders *p = &m->of[i];
    const size_t features = m->game.of[i].features, outputs = m->game.outputs, one = 1;
    const double used = (double)(p->samples * m->each);
    for (size_t t = 0; t < outputs; t++) {
        for (size_t k = 0; k < p->count; k++) {
            double *square = &p->square[t * features + p->feature[k]];
            *square = standard_error(p, *square);
        }
    }
    int status = met_results_put(results, i, "values_of_ends", MET_FLOAT64, 2, (size_t[]){outputs, 2}, p->ends);
    if (status == MET_OK) {
        status = met_results_put(results, i, "coefficients", MET_FLOAT64, 2, (size_t[]){outputs, features}, p->mean);
    }
    if (status == MET_OK) {
        status =
            met_results_put(results, i, "standard_errors", MET_FLOAT64, 2, (size_t[]){outputs, features}, p->square);
    }
    return status == MET_OK ? met_results_put(results, i, "permutations", MET_FLOAT64, 1, &one, &used) : status;
}

/* Whether not all samples are evaluated in one run. */
static bool in_parts(const shapley_sampling *m, size_t most) {
    bool parts = m->options->tolerance > 0;
    for (size_t i = 0; i < m->call->images; i++) {
        parts = parts || round_of(m, i, most) < most;
    }
    return parts;
}

/* Rounds of more and more samples, until every image is as precise as was asked for. */
static int run_rounds(shapley_sampling *m) {
    const sampling_options *o = m->options;
    const size_t most = o->permutations / m->each + (o->permutations % m->each != 0);
    const bool parts = in_parts(m, most);
    int status = MET_OK;
    for (size_t i = 0; i < m->call->images && parts; i++) { /* both ends, and what lies between them in each order */
        const size_t between = m->of[i].count > 1 ? (m->of[i].count - 1) * m->each : 0;
        met_game_expect(&m->game, i, between > 0 && most > (SIZE_MAX - 2) / between ? SIZE_MAX : 2 + most * between);
    }
    for (size_t until = o->tolerance > 0 ? met_min_size(FIRST_LOOK, most) : most, open = 1; open > 0;
         until = met_min_size(GROWTH(until), most)) {
        status = take(m, until);
        open = 0;
        for (size_t i = 0; i < m->call->images && status == MET_OK; i++) {
            m->of[i].done = m->of[i].done || until == most || precision(m, i) <= o->tolerance;
            open += !m->of[i].done;
        }
    }
    return status == MET_OK && parts ? met_game_tell(&m->game, true) : status;
}

/* out[i, t] at each value of feature j = an estimate of the Shapley value of j in the game of f_t and x_i; 0 outside. */
static int run(const met_call *call, const void *options, met_results *results) {
    shapley_sampling m = {.call = call, .options = options};
    const size_t images = call->images;
    double **values = met_allocate(images, sizeof *values);
    m.of = met_allocate(images, sizeof *m.of);
    m.each = m.options->antithetic ? 2 : 1;
    int status = met_game_open(&m.game, call, &m.options->game, MET_GAME_MASKED);
    if (status == MET_OK && m.options->permutations == 0) {
        status = met_fail(MET_EVALUE, "n_permutations must be at least 1");
    }
    if (status == MET_OK && (values == NULL || m.of == NULL)) {
        status = met_fail(MET_ENOMEM, "%zu images do not fit into memory", images);
    }
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        status = open_image(&m, i);
    }
    status = status == MET_OK ? run_rounds(&m) : status;
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        values[i] = m.of[i].mean;
        status = put(&m, i, results);
    }
    status = status == MET_OK ? met_game_spread(&m.game, values, results) : status;
    status = status == MET_OK ? met_game_put(&m.game, results) : status;
    for (size_t i = 0; i < images && m.of != NULL; i++) {
        close_image(&m.of[i]);
    }
    met_deallocate(m.of);
    met_deallocate(values);
    met_game_close(&m.game);
    return status;
}

static const met_argument arguments[] = {
    MET_GAME_ARGUMENTS(sampling_options, game),
    {"n_permutations", MET_COUNT, .offset = offsetof(sampling_options, permutations), .least = 1},
    {"tolerance", MET_NUMBER, .offset = offsetof(sampling_options, tolerance)},
    {"seed", MET_SEED, .offset = offsetof(sampling_options, seed)},
    {"antithetic", MET_FLAG, .offset = offsetof(sampling_options, antithetic)},
    {.name = NULL},
};

const met_method met_shapley_sampling = {
    .name = "shapley_sampling",
    .doc = "Shapley values of features by random orders, at each value of a feature.\n"
           "Sources: Castro, Gomez and Tejada, 2009; Mitchell et al., 2022 (arXiv:2104.12199).",
    .arguments = arguments,
    .options = sizeof(sampling_options),
    .baselines = true,
    .run = run,
};
