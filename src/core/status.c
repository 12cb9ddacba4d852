/* status.c - status codes in words, and the detail of the last failure. */
#include "model.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char detail[512];
static _Thread_local met_decline reason;

int met_fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return status;
}

int met_declined(met_decline why, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    reason = why;
    return MET_EDECLINED;
}

met_decline met_decline_reason(void) {
    return reason;
}

const char *met_detail(void) {
    return detail;
}

const char *met_status_text(int status) {
    switch (status) {
    case MET_OK: return "no error";
    case MET_ENOMEM: return "out of memory";
    case MET_EVALUE: return "unusable value";
    case MET_ETYPE: return "unusable type";
    case MET_ESHAPE: return "shapes do not agree";
    case MET_EINDEX: return "index out of range";
    case MET_EGRADIENT: return "model is not differentiable";
    case MET_EMODEL: return "model broke its contract";
    case MET_EFINITE: return "not finite";
    case MET_ECALLBACK: return "exception pending";
    case MET_ECANCELLED: return "cancelled";
    case MET_EDECLINED: return "shortcut declined";
    case MET_ESINGLE: return "one sample at a time";
    default: return "unknown status";
    }
}
