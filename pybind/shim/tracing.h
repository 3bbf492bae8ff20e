/* Trace and profile functions are a fiber's: a debugger, or a profiler, is set in one and must not follow its worker into
 * others. As a rule nobody has any, so they are no rows of the table of fields: a switch looks, and goes on.
 *
 * Whoever runs has his own in the thread state, and what lies in the fiber is the other's: the worker's base state, which runs no
 * Python, or the fiber's. So the same exchange is made on the way in and on the way out, and each function that is set is in one
 * place, counted once in the interpreter's `sys_tracing_threads`, or `sys_profiling_threads`.
 *
 * Law: both places are written by the worker's own thread, attached, and by whoever has stopped the world (tracing.c, CPython's
 * functions for all threads). */
#ifndef RV_TRACING_H
#define RV_TRACING_H

#include "shim.h"

static inline void rv_tracing_swap(struct rv_fiber *f, PyThreadState *ts) {
    struct rv_tracing *other = &f->tracing;
    if (ts->c_tracefunc == NULL && ts->c_profilefunc == NULL && other->trace == NULL && other->profile == NULL) {
        return;
    }
    struct rv_tracing own = {ts->c_tracefunc, ts->c_profilefunc, ts->c_traceobj, ts->c_profileobj};
    ts->c_tracefunc = other->trace;
    ts->c_profilefunc = other->profile;
    ts->c_traceobj = other->trace_object;
    ts->c_profileobj = other->profile_object;
    *other = own;
}

/* At a fiber's end, as PyThreadState_Clear: 0 if there was nothing to take away. */
int rv_tracing_clear(PyThreadState *ts);

#endif
