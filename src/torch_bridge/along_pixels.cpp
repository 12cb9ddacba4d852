/*
 * along_pixels.cpp - gradients of points on a line, for models that look at each pixel by itself behind an affine prefix and
 * then take a mean or sum over places.
 *
 * Until the mean, nothing that a pixel gives depends on another one. So few pixels at a time go through all points, in the
 * cache: the ReLU and the layer behind it as in along_line.cpp, by the cells that turn at a kink, what is left in front of
 * the mean by the program. What is affine there is run once for each point, behind the mean. The cut is behind the mean: when
 * the gradients of points have come back to it, the pixels go through all points again, with gradients.
 */
#include "by_place.h"
#include "pixel_line.h"
#include "prepared.h"
#include "stretch.h"
#include "threads.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <numeric>

namespace bridge {
namespace {

using Sizes = std::vector<int64_t>;

/* How pixels went through the points is kept for the way back up to so many bytes. */
const size_t WAYS_BYTES = 64 << 20;
/* Seconds to look at a cell at one point, forward and back. */
const double SECONDS_A_CELL = 4e-10;

/* The ReLU and the layer behind the affine prefix, and the rest until the mean. */
struct Form {
    Stretch line;
    ByPlace rest;
};

std::optional<Form> form_of(const Subject &subject) {
    const std::optional<Stretch> line = stretch_of(subject);
    if (!line || line->pool.taps() != 1 || line->conv.taps() != 1 || line->conv.in != line->conv.out ||
        line->form.groups != 1 || line->reads_cells) {
        return std::nullopt;
    }
    const std::optional<ByPlace> rest = ByPlace::behind(subject.program, line->stop, line->channels_are_last);
    return rest ? std::optional<Form>({*line, *rest}) : std::nullopt;
}

template <class T> class AlongPixels : public Features {
  public:
    AlongPixels(const Subject &subject, const Form &form, double seconds);
    std::string name() const override { return "piecewise linear prefix, pixel by pixel"; }
    size_t back() const override { return form_.line.from; }
    size_t together() const override { return TOGETHER_BY_PLACE; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;
    bool sums() const override { return true; }
    void add(const std::vector<at::Tensor> &gradients, const std::vector<int64_t> &rows) override;
    std::vector<at::Tensor> summed() override;

  private:
    using Way = typename PixelLine<T>::Way;
    /* Samples of one image, in the order of their points. */
    struct Points {
        size_t row;
        std::vector<size_t> order; /* which sample each of them is */
        std::vector<double> alpha;
        std::vector<std::optional<Way>> ways; /* of the tiles, where they are kept */
    };

    at::Tensor walk(const Line &image, const std::vector<double> &alpha, int64_t first, int64_t places,
                    std::optional<Way> *way) const;
    int64_t tile(size_t points) const { return form_.rest.tile(points * static_cast<size_t>(outputs_) * sizeof(T)); }
    int64_t origin(const Points &points) const { return inputs_.origins[points.row]; }
    at::Tensor gradients_of_means(const Points &points, const at::Tensor &gradients) const;
    void settle(const Way &way, const at::Tensor &gradients, int64_t first, T *sum) const;

    const Inputs inputs_;
    Form form_;
    int64_t channels_, outputs_;
    PixelLine<T> pixels_;
    Sizes before_; /* of the prefix's value, (images, ...) */
    std::vector<Line> images_;
    std::vector<Points> points_; /* of the last of() */
};

template <class T>
AlongPixels<T>::AlongPixels(const Subject &subject, const Form &form, double seconds)
    : inputs_(subject), form_(form), channels_(form.line.form.weight.size(1)), outputs_(form.line.form.weight.size(0)),
      pixels_(form.line.pieces, form.line.weights_of_cells<T>(), channels_, outputs_) {
    stop = form.rest.stop();
    planned = seconds;
    form_.line.form.weight = form.line.form.weight.flatten(1).contiguous();
    if (subject.only_planned) {
        return;
    }
    images_ = lines_of(subject, form.line, this, &before_);
}

/*
 * The layer's values for some pixels at all points, (points, places, outputs), and how they came about, which is found
 * where it is not known.
 */
template <class T>
at::Tensor AlongPixels<T>::walk(const Line &image, const std::vector<double> &alpha, int64_t first, int64_t places,
                                std::optional<Way> *gone) const {
    const at::NoGradGuard off;
    const T *start = data<T>(image.start) + first * channels_, *way = data<T>(image.way) + first * channels_;
    const at::TensorOptions options = image.start.options();
    const auto points = static_cast<int64_t>(alpha.size());
    at::Tensor values = at::empty({points, places, outputs_}, options);
    const std::vector<T> line(alpha.begin(), alpha.end());
    at::Tensor value = at::empty({places, channels_}, options), slope = at::empty_like(value);
    pixels_.lines(start, way, line[0], places, data<T>(value), data<T>(slope));
    const at::Tensor &weight = form_.line.form.weight;
    value = at::linear(value, weight, form_.line.bias);
    slope = at::linear(slope, weight);
    if (*gone) {
        pixels_.again(**gone, start, way, line, places, data<T>(value), data<T>(slope), data<T>(values));
    } else {
        *gone = pixels_.through(start, way, line, places, data<T>(value), data<T>(slope), data<T>(values));
    }
    return values;
}

template <class T> std::vector<at::Tensor> AlongPixels<T>::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    const ThreadsBeside threads;
    points_.clear();
    std::atomic<size_t> kept = 0;
    std::vector<at::Tensor> found;
    for (size_t from = 0, to; from < rows.size(); from = to) {
        to = from;
        while (to < rows.size() && rows[to] == rows[from]) {
            to++;
        }
        Points points{static_cast<size_t>(rows[from]), std::vector<size_t>(to - from), {}, {}};
        std::iota(points.order.begin(), points.order.end(), from);
        std::stable_sort(points.order.begin(), points.order.end(),
                         [&](size_t a, size_t b) { return point_of(s[a]) < point_of(s[b]); });
        at::Tensor places = at::empty({static_cast<int64_t>(to - from)}, at::kLong); /* of samples among the points */
        for (size_t k = 0; k < points.order.size(); k++) {
            points.alpha.push_back(point_of(s[points.order[k]]));
            places.data_ptr<int64_t>()[points.order[k] - from] = static_cast<int64_t>(k);
        }
        const ByPlace &rest = form_.rest;
        const int64_t step = tile(to - from);
        points.ways.resize(rest.tiles(step));
        const at::Tensor mean = rest.mean_of(step, [&](int64_t first, int64_t n, size_t i) {
            std::optional<Way> &way = points.ways[i];
            const at::Tensor values = walk(images_[points.row], points.alpha, first, n, &way);
            if ((kept += way->bytes()) > WAYS_BYTES) {
                way.reset();
            }
            return rest.run(inputs_, origin(points), values);
        });
        found.push_back(rest.of_mean(inputs_, origin(points), mean).index_select(0, places));
        points_.push_back(std::move(points));
    }
    return live_values(inputs_.program, form_.rest.mean(), {at::cat(found)});
}

/* Of gradients (points, ...) behind the mean those of what is added up at each place, (points, 1, features). */
template <class T>
at::Tensor AlongPixels<T>::gradients_of_means(const Points &points, const at::Tensor &gradients) const {
    at::AutoGradMode on(true);
    const auto n = static_cast<int64_t>(points.alpha.size());
    const at::Tensor mean = at::zeros({n, form_.rest.features()}, images_[0].start.options()).requires_grad_();
    const at::Tensor y = form_.rest.of_mean(inputs_, origin(points), mean);
    const at::Tensor found = gradients_of(inputs_.model, {y}, {mean}, {gradients.reshape(y.sizes())})[0];
    return found.div(static_cast<double>(form_.rest.places())).unsqueeze(1);
}

/*
 * From gradients (points, places, outputs) behind the layer those of the prefix's values, added to `sum`: for each cell that
 * turns, what was summed up to there goes to what it has followed, and is taken from what it follows from then on.
 */
template <class T>
void AlongPixels<T>::settle(const Way &way, const at::Tensor &gradients, int64_t first, T *sum) const {
    const int64_t places = gradients.size(1);
    const at::Tensor summed = at::empty({places, outputs_}, gradients.options());
    sum += first * channels_;
    pixels_.back(way, static_cast<size_t>(gradients.size(0)), places, data<T>(gradients), data<T>(summed), sum);
    const at::Tensor of_cells = summed.mm(form_.line.form.weight);
    pixels_.back_at_last(way, places, data<T>(of_cells), sum);
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
    for (Points &points : points_) {
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
        form_.rest.over_tiles(tile(points.alpha.size()), [&](int64_t first, int64_t places, size_t i) {
            std::optional<Way> &way = points.ways[i];
            const at::Tensor values = walk(image, points.alpha, first, places, &way);
            at::AutoGradMode on(true);
            const at::Tensor leaf = values.detach().requires_grad_();
            const at::Tensor y = form_.rest.run(inputs_, origin(points), leaf);
            const at::Tensor back = gradients_of(inputs_.model, {y}, {leaf}, {of_mean.expand({-1, places, -1})})[0];
            settle(*way, back.contiguous(), first, sum);
            way.reset();
        });
    }
    points_.clear();
}

template <class T> std::vector<at::Tensor> AlongPixels<T>::summed() {
    return {take_sums(form_.line, before_, &images_)};
}

} // namespace

std::unique_ptr<Features> along_pixels(const Subject &subject) {
    const Program &p = subject.program;
    const at::ScalarType dtype = subject.images.scalar_type();
    const std::optional<Form> found = form_of(subject);
    if (!found || p.values[static_cast<size_t>(found->rest.tail_value())].dtype != dtype) {
        return nullptr;
    }
    const double images = static_cast<double>(subject.images.size(0));
    const double units = bytes_of(p.values[static_cast<size_t>(found->line.before)]);
    const double cells =
        bytes_of(p.values[static_cast<size_t>(found->line.cells)]) / static_cast<double>(at::elementSize(dtype));
    const double planned =
        SECONDS_A_CELL * cells + IN_CACHE * PASSES * subject.cost(found->line.stop, found->rest.tail());
    const double instead =
        PASSES * subject.cost(found->line.from, found->rest.mean().pools[0].node) + 2 * SECONDS_A_BYTE * units;
    const bool saves = instead - planned >= WORTH * planned;
    if (3 * images * units > MOST_KEPT_BYTES || (!saves && !subject.trial.always)) {
        return nullptr;
    }
    if (dtype == at::kFloat) {
        return std::make_unique<AlongPixels<float>>(subject, *found, planned);
    }
    return std::make_unique<AlongPixels<double>>(subject, *found, planned);
}

} // namespace bridge
