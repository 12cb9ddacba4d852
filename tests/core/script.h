/* Jobs on the toy model that write down what the engine tells them, and what they should be told by definition. */
#ifndef METEORS_C_TESTS_SCRIPT_H
#define METEORS_C_TESTS_SCRIPT_H

#include "toy_model.h"

#define IMAGES 3
#define SAMPLES 11

/* What a job was told. */
typedef struct script {
    met_kind kind;
    double value[IMAGES][SAMPLES][TOY_OUTPUTS];
    size_t times[IMAGES][SAMPLES]; /* folds since the last begin() of the image */
    double lost[IMAGES][SAMPLES];  /* the image's own output less the sample's, where the job has references */
    size_t width;
    size_t begun[IMAGES]; /* how often */
    size_t folded;
    size_t copies;
    size_t finished;
    bool in_order;
    size_t enough; /* results after which an image has converged; 0: never */
    int fold_status;
    int32_t ids[TOY_SIZE];
    met_segments segments;
    uint8_t replaced[SAMPLES][4];
    double sum[IMAGES][TOY_SIZE];
    void *sums[IMAGES];
} script;

extern double script_images[IMAGES][TOY_SIZE];
extern double script_baselines[IMAGES][TOY_SIZE];
extern met_input script_inputs[IMAGES];

/* Make the inputs anew: image i is explained for output i. */
void script_make_inputs(void);
/* A forward job over them whose samples leave parts of the image out. */
met_job script_job(script *m, met_kind kind);
/* The same samples in a gradient job, whose result is m->sum: sum_k (1 + k) gradient_k. */
met_job script_gradient_job(script *m, met_kind kind);
/* One of them over new inputs, and a model for it, with a shortcut or without. */
met_job script_begin(script *m, toy *t, bool shortcut, bool gradient, met_kind kind);

/* Sample k of an image by definition: rendered from nothing. */
void script_sample(const met_job *job, size_t image, size_t k, double x[TOY_SIZE]);
/* Whether that is the image itself. */
bool script_is_copy(const met_job *job, size_t image, size_t k);
/* The outputs of a job by definition, each sample alone. */
void script_expect(const toy *t, const met_job *job, double out[IMAGES][SAMPLES][TOY_OUTPUTS]);
/* The sums of a gradient job by definition, each sample alone. */
void script_expect_sums(const toy *t, const met_job *job, double out[IMAGES][TOY_SIZE]);

#endif
