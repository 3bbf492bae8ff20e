/* Threads as fibers: `_thread.start_joinable_thread` and `start_new_thread`, which all that starts a thread in Python goes
 * through, and what waits for a thread.
 *
 * A fiber takes the part of the thread below the handle. The handle is CPython's own, RUNNING with no thread of the system's,
 * as that of the main thread is: so plain threads join it by CPython's method, is_done() and the child of a fork
 * find what they expect. Fibers wait at the address of its event, and whoever sets that event nudges them.
 *
 *     NOT_STARTED -> STARTING -> RUNNING (begins) -> event set (ended) -> DONE (joined, or asked for)
 *                        `-> DONE, ident 0 (refused: it was never to run)
 *
 * Law: ident and state are under the handle's mutex; the event is set once, by the fiber's end, when nothing of the fiber is
 * left but its stack. The one that starts a thread waits until it has begun or been refused: Thread.start() waits for its
 * first step anyway, and would wait for ever for one that never comes. */
#include "seams.h"

#include <internal/pycore_interp.h>
#include <internal/pycore_llist.h>
#include <internal/pycore_pylifecycle.h>
#include <internal/pycore_time.h>

enum { NOT_STARTED = 1, STARTING = 2, RUNNING = 3, DONE = 4 };

/* As in Modules/_threadmodule.c, the same in 3.13 and 3.14; tried out before anything is replaced. */
struct handle {
    struct llist_node node;
    struct llist_node shutdown_node;
    PyThread_ident_t ident;
    PyThread_handle_t os_handle;
    int has_os_handle;
    int state;
    PyMutex mutex;
    PyEvent thread_is_exiting;
    _PyOnceFlag once;
    Py_ssize_t refcount;
};

struct handle_object {
    PyObject_HEAD
    struct handle *handle;
};

#define HANDLE(op) (((struct handle_object *)(op))->handle)

static PyCFunctionWithKeywords start_joinable_original;
static PyCFunction start_new_original, start_new_alias, join_original, is_done_original, set_done_original;
static PyCFunction shutdown_original, excepthook_original, set_name_original;
/* Both strong, and set once. */
static PyTypeObject *handle_type;
static PyObject *thread_error;

static __thread int native_here;

void rv_native_threads(int by) {
    struct rv_fiber *f = rv_fiber_here();
    *(f == NULL ? &native_here : &f->native_threads) += by;
}

static int is_native(void) {
    struct rv_fiber *f = rv_fiber_here();
    return (f == NULL ? native_here : f->native_threads) > 0;
}

/* Whether a thread that is started here is to be a fiber. What CPython would refuse it shall refuse. */
static int starts_fiber(void) {
    return rv_is_on(RV_THREADS) && !rv_orphaned && !is_native() &&
           PyInterpreterState_Get() == PyInterpreterState_Main() && !Py_IsFinalizing();
}

static int state_of(struct handle *h) { return _Py_atomic_load_int_relaxed(&h->state); }

/* Not set is also the event that threads are parked at. */
static int is_exiting(struct handle *h) { return _Py_atomic_load_uint8(&h->thread_is_exiting.v) == _Py_LOCKED; }

static int is_starting(const void *handle) { return state_of((struct handle *)handle) == STARTING; }

static int runs(const void *handle) { return !is_exiting((struct handle *)handle); }

static PyThread_ident_t ident_of(struct handle *h) {
    PyMutex_Lock(&h->mutex);
    PyThread_ident_t ident = h->ident;
    PyMutex_Unlock(&h->mutex);
    return ident;
}

unsigned long long rv_thread_handle_ident(PyObject *handle) { return ident_of(HANDLE(handle)); }

static void set_event(struct handle *h) {
    _PyEvent_Notify(&h->thread_is_exiting);
    if (rv_may_wait_at(&h->thread_is_exiting)) {
        rv_nudge(&h->thread_is_exiting);
    }
}

void rv_thread_begins(PyObject *op) {
    struct handle *h = HANDLE(op);
    PyMutex_Lock(&h->mutex);
    h->ident = rv_ident();
    _Py_atomic_store_int(&h->state, RUNNING);
    PyMutex_Unlock(&h->mutex);
    if (rv_may_wait_at(&h->state)) {
        rv_nudge(&h->state);
    }
    _Py_atomic_add_ssize(&PyInterpreterState_Get()->threads.count, 1);
}

void rv_thread_returns(void) { _Py_atomic_add_ssize(&PyInterpreterState_Get()->threads.count, -1); }

void rv_thread_ended(PyObject *op) { set_event(HANDLE(op)); }

void rv_thread_refused(PyObject *op) {
    struct handle *h = HANDLE(op);
    PyMutex_Lock(&h->mutex);
    /* There is nothing to join. */
    h->once = (_PyOnceFlag){_Py_ONCE_INITIALIZED};
    _Py_atomic_store_int(&h->state, DONE);
    PyMutex_Unlock(&h->mutex);
    set_event(h);
    rv_nudge(&h->state);
}

void rv_thread_raised(PyObject *function, PyObject *exception) {
    if (PyErr_GivenExceptionMatches(exception, PyExc_SystemExit) ||
        PyErr_GivenExceptionMatches(exception, rv_cancelled_class())) {
        Py_DECREF(exception);
        return;
    }
    PyErr_SetRaisedException(exception);
    PyErr_FormatUnraisable("Exception ignored in thread started by %R", function);
}

/* Starts a fiber for the thread of a handle, and waits until it has begun. */
static int start(PyObject *function, PyObject *args, PyObject *kwargs, PyObject *op, int daemon) {
    struct handle *h = HANDLE(op);
    PyMutex_Lock(&h->mutex);
    int fresh = h->state == NOT_STARTED;
    if (fresh) {
        _Py_atomic_store_int(&h->state, STARTING);
    }
    PyMutex_Unlock(&h->mutex);
    if (!fresh) {
        PyErr_SetString(thread_error, "thread already started");
        return -1;
    }
    if (rv_spawn_thread(function, args, kwargs, op, daemon, (Py_ssize_t)PyThread_get_stacksize()) < 0) {
        /* Unless it was refused already, when the fiber was dropped. */
        if (is_starting(h)) {
            rv_thread_refused(op);
        }
        return -1;
    }
    if (rv_worker_here == NULL || rv_fiber_here() != NULL) {
        if (rv_wait_while(&h->state, is_starting, h, -1, RV_THREADS, rv_fiber_here() != NULL) < 0) {
            return -1;
        }
    }
    if (state_of(h) == DONE && ident_of(h) == 0) {
        PyErr_SetString(thread_error, "can't start new thread");
        return -1;
    }
    return 0;
}

static PyObject *new_handle(void) { return PyObject_CallNoArgs((PyObject *)handle_type); }

static PyObject *start_joinable(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"function", "handle", "daemon", NULL};
    PyObject *function = NULL, *op = NULL;
    int daemon = 1;
    if (!starts_fiber()) {
        return start_joinable_original(module, args, kwargs);
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Op:start_joinable_thread", names, &function, &op, &daemon)) {
        return NULL;
    }
    if (!PyCallable_Check(function)) {
        PyErr_SetString(PyExc_TypeError, "thread function must be callable");
        return NULL;
    }
    if (op != NULL && op != Py_None && !Py_IS_TYPE(op, handle_type)) {
        PyErr_SetString(PyExc_TypeError, "'handle' must be a _ThreadHandle");
        return NULL;
    }
    if (PySys_Audit("_thread.start_joinable_thread", "OiO", function, daemon, op == NULL ? Py_None : op) < 0) {
        return NULL;
    }
    op = op == NULL || op == Py_None ? new_handle() : Py_NewRef(op);
    if (op == NULL || start(function, NULL, NULL, op, daemon) < 0) {
        Py_XDECREF(op);
        return NULL;
    }
    return op;
}

static PyObject *start_new_by(PyCFunction original, PyObject *module, PyObject *all) {
    PyObject *function, *args, *kwargs = NULL;
    if (!starts_fiber()) {
        return original(module, all);
    }
    if (!PyArg_UnpackTuple(all, "start_new_thread", 2, 3, &function, &args, &kwargs)) {
        return NULL;
    }
    if (!PyCallable_Check(function)) {
        PyErr_SetString(PyExc_TypeError, "first arg must be callable");
        return NULL;
    }
    if (!PyTuple_Check(args)) {
        PyErr_SetString(PyExc_TypeError, "2nd arg must be a tuple");
        return NULL;
    }
    if (kwargs != NULL && !PyDict_Check(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "optional 3rd arg must be a dictionary");
        return NULL;
    }
    if (PySys_Audit("_thread.start_new_thread", "OOO", function, args, kwargs == NULL ? Py_None : kwargs) < 0) {
        return NULL;
    }
    PyObject *op = new_handle();
    if (op == NULL || start(function, args, kwargs, op, 1) < 0) {
        Py_XDECREF(op);
        return NULL;
    }
    PyThread_ident_t ident = ident_of(HANDLE(op));
    Py_DECREF(op);
    return PyLong_FromUnsignedLongLong(ident);
}

static PyObject *start_new_thread(PyObject *module, PyObject *all) {
    return start_new_by(start_new_original, module, all);
}

static PyObject *start_new(PyObject *module, PyObject *all) { return start_new_by(start_new_alias, module, all); }

/* A fiber joins; threads join as they always did. */
static PyObject *join(PyObject *op, PyObject *args) {
    struct handle *h = HANDLE(op);
    PyObject *object = Py_None;
    PyTime_t timeout = -1;
    if (!rv_may_park() || is_exiting(h)) {
        return join_original(op, args);
    }
    if (!PyArg_ParseTuple(args, "|O:join", &object)) {
        return NULL;
    }
    if (object != Py_None && _PyTime_FromSecondsObject(&timeout, object, _PyTime_ROUND_TIMEOUT) < 0) {
        return NULL;
    }
    /* Anything else that is negative is over at once, as there. */
    if (object != Py_None && timeout < 0 && timeout != -1) {
        timeout = 0;
    }
    if (state_of(h) < RUNNING) {
        PyErr_SetString(thread_error, "thread not started");
        return NULL;
    }
    if (ident_of(h) == rv_ident()) {
        PyErr_SetString(thread_error, "Cannot join current thread");
        return NULL;
    }
    PyMutex_Lock(&h->mutex);
    int native = h->has_os_handle;
    PyMutex_Unlock(&h->mutex);
    int ended = native ? rv_join_native(op, timeout) : rv_wait_while(&h->thread_is_exiting, runs, h, timeout, RV_THREADS, 0);
    if (ended < 0) {
        return NULL;
    }
    if (ended) {
        /* Makes it DONE. */
        PyObject *done = is_done_original(op, NULL);
        Py_XDECREF(done);
        if (done == NULL) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *is_done(PyObject *op, PyObject *unused) { return is_done_original(op, unused); }

static PyObject *set_done(PyObject *op, PyObject *unused) {
    PyObject *result = set_done_original(op, unused);
    if (result != NULL) {
        /* Of the main thread: fibers may have joined it. */
        rv_nudge(&HANDLE(op)->thread_is_exiting);
    }
    return result;
}

/* Before the interpreter ends: threads of both kinds may start the other. */
static PyObject *shutdown(PyObject *module, PyObject *args) {
    for (;;) {
        PyObject *result = shutdown_original(module, args);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
        PyObject *handle = rv_next_to_join(rv_ident());
        if (handle == NULL) {
            Py_RETURN_NONE;
        }
        PyObject *none = PyTuple_New(0);
        PyObject *joined = none == NULL ? NULL : join(handle, none);
        Py_XDECREF(none);
        Py_DECREF(handle);
        if (joined == NULL) {
            PyErr_FormatUnraisable("Exception ignored while joining a thread in _thread._shutdown()");
            Py_RETURN_NONE;
        }
        Py_DECREF(joined);
    }
}

/* What names no thread is printed with the ident of the one that runs: in a fiber with the fiber's, as the name of a stand-in.
 * NULL with an exception. */
static PyObject *with_ident(PyObject *args) {
    PyObject *types = PyImport_ImportModule("types");
    PyObject *class = types == NULL ? NULL : PyObject_GetAttrString(types, "SimpleNamespace");
    PyObject *name = class == NULL ? NULL : PyUnicode_FromFormat("%llu", rv_ident());
    PyObject *members = name == NULL ? NULL : Py_BuildValue("{sO}", "name", name);
    PyObject *none = members == NULL ? NULL : PyTuple_New(0);
    PyObject *thread = none == NULL ? NULL : PyObject_Call(class, none, members);
    PyObject *changed = NULL;
    if (thread != NULL) {
        changed = PyObject_CallFunction((PyObject *)Py_TYPE(args), "((OOOO))", PyTuple_GET_ITEM(args, 0),
                                        PyTuple_GET_ITEM(args, 1), PyTuple_GET_ITEM(args, 2), thread);
    }
    Py_XDECREF(thread);
    Py_XDECREF(none);
    Py_XDECREF(members);
    Py_XDECREF(name);
    Py_XDECREF(class);
    Py_XDECREF(types);
    return changed;
}

/* A thread whose fiber was cancelled ends as silently as by SystemExit. */
static PyObject *excepthook(PyObject *module, PyObject *args) {
    if (PyTuple_Check(args) && PyTuple_GET_SIZE(args) > 0) {
        PyObject *type = PyTuple_GET_ITEM(args, 0);
        if (PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, (PyTypeObject *)rv_cancelled_class())) {
            Py_RETURN_NONE;
        }
    }
    /* The structure's own type, or CPython refuses it. */
    if (rv_fiber_here() != NULL && PyTuple_Check(args) && !PyTuple_CheckExact(args) && PyTuple_GET_SIZE(args) == 4 &&
        PyTuple_GET_ITEM(args, 3) == Py_None) {
        PyObject *changed = with_ident(args);
        PyObject *result = changed == NULL ? NULL : excepthook_original(module, changed);
        Py_XDECREF(changed);
        return result;
    }
    return excepthook_original(module, args);
}

/* The name the system knows is the worker's. */
static PyObject *set_name(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    if (rv_fiber_here() != NULL && !rv_orphaned && count == 1 && names == NULL && PyUnicode_Check(args[0])) {
        Py_RETURN_NONE;
    }
    return ((rv_fast_named)(void (*)(void))set_name_original)(module, args, count, names);
}

#define THREAD(name, flags, optional, function, original)                                                        \
    {RV_THREADS, "_thread", NULL, name, flags, optional, RV_FUNCTION(function), (PyCFunction *)(void *)&original, NULL}
#define OF_HANDLE(name, flags, function, original)                                                               \
    {RV_THREADS, "_thread", "_ThreadHandle", name, flags, 0, RV_FUNCTION(function), &original, NULL}

struct rv_seam rv_thread_seams[] = {
    THREAD("start_joinable_thread", METH_VARARGS | METH_KEYWORDS, 0, start_joinable, start_joinable_original),
    THREAD("start_new_thread", METH_VARARGS, 0, start_new_thread, start_new_original),
    THREAD("start_new", METH_VARARGS, 1, start_new, start_new_alias),
    THREAD("_shutdown", METH_NOARGS, 0, shutdown, shutdown_original),
    THREAD("_excepthook", METH_O, 1, excepthook, excepthook_original),
    THREAD("set_name", METH_FASTCALL | METH_KEYWORDS, 1, set_name, set_name_original),
    OF_HANDLE("join", METH_VARARGS, join, join_original),
    OF_HANDLE("is_done", METH_NOARGS, is_done, is_done_original),
    OF_HANDLE("_set_done", METH_NOARGS, set_done, set_done_original),
    {0},
};

static PyObject *get(const char *name) {
    PyObject *module = PyImport_ImportModule("_thread");
    PyObject *found = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return found;
}

/* A new handle, and one that was told an ident, in all their states. */
static int layout_is_known(PyObject *type, PyObject *make) {
    int known = 0;
    PyObject *fresh = PyObject_CallNoArgs(type);
    PyObject *made = PyObject_CallFunction(make, "i", 4711);
    if (fresh != NULL && made != NULL && ((PyTypeObject *)type)->tp_basicsize == (Py_ssize_t)sizeof(struct handle_object)) {
        struct handle *f = HANDLE(fresh), *m = HANDLE(made);
        known = f->state == NOT_STARTED && f->ident == 0 && !f->has_os_handle && f->refcount == 1 && !is_exiting(f) &&
                m->state == RUNNING && m->ident == 4711 && !m->has_os_handle && m->refcount == 1 && !is_exiting(m) &&
                m->mutex._bits == 0;
        PyObject *result = known ? PyObject_CallMethod(made, "_set_done", NULL) : NULL;
        known = result != NULL && m->state == DONE && is_exiting(m) && m->once.v == _Py_ONCE_INITIALIZED;
        Py_XDECREF(result);
    }
    Py_XDECREF(fresh);
    Py_XDECREF(made);
    return known;
}

int rv_threads_are_known(void) {
    PyObject *type = get("_ThreadHandle");
    PyObject *make = type == NULL ? NULL : get("_make_thread_handle");
    PyObject *error = make == NULL ? NULL : get("error");
    int known = error != NULL && PyType_Check(type) && layout_is_known(type, make);
    Py_XDECREF(make);
    if (known && handle_type == NULL) {
        handle_type = (PyTypeObject *)Py_NewRef(type);
        thread_error = Py_NewRef(error);
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    if (!known && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "roving: _thread._ThreadHandle of this interpreter is not as roving knows it, so "
                                            "that threads cannot be fibers; install roving for this interpreter, or report it");
    }
    return known ? 0 : -1;
}
