/*
 * feature_ablation.c - what the output loses when a feature, a superpixel or a superband, takes the baseline's values.
 * Source: Merrick, "Randomized ablation feature importance", 2019 (arXiv:1910.00174), with a fixed replacement.
 */
#include "game.h"

#include <stddef.h>

typedef struct feature_ablation_options {
    met_game_options game;
} feature_ablation_options;

/* positions (features + 1,): where the coalition without feature j is, and at last the image. */
static int ask(met_game *game, size_t image, size_t *positions) {
    met_coalitions *c = &game->of[image];
    uint64_t *bits = met_allocate(c->words, sizeof *bits);
    int status = bits == NULL
                     ? met_fail(MET_ENOMEM, "a coalition of %zu features does not fit into memory", c->features)
                     : MET_OK;
    for (size_t j = 0; j < c->features && status == MET_OK; j++) {
        met_coalition_set(bits, j, true);
    }
    status = status == MET_OK ? met_game_ask(game, image, bits, &positions[c->features]) : status;
    for (size_t j = 0; j < c->features && status == MET_OK; j++) {
        met_coalition_set(bits, j, false);
        status = met_game_ask(game, image, bits, &positions[j]);
        met_coalition_set(bits, j, true);
    }
    met_deallocate(bits);
    return status;
}

/* out[i, t] at each value of feature k = f_t(x_i) - f_t(x_i with feature k replaced by the baseline); 0 outside. */
static int run(const met_call *call, const void *options, met_results *results) {
    const feature_ablation_options *o = options;
    met_game game;
    size_t **positions = met_allocate(call->images, sizeof *positions);
    double **differences = met_allocate(call->images, sizeof *differences);
    int status = met_game_open(&game, call, &o->game, MET_GAME_DIFFERENCES);
    if (status == MET_OK && (positions == NULL || differences == NULL)) {
        status = met_fail(MET_ENOMEM, "%zu images do not fit into memory", call->images);
    }
    for (size_t i = 0; i < call->images && status == MET_OK; i++) {
        positions[i] = met_allocate(game.of[i].features + 1, sizeof *positions[i]);
        status = positions[i] == NULL ? met_fail(MET_ENOMEM, "%zu features do not fit into memory", game.of[i].features)
                                      : ask(&game, i, positions[i]);
    }
    status = status == MET_OK ? met_game_evaluate(&game) : status;
    for (size_t i = 0; i < call->images && status == MET_OK; i++) {
        const size_t features = game.of[i].features;
        differences[i] = met_allocate(game.outputs * features, sizeof *differences[i]);
        if (differences[i] == NULL) {
            status = met_fail(MET_ENOMEM, "the differences of %zu features for %zu outputs do not fit into memory",
                              features, game.outputs);
        }
        for (size_t t = 0; t < game.outputs && status == MET_OK; t++) {
            for (size_t j = 0; j < features; j++) {
                differences[i][t * features + j] =
                    met_game_value(&game, i, positions[i][features], t) - met_game_value(&game, i, positions[i][j], t);
            }
        }
    }
    status = status == MET_OK ? met_game_spread(&game, differences, results) : status;
    for (size_t i = 0; i < call->images; i++) {
        met_deallocate(positions == NULL ? NULL : positions[i]);
        met_deallocate(differences == NULL ? NULL : differences[i]);
    }
    met_deallocate(positions);
    met_deallocate(differences);
    met_game_close(&game);
    return status;
}

static const met_argument arguments[] = {
    MET_GAME_ARGUMENTS(feature_ablation_options, game),
    {.name = NULL},
};

/* ---- in a tunnel */

static size_t evaluations(const met_call *call, const void *options) {
    const feature_ablation_options *o = options;
    return o->game.features[call->inputs[0].origin].count + 1;
}

static const met_nesting nesting = {.run = run, .evaluations = evaluations};

const met_method met_feature_ablation = {
    .name = "feature_ablation",
    .doc = "What the output loses when a feature takes the baseline's values, at each value of the feature.\n"
           "Source: Merrick, 2019 (arXiv:1910.00174), with a fixed replacement.",
    .arguments = arguments,
    .options = sizeof(feature_ablation_options),
    .baselines = true,
    .run = run,
    .nesting = &nesting,
};
