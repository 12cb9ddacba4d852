/*
 * pixel_sums.cpp - windows, for models that look at each pixel by itself and then take a mean, sum or maximum over places.
 *
 * Each place in front of the pool depends on one pixel, so in a sample it has the value that it has for the image, or that
 * for the image with the window's bands replaced everywhere. One evaluation of that kind for each range of bands serves all
 * windows, whatever the part in front of the pool computes. Where it begins with an affine part, that of the replaced bands
 * is all that is new there (pixels_without_bands.h).
 */
#include "pixels_without_bands.h"
#include "segment_reach.h"
#include "threads.h"

#include <algorithm>
#include <array>
#include <map>

namespace bridge {
namespace {

using Shape = std::vector<int64_t>;

/* Copying a window and adding it up costs so many seconds beside its values. */
const double WINDOW_SECONDS = 50e-6;
/* Values in front of the pools are kept up to this many bytes, of one evaluation and of all. */
const double TABLE_BYTES = 64 << 20, KEPT_BYTES = 256 << 20;

/* Masks for each bit of a position along an axis of the image, one bit at least: where it is 1, then where it is 0. */
Reach bits_along(int64_t axis, int64_t size) {
    std::vector<at::Tensor> masks;
    const at::Tensor places = at::arange(size);
    for (int64_t bit = 1; bit == 1 || bit < size; bit *= 2) {
        const at::Tensor set = places.bitwise_and(bit).ne(0);
        masks.push_back(set);
        masks.push_back(set.logical_not());
    }
    Shape shape(MET_AXES + 1, 1);
    shape[0] = static_cast<int64_t>(masks.size());
    shape[static_cast<size_t>(axis) + 1] = size;
    return at::stack(masks).to(at::kFloat).reshape(shape);
}

class PixelSums : public Features {
  public:
    explicit PixelSums(const Subject &subject);
    std::string name() const override;
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    /* Of one evaluation, by pool: the values in front of it, (features, places), and their sums in double, (features,). */
    struct Table {
        std::vector<at::Tensor> values, sums;
    };
    /* The image of a row, and the bands that take the baseline's values. */
    using Key = std::array<int64_t, 3>;

    at::Tensor position_along(size_t pool, int64_t axis) const;
    std::vector<at::Tensor> evaluated(int64_t row, int64_t from, int64_t to);
    const Table &table(const Key &key);
    at::Tensor pooled(size_t pool, const Table &image, const Table &changed, const met_sample &s) const;

    const Inputs inputs_;
    int rows_ = -1, columns_ = -1; /* axes of an image */
    PoolCut cut_;
    std::optional<PixelsWithoutBands::Form> form_; /* nothing: whole images are evaluated */
    std::optional<PixelsWithoutBands> pixels_;     /* made when an image is first evaluated */
    SegmentReach reach_;
    std::vector<at::Tensor> row_, column_; /* by pool: (places,) of the pixel that each place looks at */
    std::map<Key, Table> known_;
    size_t count_ = 1;
    bool whole_ = true; /* windows hold all bands */
};

PixelSums::PixelSums(const Subject &subject)
    : inputs_(subject), cut_(cut_at_pools(subject.program)), reach_(subject.program) {
    const at::NoGradGuard off;
    stop = cut_.stop;
    for (int axis = 0; axis < MET_AXES; axis++) {
        if (axis != inputs_.bands) {
            (rows_ < 0 ? rows_ : columns_) = axis;
        }
    }
    const int64_t all = inputs_.images.size(inputs_.bands + 1);
    int64_t bands = all;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const met_sample &s = subject.trial.samples[i];
        bands =
            s.kind == MET_BOX ? static_cast<int64_t>(s.box.stop[inputs_.bands] - s.box.start[inputs_.bands]) : bands;
    }
    count_ = std::max<size_t>(subject.trial.count, 1);
    whole_ = bands == all;
    const int64_t needed = whole_ ? 1 : 2 * (all / std::max<int64_t>(bands, 1)); /* if ranges overlap by half */
    auto form = PixelsWithoutBands::form_of(subject);
    form = form && form->rest.stop() == stop ? form : std::nullopt;
    const double part = static_cast<double>(bands) / static_cast<double>(all);
    const double each = form ? PixelsWithoutBands::seconds(subject, *form, part) : subject.cost(0, stop);
    planned =
        WINDOW_SECONDS + (subject.cost(0, stop) + static_cast<double>(needed) * each) / static_cast<double>(count_);
    double bytes = 0;
    for (const SpatialPool &pool : cut_.pools) {
        bytes += bytes_of(inputs_.program.values[static_cast<size_t>(pool.source)]);
    }
    if (planned > 0.7 * subject.cost(0, stop) && !subject.trial.always) {
        throw Declined(MET_DECLINE_NOTHING_SHARED, "there are too few windows to evaluate every pixel for them");
    }
    if (bytes > TABLE_BYTES) {
        throw Declined(MET_DECLINE_STRUCTURE, "what the model takes together over places takes too much memory");
    }
    if (form && !subject.only_planned && differences_keep_digits(subject.images, subject.baselines)) {
        form_ = form;
    }
    for (size_t k = 0; k < cut_.pools.size() && !subject.only_planned; k++) {
        row_.push_back(position_along(k, rows_));
        column_.push_back(position_along(k, columns_));
    }
}

/*
 * Where along an axis of the image the pixel lies that each place of a pool's source looks at, (places,); -1: it looks at
 * none. A place that looks at two of them is reached where a bit is set and where it is not.
 */
at::Tensor PixelSums::position_along(size_t k, int64_t axis) const {
    const SpatialPool &pool = cut_.pools[k];
    const Shape &shape = inputs_.program.values[static_cast<size_t>(pool.source)].shape;
    const Reach bits = bits_along(axis, inputs_.images.size(axis + 1));
    const Reach reach = reach_.of(bits, {pool.source})[0];
    if (!reach.defined()) {
        throw Declined(MET_DECLINE_STRUCTURE, "the receptive fields of the model's places are not known");
    }
    const at::Tensor reached = reached_places(reach, shape, pool.axes);
    const at::Tensor set = reached.slice(0, 0, {}, 2), clear = reached.slice(0, 1, {}, 2);
    if (set.logical_and(clear).any().item<bool>()) {
        throw Declined(MET_DECLINE_STRUCTURE, "the model looks at more than one pixel at a time");
    }
    const at::Tensor values = at::ones({}, at::kLong).__lshift__(at::arange(set.size(0))).unsqueeze(1);
    const at::Tensor found = set.to(at::kLong).mul(values).sum(0);
    return at::where(set.logical_or(clear).any(0), found, -1).to(inputs_.images.device());
}

/* The values in front of each pool, (features, places), for an image in which bands [from, to) take the baseline's values. */
std::vector<at::Tensor> PixelSums::evaluated(int64_t row, int64_t from, int64_t to) {
    const int64_t origin = inputs_.origins[static_cast<size_t>(row)], axis = inputs_.bands + 1;
    std::vector<at::Tensor> found;
    if (!form_) {
        at::Tensor x = inputs_.images.slice(0, row, row + 1).clone();
        x.slice(axis, from, to).copy_(inputs_.baselines.slice(0, row, row + 1).slice(axis, from, to));
        for (const at::Tensor &values : before_pools(inputs_.program, inputs_.model, cut_, x, {origin})) {
            found.push_back(values.squeeze(0).contiguous());
        }
        return found;
    }
    if (!pixels_) {
        pixels_.emplace(inputs_, *form_, false);
    }
    std::vector<uint8_t> replaced(static_cast<size_t>(inputs_.images.size(axis)), 0);
    std::fill(replaced.begin() + from, replaced.begin() + to, 1);
    const std::vector<PixelsWithoutBands::Sample> samples{pixels_->sample_of(replaced)};
    const ByPlace &rest = pixels_->rest();
    const int64_t tile = pixels_->tile(1);
    found.resize(rest.tiles(tile));
    const ThreadsBeside threads;
    rest.over_tiles(tile, [&](int64_t first, int64_t places, size_t i) {
        const at::NoGradGuard off;
        found[i] = rest.source(inputs_, origin, pixels_->values(samples, row, first, places)).squeeze(0).t();
    });
    return {at::cat(found, 1)};
}

const PixelSums::Table &PixelSums::table(const Key &key) {
    const auto found = known_.find(key);
    if (found != known_.end()) {
        return found->second;
    }
    const Learning timed(&learning);
    const auto [row, from, to] = key;
    Table made;
    double bytes = 0;
    for (const at::Tensor &values : evaluated(row, from, to)) {
        made.values.push_back(values);
        made.sums.push_back(made.values.back().sum(at::IntArrayRef{1}, false, at::kDouble));
        bytes += static_cast<double>(made.values.back().nbytes());
    }
    for (auto other = known_.begin(); other != known_.end();) { /* all but the image itself, which is in use */
        const bool full = bytes * static_cast<double>(known_.size() + 1) > KEPT_BYTES;
        other = full && other->first != Key{row, 0, 0} ? known_.erase(other) : std::next(other);
    }
    return known_.emplace(key, std::move(made)).first->second;
}

/* What a pool gives for a sample, (1, features) in double. */
at::Tensor PixelSums::pooled(size_t k, const Table &image, const Table &changed, const met_sample &s) const {
    const SpatialPool &pool = cut_.pools[k];
    const auto within = [&](const at::Tensor &at, int axis) {
        const auto first = static_cast<int64_t>(s.box.start[axis]), last = static_cast<int64_t>(s.box.stop[axis]);
        return at.ge(first).logical_and_(at.lt(last));
    };
    const bool same = &image == &changed;
    const at::Tensor inside = same ? at::Tensor() : within(row_[k], rows_).logical_and_(within(column_[k], columns_));
    if (pool.maximum) {
        const at::Tensor values = same ? image.values[k] : at::where(inside, changed.values[k], image.values[k]);
        return values.amax({1}).to(at::kDouble).unsqueeze(0);
    }
    at::Tensor sum = image.sums[k].clone();
    if (!same) {
        const at::Tensor places = inside.nonzero().squeeze(1);
        const auto add = [&](const Table &table, double sign) {
            sum.add_(table.values[k].index_select(1, places).sum(at::IntArrayRef{1}, false, at::kDouble), sign);
        };
        add(image, -1);
        add(changed, 1);
    }
    return sum.mul_(pool.factor).unsqueeze(0);
}

std::vector<at::Tensor> PixelSums::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    learning = 0;
    std::vector<std::vector<at::Tensor>> results(cut_.pools.size());
    for (size_t i = 0; i < rows.size(); i++) {
        const bool box = s[i].kind == MET_BOX;
        const auto from = box ? static_cast<int64_t>(s[i].box.start[inputs_.bands]) : 0;
        const auto to = box ? static_cast<int64_t>(s[i].box.stop[inputs_.bands]) : 0;
        const Table &image = table({rows[i], 0, 0}), &changed = box ? table({rows[i], from, to}) : image;
        for (size_t k = 0; k < cut_.pools.size(); k++) {
            results[k].push_back(pooled(k, image, changed, s[i]));
        }
    }
    std::vector<at::Tensor> pooled;
    for (const std::vector<at::Tensor> &of_pool : results) {
        pooled.push_back(at::cat(of_pool));
    }
    return live_values(inputs_.program, cut_, pooled);
}

std::string PixelSums::name() const {
    return whole_ ? "pixel sums: 2 evaluations for " + std::to_string(count_) : "pixel sums, by ranges of bands";
}

} // namespace

std::unique_ptr<Features> of_pixels(const Subject &subject) {
    return std::make_unique<PixelSums>(subject);
}

} // namespace bridge
