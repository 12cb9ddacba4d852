/* reads.h - what Python code of a model reads of its tensors without an operator: Tensor.numpy(), tolist() and the like. */
#ifndef METEORS_C_READS_H
#define METEORS_C_READS_H

#include "trace.h"

namespace bridge {

/*
 * While it lives, calls of C functions by Python code of this thread are looked at; what reads a value of the trace that
 * depends on the input is noted there. Where a profiler has that place already, nothing is looked at, and values that no
 * operator reads count as read. The GIL is held.
 */
class Reads {
  public:
    explicit Reads(Trace &trace);
    ~Reads();
    Reads(const Reads &) = delete;
    Reads &operator=(const Reads &) = delete;

  private:
    Trace &trace_;
};

} // namespace bridge

#endif
