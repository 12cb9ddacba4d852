/* spatial_pools.cpp - means, sums and maxima over places. */
#include "spatial_pools.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace bridge {
namespace {

using Shape = std::vector<int64_t>;

/* The places of all axes but those of the samples and the channels. */
Shape last_axes(const Shape &shape, size_t count) {
    Shape axes(count);
    std::iota(axes.begin(), axes.end(), static_cast<int64_t>(shape.size() - count));
    return axes;
}

int64_t places_along(const Shape &shape, const Shape &axes) {
    int64_t n = 1;
    for (int64_t axis : axes) {
        n *= shape[static_cast<size_t>(axis)];
    }
    return n;
}

/* The axes that argument 1 names, none where that is not clear or those of samples are among them. */
Shape named_axes(const Node &node, size_t axes) {
    const auto &schema = node.op.schema().arguments();
    if (schema.size() < 2 || schema[1].name().rfind("dim", 0) != 0 || node.arguments[1].kind != Argument::Kind::fixed) {
        return {};
    }
    const c10::IValue &given = node.fixed(1);
    Shape named = given.isInt() ? Shape{given.toInt()} : given.isIntList() ? given.toIntVector() : Shape();
    for (int64_t &axis : named) {
        axis += axis < 0 ? static_cast<int64_t>(axes) : 0;
        if (axis == 0) {
            return {};
        }
    }
    std::sort(named.begin(), named.end());
    return named;
}

/* Whether all spatial axes of the result are of size 1, and the one window is all there is. */
bool one_window(const Node &node, const Shape &source, const Shape &result, size_t spatial) {
    for (size_t a = source.size() - spatial; a < source.size(); a++) {
        if (result[a] != 1) {
            return false;
        }
    }
    if (node.name.rfind("adaptive", 0) == 0) {
        return true;
    }
    const Shape kernel = node.integers(1, spatial), padding = node.integers(3, spatial);
    return std::equal(kernel.begin(), kernel.end(), source.end() - static_cast<std::ptrdiff_t>(spatial)) &&
           std::count(padding.begin(), padding.end(), 0) == static_cast<std::ptrdiff_t>(spatial);
}

/* A node as a pool over places; no axes where it is none. */
SpatialPool pool_of(const Program &program, const Node &node, size_t at) {
    SpatialPool pool;
    if (node.arguments.empty() || !node.is_value(0) || node.makes.empty() || node.makes[0] < 0 || node.opaque) {
        return pool;
    }
    const Value &source = program.values[static_cast<size_t>(node.arguments[0].value)];
    const Value &result = program.values[static_cast<size_t>(node.makes[0])];
    if (!source.dependent || !source.by_sample || !result.by_sample) {
        return pool;
    }
    pool.source = node.arguments[0].value;
    pool.result = node.makes[0];
    pool.node = at;
    const std::string &name = node.name;
    if (name == "mean" || name == "sum" || name == "amax") {
        pool.axes = named_axes(node, source.shape.size());
        pool.maximum = name == "amax";
        pool.factor = name == "mean" ? 1.0 / static_cast<double>(places_along(source.shape, pool.axes)) : 1.0;
        return pool;
    }
    for (const char *kind : {"adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool"}) {
        const size_t length = std::string(kind).size();
        if (name.rfind(kind, 0) != 0 || name.size() != length + 2) {
            continue;
        }
        const auto spatial = static_cast<size_t>(name[length] - '0');
        if (source.shape.size() == spatial + 2 && one_window(node, source.shape, result.shape, spatial)) {
            pool.axes = last_axes(source.shape, spatial);
            pool.maximum = std::string(kind).find("max") != std::string::npos;
            pool.factor = pool.maximum ? 1.0 : 1.0 / static_cast<double>(places_along(source.shape, pool.axes));
        }
        return pool;
    }
    return pool;
}

/* A pool over the result of another one, as one pool; itself where that can't be. */
SpatialPool joined(const Program &program, const SpatialPool &inner, SpatialPool outer) {
    if (inner.maximum != outer.maximum) {
        return outer;
    }
    const size_t axes = program.values[static_cast<size_t>(inner.source)].shape.size();
    const bool stay = program.values[static_cast<size_t>(inner.result)].shape.size() == axes;
    Shape left; /* axes of the inner pool's source, by those of its result */
    for (size_t a = 0; a < axes; a++) {
        if (stay || std::count(inner.axes.begin(), inner.axes.end(), static_cast<int64_t>(a)) == 0) {
            left.push_back(static_cast<int64_t>(a));
        }
    }
    std::set<int64_t> both(inner.axes.begin(), inner.axes.end());
    for (int64_t axis : outer.axes) {
        both.insert(left[static_cast<size_t>(axis)]);
    }
    outer.axes.assign(both.begin(), both.end());
    outer.source = inner.source;
    outer.node = inner.node;
    outer.factor *= inner.factor;
    return outer;
}

/* Operators that give the values of their first argument, in the same order. */
const std::set<std::string> same_values = {"view",      "reshape",         "flatten", "unflatten", "squeeze",
                                           "unsqueeze", "contiguous",      "clone",   "detach",    "alias",
                                           "dropout",   "feature_dropout", "to"};

/* Cut at a position if only pools are read from there on, and they take nothing from behind an earlier cut. */
void cut_at(const Program &program, size_t position, const std::vector<SpatialPool> &all,
            const std::vector<int> &pool_of_value, PoolCut *cut) {
    PoolCut found;
    found.stop = position;
    found.live = program.live(position);
    std::vector<int> place(all.size(), -1);
    for (int v : found.live) {
        const int number = pool_of_value[static_cast<size_t>(v)];
        if (number < 0 || !program.values[static_cast<size_t>(v)].by_sample) {
            return;
        }
        const SpatialPool &pool = all[static_cast<size_t>(number)];
        if (cut->stop > 0 && program.values[static_cast<size_t>(pool.source)].made_by >= static_cast<int>(cut->stop)) {
            return;
        }
        int &at = place[static_cast<size_t>(number)];
        if (at < 0) {
            at = static_cast<int>(found.pools.size());
            found.pools.push_back(pool);
            found.pooled = std::max(found.pooled, pool.node);
        }
        found.pool_of_live.push_back(static_cast<size_t>(at));
    }
    if (!found.live.empty() && program.can_cut(position)) {
        *cut = found;
    }
}

} // namespace

PoolCut cut_at_pools(const Program &program, size_t from) {
    PoolCut cut;
    std::vector<SpatialPool> all;
    std::vector<int> pool_of_value(program.values.size(), -1);
    for (size_t i = from; i < program.nodes.size(); i++) {
        const Node &node = program.nodes[i];
        if (!node.dependent || !node.needed) {
            continue;
        }
        SpatialPool pool = pool_of(program, node, i);
        if (!pool.axes.empty()) {
            const int before = pool_of_value[static_cast<size_t>(pool.source)];
            if (before >= 0 && all[static_cast<size_t>(before)].result == pool.source) {
                pool = joined(program, all[static_cast<size_t>(before)], pool);
            }
            pool_of_value[static_cast<size_t>(pool.result)] = static_cast<int>(all.size());
            all.push_back(pool);
        } else if (same_values.count(node.name) != 0 && node.is_value(0) && node.makes.size() == 1 &&
                   node.makes[0] >= 0) {
            pool_of_value[static_cast<size_t>(node.makes[0])] =
                pool_of_value[static_cast<size_t>(node.arguments[0].value)];
        }
        if (!all.empty()) {
            cut_at(program, i + 1, all, pool_of_value, &cut);
        }
    }
    if (cut.stop == 0) {
        throw Declined(MET_DECLINE_STRUCTURE, "the model takes no mean, sum or maximum over all places at its end");
    }
    return cut;
}

namespace {

/* Values (samples, ...) as (samples, features, places), places along `axes`. */
at::Tensor by_place(const at::Tensor &values, const Shape &axes) {
    Shape order;
    int64_t features = 1, places = 1;
    for (int64_t a = 0; a < values.dim(); a++) {
        if (std::count(axes.begin(), axes.end(), a) == 0) {
            order.push_back(a);
            features *= a == 0 ? 1 : values.size(a);
        }
    }
    for (int64_t axis : axes) {
        order.push_back(axis);
        places *= values.size(axis);
    }
    return values.permute(order).reshape({values.size(0), features, places});
}

} // namespace

std::vector<at::Tensor> before_pools(const Program &program, const Model &model, const PoolCut &cut,
                                     const at::Tensor &samples, const std::vector<int64_t> &origins) {
    Run run(program, model, origins);
    run.give(program.input, samples);
    for (const SpatialPool &pool : cut.pools) {
        run.keep(pool.source);
    }
    run.go(0, cut.pooled);
    std::vector<at::Tensor> found;
    for (const SpatialPool &pool : cut.pools) {
        found.push_back(by_place(run.value(pool.source), pool.axes));
    }
    return found;
}

at::Tensor reached_places(const at::Tensor &mask, const Shape &shape, const Shape &axes) {
    Shape others, sizes{mask.size(0)};
    for (int64_t a = 1; a < mask.dim(); a++) {
        const bool pooled = std::count(axes.begin(), axes.end(), a) != 0;
        sizes.push_back(pooled ? shape[static_cast<size_t>(a)] : 1);
        if (!pooled) {
            others.push_back(a);
        }
    }
    const at::Tensor any = others.empty() ? mask : mask.amax(others, true);
    return any.expand(sizes).reshape({mask.size(0), -1}).gt(0);
}

std::vector<at::Tensor> live_values(const Program &program, const PoolCut &cut, const std::vector<at::Tensor> &pooled) {
    std::vector<at::Tensor> values;
    for (size_t k = 0; k < cut.live.size(); k++) {
        const Value &value = program.values[static_cast<size_t>(cut.live[k])];
        const at::Tensor &of_pool = pooled[cut.pool_of_live[k]];
        Shape shape = value.shape;
        shape[0] = of_pool.size(0);
        values.push_back(of_pool.to(value.dtype).reshape(shape));
    }
    return values;
}

} // namespace bridge
