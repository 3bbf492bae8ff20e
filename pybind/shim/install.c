/* Puts the methods of locks.c in place: `ml_meth` of CPython's own method tables, which are static and writable, and
 * which every bound method, every name already imported and every object that already exists goes through. So it does
 * not matter what was imported, or made, before. */
#include "locks.h"
#include "keyed.h"

#define VK (METH_VARARGS | METH_KEYWORDS)

enum place { LOCK, RLOCK, THREAD_MODULE, IMP_MODULE, POSIX_MODULE, SIGNAL_MODULE, SYS_MODULE, TIME_MODULE };

struct replacement {
    enum place place;
    const char *name;
    int flags;
    /* Where versions differ. */
    int optional;
    PyCFunction method;
    PyCFunction *original;
    PyMethodDef *def;
};

static PyMethodDef *find(PyObject *where, const char *name) {
    PyMethodDef *def = NULL;
    PyObject *found = PyObject_GetAttrString(where, name);
    if (found == NULL) {
        PyErr_Clear();
        return NULL;
    }
    if (Py_IS_TYPE(found, &PyMethodDescr_Type)) {
        def = ((PyMethodDescrObject *)found)->d_method;
    }
    else if (PyCFunction_CheckExact(found)) {
        def = ((PyCFunctionObject *)found)->m_ml;
    }
    Py_DECREF(found);
    return def;
}

static int refuse(const char *what) {
    PyErr_Format(PyExc_RuntimeError,
                 "roving: %s of this interpreter is not as roving knows it, so that fibers could not wait for locks; "
                 "install roving for this interpreter, or report it",
                 what);
    return -1;
}

/* Calls a method that takes nothing and drops what it gives. */
static int call(PyObject *object, const char *method) {
    PyObject *result = PyObject_CallMethod(object, method, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static const struct rv_lock_methods *lock_kind(PyTypeObject *type) {
    PyObject *object = PyObject_CallNoArgs((PyObject *)type);
    const struct rv_lock_methods *kind = NULL;
    if (object == NULL) {
        return NULL;
    }
    if (type->tp_basicsize == (Py_ssize_t)sizeof(struct rv_semaphore_lock)) {
        struct rv_semaphore_lock *self = (struct rv_semaphore_lock *)object;
        if (self->lock != NULL && !self->locked && call(object, "acquire") == 0 && self->locked &&
            !PyThread_acquire_lock(self->lock, NOWAIT_LOCK) && call(object, "release") == 0 && !self->locked) {
            kind = &rv_semaphore_lock_methods;
        }
    }
    /* Both may be of one size: then where the pointer would be there are other things than a byte. */
    if (kind == NULL && !PyErr_Occurred() && type->tp_basicsize >= (Py_ssize_t)sizeof(struct rv_byte_lock)) {
        PyMutex *mutex = &((struct rv_byte_lock *)object)->mutex;
        if (mutex->_bits == 0 && call(object, "acquire") == 0 && mutex->_bits == 1 && call(object, "release") == 0 &&
            mutex->_bits == 0) {
            kind = &rv_byte_lock_methods;
        }
    }
    Py_DECREF(object);
    return kind;
}

static const struct rv_lock_methods *rlock_kind(PyTypeObject *type) {
    PyObject *object = PyObject_CallNoArgs((PyObject *)type);
    const struct rv_lock_methods *kind = NULL;
    unsigned long long me = rv_thread_ident();
    if (object == NULL) {
        return NULL;
    }
    if (call(object, "acquire") == 0 && call(object, "acquire") == 0) {
        if (type->tp_basicsize >= (Py_ssize_t)sizeof(struct rv_semaphore_rlock)) {
            struct rv_semaphore_rlock *self = (struct rv_semaphore_rlock *)object;
            if (self->lock != NULL && self->owner == me && self->count == 2) {
                kind = &rv_semaphore_rlock_methods;
            }
        }
        if (kind == NULL && type->tp_basicsize >= (Py_ssize_t)sizeof(struct rv_byte_rlock)) {
            _PyRecursiveMutex *lock = &((struct rv_byte_rlock *)object)->lock;
            if (lock->mutex._bits == 1 && lock->thread == me && lock->level == 1) {
                kind = &rv_byte_rlock_methods;
            }
        }
        if (call(object, "release") < 0 || call(object, "release") < 0) {
            kind = NULL;
        }
    }
    Py_DECREF(object);
    return kind;
}

/* The import lock has no object to try: its methods must move the field that the shim takes for it. */
static int import_lock_is_known(PyObject *imp) {
    _PyRecursiveMutex *lock = rv_import_lock(PyThreadState_Get());
    if (call(imp, "acquire_lock") < 0) {
        return 0;
    }
    int known = lock->thread == rv_thread_ident() && lock->mutex._bits & 1;
    return call(imp, "release_lock") == 0 && known;
}

static int installed;

static int install(PyObject *thread, PyObject *imp, PyObject *posix, PyObject *signal, PyTypeObject *lock, PyTypeObject *rlock) {
    const struct rv_lock_methods *l = lock_kind(lock);
    const struct rv_lock_methods *r = l == NULL ? NULL : rlock_kind(rlock);
    if (l == NULL || r == NULL) {
        return PyErr_Occurred() ? -1 : refuse(l == NULL ? "_thread.lock" : "_thread.RLock");
    }
    if (!import_lock_is_known(imp)) {
        return PyErr_Occurred() ? -1 : refuse("the import lock");
    }
    struct rv_lock_originals *o = &rv_originals;
    PyCFunction lock_acquire = (PyCFunction)(void (*)(void))l->acquire;
    PyCFunction rlock_acquire = (PyCFunction)(void (*)(void))r->acquire;
    struct replacement table[] = {
        {LOCK, "acquire", VK, 0, lock_acquire, (PyCFunction *)(void *)&o->lock_acquire, NULL},
        {LOCK, "acquire_lock", VK, 0, lock_acquire, NULL, NULL},
        {LOCK, "__enter__", VK, 0, lock_acquire, NULL, NULL},
        {LOCK, "release", METH_NOARGS, 0, l->release, NULL, NULL},
        {LOCK, "release_lock", METH_NOARGS, 0, l->release, NULL, NULL},
        {LOCK, "__exit__", METH_VARARGS, 0, l->release, NULL, NULL},
        {LOCK, "_at_fork_reinit", METH_NOARGS, 0, l->at_fork_reinit, &o->lock_at_fork_reinit, NULL},
        {RLOCK, "acquire", VK, 0, rlock_acquire, (PyCFunction *)(void *)&o->rlock_acquire, NULL},
        {RLOCK, "__enter__", VK, 0, rlock_acquire, NULL, NULL},
        {RLOCK, "release", METH_NOARGS, 0, r->release, NULL, NULL},
        {RLOCK, "__exit__", METH_VARARGS, 0, r->release, NULL, NULL},
        {RLOCK, "_is_owned", METH_NOARGS, 0, r->is_owned, NULL, NULL},
        {RLOCK, "_recursion_count", METH_NOARGS, 1, r->recursion_count, NULL, NULL},
        {RLOCK, "_release_save", METH_NOARGS, 0, r->release_save, NULL, NULL},
        {RLOCK, "_acquire_restore", METH_VARARGS, 0, r->acquire_restore, &o->rlock_acquire_restore, NULL},
        {RLOCK, "_at_fork_reinit", METH_NOARGS, 0, r->at_fork_reinit, &o->rlock_at_fork_reinit, NULL},
        {THREAD_MODULE, "get_ident", METH_NOARGS, 0, rv_get_ident, NULL, NULL},
        {THREAD_MODULE, "_get_main_thread_ident", METH_NOARGS, 1, rv_get_main_ident, &o->main_ident, NULL},
        {SIGNAL_MODULE, "pthread_kill", METH_FASTCALL, 1, (PyCFunction)(void (*)(void))rv_pthread_kill,
         (PyCFunction *)(void *)&o->pthread_kill, NULL},
        {TIME_MODULE, "pthread_getcpuclockid", METH_VARARGS, 1, rv_cpu_clock, &o->cpu_clock, NULL},
        {SYS_MODULE, "_current_frames", METH_NOARGS, 1, rv_current_frames, &o->current_frames, NULL},
        {IMP_MODULE, "acquire_lock", METH_NOARGS, 0, rv_import_acquire, &o->import_acquire, NULL},
        {IMP_MODULE, "release_lock", METH_NOARGS, 0, rv_import_release, NULL, NULL},
        {IMP_MODULE, "exec_dynamic", METH_O, 1, rv_exec_dynamic, &o->exec_dynamic, NULL},
        {IMP_MODULE, "exec_builtin", METH_O, 1, rv_exec_builtin, &o->exec_builtin, NULL},
        {POSIX_MODULE, "fork", METH_NOARGS, 1, rv_fork, &o->fork, NULL},
        {POSIX_MODULE, "forkpty", METH_NOARGS, 1, rv_forkpty, &o->forkpty, NULL},
    };
    /* Borrowed. */
    PyObject *sys = PyImport_AddModule("sys");
    /* The reference is kept: there is one such call, as a rule. */
    PyObject *time = PyImport_ImportModule("time");
    if (sys == NULL || time == NULL) {
        return -1;
    }
    PyObject *places[] = {(PyObject *)lock, (PyObject *)rlock, thread, imp, posix, signal, sys, time};
    const size_t size = sizeof table / sizeof table[0];
    for (size_t i = 0; i < size; i++) {
        struct replacement *entry = &table[i];
        entry->def = find(places[entry->place], entry->name);
        if (entry->def != NULL && (strcmp(entry->def->ml_name, entry->name) != 0 ||
                                   (entry->def->ml_flags & ~METH_COEXIST) != entry->flags)) {
            entry->def = NULL;
        }
        if (entry->def == NULL && !entry->optional) {
            return refuse(entry->name);
        }
    }
    PyObject *io = PyImport_ImportModule("_io");
    if (io == NULL) {
        return -1;
    }
    /* With the world stopped no thread is in the middle of an old release, which would not see fibers that wait. */
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    PyInterpreterState *interp = PyInterpreterState_Get();
    _PyEval_StopTheWorld(interp);
#endif
    if (!installed) {
        for (size_t i = 0; i < size; i++) {
            struct replacement *entry = &table[i];
            if (entry->def == NULL) {
                continue;
            }
            if (entry->original != NULL) {
                *entry->original = entry->def->ml_meth;
            }
            _Py_atomic_store_ptr_release((void *)&entry->def->ml_meth, (void *)entry->method);
        }
        installed = 1;
    }
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    _PyEval_StartTheWorld(interp);
#elif defined(Py_GIL_DISABLED)
    /* 3.13 does not let us; but a collection does the same, before the first fiber waits. */
    PyGC_Collect();
#endif
    rv_guard_buffered(io);
    rv_mark_callbacks();
    Py_DECREF(io);
    return 0;
}

int rv_install(void) {
    PyObject *thread = NULL, *imp = NULL, *posix = NULL, *signal = NULL, *lock = NULL, *rlock = NULL;
    int result = -1;
    if (_Py_atomic_load_int_acquire(&installed)) {
        return 0;
    }
    if ((thread = PyImport_ImportModule("_thread")) != NULL && (imp = PyImport_ImportModule("_imp")) != NULL &&
        (posix = PyImport_ImportModule("posix")) != NULL &&
        (signal = PyImport_ImportModule("_signal")) != NULL &&
        (lock = PyObject_GetAttrString(thread, "LockType")) != NULL &&
        (rlock = PyObject_GetAttrString(thread, "RLock")) != NULL) {
        if (PyType_Check(lock) && PyType_Check(rlock)) {
            result = install(thread, imp, posix, signal, (PyTypeObject *)lock, (PyTypeObject *)rlock);
        }
        else {
            refuse("_thread");
        }
    }
    Py_XDECREF(thread);
    Py_XDECREF(imp);
    Py_XDECREF(posix);
    Py_XDECREF(signal);
    Py_XDECREF(lock);
    Py_XDECREF(rlock);
    return result;
}
