/* windows.cpp - samples in which a box takes the baseline's values: what it reaches is computed again (regions.h). */
#include "regions.h"
#include "shortcut.h"

#include <algorithm>

namespace bridge {
namespace {

/*
 * New parts are computed by kernels that round otherwise than those for whole images, and that would stay in the difference
 * of every window: the values of the image are made in double where that takes no more than this part of the job.
 */
const double DOUBLE_PART = 0.09;

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

class Windows : public Features {
  public:
    explicit Windows(const Subject &subject)
        : regions_(subject.program, subject.model, examples(subject), subject.seconds, subject.trial.count,
                   !subject.only_planned && differences_keep_digits(subject.images, subject.baselines),
                   subject.trial.always),
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
        const std::vector<int> &wanted = regions_.wanted();
        const double all = regions_.planned_seconds() * static_cast<double>(subject.trial.count);
        const bool in_double = seconds_in_double(subject, stop) <= DOUBLE_PART * all;
        const auto values = values_of(subject, subject.images, wanted, stop, in_double);
        regions_.keep(laid_out(subject, narrowed(subject.program, values, wanted), 0),
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

/* Whether features leave less than half of the whole to do: planned, or where no matter what it costs, in operators. */
bool saves_half(const Subject &subject, const Features &features) {
    const size_t all = subject.program.nodes.size();
    return subject.trial.always ? 2 * subject.program.count(features.stop, all) <= subject.program.count(0, all)
                                : 2 * (features.planned + subject.cost(features.stop, all)) <= subject.cost(0, all);
}

} // namespace

std::unique_ptr<Features> with_windows(const Subject &subject) {
    bool bands_alone = true;
    for (size_t i = 0; i < subject.trial.batch.n; i++) {
        const met_sample &s = subject.trial.samples[i];
        for (int a = 0; a < MET_AXES && s.kind == MET_BOX; a++) {
            const bool whole = s.box.start[a] == 0 && static_cast<int64_t>(s.box.stop[a]) == subject.images.size(a + 1);
            bands_alone = bands_alone && (a == subject.bands || whole);
        }
    }
    if (bands_alone) {
        try {
            return without_bands(subject);
        } catch (const Declined &) { /* they are not summed first: but perhaps neighbours are, along an axis of them */
        }
    }
    std::unique_ptr<Features> pixels;
    try {
        pixels = of_pixels(subject);
    } catch (const Declined &) { /* places look at several pixels, or are not taken together at the end */
    }
    if (pixels && saves_half(subject, *pixels)) {
        return pixels;
    }
    try {
        return std::make_unique<Windows>(subject);
    } catch (const Declined &) {
        if (!pixels) {
            throw;
        }
        return pixels;
    }
}

} // namespace bridge
