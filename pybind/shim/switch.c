/* The switch itself: see README.md for the order of the steps, and why. */
#include "anchor.h"
#include "keyed.h"
#include "switch.h"
#include "tracing.h"

#ifdef RV_FAULT_INJECTION
unsigned rv_faults = 0;

void rv_set_faults(unsigned faults) { rv_faults = faults; }
#endif

struct rv_fiber *rv_fiber_first(void *room, size_t size, uintptr_t stack_low, uintptr_t stack_high,
                                unsigned long long number) {
    struct rv_worker *w = rv_this_worker();
    struct rv_fiber *f = room;
    f->worker = w;
    f->ident = RV_FIBER_IDENT | number;
    f->number = number;
    f->warnings_level = 0;
    f->object = NULL;
    f->stack_low = stack_low;
    f->stack_high = stack_high;
    f->no_preempt = 0;
    f->callbacks = 0;
    f->native_threads = 0;
    f->sqlite_call = NULL;
    f->room_end = (char *)room + (size & ~(size_t)15);
#if RV_ANCHOR
    f->before = f->after = NULL;
    f->last_ref.ref = PyStackRef_NULL;
    f->last_ref.next = NULL;
#endif
    rv_sentinel_init(&f->sentinel);
    _PyStackChunk *chunk = rv_root_chunk(f);
    chunk->previous = NULL;
    chunk->size = (size_t)(f->room_end - (char *)chunk);
    chunk->top = 0;
    rv_fresh(&f->saved, f, w->tstate);
    rv_load(&f->saved, w->tstate);
    f->tracing = (struct rv_tracing){NULL, NULL, NULL, NULL};
    rv_tracing_swap(f, w->tstate);
    w->running = f;
    return f;
}

void rv_fiber_resume(struct rv_fiber *f) {
    struct rv_worker *w = f->worker;
    rv_anchor_unlink(w, f);
    rv_load(&f->saved, w->tstate);
    rv_tracing_swap(f, w->tstate);
    rv_import_lock_back(w, f);
    w->running = f;
}

void rv_fiber_resumed(struct rv_fiber *f) {
    PyThreadState *ts = f->worker->tstate;
    if (ts->critical_section != 0 && !RV_FAULTY(RV_FAULT_CRITICAL_SECTIONS)) {
        /* May wait for the lock, detached. Only a running fiber can hold it, so this ends. */
        _PyCriticalSection_Resume(ts);
    }
    rv_warnings_lock_back(f);
}

void rv_fiber_suspend(struct rv_fiber *f) {
    struct rv_worker *w = f->worker;
    PyThreadState *ts = w->tstate;
    if (__builtin_expect(w->interrupting, 0)) {
        rv_interrupt_away(w);
    }
    if (ts->critical_section != 0 && !RV_FAULTY(RV_FAULT_CRITICAL_SECTIONS)) {
        _PyCriticalSection_SuspendAll(ts);
    }
    rv_warnings_lock_away(w, f);
    rv_import_lock_away(w, f);
    rv_save(&f->saved, ts);
    rv_anchor_link(w, f);
    rv_load(&w->base, ts);
    rv_tracing_swap(f, ts);
    w->running = NULL;
}

void rv_fiber_end(struct rv_fiber *f) {
    struct rv_worker *w = f->worker;
    rv_import_lock_away(w, f);
    rv_load(&w->base, w->tstate);
    rv_tracing_swap(f, w->tstate);
    w->running = NULL;
}
