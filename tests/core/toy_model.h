/* A made-up provider that uses every part of the vtables and misbehaves on demand.
 *
 * The model: a stem of TOY_FEATURES linear features z_j = sum_i a_ji x_i, and outputs
 * f_t = sum_j (t + 1 + j) z_j^2 / 2, so that d f_t / d x_i = sum_j (t + 1 + j) z_j a_ji.
 * Its shortcut keeps z of image and baseline and updates z from the part that a sample changes. */
#ifndef METEORS_C_TESTS_TOY_MODEL_H
#define METEORS_C_TESTS_TOY_MODEL_H

#include "method.h"

#define TOY_FEATURES 2
#define TOY_OUTPUTS 3
#define TOY_SHAPE {3, 4, 5}
#define TOY_SIZE 60

/* What a sample's features have to do with the other samples of its batch. */
typedef enum toy_coupling {
    TOY_APART,           /* nothing */
    TOY_DIVIDES,         /* they are divided by the largest |value| of the batch */
    TOY_DIVIDES_BY_BAND, /* ... of its first band */
    TOY_SHIFTS,          /* half of the batch's mean features is taken off */
    TOY_CENTERS,         /* all of it: a sample alone has outputs and gradients of 0 */
    TOY_FOLLOWS,         /* a part of the features of all samples before it is added */
    TOY_NUMBERS          /* they are multiplied by its place in the batch */
} toy_coupling;

typedef struct toy {
    met_model model;
    double a[TOY_FEATURES][TOY_SIZE];
    /* what happened */
    size_t calls;
    size_t largest;
    size_t samples;
    size_t prepared;       /* minus released */
    size_t shortcut_calls; /* prepare() and collect() included */
    size_t lent;           /* gradients not yet given back */
    size_t looks;          /* how often it was to look how the model computes, ... */
    bool looking;          /* ... and whether it still is */
    met_batch kept[64];    /* batches kept by keep_batches, with what they held */
    double kept_first[64];
    size_t kept_count;
    met_trial trial;    /* of the last prepare(); what it points to is gone, but for the next fields */
    double trial_first; /* the first value of its second sample */
    bool
        trial_agrees; /* each sample of every trial was rendered as described, for the image and target that it names */
    bool trial_differs;  /* the first two of every trial were not alike */
    size_t trial_copies; /* samples of all trials that are copies of their image */
    /* misbehaviour */
    size_t fail_at;             /* call that returns MET_ECALLBACK, counted from 1 */
    bool scribble;              /* overwrite the input, and say so */
    bool keep_batches;          /* retain every batch */
    size_t decline_at;          /* call of the shortcut that declines, counted from 1 */
    bool decline_on;            /* ... and all that follow ... */
    met_decline decline_reason; /* ... for this reason; none: MET_DECLINE_FAILURE */
    double exaggerate;          /* the shortcut's outputs are larger by this part */
    bool no_gradient;           /* gradient() forgets to lend one */
    bool no_output;             /* forward() forgets to answer */
    toy_coupling coupling;
    bool unseen;                      /* how it computes is not seen: it has to be tried */
    bool refuses;                     /* MET_ECALLBACK for a sample whose first value is ... */
    double refused;                   /* ... this */
    bool cuts;                        /* no gradient for samples whose first value is below ... */
    double cut;                       /* ... this: their features are 0 */
    bool lone;                        /* one number for a batch: MET_ESINGLE for more than one sample */
    bool random;                      /* features move a little at each call */
    uint64_t draws;                   /* random numbers that a call draws, which changes nothing, ... */
    uint64_t drawn;                   /* ... and those of all calls */
    bool rounds;                      /* features depend a little on the size of the batch */
    double offset;                    /* so much is added to outputs for each sample of the batch */
    double seconds;                   /* what a call of the model takes at least ... */
    double seconds_a_sample;          /* ... and each sample of it ... */
    double shortcut_seconds;          /* ... and a call of the shortcut ... */
    double shortcut_seconds_a_sample; /* ... and each sample of that */
    size_t together;                  /* samples that the shortcut says are best given at once; 0: it does not say */
    size_t shortcut_learns;           /* so many calls of it find what later ones are spared, ... */
    double shortcut_seconds_learning; /* ... which takes so long each time */
    bool wrong;                       /* what the shortcut gives for the alpha ... */
    double wrong_alpha;               /* ... is off by a part in ten */
    met_tried tried;                  /* what prepare() tells */
    bool poisoned;                    /* a sample whose first value is `poison` ... */
    double poison;
    double poison_output;   /* ... has this added to its output ... */
    double poison_gradient; /* ... and this to its gradient's value 7 */
} toy;

void toy_init(toy *t, bool shortcut);
/* Release what keep_batches kept. */
void toy_release(toy *t);
/* z, and the gradient of an output, of one float64 image that is alone in its batch. */
void toy_features(const toy *t, const double *x, double z[TOY_FEATURES]);
void toy_gradient(const toy *t, const double *x, size_t target, double out[TOY_SIZE]);
double toy_output(const double z[TOY_FEATURES], size_t target);

/* An input over `data` (TOY_SIZE values), all used, baseline 0, target 0. */
met_input toy_input(const void *data, met_dtype dtype);
/* Values that look random and stay put: value i of series s, in [-1, 1). */
double toy_value(size_t s, size_t i);

/* met_method_run() with one explained output: out (images,) pointers to (TOY_SIZE,) values. */
int toy_run(const met_method *method, const met_input *inputs, size_t images, met_dtype dtype, const void *options,
            const met_model *model, const met_options *run, void **out, met_report *report);

/* Let toy_allocations_left allocations of the core succeed; met_set_allocator(NULL, NULL) ends it. */
void toy_ration_memory(void);
extern long toy_allocations_left;
extern long toy_allocations_alive;

#endif
