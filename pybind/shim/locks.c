/* Lock methods that know fibers.
 *
 * Who acquires: on a thread that is no worker, the method CPython had, which waits as it always did. A fiber takes the
 * lock if it is free, or else parks. Who releases, fiber or thread, looks for waiters of both kinds.
 *
 * An RLock belongs to the fiber: rv_ident() stands where CPython has the thread's ident.
 */
#include "locks.h"
#include "keyed.h"

#include <internal/pycore_lock.h>
#include <internal/pycore_parking_lot.h>
#include <internal/pycore_time.h>

struct rv_lock_originals rv_originals;

#define SECOND 1000000000LL

/* How long code that runs where nothing can park, between two fibers or in a callback of C code, waits for a lock before it
 * gives up. Its holder may be a fiber of this very worker. */
#define PATIENCE (1 * SECOND)

static int parse(PyObject *args, PyObject *kwargs, PyTime_t *timeout) {
    static char *names[] = {"blocking", "timeout", NULL};
    const PyTime_t unset = -SECOND;
    int blocking = 1;
    PyObject *object = NULL;
    *timeout = unset;
    if (PyTuple_GET_SIZE(args) == 0 && kwargs == NULL) {
        return 0;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pO:acquire", names, &blocking, &object)) {
        return -1;
    }
    if (object != NULL && _PyTime_FromSecondsObject(timeout, object, _PyTime_ROUND_TIMEOUT) < 0) {
        return -1;
    }
    if (!blocking && *timeout != unset) {
        PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
        return -1;
    }
    if (*timeout < 0 && *timeout != unset) {
        PyErr_SetString(PyExc_ValueError, "timeout value must be a non-negative number");
        return -1;
    }
    if (!blocking) {
        *timeout = 0;
    }
    else if (*timeout != unset && *timeout / 1000 >= PY_TIMEOUT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return -1;
    }
    return 0;
}

/* Waits on a worker that cannot park: between two fibers, in a callback, as the only thread in the child of a fork, or in
 * another interpreter. */
static int wait_natively(int (*wait)(void *lock, PyTime_t timeout), void *lock, PyTime_t timeout) {
    int place = rv_place();
    if (place == RV_PLACE_ORPHAN || place == RV_PLACE_THREAD) {
        return wait(lock, timeout);
    }
    int bounded = timeout < 0 || timeout > PATIENCE;
    int locked = wait(lock, bounded ? PATIENCE : timeout);
    if (locked == 0 && bounded) {
        PyErr_Format(PyExc_RuntimeError, "roving: cannot wait here for a lock that others hold: this runs %s",
                     place == RV_PLACE_BETWEEN ? "between two fibers" : "in a callback of C code");
        return -1;
    }
    return locked;
}

/* ---- bytes ---- */

static inline int byte_try(PyMutex *m) {
    uint8_t v = _Py_atomic_load_uint8_relaxed(&m->_bits);
    while (!(v & _Py_LOCKED)) {
        if (_Py_atomic_compare_exchange_uint8(&m->_bits, &v, v | _Py_LOCKED)) {
            return 1;
        }
    }
    return 0;
}

static int byte_wait_natively(void *lock, PyTime_t timeout) {
    PyMutex *m = lock;
#if PY_VERSION_HEX >= 0x030E0000
    PyLockStatus status = _PyMutex_LockTimed(m, timeout, _PY_LOCK_DETACH | _PY_LOCK_HANDLE_SIGNALS);
    return status == PY_LOCK_INTR ? -1 : status == PY_LOCK_ACQUIRED;
#else
    /* 3.13 does not export a wait with a timeout. */
    PyTime_t now, end;
    (void)PyTime_MonotonicRaw(&now);
    end = timeout < 0 ? PyTime_MAX : now + timeout;
    while (!byte_try(m)) {
        if (now >= end) {
            return 0;
        }
        Py_BEGIN_ALLOW_THREADS
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
        (void)PyTime_MonotonicRaw(&now);
    }
    return 1;
#endif
}

static int byte_lock(PyMutex *m, PyTime_t timeout, int shielded) {
    if (byte_try(m)) {
        return 1;
    }
    if (timeout == 0) {
        return 0;
    }
    if (rv_may_park()) {
        return rv_park_for_byte(&m->_bits, timeout, shielded);
    }
    return wait_natively(byte_wait_natively, m, timeout);
}

/* 0 if it was not locked. */
static inline int byte_unlock(PyMutex *m) {
    uint8_t v = _Py_LOCKED;
    return _Py_atomic_compare_exchange_uint8(&m->_bits, &v, _Py_UNLOCKED) || rv_unlock_byte(&m->_bits);
}

int rv_mutex_lock(PyMutex *m, PyTime_t timeout) {
    if (rv_worker_here != NULL || byte_try(m)) {
        return rv_worker_here == NULL ? 1 : byte_lock(m, timeout, 0);
    }
    return timeout == 0 ? 0 : byte_wait_natively(m, timeout);
}

void rv_mutex_unlock(PyMutex *m) { (void)byte_unlock(m); }

/* What threads that wait for a PyMutex leave for whoever unlocks it: in the same layout since 3.13. */
struct mutex_entry {
    PyTime_t time_to_be_fair;
    int handed_off;
};

struct wake {
    uint8_t *byte;
    int keep;
    int found;
};

static void wake_entry(void *arg, void *park_arg, int has_more_waiters) {
    struct wake *wake = arg;
    struct mutex_entry *entry = park_arg;
    uint8_t v = 0;
    if (entry == NULL) {
        if (!wake->keep) {
            _Py_atomic_store_uint8(wake->byte, 0);
        }
        return;
    }
    PyTime_t now;
    (void)PyTime_MonotonicRaw(&now);
    wake->found = 1;
    entry->handed_off = now > entry->time_to_be_fair;
    if (entry->handed_off) {
        v |= _Py_LOCKED;
    }
    if (has_more_waiters || wake->keep) {
        v |= _Py_HAS_PARKED;
    }
    _Py_atomic_store_uint8(wake->byte, v);
}

int rv_wake_thread(uint8_t *byte, int keep) {
    struct wake wake = {byte, keep, 0};
    _PyParkingLot_Unpark(byte, wake_entry, &wake);
    return wake.found;
}

/* ---- semaphores ---- */

int rv_try_semaphore(void *const *lock) { return PyThread_acquire_lock(*lock, NOWAIT_LOCK); }

void rv_post_semaphore(void *const *lock) { PyThread_release_lock(*lock); }

static int semaphore_wait_natively(void *lock, PyTime_t timeout) {
    PyLockStatus status;
    PY_TIMEOUT_T us = timeout < 0 ? -1 : (timeout + 999) / 1000;
    Py_BEGIN_ALLOW_THREADS
    status = PyThread_acquire_lock_timed(lock, us, 0);
    Py_END_ALLOW_THREADS
    return status == PY_LOCK_ACQUIRED;
}

static int semaphore_lock(PyThread_type_lock *lock, PyTime_t timeout, int shielded) {
    if (PyThread_acquire_lock(*lock, NOWAIT_LOCK)) {
        return 1;
    }
    if (timeout == 0) {
        return 0;
    }
    if (rv_may_park()) {
        return rv_park_for_semaphore(lock, timeout, shielded);
    }
    return wait_natively(semaphore_wait_natively, *lock, timeout);
}

/* ---- _thread.lock ---- */

#define BYTE_LOCK(op) (&((struct rv_byte_lock *)(op))->mutex)
#define SEMAPHORE_LOCK(op) ((struct rv_semaphore_lock *)(op))

static PyObject *lock_reinit(PyObject *op, PyObject *unused, const void *address) {
    PyObject *result = rv_originals.lock_at_fork_reinit(op, unused);
    rv_nudge(address);
    return result;
}

static PyObject *byte_lock_acquire(PyObject *op, PyObject *args, PyObject *kwargs) {
    PyTime_t timeout;
    if (rv_worker_here == NULL) {
        return rv_originals.lock_acquire(op, args, kwargs);
    }
    if (parse(args, kwargs, &timeout) < 0) {
        return NULL;
    }
    int locked = byte_lock(BYTE_LOCK(op), timeout, 0);
    return locked < 0 ? NULL : PyBool_FromLong(locked);
}

static PyObject *byte_lock_release(PyObject *op, PyObject *Py_UNUSED(unused)) {
    if (!byte_unlock(BYTE_LOCK(op))) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *byte_lock_reinit(PyObject *op, PyObject *unused) { return lock_reinit(op, unused, BYTE_LOCK(op)); }

const struct rv_lock_methods rv_byte_lock_methods = {
    .acquire = byte_lock_acquire, .release = byte_lock_release, .at_fork_reinit = byte_lock_reinit};

static PyObject *semaphore_lock_acquire(PyObject *op, PyObject *args, PyObject *kwargs) {
    PyTime_t timeout;
    if (rv_worker_here == NULL) {
        return rv_originals.lock_acquire(op, args, kwargs);
    }
    if (parse(args, kwargs, &timeout) < 0) {
        return NULL;
    }
    int locked = semaphore_lock(&SEMAPHORE_LOCK(op)->lock, timeout, 0);
    if (locked > 0) {
        SEMAPHORE_LOCK(op)->locked = 1;
    }
    return locked < 0 ? NULL : PyBool_FromLong(locked);
}

static PyObject *semaphore_lock_release(PyObject *op, PyObject *Py_UNUSED(unused)) {
    struct rv_semaphore_lock *self = SEMAPHORE_LOCK(op);
    if (!self->locked) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return NULL;
    }
    rv_unlock_semaphore(&self->lock, &self->locked);
    Py_RETURN_NONE;
}

static PyObject *semaphore_lock_reinit(PyObject *op, PyObject *unused) {
    return lock_reinit(op, unused, &SEMAPHORE_LOCK(op)->lock);
}

const struct rv_lock_methods rv_semaphore_lock_methods = {
    .acquire = semaphore_lock_acquire, .release = semaphore_lock_release, .at_fork_reinit = semaphore_lock_reinit};

/* ---- _thread.RLock ---- */

#define BYTE_RLOCK(op) (&((struct rv_byte_rlock *)(op))->lock)
#define SEMAPHORE_RLOCK(op) ((struct rv_semaphore_rlock *)(op))

static PyObject *not_owned(void) {
    PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
    return NULL;
}

static int parse_state(PyObject *args, Py_ssize_t *count, unsigned long long *owner) {
    return PyArg_ParseTuple(args, "(nK):_acquire_restore", count, owner) ? 0 : -1;
}

static inline int byte_owned(_PyRecursiveMutex *lock) {
    return _Py_atomic_load_ullong_relaxed(&lock->thread) == rv_ident();
}

static PyObject *byte_rlock_acquire(PyObject *op, PyObject *args, PyObject *kwargs) {
    _PyRecursiveMutex *lock = BYTE_RLOCK(op);
    PyTime_t timeout;
    if (rv_worker_here == NULL) {
        return rv_originals.rlock_acquire(op, args, kwargs);
    }
    if (parse(args, kwargs, &timeout) < 0) {
        return NULL;
    }
    unsigned long long me = rv_ident();
    if (_Py_atomic_load_ullong_relaxed(&lock->thread) == me) {
        lock->level++;
        Py_RETURN_TRUE;
    }
    int locked = byte_lock(&lock->mutex, timeout, 0);
    if (locked > 0) {
        _Py_atomic_store_ullong_relaxed(&lock->thread, me);
    }
    return locked < 0 ? NULL : PyBool_FromLong(locked);
}

static PyObject *byte_rlock_release(PyObject *op, PyObject *Py_UNUSED(unused)) {
    _PyRecursiveMutex *lock = BYTE_RLOCK(op);
    if (!byte_owned(lock)) {
        return not_owned();
    }
    if (lock->level > 0) {
        lock->level--;
    }
    else {
        _Py_atomic_store_ullong_relaxed(&lock->thread, 0);
        byte_unlock(&lock->mutex);
    }
    Py_RETURN_NONE;
}

static PyObject *byte_rlock_is_owned(PyObject *op, PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(byte_owned(BYTE_RLOCK(op)));
}

static PyObject *byte_rlock_recursion_count(PyObject *op, PyObject *Py_UNUSED(unused)) {
    _PyRecursiveMutex *lock = BYTE_RLOCK(op);
    return PyLong_FromSize_t(byte_owned(lock) ? lock->level + 1 : 0);
}

static PyObject *byte_rlock_release_save(PyObject *op, PyObject *Py_UNUSED(unused)) {
    _PyRecursiveMutex *lock = BYTE_RLOCK(op);
    if (!byte_owned(lock)) {
        return not_owned();
    }
    unsigned long long owner = lock->thread;
    Py_ssize_t count = (Py_ssize_t)lock->level + 1;
    lock->level = 0;
    _Py_atomic_store_ullong_relaxed(&lock->thread, 0);
    byte_unlock(&lock->mutex);
    return Py_BuildValue("nK", count, owner);
}

static PyObject *byte_rlock_acquire_restore(PyObject *op, PyObject *args) {
    _PyRecursiveMutex *lock = BYTE_RLOCK(op);
    Py_ssize_t count;
    unsigned long long owner;
    if (rv_worker_here == NULL) {
        return rv_originals.rlock_acquire_restore(op, args);
    }
    if (parse_state(args, &count, &owner) < 0 || byte_lock(&lock->mutex, -1, 1) < 0) {
        return NULL;
    }
    _Py_atomic_store_ullong_relaxed(&lock->thread, owner);
    lock->level = (size_t)count - 1;
    Py_RETURN_NONE;
}

static PyObject *byte_rlock_reinit(PyObject *op, PyObject *unused) {
    PyObject *result = rv_originals.rlock_at_fork_reinit(op, unused);
    rv_nudge(&BYTE_RLOCK(op)->mutex);
    return result;
}

const struct rv_lock_methods rv_byte_rlock_methods = {
    .acquire = byte_rlock_acquire,
    .release = byte_rlock_release,
    .is_owned = byte_rlock_is_owned,
    .recursion_count = byte_rlock_recursion_count,
    .release_save = byte_rlock_release_save,
    .acquire_restore = byte_rlock_acquire_restore,
    .at_fork_reinit = byte_rlock_reinit,
};

static inline int semaphore_owned(struct rv_semaphore_rlock *self) {
    return _Py_atomic_load_ullong_relaxed(&self->owner) == rv_ident();
}

static PyObject *semaphore_rlock_acquire(PyObject *op, PyObject *args, PyObject *kwargs) {
    struct rv_semaphore_rlock *self = SEMAPHORE_RLOCK(op);
    PyTime_t timeout;
    if (rv_worker_here == NULL) {
        return rv_originals.rlock_acquire(op, args, kwargs);
    }
    if (parse(args, kwargs, &timeout) < 0) {
        return NULL;
    }
    if (semaphore_owned(self)) {
        if (self->count + 1 <= self->count) {
            PyErr_SetString(PyExc_OverflowError, "Internal lock count overflowed");
            return NULL;
        }
        self->count++;
        Py_RETURN_TRUE;
    }
    int locked = semaphore_lock(&self->lock, timeout, 0);
    if (locked > 0) {
        _Py_atomic_store_ullong_relaxed(&self->owner, rv_ident());
        self->count = 1;
    }
    return locked < 0 ? NULL : PyBool_FromLong(locked);
}

static PyObject *semaphore_rlock_release(PyObject *op, PyObject *Py_UNUSED(unused)) {
    struct rv_semaphore_rlock *self = SEMAPHORE_RLOCK(op);
    if (!semaphore_owned(self)) {
        return not_owned();
    }
    if (--self->count == 0) {
        _Py_atomic_store_ullong_relaxed(&self->owner, 0);
        rv_unlock_semaphore(&self->lock, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *semaphore_rlock_is_owned(PyObject *op, PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(semaphore_owned(SEMAPHORE_RLOCK(op)));
}

static PyObject *semaphore_rlock_recursion_count(PyObject *op, PyObject *Py_UNUSED(unused)) {
    struct rv_semaphore_rlock *self = SEMAPHORE_RLOCK(op);
    return PyLong_FromUnsignedLong(semaphore_owned(self) ? self->count : 0);
}

static PyObject *semaphore_rlock_release_save(PyObject *op, PyObject *Py_UNUSED(unused)) {
    struct rv_semaphore_rlock *self = SEMAPHORE_RLOCK(op);
    if (!semaphore_owned(self)) {
        return not_owned();
    }
    unsigned long long owner = self->owner;
    Py_ssize_t count = (Py_ssize_t)self->count;
    self->count = 0;
    _Py_atomic_store_ullong_relaxed(&self->owner, 0);
    rv_unlock_semaphore(&self->lock, NULL);
    return Py_BuildValue("nK", count, owner);
}

static PyObject *semaphore_rlock_acquire_restore(PyObject *op, PyObject *args) {
    struct rv_semaphore_rlock *self = SEMAPHORE_RLOCK(op);
    Py_ssize_t count;
    unsigned long long owner;
    if (rv_worker_here == NULL) {
        return rv_originals.rlock_acquire_restore(op, args);
    }
    if (parse_state(args, &count, &owner) < 0 || semaphore_lock(&self->lock, -1, 1) < 0) {
        return NULL;
    }
    _Py_atomic_store_ullong_relaxed(&self->owner, owner);
    self->count = (unsigned long)count;
    Py_RETURN_NONE;
}

static PyObject *semaphore_rlock_reinit(PyObject *op, PyObject *unused) {
    PyObject *result = rv_originals.rlock_at_fork_reinit(op, unused);
    rv_nudge(&SEMAPHORE_RLOCK(op)->lock);
    return result;
}

const struct rv_lock_methods rv_semaphore_rlock_methods = {
    .acquire = semaphore_rlock_acquire,
    .release = semaphore_rlock_release,
    .is_owned = semaphore_rlock_is_owned,
    .recursion_count = semaphore_rlock_recursion_count,
    .release_save = semaphore_rlock_release_save,
    .acquire_restore = semaphore_rlock_acquire_restore,
    .at_fork_reinit = semaphore_rlock_reinit,
};

/* ---- the import lock ---- */

/* While a fiber runs its thread owns the import lock: see keyed.h. */
PyObject *rv_import_acquire(PyObject *module, PyObject *unused) {
    if (rv_worker_here == NULL) {
        return rv_originals.import_acquire(module, unused);
    }
    _PyRecursiveMutex *lock = rv_import_lock(PyThreadState_Get());
    unsigned long long me = rv_thread_ident();
    if (_Py_atomic_load_ullong_relaxed(&lock->thread) == me) {
        lock->level++;
    }
    else {
        if (byte_lock(&lock->mutex, -1, 1) < 0) {
            return NULL;
        }
        _Py_atomic_store_ullong_relaxed(&lock->thread, me);
    }
    /* Held across bytecode, and everybody who imports waits for it. */
    rv_no_preempt(1);
    Py_RETURN_NONE;
}

PyObject *rv_import_release(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    _PyRecursiveMutex *lock = rv_import_lock(PyThreadState_Get());
    if (_Py_atomic_load_ullong_relaxed(&lock->thread) != rv_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "not holding the import lock");
        return NULL;
    }
    rv_no_preempt(-1);
    if (lock->level > 0) {
        lock->level--;
    }
    else {
        _Py_atomic_store_ullong_relaxed(&lock->thread, 0);
        byte_unlock(&lock->mutex);
    }
    Py_RETURN_NONE;
}

/* Whether a name of the innermost Python frame's module and function says that it gives something back, or keeps books
 * that must stay right. */
int rv_in_bookkeeping(void) {
    int shielded = 0;
    PyObject *error = PyErr_GetRaisedException();
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    if (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        PyObject *globals = PyFrame_GetGlobals(frame);
        PyObject *module = PyDict_GetItemString(globals, "__name__");
        const char *name = module != NULL && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : NULL;
        const char *function = PyUnicode_AsUTF8(code->co_name);
        static const char *const keepers[] = {"threading", "queue", "logging", "importlib._bootstrap",
                                              "concurrent.futures._base", "concurrent.futures.thread", NULL};
        for (size_t i = 0; name != NULL && function != NULL && keepers[i] != NULL; i++) {
            /* What waits for something that may never come. */
            shielded |= strcmp(name, keepers[i]) == 0 && strcmp(function, "wait") != 0 &&
                        strcmp(function, "acquire") != 0 && strcmp(function, "_wait_for_tstate_lock") != 0;
        }
        Py_DECREF(code);
        Py_DECREF(globals);
        Py_DECREF(frame);
        PyErr_Clear();
    }
    PyErr_SetRaisedException(error);
    return shielded;
}
