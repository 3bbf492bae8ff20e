/* What replaces the lock methods of `_thread`, `get_ident` and the import lock: locks.c makes them, install.c puts
 * them in place, and ../src/locks.rs waits. README.md argues why no wake-up is lost. */
#ifndef RV_LOCKS_H
#define RV_LOCKS_H

#include "shim.h"

/* The two ways CPython makes locks, told apart at start: 3.13 has both.
 *   a byte: PyMutex, with waiters in CPython's parking lot;
 *   a semaphore: PyThread_type_lock, with waiters in the kernel. */

/* `_thread.lock` */
struct rv_byte_lock {
    PyObject_HEAD
    PyMutex mutex;
};

struct rv_semaphore_lock {
    PyObject_HEAD
    PyThread_type_lock lock;
    PyObject *weakrefs;
    char locked;
};

/* `_thread.RLock` */
struct rv_byte_rlock {
    PyObject_HEAD
    _PyRecursiveMutex lock;
};

struct rv_semaphore_rlock {
    PyObject_HEAD
    PyThread_type_lock lock;
    PyThread_ident_t owner;
    unsigned long count;
    PyObject *weakrefs;
};

/* The methods of one kind of object. */
struct rv_lock_methods {
    PyCFunctionWithKeywords acquire;
    PyCFunction release;
    PyCFunction is_owned;
    PyCFunction recursion_count;
    PyCFunction release_save;
    PyCFunction acquire_restore;
    PyCFunction at_fork_reinit;
};

extern const struct rv_lock_methods rv_byte_lock_methods, rv_semaphore_lock_methods;
extern const struct rv_lock_methods rv_byte_rlock_methods, rv_semaphore_rlock_methods;

/* What the methods were before: plain threads still use them to wait. */
extern struct rv_lock_originals {
    PyCFunctionWithKeywords lock_acquire;
    PyCFunction lock_at_fork_reinit;
    PyCFunctionWithKeywords rlock_acquire;
    PyCFunction rlock_acquire_restore;
    PyCFunction rlock_at_fork_reinit;
    PyCFunction import_acquire;
    PyCFunction exec_dynamic;
    PyCFunction exec_builtin;
    PyCFunction fork;
    PyCFunction forkpty;
    PyCFunction main_ident;
    PyCFunction current_frames;
    PyCFunctionFast pthread_kill;
    PyCFunction cpu_clock;
} rv_originals;

PyObject *rv_get_ident(PyObject *module, PyObject *unused);
PyObject *rv_get_main_ident(PyObject *module, PyObject *unused);
PyObject *rv_current_frames(PyObject *module, PyObject *unused);
PyObject *rv_pthread_kill(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *rv_cpu_clock(PyObject *module, PyObject *args);
PyObject *rv_import_acquire(PyObject *module, PyObject *unused);
PyObject *rv_import_release(PyObject *module, PyObject *unused);
PyObject *rv_exec_dynamic(PyObject *module, PyObject *loaded);
PyObject *rv_exec_builtin(PyObject *module, PyObject *loaded);
PyObject *rv_fork(PyObject *module, PyObject *unused);
PyObject *rv_forkpty(PyObject *module, PyObject *unused);

/* Set in the child of a fork in a fiber, whose worker's runtime is gone: nothing may park there any more. */
extern int rv_orphaned;
/* Whether a wait here parks a fiber. */
static inline int rv_may_park(void) { return rv_place() == RV_PLACE_FIBER; }
/* Sets it, in that child. */
void rv_orphan(void);

/* ../src/locks.rs. Attached; timeouts in nanoseconds, negative for none; they give 1 when it was locked, 0 when time was
 * up, -1 with an exception. `shielded`: not to be cancelled. */
int rv_park_for_byte(uint8_t *byte, int64_t timeout, int shielded);
/* By where the object keeps it: _at_fork_reinit replaces it. */
int rv_park_for_semaphore(void *const *lock, int64_t timeout, int shielded);
/* Unlocks, with waiters of both kinds looked after; 0 if it was not locked. */
int rv_unlock_byte(uint8_t *byte);
/* As PyThread_release_lock; `locked`, if given, is cleared when nobody is handed the lock. */
void rv_unlock_semaphore(void *const *lock, char *locked);
/* Has the fibers that wait for a lock look at it again. */
void rv_nudge(const void *address);

/* locks.c. A PyMutex for C code, held across waits: a fiber parks for it, a thread waits detached. As rv_park_for_byte. */
int rv_mutex_lock(PyMutex *mutex, PyTime_t timeout);
void rv_mutex_unlock(PyMutex *mutex);

/* ../src/guards.rs. Enters an object: 1; 0 if the caller is inside already; -1 with an exception. */
int rv_enter(const void *object, unsigned long long ident, int in_fiber);
void rv_leave(const void *object);

/* buffered.c and callbacks.c: parts of rv_install. */
void rv_guard_buffered(PyObject *io);
void rv_mark_callbacks(void);

/* For Rust. */
void rv_nudge_import_lock(void);
/* Wakes the first thread that waits for a PyMutex: see ForeignWaiters::wake_one. */
int rv_wake_thread(uint8_t *byte, int keep);
/* 1 if it was taken. Never waits. */
int rv_try_semaphore(void *const *lock);
void rv_post_semaphore(void *const *lock);
/* Whether the caller is code that must not fail for having been cancelled. */
int rv_in_bookkeeping(void);

#endif
