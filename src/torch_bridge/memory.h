/* memory.h - torch's tensors keep their memory between the evaluations of a run. */
#ifndef METEORS_C_MEMORY_H
#define METEORS_C_MEMORY_H

namespace bridge {

/*
 * Between the first begin_reuse() and the last end_reuse(), large blocks that CPU tensors give back are kept for the
 * next tensors of their size. A model allocates the same sizes at every evaluation; given back to the system, each
 * block is cleared page by page when it is used again, which can cost more than the model's arithmetic. The last
 * end_reuse() gives all idle blocks back and restores the allocator that was there.
 */
void begin_reuse();
void end_reuse();

} // namespace bridge

#endif
