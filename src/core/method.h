/*
 * method.h - an attribution method as one record: its name, its arguments, how it runs, and how it nests in a tunnel.
 *
 * Hosts call methods by their record alone (met_method_run), and read arguments into its options by their description:
 * a new method needs no code of theirs.
 */
#ifndef MET_METHOD_H
#define MET_METHOD_H

#include "engine.h"

/* One call of a method: the images, the model, what the caller may choose, and the report to add to. */
typedef struct met_call {
    const met_input *inputs; /* (images,) images of one shape with their baselines and targets */
    size_t images;
    met_dtype dtype; /* MET_FLOAT32 or MET_FLOAT64: what is computed in */
    const met_model *model;
    const met_options *options;
    met_report *report;
} met_call;

/*
 * Where a method writes. Most explain one output and find memory for it; a method that explains several tells their
 * number with reserve(), which allocates.
 *   out      (images, outputs) pointers to (size,) values of the call's dtype, the host's memory
 *   outputs  explained outputs of an image: 1 until reserve() was called
 *   known_finite  the method saw every value as it wrote it, and all are finite: nobody needs to look again
 *   axes, shape  where a method explains all outputs of the model: their shape, for the host to tell
 *   reserve  allocate for that many; NULL: one is all there is
 *   table    memory of the host for a further result of an image, of any shape, kept under its name. NULL: unwanted
 */
typedef struct met_results {
    void **out;
    size_t outputs;
    bool known_finite;
    int axes;
    int64_t shape[MET_TARGET_AXES];
    int (*reserve)(struct met_results *self, size_t outputs);
    int (*table)(struct met_results *self, size_t image, const char *name, met_dtype dtype, int axes,
                 const size_t *shape, void **out);
} met_results;

/* Copy a further result of an image to the host, where it is wanted: up to three axes, C-contiguous. */
int met_results_put(met_results *results, size_t image, const char *name, met_dtype dtype, int axes,
                    const size_t *shape, const void *data);

/* How an argument is read into the options, and the type of the field. */
typedef enum met_argument_kind {
    MET_FLAG,           /* bool */
    MET_COUNT,          /* size_t, at least `least`; where that is 0, None is SIZE_MAX */
    MET_NUMBER,         /* double */
    MET_SEED,           /* uint64_t */
    MET_CHOICE,         /* int: the position of a name among `choices`, which end with NULL */
    MET_SIZES,          /* size_t[MET_AXES] */
    MET_NUMBERS,        /* const double *, (images,) */
    MET_AXIS_FLAGS,     /* const uint8_t *[MET_AXES]: NULL or (shape[a],) */
    MET_FEATURES,       /* const met_segments *, (images,) */
    MET_FLAG_TABLES,    /* const met_table *, (images,) of uint8_t, or NULL: 0 or 1 for each column of each row */
    MET_NUMBER_TABLES,  /* const met_table *, (images,) of double, or NULL */
    MET_TARGETS,        /* met_targets */
    MET_METHOD,         /* met_nested: another method with its options */
    MET_RESULT_NUMBERS, /* double *, (images,): a further result, NULL where it is not wanted */
    MET_RESULT_COUNTS,  /* size_t *, (images,): the same in whole numbers */
    MET_RESULT_ARRAYS   /* void *const *, (images,) pointers to (size,) values of the call's dtype: the same */
} met_argument_kind;

typedef struct met_argument {
    const char *name;
    met_argument_kind kind;
    size_t offset; /* of the field in the options */
    size_t least;
    const char *const *choices;
} met_argument;

/* Rows that the host hands in. */
typedef struct met_table {
    const void *data; /* (rows, columns), C-contiguous; NULL: none for this image */
    size_t rows;
    size_t columns;
} met_table;

/* Outputs to explain beside the target of each input: all of them, or these; none of both where count is 0. */
typedef struct met_targets {
    bool all;
    const met_target *target; /* (count,) */
    size_t count;
} met_targets;

/* The outputs that a method explains, as the first result of a run tells. */
typedef struct met_explained {
    size_t count;     /* 0: not known yet */
    size_t *position; /* (count,) where they lie among all that the model gives */
    int axes;         /* where all are asked for: the shape of a sample's outputs */
    int64_t shape[MET_TARGET_AXES];
} met_explained;

/* Read them: those that are wanted, or all that were asked of the model. The position is the caller's to deallocate. */
int met_explained_read(const met_targets *wanted, const met_result *r, met_explained *out);
/* Find memory for the attributions of that many outputs, and tell their shape. */
int met_results_open(met_results *results, const met_explained *explained);

struct met_method;

/* A method inside another one, with its options. */
typedef struct met_nested {
    const struct met_method *method;
    const void *options;
} met_nested;

/*
 * How a method nests in a noise tunnel, which explains perturbed images with baselines of 0.
 *   of_gradient  the attribution is made of the image's one gradient, so the tunnel's samples go straight to the engine
 *   multiplies   whether the attribution is `run` times the image; NULL: no
 *   run          the attribution without that factor; not used where of_gradient is true
 *   evaluations  that it makes of one image
 */
typedef struct met_nesting {
    bool of_gradient;
    bool (*multiplies)(const void *options);
    int (*run)(const met_call *call, const void *options, met_results *results);
    size_t (*evaluations)(const met_call *call, const void *options);
} met_nesting;

/*
 * A method.
 *   name       by which hosts find it, and the name of its file
 *   doc        what it computes and from which source, for the host's documentation
 *   arguments  ends with name NULL
 *   options    bytes of its options
 *   baselines  whether it reads them
 *   run        attributions of the call's images; may be called with any options that were read by `arguments`
 *   nesting    NULL: it does not nest
 */
typedef struct met_method {
    const char *name;
    const char *doc;
    const met_argument *arguments;
    size_t options;
    bool baselines;
    int (*run)(const met_call *call, const void *options, met_results *results);
    const met_nesting *nesting;
} met_method;

/* All methods, ending with NULL: one line each in method.c. */
extern const met_method *const met_methods[];

/* Run a method: look for images that are not finite, compute, and look at the results. */
int met_method_run(const met_method *method, const met_call *call, const void *options, met_results *results);

/*
 * The baseline of an input under its image's mask: 0 where that hides values, so that they never change.
 *   number  the baseline where it is one number, the caller's memory as long as the input is used
 */
void met_mask_baseline(met_input *input, const double *number);

/* A job over the images of a call that evaluates each as it is; the method adds what it does with them. */
met_job met_job_of(const met_call *call, void *method);

#endif
