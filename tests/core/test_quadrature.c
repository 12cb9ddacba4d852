#include "check.h"
#include "platform.h"
#include "quadrature.h"

#include <math.h>
#include <string.h>

/*
 * Lower halves of the rules on [0, 1], computed with 40 digits and rounded once. numpy's leggauss() has the same
 * nodes to 1e-16 and the same weights to 1e-15 (n = 50: 1.4e-15).
 */
static const double nodes_50[] = {
    0.00056679778996447487, 0.0029840152839546437, 0.0073229579759970589, 0.013567807446653963, 0.021694522378596027,
    0.031671690527561032,   0.043460721672104054,  0.057016010238193478,  0.072285115285026957, 0.089208964570332019,
    0.10772208354980037,    0.12775284888696573,   0.14922376564658887,   0.17205176715728032,  0.19614853640752489,
    0.22142084774267498,    0.24777092754626789,   0.27509683251298062,   0.30329284405121743,  0.33224987729028133,
    0.36185590311023402,    0.39199638156197913,   0.42255470500092707,   0.45341264921995694,  0.48445083083640555};
static const double weights_50[] = {
    0.0014543112765775705, 0.0033798995978727006, 0.0052952741918254843, 0.007190411380742787, 0.0090577803567446959,
    0.010890121585062397,  0.012680336785006196,  0.014421496790267599,  0.016106864111789007, 0.017729917807573076,
    0.019284378306293839,  0.020764231545073848,  0.022163752169401637,  0.023477525651974217, 0.024700469224733158,
    0.025827851534790568,  0.026855310944498122,  0.02777887240310626,   0.02859496282386419,  0.029300424906611222,
    0.02989252935213273,   0.030368985420885109,  0.030727949795158332,  0.030968033710341621, 0.03108830832767363};
static const double nodes_1[] = {0.5};
static const double weights_1[] = {1};
static const double nodes_2[] = {0.21132486540518711};
static const double weights_2[] = {0.5};
static const double nodes_5[] = {0.046910077030668004, 0.23076534494715845, 0.5};
static const double weights_5[] = {0.11846344252809454, 0.23931433524968324, 0.28444444444444444};

void test_gauss_legendre_values(void) {
    static const struct {
        size_t n;
        const double *nodes, *weights;
    } cases[] = {{1, nodes_1, weights_1}, {2, nodes_2, weights_2}, {5, nodes_5, weights_5}, {50, nodes_50, weights_50}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const size_t n = cases[c].n;
        met_rule rule;
        REQUIRE(met_rule_new(MET_GAUSS_LEGENDRE, n, &rule) == MET_OK);
        for (size_t k = 0; k < n; k++) {
            const size_t low = k < n - 1 - k ? k : n - 1 - k;
            const double node = cases[c].nodes[low];
            CHECK_CLOSE(met_rule_node(&rule, k), k == low ? node : 1.0 - node, 1e-15);
            CHECK_CLOSE(met_rule_weight(&rule, k), cases[c].weights[low], 1e-15);
        }
        met_rule_free(&rule);
    }
}

/* The rule's value for x^power. */
static double integrate(const met_rule *rule, unsigned power) {
    double sum = 0.0;
    for (size_t k = 0; k < rule->n; k++) {
        sum += met_rule_weight(rule, k) * pow(met_rule_node(rule, k), power);
    }
    return sum;
}

/* Exact up to degree 2n - 1; at degree 2n off by (n!)^4 / ((2n + 1) ((2n)!)^2), no less and no more. */
void test_gauss_legendre_degree_of_exactness(void) {
    double error = 1.0; /* of n = 0 */
    for (unsigned n = 1; n <= 60; n++) {
        met_rule rule;
        REQUIRE(met_rule_new(MET_GAUSS_LEGENDRE, n, &rule) == MET_OK);
        for (unsigned power = 0; power < 2 * n; power++) {
            CHECK_CLOSE(integrate(&rule, power), 1.0 / (power + 1.0), 4e-15);
        }
        error *= pow(n / (2.0 * (2.0 * n - 1.0)), 2) * (2.0 * n - 1.0) / (2.0 * n + 1.0);
        CHECK_CLOSE(1.0 / (2.0 * n + 1.0) - integrate(&rule, 2 * n), error, 4e-15);
        met_rule_free(&rule);
    }
}

void test_gauss_legendre_is_symmetric_and_ascends(void) {
    static const size_t sizes[] = {1, 2, 3, 15, 16, 31, 32, 33, 64, 1000, 1001, MET_GAUSS_MAX};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        const size_t n = sizes[c];
        met_rule rule;
        double sum = 0.0;
        const double start = met_seconds();
        REQUIRE(met_rule_new(MET_GAUSS_LEGENDRE, n, &rule) == MET_OK);
        CHECK(met_seconds() - start < (n <= 1001 ? 0.5 : 30.0)); /* generous: sanitizers, busy machines */
        for (size_t k = 0; k < n; k++) {
            const double node = met_rule_node(&rule, k), weight = met_rule_weight(&rule, k);
            REQUIRE(node > (k == 0 ? 0.0 : met_rule_node(&rule, k - 1)) && node < 1.0);
            REQUIRE(weight > 0.0 && weight == met_rule_weight(&rule, n - 1 - k));
            REQUIRE(k >= (n + 1) / 2 || met_rule_node(&rule, n - 1 - k) == 1.0 - node);
            sum += weight;
        }
        CHECK_CLOSE(sum, 1.0, 1e-13);
        if (n >= 64) {
            CHECK_CLOSE(integrate(&rule, 100), 1.0 / 101.0, 1e-14);
        }
        met_rule_free(&rule);
    }
}

/* Nodes crowd at the ends like zeros of the Bessel function J0 (F. W. J. Olver, "Asymptotics and special functions",
 * 1974, ch. 12): the angle of the outermost is j (1 - 1 / (24 N^2)) / N, N = n + 1/2, up to N^-5. Relative to their
 * distance from the end the largest rule must still have 12 digits there. */
void test_gauss_legendre_keeps_digits_at_the_ends(void) {
    const double j = 2.404825557695773, bessel1 = 0.5191474972894669; /* J1(j) */
    const double order = MET_GAUSS_MAX + 0.5;
    const double half_sine = sin(0.5 * j / order * (1.0 - 1.0 / (24.0 * order * order)));
    met_rule rule;
    REQUIRE(met_rule_new(MET_GAUSS_LEGENDRE, MET_GAUSS_MAX, &rule) == MET_OK);
    CHECK_CLOSE(met_rule_node(&rule, 0) / (half_sine * half_sine), 1.0, 1e-12);
    CHECK_CLOSE(met_rule_weight(&rule, 0) * pow(order * bessel1, 2), 1.0, 1e-8);
    met_rule_free(&rule);
}

void test_riemann_by_hand(void) {
    static const struct {
        met_quadrature kind;
        double nodes[4], weights[4];
    } cases[] = {
        {MET_RIEMANN_LEFT, {0.0, 0.25, 0.5, 0.75}, {0.25, 0.25, 0.25, 0.25}},
        {MET_RIEMANN_RIGHT, {0.25, 0.5, 0.75, 1.0}, {0.25, 0.25, 0.25, 0.25}},
        {MET_RIEMANN_MIDDLE, {0.125, 0.375, 0.625, 0.875}, {0.25, 0.25, 0.25, 0.25}},
        {MET_RIEMANN_TRAPEZOID, {0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0}, {0.125, 0.25, 0.25, 0.125}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        met_rule rule;
        REQUIRE(met_rule_new(cases[c].kind, 4, &rule) == MET_OK);
        for (size_t k = 0; k < 4; k++) {
            CHECK_CLOSE(met_rule_node(&rule, k), cases[c].nodes[k], 1e-16);
            CHECK_CLOSE(met_rule_weight(&rule, k), cases[c].weights[k], 0.0);
        }
        met_rule_free(&rule);
        met_rule_free(&rule);
    }
    met_rule_free(NULL);
}

/* Any n: ends exact, nodes ascend, weights sum to 1, the trapezoid rule's to 1 - 1/n. */
void test_riemann_ends_and_sums(void) {
    static const size_t sizes[] = {2, 3, 7, 10, 49, 50, 1000};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        const size_t n = sizes[c];
        const double step = 1.0 / (double)n;
        const double ends[][2] = {{0.0, 1.0 - step}, {step, 1.0}, {step / 2, 1.0 - step / 2}, {0.0, 1.0}};
        for (int kind = MET_RIEMANN_LEFT; kind <= MET_RIEMANN_TRAPEZOID; kind++) {
            met_rule rule;
            double sum = 0.0;
            REQUIRE(met_rule_new((met_quadrature)kind, n, &rule) == MET_OK);
            CHECK(rule.nodes == NULL && rule.weights == NULL);
            CHECK(met_rule_node(&rule, 0) == ends[kind - MET_RIEMANN_LEFT][0]);
            CHECK(met_rule_node(&rule, n - 1) == ends[kind - MET_RIEMANN_LEFT][1]);
            for (size_t k = 0; k < n; k++) {
                CHECK(k == 0 || met_rule_node(&rule, k) > met_rule_node(&rule, k - 1));
                sum += met_rule_weight(&rule, k);
            }
            CHECK_CLOSE(sum, kind == MET_RIEMANN_TRAPEZOID ? 1.0 - step : 1.0, 1e-14);
            met_rule_free(&rule);
        }
    }
}

void test_riemann_takes_any_number_of_steps(void) {
    met_rule rule;
    REQUIRE(met_rule_new(MET_RIEMANN_MIDDLE, 1000000000, &rule) == MET_OK);
    CHECK_CLOSE(met_rule_node(&rule, 500000000), 0.5 + 0.5e-9, 1e-15);
    met_rule_free(&rule);
}

/* A refusal names the argument and what came, and leaves the output alone. */
static void check_refused(met_quadrature kind, size_t n, const char *got, const char *wanted) {
    met_rule rule = {.n = 77};
    CHECK_INT(met_rule_new(kind, n, &rule), MET_EVALUE);
    CHECK(strstr(met_detail(), "n_steps") != NULL);
    CHECK(strstr(met_detail(), got) != NULL);
    CHECK(strstr(met_detail(), wanted) != NULL);
    CHECK_INT(rule.n, 77);
}

void test_rule_refuses(void) {
    met_rule rule = {.n = 77};
    check_refused(MET_GAUSS_LEGENDRE, 0, "0", "greater than 0");
    check_refused(MET_GAUSS_LEGENDRE, MET_GAUSS_MAX + 1, "16385", "16384");
    check_refused(MET_GAUSS_LEGENDRE, 1000000000, "1000000000", "riemann_");
    check_refused(MET_RIEMANN_LEFT, 1, "got 1", "greater than 1 with method \"riemann_left\"");
    check_refused(MET_RIEMANN_RIGHT, 0, "got 0", "greater than 1 with method \"riemann_right\"");
    check_refused(MET_RIEMANN_MIDDLE, 1, "got 1", "riemann_middle");
    check_refused(MET_RIEMANN_TRAPEZOID, 1, "got 1", "riemann_trapezoid");
    CHECK_INT(met_rule_new((met_quadrature)99, 5, &rule), MET_EVALUE);
    CHECK_INT(met_rule_new(MET_GAUSS_LEGENDRE, 5, NULL), MET_EVALUE);
    CHECK_INT(rule.n, 77);
}
