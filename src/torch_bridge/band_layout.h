/* band_layout.h - where the bands lie in the values of a program, as long as it keeps them apart. */
#ifndef METEORS_C_BAND_LAYOUT_H
#define METEORS_C_BAND_LAYOUT_H

#include "program.h"

#include <vector>

namespace bridge {

/*
 * Where the bands lie in a value that has each of them apart, and what the operators on the way to it do: each band of the
 * result must be a function of that band of the input alone, whatever it is.
 */
class BandLayout {
  public:
    BandLayout(const Program &p, int input, int axis) : p_(p), axis_(p.values.size(), -1) {
        axis_[static_cast<size_t>(input)] = axis;
    }
    int axis(int v) const { return v < 0 ? -1 : axis_[static_cast<size_t>(v)]; }
    /* Whether the node keeps bands apart; its result is known then. */
    bool follow(const Node &node);

  private:
    int moved(const Node &node, int axis) const;
    const Program &p_;
    std::vector<int> axis_; /* by value */
};

} // namespace bridge

#endif
