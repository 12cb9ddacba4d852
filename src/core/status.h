/*
 * status.h - how functions report failure: a met_status, and one sentence for the user in met_detail().
 * Outputs are written on success only.
 */
#ifndef MET_STATUS_H
#define MET_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum met_status {
    MET_OK = 0,
    MET_ENOMEM,     /* memory could not be had */
    MET_EVALUE,     /* an argument has an unusable value */
    MET_ETYPE,      /* an argument has an unusable type */
    MET_ESHAPE,     /* shapes do not agree */
    MET_EINDEX,     /* an index is out of range */
    MET_EGRADIENT,  /* the model cannot be differentiated */
    MET_EMODEL,     /* the model broke its contract: wrong shape, wrong dtype */
    MET_EFINITE,    /* NaN or infinity where only finite numbers are wanted */
    MET_ECALLBACK,  /* an exception of the host language is pending: leave it alone */
    MET_ECANCELLED, /* the caller asked to stop */
    MET_EDECLINED,  /* a shortcut does not apply; the detail says why */
    MET_ESINGLE     /* the model must be asked one sample at a time */
} met_status;

/* Store a printf-formatted detail for this thread and return `status`. */
int met_fail(int status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* The detail of this thread's last failure; valid until the next met_fail() on this thread. Never NULL. */
const char *met_detail(void);

/* A short name for a status, such as "out of memory". */
const char *met_status_text(int status);

#ifdef __cplusplus
}
#endif

#endif
