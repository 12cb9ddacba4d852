/* A small harness for the C tests.
 *
 * A test is a function `void test_<name>(void)` in some test_<file>.c or .cpp, named once in tests/core/list.h.
 * CHECK* record a failure and go on, REQUIRE also leaves the test function: use it before a pointer is followed.
 * Every macro evaluates its arguments once. */
#ifndef METEORS_C_TESTS_CHECK_H
#define METEORS_C_TESTS_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* What the macros below call. `ok` decides; the rest words the failure. Returns `ok`. */
bool check_true(bool ok, const char *expression, const char *file, int line);
bool check_int(long long got, long long want, const char *expression, const char *file, int line);
bool check_str(const char *got, const char *want, const char *expression, const char *file, int line);

/* |got - want| <= tolerance; NaN equals nothing, an infinity only itself. */
bool check_close(double got, double want, double tolerance, const char *expression, const char *file, int line);

/* max |got - want| <= tolerance * max |want| over n values; the first value that is off is named. */
bool check_close_n(const double *got, const double *want, size_t n, double tolerance, const char *expression,
                   const char *file, int line);
bool check_close_nf(const float *got, const float *want, size_t n, double tolerance, const char *expression,
                    const char *file, int line);

#define CHECK(expression) check_true((expression), #expression, __FILE__, __LINE__)
#define CHECK_INT(got, want) check_int((long long)(got), (long long)(want), #got, __FILE__, __LINE__)
#define CHECK_STR(got, want) check_str((got), (want), #got, __FILE__, __LINE__)
#define CHECK_CLOSE(got, want, tolerance) \
    check_close((double)(got), (double)(want), (tolerance), #got, __FILE__, __LINE__)
#define CHECK_CLOSE_N(got, want, n, tolerance) check_close_n((got), (want), (n), (tolerance), #got, __FILE__, __LINE__)
#define CHECK_CLOSE_NF(got, want, n, tolerance) \
    check_close_nf((got), (want), (n), (tolerance), #got, __FILE__, __LINE__)
#define REQUIRE(expression) \
    do { \
        if (!check_true((expression), #expression, __FILE__, __LINE__)) return; \
    } while (0)

#endif
