/* kinks.cpp - see kinks.h. */
#include "kinks.h"

#include "clones.h"

#include <algorithm>
#include <limits>

namespace bridge {

#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address, 1)
#else
#define FETCH(address)
#endif

namespace {

/* Values that are looked at together: most have no kink. */
const int64_t BLOCK = 32;
/* Values whose kinks are found before the first of them is looked at. */
const int64_t MANY_BLOCKS = 256 * BLOCK;
/* Sums that are kept apart, so that they fit into vectors. */
const int64_t LANES = 16;

template <class T> inline T least_of(const T *values) {
    T least[LANES];
    std::copy(values, values + LANES, least);
    for (int64_t i = LANES; i < BLOCK; i += LANES) {
        for (int64_t l = 0; l < LANES; l++) {
            least[l] = values[i + l] < least[l] ? values[i + l] : least[l];
        }
    }
    return *std::min_element(least, least + LANES);
}

CLONES float least(const float *values) {
    return least_of(values);
}

CLONES double least(const double *values) {
    return least_of(values);
}

/* first += a w and second += b w. */
CLONES void add_twice(const float *w, float a, float b, int64_t n, float *first, float *second) {
    for (int64_t i = 0; i < n; i++) {
        first[i] += a * w[i];
        second[i] += b * w[i];
    }
}

CLONES void add_twice(const double *w, double a, double b, int64_t n, double *first, double *second) {
    for (int64_t i = 0; i < n; i++) {
        first[i] += a * w[i];
        second[i] += b * w[i];
    }
}

template <class T> inline T dot_of(const T *a, const T *b, int64_t n) {
    T sums[LANES] = {}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int64_t l = 0; l < LANES; l++) {
            sums[l] += a[i + l] * b[i + l];
        }
    }
    for (; i < n; i++) {
        sum += a[i] * b[i];
    }
    for (T one : sums) {
        sum += one;
    }
    return sum;
}

CLONES float dot(const float *a, const float *b, int64_t n) {
    return dot_of(a, b, n);
}

CLONES double dot(const double *a, const double *b, int64_t n) {
    return dot_of(a, b, n);
}

std::array<int64_t, 3> place_of(int64_t place, const std::array<int64_t, 3> &sizes) {
    const auto at = static_cast<uint32_t>(place), b = static_cast<uint32_t>(sizes[1]),
               c = static_cast<uint32_t>(sizes[2]);
    const uint32_t row = at / c, plane = row / b;
    return {plane, row - plane * b, at - row * c};
}

/* Values start + alpha way with two pieces: the second ones, and where each comes to the other piece. */
template <class T>
inline void look_at_two(const T *start, const T *way, T alpha, T end, int64_t n, uint8_t *second, T *next) {
    for (int64_t i = 0; i < n; i++) {
        const T x = start[i] + alpha * way[i];
        const bool over = x > end;
        const T after = (end - x) / way[i];
        const bool comes = over ? way[i] < 0 : way[i] > 0;
        second[i] = over;
        next[i] = comes ? alpha + (after > 0 ? after : 0) : std::numeric_limits<T>::infinity();
    }
}

CLONES void look_at_pairs(const float *start, const float *way, float alpha, float end, int64_t n, uint8_t *second,
                          float *next) {
    look_at_two(start, way, alpha, end, n, second, next);
}

CLONES void look_at_pairs(const double *start, const double *way, double alpha, double end, int64_t n, uint8_t *second,
                          double *next) {
    look_at_two(start, way, alpha, end, n, second, next);
}

} // namespace

bool Windows3::apart() const {
    bool apart = true;
    for (std::size_t d = 0; d < 3; d++) {
        apart = apart && (out[d] == 1 || stride[d] > dilation[d] * (kernel[d] - 1));
    }
    return apart;
}

std::vector<Turned>::const_iterator first_at(const std::vector<Turned> &cells, int64_t place) {
    return std::lower_bound(cells.begin(), cells.end(), place,
                            [](const Turned &one, int64_t other) { return one.place < other; });
}

/* ---- cells */

/* The places of a window that are not beyond a border, and which of its places they are. */
template <class T> struct Cells<T>::Candidates {
    std::size_t n = 0;
    std::array<int64_t, 256> place;
    std::array<uint8_t, 256> pick;
};

template <class T>
Cells<T>::Cells(const Windows3 &windows, const Pieces &pieces, int64_t channels)
    : windows_(windows), channels_(channels), pieces_(pieces.count), from_end_(pieces.from_end),
      apart_(windows.apart()), single_(windows.taps() == 1 && windows.in == windows.out) {
    std::copy(pieces.ends.begin(), pieces.ends.end(), ends_.begin());
    std::copy(pieces.slope.begin(), pieces.slope.end(), slope_.begin());
    std::copy(pieces.offset.begin(), pieces.offset.end(), offset_.begin());
}

template <class T> void Cells<T>::candidates(int64_t place, Candidates *found) const {
    const auto at = place_of(place, windows_.out);
    const Windows3 &w = windows_;
    found->n = 0;
    int64_t pick = 0;
    for (int64_t i = 0; i < w.kernel[0]; i++) {
        for (int64_t j = 0; j < w.kernel[1]; j++) {
            for (int64_t k = 0; k < w.kernel[2]; k++, pick++) {
                const int64_t x = at[0] * w.stride[0] - w.padding[0] + i * w.dilation[0];
                const int64_t y = at[1] * w.stride[1] - w.padding[1] + j * w.dilation[1];
                const int64_t z = at[2] * w.stride[2] - w.padding[2] + k * w.dilation[2];
                if (x >= 0 && x < w.in[0] && y >= 0 && y < w.in[1] && z >= 0 && z < w.in[2]) {
                    const std::size_t n = found->n++;
                    found->place[n] = ((x * w.in[1] + y) * w.in[2] + z) * channels_;
                    found->pick[n] = static_cast<uint8_t>(pick);
                }
            }
        }
    }
}

/* The piece that x is in, and how much further along the line it leaves it: `after` at most. */
template <class T> inline int Cells<T>::piece_at(T x, T slope, T *after) const {
    int piece = 0;
    while (piece + 1 < pieces_ && (x > ends_[piece] || (from_end_[piece] && x == ends_[piece]))) {
        piece++;
    }
    if (slope > 0 && piece + 1 < pieces_) {
        *after = std::min(*after, (ends_[piece] - x) / slope);
    } else if (slope < 0 && piece > 0) {
        *after = std::min(*after, (ends_[piece - 1] - x) / slope);
    }
    return piece;
}

template <class T>
void Cells<T>::look_at(const T *start, const T *way, T alpha, const Candidates &of, int64_t channel, Side *side,
                       T *next) const {
    std::size_t best = 0;
    T x = start[of.place[0] + channel] + alpha * way[of.place[0] + channel];
    for (std::size_t i = 1; i < of.n; i++) { /* the first of equals, as torch takes it */
        const T other = start[of.place[i] + channel] + alpha * way[of.place[i] + channel];
        if (other > x) {
            x = other;
            best = i;
        }
    }
    const T slope = way[of.place[best] + channel];
    T after = std::numeric_limits<T>::infinity(); /* how much further the first kink is */
    for (std::size_t i = 0; i < of.n; i++) {
        const T faster = way[of.place[i] + channel] - slope;
        if (faster > 0) {
            const T ahead = x - (start[of.place[i] + channel] + alpha * way[of.place[i] + channel]);
            after = std::min(after, ahead / faster);
        }
    }
    const int piece = piece_at(x, slope, &after);
    *side = {of.pick[best], static_cast<uint8_t>(piece)};
    *next = alpha + std::max(after, T(0));
}

template <class T>
void Cells<T>::look(const T *start, const T *way, T alpha, int64_t from, int64_t to, Side *sides, T *next) const {
    if (single_ && pieces_ == 2 && !from_end_[0]) {
        std::array<uint8_t, 256> second;
        const int64_t end = to * channels_;
        for (int64_t i = from * channels_; i < end; i += 256) {
            const int64_t n = std::min<int64_t>(256, end - i);
            look_at_pairs(start + i, way + i, alpha, ends_[0], n, second.data(), next + i);
            for (int64_t k = 0; k < n; k++) {
                sides[i + k] = {0, second[static_cast<std::size_t>(k)]};
            }
        }
        return;
    }
    Candidates of;
    for (int64_t place = from; place < to; place++) {
        candidates(place, &of);
        for (int64_t c = 0; c < channels_; c++) {
            look_at(start, way, alpha, of, c, sides + place * channels_ + c, next + place * channels_ + c);
        }
    }
}

/* Cells [from, to) whose next kink is not behind alpha, in order; what is read of them is on its way to the cache. */
template <class T>
void Cells<T>::at_kinks(const T *start, const T *way, T alpha, int64_t from, int64_t to, const Side *sides,
                        const T *next, std::vector<int64_t> *found) const {
    found->clear();
    for (int64_t block = from; block < to; block += BLOCK) {
        const int64_t end = std::min(to, block + BLOCK);
        if (end - block == BLOCK && least(next + block) > alpha) {
            continue;
        }
        for (int64_t cell = block; cell < end; cell++) {
            if (next[cell] <= alpha) {
                found->push_back(cell);
                FETCH(sides + cell);
                if (single_) {
                    FETCH(start + cell);
                    FETCH(way + cell);
                }
            }
        }
    }
}

template <class T>
void Cells<T>::turn(const T *start, const T *way, T alpha, int64_t from, int64_t to, Side *sides, T *next,
                    std::vector<Turned> *turned) const {
    Candidates of;
    int64_t looked = -1, place = from;
    std::vector<int64_t> cells;
    for (int64_t first = from * channels_; first < to * channels_; first += MANY_BLOCKS) {
        at_kinks(start, way, alpha, first, std::min(to * channels_, first + MANY_BLOCKS), sides, next, &cells);
        for (int64_t cell : cells) {
            if (cell >= (place + 1) * channels_) {
                place = static_cast<uint32_t>(cell) / static_cast<uint32_t>(channels_);
            }
            const Side before = sides[cell];
            const int64_t channel = cell - place * channels_;
            if (single_) {
                T after = std::numeric_limits<T>::infinity();
                const int piece = piece_at(start[cell] + alpha * way[cell], way[cell], &after);
                sides[cell].piece = static_cast<uint8_t>(piece);
                next[cell] = alpha + std::max(after, T(0));
            } else {
                if (place != looked) {
                    candidates(place, &of);
                    looked = place;
                }
                look_at(start, way, alpha, of, channel, sides + cell, next + cell);
            }
            const bool flat = slope(before) == 0 && before.piece == sides[cell].piece;
            if (!flat && !(before == sides[cell])) {
                turned->push_back({static_cast<int32_t>(place), static_cast<int32_t>(channel), before, sides[cell]});
            }
        }
    }
}

template <class T> int64_t Cells<T>::unit(int64_t place, int64_t channel, Side side) const {
    if (single_) {
        return place * channels_ + channel;
    }
    const Windows3 &w = windows_;
    const auto at = place_of(place, w.out), in = place_of(side.pick, w.kernel);
    int64_t found = 0;
    for (std::size_t d = 0; d < 3; d++) {
        found = found * w.in[d] + at[d] * w.stride[d] - w.padding[d] + in[d] * w.dilation[d];
    }
    return found * channels_ + channel;
}

template <class T>
void Cells<T>::lines(const T *start, const T *way, const Side *sides, int64_t from, int64_t to, T *value,
                     T *slopes) const {
    for (int64_t place = from; place < to; place++) {
        for (int64_t c = 0; c < channels_; c++) {
            const int64_t cell = place * channels_ + c, followed = unit(place, c, sides[cell]);
            value[cell] = slope(sides[cell]) * start[followed] + offset(sides[cell]);
            slopes[cell] = slope(sides[cell]) * way[followed];
        }
    }
}

template <class T>
void Cells<T>::add_changes(const T *start, const T *way, const std::vector<Turned> &turned,
                           std::vector<T> *changes) const {
    for (const Turned &one : turned) {
        const int64_t before = unit(one.place, one.channel, one.before), now = unit(one.place, one.channel, one.now);
        const T left = slope(one.before), taken = slope(one.now);
        changes->push_back(taken * start[now] + offset(one.now) - left * start[before] - offset(one.before));
        changes->push_back(taken * way[now] - left * way[before]);
    }
}

template <class T>
void Cells<T>::give_back(const Side *sides, const T *of_cells, int64_t from, int64_t to, T *sum) const {
    for (int64_t place = from; place < to; place++) {
        for (int64_t c = 0; c < channels_; c++) {
            const int64_t cell = place * channels_ + c;
            sum[unit(place, c, sides[cell])] += slope(sides[cell]) * of_cells[cell];
        }
    }
}

template <class T> void Cells<T>::give_back(const Turned &one, T of_cell, T *sum) const {
    sum[unit(one.place, one.channel, one.before)] += slope(one.before) * of_cell;
    sum[unit(one.place, one.channel, one.now)] -= slope(one.now) * of_cell;
}

/* ---- convolutions */

template <class T>
SparseConvolution<T>::SparseConvolution(const Windows3 &windows, std::vector<T> weight, int64_t channels,
                                        int64_t outputs, int64_t groups)
    : windows_(windows), weight_(std::move(weight)), channels_(channels), outputs_(outputs), groups_(groups) {
    while (major_ < 2 && windows_.out[major_] == 1) {
        major_++;
    }
}

template <class T> double SparseConvolution<T>::work() const {
    double work = static_cast<double>(outputs_ / groups_);
    for (std::size_t d = 0; d < 3; d++) {
        work *= static_cast<double>(windows_.kernel[d]) / static_cast<double>(windows_.stride[d]);
    }
    return work;
}

/* body(i, weights, place in the result) for what cell i reaches there, all outputs of its group at once. */
template <class T>
template <class Body>
inline void SparseConvolution<T>::at_each(const std::vector<Turned> &cells, int64_t from, int64_t to,
                                          const Body &body) const {
    const Windows3 &w = windows_;
    const int64_t of_group = outputs_ / groups_, in_group = channels_ / groups_;
    std::array<int64_t, 3> low{}, high = w.out;
    low[major_] = from;
    high[major_] = to;
    auto first = cells.begin(), last = cells.end();
    int64_t rest = w.places_in() / w.in[0], outer = w.in[0]; /* places in one of the major axis, and of all before it */
    for (std::size_t d = 1; d <= major_; d++) {
        outer *= w.in[d];
        rest /= w.in[d];
    }
    if (outer == w.in[major_]) { /* cells are in order */
        const int64_t begin = from * w.stride[major_] - w.padding[major_];
        const int64_t end =
            (to - 1) * w.stride[major_] - w.padding[major_] + w.dilation[major_] * (w.kernel[major_] - 1);
        first = first_at(cells, begin * rest);
        last = first_at(cells, (end + 1) * rest);
    }
    for (; first != last; ++first) {
        const auto at = place_of(first->place, w.in);
        const int64_t channel = first->channel, outputs = in_group == channels_ ? 0 : channel / in_group * of_group;
        const T *weight = weight_.data() + channel * w.taps() * of_group; /* groups follow each other */
        const auto i = static_cast<std::size_t>(first - cells.begin());
        const auto reaches = [&](std::size_t d, int64_t k, int64_t *o) {
            const int64_t t = at[d] + w.padding[d] - k * w.dilation[d];
            *o = w.stride[d] == 1 ? t : static_cast<int32_t>(t) / static_cast<int32_t>(w.stride[d]);
            return t >= 0 && *o >= low[d] && *o < high[d] && *o * w.stride[d] == t;
        };
        for (int64_t a = 0, x; a < w.kernel[0]; a++) {
            if (!reaches(0, a, &x)) {
                continue;
            }
            for (int64_t b = 0, y; b < w.kernel[1]; b++) {
                if (!reaches(1, b, &y)) {
                    continue;
                }
                for (int64_t c = 0, z; c < w.kernel[2]; c++) {
                    if (reaches(2, c, &z)) {
                        body(i, weight + ((a * w.kernel[1] + b) * w.kernel[2] + c) * of_group,
                             ((x * w.out[1] + y) * w.out[2] + z) * outputs_ + outputs);
                    }
                }
            }
        }
    }
}

template <class T>
void SparseConvolution<T>::add(const std::vector<Turned> &cells, const T *change, int64_t from, int64_t to, T *first,
                               T *second) const {
    const int64_t n = outputs_ / groups_;
    at_each(cells, from, to, [&](std::size_t i, const T *weight, int64_t place) {
        add_twice(weight, change[2 * i], change[2 * i + 1], n, first + place, second + place);
    });
}

template <class T>
void SparseConvolution<T>::gradient(const std::vector<Turned> &cells, int64_t from, int64_t to, const T *of_result,
                                    T *out) const {
    const int64_t n = outputs_ / groups_;
    at_each(cells, from, to,
            [&](std::size_t i, const T *weight, int64_t place) { out[i] += dot(weight, of_result + place, n); });
}

template class Cells<float>;
template class Cells<double>;
template class SparseConvolution<float>;
template class SparseConvolution<double>;

} // namespace bridge
