/* Preemption: how the monitor makes the fiber that runs on a worker give way, at a place where it may. README.md argues
 * why it may there.
 *
 * Free-threaded: each worker has a token, an object it owns and nobody refers to. The monitor takes the one reference
 * away; not being the owner it cannot free the object, so CPython queues it for the owner and sets a bit of that thread's
 * eval breaker. At its next check, between two bytecodes, the worker finds that the count is zero, and calls
 * `tp_dealloc`: that is us, on the fiber's stack. Only reference counting as any object has it is used.
 *
 * With a GIL: a pending call, which any thread may be the one to make. It is wasted on one that is not the worker, and
 * the monitor asks again.
 */
#include "locks.h"
#include "switch.h"

#include <stdlib.h>

#include <internal/pycore_gc.h>

/* Bits of `state`. Whoever leaves it zero frees the token. */
#define RV_TOKEN_OWNED 1 /* its worker lives */
#define RV_TOKEN_QUEUED 2 /* sent, and not arrived: it belongs to CPython */

/* Law: `state` is anybody's, atomically; the rest is written by the monitor between setting RV_TOKEN_QUEUED and sending
 * it, and read by whomever it arrives at, before RV_TOKEN_QUEUED is cleared. */
struct rv_token {
    PyObject base;
    int state;
    uintptr_t thread;
    uint64_t turn;
    /* The number of the fiber that is to be interrupted; 0 for whichever runs in that turn, which is to give way. */
    uint64_t fiber;
};

/* Clears a bit of a token's state. The token may be gone afterwards. */
static void let_go(struct rv_token *token, int bit) {
    if (__atomic_and_fetch(&token->state, ~bit, __ATOMIC_ACQ_REL) == 0) {
        free(token);
    }
}

/* Whether the fiber may be suspended where it is: at a check of the eval breaker. */
static int may_give_way(struct rv_worker *w, struct rv_fiber *f) {
    PyThreadState *ts = w->tstate;
    if (RV_FAULTY(RV_FAULT_NO_PREEMPT)) {
        return 1;
    }
    if (f->no_preempt != 0) {
        return 0;
    }
    /* The import lock is held across bytecode, in the name of the thread. */
    if (_Py_atomic_load_ullong_relaxed(&ts->interp->imports.lock.thread) == PyThread_get_thread_ident_ex()) {
        return 0;
    }
    /* C code that called back into Python (sqlite3, ctypes, ssl) may hold locks of its own. */
    if (rv_in_callback(f)) {
        return 0;
    }
    /* A finalizer that this thread's collector calls, or the collector itself, which merges counts as well: it would stay
     * marked as collecting. It may be another thread's collection; then the next request finds it over. */
    return !_Py_atomic_load_int_relaxed(&ts->interp->gc.collecting);
}

int rv_may_give_way(void) {
    struct rv_worker *w = rv_this_worker();
    return w != NULL && w->running != NULL && !rv_orphaned && may_give_way(w, w->running);
}

/* Raises what the fiber is to be interrupted with, if anything, at the next check of the eval breaker: in its own Python code, a
 * few bytecodes on. Called at such a check, where a fiber may be suspended.
 *
 * `async_exc` is the thread's, so it must be raised before any other fiber runs here. Between this check and the next one
 * CPython may run finalizers: where that is to be seen it is put off, and whoever asks asks again. Should one of them
 * wait all the same, `rv_interrupt_away` takes it back. Where the next check is in a finalizer it is raised there, and reported
 * and lost, as CPython's own asynchronous exceptions are; a cancellation is delivered again after its grace. */
static void interrupt(struct rv_worker *w, struct rv_fiber *f) {
    PyThreadState *ts = w->tstate;
#ifdef Py_GIL_DISABLED
    if (((_PyThreadStateImpl *)ts)->brc.local_objects_to_merge.head != NULL) {
        return;
    }
#endif
    if (_Py_atomic_load_uintptr_relaxed(&ts->eval_breaker) & _PY_GC_SCHEDULED_BIT) {
        return;
    }
    PyObject *exception = f->object == NULL ? NULL : rv_interrupted(f->object);
    if (exception != NULL) {
        w->interrupting = 1;
        Py_XDECREF(_Py_atomic_exchange_ptr(&ts->async_exc, Py_NewRef(exception)));
        _Py_set_eval_breaker_bit(ts, _PY_ASYNC_EXCEPTION_BIT);
    }
}

void rv_interrupt_away(struct rv_worker *w) {
    w->interrupting = 0;
    PyThreadState *ts = w->tstate;
    PyObject *exception = _Py_atomic_exchange_ptr(&ts->async_exc, NULL);
    if (exception != NULL) {
        _Py_unset_eval_breaker_bit(ts, _PY_ASYNC_EXCEPTION_BIT);
        Py_DECREF(exception);
    }
}

void rv_interrupt_end(void) {
    struct rv_worker *w = rv_this_worker();
    if (w != NULL && w->interrupting) {
        rv_interrupt_away(w);
    }
}

/* A token has arrived at this worker, for a fiber that is to be interrupted. */
static void stop_short(struct rv_worker *w, uint64_t number) {
    struct rv_fiber *f = w->running;
    if (f != NULL && !rv_orphaned && f->number == number && may_give_way(w, f)) {
        interrupt(w, f);
    }
}

/* A token has arrived at this worker. */
static void give_way(struct rv_worker *w, uint64_t turn) {
    struct rv_fiber *f = w->running;
    /* In the child of a fork in a fiber nobody would resume it. */
    if (f == NULL || rv_orphaned || !may_give_way(w, f)) {
        return;
    }
    if (w->interrupting && _Py_atomic_load_ptr_relaxed(&w->tstate->async_exc) != NULL) {
        /* It is about to be raised, in this fiber. */
        return;
    }
#ifdef Py_GIL_DISABLED
    _PyThreadStateImpl *impl = (_PyThreadStateImpl *)w->tstate;
    if (impl->brc.local_objects_to_merge.head != NULL) {
        /* They were queued before us and would wait until this fiber is back. */
        _Py_set_eval_breaker_bit(w->tstate, _PY_EVAL_EXPLICIT_MERGE_BIT);
    }
#else
    /* Else nobody in the process could make pending calls while this fiber waits. */
    w->tstate->interp->ceval.pending.handling_thread = NULL;
#endif
    rv_preempt(turn);
    /* It may have been asked for while the fiber was away: with one worker it cannot be otherwise. */
    interrupt(w, f);
}

/* A token has arrived, here or elsewhere. */
static void arrived(struct rv_token *token) {
    struct rv_worker *w = rv_this_worker();
    uint64_t turn = token->turn, fiber = token->fiber;
    int ours = w != NULL && w->token == token;
    /* First: the next request may come while the fiber waits. */
    let_go(token, RV_TOKEN_QUEUED);
    if (ours && fiber != 0) {
        stop_short(w, fiber);
    }
    else if (ours) {
        give_way(w, turn);
    }
}

#ifdef Py_GIL_DISABLED

static void token_dealloc(PyObject *object) {
    /* Also called where the worker has ended, and on other threads: a collection merges everybody's counts. */
    arrived((struct rv_token *)object);
}

static PyTypeObject token_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "roving._roving._Token",
    .tp_basicsize = sizeof(struct rv_token),
    .tp_dealloc = token_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
};

int rv_preempt_init(void) { return PyType_Ready(&token_type); }

#else

static int pending(void *token) {
    arrived(token);
    return 0;
}

int rv_preempt_init(void) { return 0; }

#endif

struct rv_token *rv_token_new(void) {
    struct rv_token *token = calloc(1, sizeof *token);
    if (token == NULL) {
        return NULL;
    }
    token->state = RV_TOKEN_OWNED;
#ifdef Py_GIL_DISABLED
    Py_SET_TYPE(&token->base, &token_type);
    token->thread = _Py_ThreadId();
#endif
    return token;
}

void rv_token_drop(struct rv_token *token) { let_go(token, RV_TOKEN_OWNED); }

struct rv_token *rv_token_claim(struct rv_worker *w, uint64_t turn, uint64_t fiber) {
#ifdef Py_GIL_DISABLED
    /* Detached it would get the token when its call returns, in some later turn. */
    if (_Py_atomic_load_int_relaxed(&w->tstate->state) != _Py_THREAD_ATTACHED) {
        return NULL;
    }
#endif
    struct rv_token *token = w->token;
    if (__atomic_fetch_or(&token->state, RV_TOKEN_QUEUED, __ATOMIC_ACQ_REL) & RV_TOKEN_QUEUED) {
        return NULL;
    }
    token->turn = turn;
    token->fiber = fiber;
#ifndef Py_GIL_DISABLED
    PyInterpreterState *interp = w->tstate->interp;
    if (_PyEval_AddPendingCall(interp, pending, token, 0) != _Py_ADD_PENDING_SUCCESS) {
        let_go(token, RV_TOKEN_QUEUED);
        return NULL;
    }
    /* That told whoever has the GIL, who may not be the worker. */
    _Py_set_eval_breaker_bit(w->tstate, _PY_CALLS_TO_DO_BIT);
#endif
    return token;
}

#ifdef Py_GIL_DISABLED

/* The monitor's thread state: made at the first request, detached between requests. */
static __thread PyThreadState *monitor;

int rv_monitor_attach(void) {
    if (monitor == NULL) {
        monitor = PyThreadState_New(PyInterpreterState_Main());
        if (monitor == NULL) {
            return -1;
        }
    }
    rv_attach(monitor);
    return 0;
}

void rv_monitor_detach(void) { PyEval_SaveThread(); }

void rv_token_send(struct rv_token *token) {
    if (rv_monitor_attach() != 0) {
        let_go(token, RV_TOKEN_QUEUED);
        return;
    }
    rv_token_send_attached(token);
    PyEval_SaveThread();
}

void rv_token_send_attached(struct rv_token *token) {
    /* A new object of the worker's, with one reference. Nobody else looks at it: it has been claimed. */
    _Py_NewReference(&token->base);
    token->base.ob_tid = token->thread;
    Py_DECREF(&token->base);
}

void rv_monitor_stop(void) {
    if (monitor != NULL) {
        rv_attach(monitor);
        PyThreadState_Clear(monitor);
        PyThreadState_DeleteCurrent();
        monitor = NULL;
    }
}

#else

int rv_monitor_attach(void) { return -1; }

void rv_monitor_detach(void) {}

void rv_token_send(struct rv_token *token) { (void)token; }

void rv_token_send_attached(struct rv_token *token) { (void)token; }

void rv_monitor_stop(void) {}

#endif

void rv_no_preempt(int by) {
    struct rv_fiber *f = rv_current();
    if (f != NULL && f->no_preempt + by >= 0) {
        f->no_preempt += by;
    }
}
