/*
 * tuner.c - the chunk size, found while the real work runs.
 *
 * A call of the model has a fixed price (dispatch) and a price a sample that rises once a batch leaves the caches.
 * So the cost of a sample falls with the chunk size and then rises again: climb by doubling while it falls by
 * more than the noise, turn around if growing did not pay at all, rest at the best. Where calls are short, one size that
 * does not pay is passed over: samples that share work (windows of one shape, say) may need more of them in a batch.
 */
#include "tuner.h"

/* A step must pay by this much: timings vary by a few per cent. */
#define GAIN 0.95
/* Calls that take less are short. */
#define SHORT_SECONDS 0.02
/* Timings of a chunk size before it is judged: the first one warms caches and code. */
#define TIMINGS 2

void met_tuner_start(met_tuner *t, size_t first, size_t limit, bool may_grow) {
    *t = (met_tuner){0};
    t->limit = limit > 0 ? limit : 1;
    t->first = first < 1 ? 1 : first > t->limit ? t->limit : first;
    t->chunk = t->best = t->first;
    t->direction = may_grow && t->first < t->limit ? 1 : t->first > 1 ? -1 : 0;
}

static size_t doubled(const met_tuner *t, size_t size) {
    return size > t->limit / 2 ? t->limit : 2 * size;
}

/* The next size to try from the best one, or the best one itself where there is none. */
static size_t next_size(const met_tuner *t) {
    if (t->direction > 0) {
        return doubled(t, t->best);
    }
    return t->best > 1 ? t->best / 2 : 1;
}

size_t met_tuner_next(met_tuner *t, size_t n, double seconds) {
    const double cost = seconds / (double)n;
    t->cheapest = t->cheapest == 0 || cost < t->cheapest ? cost : t->cheapest;
    if (t->direction == 0 || n != t->chunk) { /* at rest, or the last, smaller chunk of a run */
        return t->chunk;
    }
    t->cost = t->measured == 0 || cost < t->cost ? cost : t->cost;
    if (++t->measured < TIMINGS) {
        return t->chunk;
    }
    t->measured = 0;
    if (t->best_cost == 0 || t->cost < GAIN * t->best_cost) {
        t->best = t->chunk;
        t->best_cost = t->cost;
        t->passed = false;
    } else if (t->direction > 0 && !t->passed && t->chunk < t->limit && t->cost * (double)n < SHORT_SECONDS) {
        t->passed = true;
        t->chunk = doubled(t, t->chunk);
        return t->chunk;
    } else {
        bool turn = t->direction > 0 && t->best == t->first && t->first > 1;
        t->direction = turn ? -1 : 0;
    }
    size_t next = t->direction == 0 ? t->best : next_size(t);
    if (next == t->best) {
        t->direction = 0;
    }
    t->chunk = next;
    return t->chunk;
}
