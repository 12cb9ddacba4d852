/* Runs the C tests of list.h, or those whose name contains one of the arguments.
 * Ends with "N passed, M failed"; the exit status is 0 only if a test ran and none failed. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t failures; /* failed checks of the test that runs */

static bool report(bool ok, const char *file, int line) {
    if (!ok) {
        failures++;
        fprintf(stderr, "%s:%d: ", file, line);
    }
    return ok;
}

bool check_true(bool ok, const char *expression, const char *file, int line) {
    if (!report(ok, file, line)) fprintf(stderr, "false: %s\n", expression);
    return ok;
}

bool check_int(long long got, long long want, const char *expression, const char *file, int line) {
    const bool ok = got == want;
    if (!report(ok, file, line)) fprintf(stderr, "%s is %lld, expected %lld\n", expression, got, want);
    return ok;
}

bool check_str(const char *got, const char *want, const char *expression, const char *file, int line) {
    const bool ok = got && want ? strcmp(got, want) == 0 : got == want;
    if (!report(ok, file, line)) {
        fprintf(stderr, "%s is \"%s\", expected \"%s\"\n", expression, got ? got : "(null)", want ? want : "(null)");
    }
    return ok;
}

static bool close_to(double got, double want, double tolerance) {
    if (isinf(got) || isinf(want)) return isinf(got) && isinf(want) && signbit(got) == signbit(want);
    return fabs(got - want) <= tolerance;
}

bool check_close(double got, double want, double tolerance, const char *expression, const char *file, int line) {
    const bool ok = close_to(got, want, tolerance);
    if (!report(ok, file, line)) {
        fprintf(stderr, "%s is %.17g, expected %.17g (off by %.3g, allowed %.3g)\n", expression, got, want,
                fabs(got - want), tolerance);
    }
    return ok;
}

/* One loop for both types: value i is at(got, i). */
static bool check_values(const void *got, const void *want, double (*at)(const void *, size_t), size_t n,
                         double tolerance, const char *expression, const char *file, int line) {
    double scale = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double size = fabs(at(want, i));
        if (isfinite(size) && size > scale) scale = size;
    }
    for (size_t i = 0; i < n; i++) {
        if (!close_to(at(got, i), at(want, i), tolerance * scale)) {
            report(false, file, line);
            fprintf(stderr, "%s[%zu] is %.17g, expected %.17g (allowed %.3g)\n", expression, i, at(got, i), at(want, i),
                    tolerance * scale);
            return false;
        }
    }
    return true;
}

static double double_at(const void *values, size_t i) {
    return ((const double *)values)[i];
}
static double float_at(const void *values, size_t i) {
    return (double)((const float *)values)[i];
}

bool check_close_n(const double *got, const double *want, size_t n, double tolerance, const char *expression,
                   const char *file, int line) {
    return check_values(got, want, double_at, n, tolerance, expression, file, line);
}

bool check_close_nf(const float *got, const float *want, size_t n, double tolerance, const char *expression,
                    const char *file, int line) {
    return check_values(got, want, float_at, n, tolerance, expression, file, line);
}

#define RUN(name) void test_##name(void);
#include "list.h"
#undef RUN

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
#define RUN(name) {#name, test_##name},
#include "list.h"
#undef RUN
    {NULL, NULL}};

static bool chosen(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strstr(name, argv[i])) return true;
    }
    return argc <= 1;
}

int main(int argc, char **argv) {
    size_t passed = 0, failed = 0;
    for (size_t i = 0; tests[i].run; i++) {
        if (!chosen(tests[i].name, argc, argv)) continue;
        failures = 0;
        tests[i].run();
        if (failures) {
            failed++;
            fprintf(stderr, "FAILED %s: %zu checks\n", tests[i].name, failures);
        } else {
            passed++;
        }
    }
    printf("%zu passed, %zu failed\n", passed, failed);
    return passed > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
