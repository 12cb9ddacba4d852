/*
 * game.c - coalitions of features: each is evaluated once, whatever asks for it.
 *
 * A run of the engine evaluates the coalitions that have no value yet, of all images together; their order is that in
 * which they were asked for.
 */
#include "game.h"

#include "run.h"

#include <math.h>
#include <string.h>

/* Up to so many new coalitions are put into order: it takes the square of their number. */
#define ORDERED ((size_t)2048)

/* ---- opening: what the features are, and what is known */

static const met_segments *features_of(const met_game *game, size_t image) {
    return &game->options->features[game->call->inputs[image].origin];
}

/* Spectra that dropped features take in turn: 0 where they take the baseline. */
static size_t backgrounds_of(const met_game *game, size_t image) {
    const met_table *tables = game->options->backgrounds;
    const met_table *of = tables == NULL ? NULL : &tables[game->call->inputs[image].origin];
    return of == NULL || of->data == NULL ? 0 : of->rows;
}

/* The input of an image, with a background as its baseline where there is one: a value for each band. */
static met_input input_of(const met_game *game, size_t image, size_t background) {
    met_input input = game->call->inputs[image];
    if (background < backgrounds_of(game, image)) {
        const met_table *of = &game->options->backgrounds[input.origin];
        input.baseline = (met_image){.data = (const double *)of->data + background * of->columns,
                                     .dtype = MET_FLOAT64,
                                     .bands = input.image.bands};
        memcpy(input.baseline.shape, input.image.shape, sizeof input.baseline.shape);
        input.baseline.strides[input.image.bands] = (ptrdiff_t)sizeof(double);
    }
    if (game->masked) {
        met_mask_baseline(&input, &game->call->inputs[image].baseline_value);
    }
    return input;
}

/* Spectra with a finite value for each band. */
static int check_backgrounds(const met_game *game, size_t image) {
    const met_input *input = &game->call->inputs[image];
    const size_t backgrounds = backgrounds_of(game, image), bands = input->image.shape[input->image.bands];
    const met_table *of = backgrounds == 0 ? NULL : &game->options->backgrounds[input->origin];
    if (of != NULL && of->columns != bands) {
        return met_fail(MET_ESHAPE, "backgrounds must have a value for each of %zu bands, not %zu", bands, of->columns);
    }
    for (size_t k = 0; k < backgrounds * bands && game->call->options->finite != MET_FINITE_IGNORE; k++) {
        if (!isfinite(((const double *)of->data)[k])) {
            return met_fail(MET_EVALUE, "background %zu holds NaN or infinity in band %zu", k / bands, k % bands);
        }
    }
    return MET_OK;
}

/* Which features differ from the baseline, or from any background; and the sums of the baseline where they are wanted. */
static int measure_image(met_game *game, size_t image, met_readable *readable) {
    const met_call *call = game->call;
    met_measures *m = &game->measures[image];
    const met_measures differs = {.differs = m->differs};
    const size_t backgrounds = backgrounds_of(game, image);
    int status = check_backgrounds(game, image);
    for (size_t b = 0; b < backgrounds + (m->image != NULL || backgrounds == 0) && status == MET_OK; b++) {
        met_base base;
        const met_input input = input_of(game, image, b);
        status = met_read_input(readable, &input, call->dtype, call->options->pool, &call->report->memory, &base);
        if (status == MET_OK) {
            met_measure(&base, features_of(game, image), b < backgrounds ? &differs : m);
        }
    }
    return status;
}

/* Memory for the values of all coalitions; those that are there stay. */
static int reserve_values(met_game *game, size_t image) {
    const met_coalitions *c = &game->of[image];
    met_game_values *v = &game->values[image];
    const size_t outputs = game->outputs;
    if (c->count <= v->capacity) {
        return MET_OK;
    }
    double *value = c->capacity > SIZE_MAX / outputs ? NULL : met_allocate(c->capacity * outputs, sizeof *value);
    if (value == NULL) {
        return met_fail(MET_ENOMEM, "%zu outputs of %zu coalitions do not fit into memory", outputs, c->capacity);
    }
    if (v->evaluated > 0) {
        memcpy(value, v->value, v->evaluated * outputs * sizeof *value);
    }
    met_deallocate(v->value);
    v->value = value;
    v->capacity = c->capacity;
    return MET_OK;
}

/* Outputs that are explained, as far as the options tell: 0 where all of a model's are. */
static size_t outputs_wanted(const met_game_options *o) {
    return o->outputs.count > 0 ? o->outputs.count : o->outputs.all ? 0 : 1;
}

/* Whether a table of known coalitions fits its values, the image and the outputs. */
static int check_known(const met_game *game, size_t image, const met_table *known, const met_table *values) {
    const size_t features = game->of[image].features;
    const size_t outputs = game->outputs > 0 ? game->outputs : outputs_wanted(game->options);
    if (values == NULL || values->data == NULL || values->rows != known->rows || values->columns == 0) {
        return met_fail(MET_EVALUE, "every known coalition needs its known values");
    }
    if (known->columns != features) {
        return met_fail(MET_EVALUE, "known coalitions are of %zu features, the image has %zu", known->columns,
                        features);
    }
    return outputs == 0 || values->columns == outputs
               ? MET_OK
               : met_fail(MET_EVALUE, "known values are of %zu outputs, %zu are explained", values->columns, outputs);
}

/* Take over the values of an earlier run; of equal coalitions the first counts. */
static int read_known(met_game *game, size_t image) {
    met_coalitions *c = &game->of[image];
    met_game_values *v = &game->values[image];
    const size_t origin = game->call->inputs[image].origin;
    if (game->options->known == NULL || game->options->known[origin].data == NULL) {
        return MET_OK;
    }
    const met_table *known = &game->options->known[origin];
    const met_table *values = game->options->known_values == NULL ? NULL : &game->options->known_values[origin];
    int status = check_known(game, image, known, values);
    if (status != MET_OK) {
        return status;
    }
    game->outputs = values->columns;
    for (size_t r = 0; r < known->rows && status == MET_OK; r++) {
        size_t position;
        bool is_new = false;
        memcpy(v->asked, v->inert, c->words * sizeof *v->asked);
        for (size_t j = 0; j < c->features; j++) {
            if (((const uint8_t *)known->data)[r * c->features + j] != 0) {
                met_coalition_set(v->asked, j, true);
            }
        }
        status = met_coalitions_add(c, v->asked, &position, &is_new);
        status = status == MET_OK ? reserve_values(game, image) : status;
        if (status == MET_OK && is_new) {
            memcpy(v->value + position * game->outputs, (const double *)values->data + r * game->outputs,
                   game->outputs * sizeof *v->value);
            v->evaluated = c->count;
        }
    }
    return status;
}

/* What is known of an image before any coalition is asked for. */
static int open_image(met_game *game, size_t image, met_readable *readable, bool sums) {
    const met_call *call = game->call;
    const met_segments *features = features_of(game, image);
    met_coalitions *c = &game->of[image];
    met_game_values *v = &game->values[image];
    if (features->ids == NULL || features->count == 0) {
        return met_fail(MET_EVALUE, "image %zu has no feature", call->inputs[image].origin);
    }
    *c = met_coalitions_of(features->count);
    v->inert = met_allocate(2 * c->words, sizeof *v->inert);
    v->asked = v->inert == NULL ? NULL : v->inert + c->words;
    int status = v->inert == NULL
                     ? met_fail(MET_ENOMEM, "a coalition of %zu features does not fit into memory", c->features)
                     : met_measures_new(c->features + 1, sums, &game->measures[image]);
    status = status == MET_OK ? measure_image(game, image, readable) : status;
    if (status == MET_OK) {
        for (size_t j = 0; j < c->features; j++) {
            met_coalition_set(v->inert, j, game->measures[image].differs[j + 1] == 0);
        }
        status = met_segments_of_bands(&call->inputs[image].image, features, &game->of_band[image]);
        game->by_band = game->by_band && game->of_band[image] != NULL;
    }
    return status == MET_OK ? read_known(game, image) : status;
}

int met_game_open(met_game *game, const met_call *call, const met_game_options *options, unsigned how) {
    *game = (met_game){.call = call, .options = options, .images = call->images, .by_band = true};
    game->masked = (how & MET_GAME_MASKED) != 0;
    game->differences = (how & MET_GAME_DIFFERENCES) != 0;
    met_readable readable = {0};
    game->of = met_allocate(call->images, sizeof *game->of);
    game->values = met_allocate(call->images, sizeof *game->values);
    game->measures = met_allocate(call->images, sizeof *game->measures);
    game->of_band = met_allocate(call->images, sizeof *game->of_band);
    size_t jobs = 0;
    for (size_t i = 0; i < call->images; i++) {
        jobs += backgrounds_of(game, i) > 0 ? backgrounds_of(game, i) : 1;
    }
    game->pending = met_allocate(jobs, sizeof *game->pending);
    game->counts = met_allocate(jobs, sizeof *game->counts);
    game->inputs = met_allocate(jobs, sizeof *game->inputs);
    game->raw = met_allocate(jobs, sizeof *game->raw);
    if (!game->of || !game->values || !game->measures || !game->of_band || !game->pending || !game->counts ||
        !game->inputs || !game->raw) {
        return met_fail(MET_ENOMEM, "%zu images do not fit into memory", call->images);
    }
    int status = options->features == NULL ? met_fail(MET_EVALUE, "there are no features") : MET_OK;
    for (size_t i = 0; i < call->images && status == MET_OK; i++) {
        status = open_image(game, i, &readable, (how & MET_GAME_SUMS) != 0);
    }
    met_readable_free(&readable);
    return status;
}

void met_game_close(met_game *game) {
    for (size_t i = 0; i < game->images && game->of != NULL; i++) {
        met_coalitions_free(&game->of[i]);
    }
    for (size_t i = 0; i < game->images && game->values != NULL; i++) {
        met_deallocate(game->values[i].value);
        met_deallocate(game->values[i].inert);
        met_deallocate(game->values[i].order);
    }
    for (size_t i = 0; i < game->images && game->measures != NULL; i++) {
        met_measures_free(&game->measures[i]);
    }
    for (size_t i = 0; i < game->images && game->of_band != NULL; i++) {
        met_deallocate(game->of_band[i]);
    }
    met_deallocate(game->of);
    met_deallocate(game->values);
    met_deallocate(game->measures);
    met_deallocate(game->of_band);
    met_deallocate(game->pending);
    met_deallocate(game->counts);
    met_deallocate(game->inputs);
    met_deallocate(game->raw);
    met_deallocate(game->explained.position);
    *game = (met_game){0};
}

/* ---- asking */

int met_game_ask(met_game *game, size_t image, const uint64_t *bits, size_t *position) {
    met_coalitions *c = &game->of[image];
    const met_game_values *v = &game->values[image];
    bool is_new = false;
    for (size_t w = 0; w < c->words; w++) {
        v->asked[w] = bits[w] | v->inert[w];
    }
    const int status = met_coalitions_add(c, v->asked, position, &is_new);
    game->call->report->evaluations_saved += status == MET_OK && !is_new;
    return status;
}

void met_game_forget(met_game *game, size_t image, size_t keep) {
    met_coalitions_keep(&game->of[image], keep);
    game->values[image].evaluated = met_min_size(game->values[image].evaluated, keep);
}

/* ---- evaluating: a run of the engine over the images that have new coalitions */

/* The order in which the new coalitions of an image are evaluated; as asked for where no other is worth it, or cheap. */
static void order_new(met_game *game, size_t image) {
    const met_coalitions *c = &game->of[image];
    met_game_values *v = &game->values[image];
    const size_t count = c->count - v->evaluated;
    met_deallocate(v->order);
    v->order = c->words == 1 && count <= ORDERED && !game->differences ? met_allocate(count, sizeof *v->order) : NULL;
    if (v->order != NULL) {
        met_coalitions_order(c, v->evaluated, v->order);
    }
}

/* Which of the new coalitions of an image of the game is evaluated k-th. */
static size_t new_at(const met_game *game, size_t image, size_t k) {
    const size_t *order = game->values[image].order;
    return order != NULL ? order[k] : k;
}

/* The flags have a place before the first one, for values without a feature. */
static int describe(void *method, size_t image, size_t k, met_sample *s) {
    const met_game *game = method;
    const size_t of = game->pending[image];
    const met_coalitions *c = &game->of[of];
    const uint64_t *bits = c->bits + (game->values[of].evaluated + new_at(game, of, k)) * c->words;
    bool whole = true;
    if (game->by_band) {
        const met_image *view = &game->inputs[image].image;
        for (size_t b = 0; b < view->shape[view->bands]; b++) {
            const int32_t id = game->of_band[of][b];
            s->scratch[b] = id >= 0 && !met_coalition_has(bits, (size_t)id);
            whole = whole && !s->scratch[b];
        }
        s->replaced = s->scratch;
    } else {
        s->scratch[0] = 0;
        for (size_t j = 0; j < c->features; j++) {
            s->scratch[j + 1] = !met_coalition_has(bits, j);
            whole = whole && !s->scratch[j + 1];
        }
        s->replaced = s->scratch + 1;
        s->segments = features_of(game, of);
    }
    s->kind = whole ? MET_IDENTITY : s->kind;
    return MET_OK;
}

/* The first result tells how many outputs there are, and where the explained ones lie. */
static int read_outputs(met_game *game, const met_result *r) {
    const int status = met_explained_read(&game->options->outputs, r, &game->explained);
    if (status == MET_OK && game->outputs > 0 && game->outputs != game->explained.count) {
        return met_fail(MET_EVALUE, "the model gives %zu outputs to explain, what is known has %zu",
                        game->explained.count, game->outputs);
    }
    game->width = r->width;
    game->outputs = status == MET_OK ? game->explained.count : game->outputs;
    return status;
}

static int fold(void *method, const met_result *r) {
    met_game *game = method;
    double **raw = &game->raw[r->image];
    bool first = false;
    int status = game->explained.position == NULL ? read_outputs(game, r) : MET_OK;
    if (status == MET_OK && r->width != game->width) {
        status = met_fail(MET_EMODEL, "the model gave %zu outputs for one sample and %zu for another", game->width,
                          r->width);
    }
    if (status == MET_OK && *raw == NULL) {
        const size_t count = game->counts[r->image];
        *raw = count >= SIZE_MAX / game->outputs ? NULL : met_allocate((count + 1) * game->outputs, sizeof **raw);
        status = *raw == NULL ? met_fail(MET_ENOMEM, "%zu outputs of %zu coalitions do not fit into memory",
                                         game->outputs, count)
                              : MET_OK;
        first = true;
    }
    for (size_t t = 0; t < game->outputs && status == MET_OK; t++) {
        const size_t position = game->explained.position[t];
        double *image = &(*raw)[game->counts[r->image] * game->outputs + t];
        double shift = 0; /* what rounding in calls of another size made of the image */
        if (r->reference != NULL) {
            *image = first ? r->reference[position] : *image;
            shift = isfinite(*image) && isfinite(r->reference[position]) ? *image - r->reference[position] : 0;
        }
        (*raw)[new_at(game, game->pending[r->image], r->k) * game->outputs + t] = r->value[position] + shift;
    }
    return status;
}

/* The images that have new coalitions, each with all its backgrounds. */
static void fill_job(met_game *game, met_job *job) {
    job->images = 0;
    job->evaluations = 0;
    for (size_t i = 0; i < game->images; i++) {
        const met_coalitions *c = &game->of[i];
        const met_image *view = &game->call->inputs[i].image;
        const size_t count = c->count - game->values[i].evaluated;
        const size_t scratch = game->by_band ? view->shape[view->bands] : c->features + 1;
        if (count > 0) {
            order_new(game, i);
        }
        const size_t jobs = count == 0 ? 0 : backgrounds_of(game, i) > 0 ? backgrounds_of(game, i) : 1;
        for (size_t b = 0; b < jobs; b++) {
            game->pending[job->images] = i;
            game->counts[job->images] = count;
            game->inputs[job->images++] = input_of(game, i, b);
        }
        job->evaluations = count > job->evaluations ? count : job->evaluations;
        job->scratch = scratch > job->scratch ? scratch : job->scratch;
    }
}

/* The mean over backgrounds becomes the value of each new coalition. */
static int read_values(met_game *game, size_t jobs) {
    int status = MET_OK;
    for (size_t j = 0; j < jobs && status == MET_OK;) {
        const size_t image = game->pending[j], size = game->counts[j] * game->outputs;
        met_game_values *v = &game->values[image];
        status = reserve_values(game, image);
        if (status != MET_OK) {
            break;
        }
        double *value = v->value + v->evaluated * game->outputs;
        memcpy(value, game->raw[j], size * sizeof *value);
        size_t n = 1;
        for (; j + n < jobs && game->pending[j + n] == image; n++) {
            for (size_t k = 0; k < size; k++) {
                value[k] += (game->raw[j + n][k] - value[k]) / (double)(n + 1);
            }
        }
        v->evaluated = game->of[image].count;
        j += n;
    }
    return status;
}

void met_game_expect(met_game *game, size_t image, size_t coalitions) {
    const size_t backgrounds = backgrounds_of(game, image) > 0 ? backgrounds_of(game, image) : 1;
    if (coalitions <= (SIZE_MAX - game->expected) / backgrounds) {
        game->expected += coalitions * backgrounds;
    }
}

int met_game_tell(const met_game *game, bool finished) {
    const met_options *o = game->call->options;
    const size_t later = finished || game->expected < game->done ? 0 : game->expected - game->done;
    const size_t done = o->evaluations_before + game->done;
    return o->progress == NULL ? MET_OK : o->progress(o->progress_ctx, done, done + later + o->evaluations_after);
}

int met_game_evaluate(met_game *game) {
    const met_targets *wanted = &game->options->outputs;
    met_job job = met_job_of(game->call, game);
    met_options options = *game->call->options;
    fill_job(game, &job);
    if (job.images == 0) {
        return MET_OK;
    }
    job.inputs = game->inputs;
    job.counts = game->counts;
    job.kind = game->by_band ? MET_BANDS : MET_SEGMENTS;
    job.reference = game->differences;
    job.describe = describe;
    job.fold = fold;
    job.all_outputs = wanted->all || wanted->count > 0;
    const size_t planned = game->done + job.images * job.evaluations;
    options.evaluations_before += game->done;
    options.evaluations_after += game->expected > planned ? game->expected - planned : 0;
    int status = met_run(&job, game->call->model, &options, game->call->report);
    status = status == MET_OK ? read_values(game, job.images) : status;
    for (size_t j = 0; j < job.images; j++) {
        met_deallocate(game->raw[j]);
        game->raw[j] = NULL;
    }
    game->done = planned;
    return status;
}

/* ---- results */

/* Whether numbers are finite as the dtype of the results. */
static bool all_finite(const double *numbers, size_t count, met_dtype dtype) {
    bool finite = true;
    for (size_t i = 0; i < count; i++) {
        finite = finite && (dtype == MET_FLOAT64 ? isfinite(numbers[i]) : isfinite((float)numbers[i]));
    }
    return finite;
}

int met_game_spread(const met_game *game, double *const *per_feature, met_results *results) {
    const met_call *call = game->call;
    /* Where all is known no result has told a shape: there is one output, or as many as are known. */
    const met_explained known = {.count = game->outputs};
    int status = met_results_open(results, game->explained.count > 0 ? &game->explained : &known);
    bool finite = true;
    for (size_t i = 0; i < game->images && status == MET_OK; i++) {
        const size_t features = game->of[i].features;
        finite = finite && all_finite(per_feature[i], game->outputs * features, call->dtype);
        for (size_t t = 0; t < game->outputs; t++) {
            met_segments_spread(&call->inputs[i].image, features_of(game, i), per_feature[i] + t * features,
                                call->dtype, call->options->pool, results->out[i * game->outputs + t]);
        }
    }
    results->known_finite = status == MET_OK && finite;
    return status;
}

size_t met_game_players(const met_game *game, size_t image, size_t *feature) {
    size_t count = 0;
    for (size_t j = 0; j < game->of[image].features; j++) {
        if (game->measures[image].differs[j + 1]) {
            feature[count++] = j;
        }
    }
    return count;
}

int met_game_put(const met_game *game, met_results *results) {
    int status = MET_OK;
    for (size_t i = 0; i < game->images && status == MET_OK && results->table != NULL; i++) {
        const met_coalitions *c = &game->of[i];
        const size_t evaluated = game->values[i].evaluated;
        uint8_t *flags = met_allocate(evaluated * c->features, 1);
        if (flags == NULL) {
            return met_fail(MET_ENOMEM, "%zu coalitions of %zu features do not fit into memory", evaluated,
                            c->features);
        }
        for (size_t k = 0; k < evaluated; k++) {
            for (size_t j = 0; j < c->features; j++) {
                flags[k * c->features + j] = met_coalition_has(c->bits + k * c->words, j);
            }
        }
        status = met_results_put(results, i, "coalitions", MET_UINT8, 2, (size_t[]){evaluated, c->features}, flags);
        if (status == MET_OK) {
            status = met_results_put(results, i, "values", MET_FLOAT64, 2, (size_t[]){evaluated, game->outputs},
                                     game->values[i].value);
        }
        met_deallocate(flags);
    }
    return status;
}
