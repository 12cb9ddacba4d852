/* pixel_line.cpp - see pixel_line.h. */
#include "pixel_line.h"

#include "clones.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace bridge {
namespace {

/* Channels whose pieces are compared at once. */
const int64_t WORD = 8;

/* Pieces of n channels at a point. */
template <class T>
INSIDE void find_pieces(const BentLayer<T> &f, const T *start, const T *way, T alpha, uint8_t *__restrict piece) {
    const int64_t channels = f.channels; /* bytes may be anything, so nothing else is read from memory below */
    const T first = f.ends[0], second = f.ends[1];
    for (int64_t c = 0; c < channels; c++) {
        const T x = start[c] + alpha * way[c];
        piece[c] = static_cast<uint8_t>((x > first) + (x > second));
    }
}

template <class T>
INSIDE void lines_of(const BentLayer<T> &f, const T *start, const T *way, T alpha, int64_t places, T *value, T *slope) {
    const BentLayer<T> own = f;
    for (int64_t i = 0; i < places * own.channels; i++) {
        const T x = start[i] + alpha * way[i];
        T by = x > own.ends[0] ? own.slope[1] : own.slope[0], offset = x > own.ends[0] ? own.offset[1] : own.offset[0];
        by = x > own.ends[1] ? own.slope[2] : by;
        offset = x > own.ends[1] ? own.offset[2] : offset;
        value[i] = by * start[i] + offset;
        slope[i] = by * way[i];
    }
}

/* What a channel of a pixel gives from a turn on. */
template <class T, class Turn>
INSIDE void turn_over(const BentLayer<T> &f, const Turn &turn, const T *start, const T *way, T *value, T *slope) {
    const T by = f.slope[turn.now] - f.slope[turn.before], *w = f.weight + turn.channel * f.outputs;
    const T of_value = by * start[turn.channel] + f.offset[turn.now] - f.offset[turn.before];
    const T of_slope = by * way[turn.channel];
    for (int64_t o = 0; o < f.outputs; o++) {
        value[o] += of_value * w[o];
        slope[o] += of_slope * w[o];
    }
}

template <class T>
INSIDE void write_results(const BentLayer<T> &f, T alpha, const T *value, const T *slope, T *__restrict result) {
    for (int64_t o = 0; o < f.outputs; o++) {
        result[o] = value[o] + alpha * slope[o];
    }
}

/* One pixel at all points; results of one point lie `apart` from those of the next. piece: (2, channels and a word). */
template <class T, class Turn>
INSIDE void go(const BentLayer<T> &f, const T *start, const T *way, const T *alpha, std::size_t points, T *value,
               T *slope, T *results, int64_t apart, uint8_t *piece, uint8_t *other, std::vector<Turn> *turns) {
    find_pieces(f, start, way, alpha[0], piece);
    for (std::size_t k = 0; k < points; k++) {
        find_pieces(f, start, way, alpha[k], other);
        for (int64_t word = 0; word < f.channels; word += WORD) {
            uint64_t before, now;
            std::memcpy(&before, piece + word, WORD);
            std::memcpy(&now, other + word, WORD);
            if (before == now) {
                continue;
            }
            for (int64_t c = word; c < word + WORD; c++) {
                const uint8_t left = piece[c], taken = other[c];
                if (left != taken) {
                    const Turn turn{static_cast<uint32_t>(k), static_cast<uint32_t>(c), left, taken};
                    turn_over(f, turn, start, way, value, slope);
                    turns->push_back(turn);
                    piece[c] = taken;
                }
            }
        }
        write_results(f, alpha[k], value, slope, results + static_cast<int64_t>(k) * apart);
    }
}

/* The same where the turns are known. */
template <class T, class Turn>
INSIDE void go_known(const BentLayer<T> &f, const Turn *turn, const Turn *end, const T *start, const T *way,
                     const T *alpha, std::size_t points, T *value, T *slope, T *results, int64_t apart) {
    for (std::size_t k = 0; k < points; k++) {
        for (; turn < end && turn->point == k; turn++) {
            turn_over(f, *turn, start, way, value, slope);
        }
        write_results(f, alpha[k], value, slope, results + static_cast<int64_t>(k) * apart);
    }
}

/* Gradients of one pixel's results, back to its channels. */
template <class T, class Turn>
INSIDE void come_back(const BentLayer<T> &f, const Turn *turn, const Turn *end, std::size_t points, const T *gradients,
                      int64_t apart, T *summed, T *sum) {
    const int64_t LANES = 16;
    for (std::size_t k = 0; k < points; k++) {
        for (; turn < end && turn->point == k; turn++) {
            const T *w = f.weight + turn->channel * f.outputs;
            T lanes[LANES] = {}, all = 0; /* sums that fit into vectors */
            int64_t o = 0;
            for (; o + LANES <= f.outputs; o += LANES) {
                for (int64_t l = 0; l < LANES; l++) {
                    lanes[l] += summed[o + l] * w[o + l];
                }
            }
            for (; o < f.outputs; o++) {
                all += summed[o] * w[o];
            }
            for (T lane : lanes) {
                all += lane;
            }
            sum[turn->channel] += (f.slope[turn->before] - f.slope[turn->now]) * all;
        }
        const T *gradient = gradients + static_cast<int64_t>(k) * apart;
        for (int64_t o = 0; o < f.outputs; o++) {
            summed[o] += gradient[o];
        }
    }
}

#define FOR_TYPE(T) \
    CLONES void lines_at(const BentLayer<T> &f, const T *start, const T *way, T alpha, int64_t places, T *value, \
                         T *slope) { \
        lines_of(f, start, way, alpha, places, value, slope); \
    } \
    CLONES_FOR_BYTES void go_through(const BentLayer<T> &f, const T *start, const T *way, const T *alpha, \
                                     std::size_t points, T *value, T *slope, T *results, int64_t apart, \
                                     uint8_t *piece, uint8_t *other, std::vector<PixelLine<T>::Turn> *turns) { \
        go(f, start, way, alpha, points, value, slope, results, apart, piece, other, turns); \
    } \
    CLONES_FOR_BYTES void go_again(const BentLayer<T> &f, const PixelLine<T>::Turn *turn, \
                                   const PixelLine<T>::Turn *end, const T *start, const T *way, const T *alpha, \
                                   std::size_t points, T *value, T *slope, T *results, int64_t apart) { \
        go_known(f, turn, end, start, way, alpha, points, value, slope, results, apart); \
    } \
    CLONES void go_back(const BentLayer<T> &f, const PixelLine<T>::Turn *turn, const PixelLine<T>::Turn *end, \
                        std::size_t points, const T *gradients, int64_t apart, T *summed, T *sum) { \
        come_back(f, turn, end, points, gradients, apart, summed, sum); \
    }

FOR_TYPE(float)
FOR_TYPE(double)

} // namespace

template <class T>
PixelLine<T>::PixelLine(const Pieces &pieces, std::vector<T> weight, int64_t channels, int64_t outputs)
    : weight_(std::move(weight)), layer_{weight_.data(), channels, outputs, {}, {}, {}} {
    const T none = std::numeric_limits<T>::infinity();
    for (std::size_t i = 0; i < 2; i++) { /* x >= end is x > what is next below it */
        const T end = static_cast<T>(pieces.ends[i]);
        const bool there = static_cast<int>(i) + 1 < pieces.count;
        layer_.ends[i] = !there ? none : pieces.from_end[i] ? std::nextafter(end, -none) : end;
    }
    std::copy(pieces.slope.begin(), pieces.slope.end(), layer_.slope.begin());
    std::copy(pieces.offset.begin(), pieces.offset.end(), layer_.offset.begin());
}

template <class T>
void PixelLine<T>::lines(const T *start, const T *way, T alpha, int64_t places, T *value, T *slope) const {
    lines_at(layer_, start, way, alpha, places, value, slope);
}

template <class T>
typename PixelLine<T>::Way PixelLine<T>::through(const T *start, const T *way, const std::vector<T> &alpha,
                                                 int64_t places, T *value, T *slope, T *results) const {
    const int64_t channels = layer_.channels, outputs = layer_.outputs;
    std::vector<uint8_t> pieces(static_cast<std::size_t>(channels + WORD)), others(pieces);
    Way found;
    found.ends.reserve(static_cast<std::size_t>(places));
    found.last.resize(static_cast<std::size_t>(places * channels));
    for (int64_t place = 0; place < places; place++) {
        go_through(layer_, start + place * channels, way + place * channels, alpha.data(), alpha.size(),
                   value + place * outputs, slope + place * outputs, results + place * outputs, places * outputs,
                   pieces.data(), others.data(), &found.turns);
        found.ends.push_back(found.turns.size());
        std::copy_n(pieces.begin(), channels, found.last.begin() + place * channels);
    }
    return found;
}

template <class T>
void PixelLine<T>::again(const Way &gone, const T *start, const T *way, const std::vector<T> &alpha, int64_t places,
                         T *value, T *slope, T *results) const {
    const int64_t channels = layer_.channels, outputs = layer_.outputs;
    for (int64_t place = 0; place < places; place++) {
        go_again(layer_, gone.begin(place), gone.begin(place + 1), start + place * channels, way + place * channels,
                 alpha.data(), alpha.size(), value + place * outputs, slope + place * outputs,
                 results + place * outputs, places * outputs);
    }
}

template <class T>
void PixelLine<T>::back(const Way &of, std::size_t points, int64_t places, const T *gradients, T *summed,
                        T *sum) const {
    const int64_t outputs = layer_.outputs;
    std::fill_n(summed, places * outputs, T(0));
    for (int64_t place = 0; place < places; place++) {
        go_back(layer_, of.begin(place), of.begin(place + 1), points, gradients + place * outputs, places * outputs,
                summed + place * outputs, sum + place * layer_.channels);
    }
}

template <class T> void PixelLine<T>::back_at_last(const Way &of, int64_t places, const T *of_cells, T *sum) const {
    for (int64_t i = 0; i < places * layer_.channels; i++) {
        sum[i] += layer_.slope[of.last[static_cast<std::size_t>(i)]] * of_cells[i];
    }
}

template class PixelLine<float>;
template class PixelLine<double>;

} // namespace bridge
