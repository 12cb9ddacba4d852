/* rendered.cpp - whole samples for the program: nothing is shared among them, but neither Python nor modules are run. */
#include "shortcut.h"

#include <algorithm>

namespace bridge {
namespace {

/* Where a sample has the baseline's values, to broadcast with (1, d0, d1, d2). */
at::Tensor replaced_places(const met_sample &s, const at::Tensor &image) {
    const auto count = static_cast<int64_t>(s.segments->count) + 1; /* -1, which is in none, stands before */
    const at::Tensor flags = at::from_blob(const_cast<uint8_t *>(s.replaced - 1), {count}, at::kByte).to(at::kBool);
    return flagged_places(flags, *s.segments, image);
}

class Rendered : public Features {
  public:
    explicit Rendered(const Subject &subject)
        : images_(laid_out(subject, {subject.images}, 0)[0]), baselines_(laid_out(subject, {subject.baselines}, 0)[0]),
          bands_(subject.bands) {}
    std::string name() const override { return "replay"; }
    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override {
        at::NoGradGuard off;
        std::vector<at::Tensor> samples;
        for (size_t i = 0; i < rows.size(); i++) {
            samples.push_back(rendered(s[i], bands_, images_.slice(0, rows[i], rows[i] + 1),
                                       baselines_.slice(0, rows[i], rows[i] + 1)));
        }
        return {samples.size() == 1 ? samples[0] : at::cat(samples)};
    }

  private:
    const at::Tensor images_, baselines_;
    const int bands_;
};

} // namespace

at::Tensor segment_ids(const met_segments &segments, at::IntArrayRef image) {
    std::vector<int64_t> sizes(MET_AXES), strides(MET_AXES);
    for (size_t a = 0; a < MET_AXES; a++) {
        sizes[a] = segments.strides[a] == 0 ? 1 : image[a];
        strides[a] = static_cast<int64_t>(segments.strides[a]);
    }
    return at::from_blob(const_cast<int32_t *>(segments.ids), sizes, strides, at::kInt);
}

at::Tensor flagged_places(const at::Tensor &flags, const met_segments &segments, const at::Tensor &image) {
    const at::Tensor ids = segment_ids(segments, image.sizes().slice(1)).to(at::kLong) + 1;
    return flags.index_select(0, ids.flatten()).view(ids.sizes()).to(image.device());
}

at::Tensor rendered(const met_sample &s, int bands, const at::Tensor &image, const at::Tensor &baseline) {
    if (s.kind == MET_BANDS) {
        return without(s, bands, image, baseline, bands + 1);
    }
    if (s.kind == MET_SEGMENTS) {
        return at::where(replaced_places(s, image), baseline, image);
    }
    at::Tensor sample = image.clone(), hidden = sample, by = baseline;
    for (size_t a = 0; a < MET_AXES && s.kind == MET_BOX; a++) {
        const auto start = static_cast<int64_t>(s.box.start[a]), stop = static_cast<int64_t>(s.box.stop[a]);
        hidden = hidden.slice(static_cast<int64_t>(a) + 1, start, stop);
        by = by.slice(static_cast<int64_t>(a) + 1, start, stop);
    }
    if (s.kind == MET_BOX) {
        hidden.copy_(by);
    }
    return sample;
}

std::unique_ptr<Features> whole_samples(const Subject &subject) {
    return std::make_unique<Rendered>(subject);
}

} // namespace bridge
