#include "buffer.h"
#include "check.h"
#include "coalitions.h"
#include "toy_model.h"

#include <math.h>
#include <string.h>

#define ASKED 700
#define WORDS 5

/* Every coalition has one position, whatever came in between; the table grows several times. */
void test_coalitions_are_kept_once(void) {
    static const size_t counts[] = {1, 2, 63, 64, 65, 127, 128, 129, 300};
    static size_t position[ASKED];
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        met_coalitions c = met_coalitions_of(counts[n]);
        const met_stream stream = {17, counts[n]};
        uint64_t bits[WORDS];
        size_t kept = 0;
        bool is_new;
        CHECK_INT(c.words, (counts[n] + 63) / 64);
        for (size_t r = 0; r < ASKED; r++) {
            const size_t before = c.count;
            met_coalition_draw(stream, r, counts[n], bits);
            REQUIRE(met_coalitions_add(&c, bits, &position[r], &is_new) == MET_OK);
            REQUIRE(position[r] < c.count);
            CHECK(memcmp(c.bits + position[r] * c.words, bits, c.words * sizeof *bits) == 0);
            CHECK_INT(c.count, before + is_new);
            CHECK(is_new == (position[r] == before)); /* at the end */
            for (size_t j = 0; j < counts[n]; j++) {
                kept += met_coalition_has(bits, j);
            }
            if (counts[n] % 64 != 0) {
                CHECK_INT(bits[c.words - 1] >> counts[n] % 64, 0); /* nothing beyond the features */
            }
        }
        CHECK_CLOSE((double)kept / ASKED / (double)counts[n], 0.5, 3 / sqrt(4.0 * ASKED * (double)counts[n]));
        const size_t distinct = c.count;
        CHECK_INT(distinct, counts[n] == 1 ? 2 : counts[n] == 2 ? 4 : ASKED); /* of 2^63 none comes twice */
        for (size_t r = 0; r < ASKED; r++) {
            size_t again;
            met_coalition_draw(stream, r, counts[n], bits);
            REQUIRE(met_coalitions_add(&c, bits, &again, &is_new) == MET_OK);
            CHECK_INT(again, position[r]);
            CHECK(!is_new);
        }
        CHECK_INT(c.count, distinct);
        met_coalitions_free(&c);
    }
}

/* Coalitions that differ in a flag alone, the last one among them, are not the same. */
void test_coalitions_of_single_features(void) {
    met_coalitions c = met_coalitions_of(130);
    uint64_t bits[WORDS] = {0};
    size_t position;
    bool is_new;
    for (size_t round = 0; round < 2; round++) {
        for (size_t j = 0; j < 130; j++) {
            met_coalition_set(bits, j, true);
            REQUIRE(met_coalitions_add(&c, bits, &position, &is_new) == MET_OK);
            CHECK_INT(position, j);
            met_coalition_set(bits, j, false);
            CHECK(!met_coalition_has(bits, j));
        }
    }
    met_coalitions_free(&c);
}

/* What is forgotten is new when it comes again; what is kept is found where it was. */
static size_t apart(uint64_t a, uint64_t b) {
    size_t n = 0;
    for (uint64_t bits = a ^ b; bits != 0; bits >>= 1) {
        n += bits & 1;
    }
    return n;
}

/* Every new coalition once, each followed by one that is as like it as any that is left. */
void test_coalitions_in_order(void) {
    enum { FROM = 3, NEW = 60 };
    met_coalitions c = met_coalitions_of(10);
    size_t order[NEW], position;
    bool is_new, seen[NEW] = {false};
    for (uint64_t k = 0; c.count < FROM + NEW; k++) {
        uint64_t bits;
        met_coalition_draw((met_stream){7, 0}, k, 10, &bits);
        REQUIRE(met_coalitions_add(&c, &bits, &position, &is_new) == MET_OK);
    }
    met_coalitions_order(&c, FROM, order);
    for (size_t k = 0; k < NEW; k++) {
        REQUIRE(order[k] < NEW && !seen[order[k]]);
        seen[order[k]] = true;
        for (size_t j = k + 1; j < NEW; j++) {
            const uint64_t *bits = c.bits + FROM;
            CHECK(apart(bits[order[k]], bits[order[k + 1]]) <= apart(bits[order[k]], bits[order[j]]));
        }
    }
    CHECK_INT(order[0], 0);
    met_coalitions_free(&c);
}

void test_coalitions_forget(void) {
    met_coalitions c = met_coalitions_of(10);
    size_t position;
    bool is_new;
    met_coalitions_keep(&c, 0); /* there are none */
    for (uint64_t s = 0; s < 200; s++) {
        REQUIRE(met_coalitions_add(&c, &s, &position, &is_new) == MET_OK);
    }
    met_coalitions_keep(&c, 500);
    CHECK_INT(c.count, 200);
    met_coalitions_keep(&c, 70);
    for (uint64_t s = 200; s-- > 0;) {
        REQUIRE(met_coalitions_add(&c, &s, &position, &is_new) == MET_OK);
        CHECK_INT(is_new, s >= 70);
        CHECK_INT(position, s < 70 ? s : 70 + 199 - s);
    }
    met_coalitions_free(&c);
}

/* Where memory for more fails, those that are there stay. */
void test_coalitions_without_memory(void) {
    for (long ration = 0; ration < 4; ration++) {
        met_coalitions c = met_coalitions_of(10);
        size_t position, added = 0;
        bool is_new;
        toy_ration_memory();
        toy_allocations_left = ration;
        for (uint64_t s = 0; s < 200 && met_coalitions_add(&c, &s, &position, &is_new) == MET_OK; s++) {
            added++;
        }
        CHECK_INT(added, c.count);
        CHECK_INT(added, c.capacity);
        toy_allocations_left = 100;
        for (uint64_t s = 0; s < 200; s++) {
            REQUIRE(met_coalitions_add(&c, &s, &position, &is_new) == MET_OK);
            CHECK_INT(position, s);
            CHECK_INT(is_new, s >= added);
        }
        met_coalitions_free(&c);
        CHECK_INT(toy_allocations_alive, 0);
        met_set_allocator(NULL, NULL);
    }
}
