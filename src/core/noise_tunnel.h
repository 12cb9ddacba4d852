/* noise_tunnel.h - moments of the attributions of perturbed images. */
#ifndef MET_NOISE_TUNNEL_H
#define MET_NOISE_TUNNEL_H

#include "method.h"

typedef enum met_perturbation {
    MET_PERTURB_NOISE, /* image + N(0, stdev) where it is selected; then the mask applies */
    MET_PERTURB_BANDS  /* random bands take the baseline; then the mask applies */
} met_perturbation;

typedef enum met_tunnel_moment { MET_SMOOTHGRAD, MET_SMOOTHGRAD_SQ, MET_VARGRAD } met_tunnel_moment;

/*
 *   inner        the explainer of the perturbed images, whose baseline is 0
 *   stdev        (images,); MET_PERTURB_NOISE
 *   selected     as in met_sample; MET_PERTURB_NOISE
 *   probability, exact  each band with a probability, or exactly that many (SIZE_MAX: by probability); MET_PERTURB_BANDS
 *   tolerance    stop once the largest standard error is at most this part of the largest value; 0: never
 *   error        standard error of the result, or NULL
 *   input_derivative  derivative of the result by the image where the model's gradient counts as a constant, or NULL
 *   used         samples taken, or NULL
 */
typedef struct met_noise_tunnel_options {
    int perturbation; /* met_perturbation */
    int moment;       /* met_tunnel_moment */
    size_t samples;
    uint64_t seed;
    const double *stdev;
    const uint8_t *selected[MET_AXES];
    double probability;
    size_t exact;
    met_nested inner;
    double tolerance;
    void *const *error;
    void *const *input_derivative;
    size_t *used;
} met_noise_tunnel_options;

extern const met_method met_noise_tunnel;

/* Write the bands (bands,) that sample k of a run with `seed` replaces: 1 = baseline. */
int met_draw_bands(uint64_t seed, size_t k, double probability, size_t exact, size_t bands, uint8_t *replaced);

#endif
