/* stretch.cpp - see stretch.h. */
#include "stretch.h"

#include "region/rules.h"

#include <algorithm>
#include <set>

namespace bridge {
namespace {

using Sizes = std::vector<int64_t>;

std::optional<Pieces> pieces_of(const Node &node) {
    using namespace region;
    Pieces pieces;
    if (node.name == "relu") {
        pieces.count = 2;
        pieces.slope = {0, 1};
        return pieces;
    }
    if (node.name == "leaky_relu" && are_fixed(node, {"negative_slope"})) {
        const c10::IValue slope = fixed_of(node, "negative_slope");
        const double below = slope.isScalar() ? slope.toScalar().toDouble() : -1;
        pieces.count = 2;
        pieces.slope = {below, 1};
        return below >= 0 ? std::optional<Pieces>(pieces) : std::nullopt;
    }
    if (node.name == "relu6" || (node.name == "hardtanh" && are_fixed(node, {"min_val", "max_val"}))) {
        const c10::IValue low = fixed_of(node, "min_val"), high = fixed_of(node, "max_val");
        const bool given = node.name == "hardtanh" && low.isScalar() && high.isScalar();
        pieces.count = 3;
        pieces.ends = {given ? low.toScalar().toDouble() : 0, given ? high.toScalar().toDouble() : 6};
        pieces.from_end = {false, true};
        pieces.slope = {0, 1, 0};
        pieces.offset = {pieces.ends[0], 0, pieces.ends[1]};
        return (given || node.name == "relu6") && pieces.ends[0] < pieces.ends[1] ? std::optional<Pieces>(pieces)
                                                                                  : std::nullopt;
    }
    return std::nullopt;
}

/* The last `n` of sizes, as three. */
std::array<int64_t, 3> three(const Sizes &sizes, size_t n, int64_t otherwise) {
    std::array<int64_t, 3> found;
    found.fill(otherwise);
    std::copy(sizes.end() - static_cast<std::ptrdiff_t>(n), sizes.end(), found.end() - static_cast<std::ptrdiff_t>(n));
    return found;
}

bool set_pool(const Node &node, const Sizes &in, const Sizes &out, Windows3 *w) {
    using namespace region;
    static const std::set<std::string> names = {"max_pool1d", "max_pool2d", "max_pool3d"};
    const size_t n = in.size() - 2;
    if (names.count(node.name) == 0 || n < 1 || n > 3 || out.size() != in.size() ||
        !are_fixed(node, {"kernel_size", "stride", "padding", "dilation"})) {
        return false;
    }
    const PoolForm form = pool_form(node, n);
    w->in = three(in, n, 1);
    w->out = three(out, n, 1);
    w->kernel = three(form.kernel, n, 1);
    w->stride = three(form.stride, n, 1);
    w->padding = three(form.padding, n, 0);
    w->dilation = three(form.dilation, n, 1);
    return w->taps() <= 256;
}

/* The convolution or linear layer that a stretch ends with. */
bool set_convolution(const Node &node, const Sizes &in, const Sizes &out, Stretch *s) {
    if (node.name == "linear") {
        const at::Tensor weight = node.is_value(0) ? node.constant(1) : at::Tensor();
        if (!weight.defined() || weight.dim() != 2 || in.size() < 2) {
            return false;
        }
        s->channels_are_last = true;
        s->form.weight = weight.detach();
        s->bias = node.constant(2);
        s->conv.in[2] = s->conv.out[2] = c10::multiply_integers(in) / in.back();
        return true;
    }
    const std::optional<ConvolutionForm> form = node.is_value(0) ? convolution_form(node) : std::nullopt;
    const size_t n = in.size() - 2;
    if (!form || form->transposed || !form->symmetric || n < 1 || n > 3 || out.size() != in.size() ||
        form->weight.dim() != static_cast<int64_t>(in.size())) {
        return false;
    }
    s->form = *form;
    s->bias = form->bias;
    s->form.bias = at::Tensor();
    s->conv.in = three(in, n, 1);
    s->conv.out = three(out, n, 1);
    s->conv.kernel = three(form->weight.sizes().vec(), n, 1);
    s->conv.stride = three(form->stride, n, 1);
    s->conv.padding = three(form->padding, n, 0);
    s->conv.dilation = three(form->dilation, n, 1);
    return true;
}

/* Whether a node takes and gives one value each, one row for each sample, and gradients go through it. */
bool is_step(const Program &p, const Node &node) {
    const bool one = node.needed && node.dependent && !node.opaque && !node.autocast && node.writes.empty() &&
                     node.reads.size() == 1 && node.makes.size() == 1 && node.makes[0] >= 0 && node.is_value(0);
    if (!one || !node.mode.get_grad_mode()) {
        return false;
    }
    const Value &x = p.values[static_cast<size_t>(node.reads[0])], &y = p.values[static_cast<size_t>(node.makes[0])];
    return x.by_sample && y.by_sample && !x.overwritten && !y.overwritten && x.dtype == y.dtype && x.shape.size() >= 2;
}

/* The stretch behind a cut at `from`, where what is live is affine in the input; nothing: there is none. */
std::optional<Stretch> stretch_from(const Program &p, size_t from) {
    const std::vector<int> live = p.live(from);
    if (live.size() != 1 || !p.can_cut(from)) {
        return std::nullopt;
    }
    Stretch s;
    s.from = from;
    s.before = s.cells = live[0];
    bool pooled = false, bent = false;
    for (size_t i = from; i < p.nodes.size(); i++) {
        const Node &node = p.nodes[i];
        if (!node.needed || !node.dependent) {
            continue;
        }
        if (!is_step(p, node) || node.reads[0] != s.cells) {
            return std::nullopt;
        }
        const Sizes &in = p.values[static_cast<size_t>(s.cells)].shape;
        const Sizes &out = p.values[static_cast<size_t>(node.makes[0])].shape;
        const std::optional<Pieces> pieces = pieces_of(node);
        if ((pooled || bent) && set_convolution(node, in, out, &s)) {
            s.convolution = i;
            s.stop = i + 1;
            s.result = node.makes[0];
            break;
        }
        if (pieces && !bent) {
            s.pieces = *pieces;
            bent = true;
        } else if (!pooled && set_pool(node, in, out, &s.pool)) {
            pooled = true;
        } else if (!region::identity(p, node)) {
            return std::nullopt;
        }
        if (p.values[static_cast<size_t>(s.cells)].last_read > static_cast<int>(i)) { /* something else reads it, too */
            return std::nullopt;
        }
        s.cells = node.makes[0];
    }
    if (s.stop == 0 || !p.can_cut(s.stop) || (pooled && s.channels_are_last)) {
        return std::nullopt;
    }
    if (!pooled) {
        s.pool.in = s.pool.out = s.conv.in;
    }
    for (int v : p.live(s.stop)) {
        s.reads_cells = s.reads_cells || v == s.cells;
        if (v != s.cells && v != s.result) {
            return std::nullopt;
        }
    }
    return s;
}

} // namespace

std::optional<Stretch> stretch_of(const Subject &subject) {
    const Program &p = subject.program;
    const at::ScalarType dtype = subject.images.scalar_type();
    std::optional<Stretch> found;
    if (!subject.trial.gradient || !subject.model.device.is_cpu() || (dtype != at::kFloat && dtype != at::kDouble)) {
        return found;
    }
    for (size_t position : affine_positions(p)) {
        found = found ? found : stretch_from(p, position);
    }
    const bool taken = found && p.values[static_cast<size_t>(found->before)].dtype == dtype &&
                       (subject.only_planned || differences_keep_digits(subject.images, subject.baselines));
    return taken ? found : std::nullopt;
}

std::vector<Line> lines_of(const Subject &subject, const Stretch &stretch, Features *features, Sizes *shape) {
    const Ends ends = ends_at(subject, stretch.from, features);
    const at::NoGradGuard off;
    if (!is_finite(ends.baseline[0]) || !is_finite(ends.way[0])) {
        throw Declined(MET_DECLINE_STRUCTURE, "a value of the part that is affine in the input is not finite");
    }
    *shape = ends.baseline[0].sizes().vec();
    std::vector<Line> lines;
    for (int64_t row = 0; row < shape->at(0); row++) {
        lines.push_back({stretch.as_places(ends.baseline[0].slice(0, row, row + 1)).contiguous(),
                         stretch.as_places(ends.way[0].slice(0, row, row + 1)).contiguous(),
                         {}});
    }
    return lines;
}

} // namespace bridge
