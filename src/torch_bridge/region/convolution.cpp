/* convolution.cpp - convolutions, also transposed ones and those in groups. */
#include "packed.h"
#include "region/rules.h"

#include <map>
#include <mutex>

namespace bridge::region {
namespace {

/* Convolutions of some input channels each, for what only these changed: packed when they are first asked for. */
class Parts {
  public:
    /* NULL: so many parts were asked for that their weights would be many times the whole. */
    std::shared_ptr<const PackedConvolution> of(const ConvolutionForm &form, Range channels) {
        const std::lock_guard<std::mutex> guard(alone_);
        auto &part = parts_[{channels.first, channels.last}];
        const int64_t size = channels.size() * form.weight.numel() / form.weight.size(1);
        if (!part && size_ + size <= MOST * form.weight.numel()) {
            ConvolutionForm some = form;
            some.weight = form.weight.slice(1, channels.first, channels.last).contiguous();
            some.bias = at::Tensor();
            part = std::make_shared<PackedConvolution>(std::move(some));
            size_ += size;
        }
        return part;
    }

  private:
    static constexpr int64_t MOST = 8;
    std::mutex alone_;
    std::map<std::pair<int64_t, int64_t>, std::shared_ptr<const PackedConvolution>> parts_;
    int64_t size_ = 0;
};

struct Convolution : Separable {
    ConvolutionForm form;
    std::shared_ptr<const PackedConvolution> packed; /* NULL: torch's own is called */
    mutable Parts parts;                             /* where it is packed */
    at::Tensor weight_last; /* else laid out with channels last: torch would do that in every call */

    size_t spatial() const { return form.stride.size(); }
    int64_t channels() const { return operands[0].shape[1]; }
    int64_t outputs() const { return shapes[0][1]; }

    /* Channels that are computed come in whole groups. */
    Range group(const Box &out) const {
        const int64_t each = outputs() / form.groups;
        return {out[0].first / each, out[0].last / each};
    }

    /*
     * How far behind the first place of `out` a transposed convolution of what that reads begins, along each axis: another
     * number at the borders, and from one place to the next where there are strides.
     */
    Ints begins(const Box &out) const {
        const Box from = reads(0, out, 0);
        Ints found;
        for (size_t d = 1; d < out.axes(); d++) {
            found.push_back(from[d].first * form.stride[d - 1] - form.padding[d - 1] - out[d].first);
        }
        return found;
    }

    const at::Tensor &weight_for(const at::Tensor &x) const {
        const bool last = weight_last.defined() && x.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
        return last ? weight_last : form.weight;
    }

    at::Tensor by_torch(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, const Ints &padding,
                        int64_t groups) const {
        const Ints zeros(spatial(), 0);
        return at::convolution(x, weight, bias, form.stride, padding, form.dilation, form.transposed, zeros, groups);
    }

    bool has_pieces() const override { return !form.transposed; }

    void phase(const Changes &changed, const Box &out, size_t, Ints *key) const override {
        key->push_back(out[0].first);
        key->push_back(
            changed[0] == nullptr ? 0 : (*changed[0])[0].first); /* an update reads these columns of the weight */
        const Ints first = form.transposed ? begins(out) : Ints();
        key->insert(key->end(), first.begin(), first.end());
    }

    at::Tensor compute(const std::vector<at::Tensor> &patches, const Box &out, size_t) const override {
        const Range g = group(out);
        const Ints zeros(spatial(), 0);
        const bool all = g.size() == form.groups;
        if (all && packed) {
            return (*packed)(patches[0], zeros);
        }
        const int64_t rows = form.weight.size(0) / form.groups;
        const at::Tensor &laid_out = weight_for(patches[0]);
        const at::Tensor w = all ? laid_out : laid_out.slice(0, g.first * rows, g.last * rows);
        const at::Tensor b = all || !form.bias.defined() ? form.bias : form.bias.slice(0, out[0].first, out[0].last);
        if (!form.transposed) {
            return by_torch(patches[0], w, b, zeros, g.size());
        }
        const at::Tensor y = by_torch(patches[0], w, {}, zeros, g.size());
        const Ints first = begins(out);
        std::vector<std::pair<int64_t, int64_t>> around;
        for (size_t d = 0; d < first.size(); d++) { /* to the range that is asked for, which lies inside */
            around.emplace_back(first[d], -(first[d] + y.size(static_cast<int64_t>(d) + 2) - out[d + 1].size()));
        }
        const at::Tensor placed = pad(y, around, 0); /* with places that nothing is written to */
        Ints channels(spatial() + 2, 1);
        channels[1] = -1;
        return b.defined() ? placed + b.view(channels) : placed;
    }

    bool updates(const Changes &changed, bool differences) const override {
        return differences && !form.transposed && form.groups == 1 && !(*changed[0])[0].holds({0, channels()});
    }

    at::Tensor update(const Update &u, const Box &out) const override {
        const Range part = u.changed[0];
        const Box from = reads(0, out, 0);
        std::vector<std::pair<int64_t, int64_t>> around;
        for (size_t d = 1; d < out.axes(); d++) {
            around.emplace_back(u.changed[d].first - from[d].first, from[d].last - u.changed[d].last);
        }
        Ints padding; /* as many zeros on both sides as a convolution takes; -1: other amounts, or less of the change */
        for (const auto &[before, behind] : around) {
            padding.push_back(before == behind && before >= 0 ? before : -1);
        }
        const bool zeros = !u.fresh.defined(); /* what was there is taken off: the same numbers */
        at::Tensor x = zeros ? u.old : u.fresh - u.old;
        if (std::count(padding.begin(), padding.end(), -1) != 0) {
            x = pad(x, around, 0);
            padding.assign(spatial(), 0);
        }
        const auto some = packed ? parts.of(form, part) : nullptr;
        at::Tensor y =
            some ? (*some)(x, padding) : by_torch(x, weight_for(x).slice(1, part.first, part.last), {}, padding, 1);
        return zeros ? at::sub_out(y, u.before, y) : y.add_(u.before);
    }
};

} // namespace

std::unique_ptr<Rule> convolution(const Program &p, const Node &node) {
    std::optional<ConvolutionForm> form = convolution_form(node);
    const std::optional<Operand> input = lone_operand(p, node);
    const std::optional<Ints> shape = shape_of(p, node);
    if (!form || !input || !shape || static_cast<int64_t>(shape->size()) != form->weight.dim() ||
        input->shape.size() != shape->size()) {
        return nullptr;
    }
    auto rule = std::make_unique<Convolution>();
    rule->form = *form;
    rule->packed = node.packed;
    if (form->weight.dim() == 4 && (!node.packed || form->groups > 1)) {
        rule->weight_last = form->weight.contiguous(at::MemoryFormat::ChannelsLast);
    }
    rule->operands.push_back(*input);
    rule->shapes.push_back(*shape);
    std::vector<Axis> along{
        Axis::blocks(0, input->shape[1], (*shape)[1], input->shape[1] / form->groups, (*shape)[1] / form->groups)};
    for (size_t d = 0; d < rule->spatial(); d++) {
        const int64_t wide = form->dilation[d] * (form->weight.size(static_cast<int64_t>(d) + 2) - 1);
        along.push_back(Axis::window(static_cast<int>(d) + 1, input->shape[d + 2], (*shape)[d + 2], form->stride[d],
                                     form->padding[d], wide));
        along.back().kind = form->transposed ? Axis::Kind::transposed : Axis::Kind::window;
    }
    rule->axes.push_back(std::move(along));
    return rule;
}

} // namespace bridge::region
