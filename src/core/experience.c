/*
 * experience.c - see experience.h. Models are explained many times. Trying a shortcut costs some evaluations, so one that
 * was declined, or was slower than the plain path, is not tried at every call: the pauses double as it stays in vain, and
 * end, since a model may change. Nothing here changes a result by more than which of the two paths was taken.
 */
#include "experience.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Forms of jobs that are remembered; the oldest makes room. */
#define FORMS 16
/* Calls between two trials, at first and at last. */
#define FIRST_PAUSE 4
#define LONGEST_PAUSE 64
/*
 * A shortcut that took more of the plain path's expected time than this is in doubt: one call then times the plain path.
 * What is expected of batches is rough, and one call that is short costs little.
 */
#define IN_DOUBT 0.8
#define IN_DOUBT_ROUGH 0.25
#define SHORT_SECONDS 2.0
/* A shortcut must save at least this part of the plain path's time: timings vary by a few per cent. */
#define SAVED 0.03

typedef struct form {
    met_kind kind;
    met_dtype dtype;
    size_t images, evaluations, shape[MET_AXES];
    bool gradient, reference, all_outputs;
} form;

typedef struct entry {
    form of;
    double plain;       /* seconds of the fastest run; 0: none */
    double shortcut;    /* of the latest runs, a mean with weights that halve: plans differ from run to run */
    double alone;       /* of one sample alone on the plain path, the least */
    bool prepared;      /* a call has done what later ones need not do again */
    size_t left, pause; /* calls until the next trial; the length of that pause */
    met_decline reason;
    char why[160];
} entry;

struct met_experience {
    atomic_flag taken;
    size_t count, next;
    size_t company; /* calls until samples are asked in company again */
    entry entries[FORMS];
};

static void lock(met_experience *x) {
    while (atomic_flag_test_and_set_explicit(&x->taken, memory_order_acquire)) {}
}

static void unlock(met_experience *x) {
    atomic_flag_clear_explicit(&x->taken, memory_order_release);
}

met_experience *met_experience_new(void) {
    met_experience *x = met_allocate(1, sizeof *x);
    if (x != NULL) {
        memset(x, 0, sizeof *x);
        atomic_flag_clear(&x->taken);
    }
    return x;
}

void met_experience_free(met_experience *experience) {
    met_deallocate(experience);
}

static form form_of(const met_job *job) {
    form f;
    memset(&f, 0, sizeof f); /* padding too: forms are compared as memory */
    f.kind = job->kind;
    f.dtype = job->dtype;
    f.images = job->images;
    f.evaluations = job->evaluations;
    memcpy(f.shape, job->inputs[0].image.shape, sizeof f.shape);
    f.gradient = job->gradient;
    f.reference = job->reference;
    f.all_outputs = job->all_outputs;
    return f;
}

/* The entry of jobs of this form; NULL: there is none. */
static entry *find(met_experience *x, const form *f) {
    for (size_t i = 0; i < x->count; i++) {
        if (memcmp(&x->entries[i].of, f, sizeof *f) == 0) {
            return &x->entries[i];
        }
    }
    return NULL;
}

static entry *find_or_add(met_experience *x, const form *f) {
    entry *found = find(x, f);
    if (found == NULL) {
        found = &x->entries[x->next];
        x->next = (x->next + 1) % FORMS;
        x->count += x->count < FORMS;
        *found = (entry){0};
        memcpy(&found->of, f, sizeof *f); /* with its padding */
    }
    return found;
}

bool met_experience_advises_against(met_experience *experience, const met_job *job, met_decline *reason, char *why,
                                    size_t n) {
    const form f = form_of(job);
    bool against = false;
    if (experience == NULL) {
        return false;
    }
    lock(experience);
    entry *known = find(experience, &f);
    if (known != NULL && known->left > 0) {
        known->left--;
        *reason = known->reason;
        snprintf(why, n, "%s", known->why);
        against = true;
    }
    unlock(experience);
    return against;
}

static double least(double a, double b) {
    return a > 0 && (a < b || b == 0) ? a : b;
}

double met_experience_alone(met_experience *experience, const met_job *job) {
    const form f = form_of(job);
    double alone = 0;
    if (experience == NULL) {
        return 0;
    }
    lock(experience);
    const entry *known = find(experience, &f);
    if (known != NULL && known->prepared && known->left == 0 && known->pause == 0) {
        alone = known->alone;
    }
    unlock(experience);
    return alone;
}

bool met_experience_knows(met_experience *experience, const met_job *job) {
    const form f = form_of(job);
    bool known = false;
    if (experience != NULL) {
        lock(experience);
        known = find(experience, &f) != NULL;
        unlock(experience);
    }
    return known;
}

bool met_experience_knows_company(met_experience *experience) {
    bool known = false;
    if (experience != NULL) {
        lock(experience);
        known = experience->company > 0;
        experience->company -= known ? 1 : 0;
        unlock(experience);
    }
    return known;
}

void met_experience_note_company(met_experience *experience) {
    if (experience != NULL) {
        lock(experience);
        experience->company = LONGEST_PAUSE;
        unlock(experience);
    }
}

/* Render the next `calls` calls. */
static void pause_for(entry *known, size_t calls, met_decline reason, const char *why) {
    known->left = calls;
    known->reason = reason;
    snprintf(known->why, sizeof known->why, "%s", why);
}

static void pause_longer(entry *known, met_decline reason, const char *why) {
    const size_t twice = known->pause == 0 ? FIRST_PAUSE : 2 * known->pause;
    known->pause = met_min_size(twice, LONGEST_PAUSE);
    pause_for(known, known->pause, reason, why);
}

void met_experience_note(met_experience *experience, const met_job *job, bool tried, met_decline reason,
                         const char *why, double seconds, double plain, bool rough, double alone) {
    const form f = form_of(job);
    if (experience == NULL) {
        return;
    }
    lock(experience);
    entry *known = find_or_add(experience, &f);
    known->alone = least(known->alone, alone);
    if (!tried) {
        known->plain = least(known->plain, seconds);
    } else if (reason != MET_DECLINE_NONE) {
        pause_longer(known, reason, why);
    } else if (known->plain > 0 && !known->prepared) { /* the first of several takes longer than the others */
        known->prepared = true;
    } else {
        known->prepared = true;
        known->shortcut = known->shortcut > 0 ? (known->shortcut + seconds) / 2 : seconds;
        if (known->plain > 0 && known->shortcut > (1 - SAVED) * known->plain) {
            pause_longer(known, MET_DECLINE_LITTLE_WORK, "slower than the model's own calls");
        } else if (known->plain == 0 && plain > 0 &&
                   seconds > plain * (rough && seconds < SHORT_SECONDS ? IN_DOUBT_ROUGH : IN_DOUBT)) {
            pause_for(known, 1, MET_DECLINE_LITTLE_WORK, "it may save little (this call times the model's own)");
        } else {
            known->pause = 0;
        }
    }
    unlock(experience);
}
