/* segment_pools.cpp - what superpixels add to the pools of a model, found once for each combination of neighbours. */
#include "segment_pools.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

namespace bridge {
namespace {

/* More than this part of the samples evaluated in front of the pools: it does not pay. */
const double EVALUATED_MOST = 0.7;
/* Samples that are drawn to tell how many evaluations serve all. */
const size_t SIMULATED_MOST = 256;
const size_t SIMULATED_CHUNK = 8;
/* With more segments than this, all coalitions that are drawn are different anyhow. */
const size_t ENUMERATED_MOST = 12;
/* Masks of segments that are followed through the model at a time. */
const int64_t MASKS_AT_ONCE = 32;
/* What is known of an image is forgotten beyond this many numbers. */
const int64_t SUMS_MOST = 1 << 23;

using Shape = std::vector<int64_t>;

/* Coalitions as methods ask for them: the image, then each segment left out, or different ones by chance. */
std::vector<Replaced> drawn_coalitions(size_t segments, bool leave_one_out, size_t count) {
    std::vector<Replaced> drawn{Replaced(segments, 0)};
    for (size_t s = 0; s < segments && leave_one_out && drawn.size() < count; s++) {
        drawn.emplace_back(segments, 0);
        drawn.back()[s] = 1;
    }
    std::mt19937 bits(0);
    std::set<std::string> seen{std::string(segments, '\0')};
    const size_t all = segments < ENUMERATED_MOST ? static_cast<size_t>(1) << segments : count;
    while (!leave_one_out && drawn.size() < std::min(count, all)) {
        Replaced flags(segments);
        std::generate(flags.begin(), flags.end(), [&] { return static_cast<uint8_t>(bits() & 1); });
        if (seen.insert(std::string(flags.begin(), flags.end())).second || segments >= ENUMERATED_MOST) {
            drawn.push_back(flags);
        }
    }
    return drawn;
}

/* Which segments a sample replaces. */
Replaced replaced_by(const met_sample &s, size_t segments) {
    return s.kind == MET_IDENTITY ? Replaced(segments, 0) : Replaced(s.replaced, s.replaced + segments);
}

} // namespace

SegmentPools::SegmentPools(const Subject &subject)
    : program_(subject.program), model_(subject.model), images_(subject.images), baselines_(subject.baselines),
      origins_(subject.origins), most_(subject.most), cut_(cut_at_pools(program_)), reach_(program_) {
    at::NoGradGuard off;
    stop = cut_.stop;
    if (subject.only_planned) {
        return;
    }
    const met_sample *example = nullptr;
    bool leave_one_out = true;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const met_sample &sample = subject.trial.samples[i];
        if (sample.kind == MET_SEGMENTS) {
            const Replaced flags = replaced_by(sample, sample.segments->count);
            leave_one_out = leave_one_out && std::count(flags.begin(), flags.end(), 1) == 1;
            example = example == nullptr ? &sample : example;
        }
    }
    if (example == nullptr) {
        throw Declined(MET_DECLINE_NOTHING_SHARED, "all samples are copies of their images");
    }
    count_ = std::max<size_t>(subject.trial.count, 1);
    const Image &image = image_of(static_cast<int64_t>(example->image), *example->segments);
    needed_ = simulated(image, leave_one_out && image.segments > 2, count_);
    const double part = static_cast<double>(needed_) / static_cast<double>(count_);
    if (part > EVALUATED_MOST && !subject.trial.always) {
        throw Declined(
            MET_DECLINE_NOTHING_SHARED,
            "most places of the last layers are reached by another combination of superpixels in each sample");
    }
    planned = part * subject.cost(0, stop);
}

SegmentPools::Image &SegmentPools::image_of(int64_t row, const met_segments &segments) {
    auto found = known_.find(row);
    if (found != known_.end()) {
        return found->second;
    }
    const Shape shape = images_.sizes().slice(1).vec();
    const auto count = static_cast<int64_t>(segments.count);
    Image image;
    image.segments = segments.count;
    const at::Tensor ids = segment_ids(segments, shape).to(at::kLong);
    image.ids = at::where(ids < 0, count, ids).contiguous().to(images_.device());

    std::vector<int> sources;
    for (const SpatialPool &pool : cut_.pools) {
        sources.push_back(pool.source);
    }
    std::vector<std::vector<at::Tensor>> reached(cut_.pools.size());
    for (int64_t from = 0; from < count; from += MASKS_AT_ONCE) {
        const int64_t to = std::min(count, from + MASKS_AT_ONCE);
        const std::vector<Reach> masks = reach_.of(reach_in_image(segments, shape, from, to), sources);
        for (size_t k = 0; k < cut_.pools.size(); k++) {
            if (!masks[k].defined()) {
                throw Declined(MET_DECLINE_STRUCTURE, "the receptive fields of the model's places are not known");
            }
            const Shape &of_source = program_.values[static_cast<size_t>(sources[k])].shape;
            reached[k].push_back(reached_places(masks[k], of_source, cut_.pools[k].axes));
        }
    }
    for (size_t k = 0; k < cut_.pools.size(); k++) {
        image.groups.emplace_back(at::cat(reached[k]));
        image.groups.back().order = image.groups.back().order.to(images_.device());
    }
    image.rows.assign(cut_.pools.size(), 0);
    image.sums.resize(cut_.pools.size());
    return known_.emplace(row, std::move(image)).first->second;
}

/* How many evaluations `count` samples will take, from some that are drawn. */
size_t SegmentPools::simulated(const Image &image, bool leave_one_out, size_t count) const {
    std::vector<Groups> groups = image.groups;
    std::vector<Groups *> values;
    for (Groups &of_pool : groups) {
        values.push_back(&of_pool);
    }
    std::vector<int64_t> rows(groups.size(), 0);
    const std::vector<Replaced> drawn =
        drawn_coalitions(image.segments, leave_one_out, std::min(count, SIMULATED_MOST));
    size_t needed = 0, late = 0;
    for (size_t from = 0; from < drawn.size(); from += SIMULATED_CHUNK) {
        const auto first = drawn.begin() + static_cast<std::ptrdiff_t>(from);
        const auto chunk = static_cast<std::ptrdiff_t>(std::min(drawn.size() - from, SIMULATED_CHUNK));
        const size_t more = plan_coalitions(values, {first, first + chunk}, rows).coalitions.size();
        needed += more;
        late += from >= drawn.size() / 2 ? more : 0;
    }
    return needed +
           (count - std::min(count, drawn.size())) * late / std::max<size_t>(1, drawn.size() - drawn.size() / 2);
}

/* Samples in which some segments take the baseline's values. */
at::Tensor SegmentPools::render(const Image &image, int64_t row, const Plan &plan, size_t from, size_t to) const {
    const auto segments = static_cast<int64_t>(plan.coalitions[0].size());
    at::Tensor flags = at::zeros({static_cast<int64_t>(to - from), segments + 1}, at::kBool);
    for (size_t i = from; i < to; i++) {
        bool *of_one = flags.data_ptr<bool>() + static_cast<int64_t>(i - from) * (segments + 1);
        std::transform(plan.coalitions[i].begin(), plan.coalitions[i].end(), of_one, [](uint8_t f) { return f != 0; });
    }
    Shape sizes = image.ids.sizes().vec();
    sizes.insert(sizes.begin(), static_cast<int64_t>(to - from));
    const at::Tensor where = flags.to(image.ids.device()).index_select(1, image.ids.flatten()).reshape(sizes);
    return at::where(where, baselines_.slice(0, row, row + 1), images_.slice(0, row, row + 1));
}

/* Evaluate coalitions [from, to) of a plan in front of the pools, and write down what they tell. */
void SegmentPools::evaluate(Image &image, int64_t row, const Plan &plan, size_t from, size_t to) {
    const std::vector<int64_t> origins(to - from, origins_[static_cast<size_t>(row)]);
    const std::vector<at::Tensor> before =
        before_pools(program_, model_, cut_, render(image, row, plan, from, to), origins);
    for (size_t k = 0; k < cut_.pools.size(); k++) {
        const SpatialPool &pool = cut_.pools[k];
        const Groups &groups = image.groups[k];
        const at::Tensor &values = before[k];
        std::vector<at::Tensor> told; /* (groups, features) of each coalition */
        for (size_t i = from; i < to; i++) {
            const at::Tensor sorted = values.select(0, static_cast<int64_t>(i - from)).index_select(1, groups.order);
            std::vector<at::Tensor> sums;
            for (const at::Tensor &part : sorted.split_with_sizes(groups.sizes, 1)) {
                sums.push_back(pool.maximum ? part.amax({1}).to(at::kDouble)
                                            : part.sum(at::IntArrayRef{1}, false, at::kDouble));
            }
            told.push_back(at::stack(sums));
        }
        std::vector<int64_t> at_told, at_sums;
        for (const News &news : plan.news) {
            if (news.value == k && news.coalition >= from && news.coalition < to) {
                at_told.push_back(static_cast<int64_t>((news.coalition - from) * groups.groups.size() + news.group));
                at_sums.push_back(news.row);
            }
        }
        at::Tensor &sums = image.sums[k];
        const int64_t features = values.size(1);
        if (!sums.defined() || sums.size(0) < image.rows[k]) {
            at::Tensor more = at::zeros({2 * image.rows[k], features}, values.options().dtype(at::kDouble));
            if (sums.defined()) {
                more.slice(0, 0, sums.size(0)).copy_(sums);
            }
            sums = more;
        }
        const at::Tensor rows =
            at::stack(told).reshape({-1, features}).index_select(0, at::tensor(at_told).to(sums.device()));
        sums.index_copy_(0, at::tensor(at_sums).to(sums.device()), rows);
    }
}

/* Make all known that some coalitions need, a batch no larger than they are at a time. */
void SegmentPools::learn(Image &image, int64_t row, const std::vector<Replaced> &asked) {
    std::vector<Groups *> values;
    int64_t numbers = 0;
    for (size_t k = 0; k < cut_.pools.size(); k++) {
        values.push_back(&image.groups[k]);
        numbers += image.sums[k].defined() ? image.rows[k] * image.sums[k].size(1) : 0;
    }
    if (numbers > SUMS_MOST) {
        for (size_t k = 0; k < cut_.pools.size(); k++) {
            image.rows[k] = 0;
            for (Group &group : image.groups[k].groups) {
                group.known.clear();
            }
        }
    }
    const Plan plan = plan_coalitions(values, asked, image.rows);
    const size_t batch = std::min(most_, asked.size());
    for (size_t from = 0; from < plan.coalitions.size(); from += batch) {
        evaluate(image, row, plan, from, std::min(plan.coalitions.size(), from + batch));
    }
}

/* A pool's result for coalitions that are known, (coalitions, features) in double. */
at::Tensor SegmentPools::pooled(Image &image, size_t pool, const std::vector<Replaced> &asked) const {
    const Groups &groups = image.groups[pool];
    const at::Tensor &sums = image.sums[pool];
    std::vector<int64_t> rows;
    for (const Replaced &replaced : asked) {
        for (const Group &group : groups.groups) {
            rows.push_back(group.known.at(group.key(replaced)));
        }
    }
    const auto n = static_cast<int64_t>(asked.size()), parts = static_cast<int64_t>(groups.groups.size());
    const at::Tensor all = sums.index_select(0, at::tensor(rows).to(sums.device())).reshape({n, parts, sums.size(1)});
    return cut_.pools[pool].maximum ? all.amax({1}) : all.sum(at::IntArrayRef{1}).mul_(cut_.pools[pool].factor);
}

std::vector<at::Tensor> SegmentPools::of(const met_sample *s, const std::vector<int64_t> &rows) {
    at::NoGradGuard off;
    learning = 0;
    const size_t n = rows.size();
    std::map<int64_t, std::vector<int64_t>> by_image;
    for (size_t i = 0; i < n; i++) {
        by_image[rows[i]].push_back(static_cast<int64_t>(i));
    }
    std::vector<at::Tensor> results(cut_.pools.size());
    for (const auto &[row, places] : by_image) {
        const met_segments *segments = nullptr;
        for (int64_t i : places) {
            segments = s[i].segments != nullptr ? s[i].segments : segments;
        }
        if (segments == nullptr && known_.count(row) == 0) {
            throw Declined(MET_DECLINE_NOTHING_SHARED,
                           "the superpixels of an image are not known when it is evaluated");
        }
        Image &image = segments == nullptr ? known_.at(row) : image_of(row, *segments);
        std::vector<Replaced> asked;
        for (int64_t i : places) {
            asked.push_back(replaced_by(s[i], image.segments));
        }
        {
            const Learning timed(&learning);
            learn(image, row, asked);
        }
        const at::Tensor index = at::tensor(places).to(images_.device());
        for (size_t k = 0; k < cut_.pools.size(); k++) {
            const at::Tensor found = pooled(image, k, asked);
            if (!results[k].defined()) {
                results[k] = at::empty({static_cast<int64_t>(n), found.size(1)}, found.options());
            }
            results[k].index_copy_(0, index, found);
        }
    }
    return live_values(program_, cut_, results);
}

std::string SegmentPools::name() const {
    return "superpixel sums: " + std::to_string(needed_) + " evaluations for " + std::to_string(count_);
}

} // namespace bridge
