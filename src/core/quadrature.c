/*
 * quadrature.c - rules for the integral over [0, 1]: Gauss-Legendre and Riemann sums.
 */
#include "quadrature.h"

#include "buffer.h"

#include <math.h>

const char *const met_quadrature_names[] = {
#define MET_QUADRATURE_NAME(value, name) name,
    MET_QUADRATURES(MET_QUADRATURE_NAME)
#undef MET_QUADRATURE_NAME
        NULL,
};

#define PI 3.141592653589793238462643383280

/* Nodes that go through the recurrence together: enough independent chains to keep the vector units busy. */
#define BLOCK 16

static const char *const method_names[] = {"gausslegendre", "riemann_left", "riemann_right", "riemann_middle",
                                           "riemann_trapezoid"};

/*
 * The Legendre polynomial P_n and its backward difference at x = 1 - y, by the three-term recurrence
 * (j + 1) P_{j+1} = (2j + 1) x P_j - j P_{j-1}, rewritten for the differences d_j = P_j - P_{j-1}:
 *   (j + 1) d_{j+1} = j d_j - (2j + 1) y P_j,   P_{j+1} = P_j + d_{j+1}
 * In y nothing cancels near the end of the interval, where nodes crowd.
 *   n  degree, at least 1
 *   y  (BLOCK,) distances from the end x = 1
 *   p  (BLOCK,) P_n
 *   d  (BLOCK,) P_n - P_{n-1}
 */
static void legendre(size_t n, const double y[BLOCK], double p[BLOCK], double d[BLOCK]) {
    double value[BLOCK], step[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        value[i] = 1.0;
        step[i] = 0.0;
    }
    for (size_t j = 0; j < n; j++) {
        const double scale = 1.0 / (double)(j + 1);
        const double keep = (double)j * scale, slope = (double)(2 * j + 1) * scale;
        for (int i = 0; i < BLOCK; i++) {
            step[i] = keep * step[i] - slope * y[i] * value[i];
            value[i] += step[i];
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        p[i] = value[i];
        d[i] = step[i];
    }
}

/*
 * Nodes first .. first + count - 1 of the lower half and their weights, by Newton's iteration on P_n(1 - y) = 0.
 * (1 - x^2) P_n' = n (P_{n-1} - x P_n) reads y (2 - y) P_n' = n (y P_n - d_n), whose right side is `slope` below; at
 * a node the weight on [-1, 1] is 2 / ((1 - x^2) P_n'^2) = 2 y (2 - y) / slope^2, half of that on [0, 1], where the
 * node is y / 2. Starting values: F. G. Tricomi, "Sugli zeri dei polinomi sferici ed ultrasferici", Ann. Mat. Pura
 * Appl. 31, 1950.
 *   nodes, weights  (n,) of the rule; [first, first + count) is written
 */
static void gauss_block(size_t n, size_t first, size_t count, double *nodes, double *weights) {
    const double order = (double)n + 0.5;
    double y[BLOCK], p[BLOCK], d[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) {
        /* A block that is not full repeats its last node. */
        const double k = (double)(first + (i < count ? i : count - 1));
        const double angle = PI * (k + 0.75) / order;
        const double half_sine = sin(0.5 * (angle + 1.0 / (8.0 * order * order * tan(angle))));
        y[i] = 2.0 * half_sine * half_sine;
    }
    /* A relative error e becomes less than e^2 / 2, so a step below 1e-8 leaves 1e-16. Four iterations do it for
     * any n; the bound is there for arithmetic that is not what we think. */
    double worst = 1.0;
    for (int iteration = 0; iteration < 12 && worst > 1e-8; iteration++) {
        worst = 0.0;
        legendre(n, y, p, d);
        for (int i = 0; i < BLOCK; i++) {
            const double slope = (double)n * (y[i] * p[i] - d[i]);
            const double step = p[i] * y[i] * (2.0 - y[i]) / slope;
            worst = fmax(worst, fabs(step) / y[i]);
            y[i] += step;
        }
    }
    legendre(n, y, p, d);
    for (size_t i = 0; i < count; i++) {
        const double slope = (double)n * (y[i] * p[i] - d[i]);
        nodes[first + i] = 0.5 * y[i];
        weights[first + i] = y[i] * (2.0 - y[i]) / (slope * slope);
    }
}

/* The upper half mirrors the lower one: node n-1-k = 1 - node k, and an odd rule has its middle node at 1/2. */
static void gauss_legendre(size_t n, double *nodes, double *weights) {
    const size_t half = (n + 1) / 2;
    for (size_t first = 0; first < half; first += BLOCK) {
        gauss_block(n, first, half - first < BLOCK ? half - first : BLOCK, nodes, weights);
    }
    if (n % 2 == 1) {
        nodes[n / 2] = 0.5;
    }
    for (size_t k = 0; k < n / 2; k++) {
        nodes[n - 1 - k] = 1.0 - nodes[k];
        weights[n - 1 - k] = weights[k];
    }
}

/*
 * Make a rule; nodes ascend.
 *   kind  gauss_legendre: exact for polynomials of degree 2n - 1, n in [1, MET_GAUSS_MAX], O(n^2) time once.
 *         Riemann sums: n > 1, no memory, nodes and weights computed when they are asked for
 *   n     number of nodes (n_steps of the caller)
 *   out   the rule; the caller releases it with met_rule_free()
 */
int met_rule_new(met_quadrature kind, size_t n, met_rule *out) {
    double *nodes = NULL;
    if (out == NULL) {
        return met_fail(MET_EVALUE, "out is NULL: memory for a rule is wanted");
    }
    if ((int)kind < MET_GAUSS_LEGENDRE || (int)kind > MET_RIEMANN_TRAPEZOID) {
        return met_fail(MET_EVALUE, "method %d is not a quadrature rule", (int)kind);
    }
    if (kind != MET_GAUSS_LEGENDRE) {
        if (n <= 1) {
            return met_fail(MET_EVALUE, "n_steps must be greater than 1 with method \"%s\", got %zu",
                            method_names[kind], n);
        }
        *out = (met_rule){.kind = kind, .n = n};
        return MET_OK;
    }
    if (n == 0) {
        return met_fail(MET_EVALUE, "n_steps must be greater than 0 with method \"gausslegendre\", got 0");
    }
    if (n > MET_GAUSS_MAX) {
        return met_fail(MET_EVALUE,
                        "n_steps must be at most %d with method \"gausslegendre\", got %zu: "
                        "take a Riemann rule such as \"riemann_middle\" for more steps",
                        MET_GAUSS_MAX, n);
    }
    nodes = met_allocate(2 * n, sizeof *nodes);
    if (nodes == NULL) {
        return met_fail(MET_ENOMEM, "no memory for the nodes and weights of n_steps=%zu", n);
    }
    gauss_legendre(n, nodes, nodes + n);
    *out = (met_rule){.kind = kind, .n = n, .nodes = nodes, .weights = nodes + n};
    return MET_OK;
}

/* Release what the rule holds and leave it empty. NULL is fine, and so is a second call. */
void met_rule_free(met_rule *rule) {
    if (rule != NULL) {
        met_deallocate(rule->nodes); /* the weights lie behind the nodes */
        *rule = (met_rule){.kind = rule->kind};
    }
}

/* Point k of n > 1 evenly spaced ones, both ends exact. */
static double linspace(double start, double stop, size_t n, size_t k) {
    return k == n - 1 ? stop : start + (double)k * ((stop - start) / (double)(n - 1));
}

/* Node k of [0, n), ascending, in [0, 1]. */
double met_rule_node(const met_rule *rule, size_t k) {
    const double step = 1.0 / (double)rule->n;
    switch (rule->kind) {
    case MET_RIEMANN_LEFT: return linspace(0.0, 1.0 - step, rule->n, k);
    case MET_RIEMANN_RIGHT: return linspace(step, 1.0, rule->n, k);
    case MET_RIEMANN_MIDDLE: return linspace(0.5 * step, 1.0 - 0.5 * step, rule->n, k);
    case MET_RIEMANN_TRAPEZOID: return linspace(0.0, 1.0, rule->n, k);
    case MET_GAUSS_LEGENDRE: break;
    }
    return rule->nodes[k];
}

/*
 * Weight of node k. Weights sum to 1, but for the trapezoid rule's: they are 1/n with the two ends halved, 1 - 1/n in
 * all, because that is what integrated gradients are computed with elsewhere and results must compare.
 */
double met_rule_weight(const met_rule *rule, size_t k) {
    const double step = 1.0 / (double)rule->n;
    switch (rule->kind) {
    case MET_RIEMANN_LEFT:
    case MET_RIEMANN_RIGHT:
    case MET_RIEMANN_MIDDLE: return step;
    case MET_RIEMANN_TRAPEZOID: return k == 0 || k == rule->n - 1 ? 0.5 * step : step;
    case MET_GAUSS_LEGENDRE: break;
    }
    return rule->weights[k];
}
