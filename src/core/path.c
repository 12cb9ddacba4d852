/*
 * path.c - samples in chunks, by one of the two paths: rendered, or described to a shortcut.
 */
#include "run.h"

/* Whether the image itself is among the first n samples of the chunk. */
static bool holds_image(const engine *e, size_t n, size_t image) {
    for (size_t j = n; j > 0 && e->image_of[j - 1] == image; j--) {
        if (e->is_image[j - 1]) {
            return true;
        }
    }
    return false;
}

/*
 * Put evaluation k of an image into place *n, which moves on: behind the image itself, where calls for `chunk` samples
 * lack it. *later: there is no room for both.
 */
static int place(engine *e, const met_path *path, size_t image, size_t k, size_t chunk, size_t *n, bool *later) {
    bool copy = false;
    *later = false;
    int status = path->fill(e, *n, image, k, &copy);
    if (status == MET_OK && copy) {
        return met_fold_copy(e, image, k);
    }
    if (status == MET_OK && e->job->reference && !e->is_image[*n] && !met_has_reference(e, image, chunk) &&
        !holds_image(e, *n, image)) {
        status = path->fill(e, (*n)++, image, MET_REFERENCE, &copy);
        *later = *n == chunk;
        status = status == MET_OK && !*later ? path->fill(e, *n, image, k, &copy) : status;
    }
    *n += status == MET_OK && !*later;
    return status;
}

/* The images among the n samples of the chunk that it does not hold themselves; *known: calls of that size have them. */
static size_t count_lacking(const engine *e, size_t n, bool *known) {
    size_t lacking = 0;
    *known = true;
    for (size_t j = 0; j < n; j++) {
        const bool last = j + 1 == n || e->image_of[j + 1] != e->image_of[j];
        if (last && !holds_image(e, j + 1, e->image_of[j])) {
            lacking++;
            *known = *known && met_has_reference(e, e->image_of[j], n);
        }
    }
    return lacking;
}

/*
 * The last, smaller chunk of a run: either it is filled up to the usual size, or it gets the images themselves, whichever
 * is less.
 */
static int complete(engine *e, const met_path *path, size_t chunk, size_t *n) {
    const size_t samples = *n;
    bool known = true, copy = false;
    const size_t lacking = count_lacking(e, samples, &known);
    int status = MET_OK;
    if (known) {
        return MET_OK;
    }
    if (chunk - samples <= lacking) {
        while (status == MET_OK && *n < chunk) {
            status = path->fill(e, (*n)++, e->image_of[samples - 1], MET_REFERENCE, &copy);
        }
        return status;
    }
    for (size_t j = 0; j < samples && status == MET_OK; j++) {
        const bool last = j + 1 == samples || e->image_of[j + 1] != e->image_of[j];
        if (last && !holds_image(e, j + 1, e->image_of[j])) {
            status = path->fill(e, (*n)++, e->image_of[j], MET_REFERENCE, &copy);
        }
    }
    return status;
}

/* Fill up to `chunk` places with samples from position *next on; n is how many there are. */
static int fill_chunk(engine *e, const met_path *path, size_t chunk, size_t *next, size_t end, size_t *n) {
    const size_t evaluations = e->job->evaluations;
    const size_t ahead = met_min_size(end - *next, chunk);
    /* No more images than samples are put beside them. */
    const size_t places = e->job->reference && ahead <= chunk / 2 ? 2 * ahead : e->job->reference ? chunk : ahead;
    int status = path->reserve(e, places);
    *n = 0;
    while (status == MET_OK && *n < places && *next < end) {
        const size_t image = *next / evaluations, k = (*next)++ % evaluations;
        bool later = false;
        if (e->remaining[image] == 0 || k >= met_job_count(e->job, image)) {
            continue;
        }
        status = place(e, path, image, k, chunk, n, &later);
        *next -= later;
    }
    return status == MET_OK && e->job->reference && *n > 0 && *n < chunk ? complete(e, path, chunk, n) : status;
}

int met_run_path(engine *e, const met_path *path, size_t *next, size_t end, met_tuner *tuner, size_t calls) {
    size_t chunk = tuner->chunk;
    e->shortcut = path->shortcut;
    while (*next < end && calls > 0) {
        const size_t before = *next;
        size_t n = 0;
        double seconds = 0;
        chunk = e->report->batching == MET_BATCHING_SINGLE ? 1 : chunk;
        int status = fill_chunk(e, path, chunk, next, end, &n);
        e->last = *next >= end && end == e->job->images * e->job->evaluations;
        if (status == MET_OK && n > 0) {
            status = path->run(e, n, &seconds);
        }
        status = status == MET_OK ? met_report_progress(e, *next - before) : status;
        if (status != MET_OK) {
            return status;
        }
        if (n > 0) {
            e->report->chunk_size = e->report->batching == MET_BATCHING_SINGLE ? 1 : chunk;
            chunk = e->draws ? chunk : met_tuner_next(tuner, n, seconds);
            calls--;
        }
    }
    return MET_OK;
}
