/*
 * segment_sums.cpp - samples in which superpixels are replaced, where a model begins with an affine part z. Segments are
 * disjoint, so z(sample) = z(image) + the sum over the replaced ones of d, and d = z(change) - z(0), where the change is
 * baseline - image in the segment and 0 elsewhere: for all samples of a batch together a product of matrices.
 */
#include "segment_pools.h"

#include <algorithm>
#include <map>

namespace bridge {
namespace {

/* What the superpixels of the images may add at the cut takes no more bytes than this; forgotten and made again beyond. */
const double KEPT_BYTES = 256 << 20;
/* Segments that are far enough from each other are evaluated together: about so many times serve all. */
const double RUNS = 6;
/* Operations of a product of matrices in a second. */
const double PRODUCTS = 5e10;

class SegmentSums : public Features {
  public:
    explicit SegmentSums(const Subject &subject);
    std::string name() const override { return "affine prefix, by superpixels"; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override;

  private:
    using Additions =
        std::vector<at::Tensor>; /* by live value: (segments, numbers of the value as they lie in memory) */

    const Additions &additions(int64_t row, const met_segments &segments);
    std::vector<at::Tensor> reached(const met_segments &segments, at::IntArrayRef image) const;
    std::vector<at::Tensor> evaluated(const at::Tensor &images, int64_t row) const;

    const Inputs inputs_;
    const SegmentReach reach_;
    std::vector<int> live_;
    bool in_double_ = false;
    std::vector<at::Tensor> image_;      /* (images, ...), of each live value */
    std::map<int64_t, Additions> known_; /* by row of the images */
    double bytes_ = 0;                   /* of those of one image */
};

/* Whether the channels of each place lie together. Of one sample and of several it may be another answer. */
bool are_channels_last(const at::Tensor &values) {
    return values.dim() == 4 && values.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
}

/* Values (n, ...) as (n, numbers), each in the order in which `like` lies in memory; and back. */
at::Tensor flat(const at::Tensor &values, const at::Tensor &like) {
    return (are_channels_last(like) ? values.permute({0, 2, 3, 1}) : values).reshape({values.size(0), -1});
}

at::Tensor unflat(const at::Tensor &numbers, const at::Tensor &like) {
    std::vector<int64_t> sizes = like.sizes().vec();
    sizes[0] = numbers.size(0);
    if (are_channels_last(like)) {
        return numbers.view({sizes[0], sizes[2], sizes[3], sizes[1]}).permute({0, 3, 1, 2});
    }
    return numbers.view(sizes);
}

SegmentSums::SegmentSums(const Subject &subject) : inputs_(subject), reach_(subject.program) {
    size_t segments = 0;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const met_sample &s = subject.trial.samples[i];
        segments = s.kind == MET_SEGMENTS ? std::max(segments, s.segments->count) : segments;
    }
    const Program &p = subject.program;
    /* What is rounded here is the same in every sample, where plain samples round each in its way. */
    in_double_ = is_narrow(subject);
    const double each = static_cast<double>(segments), runs = std::min(each, RUNS),
                 count = static_cast<double>(std::max<size_t>(subject.trial.count, 1));
    const auto before = [&](size_t position) {
        const double bytes = bytes_live(p, position), product = 2 * each * bytes / sizeof(float) / PRODUCTS;
        const double once = in_double_ ? seconds_in_double(subject, position) : subject.cost(0, position);
        return product + (runs + 2) / count * (once + SECONDS_A_BYTE * bytes);
    };
    stop = affine_stop(subject, before);
    planned = before(stop);
    bytes_ = each * bytes_live(p, stop);
    if (bytes_ > KEPT_BYTES) {
        throw Declined(MET_DECLINE_LITTLE_WORK,
                       "what each superpixel adds behind the affine part takes too much memory");
    }
    if (subject.only_planned) {
        return;
    }
    if (!differences_keep_digits(subject.images, subject.baselines)) {
        throw Declined(MET_DECLINE_VALUES, "the values of the image range too widely to add differences to them");
    }
    const at::NoGradGuard off;
    live_ = p.live(stop);
    image_ = laid_out(subject, narrowed(p, values_of(subject, subject.images, live_, stop, in_double_), live_), stop);
}

/* The values at the cut for variants (n, ...) of an image. */
std::vector<at::Tensor> SegmentSums::evaluated(const at::Tensor &images, int64_t row) const {
    const std::vector<int64_t> origins(static_cast<size_t>(images.size(0)), inputs_.origins[static_cast<size_t>(row)]);
    const Prefix prefix{inputs_.program, inputs_.model, origins, inputs_.most, stop, in_double_};
    return laid_out(inputs_, joined(prefix.of(images, live_)), stop);
}

/* Places of the live values that each segment reaches, (segments, numbers) as they lie in memory, by value; empty: unknown. */
std::vector<at::Tensor> SegmentSums::reached(const met_segments &segments, at::IntArrayRef image) const {
    const auto count = static_cast<int64_t>(segments.count);
    std::vector<at::Tensor> found;
    for (const Reach &reach : reach_.of(reach_in_image(segments, image.vec(), 0, count), live_)) {
        if (!reach.defined() || reach.size(0) != count) {
            return {};
        }
        const at::Tensor &like = image_[found.size()];
        std::vector<int64_t> sizes = like.sizes().vec();
        sizes[0] = count;
        found.push_back(flat(reach.gt(0).expand(sizes), like));
    }
    return found;
}

/* Segments that are evaluated together: no two of a set reach the same place. */
std::vector<std::vector<int64_t>> apart(const std::vector<at::Tensor> &reached, int64_t count) {
    std::vector<std::vector<int64_t>> sets;
    at::Tensor meet = at::zeros({count, count}); /* how many places two segments share */
    for (const at::Tensor &places : reached) {
        const at::Tensor flags = places.to(at::kFloat);
        meet.add_(at::mm(flags, flags.t()).cpu());
    }
    const at::Tensor shared = meet.gt(0);
    const bool *data = shared.data_ptr<bool>();
    for (int64_t s = 0; s < count; s++) {
        auto fits = [&](const std::vector<int64_t> &set) {
            return !reached.empty() &&
                   std::none_of(set.begin(), set.end(), [&](int64_t other) { return data[s * count + other]; });
        };
        const auto set = std::find_if(sets.begin(), sets.end(), fits);
        if (set == sets.end()) {
            sets.push_back({s});
        } else {
            set->push_back(s);
        }
    }
    return sets;
}

const SegmentSums::Additions &SegmentSums::additions(int64_t row, const met_segments &segments) {
    const auto found = known_.find(row);
    if (found != known_.end()) {
        return found->second;
    }
    const Learning timed(&learning);
    if (static_cast<double>(known_.size() + 1) * bytes_ > KEPT_BYTES) {
        known_.clear();
    }
    const at::Tensor image = inputs_.images.slice(0, row, row + 1);
    const at::Tensor change = inputs_.baselines.slice(0, row, row + 1) - image, nothing = at::zeros_like(image);
    const auto count = static_cast<int64_t>(segments.count);
    const std::vector<at::Tensor> zero = evaluated(nothing, row), places = reached(segments, image.sizes().slice(1));
    const auto sets = apart(places, count);
    Additions all;
    for (const at::Tensor &value : image_) {
        all.push_back(at::empty({count, value.numel() / value.size(0)}, value.options()));
    }
    for (const std::vector<int64_t> &set : sets) {
        at::Tensor in_set = at::zeros({count + 1}, at::kBool); /* the first is for -1: in no segment */
        in_set.index_fill_(0, at::tensor(set) + 1, true);
        const at::Tensor part = at::where(flagged_places(in_set, segments, image), change, nothing);
        const std::vector<at::Tensor> values = evaluated(part, row);
        for (size_t v = 0; v < live_.size(); v++) {
            const at::Tensor added = flat(values[v] - zero[v], image_[v]).to(all[v].scalar_type());
            if (!is_finite(added)) { /* times 0 that is not 0 */
                throw Declined(MET_DECLINE_VALUES, "the affine part of the model gives values that are not finite");
            }
            for (int64_t s : set) {
                at::Tensor own = all[v].narrow(0, s, 1);
                own.copy_(set.size() == 1 ? added : added * places[v].narrow(0, s, 1));
            }
        }
    }
    return known_.emplace(row, std::move(all)).first->second;
}

std::vector<at::Tensor> SegmentSums::of(const met_sample *s, const std::vector<int64_t> &rows) {
    const at::NoGradGuard off;
    learning = 0;
    std::vector<std::vector<at::Tensor>> parts(live_.size());
    for (size_t i = 0, next = 0; i < rows.size(); i = next) { /* samples of an image follow each other */
        const met_segments *segments = nullptr;
        for (next = i; next < rows.size() && rows[next] == rows[i]; next++) {
            segments = s[next].kind == MET_SEGMENTS ? s[next].segments : segments;
        }
        const auto n = static_cast<int64_t>(next - i);
        const auto count = segments == nullptr ? 0 : static_cast<int64_t>(segments->count);
        at::Tensor replaced = at::zeros({n, count}, image_[0].scalar_type());
        for (size_t j = i; j < next; j++) {
            at::Tensor flags = replaced.select(0, static_cast<int64_t>(j - i));
            if (s[j].kind == MET_SEGMENTS) {
                flags.copy_(at::from_blob(const_cast<uint8_t *>(s[j].replaced), {count}, at::kByte));
            }
        }
        for (size_t v = 0; v < live_.size(); v++) {
            const at::Tensor &image = image_[v];
            const at::Tensor base = flat(image.slice(0, rows[i], rows[i] + 1), image).expand({n, -1});
            const at::Tensor sums =
                segments == nullptr ? base.contiguous()
                                    : at::addmm(base, replaced.to(image.options()), additions(rows[i], *segments)[v]);
            parts[v].push_back(unflat(sums, image));
        }
    }
    std::vector<at::Tensor> features;
    for (const std::vector<at::Tensor> &of_value : parts) {
        features.push_back(of_value.size() == 1 ? of_value[0] : at::cat(of_value));
    }
    return features;
}

} // namespace

/* The cheaper of the two ways to make samples. */
std::unique_ptr<Features> without_segments(const Subject &subject) {
    std::unique_ptr<Features> pools, sums;
    try {
        pools = std::make_unique<SegmentPools>(subject);
    } catch (const Declined &) { /* no pool, or no two samples that share something in front of it */
    }
    if (pools && subject.trial.always) {
        return pools;
    }
    try {
        sums = std::make_unique<SegmentSums>(subject);
    } catch (const Declined &) {
        if (!pools) {
            throw;
        }
    }
    const auto cost = [&](const Features &way) {
        return way.planned + subject.cost(way.stop, subject.program.nodes.size());
    };
    return pools && (!sums || cost(*pools) <= cost(*sums)) ? std::move(pools) : std::move(sums);
}

} // namespace bridge
