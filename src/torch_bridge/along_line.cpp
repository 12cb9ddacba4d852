/*
 * along_line.cpp - gradients of points on a line through the first ReLU, or maximum pool, and the convolution behind it.
 *
 * The values of an affine prefix are start + alpha way. What a ReLU or a pool makes of them is linear in alpha, too, but for
 * kinks, and so is the convolution of that: `value + alpha slope`. From one point to the next few cells turn at a kink, and
 * value and slope are updated by the convolution of these alone. A cell follows one value between kinks, so the gradients
 * of the points in between are summed behind the convolution, and come back through it once: where a cell turns, what was
 * summed so far goes to the value that it has followed, and is taken from the one that it follows from then on.
 *
 *     sum of gradients at u  =  sum over kinks of (slope before - slope after) (W' G(alpha))   +  slope at the end (W' G)
 *
 * with G(alpha) the sum up to the kink and W' the transposed convolution. The same numbers in another order of additions.
 */
#include "packed.h"
#include "prepared.h"
#include "stretch.h"
#include "threads.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace bridge {
namespace {

using Sizes = std::vector<int64_t>;

/* Updating a cell takes so many times longer for each multiplication than a whole convolution. */
const double SPARSE = 6;
/* Seconds to look at a cell for the first time. */
const double SECONDS_A_CELL = 6e-9;
/* Cells that turn on the way, as far as plans go. */
const double TURNING = 0.5;
/* Seconds for each sample, whatever its size. */
const double SECONDS_A_SAMPLE = 5e-5;
/* Gradients that are added up in the model's own dtype before they go back through the convolution. */
const int RECENT_MOST = 64;
/* Fewer cells, of all samples together, stay on one thread. */
const int64_t MANY = 65536;
/* Images whose sums are taken back as one batch. */
const size_t TOGETHER = 16;

/* ---- values of one image, (places, channels) */

template <class T> struct OneImage : Line {
    std::vector<Side> sides;              /* of the cells */
    at::Tensor next;                      /* alpha of their next kinks */
    std::vector<at::Tensor> value, slope; /* what is live behind the stretch, (places, channels) each */
    std::vector<at::Tensor> gradient;     /* of that, summed since the last settlement */
    double alpha = 0;
    bool placed = false;
    int added = 0;
};

/* From one point to another: the cells that turned, or where all was made anew what they followed before. */
struct Move {
    size_t row;
    bool anew;
    std::vector<Turned> turned;
    std::vector<Side> before;
};

/* A live value, as what is convolved from the cells: the cells themselves by one weight of 1 each. */
template <class T> struct Reader {
    bool cells;
    SparseConvolution<T> sparse;
    Sizes shape; /* (1, ...) */
};

/* Run body(from, to) over [0, n), on threads where it is enough work. */
void over_parts(int64_t n, bool large, const std::function<void(int64_t, int64_t)> &body) {
    if (large) {
        run_over_threads(static_cast<size_t>(n),
                         [&](size_t from, size_t to) { body(static_cast<int64_t>(from), static_cast<int64_t>(to)); });
    } else {
        body(0, n);
    }
}

template <class T> class AlongLine : public Features {
  public:
    AlongLine(const Subject &subject, const Stretch &stretch, double seconds);
    std::string name() const override { return "piecewise linear prefix"; }
    size_t back() const override { return stretch_.from; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;
    bool sums() const override { return true; }
    void add(const std::vector<at::Tensor> &gradients, const std::vector<int64_t> &rows) override;
    std::vector<at::Tensor> summed() override;

  private:
    /* An image and what its cells follow. */
    struct Settled {
        OneImage<T> *image;
        const std::vector<Side> *sides;
    };

    at::Tensor convolved(const at::Tensor &cells) const;
    at::Tensor taken_back(const std::vector<at::Tensor> &of_results) const;
    void make_anew(OneImage<T> &image, double alpha) const;
    std::vector<std::vector<T>> turn(OneImage<T> &image, const std::vector<double> &alphas, Move *moves) const;
    void go_on(OneImage<T> &image, const std::vector<double> &alphas, Move *moves,
               const std::vector<at::Tensor> &features, int64_t row) const;
    void settle_cells(OneImage<T> &image, const std::vector<Side> &sides, const at::Tensor &of_cells) const;
    void settle(const std::vector<Settled> &images);
    void settle_moves();
    size_t end_of_run(size_t from) const;
    void add_run(size_t from, size_t to, const std::vector<at::Tensor> &gradients);

    /* (places, channels) as (1, ...) */
    at::Tensor as_features(const at::Tensor &places, const Reader<T> &reader) const;
    /* (n, ...) with an axis for the places: the spatial ones, or one for all where channels are last. */
    at::Tensor by_place(const at::Tensor &features) const;
    /* Which of them an axis of Windows3 is. */
    int64_t axis_of(size_t axis) const;
    /* Whether so many samples are worth more than one thread. */
    bool is_large(size_t samples) const;

    Stretch stretch_;
    int64_t channels_, outputs_;
    Cells<T> cells_;
    std::unique_ptr<PackedConvolution> packed_;
    std::vector<Reader<T>> readers_; /* by live value */
    Sizes before_;                   /* of the prefix's value, (images, ...) */
    bool channels_last_;
    std::vector<OneImage<T>> images_;
    std::vector<Move> moves_; /* of samples whose gradients have not come yet */
};

template <class T>
AlongLine<T>::AlongLine(const Subject &subject, const Stretch &stretch, double seconds)
    : stretch_(stretch), channels_(stretch.form.weight.size(1) * stretch.form.groups),
      outputs_(stretch.form.weight.size(0)), cells_(stretch.pool, stretch.pieces, channels_),
      channels_last_(subject.channels_last) {
    stop = stretch.stop;
    planned = seconds;
    if (subject.only_planned) {
        return;
    }
    const std::vector<Line> lines = lines_of(subject, stretch, this, &before_);
    const at::NoGradGuard off;
    if (!stretch.channels_are_last && PackedConvolution::takes(stretch.form.weight)) {
        packed_ = std::make_unique<PackedConvolution>(stretch.form);
    }
    Windows3 same;
    same.in = same.out = stretch.conv.in;
    for (int v : subject.program.live(stretch.stop)) {
        const Sizes &shape = subject.program.values[static_cast<size_t>(v)].shape;
        const std::vector<T> ones(static_cast<size_t>(channels_), 1);
        readers_.push_back(v == stretch.cells ? Reader<T>{true, {same, ones, channels_, channels_, channels_}, shape}
                                              : Reader<T>{false,
                                                          {stretch.conv, stretch.weights_of_cells<T>(), channels_,
                                                           outputs_, stretch.form.groups},
                                                          shape});
    }
    for (const Line &line : lines) {
        images_.emplace_back();
        static_cast<Line &>(images_.back()) = line;
    }
}

template <class T> at::Tensor AlongLine<T>::as_features(const at::Tensor &places, const Reader<T> &reader) const {
    if (stretch_.channels_are_last) {
        return places.unsqueeze(0);
    }
    Sizes shape = reader.shape;
    shape.push_back(shape[1]);
    shape.erase(shape.begin() + 1);
    return places.view(shape).movedim(-1, 1);
}

template <class T> at::Tensor AlongLine<T>::by_place(const at::Tensor &features) const {
    return stretch_.channels_are_last ? features.reshape({features.size(0), -1, features.size(-1)}) : features;
}

template <class T> int64_t AlongLine<T>::axis_of(size_t axis) const {
    return stretch_.channels_are_last ? 1 : static_cast<int64_t>(axis + stretch_.form.stride.size()) - 1;
}

template <class T> bool AlongLine<T>::is_large(size_t samples) const {
    return static_cast<int64_t>(samples) * cells_.count() > MANY;
}

/* (n, channels, ...) of spatial axes as they are, from (n, places, channels). */
at::Tensor spatial(const at::Tensor &x, const std::array<int64_t, 3> &sizes, size_t n) {
    Sizes shape{x.size(0)};
    shape.insert(shape.end(), sizes.end() - static_cast<std::ptrdiff_t>(n), sizes.end());
    shape.push_back(x.size(2));
    return x.view(shape).movedim(-1, 1);
}

/* The convolution of cells (places, channels), without its bias. */
template <class T> at::Tensor AlongLine<T>::convolved(const at::Tensor &cells) const {
    const ConvolutionForm &f = stretch_.form;
    if (stretch_.channels_are_last) {
        return at::linear(cells, f.weight);
    }
    const size_t n = f.stride.size();
    const at::Tensor x = spatial(cells.unsqueeze(0), stretch_.conv.in, n);
    return stretch_
        .as_places(
            packed_ ? (*packed_)(x)
                    : at::convolution(x, f.weight, {}, f.stride, f.padding, f.dilation, false, Sizes(n, 0), f.groups))
        .contiguous();
}

/* The gradients at the cells, (n, places, channels), from those of n results (places, outputs). */
template <class T> at::Tensor AlongLine<T>::taken_back(const std::vector<at::Tensor> &of_results) const {
    const at::Tensor y = at::stack(of_results);
    const ConvolutionForm &f = stretch_.form;
    if (stretch_.channels_are_last) {
        return y.matmul(f.weight);
    }
    const size_t n = f.stride.size();
    const at::Tensor results = spatial(y, stretch_.conv.out, n);
    Sizes in{y.size(0), channels_};
    in.insert(in.end(), stretch_.conv.in.end() - static_cast<std::ptrdiff_t>(n), stretch_.conv.in.end());
    const at::Tensor x = packed_ && n == 2
                             ? packed_->gradient(results, in, at::MemoryFormat::ChannelsLast)
                             : std::get<0>(at::convolution_backward(
                                   results.contiguous(), at::empty(in, y.options()), f.weight, std::nullopt, f.stride,
                                   f.padding, f.dilation, false, Sizes(n, 0), f.groups, {true, false, false}));
    return x.movedim(1, -1).flatten(1, -2).contiguous();
}

/* ---- from point to point */

template <class T> void AlongLine<T>::make_anew(OneImage<T> &image, double alpha) const {
    const at::TensorOptions options = image.start.options();
    if (!image.placed) {
        image.sides.resize(static_cast<size_t>(cells_.count()));
        image.next = at::empty({cells_.count()}, options);
    }
    const T *start = data<T>(image.start), *way = data<T>(image.way);
    at::Tensor value = at::empty({cells_.places(), channels_}, options), slope = at::empty_like(value);
    T *values = data<T>(value), *slopes = data<T>(slope), *next = data<T>(image.next);
    over_parts(cells_.places(), cells_.count() > MANY, [&](int64_t from, int64_t to) {
        cells_.look(start, way, static_cast<T>(alpha), from, to, image.sides.data(), next);
        cells_.lines(start, way, image.sides.data(), from, to, values, slopes);
    });
    image.value.clear();
    image.slope.clear();
    for (const Reader<T> &reader : readers_) {
        image.value.push_back(reader.cells ? value : convolved(value));
        image.slope.push_back(reader.cells ? slope : convolved(slope));
        if (!reader.cells && stretch_.bias.defined()) {
            image.value.back().add_(stretch_.bias);
        }
    }
    image.alpha = alpha;
    image.placed = true;
}

/* The cells that turn on the way to each of some points; by how much what they give changes there, start and way. */
template <class T>
std::vector<std::vector<T>> AlongLine<T>::turn(OneImage<T> &image, const std::vector<double> &alphas,
                                               Move *moves) const {
    struct Part {
        std::vector<std::vector<Turned>> turned;
        std::vector<std::vector<T>> change;
    };
    const T *start = data<T>(image.start), *way = data<T>(image.way);
    const size_t n = alphas.size();
    std::map<int64_t, Part> parts;
    std::mutex alone;
    over_parts(cells_.places(), is_large(n), [&](int64_t from, int64_t to) {
        Part part{std::vector<std::vector<Turned>>(n), std::vector<std::vector<T>>(n)};
        for (size_t k = 0; k < n; k++) {
            cells_.turn(start, way, static_cast<T>(alphas[k]), from, to, image.sides.data(), data<T>(image.next),
                        &part.turned[k]);
            cells_.add_changes(start, way, part.turned[k], &part.change[k]);
        }
        const std::lock_guard<std::mutex> guard(alone);
        parts[from] = std::move(part);
    });
    std::vector<std::vector<T>> change = std::move(parts.begin()->second.change);
    for (size_t k = 0; k < n; k++) {
        moves[k].turned = std::move(parts.begin()->second.turned[k]);
        for (auto part = std::next(parts.begin()); part != parts.end(); ++part) {
            const std::vector<Turned> &more = part->second.turned[k];
            moves[k].turned.insert(moves[k].turned.end(), more.begin(), more.end());
            change[k].insert(change[k].end(), part->second.change[k].begin(), part->second.change[k].end());
        }
    }
    return change;
}

/* The samples at some points, none before the one where the image is: features from `row` on. */
template <class T>
void AlongLine<T>::go_on(OneImage<T> &image, const std::vector<double> &alphas, Move *moves,
                         const std::vector<at::Tensor> &features, int64_t row) const {
    const std::vector<std::vector<T>> change = turn(image, alphas, moves);
    for (size_t v = 0; v < readers_.size(); v++) {
        const SparseConvolution<T> &sparse = readers_[v].sparse;
        T *value = data<T>(image.value[v]), *slope = data<T>(image.slope[v]);
        const at::Tensor values = as_features(image.value[v], readers_[v]);
        const at::Tensor slopes = as_features(image.slope[v], readers_[v]);
        const int64_t axis = axis_of(sparse.major());
        over_parts(sparse.majors(), is_large(alphas.size()), [&](int64_t from, int64_t to) {
            for (size_t k = 0; k < alphas.size(); k++) {
                sparse.add(moves[k].turned, change[k].data(), from, to, value, slope);
                const auto sample = row + static_cast<int64_t>(k);
                at::Tensor out = features[v].slice(0, sample, sample + 1).slice(axis, from, to);
                at::add_out(out, values.slice(axis, from, to), slopes.slice(axis, from, to), alphas[k]);
            }
        });
    }
    image.alpha = alphas.back();
}

/* The samples in order: what belongs to one image, each point behind the last, is done together. */
template <class T> std::vector<at::Tensor> AlongLine<T>::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    const ThreadsBeside threads;
    settle_moves();
    std::vector<at::Tensor> features, spread;
    for (const Reader<T> &reader : readers_) {
        Sizes shape = reader.shape;
        shape[0] = static_cast<int64_t>(rows.size());
        const bool last = channels_last_ && shape.size() == 4 && !stretch_.channels_are_last;
        features.push_back(at::empty(shape, images_[0].start.options().memory_format(
                                                last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous)));
        spread.push_back(by_place(features.back()));
    }
    moves_.resize(rows.size());
    for (size_t from = 0, to; from < rows.size(); from = to) {
        const auto row = static_cast<size_t>(rows[from]);
        OneImage<T> &image = images_[row];
        std::vector<double> alphas{point_of(s[from])};
        for (to = from + 1; to < rows.size() && rows[to] == rows[from] && point_of(s[to]) >= alphas.back(); to++) {
            alphas.push_back(point_of(s[to]));
        }
        for (size_t i = from; i < to; i++) {
            moves_[i] = {row, false, {}, {}};
        }
        if (!image.placed || alphas[0] < image.alpha) {
            moves_[from].anew = true;
            moves_[from].before = image.sides;
            make_anew(image, alphas[0]);
        }
        go_on(image, alphas, moves_.data() + from, spread, static_cast<int64_t>(from));
    }
    return features;
}

/* ---- sums of gradients */

/* Add gradients at cells, (places, channels), to the values that they follow. */
template <class T>
void AlongLine<T>::settle_cells(OneImage<T> &image, const std::vector<Side> &sides, const at::Tensor &of_cells) const {
    const T *gradients = data<T>(of_cells);
    T *sum = data<T>(image.sum);
    over_parts(cells_.places(), cells_.apart() && cells_.count() > MANY,
               [&](int64_t from, int64_t to) { cells_.give_back(sides.data(), gradients, from, to, sum); });
}

/* What was summed behind the convolution, for some images, goes to what cells follow. */
template <class T> void AlongLine<T>::settle(const std::vector<Settled> &images) {
    std::vector<at::Tensor> all(images.size()); /* at the cells */
    for (size_t v = 0; v < readers_.size(); v++) {
        std::vector<at::Tensor> sums;
        for (const Settled &one : images) {
            sums.push_back(one.image->gradient[v]);
        }
        const at::Tensor found = readers_[v].cells ? at::stack(sums) : taken_back(sums);
        for (size_t i = 0; i < images.size(); i++) {
            const at::Tensor one = found[static_cast<int64_t>(i)];
            all[i] = all[i].defined() ? all[i].add_(one) : one;
            sums[i].zero_();
        }
    }
    for (size_t i = 0; i < images.size(); i++) {
        settle_cells(*images[i].image, *images[i].sides, all[i]);
        images[i].image->added = 0;
    }
}

/* Those moves that no gradients will follow. */
template <class T> void AlongLine<T>::settle_moves() {
    for (size_t from = 0, to; from < moves_.size(); from = to) {
        to = end_of_run(from);
        add_run(from, to, {});
    }
    moves_.clear();
}

/* The end of a run of moves of one image, which is made anew before none but the first. */
template <class T> size_t AlongLine<T>::end_of_run(size_t from) const {
    size_t to = from + 1;
    while (to < moves_.size() && moves_[to].row == moves_[from].row && !moves_[to].anew) {
        to++;
    }
    return to;
}

/*
 * For each sample of a run: what was summed up to there goes to what the cells that turn have followed until then, and is
 * taken from what they follow now; then its gradient, where there is one, is added to the sum.
 */
template <class T> void AlongLine<T>::add_run(size_t from, size_t to, const std::vector<at::Tensor> &gradients) {
    OneImage<T> &image = images_[moves_[from].row];
    if (moves_[from].anew && image.added > 0) {
        settle({{&image, &moves_[from].before}});
    }
    if (gradients.empty() && image.added == 0) {
        return;
    }
    if (!image.sum.defined()) {
        image.sum = at::zeros_like(image.start);
        image.gradient.clear();
        for (const at::Tensor &value : image.value) {
            image.gradient.push_back(at::zeros_like(value));
        }
    }
    const bool large = is_large(to - from);
    std::map<std::pair<size_t, int64_t>, std::vector<std::vector<T>>> parts; /* of what the cells that turn get */
    std::mutex alone;
    for (size_t v = 0; v < readers_.size(); v++) {
        const SparseConvolution<T> &sparse = readers_[v].sparse;
        const T *summed = data<T>(image.gradient[v]);
        const at::Tensor sums = as_features(image.gradient[v], readers_[v]);
        const int64_t axis = axis_of(sparse.major());
        const at::Tensor given = gradients.empty() || !gradients[v].defined() ? at::Tensor() : by_place(gradients[v]);
        over_parts(sparse.majors(), large, [&](int64_t first, int64_t last) {
            std::vector<std::vector<T>> shares;
            for (size_t k = from; k < to; k++) {
                shares.emplace_back(moves_[k].turned.size(), T(0));
                sparse.gradient(moves_[k].turned, first, last, summed, shares.back().data());
                if (given.defined()) {
                    const auto row = static_cast<int64_t>(k);
                    sums.slice(axis, first, last).add_(given.slice(0, row, row + 1).slice(axis, first, last));
                }
            }
            const std::lock_guard<std::mutex> guard(alone);
            parts[{v, first}] = std::move(shares);
        });
    }
    T *sum = data<T>(image.sum);
    over_parts(cells_.places(), large && cells_.apart(), [&](int64_t first, int64_t last) {
        for (size_t k = from; k < to; k++) {
            const std::vector<Turned> &turned = moves_[k].turned;
            auto i = static_cast<size_t>(first_at(turned, first) - turned.begin());
            for (; i < turned.size() && turned[i].place < last; i++) {
                T all = 0;
                for (const auto &part : parts) {
                    all += part.second[k - from][i];
                }
                cells_.give_back(turned[i], all, sum);
            }
        }
    });
    image.added += gradients.empty() ? 0 : static_cast<int>(to - from);
}

template <class T> void AlongLine<T>::add(const std::vector<at::Tensor> &gradients, const std::vector<int64_t> &rows) {
    const ThreadsBeside threads;
    TORCH_CHECK(moves_.size() == rows.size(), "gradients of ", rows.size(), " samples, of ", moves_.size(), " made");
    for (size_t from = 0, to; from < moves_.size(); from = to) {
        to = end_of_run(from);
        add_run(from, to, gradients);
    }
    moves_.clear();
    for (int64_t row : rows) { /* cells are where the last sample of the image has left them */
        OneImage<T> &image = images_[static_cast<size_t>(row)];
        if (image.added >= RECENT_MOST) {
            settle({{&image, &image.sides}});
        }
    }
}

template <class T> std::vector<at::Tensor> AlongLine<T>::summed() {
    const at::NoGradGuard off;
    const ThreadsBeside threads;
    settle_moves();
    std::vector<Settled> open;
    for (size_t i = 0; i <= images_.size(); i++) {
        if (i < images_.size() && images_[i].added > 0) {
            open.push_back({&images_[i], &images_[i].sides});
        }
        if (!open.empty() && (i == images_.size() || open.size() == TOGETHER)) {
            settle(open);
            open.clear();
        }
    }
    return {take_sums(stretch_, before_, &images_)};
}

} // namespace

std::unique_ptr<Features> along_line(const Subject &subject) {
    const Program &p = subject.program;
    const at::ScalarType dtype = subject.images.scalar_type();
    const std::optional<Stretch> found = stretch_of(subject);
    if (!found) {
        return nullptr;
    }
    const double count = static_cast<double>(subject.trial.count), images = static_cast<double>(subject.images.size(0));
    const double units = bytes_of(p.values[static_cast<size_t>(found->before)]);
    const double result = bytes_of(p.values[static_cast<size_t>(found->result)]);
    const double cells = bytes_of(p.values[static_cast<size_t>(found->cells)]);
    const double size = static_cast<double>(at::elementSize(dtype));
    const double kept = images * (3 * units + 3 * result + cells * (found->reads_cells ? 4 : 1) + 2 * cells / size);
    const double convolution = subject.seconds[found->convolution];
    /* Cells that turn are updated one by one, and all are looked at first; then there are additions for each sample. */
    const double once = (3 + 3 * SPARSE * TURNING) * convolution + SECONDS_A_CELL * cells / size;
    const double each = SECONDS_A_SAMPLE + SECONDS_A_BYTE * (cells + 6 * (result + (found->reads_cells ? cells : 0)));
    const double instead = PASSES * subject.cost(found->from, found->stop) + 2 * SECONDS_A_BYTE * units;
    const double saved = instead - each - once / count;
    const double rest = PASSES * subject.cost(found->stop, p.nodes.size()) + each;
    if (kept > MOST_KEPT_BYTES || (saved < WORTH * rest && !subject.trial.always)) {
        return nullptr;
    }
    const double planned = each + once / count;
    if (dtype == at::kFloat) {
        return std::make_unique<AlongLine<float>>(subject, *found, planned);
    }
    return std::make_unique<AlongLine<double>>(subject, *found, planned);
}

} // namespace bridge
