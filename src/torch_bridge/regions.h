/* regions.h - samples whose images differ in a part: of each value, only what that part reaches is computed again. */
#ifndef METEORS_C_REGIONS_H
#define METEORS_C_REGIONS_H

#include "region.h"

#include <mutex>

namespace bridge {

/* What one changed box of the image reaches, step by step. */
struct Route {
    std::vector<Box> changed;  /* by place: the image, then what the steps compute; empty: unchanged */
    std::vector<Box> reads;    /* of all operands of the steps; undefined where a step computes nothing */
    std::vector<Box> settled;  /* by place: where it is what it is for the baseline */
    std::vector<bool> updates; /* by step: whether its result is updated, */
    std::vector<bool> framed;  /* or is computed around what is settled only */
    std::vector<int64_t> key;  /* the same for samples that can be computed together */
};

/* What samples are made from. */
struct Images {
    at::Tensor images, baselines; /* (images, d0, d1, d2) */
    std::vector<int64_t> origins; /* in the user's call */
};

/* How a program is evaluated where parts of the image change, up to a position behind which it is run in full. */
class Regions {
  public:
    /*
     * Plans for samples such as `examples`, boxes of the image.
     *   seconds      of each node, for one sample
     *   samples      of each image, that are to come
     *   differences  whether differences of the images' values keep their digits
     *   furthest     as far as there are rules, whatever it costs; else as far as it is cheapest
     */
    Regions(const Program &program, const Model &model, const std::vector<Box> &examples,
            const std::vector<double> &seconds, size_t samples, bool differences, bool furthest);

    /* Position of the cut; 0: nothing is gained. */
    size_t stop() const { return stop_; }
    /* Of one sample, behind the cut too, and of one that is run in full. */
    double planned_seconds() const { return planned_; }
    double full_seconds() const { return full_; }
    /* Operators that are computed in part. */
    size_t local() const;
    /* In full name the operator that ends the part with rules; empty: there is none. */
    std::string ends_at() const;

    /* Values that must be known for whole images. */
    const std::vector<int> &wanted() const { return wanted_; }
    /* These, (images, ...), in the same order. */
    void keep(const std::vector<at::Tensor> &values, Images images);

    /*
     * The values that are live at the cut, in the order of Program::live, for n samples.
     *   changed  (n,) boxes of the image that take the baseline's values; empty: the image itself
     *   rows     (n,) which image each belongs to
     */
    std::vector<at::Tensor> features(const std::vector<Box> &changed, const std::vector<int64_t> &rows) const;

  private:
    struct Step {
        size_t node, result;
        int value;
        const Rule *rule;
        std::vector<int> places; /* of the operands, in Route::changed; -1: they never change */
        size_t first_read;       /* of its operands, in Route::reads */
        size_t last_use = 0;     /* the last step that reads its result */
    };
    /* Samples that are computed together. */
    struct Group {
        std::vector<size_t> samples;
        std::vector<const Route *> routes;
        std::vector<int64_t> rows;
        std::vector<at::Tensor>
            fresh; /* by place, (samples, sizes); undefined for the image: read from the baselines */
    };

    void add_steps();
    Route route(const Box &box) const;
    Box settled(const Route &route, size_t step, const Box &out) const;
    bool is_framed(const Route &route, size_t step) const;
    bool needs_base(const Route &route, const Step &step, size_t k) const;
    double whole_seconds(const Route &route, size_t step) const;
    double frame_seconds(const Route &route, size_t step) const;
    double step_seconds(const Route &route, size_t step) const;
    double splice_seconds(const std::vector<Route> &routes, size_t position) const;
    void choose(const std::vector<Route> &routes, bool furthest);
    std::vector<std::pair<double, size_t>> candidates(const std::vector<Route> &routes) const;
    int64_t size_of(int value) const;
    void find_wanted(const std::vector<Box> &examples);

    bool is_flattened(int value) const;
    void compute(Group *group) const;
    bool reads_all_fresh(const Route &route) const;
    at::Tensor fresh_part(const Group &group, const Step &step, size_t k, const std::vector<Box> &parts) const;
    at::Tensor patch(const Group &group, const Step &step, size_t k, const std::vector<Box> &reads) const;
    at::Tensor computed(const Group &group, size_t step, const std::vector<Box> &out) const;
    at::Tensor framed(const Group &group, size_t step) const;
    at::Tensor updated(const Group &group, size_t step) const;
    at::Tensor gathered(const at::Tensor &base, const std::vector<Box> &at, const std::vector<int64_t> &rows) const;
    const at::Tensor &made_once(std::vector<at::Tensor> *known, const at::Tensor &images, int value) const;
    const at::Tensor &base_of(int value) const;
    const at::Tensor &baseline_of(int value) const;
    at::Tensor before(size_t step) const;
    at::Tensor spliced(int value, const std::vector<Group> &groups, const std::vector<int64_t> &rows) const;

    const Program &program_;
    const Model &model_;
    const std::vector<double> seconds_;
    std::vector<double> once_; /* by node: the share that one of the samples has in a run up to there */
    const bool differences_, furthest_;
    std::vector<std::unique_ptr<Rule>> rules_;
    std::vector<Step> steps_;
    std::vector<int> place_; /* by value: where it is in Route::changed; -1: it never changes, or has no rule */
    size_t reads_ = 0;       /* of all steps */
    size_t limit_ = 0;       /* position in front of the first node without a rule */
    size_t stop_ = 0;
    double planned_ = 0, full_ = 0;
    std::vector<int> live_, wanted_;
    Images images_;
    bool zeros_ = false;                        /* the baselines are nothing else */
    mutable std::mutex mutex_;                  /* of what follows */
    mutable std::vector<at::Tensor> base_;      /* by value */
    mutable std::vector<at::Tensor> baseline_;  /* the same for the baselines */
    mutable std::vector<at::Tensor> summaries_; /* by step */
};

} // namespace bridge

#endif
