/* program.h - one run of a model as a list of operators over values: what recording gives and shortcuts work on. */
#ifndef METEORS_C_PROGRAM_H
#define METEORS_C_PROGRAM_H

#include "bridge.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/AutogradState.h>

#include <memory>
#include <string>
#include <vector>

namespace bridge {

/* A reason why a shortcut does not apply. */
struct Declined : Failure {
    Declined(met_decline why, const std::string &text) : Failure(MET_EDECLINED, text, why) {}
};

/* An argument of an operator. */
struct Argument {
    enum class Kind {
        fixed,    /* the same in every run: numbers, None, constant tensors */
        value,    /* a tensor of the run */
        list,     /* of arguments, some of which are tensors of the run */
        integers, /* a number or numbers, some of which are multiples of how many samples there are */
    };
    Kind kind = Kind::fixed;
    c10::IValue fixed;             /* fixed; integers: as they are for one sample */
    int value = -1;                /* value */
    std::vector<Argument> entries; /* list */
    std::vector<bool> scales;      /* integers: which ones (a lone number counts as one) */

    /* As it is for `samples` samples (fixed and integers). */
    c10::IValue at(int64_t samples) const;
};

/*
 * A tensor of the run, as one operator left it: an operator that writes in place makes a new value in the same slot.
 * A value is dependent if it depends on the input, varying if it depends on how many samples there are or on which image
 * they belong to. All others are constants, and stand in the arguments as they are.
 */
struct Value {
    int slot = -1;      /* values of one tensor, one after the other */
    int storage = -1;   /* slots that share memory; -1: it has none of its own */
    int made_by = -1;   /* node; -1: it is given, before the first node */
    int last_read = -1; /* node; the number of nodes for the output */
    bool dependent = false, varying = false;
    bool overwritten = false;   /* by a later node, through whatever tensor of its memory */
    std::vector<int64_t> shape; /* for one sample */
    at::ScalarType dtype = at::kFloat;
    bool by_sample = false; /* axis 0 is that of the samples, with one row for each, and no other axis varies */
};

class PackedConvolution;
class MaxPool;

/* One call of an operator. */
struct Node {
    explicit Node(c10::OperatorHandle handle) : op(std::move(handle)) {}
    c10::OperatorHandle op;
    std::string name; /* of the function that it computes: "conv2d" for aten::conv2d, "relu" for aten::relu_ */
    std::vector<Argument> arguments;
    std::vector<int> reads;  /* values, in the order of the arguments */
    std::vector<int> makes;  /* values, in the order of its results; -1: no tensor */
    std::vector<int> writes; /* storages that it writes to in place */
    bool dependent = false;  /* some of `reads` is */
    bool needed = false;     /* for the output, and no constant */
    bool opaque = false; /* it writes to memory that is later read through another tensor: no shortcut sees through */
    c10::AutogradState mode{true, false, true, true};
    bool autocast = false;
    at::ScalarType autocast_dtype = at::kBFloat16;
    std::shared_ptr<const PackedConvolution> packed; /* what computes it without gradients; NULL: the operator */
    std::shared_ptr<const MaxPool> pool;             /* the same of a maximum pool */

    /* A fixed argument, by its place in the operator's schema. */
    const c10::IValue &fixed(size_t argument) const { return arguments.at(argument).fixed; }
    bool is_value(size_t argument) const { return arguments.at(argument).kind == Argument::Kind::value; }
    /* Whether a tensor argument is a constant tensor, and that. */
    bool is_constant(size_t argument) const {
        return arguments.at(argument).kind == Argument::Kind::fixed && fixed(argument).isTensor();
    }
    at::Tensor constant(size_t argument) const {
        return is_constant(argument) ? fixed(argument).toTensor() : at::Tensor();
    }
    /* Numbers of a fixed argument: one number is expanded to `n`; nothing gives `otherwise`. */
    std::vector<int64_t> integers(size_t argument, size_t n, int64_t otherwise = 0) const;
    /* Full name with overload, for reports and tables: "aten::conv2d.padding". */
    std::string full_name() const;
};

/* Whether all values are +0, as far as that is told at once, in a block of memory. */
bool is_zero(const at::Tensor &x);
/* Whether all values are finite. */
bool is_finite(const at::Tensor &x);

/* A model's run. */
class Program {
  public:
    std::vector<Node> nodes;
    std::vector<Value> values;
    int input = 0;              /* value: the samples, (n, d0, d1, d2) */
    std::vector<int> extras;    /* values: the entries of those extras that have one for each image */
    int output = -1;            /* value */
    std::vector<int> slot_last; /* by slot: the last node that reads it, as Value::last_read */

    /* Dependent values that are made before node `position` and read by it or later (or are the output), in order. */
    std::vector<int> live(size_t position) const;
    /* Whether all that is behind `position` can be run from those values. */
    bool can_cut(size_t position) const;
    /* Fill slot_last from what the values say. */
    void number_slots();
    /* Nodes [from, to) that are needed for the output and dependent. */
    size_t count(size_t from, size_t to) const;
};

/* The tensors of one run of a program: give values, go, read values. Nodes that make no dependent value always run. */
class Run {
  public:
    /* `images` are those of the samples, in the user's call. */
    Run(const Program &program, const Model &model, const std::vector<int64_t> &images);
    /* A value that is not made: a copy where the program writes over it. */
    void give(int value, at::Tensor tensor);
    /* Keep a value beyond its last use: a copy where it is overwritten later. */
    void keep(int value);
    /* Floating constants and numbers as double. */
    void in_double() { double_ = true; }
    /* Look for zeros in what convolutions and linear layers are given: they make their biases of them. */
    void expect_zeros() { zeros_ = true; }
    /* Run what is needed of the nodes [from, to). Autograd records as the thread's grad mode and the program's say. */
    void go(size_t from, size_t to);
    const at::Tensor &value(int value) const;

  private:
    at::Tensor of_zeros(const Node &node) const;
    torch::jit::Stack results_of(const Node &node) const;
    void execute(size_t node);
    void store(int value, const at::Tensor &tensor, int reader);
    c10::IValue argument(const Argument &a, bool is_dtype) const;
    c10::IValue constant(const c10::IValue &value) const;

    const Program &program_;
    const Model &model_;
    int64_t samples_;
    std::vector<at::Tensor> slots_;
    std::vector<bool> given_;      /* by slot */
    std::vector<at::Tensor> kept_; /* by value, where they are kept */
    std::vector<bool> keeps_;
    size_t done_ = 0; /* nodes of which those that make no dependent value have run */
    bool double_ = false, zeros_ = false;
};

} // namespace bridge

#endif
