/*
 * prepared.c - samples through the model's shortcut: images are prepared in groups, descriptions go to the model, and
 * where it declines nothing was done and the engine renders.
 */
#include "engine.h"

#include <stdio.h>
#include <string.h>

/* What a shortcut caches for each image of a group, beside its features: image, baseline, sum of gradients. */
#define GROUP_FACTOR 4
#define GROUP_BYTES ((size_t)64 << 20)

/* Render one description of every image in [from, to) into a batch of its own. */
static int render_batch(engine *e, size_t from, size_t to, const met_sample *s, met_buffer **buffer, met_batch *out) {
    int status = met_buffer_new((to - from) * e->bytes, "the images of a shortcut", &e->report->memory, buffer);
    uint8_t *data = status == MET_OK ? met_buffer_data(*buffer) : NULL;
    for (size_t i = from; i < to && status == MET_OK; i++) {
        status = met_take_base(e, i);
        if (status == MET_OK) {
            met_sample_render(&e->base, s, e->options->pool, data + (i - from) * e->bytes);
        }
    }
    if (status == MET_OK) {
        *out = met_batch_of(e, *buffer, to - from);
    }
    return status;
}

/* Describe evaluation k of image i for place j, unless it is a copy of the image that the job wants skipped. */
static int describe_place(engine *e, size_t j, size_t i, size_t k, bool *copy) {
    met_sample *s = &e->samples[j];
    int status = met_describe(e, j, i, k, s);
    if (status == MET_OK && e->job->skip_copies) {
        status = met_take_base(e, i);
        *copy = status == MET_OK && !met_sample_changes(&e->base, s);
    }
    s->image = i - e->first;
    return status;
}

/* Evaluate and fold the first n described samples. */
static int run_described(engine *e, size_t n, double *seconds) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    answer a = met_ask(e, n);
    double start = met_seconds();
    int status = job->gradient ? cut->gradient(e->model->ctx, e->prepared, e->samples, e->weights, n, &a.y)
                               : cut->forward(e->model->ctx, e->prepared, e->samples, n, &a.y);
    *seconds = met_seconds() - start;
    if (status == MET_EDECLINED) {
        return status;
    }
    met_count_call(e, n, *seconds);
    if (status == MET_OK) {
        e->report->shortcut_evaluations += n;
        met_batch none = {0};
        status = job->gradient ? MET_OK : met_fold(e, n, &none, &a.y);
    }
    return status;
}

/* Hand the sums of images [from, to) to the method. */
static int collect(engine *e, size_t from, size_t to) {
    const met_job *job = e->job;
    met_batch sum = {0};
    double start = met_seconds();
    int status = e->model->shortcut->collect(e->model->ctx, e->prepared, &sum);
    e->report->seconds_model += met_seconds() - start;
    if (status == MET_OK && (sum.data == NULL || sum.n != to - from)) {
        status = met_fail(MET_EMODEL, "the shortcut answered without a gradient for each image");
    }
    for (size_t i = from; i < to && status == MET_OK; i++) {
        memcpy(job->sums[i], (const uint8_t *)sum.data + (i - from) * e->bytes, e->bytes);
        if (job->finish != NULL) {
            status = met_take_base(e, i);
            status = status == MET_OK ? job->finish(job->method, i, &e->base) : status;
        }
    }
    if (sum.owner != NULL) {
        sum.owner->release(sum.owner);
    }
    return status;
}

/* Images [from, to) through the model's shortcut. MET_EDECLINED: nothing was done. */
int met_run_shortcut(engine *e, size_t from, size_t to, met_tuner *tuner) {
    const met_shortcut *cut = e->model->shortcut;
    static const path described = {met_take_slots, describe_place, run_described};
    const met_sample image = {.kind = MET_IDENTITY};
    const met_sample baseline = {.kind = MET_LERP, .alpha = 0};
    met_buffer *x_buffer = NULL;
    met_buffer *b_buffer = NULL;
    met_batch x;
    met_batch b;
    size_t done = e->done;
    size_t most = met_chunk_limit(e);

    e->first = from;
    int status = met_take_slots(e, to - from);
    if (status == MET_OK) {
        status = render_batch(e, from, to, &image, &x_buffer, &x);
    }
    if (status == MET_OK) {
        status = render_batch(e, from, to, &baseline, &b_buffer, &b);
    }
    if (status != MET_OK) {
        goto done;
    }
    met_sample example;
    status = met_describe(e, 0, from, e->job->evaluations / 2, &example);
    for (size_t i = from; i < to; i++) {
        e->origin_of[i - from] = e->job->inputs[i].origin;
    }
    if (status != MET_OK) {
        goto done;
    }
    double start = met_seconds();
    status = cut->prepare(e->model->ctx, &x, &b, &example, most, &e->prepared);
    e->report->seconds_model += met_seconds() - start;
    met_buffer_release(x_buffer);
    met_buffer_release(b_buffer);
    x_buffer = b_buffer = NULL;
    if (status == MET_OK) {
        status = met_run_path(e, &described, from, to, tuner);
    }
    if (status == MET_OK && e->job->gradient) {
        status = collect(e, from, to);
    }
done:
    if (status == MET_EDECLINED) {
        e->done = done;
        snprintf(e->report->declined, sizeof e->report->declined, "%s", met_detail());
    } else if (status == MET_OK) {
        snprintf(e->report->shortcut, sizeof e->report->shortcut, "%s", cut->name(e->prepared));
    }
    if (e->prepared != NULL) {
        cut->release(e->model->ctx, e->prepared);
        e->prepared = NULL;
    }
    met_buffer_release(x_buffer);
    met_buffer_release(b_buffer);
    return status;
}

/* Whether the job is of a form that a shortcut can take. */
bool met_wants_shortcut(const engine *e) {
    const met_job *job = e->job;
    const met_shortcut *cut = e->model->shortcut;
    if (cut == NULL || job->kind == MET_IDENTITY || job->kind == MET_NOISE || job->reads_sample ||
        job->evaluations < (job->gradient ? cut->least_gradients : cut->least_outputs)) {
        return false;
    }
    if (!e->options->shortcuts) {
        snprintf(e->report->declined, sizeof e->report->declined, "switched off");
        return false;
    }
    return job->gradient ? job->weight != NULL && job->fold == NULL : e->model->shortcut->forward != NULL;
}

/* How many images a shortcut prepares at once. */
size_t met_group_size(const engine *e) {
    size_t room = GROUP_BYTES;
    if (e->options->memory > 0 && e->options->memory / 4 < room) {
        room = e->options->memory / 4;
    }
    size_t images = room / GROUP_FACTOR / e->bytes;
    return images > 0 ? images : 1;
}
