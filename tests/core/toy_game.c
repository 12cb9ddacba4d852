#include "toy_game.h"

#include "check.h"

#include <stdlib.h>
#include <string.h>

static double ones[GAME_PLAYERS];

static int forward(void *ctx, met_batch *x, met_outputs *y) {
    toy_game *g = ctx;
    const size_t width = y->targets != NULL ? 1 : g->outputs - (g->calls + 1 == g->narrow_at);
    g->calls++;
    g->samples += x->n;
    g->largest = x->n > g->largest ? x->n : g->largest;
    int status = y->reserve(y, width);
    if (y->targets == NULL) {
        y->axes = 1;
        y->shape[0] = (int64_t)width;
    }
    for (size_t i = 0; i < x->n && status == MET_OK; i++) {
        const double *z = (const double *)x->data + i * g->players;
        for (size_t o = 0; o < width && status == MET_OK; o++) {
            const int64_t shape[1] = {(int64_t)g->outputs};
            size_t output = o;
            status = y->targets == NULL ? MET_OK : met_target_resolve(y->targets[i], shape, 1, &output);
            y->value[i * width + o] = status == MET_OK ? g->value(g->ctx, z, g->players, output) : 0;
        }
    }
    return status;
}

void toy_game_init(toy_game *g, size_t players, size_t outputs, toy_game_value value, const void *ctx) {
    *g = (toy_game){.value = value, .ctx = ctx, .players = players, .outputs = outputs};
    g->model = (met_model){.ctx = g, .forward = forward};
    for (size_t i = 0; i < GAME_PLAYERS; i++) {
        ones[i] = 1;
        g->ids[i] = (int32_t)i;
    }
    g->segments = (met_segments){g->ids, {1, 0, 0}, players};
    g->input = (met_input){.image = {.data = ones, .dtype = MET_FLOAT64, .shape = {players, 1, 1}}};
    for (int a = 0; a < MET_AXES; a++) {
        g->input.image.strides[a] = sizeof(double);
    }
    g->input.target.axes = 1;
}

double toy_game_table(const void *ctx, const double *z, size_t players, size_t output) {
    const toy_table *table = ctx;
    size_t s = 0;
    for (size_t i = 0; i < players; i++) {
        s |= (size_t)(z[i] != 0) << i;
    }
    return table->v[s * table->outputs + output];
}

static double single(size_t i, size_t output) {
    return 3 * toy_value(40 + output, i);
}

static double pair(size_t i, size_t j, size_t output) {
    return 2 * toy_value(50 + output, 1000 * i + j);
}

double toy_game_order_two(const void *ctx, const double *z, size_t players, size_t output) {
    double sum = 0.75;
    (void)ctx;
    for (size_t i = 0; i < players; i++) {
        sum += single(i, output) * z[i];
        for (size_t j = i + 1; j < players; j++) {
            sum += pair(i, j, output) * z[i] * z[j];
        }
    }
    return sum;
}

void toy_game_order_two_values(size_t players, size_t output, double *values) {
    for (size_t i = 0; i < players; i++) {
        values[i] = single(i, output);
        for (size_t j = 0; j < players; j++) {
            values[i] += j == i ? 0 : pair(i < j ? i : j, i < j ? j : i, output) / 2;
        }
    }
}

/* Add what each player brings in every order that begins with those in `joined`. */
static void add_orders(size_t players, const double *v, size_t joined, double share, double *values) {
    size_t left = 0;
    for (size_t i = 0; i < players; i++) {
        left += !(joined >> i & 1);
    }
    for (size_t i = 0; i < players; i++) {
        if (!(joined >> i & 1)) {
            const size_t with = joined | (size_t)1 << i;
            values[i] += share / (double)left * (v[with] - v[joined]);
            add_orders(players, v, with, share / (double)left, values);
        }
    }
}

void toy_game_shapley(size_t players, const double *v, double *values) {
    memset(values, 0, players * sizeof *values);
    add_orders(players, v, 0, 1, values);
}

/* ---- a host */

void *toy_field(const met_method *method, toy_options *options, const char *name) {
    for (const met_argument *a = method->arguments; a->name != NULL; a++) {
        if (strcmp(a->name, name) == 0 && a->offset < sizeof options->bytes) {
            return options->bytes + a->offset;
        }
    }
    check_true(false, name, __FILE__, __LINE__);
    abort(); /* a test that names what is not there */
}

static int reserve(met_results *self, size_t outputs) {
    toy_host *h = (toy_host *)self;
    for (size_t i = 0; i < h->images * self->outputs; i++) {
        free(self->out[i]);
    }
    free(self->out);
    self->outputs = outputs;
    self->out = calloc(h->images * outputs, sizeof *self->out);
    for (size_t i = 0; i < h->images * outputs; i++) {
        self->out[i] = calloc(h->size, sizeof(double));
    }
    return MET_OK;
}

static int new_table(met_results *self, size_t image, const char *name, met_dtype dtype, int axes, const size_t *shape,
                     void **out) {
    toy_host *h = (toy_host *)self;
    size_t size = met_dtype_size(dtype);
    if (h->count == sizeof h->table / sizeof *h->table) {
        return met_fail(MET_ENOMEM, "no place for %s", name);
    }
    h->table[h->count].image = image;
    h->table[h->count].name = name;
    for (int a = 0; a < axes; a++) {
        h->table[h->count].shape[a] = shape[a];
        size *= shape[a];
    }
    *out = h->table[h->count++].data = calloc(1, size > 0 ? size : 1);
    return MET_OK;
}

void toy_host_init(toy_host *h, size_t images, size_t size) {
    *h = (toy_host){.images = images, .size = size, .results = {.reserve = reserve, .table = new_table}};
    reserve(&h->results, 1);
}

void toy_host_free(toy_host *h) {
    reserve(&h->results, 0);
    free(h->results.out);
    for (size_t t = 0; t < h->count; t++) {
        free(h->table[t].data);
    }
    *h = (toy_host){0};
}

static size_t find_table(const toy_host *h, size_t image, const char *name) {
    size_t t = 0;
    while (t < h->count && (h->table[t].image != image || strcmp(h->table[t].name, name) != 0)) {
        t++;
    }
    return t;
}

const void *toy_host_table(const toy_host *h, size_t image, const char *name) {
    const size_t t = find_table(h, image, name);
    return t < h->count ? h->table[t].data : NULL;
}

const size_t *toy_host_shape(const toy_host *h, size_t image, const char *name) {
    const size_t t = find_table(h, image, name);
    return t < h->count ? h->table[t].shape : NULL;
}

int toy_host_run(const met_method *method, const met_input *inputs, size_t images, const toy_options *options,
                 const met_model *model, const met_options *run, toy_host *h, met_report *report) {
    const met_call call = {inputs, images, MET_FLOAT64, model, run, report};
    return met_method_run(method, &call, options->bytes, &h->results);
}

void toy_host_run_without_memory(const met_method *method, const met_input *inputs, size_t images, size_t size,
                                 const toy_options *options, const met_model *model, long most) {
    const met_options run = {.max_batch_size = 3};
    int status = MET_ENOMEM;
    long ration = 0;
    toy_ration_memory();
    for (; status != MET_OK && ration < most; ration++) {
        toy_host h;
        met_report report = {0};
        toy_host_init(&h, images, size);
        toy_allocations_left = ration;
        status = toy_host_run(method, inputs, images, options, model, &run, &h, &report);
        CHECK(status == MET_OK || status == MET_ENOMEM);
        CHECK_INT(toy_allocations_alive, 0);
        CHECK_INT(report.memory.bytes, 0);
        toy_host_free(&h);
    }
    CHECK_INT(status, MET_OK);
    CHECK(ration > 8);
    met_set_allocator(NULL, NULL);
}
