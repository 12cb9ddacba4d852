/* graph.h - the affine operations at the beginning of a graph that autograd recorded. */
#ifndef METEORS_C_GRAPH_H
#define METEORS_C_GRAPH_H

#include <torch/csrc/autograd/function.h>

#include <string>
#include <vector>

namespace bridge {

/*
 * The operations that follow `leaf` in a chain on the way to `root`, in order: each is affine in one argument, and
 * alone reads what the one before it made. Why the chain ended goes to `end`.
 */
std::vector<torch::autograd::Node *> affine_chain(torch::autograd::Node *root, torch::autograd::Node *leaf,
                                                  std::string *end);

/* The same for operations of any kind in their first argument. */
std::vector<torch::autograd::Node *> lone_chain(torch::autograd::Node *root, torch::autograd::Node *leaf);

} // namespace bridge

#endif
