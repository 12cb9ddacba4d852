/* measures.c - sums over the features of an image. */
#include "measures.h"

#include "buffer.h"

/* Sums are made of so many, added up in the end: one after the other would wait for each addition. */
#define LANES ((size_t)8)

/* The value at `at` joins the sums of a lane. */
#define ADD(lane, at) \
    do { \
        const double value = (double)x[at], other = (double)(b != NULL ? b[at] : number); \
        xx[lane] += value * value; \
        bb[lane] += other * other; \
        xb[lane] += value * other; \
        dd[lane] += (value - other) * (value - other); \
        differs |= value != other; \
    } while (0)

/* Sums over n consecutive values of one feature, and whether image and baseline differ there. */
#define MEASURE(T) \
    static void measure_##T(const met_base *base, size_t at, size_t n, size_t place, const met_measures *m) { \
        const T *x = (const T *)base->image + at; \
        const T *b = base->baseline == NULL ? NULL : (const T *)base->baseline + at; \
        const T number = (T)base->baseline_value; \
        bool differs = false; \
        if (m->image == NULL) { \
            for (size_t k = 0; k < n && !m->differs[place]; k++) { \
                m->differs[place] = x[k] != (b != NULL ? b[k] : number); \
            } \
            return; \
        } \
        double xx[LANES] = {0}, bb[LANES] = {0}, xb[LANES] = {0}, dd[LANES] = {0}; \
        size_t i = 0; \
        for (; i + LANES <= n; i += LANES) { \
            for (size_t l = 0; l < LANES; l++) { \
                ADD(l, i + l); \
            } \
        } \
        for (; i < n; i++) { \
            ADD(0, i); \
        } \
        m->differs[place] |= differs; \
        for (size_t l = 0; l < LANES; l++) { \
            m->image[place] += xx[l]; \
            m->baseline[place] += bb[l]; \
            m->cross[place] += xb[l]; \
            m->difference[place] += dd[l]; \
        } \
    }

MEASURE(float)
MEASURE(double)

void met_measure(const met_base *base, const met_segments *features, const met_measures *m) {
    const size_t size = met_base_size(base);
    for (size_t at = 0; at < size;) {
        const met_segment_row row = met_segments_row(features, base->shape, at, size);
        for (size_t i = 0, n; i < row.length; i += n) {
            int32_t id;
            n = met_segment_run(&row, i, &id);
            if (base->dtype == MET_FLOAT64) {
                measure_double(base, at + i, n, (size_t)(id + 1), m);
            } else {
                measure_float(base, at + i, n, (size_t)(id + 1), m);
            }
        }
        at += row.length;
    }
}

int met_measures_new(size_t places, bool sums, met_measures *m) {
    m->differs = met_allocate(places, 1);
    m->image = sums ? met_allocate(places, sizeof *m->image) : NULL;
    m->baseline = sums ? met_allocate(places, sizeof *m->baseline) : NULL;
    m->cross = sums ? met_allocate(places, sizeof *m->cross) : NULL;
    m->difference = sums ? met_allocate(places, sizeof *m->difference) : NULL;
    const bool got = m->differs != NULL &&
                     (!sums || (m->image != NULL && m->baseline != NULL && m->cross != NULL && m->difference != NULL));
    return got ? MET_OK : met_fail(MET_ENOMEM, "sums over %zu features do not fit into memory", places - 1);
}

void met_measures_free(met_measures *m) {
    met_deallocate(m->differs);
    met_deallocate(m->image);
    met_deallocate(m->baseline);
    met_deallocate(m->cross);
    met_deallocate(m->difference);
}
