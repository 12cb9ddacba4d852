/* table.cpp - which rule an operator has. */
#include "region/rules.h"

namespace bridge {

std::unique_ptr<Rule> rule_of(const Program &program, const Node &node) {
    using namespace region;
    /* The first one that takes the node: views before reshaping, which joins axes; what is updated before pools. */
    static const Maker makers[] = {convolution, reduction,    pool,      adaptive_pool, batch_norm, along_axes,
                                   identity,    prelu,        pointwise, joined,        linear,     einsum,
                                   view,        constant_pad, moved,     resampled,     reshape,    shuffle};
    if (node.opaque) {
        return nullptr;
    }
    try {
        for (const Maker make : makers) {
            if (std::unique_ptr<Rule> rule = make(program, node)) {
                return rule;
            }
        }
    } catch (const c10::Error &) { /* arguments of other types than the families know */
    }
    return nullptr;
}

} // namespace bridge
