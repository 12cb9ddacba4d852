#include "toy_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double toy_value(size_t s, size_t i) {
    uint32_t words[4];
    met_philox((met_stream){7, s}, i, words);
    return (double)words[0] / 2147483648.0 - 1.0;
}

static double at(const met_batch *x, size_t sample, size_t i) {
    size_t position = sample * TOY_SIZE + i;
    return x->dtype == MET_FLOAT64 ? ((const double *)x->data)[position] : (double)((const float *)x->data)[position];
}

static void stem(const toy *t, const met_batch *x, size_t sample, double z[TOY_FEATURES]) {
    for (size_t j = 0; j < TOY_FEATURES; j++) {
        z[j] = 0;
        for (size_t i = 0; i < TOY_SIZE; i++) {
            z[j] += t->a[j][i] * at(x, sample, i);
        }
    }
}

/* What a batch does to the features of each of its samples: z becomes scale z - shift. */
typedef struct company {
    double scale;
    double shift[TOY_FEATURES];
} company;

static company company_of(const toy *t, const met_batch *x) {
    company c = {.scale = 1};
    if (t->coupling == TOY_DIVIDES || t->coupling == TOY_DIVIDES_BY_BAND) {
        const size_t values = t->coupling == TOY_DIVIDES ? TOY_SIZE : TOY_SIZE / 3;
        double largest = 0;
        for (size_t i = 0; i < x->n * values; i++) {
            largest = fmax(largest, fabs(at(x, i / values, i % values)));
        }
        c.scale = 1 / largest;
    }
    const double part = t->coupling == TOY_SHIFTS ? 0.5 : t->coupling == TOY_CENTERS ? 1 : 0;
    for (size_t s = 0; s < x->n && part > 0; s++) {
        double z[TOY_FEATURES];
        stem(t, x, s, z);
        for (size_t j = 0; j < TOY_FEATURES; j++) {
            c.shift[j] += part * z[j] / (double)x->n;
        }
    }
    c.scale *= t->rounds ? 1 + 1e-4 * (double)x->n : 1;
    return c;
}

static void features(const toy *t, const met_batch *x, const company *c, size_t sample, double z[TOY_FEATURES]) {
    stem(t, x, sample, z);
    for (size_t s = 0; s < sample && t->coupling == TOY_FOLLOWS; s++) {
        double before[TOY_FEATURES];
        stem(t, x, s, before);
        for (size_t j = 0; j < TOY_FEATURES; j++) {
            z[j] += 0.3 * before[j];
        }
    }
    for (size_t j = 0; j < TOY_FEATURES; j++) {
        z[j] *= t->cuts && at(x, sample, 0) < t->cut ? 0 : 1;
        z[j] *= t->coupling == TOY_NUMBERS ? 1 + (double)sample : 1;
        z[j] = c->scale * z[j] - c->shift[j];
        z[j] += t->random ? 1e-2 * toy_value(1000 + t->calls, sample * TOY_FEATURES + j) : 0;
    }
}

/* A float64 image as a batch of its own. */
static met_batch alone(const double *x) {
    return (met_batch){.dtype = MET_FLOAT64, .n = 1, .shape = TOY_SHAPE, .data = (void *)x};
}

void toy_features(const toy *t, const double *x, double z[TOY_FEATURES]) {
    const met_batch batch = alone(x);
    const company c = company_of(t, &batch);
    features(t, &batch, &c, 0, z);
}

void toy_gradient(const toy *t, const double *x, size_t target, double out[TOY_SIZE]) {
    const met_batch batch = alone(x);
    const company c = company_of(t, &batch);
    double z[TOY_FEATURES];
    features(t, &batch, &c, 0, z);
    for (size_t i = 0; i < TOY_SIZE; i++) {
        out[i] = 0;
        for (size_t j = 0; j < TOY_FEATURES; j++) {
            out[i] += c.scale * (double)(target + 1 + j) * z[j] * t->a[j][i];
        }
    }
}

double toy_output(const double z[TOY_FEATURES], size_t target) {
    double sum = 0;
    for (size_t j = 0; j < TOY_FEATURES; j++) {
        sum += (double)(target + 1 + j) * z[j] * z[j] / 2;
    }
    return sum;
}

static int answer(const toy *t, met_outputs *y, size_t i, const double z[TOY_FEATURES], size_t *target) {
    static const int64_t shape[1] = {TOY_OUTPUTS};
    int status = y->value != NULL ? MET_OK : y->reserve(y, y->targets != NULL ? 1 : TOY_OUTPUTS);
    if (status != MET_OK) {
        return status;
    }
    const double more = t->offset * (double)y->n;
    if (y->targets == NULL) {
        y->axes = 1;
        y->shape[0] = TOY_OUTPUTS;
        for (size_t k = 0; k < TOY_OUTPUTS; k++) {
            y->value[i * TOY_OUTPUTS + k] = toy_output(z, k) + more;
        }
        return MET_OK;
    }
    status = met_target_resolve(y->targets[i], shape, 1, target);
    if (status == MET_OK) {
        y->value[i] = toy_output(z, *target) + more;
    }
    return status;
}

/* What every call does besides its work. */
static int enter(toy *t, size_t n) {
    t->calls++;
    t->drawn += t->draws;
    t->samples += n;
    t->largest = n > t->largest ? n : t->largest;
    return t->calls == t->fail_at ? MET_ECALLBACK : MET_OK;
}

static void work(double seconds) {
    const double start = met_seconds();
    while (seconds > 0 && met_seconds() - start < seconds) {}
}

static bool is_poisoned(const toy *t, const met_batch *x, size_t sample) {
    return t->poisoned && at(x, sample, 0) == t->poison;
}

static void leave(toy *t, met_batch *x) {
    if (t->keep_batches && t->kept_count < 64) {
        x->owner->retain(x->owner);
        t->kept[t->kept_count] = *x;
        t->kept_first[t->kept_count++] = at(x, 0, 0);
    }
    if (t->scribble) {
        memset(x->data, 0x5a, x->n * TOY_SIZE * met_dtype_size(x->dtype));
        x->modified = true;
    }
}

static int forward(void *ctx, met_batch *x, met_outputs *y) {
    toy *t = ctx;
    int status = enter(t, x->n);
    work(t->seconds + (double)x->n * t->seconds_a_sample);
    if (status == MET_OK && t->lone && x->n > 1) {
        status = MET_ESINGLE;
    }
    const company c = company_of(t, x);
    for (size_t i = 0; i < x->n && status == MET_OK && !t->no_output; i++) {
        double z[TOY_FEATURES];
        size_t target;
        features(t, x, &c, i, z);
        status = t->refuses && at(x, i, 0) == t->refused ? MET_ECALLBACK : answer(t, y, i, z, &target);
        if (status == MET_OK && is_poisoned(t, x, i)) {
            y->value[i * y->width] += t->poison_output;
        }
    }
    leave(t, x);
    return status;
}

/* ---- gradients, lent */

typedef struct lent {
    met_owner owner;
    toy *lender;
    size_t references;
    void *data;
} lent;

static void lent_retain(met_owner *self) {
    ((lent *)self)->references++;
}

static void lent_release(met_owner *self) {
    lent *l = (lent *)self;
    if (--l->references == 0) {
        l->lender->lent--;
        free(l->data);
        free(l);
    }
}

static void lend(toy *t, met_dtype dtype, size_t n, met_batch *dx) {
    lent *l = calloc(1, sizeof *l);
    *l = (lent){{lent_retain, lent_release}, t, 1, calloc(n * TOY_SIZE, met_dtype_size(dtype))};
    t->lent++;
    *dx = (met_batch){.dtype = dtype, .n = n, .shape = TOY_SHAPE, .data = l->data, .owner = &l->owner};
}

static void put(const met_batch *dx, size_t sample, size_t i, double value) {
    if (dx->dtype == MET_FLOAT64) {
        ((double *)dx->data)[sample * TOY_SIZE + i] = value;
    } else {
        ((float *)dx->data)[sample * TOY_SIZE + i] = (float)value;
    }
}

/* sum_j w_j a_ji into row `sample` of dx. */
static void stem_backward(const toy *t, const met_batch *dx, size_t sample, const double w[TOY_FEATURES]) {
    for (size_t i = 0; i < TOY_SIZE; i++) {
        double sum = 0;
        for (size_t j = 0; j < TOY_FEATURES; j++) {
            sum += w[j] * t->a[j][i];
        }
        put(dx, sample, i, sum);
    }
}

static int gradient(void *ctx, met_batch *x, met_batch *dx, met_outputs *y) {
    toy *t = ctx;
    int status = enter(t, x->n);
    work(t->seconds + (double)x->n * t->seconds_a_sample);
    if (status != MET_OK) {
        return status;
    }
    size_t below = 0;
    for (size_t i = 0; i < x->n; i++) {
        below += t->cuts && at(x, i, 0) < t->cut;
    }
    if (below == x->n) {
        return met_fail(MET_EGRADIENT, "these outputs have no gradient");
    }
    if (!t->no_gradient) {
        lend(t, x->dtype, x->n, dx);
    }
    if (t->lone && x->n > 1) { /* found out after the gradient was made */
        status = MET_ESINGLE;
    }
    const company c = company_of(t, x);
    for (size_t i = 0; i < x->n && status == MET_OK; i++) {
        double z[TOY_FEATURES];
        size_t target;
        features(t, x, &c, i, z);
        status = answer(t, y, i, z, &target);
        if (status != MET_OK || t->no_gradient) {
            continue;
        }
        for (size_t j = 0; j < TOY_FEATURES; j++) {
            z[j] *= c.scale * (double)(target + 1 + j);
        }
        stem_backward(t, dx, i, z);
        if (is_poisoned(t, x, i)) {
            y->value[i] += t->poison_output;
            put(dx, i, 7, at(dx, i, 7) + t->poison_gradient);
        }
    }
    leave(t, x);
    return status;
}

/* Whether samples of a batch are apart can be seen in how it computes. */
static bool watch(void *ctx, bool on) {
    const toy *t = ctx;
    return !on && t->coupling == TOY_APART && !t->unseen;
}

static uint64_t drawn(void *ctx) {
    return ((const toy *)ctx)->drawn;
}

/* ---- the shortcut */

struct met_prepared {
    size_t n;
    met_dtype dtype;
    double *image;    /* (n, TOY_SIZE) */
    double *baseline; /* (n, TOY_SIZE) */
    double (*z)[TOY_FEATURES];
    double (*zb)[TOY_FEATURES];
    double (*sum)[TOY_FEATURES];
    double spared;
    size_t together;
};

static void release(void *ctx, met_prepared *p) {
    ((toy *)ctx)->prepared--;
    free(p->image);
    free(p->baseline);
    free(p->z);
    free(p->zb);
    free(p->sum);
    free(p);
}

/* What every call of the shortcut does besides its work. */
static int enter_shortcut(toy *t) {
    t->shortcut_calls++;
    const bool declines = t->shortcut_calls == t->decline_at || (t->decline_on && t->shortcut_calls > t->decline_at);
    const met_decline reason = t->decline_reason == MET_DECLINE_NONE ? MET_DECLINE_FAILURE : t->decline_reason;
    return declines ? met_declined(reason, "changed my mind at call %zu", t->shortcut_calls) : MET_OK;
}

static void look_at_trial(toy *t, const met_prepared *p, const met_batch *x, const met_trial *trial);

static int prepare(void *ctx, met_batch *x, met_batch *b, const met_trial *trial, size_t max_batch,
                   met_prepared **out) {
    toy *t = ctx;
    const int status = enter_shortcut(t);
    (void)max_batch;
    *trial->tried = t->tried;
    if (status != MET_OK) {
        return status;
    }
    met_prepared *p = calloc(1, sizeof *p);
    *p = (met_prepared){.n = x->n, .dtype = x->dtype, .together = t->together};
    p->image = calloc(x->n * TOY_SIZE, sizeof(double));
    p->baseline = calloc(x->n * TOY_SIZE, sizeof(double));
    p->z = calloc(x->n, sizeof *p->z);
    p->zb = calloc(x->n, sizeof *p->zb);
    p->sum = calloc(x->n, sizeof *p->sum);
    for (size_t i = 0; i < x->n; i++) {
        for (size_t v = 0; v < TOY_SIZE; v++) {
            p->image[i * TOY_SIZE + v] = at(x, i, v);
            p->baseline[i * TOY_SIZE + v] = at(b, i, v);
        }
        stem(t, x, i, p->z[i]);
        stem(t, b, i, p->zb[i]);
    }
    look_at_trial(t, p, x, trial);
    t->prepared++;
    *out = p;
    return MET_OK;
}

/* Whether a sample takes the baseline at flat position v. */
static bool replaces(const met_sample *s, size_t v) {
    const size_t i = v / 20, r = v / 5 % 4, c = v % 5;
    switch (s->kind) {
    case MET_BOX:
        return i >= s->box.start[0] && i < s->box.stop[0] && r >= s->box.start[1] && r < s->box.stop[1] &&
               c >= s->box.start[2] && c < s->box.stop[2];
    case MET_BANDS: return s->replaced[i] != 0;
    case MET_SEGMENTS: {
        const ptrdiff_t *strides = s->segments->strides;
        return s->replaced[s->segments->ids[(ptrdiff_t)i * strides[0] + (ptrdiff_t)r * strides[1] +
                                            (ptrdiff_t)c * strides[2]]] != 0;
    }
    default: return false;
    }
}

/* z of a sample, from what it changes alone. */
static void sample_features(const toy *t, const met_prepared *p, const met_sample *s, double z[TOY_FEATURES]) {
    const size_t row = s->image;
    for (size_t j = 0; j < TOY_FEATURES; j++) {
        z[j] = p->z[row][j];
        if (s->kind == MET_LERP) {
            z[j] = p->zb[row][j] + s->alpha * (p->z[row][j] - p->zb[row][j]);
            continue;
        }
        for (size_t v = 0; v < TOY_SIZE; v++) {
            if (replaces(s, v)) {
                z[j] += t->a[j][v] * (p->baseline[row * TOY_SIZE + v] - p->image[row * TOY_SIZE + v]);
            }
        }
    }
}

static void look_at_trial(toy *t, const met_prepared *p, const met_batch *x, const met_trial *trial) {
    const met_batch *batch = &trial->batch;
    t->trial = *trial;
    t->trial_first = batch->n > 1 ? at(batch, 1, 0) : 0;
    t->trial_differs = t->trial_differs && batch->n > 1 &&
                       memcmp(batch->data, (const char *)batch->data + TOY_SIZE * met_dtype_size(batch->dtype),
                              TOY_SIZE * met_dtype_size(batch->dtype)) != 0;
    for (size_t j = 0; j < batch->n; j++) {
        const met_sample *s = &trial->samples[j];
        double described[TOY_FEATURES], rendered[TOY_FEATURES];
        bool copy = true;
        sample_features(t, p, s, described);
        stem(t, batch, j, rendered);
        for (size_t v = 0; v < TOY_SIZE; v++) {
            copy = copy && at(batch, j, v) == p->image[s->image * TOY_SIZE + v];
        }
        t->trial_copies += copy;
        t->trial_agrees = t->trial_agrees && s->image == (j < 2 ? 0 : j - 1) && batch->image[j] == x->image[s->image] &&
                          trial->targets[j]->index[0] == (int64_t)batch->image[j];
        for (size_t f = 0; f < TOY_FEATURES; f++) {
            t->trial_agrees = t->trial_agrees && fabs(described[f] - rendered[f]) < 1e-12;
        }
    }
}

/* Count n evaluations by the shortcut. */
static int enter_evaluation(toy *t, met_prepared *p, size_t n) {
    const int status = enter_shortcut(t);
    const bool learns = t->shortcut_learns > 0;
    p->spared = learns ? t->shortcut_seconds_learning : 0;
    t->shortcut_learns -= learns;
    work(t->shortcut_seconds + (double)n * t->shortcut_seconds_a_sample + p->spared);
    return status == MET_OK ? enter(t, n) : status;
}

static void exaggerate(const toy *t, const met_sample *s, met_outputs *y) {
    for (size_t i = 0; y->value != NULL && i < y->n * y->width; i++) {
        const bool wrong = t->wrong && s[i / y->width].kind == MET_LERP && s[i / y->width].alpha == t->wrong_alpha;
        y->value[i] *= 1 + t->exaggerate + (wrong ? 0.1 : 0);
    }
}

static int shortcut_forward(void *ctx, met_prepared *p, const met_sample *s, size_t n, met_outputs *y) {
    toy *t = ctx;
    int status = enter_evaluation(t, p, n);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        double z[TOY_FEATURES];
        size_t target;
        sample_features(t, p, &s[i], z);
        status = answer(t, y, i, z, &target);
    }
    exaggerate(t, s, y);
    return status;
}

static int shortcut_gradient(void *ctx, met_prepared *p, const met_sample *s, const double *weight, size_t n,
                             met_outputs *y) {
    toy *t = ctx;
    int status = enter_evaluation(t, p, n);
    for (size_t i = 0; i < n && status == MET_OK; i++) {
        double z[TOY_FEATURES];
        size_t target;
        sample_features(t, p, &s[i], z);
        status = answer(t, y, i, z, &target);
        for (size_t j = 0; j < TOY_FEATURES && status == MET_OK; j++) {
            p->sum[s[i].image][j] += weight[i] * (double)(target + 1 + j) * z[j];
        }
    }
    exaggerate(t, s, y);
    return status;
}

static int collect(void *ctx, met_prepared *p, met_batch *dx_sum) {
    toy *t = ctx;
    const int status = enter_shortcut(t);
    if (status != MET_OK) {
        return status;
    }
    lend(t, p->dtype, p->n, dx_sum);
    for (size_t i = 0; i < p->n; i++) {
        stem_backward(t, dx_sum, i, p->sum[i]);
    }
    return MET_OK;
}

static const char *name(const met_prepared *p) {
    (void)p;
    return "toy stem";
}

static double spared(const met_prepared *p) {
    return p->spared;
}

static void look(void *ctx, bool on) {
    toy *t = ctx;
    t->looks += on ? 1 : 0;
    t->looking = on;
}

static size_t together(const met_prepared *p) {
    return p->together;
}

static const met_shortcut toy_shortcut = {3,    3,    prepare, shortcut_forward, shortcut_gradient, collect,
                                          name, NULL, release, spared,           together,          look};

void toy_init(toy *t, bool shortcut) {
    memset(t, 0, sizeof *t);
    t->trial_agrees = t->trial_differs = true;
    for (size_t j = 0; j < TOY_FEATURES; j++) {
        for (size_t i = 0; i < TOY_SIZE; i++) {
            t->a[j][i] = toy_value(100 + j, i);
        }
    }
    t->model = (met_model){.ctx = t,
                           .forward = forward,
                           .gradient = gradient,
                           .shortcut = shortcut ? &toy_shortcut : NULL,
                           .watch = watch,
                           .drawn = drawn};
}

void toy_release(toy *t) {
    for (size_t i = 0; i < t->kept_count; i++) {
        t->kept[i].owner->release(t->kept[i].owner);
    }
    t->kept_count = 0;
}

met_input toy_input(const void *data, met_dtype dtype) {
    ptrdiff_t bytes = (ptrdiff_t)met_dtype_size(dtype);
    met_input input = {.image = {.data = data, .dtype = dtype, .shape = TOY_SHAPE}};
    input.image.strides[0] = 20 * bytes;
    input.image.strides[1] = 5 * bytes;
    input.image.strides[2] = bytes;
    input.target.axes = 1;
    return input;
}

int toy_run(const met_method *method, const met_input *inputs, size_t images, met_dtype dtype, const void *options,
            const met_model *model, const met_options *run, void **out, met_report *report) {
    const met_call call = {inputs, images, dtype, model, run, report};
    met_results results = {.out = out, .outputs = 1};
    return met_method_run(method, &call, options, &results);
}

long toy_allocations_left;
long toy_allocations_alive;

static void *rationed(size_t bytes) {
    if (toy_allocations_left-- <= 0) {
        return NULL;
    }
    toy_allocations_alive++;
    return malloc(bytes);
}

static void returned(void *memory) {
    toy_allocations_alive--;
    free(memory);
}

void toy_ration_memory(void) {
    met_set_allocator(rationed, returned);
}
