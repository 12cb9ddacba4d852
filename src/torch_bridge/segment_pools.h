/*
 * segment_pools.h - samples in which superpixels are replaced, for models that take a mean, sum or maximum over places.
 *
 * A value in front of such a pool depends on the segments in its receptive field only. Places that the same segments reach
 * are taken together: what is summed over them depends on which of those few segments are replaced, so it is found once for
 * each such combination, and the pool of a sample is a sum of numbers that are known.
 */
#ifndef METEORS_C_SEGMENT_POOLS_H
#define METEORS_C_SEGMENT_POOLS_H

#include "segment_groups.h"
#include "segment_reach.h"
#include "shortcut.h"
#include "spatial_pools.h"

#include <map>
#include <string>
#include <vector>

namespace bridge {

class SegmentPools : public Features {
  public:
    /* Finds the pools, and whether few evaluations in front of them serve all samples; throws Declined. */
    explicit SegmentPools(const Subject &subject);

    std::string name() const override;
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    /* What is known of one image. */
    struct Image {
        size_t segments = 0;
        at::Tensor ids;               /* (axes of the image), `segments` for none; size 1 where they repeat */
        std::vector<Groups> groups;   /* by pool */
        std::vector<int64_t> rows;    /* by pool, taken in `sums` */
        std::vector<at::Tensor> sums; /* by pool (rows or more, features) in double */
    };

    Image &image_of(int64_t row, const met_segments &segments);
    size_t simulated(const Image &image, bool leave_one_out, size_t count) const;
    void learn(Image &image, int64_t row, const std::vector<Replaced> &asked);
    void evaluate(Image &image, int64_t row, const Plan &plan, size_t from, size_t to);
    at::Tensor render(const Image &image, int64_t row, const Plan &plan, size_t from, size_t to) const;
    at::Tensor pooled(Image &image, size_t pool, const std::vector<Replaced> &asked) const;

    const Program &program_;
    const Model &model_;
    at::Tensor images_, baselines_; /* (images, ...) */
    std::vector<int64_t> origins_;  /* of the images, in the user's call */
    size_t most_;                   /* samples that the model may see at once */
    PoolCut cut_;
    SegmentReach reach_;
    std::map<int64_t, Image> known_; /* by row of images_ */
    size_t count_ = 1, needed_ = 0;  /* evaluations of an image, and how many are expected in front of the pools */
};

} // namespace bridge

#endif
