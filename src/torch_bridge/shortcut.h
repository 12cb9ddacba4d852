/* shortcut.h - samples from what they share: where a program is cut, and what its values are there for each sample. */
#ifndef METEORS_C_SHORTCUT_H
#define METEORS_C_SHORTCUT_H

#include "program.h"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bridge {

/* A model's program and the images that it is run on. */
struct Inputs {
    const Model &model;
    const Program &program;
    at::Tensor images, baselines; /* (images, d0, d1, d2) */
    std::vector<int64_t> origins; /* of the images, in the user's call */
    int bands;                    /* axis of the bands in an image */
    size_t most;                  /* samples that the model may see at once */
    bool channels_last = true;    /* features may be laid out so */
};

/* What a shortcut is prepared for; the trial is over when it is. */
struct Subject : Inputs {
    Subject(Inputs from, const met_trial &trial_, std::vector<double> seconds_, bool only_planned_)
        : Inputs(std::move(from)), trial(trial_), seconds(std::move(seconds_)), only_planned(only_planned_) {}
    const met_trial &trial;
    std::vector<double> seconds; /* that each node takes, for one sample */
    bool only_planned;           /* nothing is to be kept yet */

    /* The kind of the samples to come. */
    met_kind kind() const;
    /* Seconds of the needed nodes [from, to). */
    double cost(size_t from, size_t to) const;
};

/* While it lives, time passes for samples to come. */
class Learning {
  public:
    explicit Learning(double *seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
    ~Learning() { *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
    Learning(const Learning &) = delete;
    Learning &operator=(const Learning &) = delete;

  private:
    double *seconds_;
    std::chrono::steady_clock::time_point start_;
};

/* Values of some images, images [from, ...), and where autograd recorded them the leaf that they come from. */
struct Evaluated {
    int64_t from;
    at::Tensor x;
    std::vector<at::Tensor> values;
};

/* The values at a cut, made for each sample without running what is before it. */
class Features {
  public:
    virtual ~Features() = default;
    /* The cut: a position in the program. */
    size_t stop = 0;
    /* Planned seconds of what is done for one sample before the cut. */
    double planned = 0;
    /* Whether gradients are taken back from the cut to the images in double, which costs little then. */
    bool back_in_double = false;
    /* The images' own values at the cut, with autograd's graph; empty: they were not made in this way. */
    std::vector<Evaluated> graph;
    /* Seconds of the last of() in which it was found what later samples need. */
    double learning = 0;
    /* In words, for reports. */
    virtual std::string name() const = 0;
    /* The values that are live at the cut, for n samples; rows (n,): which image each belongs to. They may be written to. */
    virtual std::vector<at::Tensor> of(const met_sample *s, const std::vector<int64_t> &rows) = 0;
    /* Where sums of gradients are taken back to the images from: at the cut, or at one before it. */
    virtual size_t back() const { return stop; }
    /* How many samples are best made at once, at no more memory than one; 0: as many as images would be. */
    virtual size_t together() const { return 0; }
    /* Whether gradients of the samples of the last of() are summed here, and not at the cut by who asks for them. */
    virtual bool sums() const { return false; }
    /* Add weighted gradients at the cut of those samples, by live value (undefined: they do not depend on it). */
    virtual void add(const std::vector<at::Tensor> &, const std::vector<int64_t> & /* rows */) {}
    /* The sums (images, ...) of the values that are live at back(), which begin anew. */
    virtual std::vector<at::Tensor> summed() { return {}; }
};

/* For each kind of samples; they throw Declined where nothing is gained. */
std::unique_ptr<Features> between_points(const Subject &subject); /* MET_LERP: affine.cpp */
std::unique_ptr<Features> along_line(const Subject &subject);    /* the same; NULL: it saves nothing (along_line.cpp) */
std::unique_ptr<Features> along_pixels(const Subject &subject);  /* the same, pixel by pixel (along_pixels.cpp) */
std::unique_ptr<Features> without_bands(const Subject &subject); /* MET_BANDS: bands.cpp */
std::unique_ptr<Features> bands_of_pixels(const Subject &subject);  /* the same, NULL likewise (bands_of_pixels.cpp) */
std::unique_ptr<Features> with_windows(const Subject &subject);     /* MET_BOX: windows.cpp */
std::unique_ptr<Features> of_pixels(const Subject &subject);        /* the same, pixel by pixel: pixel_sums.cpp */
std::unique_ptr<Features> whole_points(const Subject &subject);     /* the same without a shared part */
std::unique_ptr<Features> whole_samples(const Subject &subject);    /* the others too: rendered.cpp */
std::unique_ptr<Features> without_segments(const Subject &subject); /* MET_SEGMENTS: segment_sums.cpp */

/* Whether a node computes an affine function of what depends on the input. */
bool is_affine(const Program &p, const Node &node);

/* The positions behind each node that is affine and follows none that is not, in order. */
std::vector<size_t> affine_positions(const Program &p);

/* A value (1, ...) as (places, features); the features lie along the last axis, or along axis 1. */
at::Tensor as_places(const at::Tensor &value, bool features_last);

/* More memory than this for what is kept of one group of images is not worth it. */
const double MOST_KEPT_BYTES = 512 << 20;

/* Seconds to make, or to add, a byte of features: bound by memory. */
const double SECONDS_A_BYTE = 4e-10;
/* A pass forward and back takes about as long as so many forward. */
const double PASSES = 3;

/* Bytes of a value for one sample. */
double bytes_of(const Value &value);

/* The same of all values that are live at a position. */
double bytes_live(const Program &p, size_t position);

/*
 * The cheapest cut behind operators that are affine in the input. before(position): seconds for one sample of what is done
 * in front of it. Throws Declined where nothing is gained.
 */
size_t affine_stop(const Subject &subject, const std::function<double(size_t)> &before);

/* The segment of each value of an image of that shape, of size 1 along axes that it does not depend on; a view. */
at::Tensor segment_ids(const met_segments &segments, at::IntArrayRef image);

/*
 * Which places of an image (1, d0, d1, d2) have a segment that is flagged, to broadcast with it. flags (segments + 1,): the
 * first is that of places in no segment.
 */
at::Tensor flagged_places(const at::Tensor &flags, const met_segments &segments, const at::Tensor &image);

/* Which bands of a sample take the baseline's values, as flags; none: it is a copy of its image. `axis`: of an image. */
std::vector<uint8_t> replaced_bands(const met_sample &s, int axis, int64_t bands);

/*
 * Values (1, ...) with the bands apart along axis `along`, as a sample that replaces bands has them. `axis`: of the bands in
 * an image.
 */
at::Tensor without(const met_sample &s, int axis, const at::Tensor &image, const at::Tensor &baseline, int along);

/* A sample of an image (1, ...), not of points between two (whole_points). `bands`: the axis of the bands in an image. */
at::Tensor rendered(const met_sample &s, int bands, const at::Tensor &image, const at::Tensor &baseline);

/* Whether no value is so much larger than the rest (-9999 for no data, say) that differences lose the others' digits. */
bool differences_keep_digits(const at::Tensor &images, const at::Tensor &baselines);

/* The arguments of a node that depend on the input. */
std::vector<size_t> dependent_arguments(const Program &p, const Node &node);

/* A program up to node `to`, which is run on at most `most` of the images at a time. */
struct Prefix {
    const Program &program;
    const Model &model;
    const std::vector<int64_t> &origins;
    size_t most;
    size_t to;
    bool in_double;
    /* Those values for all images; autograd records as the thread's grad mode says. */
    std::vector<Evaluated> of(const at::Tensor &images, const std::vector<int> &wanted) const;
};

/* The same without autograd, all images together. */
std::vector<at::Tensor> values_of(const Inputs &inputs, const at::Tensor &images, const std::vector<int> &wanted,
                                  size_t to, bool in_double = false);

/* Where a sample is on the line from the baseline, 0, to the image, 1. */
inline double point_of(const met_sample &s) {
    return s.kind == MET_IDENTITY ? 1 : s.alpha;
}

/* Values at a cut, (images, ...) by live value, and what is added to them on the way to the images'. */
struct Ends {
    std::vector<at::Tensor> baseline, way;
};

/* Those at a cut for features, which keep the images' graph where that costs little. */
Ends ends_at(const Subject &subject, size_t cut, Features *features);

/* The values of all images, by live value, without the graph. */
std::vector<at::Tensor> joined(const std::vector<Evaluated> &parts);

/* Values that may have been made in double, in the dtypes of the program's values `of`. */
std::vector<at::Tensor> narrowed(const Program &p, std::vector<at::Tensor> values, const std::vector<int> &of);

/* Whether parts of a run may be made in double, which tells more than the run itself. */
bool is_narrow(const Inputs &inputs);

/* What one sample takes in double up to node `to`; infinite where that is not to be had, or takes much memory. */
double seconds_in_double(const Subject &subject, size_t to);

/* Whether `evaluations` evaluations in double of what is before node `to` cost little beside the job. */
bool is_cheap_in_double(const Subject &subject, size_t to, double evaluations);

/* The same as features from there on: laid out in memory as convolutions behind `to` like it. */
std::vector<at::Tensor> laid_out(const Inputs &inputs, std::vector<at::Tensor> values, size_t to);

} // namespace bridge

#endif
