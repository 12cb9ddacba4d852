/* coalitions.c - sets of features: drawing them, and keeping each once. */
#include "coalitions.h"

#include "buffer.h"

#include <string.h>

#define FIRST_CAPACITY ((size_t)64)

/* Bit j of draw r is bit j of a row of 128-bit words. */
void met_coalition_draw(met_stream stream, size_t r, size_t features, uint64_t *bits) {
    const size_t words = (features + 63) / 64, blocks = (words + 1) / 2;
    for (size_t b = 0; b < blocks; b++) {
        uint32_t random[4];
        met_philox(stream, r * blocks + b, random);
        bits[2 * b] = (uint64_t)random[1] << 32 | random[0];
        if (2 * b + 1 < words) {
            bits[2 * b + 1] = (uint64_t)random[3] << 32 | random[2];
        }
    }
    if (features % 64 != 0) {
        bits[words - 1] &= ((uint64_t)1 << features % 64) - 1;
    }
}

met_coalitions met_coalitions_of(size_t features) {
    return (met_coalitions){.features = features, .words = (features + 63) / 64};
}

void met_coalitions_free(met_coalitions *c) {
    met_deallocate(c->bits);
    met_deallocate(c->table);
    *c = (met_coalitions){0};
}

static uint64_t hash(const uint64_t *bits, size_t words) {
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (size_t w = 0; w < words; w++) { /* the finaliser of splitmix64, over each word */
        h ^= bits[w];
        h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
        h = (h ^ h >> 27) * 0x94d049bb133111ebu;
        h ^= h >> 31;
    }
    return h;
}

/* Where a coalition is in the table, or the free place for it. */
static size_t find(const met_coalitions *c, const uint64_t *bits) {
    size_t place = (size_t)hash(bits, c->words) & (c->table_size - 1);
    while (c->table[place] != 0 &&
           memcmp(c->bits + (c->table[place] - 1) * c->words, bits, c->words * sizeof *bits) != 0) {
        place = (place + 1) & (c->table_size - 1);
    }
    return place;
}

static void fill_table(met_coalitions *c) {
    memset(c->table, 0, c->table_size * sizeof *c->table);
    for (size_t i = 0; i < c->count; i++) {
        c->table[find(c, c->bits + i * c->words)] = i + 1;
    }
}

/* Memory for one coalition more; nothing is lost where it cannot be had. */
static int grow(met_coalitions *c) {
    if (c->count < c->capacity) {
        return MET_OK;
    }
    const size_t capacity = c->capacity == 0 ? FIRST_CAPACITY : 2 * c->capacity;
    uint64_t *bits = capacity > SIZE_MAX / 2 / c->words ? NULL : met_allocate(capacity * c->words, sizeof *bits);
    size_t *table = bits == NULL ? NULL : met_allocate(2 * capacity, sizeof *table);
    if (table == NULL) {
        met_deallocate(bits);
        return met_fail(MET_ENOMEM, "%zu coalitions of %zu features do not fit into memory", capacity, c->features);
    }
    if (c->count > 0) {
        memcpy(bits, c->bits, c->count * c->words * sizeof *bits);
    }
    met_deallocate(c->bits);
    met_deallocate(c->table);
    c->bits = bits;
    c->table = table;
    c->table_size = 2 * capacity;
    c->capacity = capacity;
    fill_table(c);
    return MET_OK;
}

int met_coalitions_add(met_coalitions *c, const uint64_t *bits, size_t *position, bool *is_new) {
    int status = grow(c);
    if (status != MET_OK) {
        return status;
    }
    const size_t place = find(c, bits);
    *is_new = c->table[place] == 0;
    if (*is_new) {
        memcpy(c->bits + c->count * c->words, bits, c->words * sizeof *bits);
        c->table[place] = ++c->count;
    }
    *position = c->table[place] - 1;
    return MET_OK;
}

void met_coalitions_keep(met_coalitions *c, size_t keep) {
    if (c->count > keep) {
        c->count = keep;
        fill_table(c);
    }
}

void met_coalitions_order(const met_coalitions *c, size_t from, size_t *order) {
    const size_t count = c->count - from;
    const uint64_t *bits = c->bits + from;
    for (size_t k = 0; k < count; k++) {
        order[k] = k;
    }
    for (size_t k = 0; k + 1 < count; k++) {
        size_t next = k + 1, least = SIZE_MAX;
        for (size_t j = k + 1; j < count && least > 1; j++) {
            const size_t apart = met_count_bits(bits[order[k]] ^ bits[order[j]]);
            if (apart < least) {
                least = apart;
                next = j;
            }
        }
        const size_t moved = order[next];
        order[next] = order[k + 1];
        order[k + 1] = moved;
    }
}
