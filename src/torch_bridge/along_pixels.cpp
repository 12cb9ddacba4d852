/*
 * along_pixels.cpp - gradients of points on a line, for models that look at each pixel by itself behind an affine prefix and
 * then take a mean or sum over places.
 *
 * Until the mean, nothing that a pixel gives depends on another one. So few pixels at a time go through all points, in the
 * cache: the ReLU and the layer behind it as in along_line.cpp, by the cells that turn at a kink, what is left in front of
 * the mean by the program. What is affine there is run once for each point, behind the mean. The cut is behind the mean: when
 * the gradients of points have come back to it, the pixels go through all points again, with gradients.
 */
#include "pixel_line.h"
#include "prepared.h"
#include "region/rules.h"
#include "spatial_pools.h"
#include "stretch.h"
#include "threads.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <numeric>

namespace bridge {
namespace {

using Sizes = std::vector<int64_t>;

/* Points that are made at once, with the default options. */
const size_t TOGETHER = 64;
/* Pixels at a time: as many as give so many bytes behind the layer, at all points. */
const size_t TILE_BYTES = 1 << 20;
const int64_t TILE_LEAST = 32, TILE_MOST = 1024;
/* In the cache a pass takes about this part of what it takes on whole images. */
const double IN_CACHE = 0.6;
/* Seconds to look at a cell at one point, forward and back. */
const double SECONDS_A_CELL = 4e-10;
/* Taken where so much of what is left is saved. */
const double WORTH = 0.1;
/* More memory than this for one group of images is not worth it. */
const double MOST_BYTES = 512 << 20;

/* Where the program is cut: line [from, stop), nodes by place [stop, tail), affine ones [tail, mean), the mean. */
struct Form {
    Stretch line;
    PoolCut mean;
    size_t tail = 0;
    int tail_value = -1; /* live at `tail` */
};

/* The axis of a value along which a place has its features. */
size_t features_of(const Stretch &line, size_t rank) {
    return line.channels_are_last ? rank - 1 : 1;
}

/* Whether a node gives at each place what depends on that place alone, however many there are; `like` (1, ...): its reads. */
bool is_by_place(const Program &p, const Node &node, const Sizes &like, size_t features) {
    using namespace region;
    if (node.opaque || node.autocast || !node.writes.empty() || node.makes.size() != 1 || node.makes[0] < 0) {
        return false;
    }
    static const std::vector<Maker> everywhere = {identity, pointwise, joined, linear, along_axes};
    static const std::vector<Maker> of_channels = {prelu, batch_norm, convolution}; /* they are those of axis 1 */
    std::unique_ptr<Rule> rule;
    for (Maker maker : everywhere) {
        rule = rule ? std::move(rule) : maker(p, node);
    }
    for (Maker maker : of_channels) {
        rule = rule || features != 1 ? std::move(rule) : maker(p, node);
    }
    const auto *axes = dynamic_cast<const Separable *>(rule.get());
    const Sizes &shape = p.values[static_cast<size_t>(node.makes[0])].shape;
    if (axes == nullptr || axes->results != 1 || shape.size() != like.size()) {
        return false;
    }
    for (size_t d = 1; d < like.size(); d++) {
        if (d == features) {
            continue;
        }
        for (size_t k = 0; k < axes->operands.size(); k++) {
            const Operand &operand = axes->operands[k];
            if (operand.shape.size() != like.size() || (operand.value >= 0 && !operand.dependent)) {
                return false;
            }
            const Axis &axis = axes->axes[k][d - 1];
            const bool same = axis.kind == Axis::Kind::window && axis.out == static_cast<int>(d) - 1 &&
                              axis.stride == 1 && axis.padding == 0 && axis.wide == 0;
            if (!same || operand.shape[d] != (operand.value >= 0 ? like[d] : 1) || shape[d] != like[d]) {
                return false;
            }
        }
    }
    return true;
}

/* The only value that is live at a position, and where the program can be cut; -1: there are more. */
int lone_value(const Program &p, size_t position) {
    const std::vector<int> live = p.live(position);
    return live.size() == 1 && p.can_cut(position) ? live[0] : -1;
}

std::optional<Form> form_of(const Subject &subject) {
    const Program &p = subject.program;
    const std::optional<Stretch> line = stretch_of(subject);
    if (!line || line->pool.taps() != 1 || line->conv.taps() != 1 || line->conv.in != line->conv.out ||
        line->form.groups != 1 || line->reads_cells) {
        return std::nullopt;
    }
    Form found{*line, {}, 0, -1};
    try {
        found.mean = cut_at_pools(p, line->stop);
    } catch (const Declined &) {
        return std::nullopt;
    }
    const Sizes &like = p.values[static_cast<size_t>(line->result)].shape;
    const size_t features = features_of(*line, like.size());
    Sizes places(like.size() - 1);
    std::iota(places.begin(), places.end(), 1);
    places.erase(places.begin() + static_cast<std::ptrdiff_t>(features) - 1);
    if (found.mean.pools.size() != 1) {
        return std::nullopt;
    }
    const SpatialPool &pool = found.mean.pools[0];
    if (pool.maximum || pool.axes != places || lone_value(p, pool.node) != pool.source) {
        return std::nullopt;
    }
    for (size_t i = line->stop; i < pool.node; i++) {
        if (p.nodes[i].needed && p.nodes[i].dependent && !is_by_place(p, p.nodes[i], like, features)) {
            return std::nullopt;
        }
    }
    found.tail = pool.node;
    for (size_t i = pool.node; i-- > line->stop;) {
        const Node &node = p.nodes[i];
        if (node.needed && node.dependent && (!is_affine(p, node) || lone_value(p, i) < 0)) {
            break;
        }
        found.tail = node.needed && node.dependent ? i : found.tail;
    }
    found.tail_value = lone_value(p, found.tail);
    return found.tail_value >= 0 ? std::optional<Form>(found) : std::nullopt;
}

/* Samples of one image, in the order of their points. */
struct Points {
    size_t row;
    std::vector<size_t> order; /* which sample each of them is */
    std::vector<double> alpha;
};

template <class T> class AlongPixels : public Features {
  public:
    AlongPixels(const Subject &subject, const Form &form, double seconds);
    std::string name() const override { return "piecewise linear prefix, pixel by pixel"; }
    size_t back() const override { return form_.line.from; }
    size_t together() const override { return TOGETHER; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;
    bool sums() const override { return true; }
    void add(const std::vector<at::Tensor> &gradients, const std::vector<int64_t> &rows) override;
    std::vector<at::Tensor> summed() override;

  private:
    /* The layer's values for some pixels at all points, (points, places, outputs), and how they came about. */
    struct Walk {
        at::Tensor values;
        typename PixelLine<T>::Way way;
    };

    const SpatialPool &pool() const { return form_.mean.pools[0]; }
    /* (n, places, features) as the program has such values, and back. */
    at::Tensor spread(const at::Tensor &by_place) const;
    at::Tensor by_place(const at::Tensor &values) const;
    int64_t tile(size_t points) const;
    void over_tiles(size_t points, const std::function<void(int64_t, int64_t, size_t)> &body) const;
    Walk walk(const Line &image, const std::vector<double> &alpha, int64_t first, int64_t places) const;
    at::Tensor run(const at::Tensor &values, size_t row, size_t from, int given, size_t to, int wanted) const;
    at::Tensor sums_of(const Points &points) const;
    at::Tensor gradients_of_means(const Points &points, const at::Tensor &gradients) const;
    void settle(const Walk &walk, const at::Tensor &gradients, int64_t first, T *sum) const;

    const Inputs inputs_;
    Form form_;
    int64_t channels_, outputs_, places_;
    PixelLine<T> pixels_;
    Sizes before_; /* of the prefix's value, (images, ...) */
    size_t rank_;
    std::vector<Line> images_;
    std::vector<Points> points_; /* of the last of() */
};

template <class T>
AlongPixels<T>::AlongPixels(const Subject &subject, const Form &form, double seconds)
    : inputs_(subject), form_(form), channels_(form.line.form.weight.size(1)), outputs_(form.line.form.weight.size(0)),
      places_(form.line.conv.places_in()),
      pixels_(form.line.pieces, form.line.weights_of_cells<T>(), channels_, outputs_),
      rank_(subject.program.values[static_cast<size_t>(form.line.result)].shape.size()) {
    stop = form.mean.stop;
    planned = seconds;
    form_.line.form.weight = form.line.form.weight.flatten(1).contiguous();
    if (subject.only_planned) {
        return;
    }
    images_ = lines_of(subject, form.line, this, &before_);
}

template <class T> at::Tensor AlongPixels<T>::spread(const at::Tensor &by_place) const {
    Sizes shape(rank_, 1);
    shape[0] = by_place.size(0);
    shape[1] = by_place.size(1);
    shape[rank_ - 1] = by_place.size(2);
    if (rank_ == 2) { /* one place */
        return by_place.flatten(0, 1);
    }
    const at::Tensor last = by_place.reshape(shape);
    return form_.line.channels_are_last ? last : last.movedim(-1, 1);
}

template <class T> at::Tensor AlongPixels<T>::by_place(const at::Tensor &values) const {
    const at::Tensor last = form_.line.channels_are_last ? values : values.movedim(1, -1);
    return last.reshape({values.size(0), -1, last.size(-1)});
}

template <class T> int64_t AlongPixels<T>::tile(size_t points) const {
    const size_t bytes = points * static_cast<size_t>(outputs_) * sizeof(T);
    return std::clamp<int64_t>(static_cast<int64_t>(TILE_BYTES / bytes), TILE_LEAST, TILE_MOST);
}

/* body(first place, places, number of the tile) */
template <class T>
void AlongPixels<T>::over_tiles(size_t points, const std::function<void(int64_t, int64_t, size_t)> &body) const {
    const int64_t size = tile(points);
    const auto tiles = static_cast<size_t>((places_ + size - 1) / size);
    const auto some = [&](size_t from, size_t to) {
        for (size_t i = from; i < to; i++) {
            const int64_t first = static_cast<int64_t>(i) * size;
            body(first, std::min(size, places_ - first), i);
        }
    };
    if (tiles > 1) {
        run_over_threads(tiles, some);
    } else {
        some(0, tiles);
    }
}

template <class T>
typename AlongPixels<T>::Walk AlongPixels<T>::walk(const Line &image, const std::vector<double> &alpha, int64_t first,
                                                   int64_t places) const {
    const at::NoGradGuard off;
    const T *start = data<T>(image.start) + first * channels_, *way = data<T>(image.way) + first * channels_;
    const at::TensorOptions options = image.start.options();
    const auto points = static_cast<int64_t>(alpha.size());
    Walk walk{at::empty({points, places, outputs_}, options), {}};
    const std::vector<T> line(alpha.begin(), alpha.end());
    at::Tensor value = at::empty({places, channels_}, options), slope = at::empty_like(value);
    pixels_.lines(start, way, line[0], places, data<T>(value), data<T>(slope));
    const at::Tensor &weight = form_.line.form.weight;
    value = at::linear(value, weight, form_.line.bias);
    slope = at::linear(slope, weight);
    walk.way = pixels_.through(start, way, line, places, data<T>(value), data<T>(slope), data<T>(walk.values));
    return walk;
}

/* Nodes [from, to) on one value, given as (n, places, features), as they give another one. */
template <class T>
at::Tensor AlongPixels<T>::run(const at::Tensor &values, size_t row, size_t from, int given, size_t to,
                               int wanted) const {
    Run run(inputs_.program, inputs_.model, Sizes(static_cast<size_t>(values.size(0)), inputs_.origins[row]));
    run.keep(wanted);
    run.give(given, values);
    run.go(from, to);
    return run.value(wanted);
}

/* Of each point, what is read behind the nodes by place, added up over all places: (points, features) in double. */
template <class T> at::Tensor AlongPixels<T>::sums_of(const Points &points) const {
    const int64_t size = tile(points.alpha.size());
    std::vector<at::Tensor> parts(static_cast<size_t>((places_ + size - 1) / size));
    over_tiles(points.alpha.size(), [&](int64_t first, int64_t places, size_t i) {
        const Walk found = walk(images_[points.row], points.alpha, first, places);
        const at::Tensor y =
            run(spread(found.values), points.row, form_.line.stop, form_.line.result, form_.tail, form_.tail_value);
        parts[i] = by_place(y).sum(at::IntArrayRef{1});
    });
    return at::stack(parts).sum(at::IntArrayRef{0}, false, at::kDouble);
}

template <class T> std::vector<at::Tensor> AlongPixels<T>::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    const ThreadsBeside threads;
    points_.clear();
    std::vector<at::Tensor> found;
    for (size_t from = 0, to; from < rows.size(); from = to) {
        to = from;
        while (to < rows.size() && rows[to] == rows[from]) {
            to++;
        }
        Points points{static_cast<size_t>(rows[from]), std::vector<size_t>(to - from), {}};
        std::iota(points.order.begin(), points.order.end(), from);
        std::stable_sort(points.order.begin(), points.order.end(),
                         [&](size_t a, size_t b) { return point_of(s[a]) < point_of(s[b]); });
        at::Tensor places = at::empty({static_cast<int64_t>(to - from)}, at::kLong); /* of samples among the points */
        for (size_t k = 0; k < points.order.size(); k++) {
            points.alpha.push_back(point_of(s[points.order[k]]));
            places.data_ptr<int64_t>()[points.order[k] - from] = static_cast<int64_t>(k);
        }
        const at::Tensor mean =
            sums_of(points).div_(static_cast<double>(places_)).to(images_[0].start.scalar_type()).unsqueeze(1);
        const at::Tensor y =
            by_place(run(spread(mean), points.row, form_.tail, form_.tail_value, pool().node, pool().source))
                .squeeze(1);
        found.push_back((y * (pool().factor * static_cast<double>(places_))).index_select(0, places));
        points_.push_back(std::move(points));
    }
    return live_values(inputs_.program, form_.mean, {at::cat(found)});
}

/* Of gradients (points, ...) at the pool those of its mean at `tail`, (points, 1, features), for each place. */
template <class T>
at::Tensor AlongPixels<T>::gradients_of_means(const Points &points, const at::Tensor &gradients) const {
    at::AutoGradMode on(true);
    const Value &value = inputs_.program.values[static_cast<size_t>(form_.tail_value)];
    const auto n = static_cast<int64_t>(points.alpha.size());
    const int64_t features = value.shape[features_of(form_.line, rank_)];
    const at::Tensor mean = at::zeros({n, 1, features}, images_[0].start.options()).requires_grad_();
    const at::Tensor y = run(spread(mean), points.row, form_.tail, form_.tail_value, pool().node, pool().source);
    return gradients_of(inputs_.model, {y}, {mean}, {(gradients * pool().factor).reshape(y.sizes())})[0];
}

/*
 * From gradients (points, places, outputs) behind the layer those of the prefix's values, added to `sum`: for each cell that
 * turns, what was summed up to there goes to what it has followed, and is taken from what it follows from then on.
 */
template <class T>
void AlongPixels<T>::settle(const Walk &walk, const at::Tensor &gradients, int64_t first, T *sum) const {
    const int64_t places = walk.values.size(1);
    const at::Tensor summed = at::empty({places, outputs_}, gradients.options());
    sum += first * channels_;
    pixels_.back(walk.way, static_cast<size_t>(gradients.size(0)), places, data<T>(gradients), data<T>(summed), sum);
    const at::Tensor of_cells = summed.mm(form_.line.form.weight);
    pixels_.back_at_last(walk.way, places, data<T>(of_cells), sum);
}

template <class T>
void AlongPixels<T>::add(const std::vector<at::Tensor> &gradients, const std::vector<int64_t> &rows) {
    const ThreadsBeside threads;
    const at::NoGradGuard off;
    at::Tensor given;
    for (const at::Tensor &one : gradients) { /* live values that hold the same numbers */
        if (one.defined()) {
            const at::Tensor flat = one.reshape({static_cast<int64_t>(rows.size()), -1});
            given = given.defined() ? given + flat : flat;
        }
    }
    for (const Points &points : points_) {
        if (!given.defined()) {
            break;
        }
        Line &image = images_[points.row];
        if (!image.sum.defined()) {
            image.sum = at::zeros_like(image.start);
        }
        const std::vector<int64_t> order(points.order.begin(), points.order.end());
        const at::Tensor of_mean = gradients_of_means(points, given.index_select(0, at::tensor(order, at::kLong)));
        T *sum = data<T>(image.sum);
        over_tiles(points.alpha.size(), [&](int64_t first, int64_t places, size_t) {
            const Walk found = walk(image, points.alpha, first, places);
            at::AutoGradMode on(true);
            const at::Tensor leaf = found.values.detach().requires_grad_();
            const at::Tensor y =
                run(spread(leaf), points.row, form_.line.stop, form_.line.result, form_.tail, form_.tail_value);
            const at::Tensor at_each = of_mean.expand({-1, places, -1});
            const at::Tensor back = gradients_of(inputs_.model, {y}, {leaf}, {spread(at_each)})[0];
            settle(found, back.contiguous(), first, sum);
        });
    }
    points_.clear();
}

template <class T> std::vector<at::Tensor> AlongPixels<T>::summed() {
    std::vector<Line *> lines;
    for (Line &image : images_) {
        lines.push_back(&image);
    }
    return {take_sums(form_.line, before_, lines)};
}

} // namespace

std::unique_ptr<Features> along_pixels(const Subject &subject) {
    const Program &p = subject.program;
    const at::ScalarType dtype = subject.images.scalar_type();
    const std::optional<Form> found = form_of(subject);
    if (!found || p.values[static_cast<size_t>(found->tail_value)].dtype != dtype) {
        return nullptr;
    }
    const double images = static_cast<double>(subject.images.size(0));
    const double units = bytes_of(p.values[static_cast<size_t>(found->line.before)]);
    const double cells =
        bytes_of(p.values[static_cast<size_t>(found->line.cells)]) / static_cast<double>(at::elementSize(dtype));
    const double planned = SECONDS_A_CELL * cells + IN_CACHE * PASSES * subject.cost(found->line.stop, found->tail);
    const double instead =
        PASSES * subject.cost(found->line.from, found->mean.pools[0].node) + 2 * SECONDS_A_BYTE * units;
    const bool saves = instead - planned >= WORTH * planned;
    if (3 * images * units > MOST_BYTES || (!saves && !subject.trial.always)) {
        return nullptr;
    }
    if (dtype == at::kFloat) {
        return std::make_unique<AlongPixels<float>>(subject, *found, planned);
    }
    return std::make_unique<AlongPixels<double>>(subject, *found, planned);
}

} // namespace bridge
