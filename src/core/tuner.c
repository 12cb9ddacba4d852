/*
 * tuner.c - the chunk size, found while the real work runs.
 *
 * A call of the model has a fixed price (dispatch) and a price a sample that rises once a batch leaves the caches.
 * So the cost of a sample falls with the chunk size and then rises again: climb by doubling while it falls by
 * more than the noise, turn around if growing did not pay at all, rest at the best. Where that costs little, one size that
 * does not pay is passed over: samples that share work (windows of one shape, say) may need more of them in a batch, and
 * two steps may pay where none of them does. Samples differ (windows in a corner reach less) and so does the machine from
 * second to second: where there are many, the best size is timed again before another one is given up for it.
 */
#include "tuner.h"

/* A step must pay by this much: timings vary by a few per cent. */
#define GAIN 0.95
/* A trial costs little where its calls take less, or where its samples are so small a part of all. */
#define SHORT_SECONDS 0.02
#define TRIAL_PART 32
/*
 * Timings of a chunk size before it is judged: the first one warms caches and code, so the least counts; of more timings the
 * second least: the first samples may be the cheapest, as the image itself and windows in its corner are.
 */
#define TIMINGS 2
#define TIMINGS_OF_MANY 4

void met_tuner_start(met_tuner *t, size_t first, size_t limit, size_t samples, bool may_grow) {
    *t = (met_tuner){0};
    t->limit = limit > 0 ? limit : 1;
    t->samples = samples;
    t->first = first < 1 ? 1 : first > t->limit ? t->limit : first;
    t->chunk = t->best = t->first;
    t->direction = may_grow && t->first < t->limit ? 1 : t->first > 1 ? -1 : 0;
}

static size_t doubled(const met_tuner *t, size_t size) {
    return size > t->limit / 2 ? t->limit : 2 * size;
}

/* Whether so many samples are few of the run's. */
static bool are_few(const met_tuner *t, size_t samples) {
    return samples <= t->samples / TRIAL_PART;
}

/* Whether the size after the one that was tried can be tried too, although that one did not pay. */
static bool may_pass(const met_tuner *t, double cost) {
    const bool is_short = cost * (double)t->chunk < SHORT_SECONDS;
    return t->direction > 0 && !t->passed && t->chunk < t->limit &&
           (is_short || are_few(t, TIMINGS * doubled(t, t->chunk)));
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
    const bool many = are_few(t, TIMINGS_OF_MANY * n);
    if (t->measured == 0 || cost < t->least) {
        t->second = t->measured == 0 ? cost : t->least;
        t->least = cost;
    } else if (t->measured == 1 || cost < t->second) {
        t->second = cost;
    }
    if (++t->measured < (many ? TIMINGS_OF_MANY : TIMINGS)) {
        return t->chunk;
    }
    double judged = many ? t->second : t->least;
    t->measured = 0;
    if (t->doubtful > 0) { /* `chunk` is the best size, timed again */
        t->best_cost = judged;
        judged = t->doubtful_cost;
        t->chunk = t->doubtful;
    }
    if (t->best_cost == 0 || judged < GAIN * t->best_cost) {
        t->best = t->chunk;
        t->best_cost = judged;
        t->passed = false;
        t->doubtful = 0;
    } else if (t->doubtful == 0 && may_pass(t, judged)) {
        t->passed = true;
        t->chunk = doubled(t, t->chunk);
        return t->chunk;
    } else if (t->doubtful == 0 && many && t->direction > 0) {
        t->doubtful = t->chunk;
        t->doubtful_cost = judged;
        t->chunk = t->best;
        return t->chunk;
    } else {
        bool turn = t->direction > 0 && t->best == t->first && t->first > 1;
        t->direction = turn ? -1 : 0;
        t->doubtful = 0;
    }
    size_t next = t->direction == 0 ? t->best : next_size(t);
    if (next == t->best) {
        t->direction = 0;
    }
    t->chunk = next;
    return t->chunk;
}
