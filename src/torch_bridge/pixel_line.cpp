/* pixel_line.cpp - see pixel_line.h. */
#include "pixel_line.h"

#include "clones.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace bridge {
namespace {

/* Channels that are counted at once. */
const int64_t LANES = 16;

/* A whole number as wide as T, so that both fit the same vectors. */
template <class T> using Count = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

/* A channel that comes to the piece before or behind at a point. */
struct Flip {
    uint32_t point, channel;
    int8_t step;
};

/* Room for what one pixel goes through. */
struct Room {
    Room(std::size_t channels, std::size_t points)
        : piece(channels), flips(2 * channels), sorted(2 * channels), ends(points) {}
    std::vector<uint8_t> piece;      /* of each channel */
    std::vector<Flip> flips, sorted; /* by channel, then by point */
    std::vector<uint32_t> ends;      /* of each point's flips among those that are sorted */
};

/* At how many points channels are above an end. */
template <class T>
INSIDE void count_above(T end, const T *start, const T *way, const T *alpha, std::size_t points, Count<T> *above) {
    Count<T> found[LANES] = {};
    for (std::size_t k = 0; k < points; k++) {
        for (int64_t l = 0; l < LANES; l++) {
            found[l] += start[l] + alpha[k] * way[l] > end;
        }
    }
    std::copy_n(found, LANES, above);
}

/*
 * The flips of a pixel, sorted by point; returns how many. What is rounded of a line rises or falls as the line does: a
 * channel passes an end once at most, and how many points it is above tells where.
 */
template <class T>
INSIDE std::size_t find_flips(const BentLayer<T> &f, const T *start, const T *way, const T *alpha, std::size_t points,
                              Room *room) {
    std::size_t flipped = 0;
    std::fill(room->ends.begin(), room->ends.end(), 0);
    for (int64_t from = 0; from < f.channels; from += LANES) {
        const int64_t n = std::min(LANES, f.channels - from);
        T starts[LANES], ways[LANES];
        for (int64_t l = 0; l < LANES; l++) { /* the last one in place of those that are not there */
            const int64_t channel = std::min(from + l, f.channels - 1);
            starts[l] = start[channel], ways[l] = way[channel];
        }
        std::memset(room->piece.data() + from, 0, static_cast<std::size_t>(n));
        for (const T end : f.ends) {
            if (std::isinf(end)) {
                continue;
            }
            Count<T> above[LANES], first[LANES];
            count_above(end, starts, ways, alpha, points, above);
            count_above(end, starts, ways, alpha, 1, first);
            uint8_t *piece = room->piece.data() + from;
            for (int64_t l = 0; l < n; l++) {
                const auto channel = static_cast<uint32_t>(from + l);
                const auto count = static_cast<uint32_t>(above[l]);
                const bool falls = first[l] != 0;
                piece[l] = static_cast<uint8_t>(piece[l] + falls);
                if (count != 0 && count != points) {
                    const uint32_t point = falls ? count : static_cast<uint32_t>(points) - count;
                    room->flips[flipped++] = {point, channel, static_cast<int8_t>(falls ? -1 : 1)};
                    room->ends[point]++;
                }
            }
        }
    }
    uint32_t before = 0;
    for (uint32_t &end : room->ends) {
        const uint32_t own = end;
        end = before;
        before += own;
    }
    for (std::size_t i = 0; i < flipped; i++) {
        room->sorted[room->ends[room->flips[i].point]++] = room->flips[i];
    }
    return flipped;
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

/* One pixel at all points; results of one point lie `apart` from those of the next. */
template <class T, class Turn>
INSIDE void go(const BentLayer<T> &f, const T *start, const T *way, const T *alpha, std::size_t points, T *value,
               T *slope, T *results, int64_t apart, Room *room, std::vector<Turn> *turns) {
    const std::size_t flipped = find_flips(f, start, way, alpha, points, room);
    const Flip *flip = room->sorted.data(), *end = flip + flipped;
    for (std::size_t k = 0; k < points; k++) {
        while (flip < end && flip->point == k) {
            const uint32_t channel = flip->channel;
            const uint8_t before = room->piece[channel];
            uint8_t now = before;
            for (; flip < end && flip->point == k && flip->channel == channel; flip++) { /* it may pass both ends */
                now = static_cast<uint8_t>(now + flip->step);
            }
            room->piece[channel] = now;
            const Turn turn{static_cast<uint32_t>(k), channel, before, now};
            turn_over(f, turn, start, way, value, slope);
            turns->push_back(turn);
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
    CLONES void go_through(const BentLayer<T> &f, const T *start, const T *way, const T *alpha, std::size_t points, \
                           T *value, T *slope, T *results, int64_t apart, Room *room, \
                           std::vector<PixelLine<T>::Turn> *turns) { \
        go(f, start, way, alpha, points, value, slope, results, apart, room, turns); \
    } \
    CLONES void go_again(const BentLayer<T> &f, const PixelLine<T>::Turn *turn, const PixelLine<T>::Turn *end, \
                         const T *start, const T *way, const T *alpha, std::size_t points, T *value, T *slope, \
                         T *results, int64_t apart) { \
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
    Room room(static_cast<std::size_t>(channels), alpha.size());
    Way found;
    found.ends.reserve(static_cast<std::size_t>(places));
    found.last.resize(static_cast<std::size_t>(places * channels));
    for (int64_t place = 0; place < places; place++) {
        go_through(layer_, start + place * channels, way + place * channels, alpha.data(), alpha.size(),
                   value + place * outputs, slope + place * outputs, results + place * outputs, places * outputs, &room,
                   &found.turns);
        found.ends.push_back(found.turns.size());
        std::copy_n(room.piece.begin(), channels, found.last.begin() + place * channels);
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
