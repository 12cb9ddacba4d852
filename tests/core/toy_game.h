/* Games whose values are known: a model that reads coalitions straight off its input, and what a host needs to run a
 * method on it: options by name, and memory for the tables of results. */
#ifndef METEORS_C_TESTS_TOY_GAME_H
#define METEORS_C_TESTS_TOY_GAME_H

#include "game.h"
#include "toy_model.h"

#define GAME_PLAYERS 1100

extern const met_method met_feature_ablation, met_lime, met_kernel_shap, met_shapley_sampling;

/* Output `output` for the players' values z, 1 where a player keeps the image's value and 0 where it is replaced. */
typedef double (*toy_game_value)(const void *ctx, const double *z, size_t players, size_t output);

/* An image of (players, 1, 1) values of 1 with a baseline of 0; each band is a player. */
typedef struct toy_game {
    met_model model;
    toy_game_value value;
    const void *ctx;
    size_t players;
    size_t outputs;
    size_t calls;
    size_t samples;
    size_t largest;
    size_t narrow_at; /* the call that leaves an output out, counted from 1 */
    int32_t ids[GAME_PLAYERS];
    met_segments segments;
    met_input input;
} toy_game;

void toy_game_init(toy_game *g, size_t players, size_t outputs, toy_game_value value, const void *ctx);

/* Games of any values; ctx is a table of them. */
typedef struct toy_table {
    size_t outputs;
    const double *v; /* (2^players, outputs) by bits */
} toy_table;
double toy_game_table(const void *ctx, const double *z, size_t players, size_t output);
/* sum_i c_i z_i + sum_{i < j} q_ij z_i z_j, both from toy_value(); output o has other numbers. */
double toy_game_order_two(const void *ctx, const double *z, size_t players, size_t output);
/* The Shapley values of that, by hand. */
void toy_game_order_two_values(size_t players, size_t output, double *values);
/* Shapley values from the values (2^players,) of all coalitions by definition: the mean over all orders. */
void toy_game_shapley(size_t players, const double *v, double *values);

/* Options of any method, and the field that an argument of it is read into. */
typedef union toy_options {
    double aligned;
    uint8_t bytes[512];
} toy_options;

void *toy_field(const met_method *method, toy_options *options, const char *name);
#define TOY_SET(method, options, name, type, value) (*(type *)toy_field(&(method), &(options), name) = (value))

/* A host: memory for attributions of as many outputs as there are, and for the tables of results. */
typedef struct toy_host {
    met_results results; /* first: the core hands back a pointer to it */
    size_t images;
    size_t size;
    size_t count;
    struct {
        size_t image;
        const char *name;
        size_t shape[3];
        void *data;
    } table[64];
} toy_host;

/* Attributions of `images` images of `size` doubles each. */
void toy_host_init(toy_host *h, size_t images, size_t size);
void toy_host_free(toy_host *h);
/* A table by its name, NULL where there is none. */
const void *toy_host_table(const toy_host *h, size_t image, const char *name);
const size_t *toy_host_shape(const toy_host *h, size_t image, const char *name);

int toy_host_run(const met_method *method, const met_input *inputs, size_t images, const toy_options *options,
                 const met_model *model, const met_options *run, toy_host *h, met_report *report);
/* The same with every allocation of the core failing in turn: an error each time and nothing lost, success at last. */
void toy_host_run_without_memory(const met_method *method, const met_input *inputs, size_t images, size_t size,
                                 const toy_options *options, const met_model *model, long most);

#endif
