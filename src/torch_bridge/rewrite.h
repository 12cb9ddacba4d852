/* rewrite.h - programs that compute the same with less work. */
#ifndef METEORS_C_REWRITE_H
#define METEORS_C_REWRITE_H

#include "program.h"

namespace bridge {

/*
 * Folds batch norms into convolutions, moves ReLUs behind maximum pools, gives those a kernel of ours, writes nothing
 * over. Nodes keep their places in the list. `exact_prefix`: what is affine at the beginning keeps its weights to the last bit.
 */
void rewrite(Program *program, bool exact_prefix);

} // namespace bridge

#endif
