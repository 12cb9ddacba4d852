/* prepared.h - a prepared shortcut: what the model's program gives behind the cut, and whether that is the model's. */
#ifndef METEORS_C_PREPARED_H
#define METEORS_C_PREPARED_H

#include "recordings.h"
#include "shortcut.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

struct met_prepared {
    bridge::Model *model = nullptr;
    std::vector<int64_t> origins; /* of the images */
    std::unique_ptr<bridge::Program> program;
    std::unique_ptr<bridge::Features> features;
    std::vector<int> live;  /* values at the cut */
    std::string name, text; /* for reports */
    at::Tensor images;      /* for the pass back */
    size_t most = 1;
    std::vector<at::Tensor> recent; /* gradients that are not in `sum` yet, in the features' dtype, by live value */
    std::vector<at::Tensor> sum;    /* weighted sums of gradients at the cut, in double */
    std::vector<int> additions;     /* to `recent`, of each image */
};

namespace bridge {

/* Call body(from, to) for all n samples at once, or for a part on each of torch's threads, whichever was found faster. */
void evaluate(const met_prepared &p, Work::Kind kind, size_t n, const std::function<void(size_t, size_t)> &body);

/* Outputs of the program behind the cut, for those samples [from, to) of features; all of them as one batch. */
at::Tensor outputs_of(const met_prepared &p, const std::vector<at::Tensor> &features, const std::vector<int64_t> &rows,
                      size_t from, size_t to);

/* The same of all samples, on the threads that were found faster. */
at::Tensor outputs_of(const met_prepared &p, const std::vector<at::Tensor> &features, const std::vector<int64_t> &rows);

/* gradient_sums.cpp: add the weighted gradients of samples at the cut; returns their target outputs. */
at::Tensor sum_gradients(met_prepared &p, const met_sample *s, const std::vector<int64_t> &rows,
                         const met_target *const *targets, const double *weight);

/* The sums so far (images, ...) of the values that are live where they are taken back from; none: nothing was added. */
std::vector<at::Tensor> sums_at_cut(met_prepared &p);

/* The sums at the images, (images, ...). */
at::Tensor gradient_sums(met_prepared &p);

/* ---- verify.cpp: they throw Declined where the program does not give what the model gives */

/* What the model gave for samples of the trial, (1, ...), by their place there. */
using Known = std::map<int64_t, at::Tensor>;

/* Outputs of the model and of the program, of the same samples, some of `all` the model gives. `wide`: in double. */
void compare(const at::Tensor &model, const at::Tensor &program, bool wide, const char *what,
             const at::Tensor &all = {});

/* The gradient of a sample, which its recorded run has by the model. */
struct ModelGradient {
    size_t position = 0;            /* in the program; 0: at the sample itself */
    std::vector<at::Tensor> values; /* of each value that is live there; undefined: the output does not depend on it */
    double seconds = 0;             /* that it took */
};

/* That of the trial's sample j, whose run it is. */
ModelGradient gradient_of(const Model &model, const Recorded &run, const met_trial &trial, size_t j);

/*
 * The same where the features' gradients are taken back from, if that is in the part of the program that is affine in the
 * input, and the run has its values; else at the sample.
 */
ModelGradient gradient_at_cut(const met_prepared &p, const Recorded &run, const met_trial &trial, size_t j);

/* The program's output, beside the model's y, and gradient of the trial's sample j, beside that of the model. */
void compare_gradients(met_prepared &p, const met_trial &trial, size_t j, const at::Tensor &y,
                       const ModelGradient &model, bool wide);

/*
 * The program's outputs for the trial's samples from `from` on beside those of the model, up to `several` as one batch, then
 * in batches as large as they may be. Of a batch of which some are known, those are compared.
 */
void verify(met_prepared &p, const met_trial &trial, const at::Tensor &samples, int64_t from, int64_t several,
            const Known &known);

} // namespace bridge

#endif
