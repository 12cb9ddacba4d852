#include "check.h"
#include "rng.h"

#include <math.h>
#include <string.h>

static const met_stream stream = {.seed = 0x0123456789abcdef, .stream = 42};

/* The vectors for philox4x32 with 10 rounds that come with Random123 (kat_vectors). */
void test_philox_known_answers(void) {
    static const struct {
        uint64_t seed, stream, index;
        uint32_t want[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint32_t got[4];
        met_philox((met_stream){cases[c].seed, cases[c].stream}, cases[c].index, got);
        for (int i = 0; i < 4; i++) {
            CHECK_INT(got[i], cases[c].want[i]);
        }
    }
}

/* Two values a counter, 53 bits each. */
void test_uniform_is_the_counter_scaled(void) {
    const uint64_t index = (UINT64_C(1) << 40) + 6; /* needs the upper word of the counter */
    uint32_t words[4];
    double got[2];
    met_philox(stream, index / 2, words);
    met_uniform(stream, index, 2, got);
    for (int i = 0; i < 2; i++) {
        const uint64_t bits = (uint64_t)(words[2 * i] >> 5) << 26 | words[2 * i + 1] >> 6;
        CHECK(got[i] == ldexp((double)bits, -53));
    }
}

/* A value depends on its position alone, whatever calls it is made in. */
static void check_boundaries(void (*make)(met_stream, uint64_t, size_t, double *)) {
    enum { N = 1000 };
    double whole[N], pieces[N], one;
    make(stream, 0, N, whole);
    for (size_t from = 0, length = 0; from < N; from += length) {
        length = from % 7; /* 0, 1, .. 6 values, from even and from odd positions */
        length = length == 0 ? 1 : length;
        length = length < N - from ? length : N - from;
        make(stream, from, length, pieces + from);
    }
    CHECK(memcmp(whole, pieces, sizeof whole) == 0);
    for (size_t i = N; i-- > 0;) {
        make(stream, i, 1, &one);
        CHECK(one == whole[i]);
    }
    one = 3.0;
    make(stream, 5, 0, &one);
    CHECK(one == 3.0);
}

/* met_normal_float() as doubles. */
static void normal_float(met_stream s, uint64_t index, size_t n, double *out) {
    static float narrow[200000];
    REQUIRE(n <= sizeof narrow / sizeof *narrow);
    met_normal_float(s, index, n, narrow);
    for (size_t i = 0; i < n; i++) {
        out[i] = (double)narrow[i];
    }
}

void test_random_values_depend_on_position_alone(void) {
    check_boundaries(met_uniform);
    check_boundaries(met_normal);
    check_boundaries(normal_float);
}

/* Central moments of many values. */
#define MANY 200000
static double many[MANY];

static double moment(double center, int power) {
    double sum = 0.0;
    for (size_t i = 0; i < MANY; i++) {
        sum += pow(many[i] - center, power);
    }
    return sum / MANY;
}

/* Tolerances are four standard errors of the moment. */
void test_uniform_moments(void) {
    const double root = sqrt((double)MANY);
    met_uniform(stream, 0, MANY, many);
    for (size_t i = 0; i < MANY; i++) {
        REQUIRE(many[i] >= 0.0 && many[i] < 1.0);
    }
    CHECK_CLOSE(moment(0.0, 1), 0.5, 4.0 * sqrt(1.0 / 12.0) / root);
    CHECK_CLOSE(moment(0.5, 2), 1.0 / 12.0, 4.0 * sqrt(1.0 / 80.0 - 1.0 / 144.0) / root);
}

static void check_normal_moments(void (*make)(met_stream, uint64_t, size_t, double *)) {
    const double root = sqrt((double)MANY);
    double neighbours = 0.0;
    size_t beyond = 0;
    make(stream, 0, MANY, many);
    for (size_t i = 0; i < MANY; i++) {
        REQUIRE(isfinite(many[i]));
        beyond += fabs(many[i]) > 1.959963984540054;
        neighbours += i > 0 ? many[i] * many[i - 1] : 0.0;
    }
    CHECK_CLOSE(moment(0.0, 1), 0.0, 4.0 / root);
    CHECK_CLOSE(moment(0.0, 2), 1.0, 4.0 * sqrt(2.0) / root);
    CHECK_CLOSE(moment(0.0, 3), 0.0, 4.0 * sqrt(15.0) / root);
    CHECK_CLOSE(moment(0.0, 4), 3.0, 4.0 * sqrt(96.0) / root);
    CHECK_CLOSE((double)beyond / MANY, 0.05, 4.0 * sqrt(0.05 * 0.95) / root);
    CHECK_CLOSE(neighbours / MANY, 0.0, 4.0 / root);
}

void test_normal_moments(void) {
    check_normal_moments(met_normal);
    check_normal_moments(normal_float);
}

void test_streams_and_seeds_differ(void) {
    enum { N = 64 };
    double base[N], other[N];
    const met_stream others[] = {{stream.seed + 1, stream.stream},
                                 {stream.seed, stream.stream + 1},
                                 {stream.seed ^ UINT64_C(1) << 63, stream.stream},
                                 {stream.seed, stream.stream ^ UINT64_C(1) << 63}};
    met_uniform(stream, 0, N, base);
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        met_uniform(others[k], 0, N, other);
        for (int i = 0; i < N; i++) {
            CHECK(base[i] != other[i]);
        }
    }
}

void test_choose_takes_exactly_k(void) {
    enum { N = 23 };
    for (size_t n = 0; n <= N; n++) {
        for (size_t k = 0; k <= n; k++) {
            uint8_t chosen[N + 1], again[N + 1];
            size_t count = 0;
            memset(chosen, 7, sizeof chosen);
            REQUIRE(met_choose(stream, n, k, chosen) == MET_OK);
            REQUIRE(met_choose(stream, n, k, again) == MET_OK);
            for (size_t i = 0; i < n; i++) {
                CHECK(chosen[i] <= 1);
                count += chosen[i];
            }
            CHECK_INT(count, k);
            CHECK_INT(chosen[n], 7); /* nothing behind the end */
            CHECK(memcmp(chosen, again, n) == 0);
        }
    }
}

/* All 35 ways to choose 3 of 7 are equally likely: chi-square with 34 degrees of freedom, 99.9 % quantile 65.2. */
void test_choose_is_uniform_over_subsets(void) {
    enum { TRIALS = 35000 };
    size_t counts[128] = {0}, subsets = 0;
    double square = 0.0;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        uint8_t chosen[7];
        unsigned subset = 0;
        REQUIRE(met_choose((met_stream){2024, trial}, 7, 3, chosen) == MET_OK);
        for (int i = 0; i < 7; i++) {
            subset |= (unsigned)chosen[i] << i;
        }
        counts[subset]++;
    }
    for (int subset = 0; subset < 128; subset++) {
        if (counts[subset] > 0) {
            const double off = (double)counts[subset] - TRIALS / 35.0;
            square += off * off / (TRIALS / 35.0);
            subsets++;
        }
    }
    CHECK_INT(subsets, 35);
    CHECK(square < 65.2);
}

void test_choose_refuses(void) {
    uint8_t chosen[3] = {7, 7, 7};
    CHECK_INT(met_choose(stream, 3, 4, chosen), MET_EVALUE);
    CHECK(strstr(met_detail(), "k=4") != NULL && strstr(met_detail(), "n=3") != NULL);
    CHECK_INT(chosen[0], 7); /* written on success only */
    CHECK_INT(met_choose(stream, 3, 1, NULL), MET_EVALUE);
    CHECK_INT(met_choose(stream, 0, 0, NULL), MET_OK);
}

/* Normal value i is the quantile of uniform value i; values from a table of the normal distribution. */
void test_normal_is_the_quantile(void) {
    static const double x[] = {-8, -6, -3, -1.5, -0.5, 0, 0.25, 1, 2.5, 4.5};
    const met_stream s = {11, 5};
    double u[200], z[200];
    met_uniform(s, 0, 200, u);
    met_normal(s, 0, 200, z);
    for (int i = 0; i < 200; i++) {
        CHECK_CLOSE(0.5 * erfc(-z[i] / sqrt(2.0)), u[i] + 0x1p-54, 1e-15);
        for (size_t k = 0; k < sizeof x / sizeof *x; k++) { /* the quantile rises with the uniform */
            CHECK((z[i] < x[k]) == (u[i] < 0.5 * erfc(-x[k] / sqrt(2.0))));
        }
    }
}

/* A float is the quantile at its 32 random bits, moved by half a step: the words of 32 counters make 128 values. */
void test_normal_float_is_the_quantile(void) {
    enum { COUNTERS = 32, N = 64 * 4 * COUNTERS };
    static float z[N];
    const met_stream s = {12, 6};
    met_normal_float(s, 0, N, z);
    for (size_t i = 0; i < N; i++) {
        uint32_t words[4];
        const size_t place = i % (4 * COUNTERS);
        met_philox(s, i / (4 * COUNTERS) * COUNTERS + place % COUNTERS, words);
        const double u = ((double)words[place / COUNTERS] + 0.5) * 0x1p-32;
        const double value = (double)z[i], density = exp(-value * value / 2.0) / sqrt(2.0 * acos(-1.0));
        CHECK_CLOSE((0.5 * erfc(-value / sqrt(2.0)) - u) / density, 0.0, 4e-7 * fmax(fabs(value), 1.0));
    }
}
