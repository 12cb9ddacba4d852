/* pixel_line.h - a piecewise linear function and a layer behind it, pixel by pixel at all points of a line. */
#ifndef METEORS_C_PIXEL_LINE_H
#define METEORS_C_PIXEL_LINE_H

#include "kinks.h"

namespace bridge {

/* What a pixel goes through: pieces slope x + offset, the second where x > ends[0], the third where x > ends[1]; then weights. */
template <class T> struct BentLayer {
    const T *weight; /* (channels, outputs) */
    int64_t channels, outputs;
    std::array<T, 2> ends;
    std::array<T, 3> slope, offset;
};

/*
 * weight f(start + alpha way) for each pixel, f of pieces and applied to each channel. From one point to the next few channels
 * come to another piece; only these are updated. Values are (places, channels), results (points, places, outputs).
 */
template <class T> class PixelLine {
  public:
    /* weight (channels, outputs) */
    PixelLine(const Pieces &pieces, std::vector<T> weight, int64_t channels, int64_t outputs);
    PixelLine(const PixelLine &) = delete;
    PixelLine &operator=(const PixelLine &) = delete;

    /* A channel of a pixel that is in another piece from a point on. */
    struct Turn {
        uint32_t point, channel;
        uint8_t before, now;
    };
    /* How some pixels went through the points. */
    struct Way {
        std::vector<Turn> turns;       /* of one pixel after the other, by point */
        std::vector<std::size_t> ends; /* of each pixel's, among them */
        std::vector<uint8_t> last;     /* pieces at the last point, (places, channels) */

        /* Where a pixel's turns begin; those of the one before end there. */
        const Turn *begin(int64_t place) const {
            return turns.data() + (place == 0 ? 0 : ends[static_cast<std::size_t>(place) - 1]);
        }
        std::size_t bytes() const {
            return turns.size() * sizeof(Turn) + ends.size() * sizeof(std::size_t) + last.size();
        }
    };

    /* f(start + alpha way) at one point, as value + alpha slope. */
    void lines(const T *start, const T *way, T alpha, int64_t places, T *value, T *slope) const;
    /*
     * The results at all points. value, slope (places, outputs): the layer of what lines() gives for the first of them;
     * they are updated.
     */
    Way through(const T *start, const T *way, const std::vector<T> &alpha, int64_t places, T *value, T *slope,
                T *results) const;
    /* The same numbers, of pixels that have gone that way. */
    void again(const Way &gone, const T *start, const T *way, const std::vector<T> &alpha, int64_t places, T *value,
               T *slope, T *results) const;
    /*
     * Add to `sum` (places, channels) what the gradients of the results at all points are at start + alpha way, for those
     * pieces that channels have left; `summed` (places, outputs) becomes the sum of the gradients.
     */
    void back(const Way &of, std::size_t points, int64_t places, const T *gradients, T *summed, T *sum) const;
    /* The same for the pieces of the last point. of_cells (places, channels): `summed` taken back through the layer. */
    void back_at_last(const Way &of, int64_t places, const T *of_cells, T *sum) const;

  private:
    std::vector<T> weight_;
    BentLayer<T> layer_;
};

} // namespace bridge

#endif
