/* Locks of CPython's own C code that are keyed by OS thread: what a switch does with them.
 *
 * C code takes them by pthread_self(), past everything that can be replaced. So while a fiber runs its thread owns them,
 * as CPython expects; when it leaves its stack they must not look as if the next fiber of that thread owned them.
 *
 * The lock of the C part of `warnings` (3.14) is held while Python's showwarning runs, which may park. It guards
 * single steps of the filters, nothing that has to last across them: so it is treated as a critical section, let
 * go of when its holder leaves its stack and taken again on that stack. Were it kept, a fiber of another worker that warns
 * would block that worker until the holder is resumed, which may need that very worker. On 3.13 it *is* a critical
 * section.
 *
 * The import lock must last: two fibers between whose steps another makes the same module's lock would run the module
 * twice. It is kept, in the fiber's name. Fibers wait for it parked, see locks.c.
 */
#ifndef RV_KEYED_H
#define RV_KEYED_H

#include "shim.h"

static inline _PyRecursiveMutex *rv_import_lock(PyThreadState *ts) { return &ts->interp->imports.lock; }

static inline void rv_rekey(_PyRecursiveMutex *lock, unsigned long long from, unsigned long long to) {
    if (_Py_atomic_load_ullong_relaxed(&lock->thread) == from) {
        _Py_atomic_store_ullong_relaxed(&lock->thread, to);
    }
}

/* The fiber leaves its stack. */
static inline void rv_import_lock_away(struct rv_worker *w, struct rv_fiber *f) {
    rv_rekey(rv_import_lock(w->tstate), w->thread, f->ident);
}

/* It is back. */
static inline void rv_import_lock_back(struct rv_worker *w, struct rv_fiber *f) {
    rv_rekey(rv_import_lock(w->tstate), f->ident, w->thread);
}

#if PY_VERSION_HEX >= 0x030E0000

static inline void rv_warnings_lock_away(struct rv_worker *w, struct rv_fiber *f) {
    _PyRecursiveMutex *lock = &w->tstate->interp->warnings.lock;
    if (_Py_atomic_load_ullong_relaxed(&lock->thread) == w->thread && !RV_FAULTY(RV_FAULT_WARNINGS_LOCK)) {
        f->warnings_level = lock->level + 1;
        lock->level = 0;
        _Py_atomic_store_ullong_relaxed(&lock->thread, 0);
        PyMutex_Unlock(&lock->mutex);
    }
}

static inline void rv_warnings_lock_back(struct rv_fiber *f) {
    if (f->warnings_level != 0) {
        _PyRecursiveMutex *lock = &f->worker->tstate->interp->warnings.lock;
        /* Waits detached. Only who runs can hold it, so this ends. */
        PyMutex_Lock(&lock->mutex);
        _Py_atomic_store_ullong_relaxed(&lock->thread, f->worker->thread);
        lock->level = f->warnings_level - 1;
        f->warnings_level = 0;
    }
}

#else

static inline void rv_warnings_lock_away(struct rv_worker *w, struct rv_fiber *f) { (void)w, (void)f; }
static inline void rv_warnings_lock_back(struct rv_fiber *f) { (void)f; }

#endif
#endif
