/* stretch.h - a ReLU or maximum pool and the convolution behind it, as a part of a program that runs along a line. */
#ifndef METEORS_C_STRETCH_H
#define METEORS_C_STRETCH_H

#include "kinks.h"
#include "packed.h"
#include "shortcut.h"

#include <optional>

namespace bridge {

template <class T> T *data(const at::Tensor &x) {
    return x.data_ptr<T>();
}

/* Its nodes and values, and how they are computed. */
struct Stretch {
    size_t from = 0, stop = 0; /* the prefix is in front of `from`; what is run for each sample is behind `stop` */
    int before = -1;           /* value at `from` */
    int cells = -1;            /* what the ReLU and the pool make of it */
    int result = -1;           /* of the convolution */
    bool reads_cells = false;  /* behind `stop`, as around a residual block */
    bool channels_are_last = false;
    Windows3 pool, conv;
    Pieces pieces;
    ConvolutionForm form; /* without bias; of a linear layer: only the weight, (outputs, channels) */
    at::Tensor bias;
    size_t convolution = 0; /* node */

    /* Values (1, ...) as (places, channels). */
    at::Tensor as_places(const at::Tensor &values) const { return bridge::as_places(values, channels_are_last); }
    /* The weights, (groups, channels of a group, taps, outputs of a group). */
    template <class T> std::vector<T> weights_of_cells() const {
        const at::Tensor &w = form.weight;
        const at::Tensor found =
            w.reshape({form.groups, w.size(0) / form.groups, w.size(1), -1}).permute({0, 2, 3, 1}).contiguous();
        return std::vector<T>(data<T>(found), data<T>(found) + found.numel());
    }
};

/*
 * The stretch behind what is affine in the input; nothing: there is none, or the samples are not to go through it: outputs
 * alone are wanted, buffers can't be read, or sums would keep the rounding of large values that were taken out again.
 */
std::optional<Stretch> stretch_of(const Subject &subject);

/* An image's values in front of a stretch, start + alpha way, and the sum of their gradients, (places, channels). */
struct Line {
    at::Tensor start, way, sum; /* sum: undefined at first */
};

/* The lines of a subject's images; throws Declined where values are not finite. `shape` becomes that of their values. */
std::vector<Line> lines_of(const Subject &subject, const Stretch &stretch, Features *features,
                           std::vector<int64_t> *shape);

/* The sums of images, each a Line, as their values have them, (images, ...); they begin anew. */
template <class Image>
at::Tensor take_sums(const Stretch &stretch, const std::vector<int64_t> &shape, std::vector<Image> *images) {
    const at::Tensor sums = at::zeros(shape, images->front().start.options());
    for (size_t i = 0; i < images->size(); i++) {
        at::Tensor &sum = (*images)[i].sum;
        if (sum.defined()) {
            const auto row = static_cast<int64_t>(i);
            const at::Tensor own = sums.slice(0, row, row + 1);
            const at::Tensor last = stretch.channels_are_last ? own : own.movedim(1, -1); /* torch transposes slowly */
            last.copy_(sum.view(last.sizes()));
            sum = at::Tensor();
        }
    }
    return sums;
}

/* A way along the line is taken where it saves so much of what is left. */
const double WORTH = 0.1;

} // namespace bridge

#endif
