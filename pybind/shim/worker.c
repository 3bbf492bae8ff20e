/* A worker thread and its thread state. */
#include "locks.h"
#include "switch.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A dlopened library has room for a few bytes of static thread-local storage, and this is read at every call. */
__thread struct rv_worker *rv_worker_here __attribute__((tls_model("initial-exec")));
#define this_worker rv_worker_here

struct rv_worker *rv_this_worker(void) { return this_worker; }

struct rv_fiber *rv_current(void) { return rv_fiber_here(); }

PyObject *rv_current_object(void) {
    struct rv_fiber *f = rv_current();
    return f == NULL ? NULL : f->object;
}

int rv_place(void) {
    struct rv_worker *w = this_worker;
    if (w == NULL) {
        return RV_PLACE_THREAD;
    }
    if (w->running == NULL) {
        return RV_PLACE_BETWEEN;
    }
    if (rv_orphaned) {
        return RV_PLACE_ORPHAN;
    }
    if (PyThreadState_GetUnchecked() != w->tstate) {
        /* C code of the fiber's runs another interpreter, whose thread state no switch knows. */
        return RV_PLACE_THREAD;
    }
    return rv_in_callback(w->running) && !RV_FAULTY(RV_FAULT_CALLBACKS) ? RV_PLACE_CALLBACK : RV_PLACE_FIBER;
}

int rv_is_worker(void) { return this_worker != NULL; }

int rv_is_attached(void) { return PyThreadState_GetUnchecked() != NULL; }

int rv_is_main_thread(void) { return _PyRuntime.main_thread == PyThread_get_thread_ident(); }

#if PY_VERSION_HEX < 0x030E0000
/* 3.13 ends a thread that attaches after finalization has begun by pthread_exit, which would unwind through
 * frames of Rust and abort. Its forced unwind runs this first, which never returns; from 3.14 on CPython hangs such
 * threads itself. */
static void hang(const int *armed) {
    while (*armed) {
        pause();
    }
}
#define RV_HANG_ON_EXIT __attribute__((cleanup(hang))) int armed = 1
#define RV_HANG_DISARM (armed = 0)
#else
#define RV_HANG_ON_EXIT ((void)0)
#define RV_HANG_DISARM ((void)0)
#endif

static void attach(PyThreadState *ts) {
    RV_HANG_ON_EXIT;
    PyEval_RestoreThread(ts);
    RV_HANG_DISARM;
}

static struct rv_worker *workers;
static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;

struct rv_worker *rv_first_worker(void) { return workers; }

/* Attached: nobody stops the world in the middle. */
static void list_worker(struct rv_worker *w) {
    pthread_mutex_lock(&workers_lock);
    w->next = workers;
    workers = w;
    pthread_mutex_unlock(&workers_lock);
}

static void unlist_worker(struct rv_worker *w) {
    pthread_mutex_lock(&workers_lock);
    struct rv_worker **at = &workers;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    pthread_mutex_unlock(&workers_lock);
}

void rv_attach(PyThreadState *ts) { attach(ts); }

int rv_worker_start(void) {
    struct rv_worker *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return -1;
    }
    w->token = rv_token_new();
    if (w->token == NULL) {
        free(w);
        return -1;
    }
    PyInterpreterState *interp = PyInterpreterState_Main();
    w->tstate = PyThreadState_New(interp);
    if (w->tstate == NULL) {
        rv_token_drop(w->token);
        free(w);
        return -1;
    }
    attach(w->tstate);
#if RV_ANCHOR
    /* Never bound to a thread: its thread_id stays 0, so that nobody who looks a thread up by its number takes
     * it for the worker, and its heaps and queues stay unused. */
    w->anchor = _PyThreadState_New(interp, _PyThreadState_WHENCE_UNKNOWN);
    if (w->anchor == NULL) {
        PyThreadState_Clear(w->tstate);
        PyThreadState_DeleteCurrent();
        rv_token_drop(w->token);
        free(w);
        return -1;
    }
#endif
    w->thread = rv_thread_ident();
    rv_save_all(&w->base, w->tstate);
    list_worker(w);
    this_worker = w;
    return 0;
}

void rv_worker_stop(void) {
    struct rv_worker *w = this_worker;
    rv_sock_worker_stop();
    unlist_worker(w);
#if RV_ANCHOR
    /* Fibers still parked are abandoned: nobody runs their frames again, so nobody needs what they refer to. */
    w->anchor->current_frame = NULL;
    ((_PyThreadStateImpl *)w->anchor)->c_stack_refs = NULL;
    /* By this thread, and last: it switches off the free lists of the thread that does it. */
    PyThreadState_Clear(w->anchor);
    PyThreadState_Delete(w->anchor);
#endif
    PyThreadState_Clear(w->tstate);
    PyThreadState_DeleteCurrent();
    this_worker = NULL;
    rv_token_drop(w->token);
    free(w);
}

void rv_worker_detach(void) { PyEval_SaveThread(); }

void rv_worker_attach(void) { attach(this_worker->tstate); }

void rv_worker_turn(void) {
    PyThreadState *ts = this_worker->tstate;
    uintptr_t breaker = _Py_atomic_load_uintptr_relaxed(&ts->eval_breaker);
    if (breaker & (_PY_EVAL_PLEASE_STOP_BIT | _PY_GIL_DROP_REQUEST_BIT)) {
        PyEval_SaveThread();
        attach(ts);
    }
}

enum rv_state rv_worker_state(struct rv_worker *w) {
#ifdef Py_GIL_DISABLED
    switch (_Py_atomic_load_int_relaxed(&w->tstate->state)) {
    case _Py_THREAD_DETACHED:
        return RV_DETACHED;
    case _Py_THREAD_ATTACHED:
        return RV_ATTACHED;
    default:
        return RV_SUSPENDED;
    }
#else
    (void)w;
    return RV_UNKNOWN;
#endif
}

void rv_worker_rebase(void) {
    struct rv_worker *w = this_worker;
    /* We may be inside a PyGILState_Ensure that ends before the next fiber. */
    int counter = w->base.gilstate_counter;
    rv_save_all(&w->base, w->tstate);
    w->base.gilstate_counter = counter;
}
