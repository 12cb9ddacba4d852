/* rules.h - what the rules of the operator families are made of. */
#ifndef METEORS_C_REGION_RULES_H
#define METEORS_C_REGION_RULES_H

#include "region.h"

namespace bridge::region {

using Ints = std::vector<int64_t>;
using Strings = std::vector<std::string>;

/* How places along an axis of an operand belong to places along an axis of the result. */
struct Axis {
    enum class Kind {
        window,     /* place o reads from o stride - padding on, `wide` further */
        transposed, /* place i writes from i stride - padding on, `wide` further */
        blocks,     /* each `in_block` places read for `out_block` places */
        whole,      /* every place reads all */
        table,      /* place o reads from low[o] to high[o] */
    };
    Kind kind = Kind::window;
    int out = -1; /* the result's axis, behind that of the samples; -1: none, it has one place only */
    int64_t in_size = 1, out_size = 1;
    int64_t stride = 1, padding = 0, wide = 0;
    bool clips = false; /* nothing is read beyond the borders */
    int64_t in_block = 1, out_block = 1;
    Ints low, high;

    static Axis same(int out, int64_t size);
    static Axis whole(int out, int64_t in_size, int64_t out_size);
    static Axis window(int out, int64_t in_size, int64_t out_size, int64_t stride, int64_t padding, int64_t wide);
    static Axis blocks(int out, int64_t in_size, int64_t out_size, int64_t in_block, int64_t out_block);
    static Axis table(int out, int64_t in_size, Ints low, Ints high);

    Range reach(const Range &in) const;
    Range reads(const Range &at) const;
    /* Places that read nothing else than `in`, or what is beyond the borders. */
    Range within(const Range &in) const;
};

/* A rule whose axes are independent of each other. */
class Separable : public Rule {
  public:
    Box reach(const Changes &changed, size_t result) const override;
    Box reads(size_t k, const Box &out, size_t result) const override;
    Box within(size_t k, const Box &in, size_t result) const override;

    std::vector<std::vector<Axis>> axes; /* of each operand, for each result: [result * operands + k] */
    std::vector<Ints> shapes;            /* of each result, (1, ...) */

    /* One more operand; each value of the result reads the one at its place, or the only one along an axis. */
    void add_alike(const Operand &operand, const Ints &out_shape);

  protected:
    const std::vector<Axis> &of(size_t k, size_t result) const { return axes[result * operands.size() + k]; }
};

/* ---- arguments by the names of the schema */

std::optional<size_t> place_of(const Node &node, const char *name);
/* A fixed argument; None where the operator has none of that name. */
c10::IValue fixed_of(const Node &node, const char *name);
/* Whether all arguments of these names are the same in every run (or not there). */
bool are_fixed(const Node &node, const Strings &names);
/* A constant tensor; undefined where there is none. */
at::Tensor constant_of(const Node &node, const char *name);
int64_t integer_of(const Node &node, const char *name, int64_t otherwise = 0);
bool flag_of(const Node &node, const char *name, bool otherwise = false);
/* Numbers: one is expanded to n; `otherwise` where there are none. */
Ints integers_of(const Node &node, const char *name, size_t n, int64_t otherwise);
/* Axes, each from 0 on; empty where there are none. */
Ints axes_of(const Node &node, const char *name, size_t rank);

/* How the windows of a pool over n axes lie; no stride is that of the kernel's size. */
struct PoolForm {
    Ints kernel, stride, padding, dilation;
};
PoolForm pool_form(const Node &node, size_t n);

/* ---- operands and results */

/* A value as operand; nothing where its first axis is not that of the samples. */
std::optional<Operand> operand_of(const Program &p, int value);
/* The value that is an argument, as operand. */
std::optional<Operand> operand_of(const Program &p, const Node &node, size_t argument);
/* The lone value that an operator reads, its first argument; nothing where it reads others. */
std::optional<Operand> lone_operand(const Program &p, const Node &node);
/* Shape of a result; nothing where its first axis is not that of the samples. */
std::optional<Ints> shape_of(const Program &p, const Node &node, size_t result = 0);

/* An operator as a function: of an operator in place, the one that makes a new tensor. */
std::optional<c10::OperatorHandle> function_of(const Node &node);

/* The results of an operator for `samples` samples, where tensor arguments stand for those of the node at `places`
 * (argument, entry of a list or -1). */
struct Call {
    c10::OperatorHandle op;
    const Node *node;
    std::vector<std::pair<size_t, int>> places;

    std::vector<at::Tensor> operator()(const std::vector<at::Tensor> &tensors, int64_t samples) const;
};

/* ---- the families: NULL where a node is not one of theirs, or is not local */

using Maker = std::unique_ptr<Rule> (*)(const Program &p, const Node &node);

std::unique_ptr<Rule> convolution(const Program &p, const Node &node);
std::unique_ptr<Rule> pool(const Program &p, const Node &node);
std::unique_ptr<Rule> adaptive_pool(const Program &p, const Node &node);
std::unique_ptr<Rule> reduction(const Program &p, const Node &node);
std::unique_ptr<Rule> batch_norm(const Program &p, const Node &node);
std::unique_ptr<Rule> along_axes(const Program &p, const Node &node);
std::unique_ptr<Rule> identity(const Program &p, const Node &node);
std::unique_ptr<Rule> pointwise(const Program &p, const Node &node);
std::unique_ptr<Rule> prelu(const Program &p, const Node &node);
std::unique_ptr<Rule> joined(const Program &p, const Node &node);
std::unique_ptr<Rule> linear(const Program &p, const Node &node);
std::unique_ptr<Rule> einsum(const Program &p, const Node &node);
std::unique_ptr<Rule> view(const Program &p, const Node &node);
std::unique_ptr<Rule> reshape(const Program &p, const Node &node);
std::unique_ptr<Rule> shuffle(const Program &p, const Node &node);
std::unique_ptr<Rule> constant_pad(const Program &p, const Node &node);
std::unique_ptr<Rule> moved(const Program &p, const Node &node);
std::unique_ptr<Rule> resampled(const Program &p, const Node &node);

} // namespace bridge::region

#endif
