/*
 * experience.h - what earlier runs on a model have taught: for jobs of one form, what either path took, and whether
 * preparing the shortcut was in vain.
 */
#ifndef MET_EXPERIENCE_H
#define MET_EXPERIENCE_H

#include "engine.h"

/* Empty; NULL where there is no memory. The caller's to free. */
met_experience *met_experience_new(void);
void met_experience_free(met_experience *experience);

/*
 * Whether a run of this job is to be rendered without trying the shortcut, as earlier ones have taught. Then why (n bytes)
 * says what they found. Every call counts: what was in vain is tried again after a while.
 */
bool met_experience_advises_against(met_experience *experience, const met_job *job, met_decline *reason, char *why,
                                    size_t n);

/*
 * Seconds that one sample alone has taken, where the latest run of such a job took the shortcut and nothing speaks against
 * it; 0: else.
 */
double met_experience_alone(met_experience *experience, const met_job *job);

/* Whether a job of this form was run before. */
bool met_experience_knows(met_experience *experience, const met_job *job);

/* Whether a call not long ago has shown that samples of a batch do not influence each other (company.c); and to note one. */
bool met_experience_knows_company(met_experience *experience);
void met_experience_note_company(met_experience *experience);

/*
 * Note a run that was completed.
 *   tried    whether the shortcut was prepared
 *   reason   why it was not taken in the end; MET_DECLINE_NONE: it was
 *   seconds  the whole run
 *   plain    what the plain path would have taken, as it is expected; 0: unknown
 *   rough    whether that is expected of batches, from what a sample took alone
 *   alone    what one sample took alone on the plain path; 0: unknown
 */
void met_experience_note(met_experience *experience, const met_job *job, bool tried, met_decline reason,
                         const char *why, double seconds, double plain, bool rough, double alone);

#endif
