/* trunk.h - the layers that a part of the image can be followed through, and what it changes behind them. */
#ifndef METEORS_C_TRUNK_H
#define METEORS_C_TRUNK_H

#include "bridge.h"
#include "modules.h"

#include <torch/csrc/autograd/function.h>

#include <functional>

namespace bridge {

/*
 * Layers at the beginning of a model, each of which alone reads what the one before it made: a convolution over the
 * image, whose first axis is that of the channels (2-D) or which is the only channel (3-D), then scales (batch norm in
 * eval mode), functions of each value, maximum pools and more convolutions. A change of a part of the image reaches a
 * part of their outputs; only that part is computed again, from outputs that are kept for the whole image.
 */
class Trunk {
  public:
    /* Reads as many layers as it can from the beginning of `chain`; throws Declined where there is none. */
    Trunk(const std::vector<torch::autograd::Node *> &chain, const std::vector<int64_t> &image);

    /* Give up the layers behind which a box changes more than half of the outputs, but for the first convolution. */
    void stop_where_it_spreads(const met_box &box);
    /* Give up all but the first convolution and its scale. */
    void stop_at_convolution();
    /* Give up layers whose inputs must be known but are no module's output. */
    void stop_where_unknown(const std::vector<Call> &calls);
    /* Give up all behind the first `operations` of the chain. */
    void stop_behind(size_t operations);

    /* Operations of the chain that the layers stand for. */
    size_t operations() const { return layers_.back().operations; }
    /* Modules whose outputs have to be kept, and a recording of what they gave for (more) images. */
    std::vector<PyObject *> modules() const;
    void keep(const Recording &recording);

    /* All images are kept; `features` (images, ...) are the outputs of the last layer, laid out in memory at will. */
    void settle(const at::Tensor &features, at::MemoryFormat format);
    const at::Tensor &features() const { return layers_.back().output; }

    /* How many layers, in words. */
    std::string text() const;

    /* Images (n, d0, d1, d2) as the first convolution reads them. */
    at::Tensor as_input(const at::Tensor &images) const;

    /*
     * Outputs of the last layer for n samples of kind MET_BOX or MET_IDENTITY.
     *   change  (images, ...) baseline - image, as the first convolution reads it
     *   rows    (n,) which image each sample belongs to
     */
    at::Tensor with_boxes(const at::Tensor &change, const met_sample *s, const std::vector<int64_t> &rows) const;

    /*
     * The same for samples of kind MET_BANDS or MET_IDENTITY, behind the first convolution.
     *   baselines  (images, ...) outputs for the baselines
     *   axis       of the bands in the image
     */
    at::Tensor with_bands(const at::Tensor &baselines, const at::Tensor &change, const met_sample *s,
                          const std::vector<int64_t> &rows, int axis) const;

  private:
    enum class Kind { convolution, scale, pointwise, max_pool };

    struct Layer {
        Kind kind;
        torch::autograd::Node *node; /* while the graph lives */
        size_t operations;           /* of the chain, this layer's included */
        at::Tensor weight;           /* convolution: (outputs, channels, ...); scale: one for each output */
        std::function<at::Tensor(const at::Tensor &)> apply;    /* pointwise */
        std::vector<int64_t> kernel, stride, padding, dilation; /* along the spatial axes */
        std::vector<int64_t> size;                              /* of its output, there */
        PyObject *module = nullptr;                             /* whose output has to be kept */
        std::vector<at::Tensor> kept;                           /* outputs of chunks of images */
        at::Tensor output;                                      /* (images, ...) */

        template <typename Pool> bool read_pool(const Pool &pool);
        at::Tensor pooled(const at::Tensor &x, const std::vector<int64_t> &around) const;
    };

    /* Half-open ranges along one axis: what changes in a layer's input, what its changed outputs read, and those. */
    struct Reach {
        int64_t changed[2], read[2], output[2];
        int64_t size; /* of the input */
    };

    /* Where a box reaches: channels of the image, and ranges by layer and axis. */
    struct Plan {
        int64_t channels[2];
        std::vector<std::vector<Reach>> layers;

        /* Samples with the same key go through the layers together: all is alike but for the place. */
        std::vector<int64_t> key() const;
    };

    bool add(torch::autograd::Node *node, size_t operations);
    void shorten(size_t length);
    bool reach(const met_box &box, Plan *plan) const;
    at::Tensor follow(at::Tensor change, const std::vector<const Plan *> &plans,
                      const std::vector<int64_t> &rows) const;

    at::Tensor take_channels(const at::Tensor &input, const at::Tensor &index) const;

    std::vector<Layer> layers_;
    mutable at::Tensor room_;   /* for channels that are taken */
    std::vector<int64_t> size_; /* of the first convolution's input, along the spatial axes */
    int64_t first_;             /* the image's axis that is the first spatial one */
};

} // namespace bridge

#endif
