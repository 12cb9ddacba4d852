/*
 * trial.c - real samples of a job, described and rendered, for a provider to try a shortcut with.
 */
#include "run.h"

#include <string.h>

/* Of all draws, so that a job is tried with the same samples whenever it runs. */
#define SEED ((uint64_t)0x6d657465)
/* Samples that are looked at for one that differs from the first. */
#define TRIES ((size_t)16)
/* Larger images are tried with one sample, as they are where memory is short. */
#define LARGE_BYTES ((size_t)256 << 20)

size_t met_draw(const engine *e, uint64_t which, size_t n) {
    uint32_t words[4];
    const size_t count = e->job->images * e->job->evaluations;
    met_philox((met_stream){SEED + count, which}, 0, words);
    return (size_t)(((uint64_t)words[0] << 32 | words[1]) % (n > 0 ? n : 1));
}

/* Describe evaluation k of an image into place j; *copy: it is a copy of the image. */
static int describe(engine *e, size_t j, size_t image, size_t k, bool *copy) {
    met_sample *s = &e->samples[j];
    int status = met_describe_sample(e, j, image, k, e->scratch + 2 * j * e->job->scratch, s);
    status = status == MET_OK ? met_load_image(e, image) : status;
    *copy =
        status == MET_OK && (s->kind == MET_IDENTITY || (met_sample_is_local(s) && !met_sample_changes(&e->base, s)));
    s->image = image - e->first_prepared;
    return status;
}

/*
 * Describe the first evaluation of an image from k on, around, that is not a copy of the image and not `taken`; any other
 * one where there is none.
 */
static int choose(engine *e, size_t j, size_t image, size_t k, size_t taken) {
    const size_t count = met_job_count(e->job, image);
    size_t other = SIZE_MAX;
    bool copy = true;
    int status = MET_OK;
    for (size_t step = 0; step < count && status == MET_OK; step++, k = k + 1 == count ? 0 : k + 1) {
        if (k == taken) {
            continue;
        }
        status = describe(e, j, image, k, &copy);
        if (status != MET_OK || !copy) {
            return status;
        }
        other = other == SIZE_MAX ? k : other;
    }
    return status == MET_OK ? describe(e, j, image, other == SIZE_MAX ? 0 : other, &copy) : status;
}

/*
 * Describe and render a sample for place j from evaluation k of an image on: not `taken`, and not like sample j - 1, which
 * is that; the image itself where there is none.
 */
static int make_sample(engine *e, size_t j, size_t image, size_t k, size_t taken, uint8_t *values) {
    const size_t count = met_job_count(e->job, image), tries = met_min_size(count, taken == SIZE_MAX ? 1 : TRIES);
    uint8_t *out = values + j * e->bytes;
    bool alike = true;
    int status = MET_OK;
    for (size_t t = 0; t < tries && alike && status == MET_OK; t++) {
        status = choose(e, j, image, k, taken);
        if (status == MET_OK) {
            met_sample_render(&e->base, &e->samples[j], e->options->pool, out);
            alike = taken != SIZE_MAX && memcmp(out, out - e->bytes, e->bytes) == 0;
            k = (e->k_of[j] + 1) % count;
        }
    }
    if (status == MET_OK && alike) {
        bool copy;
        status = describe(e, j, image, MET_REFERENCE, &copy);
        met_sample_render(&e->base, &e->samples[j], e->options->pool, out);
    }
    return status;
}

int met_make_trial(engine *e, size_t from, size_t to, met_buffer **buffer, met_trial *out) {
    const size_t budget = e->options->memory_budget;
    const bool large = to - from == 1 && (e->bytes > LARGE_BYTES || (budget > 0 && e->bytes > budget / 4));
    const size_t n = large ? 1 : to - from + 1;
    int status = met_reserve_slots(e, n);
    if (status == MET_OK) {
        status = met_buffer_new(n * e->bytes, "samples to try a shortcut with", &e->report->memory, buffer);
    }
    met_invalidate_slots(e);
    for (size_t j = 0; j < n && status == MET_OK; j++) {
        const size_t image = j < 2 ? from : from + j - 1;
        const size_t first = j == 0 ? 0 : met_draw(e, image, met_job_count(e->job, image));
        status = make_sample(e, j, image, first, j == 1 ? e->k_of[0] : SIZE_MAX, met_buffer_data(*buffer));
    }
    if (status == MET_OK) {
        *out = (met_trial){.samples = e->samples,
                           .batch = met_batch_view(e, *buffer, 0, n),
                           .targets = e->targets,
                           .count = e->job->evaluations,
                           .gradient = e->job->gradient,
                           .always = e->options->shortcuts == MET_SHORTCUTS_ALWAYS,
                           .replay = e->options->shortcuts == MET_SHORTCUTS_REPLAY,
                           .images = e->job->images - from,
                           .first = e->eligible && !met_experience_knows(e->options->experience, e->job),
                           .proven = met_experience_alone(e->options->experience, e->job) > 0,
                           .counted = from == 0 && met_keeps_measured(e) ? e->measured : 0,
                           .apart = e->report->batching == MET_BATCHING_FREE};
    }
    return status;
}
