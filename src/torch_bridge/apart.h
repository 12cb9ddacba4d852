/* apart.h - whether a model computes each sample of a batch by itself, as two recorded runs of unlike size show it. */
#ifndef METEORS_C_APART_H
#define METEORS_C_APART_H

#include "trace.h"

namespace bridge {

/* Calls of a model while they are watched: one of each of two sizes. */
class Watch {
  public:
    /* Call the model as call() does, and keep how it computed where there is nothing of this size yet: then *trace is it. */
    at::Tensor call(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries,
                    std::shared_ptr<Trace> *trace);
    /*
     * Whether it was seen that no sample of a batch influences another: all calls were of the same operators on the same
     * constants, no value went to Python, and the samples lie along one axis of every value that depends on the input, along
     * which no operator works (batch_axis.h).
     */
    bool shows_apart() const;

  private:
    struct Run {
        int64_t samples;
        std::shared_ptr<Trace> trace;
        bool seen; /* whatever it did: operators, and what Python code read */
    };
    std::vector<Run> runs_;
};

} // namespace bridge

#endif
