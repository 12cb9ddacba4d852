/* prepared.h - what a shortcut keeps for the samples of some images. */
#ifndef METEORS_C_PREPARED_H
#define METEORS_C_PREPARED_H

#include "bridge.h"
#include "trunk.h"

#include <functional>
#include <optional>

namespace bridge {

/* A module before the cut: it is not run again. */
struct Upstream {
    PyObject *module;
    std::vector<int64_t> shape; /* of its output for `samples` samples */
    int64_t samples;
};

} // namespace bridge

struct met_prepared {
    bridge::Model *model = nullptr;
    std::vector<int64_t> images; /* of the job, in order */
    std::vector<int64_t> input;  /* shape of one input */
    at::TensorOptions options;
    PyObject *cut = nullptr; /* borrowed */
    bool protect = false;    /* the model writes over what modules give: it gets copies */
    std::vector<bridge::Upstream> upstream;
    std::vector<at::Tensor> inputs;     /* leaves, a chunk of images each */
    std::vector<at::Tensor> features;   /* z(inputs), with their graphs */
    met_kind kind = MET_LERP;           /* of the samples */
    std::string name = "affine stem";   /* for reports */
    int bands = 0;                      /* axis of the bands */
    at::Tensor z_image;                 /* z(x) of all images; not for MET_LERP */
    at::Tensor z_baseline;              /* z(b) of all images; not for MET_BOX */
    at::Tensor way;                     /* z(x) - z(b) of all images, for MET_LERP */
    at::Tensor change;                  /* b - x as the convolution reads it; not for MET_LERP */
    std::optional<bridge::Trunk> trunk; /* there */
    at::Tensor recent;                  /* gradients that are not in `sum` yet, in the features' dtype */
    std::vector<int> additions;         /* to `recent`, of each image */
    at::Tensor sum;                     /* weighted sum of gradients at z, in double */
};

namespace bridge {

/* Find the cut, keep what it gives for images x and baselines b (n, ...), and prove it; throws Declined. */
void prepare_stem(met_prepared &p, const at::Tensor &x, const at::Tensor &b, const met_sample &example, size_t most);

/* Features z at the cut of samples; rows (n,) is which prepared image each belongs to. */
at::Tensor features_of(const met_prepared &p, const met_sample *s, const std::vector<int64_t> &rows);

/*
 * Run `body`; where the model fails behind the cut, that is a reason to decline, not an error of the run: it may take the
 * whole image, or other batches, where it does not take what the cut gives.
 */
void attempt(const std::function<void()> &body);

/* Outputs of the model behind the cut, at features z (n, ...). */
at::Tensor call_behind(const met_prepared &p, const at::Tensor &z, const std::vector<int64_t> &images);

} // namespace bridge

#endif
