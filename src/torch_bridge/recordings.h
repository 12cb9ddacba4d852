/* recordings.h - recorded runs of a model, and those that its later calls use again. */
#ifndef METEORS_C_RECORDINGS_H
#define METEORS_C_RECORDINGS_H

#include "trace.h"

#include <mutex>

namespace bridge {

/* One run of the model with its outputs. */
struct Recorded {
    std::shared_ptr<Trace> trace;
    at::Tensor y;
    at::Tensor x, graph; /* the same with autograd's graph, where gradients are recorded, and its leaf */
    std::vector<torch::autograd::Edge> edges; /* the trace's */
};

/*
 * Call the model as call() does, and give the trace of that run, with what its Python code reads of values: of x, and of the
 * entries too where `all_vary`.
 */
std::shared_ptr<Trace> watched_call(const Model &model, const at::Tensor &x, const std::vector<at::Tensor> &entries,
                                    bool all_vary, at::Tensor *y);

/*
 * Run the model on samples x (n, ...), which it may write into, of images `origins`; autograd records where `gradient`.
 * Throws Declined where an operator can't be looked at, or where the outputs are not by sample.
 */
std::unique_ptr<Recorded> record(const Model &model, const at::Tensor &x, const std::vector<int64_t> &origins,
                                 bool gradient);

/*
 * Runs of earlier calls on a model. A program needs two runs on unlike samples. The first is recorded in every call; where
 * it is, step by step, what an earlier call has recorded, with the same constants, the second one is that call's.
 */
class Recordings {
  public:
    /* What runs that may stand for each other have in common. */
    struct Form {
        std::vector<int64_t> shape; /* of a batch */
        at::ScalarType dtype;
        bool gradient;
        bool operator==(const Form &other) const {
            return shape == other.shape && dtype == other.dtype && gradient == other.gradient;
        }
    };

    struct Entry {
        std::shared_ptr<const Trace> trace;
        int64_t samples = 0;
        std::vector<double> seconds; /* that each step takes, for one sample: the least that any call has measured */
        double backward = 0; /* the same of a gradient at the image; 0: that of the program was compared with none */
    };

    /* An earlier run of this form; without a trace: there is none. */
    Entry find(const Form &form);
    /* Keep a run instead of an earlier one of its form; without a trace: keep none. */
    void keep(const Form &form, Entry entry);

  private:
    std::mutex alone_;
    std::vector<std::pair<Form, Entry>> kept_; /* the oldest first */
};

/* The seconds of each step of a run of `samples` samples, for one. */
std::vector<double> seconds_of(const Trace &run, int64_t samples);

} // namespace bridge

#endif
