/*
 * kernel_shap.c - Shapley values of an image's features: from all coalitions where they are few, by weighted regression on
 * sampled ones elsewhere.
 * Sources: Lundberg and Lee, NeurIPS 2017 (arXiv:1705.07874); coalitions in pairs with their complements, whole sizes
 * first: Covert and Lee, AISTATS 2021 (arXiv:2012.01536).
 */
#include "game.h"
#include "shapley.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Where nobody says how many coalitions: all of them up to so many features, else so many, as the shap package takes. */
#define ENUMERATED ((size_t)12)
#define DEFAULT_SAMPLES(players) (2 * (players) + 2048)
/* Draws that may find coalitions which are there already, for each one wanted. */
#define DRAWS_EACH ((size_t)8)
#define MOST_SAMPLES (SIZE_MAX / 2 / DRAWS_EACH) /* more cannot be counted, let alone kept */
/* What a coalition takes beside its bits; and what is never refused: a budget may be as small as a chunk. */
#define BYTES_BESIDE_BITS 128.0
#define SMALL_BYTES 268435456.0
#define LEVEL_STREAMS ((uint64_t)1 << 63)

typedef struct kernel_shap_options {
    met_game_options game;
    size_t samples; /* coalitions of an image; SIZE_MAX: the method chooses */
    uint64_t seed;
    bool interactions;
    bool errors;
} kernel_shap_options;

/* Coalitions of a list, by their positions in the game. */
typedef struct position_list {
    size_t *at;
    size_t count;
    size_t capacity;
} position_list;

/* The game of one image: its players are the features that differ from the baseline. */
typedef struct players {
    size_t count;
    size_t *feature; /* (count,) */
    uint64_t *bits;  /* (words,) a coalition, for asking */
    size_t none, all;
    bool exact;
    position_list fixed; /* exact: all coalitions, by bits of their players. Else: those of whole sizes */
    position_list drawn; /* pairs: a coalition and its complement */
    double open_mass;    /* of the kernel, over sizes that are sampled */
    double *values;      /* (outputs, features) */
    double *errors;      /* (outputs, features); NULL: not wanted */
    double *matrix;      /* (outputs, features, features); NULL: not wanted */
    size_t rank;
} players;

typedef struct kernel_shap {
    const met_call *call;
    const kernel_shap_options *options;
    met_game game;
    players *of; /* (images,) */
} kernel_shap;

static int append(position_list *list, size_t position) {
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        size_t *at = met_allocate(capacity, sizeof *at);
        if (at == NULL) {
            return met_fail(MET_ENOMEM, "%zu coalitions do not fit into memory", capacity);
        }
        if (list->count > 0) {
            memcpy(at, list->at, list->count * sizeof *at);
        }
        met_deallocate(list->at);
        list->at = at;
        list->capacity = capacity;
    }
    list->at[list->count++] = position;
    return MET_OK;
}

/* ---- which coalitions */

/* Ask for the coalition of the players whose flags are set, or of the others. */
static int ask_flags(kernel_shap *m, size_t image, const uint8_t *flags, bool complement, size_t *position) {
    players *p = &m->of[image];
    for (size_t i = 0; i < p->count; i++) {
        met_coalition_set(p->bits, p->feature[i], (flags[i] != 0) != complement);
    }
    return met_game_ask(&m->game, image, p->bits, position);
}

/* All coalitions, each next to one that differs in one player (a Gray code). */
static int enumerate_all(kernel_shap *m, size_t image) {
    players *p = &m->of[image];
    const size_t count = (size_t)1 << p->count;
    p->fixed.at = met_allocate(count, sizeof *p->fixed.at);
    if (p->fixed.at == NULL) {
        return met_fail(MET_ENOMEM, "%zu coalitions do not fit into memory", count);
    }
    p->fixed.count = p->fixed.capacity = count;
    int status = MET_OK;
    for (size_t s = 0; s < count && status == MET_OK; s++) {
        const size_t code = s ^ s >> 1;
        for (size_t i = 0; i < p->count; i++) {
            met_coalition_set(p->bits, p->feature[i], code >> i & 1);
        }
        status = met_game_ask(&m->game, image, p->bits, &p->fixed.at[code]);
    }
    p->none = p->fixed.at[0];
    p->all = p->fixed.at[count - 1];
    return status;
}

/* The next subset of its size in lexicographic order; false after the last. */
static bool next_subset(size_t n, uint8_t *flags) {
    size_t last = n, moved = 0;
    while (last > 0 && flags[last - 1]) {
        flags[--last] = 0;
        moved++;
    }
    while (last > 0 && !flags[last - 1]) {
        last--;
    }
    if (last == 0) {
        return false;
    }
    flags[last - 1] = 0;
    for (size_t k = 0; k <= moved; k++) {
        flags[last + k] = 1;
    }
    return true;
}

/* Both a coalition and its complement: they are the same size where that is half the players. */
static int ask_pair(kernel_shap *m, size_t image, const uint8_t *flags, position_list *list) {
    size_t position;
    int status = MET_OK;
    for (int complement = 0; complement < 2 && status == MET_OK; complement++) {
        status = ask_flags(m, image, flags, complement == 1, &position);
        status = status == MET_OK ? append(list, position) : status;
    }
    return status;
}

/* Every coalition of a size, with its complement. */
static int enumerate_size(kernel_shap *m, size_t image, size_t size, uint8_t *flags) {
    players *p = &m->of[image];
    int status = MET_OK;
    memset(flags, 0, p->count);
    memset(flags, 1, size);
    do {
        if (2 * size == p->count && !flags[0]) {
            continue; /* the complement of one that was asked for */
        }
        status = ask_pair(m, image, flags, &p->fixed);
    } while (status == MET_OK && next_subset(p->count, flags));
    return status;
}

/* The kernel's mass of a size and of its complement's. */
static double pair_mass(size_t n, size_t size) {
    return (2 * size == n ? 1.0 : 2.0) * met_shapley_mass(n, size);
}

/* Coalitions of a size and of its complement's; a double, for it may be large. */
static double pair_count(size_t n, size_t size) {
    const double subsets = exp(lgamma((double)n + 1) - lgamma((double)size + 1) - lgamma((double)(n - size) + 1));
    return (2 * size == n ? 1.0 : 2.0) * round(subsets);
}

/* A size from `first` on, by the kernel's mass. */
static size_t draw_size(size_t n, size_t first, double mass, double uniform) {
    size_t size = first;
    for (double left = uniform * mass; size < n / 2; size++) {
        left -= pair_mass(n, size);
        if (left < 0) {
            break;
        }
    }
    return size;
}

/* Coalitions of sizes from `first` on, until there are `budget` or drawing only finds those that are there. */
static int draw_pairs(kernel_shap *m, size_t image, size_t first, size_t budget, uint8_t *flags) {
    players *p = &m->of[image];
    const size_t before = m->game.of[image].count;
    const uint64_t origin = m->call->inputs[image].stream;
    const met_stream levels = {m->options->seed, LEVEL_STREAMS | origin};
    int status = MET_OK;
    for (size_t size = first; size <= p->count / 2; size++) {
        p->open_mass += pair_mass(p->count, size);
    }
    for (size_t d = 0; d < DRAWS_EACH * budget && status == MET_OK; d++) {
        double uniform;
        if (m->game.of[image].count - before + 2 > budget) {
            break;
        }
        met_uniform(levels, d, 1, &uniform);
        const met_stream stream = {m->options->seed, origin << 40 | d};
        status = met_choose(stream, p->count, draw_size(p->count, first, p->open_mass, uniform), flags);
        status = status == MET_OK ? ask_pair(m, image, flags, &p->drawn) : status;
    }
    return status;
}

/* Sizes are taken whole as long as the budget gives them as many coalitions as they have, by the kernel's mass. */
static int ask_samples(kernel_shap *m, size_t image, size_t samples) {
    players *p = &m->of[image];
    const size_t n = p->count;
    uint8_t *flags = met_allocate(n, 1);
    if (flags == NULL) {
        return met_fail(MET_ENOMEM, "a coalition of %zu features does not fit into memory", n);
    }
    int status = ask_flags(m, image, flags, false, &p->none);
    status = status == MET_OK ? ask_flags(m, image, flags, true, &p->all) : status;
    double mass = 0, budget = (double)samples - 2;
    for (size_t size = 1; size <= n / 2; size++) {
        mass += pair_mass(n, size);
    }
    size_t size = 1;
    while (size <= n / 2 && status == MET_OK && budget * pair_mass(n, size) / mass >= pair_count(n, size)) {
        budget -= pair_count(n, size);
        mass -= pair_mass(n, size);
        status = enumerate_size(m, image, size++, flags);
    }
    if (status == MET_OK && size <= n / 2 && budget >= 2) {
        status = draw_pairs(m, image, size, (size_t)budget, flags);
    }
    met_deallocate(flags);
    return status;
}

/* Refuse, before the first one is asked for, more coalitions than there is memory for. */
static int check_memory(const kernel_shap *m, size_t image, double coalitions) {
    const met_coalitions *c = &m->game.of[image];
    /* Bits here, in the game (while it grows, twice) and as flags of the result; positions, values and weights. */
    const double each = 4.0 * (double)c->words * sizeof(uint64_t) + (double)c->features + BYTES_BESIDE_BITS;
    const double bytes = (double)m->game.images * coalitions * each;
    const size_t budget = m->call->options->memory_budget;
    if (budget == 0 || bytes <= fmax((double)budget, SMALL_BYTES)) {
        return MET_OK;
    }
    return met_fail(MET_ENOMEM,
                    "%.0f coalitions of %zu features take about %.3g GB, more than there is memory for (%.3g GB): "
                    "lower n_samples, or join features",
                    coalitions, m->of[image].count, bytes / 1e9, (double)budget / 1e9);
}

/* The features that count, and which of their coalitions. */
static int ask(kernel_shap *m, size_t image) {
    players *p = &m->of[image];
    const met_coalitions *c = &m->game.of[image];
    const kernel_shap_options *o = m->options;
    p->feature = met_allocate(c->features, sizeof *p->feature);
    p->bits = met_allocate(c->words, sizeof *p->bits);
    if (p->feature == NULL || p->bits == NULL) {
        return met_fail(MET_ENOMEM, "%zu features do not fit into memory", c->features);
    }
    p->count = met_game_players(&m->game, image, p->feature);
    const bool few = p->count <= MET_SHAPLEY_MOST_PLAYERS;
    const size_t all = few ? (size_t)1 << p->count : SIZE_MAX;
    p->exact = few && (o->samples == SIZE_MAX ? p->count <= ENUMERATED : all <= o->samples);
    if (p->exact) {
        const int status = check_memory(m, image, (double)all);
        return status == MET_OK ? enumerate_all(m, image) : status;
    }
    if (o->interactions) {
        return met_fail(MET_EVALUE,
                        "interactions need all 2^%zu coalitions of the features that differ from the baseline: "
                        "join features, or allow as many with n_samples (up to 2^%zu)",
                        p->count, MET_SHAPLEY_MOST_PLAYERS);
    }
    const size_t least = p->count == 1 ? 2 : 4; /* the empty and the full one, and a pair where there is any */
    if (o->samples < least) {
        return met_fail(MET_EVALUE, "n_samples must be at least %zu coalitions for %zu feature%s, not %zu", least,
                        p->count, p->count == 1 ? "" : "s", o->samples);
    }
    const size_t samples = o->samples == SIZE_MAX ? DEFAULT_SAMPLES(p->count) : met_min_size(o->samples, MOST_SAMPLES);
    const int status = check_memory(m, image, fmin((double)samples, exp2((double)p->count)));
    return status == MET_OK ? ask_samples(m, image, samples) : status;
}

/* ---- values from all coalitions */

static int solve_exactly(kernel_shap *m, size_t image) {
    players *p = &m->of[image];
    const size_t n = p->count, features = m->game.of[image].features;
    double *v = met_allocate(p->fixed.count, sizeof *v);
    double *values = met_allocate(n, sizeof *values);
    double *matrix = p->matrix == NULL ? NULL : met_allocate(n * n, sizeof *matrix);
    int status = v == NULL || values == NULL || (p->matrix != NULL && matrix == NULL)
                     ? met_fail(MET_ENOMEM, "the values of %zu coalitions do not fit into memory", p->fixed.count)
                     : MET_OK;
    for (size_t t = 0; t < m->game.outputs && status == MET_OK; t++) {
        for (size_t s = 0; s < p->fixed.count; s++) {
            v[s] = met_game_value(&m->game, image, p->fixed.at[s], t);
        }
        met_shapley_exact(n, v, values);
        for (size_t i = 0; i < n; i++) {
            p->values[t * features + p->feature[i]] = values[i];
        }
        if (matrix != NULL) {
            met_shapley_interactions(n, v, matrix);
            for (size_t i = 0; i < n * n; i++) {
                p->matrix[(t * features + p->feature[i / n]) * features + p->feature[i % n]] = matrix[i];
            }
        }
    }
    p->rank = n > 0 ? n - 1 : 0;
    met_deallocate(v);
    met_deallocate(values);
    met_deallocate(matrix);
    return status;
}

/* ---- values from sampled coalitions */

/* Rows of the regression: distinct coalitions. */
typedef struct design {
    met_shapley_rows rows;
    uint64_t *bits;
    double *weight;
    size_t *position; /* (rows,) in the game */
    size_t *row_of;   /* by position in the game, SIZE_MAX: none */
    double *y;        /* (rows,) */
    double *residual; /* (rows,) */
} design;

static void free_design(design *d) {
    met_deallocate(d->bits);
    met_deallocate(d->weight);
    met_deallocate(d->position);
    met_deallocate(d->row_of);
    met_deallocate(d->y);
    met_deallocate(d->residual);
}

/* The row of a coalition, a new one where there is none. */
static size_t row_at(const kernel_shap *m, size_t image, size_t position, design *d) {
    const players *p = &m->of[image];
    const met_coalitions *c = &m->game.of[image];
    if (d->row_of[position] == SIZE_MAX) {
        const size_t row = d->rows.rows++;
        for (size_t i = 0; i < p->count; i++) {
            met_coalition_set(d->bits + row * d->rows.words, i,
                              met_coalition_has(c->bits + position * c->words, p->feature[i]));
        }
        d->position[row] = position;
        d->row_of[position] = row;
    }
    return d->row_of[position];
}

/* Whole sizes weigh what the kernel says; what is drawn shares the rest of its mass. */
static int new_design(const kernel_shap *m, size_t image, design *d) {
    const players *p = &m->of[image];
    const size_t most = p->fixed.count + p->drawn.count, count = m->game.of[image].count;
    const size_t words = (p->count + 63) / 64;
    *d = (design){.rows = {.players = p->count, .words = words}};
    d->bits = words > 0 && most > SIZE_MAX / words ? NULL : met_allocate(most * words, sizeof *d->bits);
    d->weight = met_allocate(most, sizeof *d->weight);
    d->position = met_allocate(most, sizeof *d->position);
    d->row_of = met_allocate(count, sizeof *d->row_of);
    d->y = met_allocate(most, sizeof *d->y);
    d->residual = met_allocate(most, sizeof *d->residual);
    if (!d->bits || !d->weight || !d->position || !d->row_of || !d->y || !d->residual) {
        return met_fail(MET_ENOMEM, "%zu coalitions of %zu features do not fit into memory", most, p->count);
    }
    memset(d->row_of, 0xff, count * sizeof *d->row_of);
    for (size_t k = 0; k < p->fixed.count; k++) {
        const size_t row = row_at(m, image, p->fixed.at[k], d);
        size_t in = 0;
        for (size_t i = 0; i < p->count; i++) {
            in += met_coalition_has(d->bits + row * words, i);
        }
        d->weight[row] = pair_mass(p->count, in) / pair_count(p->count, in);
    }
    for (size_t k = 0; k < p->drawn.count; k++) {
        d->weight[row_at(m, image, p->drawn.at[k], d)] += p->open_mass / (double)p->drawn.count;
    }
    d->rows.bits = d->bits;
    d->rows.weight = d->weight;
    return MET_OK;
}

/*
 * Standard errors of the sampled part: the values solve sum_r w_r a_r e_r = 0 over rows a_r with residuals e_r, so a drawn
 * pair moves them by G^-1 a (e - e of the complement) times its share of the mass, G the normal equations.
 */
static int fill_errors(const kernel_shap *m, size_t image, const design *d, const met_shapley_fit *fit, size_t output) {
    players *p = &m->of[image];
    const size_t n = p->count, pairs = p->drawn.count / 2, features = m->game.of[image].features;
    const bool unique = fit->rows == NULL;
    double *errors = p->errors + output * features;
    double *u = met_allocate(n, sizeof *u), *mean = met_allocate(n, sizeof *mean);
    double *square = met_allocate(n, sizeof *square);
    int status = u == NULL || mean == NULL || square == NULL
                     ? met_fail(MET_ENOMEM, "the errors of %zu features do not fit into memory", n)
                     : MET_OK;
    for (size_t k = 0; k < pairs && status == MET_OK && unique; k++) {
        const size_t row = d->row_of[p->drawn.at[2 * k]], other = d->row_of[p->drawn.at[2 * k + 1]];
        const double change = d->residual[row] - d->residual[other];
        met_shapley_row(&d->rows, row, u);
        met_shapley_fit_normal(fit, u);
        for (size_t i = 0; i < n; i++) {
            const double value = u[i] * change, delta = value - mean[i];
            mean[i] += delta / (double)(k + 1);
            square[i] += delta * (value - mean[i]);
        }
    }
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        const double variance = pairs > 1 ? square[i] / (double)(pairs - 1) / (double)pairs : (double)NAN;
        errors[p->feature[i]] = pairs == 0 ? 0.0 : unique ? p->open_mass / 2 * sqrt(variance) : (double)NAN;
    }
    met_deallocate(u);
    met_deallocate(mean);
    met_deallocate(square);
    return status;
}

static int solve_sampled(kernel_shap *m, size_t image) {
    players *p = &m->of[image];
    const size_t features = m->game.of[image].features;
    design d;
    met_shapley_fit fit = {0};
    double *values = met_allocate(p->count, sizeof *values);
    int status = values == NULL ? met_fail(MET_ENOMEM, "%zu values do not fit into memory", p->count) : MET_OK;
    const int designed = new_design(m, image, &d);
    status = status == MET_OK ? designed : status;
    status = status == MET_OK ? met_shapley_fit_new(&d.rows, &fit) : status;
    for (size_t t = 0; t < m->game.outputs && status == MET_OK; t++) {
        const double none = met_game_value(&m->game, image, p->none, t);
        const double all = met_game_value(&m->game, image, p->all, t);
        for (size_t r = 0; r < d.rows.rows; r++) {
            d.y[r] = met_game_value(&m->game, image, d.position[r], t) - none;
        }
        status = met_shapley_fit_solve(&fit, d.y, all - none, values, d.residual);
        for (size_t i = 0; i < p->count && status == MET_OK; i++) {
            p->values[t * features + p->feature[i]] = values[i];
        }
        if (status == MET_OK && p->errors != NULL) {
            status = fill_errors(m, image, &d, &fit, t);
        }
    }
    p->rank = fit.rank;
    met_shapley_fit_free(&fit);
    free_design(&d);
    met_deallocate(values);
    return status;
}

static int solve(kernel_shap *m, size_t image) {
    players *p = &m->of[image];
    const size_t features = m->game.of[image].features, outputs = m->game.outputs;
    const bool counted = outputs == 0 || features <= SIZE_MAX / outputs / features;
    p->values = met_allocate(outputs * features, sizeof *p->values);
    p->errors = m->options->errors ? met_allocate(outputs * features, sizeof *p->errors) : NULL;
    p->matrix =
        m->options->interactions && counted ? met_allocate(outputs * features * features, sizeof *p->matrix) : NULL;
    if (p->values == NULL || (m->options->errors && p->errors == NULL) ||
        (m->options->interactions && p->matrix == NULL)) {
        return met_fail(MET_ENOMEM, "the values of %zu features for %zu outputs do not fit into memory", features,
                        outputs);
    }
    return p->exact ? solve_exactly(m, image) : solve_sampled(m, image);
}

/* ---- results */

static int put(const kernel_shap *m, size_t i, met_results *results) {
    const players *p = &m->of[i];
    const size_t features = m->game.of[i].features, outputs = m->game.outputs, one = 1;
    const size_t shape[] = {outputs, features, features};
    const double rank[] = {(double)p->rank}, players_of[] = {(double)p->count}, exact[] = {(double)p->exact};
    double *ends = met_allocate(2 * outputs, sizeof *ends);
    if (ends == NULL) {
        return met_fail(MET_ENOMEM, "%zu outputs do not fit into memory", outputs);
    }
    for (size_t t = 0; t < outputs; t++) {
        ends[2 * t] = met_game_value(&m->game, i, p->none, t);
        ends[2 * t + 1] = met_game_value(&m->game, i, p->all, t);
    }
    int status = met_results_put(results, i, "values_of_ends", MET_FLOAT64, 2, (size_t[]){outputs, 2}, ends);
    met_deallocate(ends);
    if (status == MET_OK) {
        status = met_results_put(results, i, "coefficients", MET_FLOAT64, 2, shape, p->values);
    }
    if (status == MET_OK && p->errors != NULL) {
        status = met_results_put(results, i, "standard_errors", MET_FLOAT64, 2, shape, p->errors);
    }
    if (status == MET_OK && p->matrix != NULL) {
        status = met_results_put(results, i, "interactions", MET_FLOAT64, 3, shape, p->matrix);
    }
    if (status == MET_OK) {
        status = met_results_put(results, i, "rank", MET_FLOAT64, 1, &one, rank);
    }
    if (status == MET_OK) {
        status = met_results_put(results, i, "players", MET_FLOAT64, 1, &one, players_of);
    }
    return status == MET_OK ? met_results_put(results, i, "exact", MET_FLOAT64, 1, &one, exact) : status;
}

/* out[i, t] at each value of feature j = the Shapley value of j in the game of f_t and x_i; 0 outside. */
static int run(const met_call *call, const void *options, met_results *results) {
    kernel_shap m = {.call = call, .options = options};
    const size_t images = call->images;
    double **values = met_allocate(images, sizeof *values);
    m.of = met_allocate(images, sizeof *m.of);
    int status = met_game_open(&m.game, call, &m.options->game, MET_GAME_MASKED);
    if (status == MET_OK && (values == NULL || m.of == NULL)) {
        status = met_fail(MET_ENOMEM, "%zu images do not fit into memory", images);
    }
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        status = ask(&m, i);
    }
    status = status == MET_OK ? met_game_evaluate(&m.game) : status;
    for (size_t i = 0; i < images && status == MET_OK; i++) {
        status = solve(&m, i);
        values[i] = m.of[i].values;
        status = status == MET_OK ? put(&m, i, results) : status;
    }
    status = status == MET_OK ? met_game_spread(&m.game, values, results) : status;
    status = status == MET_OK ? met_game_put(&m.game, results) : status;
    for (size_t i = 0; i < images && m.of != NULL; i++) {
        players *p = &m.of[i];
        met_deallocate(p->feature);
        met_deallocate(p->bits);
        met_deallocate(p->fixed.at);
        met_deallocate(p->drawn.at);
        met_deallocate(p->values);
        met_deallocate(p->errors);
        met_deallocate(p->matrix);
    }
    met_deallocate(m.of);
    met_deallocate(values);
    met_game_close(&m.game);
    return status;
}

static const met_argument arguments[] = {
    MET_GAME_ARGUMENTS(kernel_shap_options, game),
    {"n_samples", MET_COUNT, .offset = offsetof(kernel_shap_options, samples), .least = 0},
    {"seed", MET_SEED, .offset = offsetof(kernel_shap_options, seed)},
    {"interactions", MET_FLAG, .offset = offsetof(kernel_shap_options, interactions)},
    {"standard_errors", MET_FLAG, .offset = offsetof(kernel_shap_options, errors)},
    {.name = NULL},
};

const met_method met_kernel_shap = {
    .name = "kernel_shap",
    .doc = "Shapley values of features, at each value of a feature.\n"
           "Sources: Lundberg and Lee, 2017 (arXiv:1705.07874); Covert and Lee, 2021 (arXiv:2012.01536).",
    .arguments = arguments,
    .options = sizeof(kernel_shap_options),
    .baselines = true,
    .run = run,
};
