/*
 * bands.cpp - samples in which some bands take the baseline's values. A convolution or a matrix over all bands is linear in
 * each of them: z = z(x) + A (b - x) over the bands that are replaced, or z(b) - A (b - x) over those that are kept,
 * whichever are fewer.
 */
#include "band_layout.h"
#include "packed.h"
#include "shortcut.h"

#include <algorithm>
#include <optional>

namespace bridge {

/*
 * A difference of two values keeps few digits of it where the values are very much larger than the rest (-9999 for no
 * data, say): whether none of them is.
 */
bool differences_keep_digits(const at::Tensor &images, const at::Tensor &baselines) {
    const double limit = images.scalar_type() == at::kDouble ? 1e5 : 256;
    at::Tensor image = images.flatten(), baseline = baselines.flatten();
    const int64_t step = std::max<int64_t>(image.numel() / 4096, 1) | 1; /* odd: not the same band every time */
    at::Tensor some = (baseline.slice(0, 0, baseline.numel(), step) - image.slice(0, 0, image.numel(), step)).abs();
    some = some.masked_select(some > 0);
    double largest = 0;
    for (const at::Tensor &all : {image, baseline}) {
        const auto [low, high] = at::aminmax(all);
        largest = std::max({largest, -low.item<double>(), high.item<double>()});
    }
    return some.numel() == 0 || largest <= limit * some.median().item<double>();
}

std::vector<uint8_t> replaced_bands(const met_sample &s, int axis, int64_t bands) {
    std::vector<uint8_t> flags;
    if (s.kind == MET_BANDS) {
        flags.assign(s.replaced, s.replaced + bands);
    } else if (s.kind == MET_BOX) {
        flags.assign(static_cast<size_t>(bands), 0);
        std::fill(flags.begin() + static_cast<std::ptrdiff_t>(s.box.start[axis]),
                  flags.begin() + static_cast<std::ptrdiff_t>(s.box.stop[axis]), 1);
    }
    return flags;
}

at::Tensor without(const met_sample &s, int axis, const at::Tensor &image, const at::Tensor &baseline, int along) {
    const int64_t bands = image.size(along);
    const std::vector<uint8_t> replaced = replaced_bands(s, axis, bands);
    if (replaced.empty()) {
        return image.clone();
    }
    std::vector<int64_t> shape(static_cast<size_t>(image.dim()), 1);
    shape[static_cast<size_t>(along)] = bands;
    at::Tensor flags = at::tensor(at::ArrayRef<uint8_t>(replaced), at::kByte).to(image.device(), at::kBool);
    return at::where(flags.view(shape), baseline, image);
}

namespace {

/* Bands are taken in multiples of these: every new number costs oneDNN a convolution to prepare and to keep. */
const int64_t ROUND = 16, ROUND_OF_FEW = 8;
/* So small a part of the bands is taken and laid out anew for each sample; else the image is, once. */
const double FEW = 0.2;

/* A node that sums over all bands: its weights have an axis for them. */
struct Sum {
    size_t node;
    int input, output;          /* values */
    int axis;                   /* of the bands in the input */
    bool matrix;                /* linear: else a convolution */
    at::Tensor weight;          /* bands along axis 1 */
    at::Tensor change;          /* (images, ...): input of the baselines less that of the images */
    at::Tensor image, baseline; /* outputs, (images, ...); those of baselines where a sample has asked for them */
    bool exact = false;         /* gradients are wanted, and many terms are added up */
    std::optional<ConvolutionForm> form; /* of a convolution, without its bias */
};

/* Bands whose change is added to a sum: some of those that are taken, which lie together where that is possible. */
struct TakenBands {
    int64_t count = 0;       /* that are taken: [first, first + count), */
    int64_t first = -1;      /* ... or with -1 those of `index`, of which only the first ones count */
    at::Tensor index, scale; /* scale: (count,) what the weights of each are multiplied by, 0 where it does not count */
};

class Bands : public Features {
  public:
    explicit Bands(const Subject &subject);
    std::string name() const override { return "affine prefix, by bands"; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    void find(const Subject &subject);
    at::Tensor sum_of(Sum &sum, const met_sample &s, int64_t row);
    TakenBands bands_to_take(const std::vector<int64_t> &bands, double scale) const;
    at::Tensor taken(const Sum &sum, int64_t row, const TakenBands &bands);
    void evaluate_baselines();
    /* Whether what all samples share is added up by groups of bands. */
    bool is_grouped(const Sum &sum) const { return sum.exact && !wide_; }
    at::Tensor by_groups(const Sum &sum, const at::Tensor &x) const;

    const Inputs inputs_;
    const Program &p_;
    const int axis_; /* of the bands in an image */
    int64_t bands_;
    std::vector<Sum> sums_;
    struct Apart { /* a live value that has the bands apart */
        int value, axis;
        at::Tensor image, baseline;
    };
    std::vector<Apart> apart_;
    std::vector<int> live_;
    bool few_ = false;  /* bands are replaced in a sample, or kept */
    bool wide_ = false; /* what all samples share is evaluated in double */
    at::Tensor room_;   /* for bands that are taken */
};

bool is_convolution(const Node &node) {
    if (node.name == "convolution" || node.name == "_convolution") { /* in TorchScript, say */
        return !node.fixed(6).toBool(); /* transposed: bands lie along another axis of the weights */
    }
    return node.name == "conv1d" || node.name == "conv2d" || node.name == "conv3d";
}

/* Whether a node sums over the bands, which lie along `axis` of its input, with constant weights. */
bool sums_over(const Program &p, const Node &node, int axis, Sum *sum) {
    const std::vector<size_t> dependent = dependent_arguments(p, node);
    if (dependent.size() != 1 || dependent[0] != 0 || node.opaque || node.autocast || node.makes.size() != 1 ||
        !p.values[static_cast<size_t>(node.makes[0])].by_sample) {
        return false;
    }
    const Value &input = p.values[static_cast<size_t>(node.reads[0])];
    const bool matrix = node.name == "linear" && axis == static_cast<int>(input.shape.size()) - 1;
    const bool convolution = is_convolution(node) && axis == 1 && node.constant(1).defined() &&
                             input.shape.size() == static_cast<size_t>(node.constant(1).dim());
    if ((!matrix && !convolution) || !node.constant(1).defined() ||
        node.constant(1).size(1) != input.shape[static_cast<size_t>(axis)]) {
        return false; /* groups have fewer */
    }
    *sum = {0, node.reads[0], node.makes[0], axis, matrix, node.constant(1), {}, {}, {}, false, {}};
    sum->form = convolution ? convolution_form(node) : std::nullopt;
    if (sum->form) {
        sum->form->bias = at::Tensor();
    }
    return true;
}

void Bands::find(const Subject &subject) {
    const Program &p = subject.program;
    BandLayout layout(p, p.input, subject.bands + 1);
    int64_t replaced = 0;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const std::vector<uint8_t> flags = replaced_bands(subject.trial.samples[i], axis_, bands_);
        const int64_t count = std::count(flags.begin(), flags.end(), 1);
        replaced = std::max(replaced, std::min(count, bands_ - count));
    }
    const double fraction = static_cast<double>(replaced) / static_cast<double>(bands_);
    const double passes = subject.trial.gradient ? PASSES : 1, plain = passes * subject.cost(0, p.nodes.size());
    double best = plain, done = 0;
    std::vector<Sum> found;
    std::string end = "its end";
    for (size_t i = 0; i < p.nodes.size(); i++) {
        const Node &node = p.nodes[i];
        if (!node.needed || !node.dependent) {
            continue;
        }
        Sum sum;
        if (node.reads.size() == 1 && layout.axis(node.reads[0]) >= 0 &&
            sums_over(p, node, layout.axis(node.reads[0]), &sum)) {
            sum.node = i;
            sum.exact = subject.trial.gradient && is_narrow(subject) && is_long_sum(sum.weight);
            sum.weight = sum.exact ? sum.weight.contiguous() : sum.weight;
            found.push_back(sum);
            done += fraction * subject.seconds[i] +
                    SECONDS_A_BYTE * (fraction * bytes_of(p.values[static_cast<size_t>(sum.input)]) +
                                      bytes_of(p.values[static_cast<size_t>(sum.output)]));
        } else if (!layout.follow(node) || (subject.trial.gradient && !is_affine(p, node))) {
            end = node.full_name();
            break;
        }
        double copied = 0;
        bool whole = !found.empty() && p.can_cut(i + 1);
        for (int v : p.live(i + 1)) {
            copied += layout.axis(v) >= 0 ? 2 * SECONDS_A_BYTE * bytes_of(p.values[static_cast<size_t>(v)]) : 0;
            whole = whole && p.values[static_cast<size_t>(v)].by_sample;
        }
        const double cost = done + copied + passes * subject.cost(i + 1, p.nodes.size());
        if (whole && (cost < best || subject.trial.always)) {
            best = cost;
            stop = i + 1;
            sums_ = found;
            planned = done + copied;
        }
    }
    few_ = fraction <= FEW;
    if (stop == 0 || (best > 0.97 * plain && !subject.trial.always)) {
        throw Declined(MET_DECLINE_STRUCTURE, found.empty()
                                                  ? "the model does not begin with sums over the bands: " + end
                                                  : "the sums over the bands are too small a part of the model");
    }
    live_ = p.live(stop);
    for (int v : live_) {
        if (layout.axis(v) >= 0) {
            apart_.push_back({v, layout.axis(v), {}, {}});
        }
    }
}

Bands::Bands(const Subject &subject)
    : inputs_(subject), p_(subject.program), axis_(subject.bands), bands_(subject.images.size(subject.bands + 1)) {
    find(subject);
    if (subject.only_planned) {
        return;
    }
    back_in_double = subject.trial.gradient && is_cheap_in_double(subject, stop, 6);
    at::NoGradGuard off;
    /* What is rounded here is the same in every sample, where plain samples round each in its way. */
    wide_ = is_cheap_in_double(subject, stop, 1);
    std::vector<int> inputs, outputs;
    bool grouped = apart_.empty(); /* all: then the last of them is not run */
    for (const Sum &sum : sums_) {
        grouped = grouped && is_grouped(sum);
        inputs.push_back(sum.input);
        outputs.push_back(is_grouped(sum) ? sum.input : sum.output);
    }
    for (const Apart &one : apart_) {
        inputs.push_back(one.value);
    }
    std::vector<int> wanted = inputs;
    wanted.insert(wanted.end(), outputs.begin(), outputs.end());
    const size_t end = apart_.empty() ? sums_.back().node : stop;
    const std::vector<at::Tensor> image =
        narrowed(p_, values_of(subject, subject.images, wanted, grouped ? end : stop, wide_), wanted);
    const std::vector<at::Tensor> baseline =
        narrowed(p_, values_of(subject, subject.baselines, inputs, end, wide_), inputs);
    for (size_t i = 0; i < sums_.size(); i++) {
        Sum &sum = sums_[i];
        sum.change = baseline[i] - image[i];
        if (sum.matrix) {
            sum.change = sum.change.contiguous();
        } else if (sum.change.dim() == 4 && !few_ && !sum.exact) { /* many bands that lie together are taken faster */
            sum.change = sum.change.contiguous(at::MemoryFormat::ChannelsLast);
        }
        const at::Tensor &whole = image[inputs.size() + i];
        sum.image = laid_out(subject, {is_grouped(sum) ? by_groups(sum, whole) : whole}, stop)[0];
    }
    for (size_t i = 0; i < apart_.size(); i++) {
        apart_[i].image = image[sums_.size() + i];
        apart_[i].baseline = baseline[sums_.size() + i];
    }
}

/* The first result of a node for another first argument, weight and no bias. */
at::Tensor linear_part(const Node &node, bool matrix, const at::Tensor &x, const at::Tensor &weight) {
    if (matrix) {
        return at::linear(x, weight);
    }
    torch::jit::Stack stack;
    for (size_t a = 0; a < node.arguments.size(); a++) {
        stack.push_back(a == 0   ? c10::IValue(x)
                        : a == 1 ? c10::IValue(weight)
                        : a == 2 ? c10::IValue()
                                 : node.fixed(a));
    }
    node.op.callBoxed(stack);
    return stack[0].toTensor();
}

/*
 * What a sum makes of x (images, ...), by a few bands at a time that are added in double: what all samples share may round
 * less than each of them would, not more.
 */
at::Tensor Bands::by_groups(const Sum &sum, const at::Tensor &x) const {
    const int64_t places = sum.weight.size(2) * sum.weight.size(3);
    const int64_t bands = std::clamp<int64_t>(200 / places, 1, 8); /* up to half a block of oneDNN's */
    const Node &node = p_.nodes[sum.node];
    const at::Tensor bias = node.constant(2);
    std::vector<at::Tensor> results;
    for (int64_t image = 0; image < x.size(0); image++) {
        at::Tensor y;
        for (int64_t from = 0; from < bands_; from += bands) {
            const int64_t to = std::min(from + bands, bands_);
            const at::Tensor few = x.slice(0, image, image + 1).slice(1, from, to);
            const at::Tensor part = linear_part(node, sum.matrix, few, sum.weight.slice(1, from, to));
            y = y.defined() ? y.add_(part) : part.to(at::kDouble);
        }
        results.push_back((bias.defined() ? y.add_(bias.view({-1, 1, 1})) : y).to(x.scalar_type()));
    }
    return at::cat(results);
}

/* What the baselines give: only samples that keep less than half of the bands are made from it. */
void Bands::evaluate_baselines() {
    std::vector<int> wanted;
    for (const Sum &sum : sums_) {
        wanted.push_back(sum.output);
        wanted.push_back(sum.input);
    }
    const std::vector<at::Tensor> values = values_of(inputs_, inputs_.baselines, wanted, stop);
    for (size_t i = 0; i < sums_.size(); i++) {
        const at::Tensor &whole = values[2 * i], &x = values[2 * i + 1];
        const bool again = is_grouped(sums_[i]) && !is_zero(x); /* of zeros there is the bias alone */
        sums_[i].baseline = laid_out(inputs_, {again ? by_groups(sums_[i], x) : whole}, stop)[0];
    }
}

/* Those `bands`, in order, and more up to a round number. */
TakenBands Bands::bands_to_take(const std::vector<int64_t> &bands, double scale) const {
    TakenBands taken;
    const int64_t n = static_cast<int64_t>(bands.size()), round = few_ ? ROUND_OF_FEW : ROUND;
    taken.count = (n + round - 1) / round * round;
    std::vector<double> scales(static_cast<size_t>(taken.count), 0);
    const bool together = taken.count <= bands_ && bands.back() - bands.front() < taken.count;
    taken.first = together ? std::min(bands.front(), bands_ - taken.count) : -1;
    for (size_t i = 0; i < bands.size(); i++) {
        scales[together ? static_cast<size_t>(bands[i] - taken.first) : i] = scale;
    }
    if (!together) {
        std::vector<int64_t> index = bands;
        index.resize(static_cast<size_t>(taken.count), 0);
        taken.index = at::tensor(index, at::kLong);
    }
    taken.scale = at::tensor(scales, at::kDouble);
    return taken;
}

/* Some of the values along an axis. */
at::Tensor chosen(const at::Tensor &values, int axis, const TakenBands &bands) {
    return bands.first >= 0 ? values.slice(axis, bands.first, bands.first + bands.count)
                            : values.index_select(axis, bands.index.to(values.device()));
}

/* The change of some bands of one image, (1, ...); pieces of another size each time would break the heap up. */
at::Tensor Bands::taken(const Sum &sum, int64_t row, const TakenBands &bands) {
    const at::Tensor change = sum.change.slice(0, row, row + 1);
    const int axis = sum.axis;
    const bool last = axis == change.dim() - 1 && change.is_contiguous();
    const bool channels_last = axis == 1 && change.dim() == 4 && change.is_contiguous(at::MemoryFormat::ChannelsLast);
    if (!last && !channels_last) {
        const at::Tensor part = chosen(change, axis, bands);
        return sum.exact ? part : laid_out(inputs_, {part}, stop)[0];
    }
    at::Tensor pixels = (last ? change : change.permute({0, 2, 3, 1})).reshape({-1, bands_});
    const int64_t count = bands.count;
    if (!room_.defined() || room_.numel() < pixels.size(0) * count) {
        room_ = at::empty({pixels.size(0) * (bands_ / 2 + ROUND)}, change.options());
    }
    at::Tensor out = room_.slice(0, 0, pixels.size(0) * count).view({-1, count});
    if (bands.first >= 0) {
        out.copy_(chosen(pixels, 1, bands));
    } else {
        at::index_select_out(out, pixels, 1, bands.index.to(pixels.device()));
    }
    std::vector<int64_t> shape = change.sizes().vec();
    if (last) {
        shape.back() = count;
        return out.view(shape);
    }
    return out.view({1, shape[2], shape[3], count}).permute({0, 3, 1, 2});
}

at::Tensor Bands::sum_of(Sum &sum, const met_sample &s, int64_t row) {
    const std::vector<uint8_t> replaced = replaced_bands(s, axis_, bands_);
    const bool most = 2 * std::count(replaced.begin(), replaced.end(), 1) > bands_;
    if (most && !sum.baseline.defined()) {
        evaluate_baselines();
    }
    at::Tensor whole = (most ? sum.baseline : sum.image).slice(0, row, row + 1);
    std::vector<int64_t> bands;
    for (size_t b = 0; b < replaced.size(); b++) {
        if ((replaced[b] != 0) != most) {
            bands.push_back(static_cast<int64_t>(b));
        }
    }
    if (bands.empty()) {
        return whole.clone();
    }
    const TakenBands to_take = bands_to_take(bands, most ? -1 : 1);
    const at::Tensor part = taken(sum, row, to_take);
    std::vector<int64_t> along(static_cast<size_t>(sum.weight.dim()), 1);
    along[1] = to_take.count;
    const at::Tensor weight = chosen(sum.weight, 1, to_take) * to_take.scale.to(sum.weight.options()).view(along);
    if (sum.form && !sum.exact) {
        ConvolutionForm form = *sum.form;
        form.weight = weight.contiguous();
        const at::Tensor y = added_convolution(form, part, whole);
        if (y.defined()) {
            return y;
        }
    }
    return at::add(whole, linear_part(p_.nodes[sum.node], sum.matrix, part, weight));
}

std::vector<at::Tensor> Bands::of(const met_sample *s, const std::vector<int64_t> &rows) {
    at::NoGradGuard off;
    std::vector<at::Tensor> features;
    for (int v : live_) {
        std::vector<at::Tensor> samples;
        for (size_t i = 0; i < rows.size(); i++) {
            const auto sum = std::find_if(sums_.begin(), sums_.end(), [&](const Sum &one) { return one.output == v; });
            if (sum != sums_.end()) {
                samples.push_back(sum_of(*sum, s[i], rows[i]));
                continue;
            }
            const auto apart =
                std::find_if(apart_.begin(), apart_.end(), [&](const Apart &one) { return one.value == v; });
            at::Tensor image = apart->image.slice(0, rows[i], rows[i] + 1);
            samples.push_back(without(s[i], axis_, image, apart->baseline.slice(0, rows[i], rows[i] + 1), apart->axis));
        }
        features.push_back(samples.size() == 1 ? samples[0] : at::cat(samples));
    }
    return features;
}

/*
 * Where gradients are summed: the affine part is run forward for each sample, and backward once for all of them.
 */
class Forward : public Features {
  public:
    explicit Forward(const Subject &subject) : inputs_(subject), model_(subject.model), program_(subject.program) {
        stop = affine_stop(subject, [&](size_t position) { return subject.cost(0, position); });
        live_ = program_.live(stop);
        planned = subject.cost(0, stop);
    }
    std::string name() const override { return "affine prefix, backward once"; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override {
        at::NoGradGuard off;
        std::vector<at::Tensor> samples;
        std::vector<int64_t> origins;
        for (size_t i = 0; i < rows.size(); i++) {
            at::Tensor image = inputs_.images.slice(0, rows[i], rows[i] + 1);
            samples.push_back(rendered(s[i], inputs_.bands, image, inputs_.baselines.slice(0, rows[i], rows[i] + 1)));
            origins.push_back(inputs_.origins[static_cast<size_t>(rows[i])]);
        }
        Run run(program_, model_, origins);
        run.give(program_.input, samples.size() == 1 ? samples[0] : at::cat(samples));
        run.go(0, stop);
        std::vector<at::Tensor> features;
        for (int v : live_) {
            features.push_back(laid_out(inputs_, {run.value(v)}, stop)[0]);
        }
        return features;
    }

  private:
    const Inputs inputs_;
    const Model &model_;
    const Program &program_;
    std::vector<int> live_;
};

} // namespace

std::unique_ptr<Features> without_bands(const Subject &subject) {
    const bool digits = subject.only_planned || differences_keep_digits(subject.images, subject.baselines);
    if (!subject.trial.gradient) {
        if (!digits) {
            throw Declined(MET_DECLINE_VALUES, "the values of the image range too widely to add differences to them");
        }
        if (std::unique_ptr<Features> pixels = bands_of_pixels(subject)) {
            return pixels;
        }
        return std::make_unique<Bands>(subject);
    }
    if (!digits) {
        return std::make_unique<Forward>(subject);
    }
    try {
        return std::make_unique<Bands>(subject);
    } catch (const Declined &) { /* the bands are not summed first, or that is not what takes the time */
        return std::make_unique<Forward>(subject);
    }
}

} // namespace bridge
