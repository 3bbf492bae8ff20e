/* Saving and loading what the tables list. */
#ifndef RV_SWITCH_H
#define RV_SWITCH_H

#include "shim.h"

#define RV_AT_base(ts) (ts)
#define RV_AT_impl(ts) ((_PyThreadStateImpl *)(ts))

/* The values of a new fiber of the worker whose thread state is `ts`. */
static inline void rv_fresh(struct rv_saved *s, struct rv_fiber *f, PyThreadState *ts) {
    (void)ts;
#define RV_ROW(where, type, name, fresh) s->name = fresh;
#define RV_ROW_OWNED(where, name) s->name = NULL;
    RV_FIELDS(RV_ROW, RV_ROW, RV_ROW_OWNED)
#undef RV_ROW
#undef RV_ROW_OWNED
    s->depth = 0;
}

static inline void rv_save_all(struct rv_saved *s, PyThreadState *ts) {
#define RV_ROW(where, type, name, fresh) s->name = RV_AT_##where(ts)->name;
#define RV_ROW_OWNED(where, name) s->name = RV_AT_##where(ts)->name;
    RV_FIELDS(RV_ROW, RV_ROW, RV_ROW_OWNED)
#undef RV_ROW
#undef RV_ROW_OWNED
    s->depth = ts->py_recursion_limit - ts->py_recursion_remaining;
}

static inline void rv_save(struct rv_saved *s, PyThreadState *ts) {
#define RV_ROW(where, type, name, fresh) s->name = RV_AT_##where(ts)->name;
#define RV_ROW_FIXED(where, type, name, fresh)
#define RV_ROW_OWNED(where, name) s->name = RV_AT_##where(ts)->name;
    RV_FIELDS(RV_ROW, RV_ROW_FIXED, RV_ROW_OWNED)
#undef RV_ROW
#undef RV_ROW_FIXED
#undef RV_ROW_OWNED
    s->depth = ts->py_recursion_limit - ts->py_recursion_remaining;
}

static inline void rv_load(const struct rv_saved *s, PyThreadState *ts) {
#ifdef RV_FAULT_INJECTION
    struct rv_saved kept;
    rv_save_all(&kept, ts);
#endif
#define RV_ROW(where, type, name, fresh) RV_AT_##where(ts)->name = s->name;
#define RV_ROW_OWNED(where, name) RV_AT_##where(ts)->name = s->name;
    RV_FIELDS(RV_ROW, RV_ROW, RV_ROW_OWNED)
#undef RV_ROW
#undef RV_ROW_OWNED
    ts->py_recursion_remaining = ts->py_recursion_limit - s->depth;
    /* Contextvars cache values under this number: no two contexts may share one. */
    ts->context_ver++;
#ifdef RV_FAULT_INJECTION
    if (RV_FAULTY(RV_FAULT_THREADING_LOCAL)) {
        ts->threading_local_key = kept.threading_local_key;
        ts->threading_local_sentinel = kept.threading_local_sentinel;
    }
#if PY_VERSION_HEX >= 0x030E0000
    if (RV_FAULTY(RV_FAULT_C_STACK_LIMITS)) {
        RV_AT_impl(ts)->c_stack_top = kept.c_stack_top;
        RV_AT_impl(ts)->c_stack_soft_limit = kept.c_stack_soft_limit;
        RV_AT_impl(ts)->c_stack_hard_limit = kept.c_stack_hard_limit;
    }
#else
    if (RV_FAULTY(RV_FAULT_C_STACK_LIMITS)) {
        ts->c_recursion_remaining = kept.c_recursion_remaining;
    }
#endif
#endif
}

#endif
