/*
 * quadrature.h - quadrature rules on [0, 1].
 */
#ifndef MET_QUADRATURE_H
#define MET_QUADRATURE_H

#include <stddef.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MET_QUADRATURES(X) \
    X(MET_GAUSS_LEGENDRE, "gausslegendre") \
    X(MET_RIEMANN_LEFT, "riemann_left") \
    X(MET_RIEMANN_RIGHT, "riemann_right") \
    X(MET_RIEMANN_MIDDLE, "riemann_middle") \
    X(MET_RIEMANN_TRAPEZOID, "riemann_trapezoid")

typedef enum met_quadrature {
#define MET_QUADRATURE_VALUE(value, name) value,
    MET_QUADRATURES(MET_QUADRATURE_VALUE)
#undef MET_QUADRATURE_VALUE
} met_quadrature;

/* Names of the rules in the order of the enumeration, ending with NULL. */
extern const char *const met_quadrature_names[];

/* Most Gauss-Legendre nodes that can be asked for. */
#define MET_GAUSS_MAX 16384

typedef struct met_rule {
    met_quadrature kind;
    size_t n;
    double *nodes;   /* (n,), Gauss-Legendre only */
    double *weights; /* (n,), Gauss-Legendre only */
} met_rule;

/* Make a rule of n nodes; the Riemann rules take no memory. Release with met_rule_free(). */
int met_rule_new(met_quadrature kind, size_t n, met_rule *out);
void met_rule_free(met_rule *rule);
double met_rule_node(const met_rule *rule, size_t k);
double met_rule_weight(const met_rule *rule, size_t k);

#ifdef __cplusplus
}
#endif

#endif
