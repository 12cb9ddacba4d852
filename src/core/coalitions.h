/*
 * coalitions.h - sets of features that keep the image's values, each of them once, in the order in which they came.
 */
#ifndef MET_COALITIONS_H
#define MET_COALITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rng.h"

/* Coalitions in one array of bit sets, found through a hash table (open addressing, at most half full). */
typedef struct met_coalitions {
    size_t features;
    size_t words;   /* of 64 bits, a coalition */
    uint64_t *bits; /* (capacity, words): 1 = the feature keeps the image's values */
    size_t count;
    size_t capacity;
    size_t *table; /* (table_size,) positions + 1 by hash; 0: free */
    size_t table_size;
} met_coalitions;

/* Flags of a coalition. */
static inline bool met_coalition_has(const uint64_t *bits, size_t feature) {
    return bits[feature / 64] >> feature % 64 & 1;
}
static inline void met_coalition_set(uint64_t *bits, size_t feature, bool in) {
    const uint64_t bit = (uint64_t)1 << feature % 64;
    bits[feature / 64] = in ? bits[feature / 64] | bit : bits[feature / 64] & ~bit;
}

/* How many of the bits are 1. */
static inline size_t met_count_bits(uint64_t bits) {
    bits = bits - (bits >> 1 & 0x5555555555555555u);
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (size_t)(bits * 0x0101010101010101u >> 56);
}

/* Draw number r of a stream: each feature is kept with probability 1/2. bits (words,) */
void met_coalition_draw(met_stream stream, size_t r, size_t features, uint64_t *bits);

/* None yet; without memory of its own until the first comes. */
met_coalitions met_coalitions_of(size_t features);
void met_coalitions_free(met_coalitions *c);
/* *position = where a coalition is: that of an equal one, or a new one at the end. Where memory fails, all stays as it is. */
int met_coalitions_add(met_coalitions *c, const uint64_t *bits, size_t *position, bool *is_new);
/*
 * order (count - from,) = the coalitions from `from` on, counted from there, each followed by the one that is most like it of
 * those that are left: so little is written from one sample to the next. For one word; takes the square of their number.
 */
void met_coalitions_order(const met_coalitions *c, size_t from, size_t *order);
/* Forget all but the first `keep`. */
void met_coalitions_keep(met_coalitions *c, size_t keep);

#endif
