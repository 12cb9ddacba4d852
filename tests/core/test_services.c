#include "check.h"
#include "engine.h"
#include "tuner.h"

#include <stdint.h>
#include <string.h>

void test_status_in_words(void) {
    CHECK_INT(met_fail(MET_EVALUE, "%s must be %d", "n", 3), MET_EVALUE);
    CHECK_STR(met_detail(), "n must be 3");
    CHECK_STR(met_status_text(MET_ENOMEM), "out of memory");
    for (int status = MET_OK; status <= MET_ESINGLE; status++) {
        CHECK(strcmp(met_status_text(status), "unknown status") != 0);
    }
    CHECK_STR(met_status_text(99), "unknown status");
}

void test_decline_has_a_reason(void) {
    CHECK_INT(met_declined(MET_DECLINE_VALUES, "digits of %s", "band 3"), MET_EDECLINED);
    CHECK_INT(met_decline_reason(), MET_DECLINE_VALUES);
    CHECK_STR(met_detail(), "digits of band 3");
}

void test_buffer_is_counted(void) {
    met_account account = {0};
    met_buffer *buffer;
    REQUIRE(met_buffer_new(100, "a test", &account, &buffer) == MET_OK);
    met_owner *owner = met_buffer_owner(buffer);
    CHECK_INT((uintptr_t)met_buffer_data(buffer) % 64, 0);
    CHECK_INT(account.bytes, 100);
    CHECK(!met_buffer_shared(buffer));
    owner->retain(owner);
    CHECK(met_buffer_shared(buffer));
    char *data = met_buffer_data(buffer);
    data[99] = 'x';
    met_buffer_release(buffer); /* the core lets go; the other owner still reads */
    CHECK_INT(account.bytes, 0);
    CHECK_INT(account.peak, 100);
    CHECK_INT(data[99], 'x');
    owner->release(owner);
    met_buffer_release(NULL);
    CHECK_INT(met_buffer_new(SIZE_MAX, "the moon", NULL, &buffer), MET_ENOMEM);
    CHECK(strstr(met_detail(), "the moon") != NULL);
    CHECK(met_allocate(SIZE_MAX / 2, 4) == NULL);
}

static size_t resolve(const int64_t *shape, int axes, int indices, int64_t first, int64_t second, int want) {
    met_target target = {indices, {first, second}};
    size_t flat = 99;
    CHECK_INT(met_target_resolve(&target, shape, axes, &flat), want);
    return flat;
}

void test_target_by_hand(void) {
    static const int64_t shape[2] = {3, 4};
    CHECK_INT(resolve(shape, 2, 2, 1, 2, MET_OK), 6);
    CHECK_INT(resolve(shape, 2, 2, -1, -4, MET_OK), 8);
    CHECK_INT(resolve(shape, 1, 1, 2, 0, MET_OK), 2);
    CHECK_INT(resolve(shape, 1, 1, 3, 0, MET_EINDEX), 99);
    CHECK(strstr(met_detail(), "has 3 outputs") != NULL);
    CHECK_INT(resolve(shape, 1, 1, -4, 0, MET_EINDEX), 99);
    CHECK_INT(resolve(shape, 2, 1, 0, 0, MET_EVALUE), 99);
    CHECK(strstr(met_detail(), "(n, 3, 4)") != NULL);
    CHECK_INT(resolve(shape, 1, 0, 0, 0, MET_EVALUE), 99);
    CHECK_INT(resolve(shape, 0, 0, 0, 0, MET_OK), 0);
    CHECK_INT(resolve(shape, 0, 1, 0, 0, MET_OK), 0); /* (n,) outputs: output 0 is the only one */
    CHECK_INT(resolve(shape, 0, 1, 1, 0, MET_EVALUE), 99);
    static const int64_t trailing[3] = {4, 1, 1};
    CHECK_INT(resolve(trailing, 3, 1, -1, 0, MET_OK), 3);
    static const int64_t one[2] = {1, 1};
    CHECK_INT(resolve(one, 2, 0, 0, 0, MET_OK), 0);
}

/* Run a tuner against a cost function until it rests; the size where it rests. */
static size_t rest_among(size_t samples, size_t first, size_t limit, bool may_grow, double (*seconds)(size_t n),
                         size_t *largest) {
    met_tuner t;
    met_tuner_start(&t, first, limit, samples, may_grow);
    size_t n = t.chunk;
    *largest = n;
    for (int i = 0; i < 100; i++) {
        n = met_tuner_next(&t, n, seconds(n));
        *largest = n > *largest ? n : *largest;
    }
    return n;
}

static size_t rest(size_t first, size_t limit, bool may_grow, double (*seconds)(size_t n), size_t *largest) {
    return rest_among(limit, first, limit, may_grow, seconds, largest);
}

static double dispatch(size_t n) { /* a fixed price of a call: bigger is better */
    return 1e-3 + 1e-6 * (double)n;
}
static double cache(size_t n) { /* beyond 16 samples each costs three times as much */
    return 1e-3 + 1e-4 * (double)n * (n > 16 ? 3 : 1);
}
static double paging(size_t n) { /* every sample is dearer the more there are */
    return 1e-4 * (double)n * (double)n;
}
static double shared(size_t n) { /* samples share nothing until there are 64 of them */
    return 1e-4 * (double)(n < 64 ? n : 8 + n / 4);
}
static double shared_slowly(size_t n) { /* the same of samples that take their time */
    return 100 * shared(n);
}
static double slowly_cheaper(size_t n) { /* 3 % with each doubling up to 64: two of them pay */
    double cost = 1e-2;
    for (size_t k = 2; k <= n && k <= 64; k *= 2) {
        cost *= 0.97;
    }
    return cost * (double)n;
}
static size_t given; /* samples so far */
static double
cheap_at_first(size_t n) { /* the first 14 cost half; 4 samples and more cost a part in ten less in a batch */
    double cost = 0;
    for (size_t i = 0; i < n; i++) {
        cost += given++ < 14 ? 0.05 : 0.1;
    }
    return n < 4 ? cost : 0.9 * cost;
}
void test_tuner_compares_samples_that_are_alike(void) {
    size_t largest;
    given = 0;
    CHECK_INT(rest_among(4096, 1, 4, true, cheap_at_first, &largest), 4);
    CHECK_INT(rest_among(4096, 8, 1000, true, paging, &largest), 1); /* it turns around behind that, too */
    CHECK_INT(largest, 32);
}

void test_tuner_climbs_turns_and_rests(void) {
    size_t largest;
    CHECK_INT(rest(4, 100, true, dispatch, &largest), 100);
    CHECK_INT(rest(4, 1000, true, cache, &largest), 16);
    CHECK_INT(largest, 64);
    CHECK_INT(rest(16, 1000, true, shared, &largest), 512); /* 32 does not pay, 64 does */
    CHECK_INT(rest(16, 48, true, shared, &largest), 16);    /* nothing does */
    CHECK_INT(largest, 48);
    CHECK_INT(rest(16, 1000, true, shared_slowly, &largest), 16);
    CHECK_INT(largest, 32); /* what takes long is not tried for the sake of it */
    CHECK_INT(rest_among(2 * 64 * 32 - 1, 16, 1000, true, shared_slowly, &largest), 16);
    CHECK_INT(rest_among(2 * 64 * 32, 16, 1000, true, shared_slowly, &largest), 512); /* unless there are many more */
    CHECK_INT(rest_among(1 << 20, 16, 1000, true, slowly_cheaper, &largest), 64);
    CHECK_INT(rest(16, 1000, true, slowly_cheaper, &largest), 16);
    CHECK_INT(rest(8, 1000, true, paging, &largest), 1);
    CHECK_INT(largest, 16);
    CHECK_INT(rest(64, 64, false, paging, &largest), 1); /* a given bound: the first size, and only less */
    CHECK_INT(largest, 64);
    CHECK_INT(rest(64, 64, false, dispatch, &largest), 64);
    CHECK_INT(rest(0, 0, true, dispatch, &largest), 1);
}
