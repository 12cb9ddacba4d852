/* tuner.h - the chunk size, found while the real work runs: climb while samples get cheaper, fall back when dearer. */
#ifndef MET_TUNER_H
#define MET_TUNER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct met_tuner {
    size_t limit;
    size_t samples; /* of the run */
    size_t first;
    size_t chunk; /* being tried */
    size_t best;
    double best_cost;  /* seconds a sample at `best`; 0: not measured yet */
    double cheapest;   /* the same of all chunks; 0: there was none */
    unsigned measured; /* timings of `chunk`, */
    double least;      /* the least of them, */
    double second;     /* and the next one */
    int direction;     /* +1 climbing, -1 descending, 0 at rest */
    bool passed;       /* the size before `chunk` did not pay */
    size_t doubtful;   /* a size that did not pay, while the best one is timed again; 0: there is none */
    double doubtful_cost;
} met_tuner;

/* Begin with `first` of a run's `samples`, `limit` at most; may_grow: more than the first may be tried. */
void met_tuner_start(met_tuner *t, size_t first, size_t limit, size_t samples, bool may_grow);
/* Tell the cost of a chunk of n samples; returns the size of the next one. */
size_t met_tuner_next(met_tuner *t, size_t n, double seconds);

#endif
