/*
 * game.h - coalitions of an image's features, and what the model says of them.
 *
 * A coalition is a set of features that keep the image's values; the others take the baseline's. The game of an image is
 * the function from coalitions to outputs. Methods ask for coalitions, have those evaluated that are new, and read the
 * outputs: a coalition is evaluated once, however often it is asked for.
 */
#ifndef MET_GAME_H
#define MET_GAME_H

#include "coalitions.h"
#include "measures.h"
#include "method.h"

/* What the model said of the coalitions of one image. */
typedef struct met_game_values {
    double *value; /* (capacity, outputs); read up to `evaluated` */
    size_t evaluated;
    size_t capacity;
    uint64_t *inert; /* (words,) features that hold the baseline's values anyhow */
    uint64_t *asked; /* (words,) the coalition that is asked for, with those */
    size_t *order;   /* (new ones,) of a run: which of the new coalitions comes k-th; NULL: as they were asked for */
} met_game_values;

/* What a method gives to open its game. Fields are arguments of the method, so that all games share them. */
typedef struct met_game_options {
    const met_segments *features;  /* (images,) */
    met_targets outputs;           /* explained instead of the target of each input, where there are any */
    const met_table *known;        /* coalitions of an earlier run, (rows, features) flags; NULL: none */
    const met_table *known_values; /* (rows, outputs) what the model said of them */
    /*
     * (spectra, bands) doubles: the value of a coalition is the mean over spectra of the output where the other features
     * take that spectrum. NULL: they take the baseline of the call, which is still what distances are measured to.
     */
    const met_table *backgrounds;
} met_game_options;

typedef struct met_game {
    const met_call *call;
    const met_game_options *options;
    size_t images;
    bool masked;
    bool differences;
    met_coalitions *of;      /* (images,) those that were asked for */
    met_game_values *values; /* (images,) */
    met_measures *measures;  /* (images,) */
    bool by_band;            /* all features are made of whole bands */
    int32_t **of_band;       /* (images,) the feature of each band where they are */
    size_t outputs;          /* explained; 0: not known yet */
    size_t width;            /* outputs that the model gives; 0: not known yet */
    met_explained explained; /* where they lie; empty as long as the model said nothing */
    size_t done;             /* evaluations of earlier runs, for progress */
    size_t expected;         /* evaluations in all, at most, where runs follow each other; see met_game_expect() */
    /* Of a run: an image of the engine's job is an image of the game with one of its backgrounds. */
    size_t *pending; /* (jobs,) which image; jobs = the sum over images of their backgrounds, 1 where there are none */
    size_t *counts;  /* (jobs,) */
    met_input *inputs; /* (jobs,) */
    double **raw;      /* (jobs,) (counts + 1, outputs); at last what the image itself gave first */
} met_game;

/* Entries of a method's table of arguments; `game` is the field of its options that holds met_game_options. */
#define MET_GAME_ARGUMENTS(options_type, game) \
    {"features", MET_FEATURES, .offset = offsetof(options_type, game.features)}, \
        {"outputs", MET_TARGETS, .offset = offsetof(options_type, game.outputs)}, \
        {"known_coalitions", MET_FLAG_TABLES, .offset = offsetof(options_type, game.known)}, \
        {"known_values", MET_NUMBER_TABLES, .offset = offsetof(options_type, game.known_values)}, { \
        "backgrounds", MET_NUMBER_TABLES, .offset = offsetof(options_type, game.backgrounds) \
    }

/*
 * How a method plays: with all measures, not only which features differ; values under the image's mask stay 0; values are
 * compared with that of all features, which it asks for first, so that rounding which they share is taken off.
 */
enum { MET_GAME_SUMS = 1, MET_GAME_MASKED = 2, MET_GAME_DIFFERENCES = 4 };

/* Look at the images of a call and take over what is known of them. met_game_close() is due either way. */
int met_game_open(met_game *game, const met_call *call, const met_game_options *options, unsigned how);
void met_game_close(met_game *game);

/*
 * Ask for a coalition of an image, (words,) bits without any beyond its features; *position is where its value will be.
 * Features that hold the baseline's values anyhow count as kept, so that equal samples are one.
 */
int met_game_ask(met_game *game, size_t image, const uint64_t *bits, size_t *position);
/* Evaluate what was asked for and has no value yet. */
int met_game_evaluate(met_game *game);
/* Before the first of several runs: an image will ask for at most so many coalitions in all. For progress alone. */
void met_game_expect(met_game *game, size_t image, size_t coalitions);
/* Tell that so much is done for now, and at last, that no more will follow. Non-zero stops the run. */
int met_game_tell(const met_game *game, bool finished);
/* The value of an evaluated coalition for an explained output. */
static inline double met_game_value(const met_game *game, size_t image, size_t position, size_t output) {
    return game->values[image].value[position * game->outputs + output];
}
/* Forget the coalitions of an image but for the first `keep`: they are evaluated again where they are asked for. */
void met_game_forget(met_game *game, size_t image, size_t keep);

/*
 * Find memory for the results and write, for every image and output, the number of its feature at each value and 0
 * elsewhere.
 *   per_feature  (outputs, features) of each image
 */
int met_game_spread(const met_game *game, double *const *per_feature, met_results *results);
/* feature (features,) = those that differ from the baseline: the players of the game. How many there are. */
size_t met_game_players(const met_game *game, size_t image, size_t *feature);
/* Hand the evaluated coalitions to the host: "coalitions" (rows, features) flags and "values" (rows, outputs). */
int met_game_put(const met_game *game, met_results *results);

#endif
