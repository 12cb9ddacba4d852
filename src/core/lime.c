/*
 * lime.c - a linear surrogate of the model around an image: features are dropped at random, and a weighted linear model
 * of which were kept is fitted to what the model says.
 * Source: Ribeiro, Singh and Guestrin, "Why should I trust you?", KDD 2016 (arXiv:1602.04938).
 */
#include "game.h"
#include "surrogate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* With a tolerance: samples before the first look, the growth from one look to the next, and resamples of a look. */
#define FIRST_LOOK ((size_t)64)
#define GROWTH(n) ((n) + (n) / 2)
#define LOOK_RESAMPLES ((size_t)50)
/* Beyond as many widths a weight would be 0: where all samples are, weights are taken relative to the largest. */
#define FAR 37.0
/* Streams of resamples are apart from those of samples. */
#define RESAMPLE_STREAMS ((uint64_t)1 << 63)

typedef enum distance { COSINE, EUCLIDEAN, GIVEN } distance;
typedef enum surrogate { LEAST_SQUARES, RIDGE, LASSO, NO_SURROGATE } surrogate;

typedef struct lime_options {
    met_game_options game;
    size_t samples; /* drawn of each image; with a tolerance: at most */
    double tolerance;
    uint64_t seed;
    int distance;
    double kernel_width;
    int surrogate;
    double alpha;
    bool intercept;
    bool positive;
    size_t max_iterations;
    double fit_tolerance;
    size_t resamples;
    const met_table *rows;        /* (rows, features) coalitions instead of drawn ones; NULL: drawn */
    const met_table *row_weights; /* (rows, 1) their weights, for the distance GIVEN */
} lime_options;

/* The samples of one image. */
typedef struct sampling {
    size_t rows;
    uint64_t *bits;   /* (rows, words) as drawn */
    size_t *position; /* (rows,) in the game */
    double *value;    /* (rows, outputs) */
    double *weight;   /* (rows,) */
    bool done;
    double effective; /* distinct samples, as many equal ones as their weights are worth */
    met_surrogate fit;
} sampling;

typedef struct lime {
    const met_call *call;
    const lime_options *options;
    met_game game;
    sampling *of; /* (images,) */
} lime;

/* ---- samples */

static const met_table *rows_of(const lime *m, size_t image) {
    return m->options->rows == NULL ? NULL : &m->options->rows[m->call->inputs[image].origin];
}

static int grow(sampling *s, size_t rows, size_t words) {
    uint64_t *bits = rows > SIZE_MAX / words ? NULL : met_allocate(rows * words, sizeof *bits);
    size_t *position = bits == NULL ? NULL : met_allocate(rows, sizeof *position);
    if (position == NULL) {
        met_deallocate(bits);
        return met_fail(MET_ENOMEM, "%zu samples do not fit into memory", rows);
    }
    if (s->rows > 0) {
        memcpy(bits, s->bits, s->rows * words * sizeof *bits);
        memcpy(position, s->position, s->rows * sizeof *position);
    }
    met_deallocate(s->bits);
    met_deallocate(s->position);
    s->bits = bits;
    s->position = position;
    return MET_OK;
}

/*
 * Draw samples up to `rows`, or take those that were given. Features that hold the baseline's values anyhow count as kept:
 * their column is constant then, and their coefficient exactly 0.
 */
static int sample(lime *m, size_t image, size_t rows) {
    sampling *s = &m->of[image];
    const met_coalitions *c = &m->game.of[image];
    const met_table *given = rows_of(m, image);
    int status = grow(s, rows, c->words);
    for (size_t r = s->rows; r < rows && status == MET_OK; r++) {
        uint64_t *bits = s->bits + r * c->words;
        if (given == NULL) {
            met_coalition_draw((met_stream){m->options->seed, m->call->inputs[image].stream}, r, c->features, bits);
        } else {
            for (size_t j = 0; j < c->features; j++) {
                met_coalition_set(bits, j, ((const uint8_t *)given->data)[r * c->features + j] != 0);
            }
        }
        for (size_t w = 0; w < c->words; w++) {
            bits[w] |= m->game.values[image].inert[w];
        }
        status = met_game_ask(&m->game, image, bits, &s->position[r]);
        s->rows = status == MET_OK ? r + 1 : s->rows;
    }
    return status;
}

/* ---- weights */

/* 1 - cosine or the Euclidean distance of image and sample: from sums over features, so that neither is looked at again. */
static double distance_of(const lime *m, size_t image, const uint64_t *bits) {
    const met_coalitions *c = &m->game.of[image];
    const met_measures *sums = &m->game.measures[image];
    double cross = sums->image[0], sample = sums->image[0], whole = sums->image[0], squared = 0;
    for (size_t j = 0; j < c->features; j++) {
        const bool kept = met_coalition_has(bits, j);
        whole += sums->image[j + 1];
        cross += kept ? sums->image[j + 1] : sums->cross[j + 1];
        sample += kept ? sums->image[j + 1] : sums->baseline[j + 1];
        squared += kept ? 0.0 : sums->difference[j + 1];
    }
    if (m->options->distance == COSINE) {
        const double norms = sqrt(whole) * sqrt(sample);
        return fabs(1.0 - (norms > 0 ? cross / norms : 0.0));
    }
    return sqrt(squared);
}

/*
 * The kernel exp(-d^2 / (2 width^2)) of a distance d, as a part of that of another distance `from` <= d. Squares are
 * subtracted by factors: no kernel is so narrow that this is not a number.
 */
static double kernel(double d, double from, double width) {
    return d > from ? exp(-(d - from) / width * ((d + from) / width) / 2) : 1.0;
}

/* Distinct samples, counted as the squared sum of their weights by the sum of their squares (Kish 1965). */
static int count_effective(const lime *m, size_t image) {
    sampling *s = &m->of[image];
    double *of = met_allocate(m->game.of[image].count, sizeof *of);
    double sum = 0, squares = 0;
    if (of == NULL) {
        return met_fail(MET_ENOMEM, "%zu samples do not fit into memory", s->rows);
    }
    for (size_t r = 0; r < s->rows; r++) {
        of[s->position[r]] += s->weight[r];
    }
    for (size_t r = 0; r < s->rows; r++) { /* by rows, whose order is that of any run */
        sum += s->weight[r];
        squares += s->weight[r] * of[s->position[r]];
    }
    s->effective = squares > 0 ? sum / squares * sum : 0.0;
    met_deallocate(of);
    return MET_OK;
}

static int weigh(const lime *m, size_t image) {
    sampling *s = &m->of[image];
    const size_t words = m->game.of[image].words;
    const double *given = m->options->distance == GIVEN && m->options->row_weights != NULL
                              ? m->options->row_weights[m->call->inputs[image].origin].data
                              : NULL;
    const double width = m->options->kernel_width;
    double nearest = INFINITY;
    met_deallocate(s->weight);
    s->weight = met_allocate(s->rows, sizeof *s->weight);
    if (s->weight == NULL) {
        return met_fail(MET_ENOMEM, "%zu samples do not fit into memory", s->rows);
    }
    for (size_t r = 0; r < s->rows; r++) {
        s->weight[r] = given != NULL                   ? given[r]
                       : m->options->distance == GIVEN ? 1.0
                                                       : distance_of(m, image, s->bits + r * words);
        if (m->options->distance != GIVEN && !isfinite(s->weight[r])) {
            return met_fail(MET_EVALUE,
                            "image %zu or its baseline has values too large for distances: squares overflow",
                            m->call->inputs[image].origin);
        }
        nearest = fmin(nearest, s->weight[r]);
    }
    const double from = nearest / width > FAR ? nearest : 0.0;
    for (size_t r = 0; r < s->rows && m->options->distance != GIVEN; r++) {
        s->weight[r] = kernel(s->weight[r], from, width);
    }
    return count_effective(m, image);
}

/* ---- fits */

static int gather(const lime *m, size_t image) {
    sampling *s = &m->of[image];
    const size_t outputs = m->game.outputs;
    met_deallocate(s->value);
    s->value = s->rows > SIZE_MAX / outputs ? NULL : met_allocate(s->rows * outputs, sizeof *s->value);
    if (s->value == NULL) {
        return met_fail(MET_ENOMEM, "%zu samples of %zu outputs do not fit into memory", s->rows, outputs);
    }
    for (size_t r = 0; r < s->rows; r++) {
        for (size_t t = 0; t < outputs; t++) {
            const double value = met_game_value(&m->game, image, s->position[r], t);
            if (m->options->surrogate != NO_SURROGATE && !isfinite(value)) {
                return met_fail(
                    MET_EVALUE,
                    "a linear surrogate needs outputs that are finite: the model gives %g for sample %zu of "
                    "image %zu, output %zu of those explained",
                    value, r, m->call->inputs[image].origin, t);
            }
            s->value[r * outputs + t] = value;
        }
    }
    return MET_OK;
}

/* Fits may take long too: signals are looked after between them. */
static int pause_between_fits(void *ctx) {
    return met_game_tell(&((const lime *)ctx)->game, false);
}

static int fit(lime *m, size_t image, size_t resamples) {
    static const met_fit_kind kinds[] = {
        [LEAST_SQUARES] = MET_FIT_LEAST_SQUARES, [RIDGE] = MET_FIT_RIDGE, [LASSO] = MET_FIT_LASSO};
    const lime_options *o = m->options;
    sampling *s = &m->of[image];
    const size_t features = m->game.of[image].features;
    met_surrogate_free(&s->fit);
    int status = gather(m, image);
    status = status == MET_OK ? weigh(m, image) : status;
    if (status != MET_OK || o->surrogate == NO_SURROGATE) {
        return status;
    }
    const met_fit_options options = {kinds[o->surrogate], o->alpha,          o->intercept,
                                     o->positive,         o->max_iterations, o->fit_tolerance};
    const met_surrogate_rows rows = {s->rows, features, m->game.outputs, s->bits, s->value, s->weight};
    const met_pause pause = {pause_between_fits, m};
    const met_stream stream = {o->seed, RESAMPLE_STREAMS | m->call->inputs[image].stream << 24};
    status = met_surrogate_new(features, m->game.outputs, resamples > 0, &s->fit);
    return status == MET_OK ? met_surrogate_fit(&rows, &options, resamples, stream, &pause, &s->fit) : status;
}

/* Rounds of more and more samples, until every image is as precise as was asked for. */
static int run_rounds(lime *m) {
    const lime_options *o = m->options;
    const size_t images = m->call->images;
    const bool looks = o->tolerance > 0 && o->rows == NULL;
    size_t rows = looks ? met_min_size(FIRST_LOOK, o->samples) : o->samples;
    int status = MET_OK;
    for (size_t i = 0; i < images && looks; i++) {
        const size_t features = m->game.of[i].features;
        const size_t distinct = features < 8 * sizeof(size_t) - 1 ? (size_t)1 << features : SIZE_MAX;
        met_game_expect(&m->game, i, met_min_size(o->samples, distinct));
    }
    for (size_t open = images; open > 0 && status == MET_OK; rows = met_min_size(GROWTH(rows), o->samples)) {
        for (size_t i = 0; i < images && status == MET_OK; i++) {
            status = m->of[i].done ? MET_OK : sample(m, i, rows_of(m, i) != NULL ? rows_of(m, i)->rows : rows);
        }
        status = status == MET_OK ? met_game_evaluate(&m->game) : status;
        for (size_t i = 0; i < images && status == MET_OK; i++) {
            sampling *s = &m->of[i];
            if (s->done) {
                continue;
            }
            const bool last = !looks || rows >= o->samples;
            status = fit(m, i, looks && o->resamples == 0 ? LOOK_RESAMPLES : o->resamples);
            if (status == MET_OK &&
                (last || met_surrogate_precision(&s->fit, m->game.of[i].features, m->game.outputs) <= o->tolerance)) {
                s->done = true;
                open--;
            }
        }
    }
    return status == MET_OK && looks ? met_game_tell(&m->game, true) : status;
}

/* ---- results */

static int put_fit(const lime *m, size_t i, met_results *results) {
    const sampling *s = &m->of[i];
    const size_t outputs = m->game.outputs, features = m->game.of[i].features;
    const size_t by_feature[] = {outputs, features}, pairs[] = {outputs, 2};
    int status = met_results_put(results, i, "coefficients", MET_FLOAT64, 2, by_feature, s->fit.coefficients);
    if (status == MET_OK) {
        status = met_results_put(results, i, "intercepts", MET_FLOAT64, 1, &outputs, s->fit.intercepts);
    }
    if (status == MET_OK) {
        status = met_results_put(results, i, "scores", MET_FLOAT64, 2, pairs, s->fit.scores);
    }
    if (status == MET_OK && s->fit.errors != NULL) {
        status = met_results_put(results, i, "standard_errors", MET_FLOAT64, 2, by_feature, s->fit.errors);
    }
    if (status == MET_OK && s->fit.interval != NULL) {
        status = met_results_put(results, i, "score_interval", MET_FLOAT64, 2, pairs, s->fit.interval);
    }
    return status;
}

/* The samples as drawn, what the model said of each, and its weight. */
static int put_samples(const lime *m, size_t i, met_results *results) {
    const sampling *s = &m->of[i];
    const met_coalitions *c = &m->game.of[i];
    uint8_t *flags = results->table == NULL ? NULL : met_allocate(s->rows * c->features, 1);
    if (results->table != NULL && flags == NULL) {
        return met_fail(MET_ENOMEM, "%zu samples of %zu features do not fit into memory", s->rows, c->features);
    }
    for (size_t k = 0; k < s->rows * c->features && flags != NULL; k++) {
        flags[k] = met_coalition_has(s->bits + k / c->features * c->words, k % c->features);
    }
    const size_t outputs = m->game.outputs, one = 1;
    int status = met_results_put(results, i, "samples", MET_UINT8, 2, (size_t[]){s->rows, c->features}, flags);
    if (status == MET_OK) {
        status = met_results_put(results, i, "sample_values", MET_FLOAT64, 2, (size_t[]){s->rows, outputs}, s->value);
    }
    if (status == MET_OK) {
        status = met_results_put(results, i, "weights", MET_FLOAT64, 1, &s->rows, s->weight);
    }
    if (status == MET_OK) {
        status = met_results_put(results, i, "effective_samples", MET_FLOAT64, 1, &one, &s->effective);
    }
    met_deallocate(flags);
    return status;
}

static int write_results(const lime *m, met_results *results) {
    const size_t images = m->call->images;
    double **coefficients = met_allocate(images, sizeof *coefficients);
    int status = coefficients == NULL ? met_fail(MET_ENOMEM, "%zu images do not fit into memory", images) : MET_OK;
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        coefficients[i] = m->of[i].fit.coefficients;
        status = put_samples(m, i, results);
        if (status == MET_OK && m->options->surrogate != NO_SURROGATE) {
            status = put_fit(m, i, results);
        }
    }
    if (status == MET_OK && m->options->surrogate != NO_SURROGATE) {
        status = met_game_spread(&m->game, coefficients, results);
    }
    if (m->options->surrogate == NO_SURROGATE) { /* the host fits, and writes them */
        results->known_finite = true;
        results->axes = m->game.explained.axes;
        memcpy(results->shape, m->game.explained.shape, sizeof results->shape);
    }
    met_deallocate(coefficients);
    return status;
}

/* ---- the run */

static int check(const lime_options *o, const met_call *call) {
    if (o->game.features == NULL) {
        return met_fail(MET_EVALUE, "there are no features");
    }
    if (o->samples < 1 && o->rows == NULL) {
        return met_fail(MET_EVALUE, "n_samples must be at least 1");
    }
    if (o->distance != GIVEN && !(o->kernel_width > 0)) {
        return met_fail(MET_EVALUE, "kernel_width must be positive, not %g", o->kernel_width);
    }
    if (o->tolerance > 0 && o->surrogate == NO_SURROGATE) {
        return met_fail(MET_EVALUE, "tolerance needs a surrogate that the core fits");
    }
    for (size_t i = 0; i < call->images && o->rows != NULL; i++) {
        const met_table *rows = &o->rows[call->inputs[i].origin];
        const met_segments *features = &o->game.features[call->inputs[i].origin];
        const met_table *weights = o->row_weights == NULL ? NULL : &o->row_weights[call->inputs[i].origin];
        if (rows->data == NULL || rows->rows == 0 || rows->columns != features->count) {
            return met_fail(MET_EVALUE, "samples of image %zu must be of its %zu features, not %zu of %zu", i,
                            features->count, rows->rows, rows->columns);
        }
        if (weights != NULL && (weights->data == NULL || weights->rows != rows->rows || weights->columns != 1)) {
            return met_fail(MET_EVALUE, "image %zu needs a weight for each of its %zu samples", i, rows->rows);
        }
    }
    return MET_OK;
}

/* out[i, t] at each value of feature j = the coefficient of j in the linear surrogate of f_t around x_i; 0 outside. */
static int run(const met_call *call, const void *options, met_results *results) {
    lime m = {.call = call, .options = options};
    int status = check(options, call);
    if (status != MET_OK) {
        return status;
    }
    m.of = met_allocate(call->images, sizeof *m.of);
    status = met_game_open(&m.game, call, &m.options->game,
                           MET_GAME_MASKED | (m.options->distance != GIVEN ? (unsigned)MET_GAME_SUMS : 0));
    if (status == MET_OK && m.of == NULL) {
        status = met_fail(MET_ENOMEM, "%zu images do not fit into memory", call->images);
    }
    status = status == MET_OK ? run_rounds(&m) : status;
    status = status == MET_OK ? write_results(&m, results) : status;
    status = status == MET_OK ? met_game_put(&m.game, results) : status;
    for (size_t i = 0; i < call->images && m.of != NULL; i++) {
        met_deallocate(m.of[i].bits);
        met_deallocate(m.of[i].position);
        met_deallocate(m.of[i].value);
        met_deallocate(m.of[i].weight);
        met_surrogate_free(&m.of[i].fit);
    }
    met_deallocate(m.of);
    met_game_close(&m.game);
    return status;
}

static const char *const distances[] = {"cosine", "euclidean", "given", NULL};
static const char *const surrogates[] = {"least_squares", "ridge", "lasso", "none", NULL};

static const met_argument arguments[] = {
    MET_GAME_ARGUMENTS(lime_options, game),
    {"n_samples", MET_COUNT, .offset = offsetof(lime_options, samples), .least = 1},
    {"tolerance", MET_NUMBER, .offset = offsetof(lime_options, tolerance)},
    {"seed", MET_SEED, .offset = offsetof(lime_options, seed)},
    {"distance", MET_CHOICE, .offset = offsetof(lime_options, distance), .choices = distances},
    {"kernel_width", MET_NUMBER, .offset = offsetof(lime_options, kernel_width)},
    {"surrogate", MET_CHOICE, .offset = offsetof(lime_options, surrogate), .choices = surrogates},
    {"alpha", MET_NUMBER, .offset = offsetof(lime_options, alpha)},
    {"intercept", MET_FLAG, .offset = offsetof(lime_options, intercept)},
    {"positive", MET_FLAG, .offset = offsetof(lime_options, positive)},
    {"max_iterations", MET_COUNT, .offset = offsetof(lime_options, max_iterations), .least = 0},
    {"fit_tolerance", MET_NUMBER, .offset = offsetof(lime_options, fit_tolerance)},
    {"resamples", MET_COUNT, .offset = offsetof(lime_options, resamples), .least = 0},
    {"rows", MET_FLAG_TABLES, .offset = offsetof(lime_options, rows)},
    {"row_weights", MET_NUMBER_TABLES, .offset = offsetof(lime_options, row_weights)},
    {.name = NULL},
};

const met_method met_lime = {
    .name = "lime",
    .doc = "Coefficients of a linear surrogate of the model around the image, at each value of a feature.\n"
           "Source: Ribeiro, Singh and Guestrin, 2016 (arXiv:1602.04938).",
    .arguments = arguments,
    .options = sizeof(lime_options),
    .baselines = true,
    .run = run,
};
