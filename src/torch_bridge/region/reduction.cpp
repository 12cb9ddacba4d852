/* reduction.cpp - means, sums, maxima, norms and the like over some axes; means and sums are updated. */
#include "region/rules.h"

#include <set>

namespace bridge::region {
namespace {

struct Reduction : Separable {
    explicit Reduction(Call c) : call(std::move(c)) {}
    Call call;
    bool additive = false; /* a sum, or the sum times `scale` */
    double scale = 1;
    Ints over; /* axes, that of the samples counted */
    bool keeps = false;

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &, size_t) const override {
        return call(patches, patches[0].size(0))[0];
    }

    bool updates(const Changes &changed, bool) const override {
        return additive && std::any_of(over.begin(), over.end(), [&](int64_t axis) {
                   const auto d = static_cast<size_t>(axis);
                   return !(*changed[0])[d - 1].holds({0, operands[0].shape[d]});
               });
    }

    at::Tensor summary(const at::Tensor &base) const override { return at::sum(base, over, keeps, at::kDouble); }

    at::Tensor update(const Update &u, const Box &) const override {
        const at::Tensor less = at::sum(u.old, over, keeps, at::kDouble);
        const at::Tensor more = u.fresh.defined() ? at::sum(u.fresh, over, keeps, at::kDouble) - less : less.neg();
        return more.add_(u.before).mul_(scale);
    }
};

} // namespace

std::unique_ptr<Rule> reduction(const Program &p, const Node &node) {
    static const std::set<std::string> names = {"mean",
                                                "sum",
                                                "amax",
                                                "amin",
                                                "linalg_vector_norm",
                                                "norm",
                                                "logsumexp",
                                                "var",
                                                "std",
                                                "prod",
                                                "nansum",
                                                "any",
                                                "all",
                                                "argmax",
                                                "argmin",
                                                "max",
                                                "min",
                                                "adaptive_avg_pool1d",
                                                "adaptive_avg_pool2d",
                                                "adaptive_avg_pool3d"};
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (names.count(node.name) == 0 || !input || !shape) {
        return nullptr;
    }
    const size_t rank = input->shape.size();
    auto rule = std::make_unique<Reduction>(Call{node.op, &node, {{0, -1}}});
    if (node.name.rfind("adaptive", 0) == 0) { /* to one place */
        for (size_t d = 2; d < rank; d++) {
            rule->over.push_back(static_cast<int64_t>(d));
            if ((*shape)[d] != 1) {
                return nullptr;
            }
        }
        rule->keeps = true;
    } else {
        if (!are_fixed(node, {"dim", "keepdim"})) {
            return nullptr;
        }
        rule->over = axes_of(node, "dim", rank);
        rule->keeps = flag_of(node, "keepdim");
    }
    const std::set<int64_t> over(rule->over.begin(), rule->over.end());
    if (over.empty() || over.count(0) != 0 || (*shape).size() != (rule->keeps ? rank : rank - over.size())) {
        return nullptr;
    }
    const bool mean = node.name == "mean" || node.name.rfind("adaptive_avg", 0) == 0;
    rule->additive = mean || node.name == "sum";
    std::vector<Axis> along;
    int next = 0;
    for (size_t d = 1; d < rank; d++) {
        const int64_t size = input->shape[d];
        if (over.count(static_cast<int64_t>(d)) == 0) {
            along.push_back(Axis::same(next++, size));
            continue;
        }
        rule->scale /= mean ? static_cast<double>(size) : 1;
        along.push_back(Axis::whole(rule->keeps ? next++ : -1, size, 1));
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
