/*
 * affine.cpp - samples between a baseline b and an image x. As long as a program computes affine functions of its input,
 * z(b + a (x - b)) = z(b) + a (z(x) - z(b)): two evaluations of that part serve every sample.
 */
#include "packed.h"
#include "shortcut.h"

#include <algorithm>
#include <limits>
#include <unordered_set>

namespace bridge {
namespace {

/* Affine in all tensors together, or in whichever of them depend on the input. */
const std::unordered_set<std::string> &sums_and_moves() {
    static const std::unordered_set<std::string> names = {"add",
                                                          "sub",
                                                          "rsub",
                                                          "neg",
                                                          "cat",
                                                          "concat",
                                                          "concatenate",
                                                          "stack",
                                                          "hstack",
                                                          "vstack",
                                                          "view",
                                                          "reshape",
                                                          "_unsafe_view",
                                                          "view_as",
                                                          "reshape_as",
                                                          "permute",
                                                          "transpose",
                                                          "t",
                                                          "mT",
                                                          "numpy_T",
                                                          "movedim",
                                                          "moveaxis",
                                                          "swapaxes",
                                                          "swapdims",
                                                          "flatten",
                                                          "unflatten",
                                                          "unsqueeze",
                                                          "squeeze",
                                                          "contiguous",
                                                          "clone",
                                                          "detach",
                                                          "alias",
                                                          "expand",
                                                          "expand_as",
                                                          "slice",
                                                          "select",
                                                          "narrow",
                                                          "split",
                                                          "split_with_sizes",
                                                          "chunk",
                                                          "tensor_split",
                                                          "unbind",
                                                          "index",
                                                          "index_select",
                                                          "mean",
                                                          "sum",
                                                          "constant_pad_nd",
                                                          "pad",
                                                          "reflection_pad1d",
                                                          "reflection_pad2d",
                                                          "reflection_pad3d",
                                                          "replication_pad1d",
                                                          "replication_pad2d",
                                                          "replication_pad3d",
                                                          "avg_pool1d",
                                                          "avg_pool2d",
                                                          "avg_pool3d",
                                                          "adaptive_avg_pool1d",
                                                          "adaptive_avg_pool2d",
                                                          "adaptive_avg_pool3d",
                                                          "_adaptive_avg_pool2d",
                                                          "upsample_nearest1d",
                                                          "upsample_nearest2d",
                                                          "upsample_nearest3d",
                                                          "upsample_linear1d",
                                                          "upsample_bilinear2d",
                                                          "upsample_trilinear3d",
                                                          "upsample_bicubic2d",
                                                          "pixel_shuffle",
                                                          "pixel_unshuffle",
                                                          "channel_shuffle",
                                                          "dropout",
                                                          "feature_dropout",
                                                          "roll",
                                                          "flip",
                                                          "repeat",
                                                          "tile",
                                                          "diff",
                                                          "cumsum",
                                                          "unfold",
                                                          "im2col",
                                                          "zeros_like",
                                                          "ones_like",
                                                          "new_zeros",
                                                          "new_ones",
                                                          "to",
                                                          "_to_copy",
                                                          "type_as",
                                                          "float",
                                                          "double",
                                                          "lift_fresh"};
    return names;
}

/* Affine where exactly one of the tensors depends on the input. */
const std::unordered_set<std::string> &products() {
    static const std::unordered_set<std::string> names = {"mul",    "multiply", "matmul", "mm",        "bmm",
                                                          "einsum", "mv",       "dot",    "tensordot", "inner"};
    return names;
}

/* Affine in the first tensor alone. */
const std::unordered_set<std::string> &of_the_first() {
    static const std::unordered_set<std::string> names = {
        "conv1d",           "conv2d", "conv3d", "convolution", "_convolution", "conv_transpose1d", "conv_transpose2d",
        "conv_transpose3d", "linear", "div",    "divide",      "true_divide",  "batch_norm",       "masked_fill"};
    return names;
}

} // namespace

std::vector<size_t> dependent_arguments(const Program &p, const Node &node) {
    std::vector<size_t> found;
    for (size_t a = 0; a < node.arguments.size(); a++) {
        const Argument &argument = node.arguments[a];
        auto depends = [&](const Argument &one) {
            return one.kind == Argument::Kind::value && p.values[static_cast<size_t>(one.value)].dependent;
        };
        if (depends(argument) || std::any_of(argument.entries.begin(), argument.entries.end(), depends)) {
            found.push_back(a);
        }
    }
    return found;
}

bool is_affine(const Program &p, const Node &node) {
    if (node.opaque || node.autocast) {
        return false;
    }
    for (int v : node.makes) { /* what rounds to fewer digits, or to whole numbers, is no affine function */
        if (v >= 0 && !at::isFloatingType(p.values[static_cast<size_t>(v)].dtype)) {
            return false;
        }
        for (int read : node.reads) {
            const Value &from = p.values[static_cast<size_t>(read)],
                        &to = p.values[static_cast<size_t>(v < 0 ? read : v)];
            if (from.dependent && at::elementSize(to.dtype) < at::elementSize(from.dtype)) {
                return false;
            }
        }
    }
    const std::vector<size_t> dependent = dependent_arguments(p, node);
    if (sums_and_moves().count(node.name) != 0) {
        const bool moved_by_values = (node.name == "index" || node.name == "index_select") && dependent.back() > 0;
        return !moved_by_values;
    }
    if (products().count(node.name) != 0) {
        const bool once = std::count_if(node.reads.begin(), node.reads.end(),
                                        [&](int v) { return p.values[static_cast<size_t>(v)].dependent; }) == 1;
        return once && dependent.size() == 1;
    }
    if (of_the_first().count(node.name) != 0) {
        const bool rounds = node.name == "div" && node.arguments.size() > 2 && !node.fixed(2).isNone();
        return !rounds && dependent.size() == 1 && dependent[0] == 0;
    }
    return false;
}

std::vector<size_t> affine_positions(const Program &p) {
    std::vector<size_t> found;
    for (size_t i = 0; i < p.nodes.size(); i++) {
        if (p.nodes[i].needed && p.nodes[i].dependent) {
            if (!is_affine(p, p.nodes[i])) {
                break;
            }
            found.push_back(i + 1);
        }
    }
    return found;
}

at::Tensor as_places(const at::Tensor &value, bool features_last) {
    return (features_last ? value : value.movedim(1, -1)).flatten(0, -2);
}

met_kind Subject::kind() const {
    for (size_t i = 0; i < trial.batch.n; i++) {
        if (trial.samples[i].kind != MET_IDENTITY) {
            return trial.samples[i].kind;
        }
    }
    return MET_IDENTITY;
}

double Subject::cost(size_t from, size_t to) const {
    double sum = 0;
    for (size_t i = from; i < to && i < program.nodes.size(); i++) {
        sum += program.nodes[i].needed && program.nodes[i].dependent ? seconds[i] : 0;
    }
    return sum;
}

std::vector<Evaluated> Prefix::of(const at::Tensor &images, const std::vector<int> &wanted) const {
    const int64_t n = images.size(0);
    const auto step = static_cast<int64_t>(std::min<size_t>(most, 64));
    const bool gradient = at::GradMode::is_enabled();
    std::vector<Evaluated> parts;
    for (int64_t from = 0; from < n; from += step) {
        const int64_t end = std::min(n, from + step);
        Run run(program, model, {origins.begin() + from, origins.begin() + end});
        if (in_double) {
            run.in_double();
        }
        for (int v : wanted) {
            run.keep(v);
        }
        at::Tensor x = images.slice(0, from, end);
        if (!gradient) {
            run.expect_zeros();
        }
        x = in_double ? x.to(at::kDouble) : x;
        x = gradient ? x.detach().requires_grad_() : x;
        run.give(program.input, x);
        run.go(0, to);
        parts.push_back({from, x, {}});
        for (int v : wanted) {
            parts.back().values.push_back(run.value(v));
        }
    }
    return parts;
}

std::vector<at::Tensor> joined(const std::vector<Evaluated> &parts) {
    std::vector<at::Tensor> values;
    for (size_t i = 0; i < parts[0].values.size(); i++) {
        std::vector<at::Tensor> of_chunks;
        for (const Evaluated &part : parts) {
            of_chunks.push_back(part.values[i].detach());
        }
        values.push_back(of_chunks.size() == 1 ? of_chunks[0] : at::cat(of_chunks));
    }
    return values;
}

std::vector<at::Tensor> values_of(const Inputs &inputs, const at::Tensor &images, const std::vector<int> &wanted,
                                  size_t to, bool in_double) {
    at::NoGradGuard off;
    return joined(Prefix{inputs.program, inputs.model, inputs.origins, inputs.most, to, in_double}.of(images, wanted));
}

/* Convolutions over two axes are up to twice as fast where the channels of a pixel lie together: as the next one takes it. */
std::vector<at::Tensor> laid_out(const Inputs &inputs, std::vector<at::Tensor> values, size_t to) {
    const auto &nodes = inputs.program.nodes;
    const auto next = std::find_if(nodes.begin() + static_cast<std::ptrdiff_t>(to), nodes.end(), [](const Node &node) {
        return node.dependent && node.needed && (node.name == "conv2d" || node.name == "conv_transpose2d");
    });
    const bool together = next != nodes.end() && !(next->packed && next->packed->by_planes());
    for (at::Tensor &value : values) {
        if (together && inputs.channels_last && value.dim() == 4) {
            value = value.contiguous(at::MemoryFormat::ChannelsLast);
        }
    }
    return values;
}

double bytes_of(const Value &value) {
    double bytes = static_cast<double>(at::elementSize(value.dtype));
    for (int64_t size : value.shape) {
        bytes *= static_cast<double>(size);
    }
    return bytes;
}

double bytes_live(const Program &p, size_t position) {
    double bytes = 0;
    for (int v : p.live(position)) {
        bytes += bytes_of(p.values[static_cast<size_t>(v)]);
    }
    return bytes;
}

std::vector<at::Tensor> narrowed(const Program &p, std::vector<at::Tensor> values, const std::vector<int> &of) {
    for (size_t i = 0; i < values.size(); i++) {
        values[i] = values[i].to(p.values[static_cast<size_t>(of[i])].dtype);
    }
    return values;
}

size_t affine_stop(const Subject &subject, const std::function<double(size_t)> &before) {
    const Program &p = subject.program;
    const double passes = subject.trial.gradient ? PASSES : 1, plain = passes * subject.cost(0, p.nodes.size());
    double best = plain;
    size_t found = 0;
    std::string end = "nothing";
    for (size_t i = 0; i < p.nodes.size(); i++) {
        const Node &node = p.nodes[i];
        if (!node.needed || !node.dependent) {
            continue;
        }
        if (!is_affine(p, node)) {
            end = node.full_name();
            break;
        }
        double bytes = 0;
        bool by_sample = true;
        for (int v : p.live(i + 1)) {
            by_sample = by_sample && p.values[static_cast<size_t>(v)].by_sample;
            bytes += bytes_of(p.values[static_cast<size_t>(v)]);
        }
        const double cost = before(i + 1) + passes * subject.cost(i + 1, p.nodes.size()) + SECONDS_A_BYTE * bytes;
        if (by_sample && (cost < best || subject.trial.always) && p.can_cut(i + 1)) {
            best = cost;
            found = i + 1;
        }
    }
    if (found == 0 || (best > 0.97 * plain && !subject.trial.always)) {
        throw Declined(MET_DECLINE_STRUCTURE,
                       found == 0 ? "no part of the model that is worth it is affine in the input: " + end + " is not"
                                  : "the part of the model that is affine in the input is too small a part of it");
    }
    return found;
}

namespace {

/* In double torch copies the window of each place where windows overlap; more bytes than this are too many. */
const double WINDOWS_BYTES = 64 << 20;

/* The bytes of those copies for one image. */
double windows_bytes(const Program &p, const Node &node) {
    const at::Tensor weight = node.constant(1);
    double bytes = sizeof(double) * static_cast<double>(weight.numel()) / static_cast<double>(weight.size(0));
    const std::vector<int64_t> &shape = p.values[static_cast<size_t>(node.makes[0])].shape;
    for (size_t a = 2; a < shape.size(); a++) {
        bytes *= static_cast<double>(shape[a]);
    }
    return bytes;
}

} // namespace

bool is_narrow(const Inputs &inputs) {
    return inputs.images.scalar_type() == at::kFloat && inputs.model.device.is_cpu();
}

/* Torch has no fast convolutions in double, and is slowest over windows that overlap. */
double seconds_in_double(const Subject &subject, size_t to) {
    double once = 0;
    for (size_t i = 0; i < to; i++) {
        const Node &node = subject.program.nodes[i];
        const bool convolution = node.name.rfind("conv", 0) == 0 && node.is_constant(1);
        const bool window = convolution && c10::multiply_integers(node.constant(1).sizes().slice(2)) > 1;
        const bool patches = window && node.name == "conv2d" && node.arguments.size() > 3 &&
                             node.integers(3, 2) == node.constant(1).sizes().slice(2).vec();
        if (window && !patches && node.needed && windows_bytes(subject.program, node) > WINDOWS_BYTES) {
            return std::numeric_limits<double>::infinity();
        }
        once += node.needed ? subject.seconds[i] * (patches ? 2 : window ? 7 : 2) : 0;
    }
    return is_narrow(subject) ? once : std::numeric_limits<double>::infinity();
}

bool is_cheap_in_double(const Subject &subject, size_t to, double evaluations) {
    const double behind = subject.cost(to, subject.program.nodes.size()) * (subject.trial.gradient ? PASSES : 1);
    return evaluations * seconds_in_double(subject, to) <= 0.05 * behind * static_cast<double>(subject.trial.count);
}

namespace {

/* A graph up to the cut is kept from the first pass to the last where the values at the cut take less. */
const double GRAPH_BYTES = 64 << 20;

} // namespace

Ends ends_at(const Subject &subject, size_t cut, Features *features) {
    const std::vector<int> live = subject.program.live(cut);
    /* The two evaluations enter every sample, so what they round stays: they are made in double where that is cheap. */
    const bool in_double = cut > 0 && is_cheap_in_double(subject, cut, 2);
    features->back_in_double = cut > 0 && is_cheap_in_double(subject, cut, 6);
    const double kept = bytes_live(subject.program, cut) * static_cast<double>(subject.images.size(0));
    std::vector<Evaluated> &graph = features->graph;
    if (subject.trial.gradient && in_double == features->back_in_double && kept <= GRAPH_BYTES) {
        at::AutoGradMode on(true);
        graph = Prefix{subject.program, subject.model, subject.origins, subject.most, cut, in_double}.of(subject.images,
                                                                                                         live);
    }
    at::NoGradGuard off;
    std::vector<at::Tensor> image =
        graph.empty() ? values_of(subject, subject.images, live, cut, in_double) : joined(graph);
    image = laid_out(subject, image, cut);
    Ends ends;
    ends.baseline = laid_out(subject, values_of(subject, subject.baselines, live, cut, in_double), cut);
    for (size_t i = 0; i < live.size(); i++) {
        const at::ScalarType dtype = subject.program.values[static_cast<size_t>(live[i])].dtype;
        ends.way.push_back((image[i] - ends.baseline[i]).to(dtype));
        image[i].reset();
        ends.baseline[i] = ends.baseline[i].to(dtype);
    }
    return ends;
}

namespace {

class Between : public Features {
  public:
    Between(const Subject &subject, size_t cut);
    std::string name() const override { return stop > 0 ? "affine prefix" : "replay"; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    std::vector<at::Tensor> baseline_, way_; /* (images, ...), of each live value */
};

Between::Between(const Subject &subject, size_t cut) {
    stop = cut;
    if (subject.only_planned) {
        return;
    }
    planned = SECONDS_A_BYTE * bytes_live(subject.program, stop);
    Ends ends = ends_at(subject, stop, this);
    baseline_ = std::move(ends.baseline);
    way_ = std::move(ends.way);
}

std::vector<at::Tensor> Between::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const size_t n = rows.size();
    std::vector<at::Tensor> features;
    std::vector<double> alphas(n);
    for (size_t i = 0; i < n; i++) {
        alphas[i] = point_of(s[i]);
    }
    const bool one_run = rows.front() == rows.back();
    for (size_t v = 0; v < way_.size(); v++) {
        if (n == 1) {
            features.push_back(at::add(baseline_[v].slice(0, rows[0], rows[0] + 1),
                                       way_[v].slice(0, rows[0], rows[0] + 1), alphas[0]));
            continue;
        }
        std::vector<int64_t> shape(static_cast<size_t>(way_[v].dim()), 1);
        shape[0] = static_cast<int64_t>(n);
        at::Tensor alpha = at::tensor(alphas, at::kDouble).to(way_[v].options()).reshape(shape);
        if (one_run) {
            features.push_back(at::addcmul(baseline_[v].slice(0, rows[0], rows[0] + 1),
                                           way_[v].slice(0, rows[0], rows[0] + 1), alpha));
        } else {
            at::Tensor index = at::tensor(rows, at::kLong).to(way_[v].device());
            features.push_back(at::addcmul(baseline_[v].index_select(0, index), way_[v].index_select(0, index), alpha));
        }
    }
    return features;
}

} // namespace

std::unique_ptr<Features> between_points(const Subject &subject) {
    for (const auto &further : {along_pixels, along_line}) {
        if (std::unique_ptr<Features> found = further(subject)) {
            return found;
        }
    }
    return std::make_unique<Between>(subject, affine_stop(subject, [](size_t) { return 0.0; }));
}

std::unique_ptr<Features> whole_points(const Subject &subject) {
    return std::make_unique<Between>(subject, 0);
}

} // namespace bridge
