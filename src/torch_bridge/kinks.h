/* kinks.h - ReLUs and maximum pools along a line, and convolutions of the few values that change there. */
#ifndef METEORS_C_KINKS_H
#define METEORS_C_KINKS_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bridge {

/* Windows over up to three axes: places of the result and of what it is made from. */
struct Windows3 {
    using Sizes = std::array<int64_t, 3>;
    Sizes in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, padding{}, dilation{1, 1, 1};

    int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
    int64_t places_in() const { return in[0] * in[1] * in[2]; }
    int64_t places_out() const { return out[0] * out[1] * out[2]; }
    /* Whether no two windows share a place. */
    bool apart() const;
};

/* A function that never falls, of up to three pieces slope x + offset. */
struct Pieces {
    int count = 1;
    std::array<double, 2> ends{};   /* of the first two pieces: where x > end, or x >= end */
    std::array<bool, 2> from_end{}; /* the latter */
    std::array<double, 3> slope{1}, offset{};
};

/* What a cell follows: the value of its window that is the largest, and the piece of the function that this is in. */
struct Side {
    uint8_t pick = 0, piece = 0;
    bool operator==(const Side &other) const { return pick == other.pick && piece == other.piece; }
};

/* A cell that follows something else from here on. */
struct Turned {
    int32_t place, channel;
    Side before, now;
};

/* The first of cells, in order, that is not in front of a place. */
std::vector<Turned>::const_iterator first_at(const std::vector<Turned> &cells, int64_t place);

/*
 * Cells f(max over a window of start + alpha way), a maximum pool and a function of pieces: linear in alpha between kinks.
 * Values are (places, channels), as cells are.
 */
template <class T> class Cells {
  public:
    Cells(const Windows3 &windows, const Pieces &pieces, int64_t channels);

    int64_t places() const { return windows_.places_out(); }
    int64_t count() const { return places() * channels_; }
    /* The sides of the cells at places [from, to) at alpha, and where the next kink of each is at the earliest. */
    void look(const T *start, const T *way, T alpha, int64_t from, int64_t to, Side *sides, T *next) const;
    /* The same for those cells that have come to their next kink; adds the ones that turned, in order. */
    void turn(const T *start, const T *way, T alpha, int64_t from, int64_t to, Side *sides, T *next,
              std::vector<Turned> *turned) const;
    /* The value that a cell follows: its place in start and way. */
    int64_t unit(int64_t place, int64_t channel, Side side) const;
    T slope(Side side) const { return slope_[side.piece]; }
    T offset(Side side) const { return offset_[side.piece]; }
    /* What the cells at places [from, to) give, value + alpha slope, from the sides that they are on. */
    void lines(const T *start, const T *way, const Side *sides, int64_t from, int64_t to, T *value, T *slope) const;
    /* By how much the value and the slope of cells that turned change: two numbers for each, behind those that are there. */
    void add_changes(const T *start, const T *way, const std::vector<Turned> &turned, std::vector<T> *changes) const;
    /* Add the gradients of the cells at places [from, to) to those of what they follow. */
    void give_back(const Side *sides, const T *of_cells, int64_t from, int64_t to, T *sum) const;
    /* The gradient of a cell up to where it turned: to what it followed, and out of what it follows from there on. */
    void give_back(const Turned &one, T of_cell, T *sum) const;
    /* Whether no two cells follow the same value. */
    bool apart() const { return apart_; }

  private:
    struct Candidates;
    void candidates(int64_t place, Candidates *found) const;
    int piece_at(T x, T slope, T *after) const;
    void at_kinks(const T *start, const T *way, T alpha, int64_t from, int64_t to, const Side *sides, const T *next,
                  std::vector<int64_t> *found) const;
    void look_at(const T *start, const T *way, T alpha, const Candidates &of, int64_t channel, Side *side,
                 T *next) const;

    Windows3 windows_;
    int64_t channels_;
    int pieces_;
    std::array<T, 2> ends_{};
    std::array<bool, 2> from_end_;
    std::array<T, 3> slope_{}, offset_{};
    bool apart_, single_;
};

/*
 * A convolution of values most of which are zero, and what its gradient is at a few of them. Values are (places, channels).
 * What is done for the places [from, to) of the result along its major() axis, the first that has several, is independent
 * of what is done for others.
 */
template <class T> class SparseConvolution {
  public:
    /* weight (groups, channels of a group, taps, outputs of a group), row-major. */
    SparseConvolution(const Windows3 &windows, std::vector<T> weight, int64_t channels, int64_t outputs,
                      int64_t groups);

    std::size_t major() const { return major_; }
    int64_t majors() const { return windows_.out[major_]; }
    /* Add the convolution of change[2 i] at cells[i] to `first`, that of change[2 i + 1] to `second`. */
    void add(const std::vector<Turned> &cells, const T *change, int64_t from, int64_t to, T *first, T *second) const;
    /* Add to out[i] the gradient at cells[i] from those of the result's places. */
    void gradient(const std::vector<Turned> &cells, int64_t from, int64_t to, const T *of_result, T *out) const;
    /* Multiplications of one cell. */
    double work() const;

  private:
    template <class Body>
    void at_each(const std::vector<Turned> &cells, int64_t from, int64_t to, const Body &body) const;

    Windows3 windows_;
    std::vector<T> weight_;
    int64_t channels_, outputs_, groups_;
    std::size_t major_ = 0;
};

} // namespace bridge

#endif
