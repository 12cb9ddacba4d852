/* What calls on a model teach later ones. */
#include "check.h"
#include "experience.h"
#include "script.h"

static bool advises_against(met_experience *x, const met_job *job, met_decline *reason) {
    char why[160];
    *reason = MET_DECLINE_NONE;
    return met_experience_advises_against(x, job, reason, why, sizeof why);
}

/* How many calls in a row are advised against. */
static size_t pause_of(met_experience *x, const met_job *job) {
    met_decline reason;
    size_t n = 0;
    while (n < 1000 && advises_against(x, job, &reason)) {
        n++;
    }
    return n;
}

void test_experience_of_declined_shortcuts(void) {
    script m;
    script_make_inputs();
    const met_job job = script_job(&m, MET_BOX);
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    CHECK_INT(pause_of(x, &job), 0);
    size_t last = 0;
    for (int i = 0; i < 10; i++) { /* pauses grow, and end */
        met_experience_note(x, &job, true, MET_DECLINE_STRUCTURE, "for a reason", 1, 1, false, 0);
        const size_t pause = pause_of(x, &job);
        CHECK(pause > last || (pause == last && pause < 100));
        last = pause;
    }
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 0.1, 1, false, 0);
    CHECK_INT(pause_of(x, &job), 0);
    met_experience_note(x, &job, true, MET_DECLINE_VALUES, "for a reason", 1, 1, false, 0);
    CHECK(pause_of(x, &job) < last); /* it was taken in between */
    met_experience_free(x);
}

void test_experience_of_slow_shortcuts(void) {
    script m;
    script_make_inputs();
    met_job job = script_job(&m, MET_LERP);
    met_decline reason;
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 9.5, 10, false, 0); /* in doubt: the plain path is timed */
    CHECK(advises_against(x, &job, &reason));
    CHECK_INT(reason, MET_DECLINE_LITTLE_WORK);
    met_experience_note(x, &job, false, MET_DECLINE_NONE, "", 9, 10, false, 0);
    CHECK_INT(pause_of(x, &job), 0);
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 9.5, 10, false, 0); /* slower than that */
    CHECK(pause_of(x, &job) > 1);
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 5, 10, false, 0); /* the model has changed, say */
    CHECK_INT(pause_of(x, &job), 0);
    job.evaluations--;
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 0.06, 0.1, false, 0);
    CHECK_INT(pause_of(x, &job), 0);
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 0.06, 0.1, true,
                        0); /* what is expected of batches is rough */
    CHECK_INT(pause_of(x, &job), 1);
    met_experience_free(x);
}

/* What a sample takes alone is known where the latest call took the shortcut. */
void test_experience_of_samples_alone(void) {
    script m;
    script_make_inputs();
    const met_job job = script_job(&m, MET_BOX);
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    CHECK(met_experience_alone(NULL, &job) == 0);
    CHECK(met_experience_alone(x, &job) == 0);
    met_experience_note(x, &job, false, MET_DECLINE_NONE, "", 10, 10, false, 0.5);
    CHECK(met_experience_alone(x, &job) == 0); /* it was rendered */
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 1, 10, false, 0);
    CHECK(met_experience_alone(x, &job) == 0.5);
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 1, 10, false, 0.25);
    CHECK(met_experience_alone(x, &job) == 0.25); /* the least */
    met_experience_note(x, &job, true, MET_DECLINE_VALUES, "for a reason", 1, 10, false, 0.25);
    CHECK(met_experience_alone(x, &job) == 0); /* in vain */
    met_experience_free(x);
}

void test_experience_is_of_one_form_of_job(void) {
    script m;
    script_make_inputs();
    met_job job = script_job(&m, MET_BOX), other = job;
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    other.evaluations--;
    met_experience_note(x, &job, true, MET_DECLINE_STRUCTURE, "for a reason", 1, 1, false, 0);
    CHECK_INT(pause_of(x, &other), 0);
    for (size_t n = 1; n <= 40; n++) { /* more forms than are remembered */
        other.evaluations = job.evaluations + n;
        met_experience_note(x, &other, true, MET_DECLINE_STRUCTURE, "for a reason", 1, 1, false, 0);
        CHECK(pause_of(x, &other) > 0);
    }
    CHECK_INT(pause_of(x, &job), 0); /* forgotten: tried again */
    met_experience_free(x);
    CHECK_INT(pause_of(NULL, &job), 0);
    met_experience_note(NULL, &job, true, MET_DECLINE_STRUCTURE, "for a reason", 1, 1, false, 0);
}

/* A job that is declined is not tried again at once, and gives what it gave. */
void test_experience_saves_trials(void) {
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    const met_options options = {.shortcuts = MET_SHORTCUTS_WHERE_FASTER, .experience = x};
    size_t tried[2] = {0, 0};
    for (int call = 0; call < 2; call++) {
        script m;
        toy t;
        met_report report = {.seconds_alone = 1};
        script_make_inputs();
        const met_job job = script_job(&m, MET_BOX);
        toy_init(&t, true);
        t.decline_at = 1;
        t.decline_on = true;
        t.decline_reason = MET_DECLINE_STRUCTURE;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_INT(m.finished, IMAGES);
        CHECK_INT(report.shortcut_evaluations, 0);
        CHECK_INT(report.decline_reason, MET_DECLINE_STRUCTURE);
        tried[call] = t.shortcut_calls;
    }
    CHECK(tried[0] > 0);
    CHECK_INT(tried[1], 0);
    met_experience_free(x);
}

/* A shortcut that would not pay in one call is prepared by the next one, and what was rendered before counts. */
void test_experience_of_postponed_shortcuts(void) {
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    const met_options options = {.shortcuts = MET_SHORTCUTS_WHERE_FASTER, .experience = x, .max_batch_size = 2};
    for (int call = 0; call < 3; call++) {
        script m;
        toy t;
        met_report report = {0};
        script_make_inputs();
        const met_job job = script_job(&m, MET_BOX);
        toy_init(&t, true);
        t.seconds = 4e-3;
        t.decline_at = call == 0 ? 1 : 0;
        t.decline_reason = MET_DECLINE_LITTLE_WORK;
        t.tried.postponed = call == 0;
        REQUIRE(met_run(&job, &t.model, &options, &report) == MET_OK);
        CHECK_INT(m.finished, IMAGES);
        CHECK_INT(report.evaluations, IMAGES * SAMPLES);
        CHECK(t.shortcut_calls > 0);
        CHECK_INT(t.looks, call < 2);
        CHECK(!t.looking);
        if (call == 0) {
            CHECK_INT(report.decline_reason, MET_DECLINE_LITTLE_WORK);
            CHECK_INT(report.evaluations_verifying, 1); /* of a batch, as without a shortcut */
        } else {
            CHECK_STR(report.shortcut, "toy stem");
            CHECK(!t.trial.first);
            CHECK_INT(t.trial.proven, call == 2);
            CHECK_INT(t.trial.images, IMAGES);
        }
    }
    met_experience_free(x);
}

/* The first call that prepares a shortcut does more than later ones: it is not what they are judged by. */
void test_experience_of_first_preparations(void) {
    script m;
    script_make_inputs();
    const met_job job = script_job(&m, MET_BOX);
    met_experience *x = met_experience_new();
    REQUIRE(x != NULL);
    CHECK(!met_experience_knows(x, &job));
    CHECK(!met_experience_knows(NULL, &job));
    met_experience_note(x, &job, false, MET_DECLINE_NONE, "", 10, 10, false, 0);
    CHECK(met_experience_knows(x, &job));
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 12, 10, false, 0);
    CHECK_INT(pause_of(x, &job), 0);
    met_experience_note(x, &job, true, MET_DECLINE_NONE, "", 12, 10, false, 0);
    CHECK(pause_of(x, &job) > 1);
    met_experience_free(x);
}
