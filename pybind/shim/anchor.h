/* How the collector sees parked fibers.
 *
 * On 3.14t frames, and C code through _PyCStackRef, hold deferred references: they are not counted, and an object
 * lives on only if the collector finds them, from `current_frame` and `c_stack_refs` of some thread state. So
 * each worker has an anchor, a thread state that is never attached, whose two chains run through all fibers
 * parked there:
 *
 *     anchor->current_frame --> frame --> frame --> sentinel --> frame --> sentinel --> NULL
 *                               `---- fiber A ------------'      `--- fiber B ----'
 *
 * and the same for c_stack_refs, through `last_ref`. Only the sentinels' links are written, never those of a
 * frame of CPython's. Linking and unlinking take a few stores; they are made attached, so that a collection, which
 * waits until this thread is at a safe point, never sees them half done.
 */
#ifndef RV_ANCHOR_H
#define RV_ANCHOR_H

#include "shim.h"

#if RV_ANCHOR

static inline _PyThreadStateImpl *rv_impl(PyThreadState *ts) { return (_PyThreadStateImpl *)ts; }

/* Puts a fiber whose state has been saved at the head of the chains. */
static inline void rv_anchor_link(struct rv_worker *w, struct rv_fiber *f) {
    if (RV_FAULTY(RV_FAULT_ANCHOR)) {
        return;
    }
    struct rv_fiber *next = w->parked;
    f->before = NULL;
    f->after = next;
    if (next != NULL) {
        next->before = f;
        f->sentinel.previous = next->saved.current_frame;
        f->last_ref.next = next->saved.c_stack_refs;
    }
    w->parked = f;
    w->anchor->current_frame = f->saved.current_frame;
    rv_impl(w->anchor)->c_stack_refs = RV_FAULTY(RV_FAULT_C_STACK_REFS) ? NULL : f->saved.c_stack_refs;
}

/* Takes it out again, wherever it is. */
static inline void rv_anchor_unlink(struct rv_worker *w, struct rv_fiber *f) {
    if (RV_FAULTY(RV_FAULT_ANCHOR)) {
        return;
    }
    struct rv_fiber *before = f->before, *after = f->after;
    struct _PyInterpreterFrame *frame = f->sentinel.previous;
    struct _PyCStackRef *ref = f->last_ref.next;
    if (after != NULL) {
        after->before = before;
    }
    if (before != NULL) {
        before->after = after;
        before->sentinel.previous = frame;
        before->last_ref.next = ref;
    }
    else {
        w->parked = after;
        w->anchor->current_frame = frame;
        rv_impl(w->anchor)->c_stack_refs = RV_FAULTY(RV_FAULT_C_STACK_REFS) ? NULL : ref;
    }
    /* While it runs, walks from its own thread end at its own sentinel. */
    f->sentinel.previous = NULL;
    f->last_ref.next = NULL;
}

#else

/* Frames hold strong references: only the list is kept, for dumps. */
static inline void rv_anchor_link(struct rv_worker *w, struct rv_fiber *f) {
    f->before = NULL;
    f->after = w->parked;
    if (w->parked != NULL) {
        w->parked->before = f;
    }
    w->parked = f;
}

static inline void rv_anchor_unlink(struct rv_worker *w, struct rv_fiber *f) {
    if (f->after != NULL) {
        f->after->before = f->before;
    }
    if (f->before != NULL) {
        f->before->after = f->after;
    }
    else {
        w->parked = f->after;
    }
}

#endif
#endif
