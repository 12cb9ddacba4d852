/* windows.cpp - samples in which a box takes the baseline's values: what it reaches is computed again (regions.h). */
#include "regions.h"
#include "shortcut.h"

namespace bridge {
namespace {

Box box_of(const met_sample &s) {
    if (s.kind != MET_BOX) {
        return Box::nothing();
    }
    Box box(MET_AXES);
    for (size_t a = 0; a < MET_AXES; a++) {
        box[a] = {static_cast<int64_t>(s.box.start[a]), static_cast<int64_t>(s.box.stop[a])};
    }
    return box;
}

/*
 * A difference of two values keeps few digits of it where the values are very much larger than the rest (-9999 for no
 * data, say): whether none of them is.
 */
bool differences_keep_digits(const at::Tensor &images, const at::Tensor &baselines) {
    const double limit = images.scalar_type() == at::kDouble ? 1e5 : 256;
    at::Tensor change = (baselines - images).flatten();
    const int64_t step = std::max<int64_t>(change.numel() / 4096, 1) | 1; /* odd: not the same band every time */
    at::Tensor some = change.slice(0, 0, change.numel(), step).abs();
    some = some.masked_select(some > 0);
    const auto ends = at::aminmax(change);
    const double largest = std::max(-std::get<0>(ends).item<double>(), std::get<1>(ends).item<double>());
    return some.numel() == 0 || largest <= limit * some.median().item<double>();
}

class Windows : public Features {
  public:
    explicit Windows(const Subject &subject)
        : regions_(subject.program, subject.model, examples(subject), subject.seconds,
                   differences_keep_digits(subject.images, subject.baselines), subject.trial.always),
          operators_(subject.program.count(0, subject.program.nodes.size())) {
        stop = regions_.stop();
        planned = regions_.planned_seconds() - subject.cost(stop, subject.program.nodes.size());
        if (stop == 0) {
            const std::string end = regions_.ends_at();
            throw Declined(MET_DECLINE_STRUCTURE,
                           end.empty() ? "the parts that a window reaches take as long as the whole"
                                       : "a window reaches all that is behind " + end +
                                             ", and what is before it takes too small a part of the time");
        }
        if (subject.only_planned) {
            return;
        }
        regions_.keep(laid_out(subject, values_of(subject, subject.images, regions_.wanted(), stop), 0),
                      {subject.images, subject.baselines, subject.origins});
    }

    std::string name() const override {
        return "incremental inference, " + std::to_string(regions_.local()) + " of " + std::to_string(operators_) +
               " operators";
    }

    std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) override {
        at::NoGradGuard off;
        std::vector<Box> boxes;
        for (size_t i = 0; i < rows.size(); i++) {
            boxes.push_back(box_of(s[i]));
        }
        return regions_.features(boxes, rows);
    }

  private:
    static std::vector<Box> examples(const Subject &subject) {
        std::vector<Box> found;
        for (size_t i = 0; i < subject.trial.batch.n; i++) {
            if (subject.trial.samples[i].kind == MET_BOX && found.size() < 4) {
                found.push_back(box_of(subject.trial.samples[i]));
            }
        }
        return found;
    }

    Regions regions_;
    size_t operators_;
};

} // namespace

std::unique_ptr<Features> with_windows(const Subject &subject) {
    return std::make_unique<Windows>(subject);
}

} // namespace bridge
