/* by_place.h - parts of a program that give at each place what depends on that place alone, until a mean or sum over places. */
#ifndef METEORS_C_BY_PLACE_H
#define METEORS_C_BY_PLACE_H

#include "shortcut.h"
#include "spatial_pools.h"

#include <functional>
#include <optional>
#include <vector>

namespace bridge {

/* Samples that are made at once, with the default options. */
const size_t TOGETHER_BY_PLACE = 64;
/* In the cache a pass takes about this part of what it takes on whole images. */
const double IN_CACHE = 0.6;

/*
 * The part behind a position at which one value is live. Some places at a time can be run through it, for many samples, while
 * they lie in the cache. What is affine in front of the mean is run on the mean, once for each sample.
 */
class ByPlace {
  public:
    /* The part behind `from`; the features of a place lie along the last axis, or along axis 1. Nothing: there is none. */
    static std::optional<ByPlace> behind(const Program &p, size_t from, bool features_last);

    /* Positions: behind the mean, and in front of what is affine before it. */
    size_t stop() const { return mean_.stop; }
    size_t tail() const { return tail_; }
    /* The value that is live at the beginning, and that in front of what is affine. */
    int value() const { return value_; }
    int tail_value() const { return tail_value_; }
    const PoolCut &mean() const { return mean_; }
    int64_t places() const { return places_; }
    /* Of a place in front of what is affine. */
    int64_t features() const { return features_; }

    /* What samples of one image give up to there: values (samples, places, features), of any places, and so is the result. */
    at::Tensor run(const Inputs &inputs, int64_t origin, const at::Tensor &values) const;
    /* The same in front of the mean. */
    at::Tensor source(const Inputs &inputs, int64_t origin, const at::Tensor &values) const;
    /* What the mean or sum gives, (samples, features), from the mean over all places of what run() gives, likewise. */
    at::Tensor of_mean(const Inputs &inputs, int64_t origin, const at::Tensor &mean) const;

    /* Places that are run at a time where each takes so many bytes. */
    int64_t tile(size_t bytes) const;
    /* How many tiles of so many places there are. */
    size_t tiles(int64_t tile) const { return static_cast<size_t>((places_ + tile - 1) / tile); }
    /* body(first place, places, number of the tile) for all tiles, on torch's threads. */
    void over_tiles(int64_t tile, const std::function<void(int64_t, int64_t, size_t)> &body) const;
    /* The mean over all places, (samples, features), of what `of` gives for a tile: (samples, places, features). */
    at::Tensor mean_of(int64_t tile, const std::function<at::Tensor(int64_t, int64_t, size_t)> &of) const;

  private:
    at::Tensor run(const Inputs &inputs, int64_t origin, const at::Tensor &values, size_t from, int given, size_t to,
                   int wanted) const;

    size_t from_ = 0, tail_ = 0, rank_ = 0;
    int value_ = -1, tail_value_ = -1;
    PoolCut mean_;
    int64_t places_ = 1, features_ = 1;
    bool last_ = false;
};

} // namespace bridge

#endif
