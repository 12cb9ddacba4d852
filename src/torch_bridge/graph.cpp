/* graph.cpp - see graph.h. */
#include "graph.h"

#include <unordered_map>
#include <unordered_set>

using torch::autograd::Node;

namespace bridge {
namespace {

/* Whether a node is affine in its argument number `argument`, all others being constants. */
bool is_affine(const Node &node, size_t argument) {
    static const std::unordered_set<std::string> in_any = {
        "AddBackward0",
        "SubBackward0",
        "RsubBackward1",
        "MulBackward0",
        "NegBackward0",
        "MmBackward0",
        "BmmBackward0",
        "MvBackward0",
        "AddmmBackward0",
        "BaddbmmBackward0",
        "LinearBackward0",
        "ViewBackward0",
        "UnsafeViewBackward0",
        "ReshapeAliasBackward0",
        "UnsqueezeBackward0",
        "SqueezeBackward0",
        "SqueezeBackward1",
        "SqueezeBackward2",
        "PermuteBackward0",
        "TransposeBackward0",
        "TBackward0",
        "ExpandBackward0",
        "CloneBackward0",
        "ContiguousBackward0",
        "AliasBackward0",
        "SliceBackward0",
        "SelectBackward0",
        "ConstantPadNdBackward0",
        "FlipBackward0",
        "AvgPool2DBackward0",
        "AvgPool3DBackward0",
        "MeanBackward0",
        "MeanBackward1",
        "SumBackward0",
        "SumBackward1",
        "AdaptiveAvgPool2DBackward0",
        "AdaptiveAvgPool3DBackward0",
        "ReflectionPad1DBackward0",
        "ReflectionPad2DBackward0",
        "ReplicationPad2DBackward0",
    };
    static const std::unordered_set<std::string> in_first = {
        "ConvolutionBackward0",     "MkldnnConvolutionBackward0", "ThnnConv2DBackward0",      "SlowConv3DBackward0",
        "NativeBatchNormBackward0", "CudnnBatchNormBackward0",    "MiopenBatchNormBackward0", "DivBackward0",
    };
    std::string name = node.name();
    return in_any.count(name) > 0 || (argument == 0 && in_first.count(name) > 0);
}

struct Consumer {
    Node *node;
    size_t argument;
};

using Consumers = std::unordered_map<Node *, std::vector<Consumer>>;

/* Who reads what, among the nodes between `leaf` and `root`. */
Consumers consumers_between(Node *root, Node *leaf) {
    std::unordered_map<Node *, bool> reaches = {{leaf, true}};
    std::vector<std::pair<Node *, size_t>> path = {{root, 0}};
    Consumers consumers;
    while (!path.empty()) { /* depth first, without recursion: graphs are deep */
        auto [node, next] = path.back();
        if (next == 0 && reaches.count(node) > 0) {
            path.pop_back();
            continue;
        }
        const auto &edges = node->next_edges();
        if (next < edges.size()) {
            path.back().second++;
            Node *child = edges[next].function.get();
            if (child != nullptr && reaches.count(child) == 0) {
                path.emplace_back(child, 0);
            }
            continue;
        }
        bool found = false;
        for (size_t i = 0; i < edges.size(); i++) {
            Node *child = edges[i].function.get();
            if (child != nullptr && reaches[child]) {
                consumers[child].push_back({node, i});
                found = true;
            }
        }
        reaches[node] = found;
        path.pop_back();
    }
    return consumers;
}

} // namespace

namespace {

/* Nodes from `leaf` on, each of which alone reads the one before it, as long as `accept` takes them. */
template <typename Accept>
std::vector<Node *> chain_while(Node *root, Node *leaf, std::string *end, const Accept &accept) {
    Consumers consumers = consumers_between(root, leaf);
    std::vector<Node *> chain;
    for (Node *node = leaf; node != root;) {
        const auto &readers = consumers[node];
        if (readers.size() != 1) {
            *end = (node == leaf ? "the input" : "the output of " + node->name()) + " is read in " +
                   std::to_string(readers.size()) + " places";
            break;
        }
        Node *reader = readers[0].node;
        size_t changing = 0;
        for (const auto &edge : reader->next_edges()) {
            Node *child = edge.function.get();
            changing += child != nullptr && (child == leaf || consumers.count(child) > 0) ? 1 : 0;
        }
        if (changing != 1 || !accept(*reader, readers[0].argument)) {
            *end = reader->name() + " is not affine";
            break;
        }
        chain.push_back(reader);
        node = reader;
    }
    return chain;
}

} // namespace

std::vector<Node *> affine_chain(Node *root, Node *leaf, std::string *end) {
    return chain_while(root, leaf, end, is_affine);
}

std::vector<Node *> lone_chain(Node *root, Node *leaf) {
    std::string end;
    return chain_while(root, leaf, &end, [](const Node &, size_t argument) { return argument == 0; });
}

} // namespace bridge
