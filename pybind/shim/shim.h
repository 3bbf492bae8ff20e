/* What the C side of roving offers to the Rust side, and the structures both sides of a switch share.
 *
 * This folder holds the only code that touches the insides of PyThreadState. README.md beside it describes the
 * protocol; fields_*.h are the tables of what is swapped.
 */
#ifndef RV_SHIM_H
#define RV_SHIM_H

#define Py_BUILD_CORE 1
#include <Python.h>

#if PY_VERSION_HEX >= 0x030E0000 && PY_VERSION_HEX < 0x030F0000
#include <internal/pycore_ceval.h>
#include <internal/pycore_interpframe.h>
#include <internal/pycore_pythonrun.h>
#elif PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x030E0000
#include <internal/pycore_ceval.h>
#include <internal/pycore_frame.h>
#else
#error "roving: the shim knows CPython 3.13 and 3.14; derive a table of fields for this version first"
#endif
#include <internal/pycore_context.h>
#include <internal/pycore_critical_section.h>
#include <internal/pycore_hamt.h>
#include <internal/pycore_pystate.h>
#include <internal/pycore_runtime.h>
#include <internal/pycore_tstate.h>

#include <pthread.h>

#if PY_VERSION_HEX >= 0x030E0000
#include "fields_3_14.h"
#else
#include "fields_3_13.h"
#endif

/* The collector finds deferred references only by walking the stacks it can reach: see anchor.h. */
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
#define RV_ANCHOR 1
#else
#define RV_ANCHOR 0
#endif

/* The protections of a switch, each of which a test takes away in turn. */
#define RV_FAULT_ANCHOR 1u
#define RV_FAULT_C_STACK_REFS 2u
#define RV_FAULT_CRITICAL_SECTIONS 4u
#define RV_FAULT_C_STACK_LIMITS 8u
#define RV_FAULT_THREADING_LOCAL 16u
/* Not a protection of a switch: the shim takes itself for one built for another version. */
#define RV_FAULT_VERSION 32u
#define RV_FAULT_WARNINGS_LOCK 64u
/* Nor are these: fibers are preempted wherever they are. */
#define RV_FAULT_NO_PREEMPT 128u
/* Fibers park below C code that called back. */
#define RV_FAULT_CALLBACKS 256u
#ifdef RV_FAULT_INJECTION
extern unsigned rv_faults;
#define RV_FAULTY(what) (rv_faults & (what))
#else
#define RV_FAULTY(what) 0
#endif

/* The parts of a thread state that are a fiber's, while it does not run; or a worker's own, while one does. */
struct rv_saved {
#define RV_MEMBER(where, type, name, fresh) type name;
#define RV_MEMBER_OWNED(where, name) PyObject *name;
    RV_FIELDS(RV_MEMBER, RV_MEMBER, RV_MEMBER_OWNED)
#undef RV_MEMBER
#undef RV_MEMBER_OWNED
    /* Calls below this one: sys.setrecursionlimit changes the field that counts down. */
    int depth;
};

/* sys.settrace and sys.setprofile: what tracing.h exchanges. The objects are strong references. */
struct rv_tracing {
    Py_tracefunc trace, profile;
    PyObject *trace_object, *profile_object;
};

/* A fiber, at the bottom of the room that is the embedder's at the top of its stack. Behind it, up to the end
 * of the room, lies the first chunk of its Python stack.
 * Law: touched by the fiber's worker alone, attached; by the collector, while it has stopped that worker. */
struct rv_fiber {
    struct rv_worker *worker;
    /* What get_ident gives in it: RV_FIBER_IDENT and its number, or that of the thread-locals it was lent. */
    unsigned long long ident;
    unsigned long long number;
    /* How many times it held the lock of the C part of `warnings` when it left its stack. */
    size_t warnings_level;
    /* Its object, borrowed from the Rust side, which holds it until the fiber has ended. */
    PyObject *object;
    uintptr_t stack_low;
    uintptr_t stack_high;
    char *room_end;
    /* How many marks say that the fiber must not be preempted. */
    int no_preempt;
    /* How many callbacks of C code it is in that do not say so: see callbacks.c. */
    int callbacks;
    /* How many marks say that threads it starts are to be threads of the system's. */
    int native_threads;
    /* The call of a method of sqlite3's that it is in, or NULL: see sqlite.c. */
    struct rv_sqlite_call *sqlite_call;
    struct rv_saved saved;
    /* Its own while it does not run, and its worker's while it does. */
    struct rv_tracing tracing;
    /* Its neighbours in the worker's list of parked fibers. */
    struct rv_fiber *before;
    struct rv_fiber *after;
#if RV_ANCHOR
    struct _PyCStackRef last_ref;
#endif
    /* The last frame. Only its `previous` is ever written after the start. */
    struct _PyInterpreterFrame sentinel;
};

/* A worker thread. Law: its own thread's, except for `tstate`'s atomics. */
struct rv_worker {
    PyThreadState *tstate;
    /* What CPython knows its thread by. */
    unsigned long long thread;
    struct rv_fiber *running;
    /* What asks this worker's fiber to give way. */
    struct rv_token *token;
    /* Whether `async_exc` may be the fiber's that runs: see preempt.c. */
    int interrupting;
    /* What the thread state holds between fibers. */
    struct rv_saved base;
    struct rv_fiber *parked;
    /* The next one in the list of all workers, which changes attached, and is read while the world is stopped. */
    struct rv_worker *next;
#if RV_ANCHOR
    PyThreadState *anchor;
#endif
};

#ifdef RV_FAULT_INJECTION
/* Takes protections away: a sum of RV_FAULT_*. */
void rv_set_faults(unsigned faults);
#endif

/* check.c: NULL, or why this interpreter is not the one the shim was built for. */
const char *rv_check(void);

/* install.c: puts the methods of locks.c in place, once; -1 with an exception set. */
int rv_install(void);

/* frame.c */
/* Makes the frame object that every walk of a fiber's frames ends at; -1 with an exception set. Attached. */
int rv_init(void);
/* Copies that frame into a fiber's sentinel. */
void rv_sentinel_init(struct _PyInterpreterFrame *sentinel);

/* worker.c: a worker's life, on its own thread, between fibers. */
/* Makes a thread state for this thread and attaches it; -1 when there is no memory. */
int rv_worker_start(void);
/* Deletes it. */
void rv_worker_stop(void);
/* sockets.c: frees what this thread, a worker that ends, has received into. */
void rv_sock_worker_stop(void);
/* Detaches before a sleep, attaches after it. */
void rv_worker_detach(void);
void rv_worker_attach(void);
/* A safe point: makes way for whoever wants to stop the world, or the GIL. */
void rv_worker_turn(void);
/* Remembers anew what the thread state holds between fibers, after Python code ran there. */
void rv_worker_rebase(void);
/* The calling thread's worker, or NULL. */
struct rv_worker *rv_this_worker(void);
/* What a worker's thread is to the interpreter. */
enum rv_state {
    /* It does not tell: there is a GIL. */
    RV_UNKNOWN,
    /* In a call that has let go of the interpreter, or asleep. */
    RV_DETACHED,
    RV_ATTACHED,
    /* Held up by somebody who stops the world. */
    RV_SUSPENDED,
};

/* From any thread, attached or not. */
enum rv_state rv_worker_state(struct rv_worker *worker);

/* The first of all workers. While the world is stopped. */
struct rv_worker *rv_first_worker(void);

/* dump.c */
/* Appends to `list`, for every fiber that has started and not ended, a tuple: its object, True if it runs and False if it is
 * parked, and, with `stacks`, a list of (code, line) from the innermost call to the outermost, else None. Stops the
 * world meanwhile. -1 with an exception set. */
int rv_dump(PyObject *list, int stacks);

/* The calls of the fiber that a worker runs, as a list of (code, line) from the innermost to the outermost; an empty one
 * if it runs none. `worker` may be gone: it is only compared. Stops the world meanwhile. NULL with an exception set. */
PyObject *rv_worker_calls(struct rv_worker *worker);

/* As PyEval_RestoreThread, on any thread of ours. */
void rv_attach(PyThreadState *ts);

/* preempt.c */
struct rv_token;
/* -1 with an exception set. */
int rv_preempt_init(void);
/* A token for the calling thread, a worker's; NULL when there is no memory. */
struct rv_token *rv_token_new(void);
/* Its worker is gone: after its last thread state. */
void rv_token_drop(struct rv_token *token);
/* Claims the token of a worker that lives, to ask the fiber of this turn to give way, or, if `fiber` is not 0, the fiber of that
 * number to be interrupted; NULL if it is under way already, or
 * the worker could not hear it. From any thread, attached or not; takes no lock that is held across Python code. */
struct rv_token *rv_token_claim(struct rv_worker *worker, uint64_t turn, uint64_t fiber);
/* Sends a claimed token, whether its worker still lives or not. On the monitor's thread, detached, holding no lock: it
 * attaches. */
void rv_token_send(struct rv_token *token);
/* As rv_token_send, on any attached thread but that worker's own. */
void rv_token_send_attached(struct rv_token *token);
/* The function that may be interrupted has returned: what was not raised in it is not raised any more. Attached. */
void rv_interrupt_end(void);
/* A fiber leaves a worker: what was to be raised in it must not be raised in another. */
void rv_interrupt_away(struct rv_worker *worker);
/* ../src/preempt.rs: the class of what is to be raised now in the fiber of this object, which runs here; borrowed, or NULL. */
PyObject *rv_interrupted(PyObject *fiber);
/* Attaches the monitor's thread, detached until then and holding no lock; -1 when there is no memory, or a GIL. */
int rv_monitor_attach(void);
void rv_monitor_detach(void);
/* The monitor's thread ends. As rv_token_send. */
void rv_monitor_stop(void);
/* Raises or lowers the mark of the running fiber that it must not be preempted. */
void rv_no_preempt(int by);
/* Whether a fiber runs here and may be suspended where it does not ask for it. Attached. */
int rv_may_give_way(void);
/* ../src/preempt.rs: suspends the running fiber, if it is still in this turn and others wait. */
void rv_preempt(uint64_t turn);

/* gil.c */
/* Whether threads take turns with a GIL, from any thread. */
int rv_gil_enabled(void);
/* Whether this module is an extension that needs the GIL, in an interpreter that can do without. Attached. */
int rv_needs_gil(PyObject *module);

/* Where the caller is. */
enum rv_place {
    RV_PLACE_THREAD = 0, /* on a thread that is no worker, or one to the interpreter that runs */
    RV_PLACE_FIBER = 1,
    RV_PLACE_BETWEEN = 2, /* on a worker, between two fibers */
    RV_PLACE_ORPHAN = 3, /* in a fiber, in the child of a fork in one */
    RV_PLACE_CALLBACK = 4, /* in a fiber, below C code that called back and may hold locks of its own */
};
int rv_place(void);
/* The fiber that runs on this thread, or NULL. */
struct rv_fiber *rv_current(void);
/* Its object, borrowed, or NULL. */
PyObject *rv_current_object(void);
/* Whether this thread is a worker, in a fiber or between fibers. */
int rv_is_worker(void);
/* Whether this is the interpreter's main thread. */
int rv_is_main_thread(void);
/* Whether this thread is attached to the interpreter. */
int rv_is_attached(void);

/* switch.c: a switch, on the worker's base stack unless said otherwise. */
/* Makes a fiber in `room` and loads its state. */
struct rv_fiber *rv_fiber_first(void *room, size_t size, uintptr_t stack_low, uintptr_t stack_high,
                                unsigned long long number);
void rv_fiber_resume(struct rv_fiber *f);
/* On the fiber's own stack, after each resume. */
void rv_fiber_resumed(struct rv_fiber *f);
void rv_fiber_suspend(struct rv_fiber *f);
void rv_fiber_end(struct rv_fiber *f);

/* call.c: on the fiber's own stack. */
/* Calls `callable`, a fiber's first call, in `context` (a new reference or NULL, taken over). `args` is a tuple, or
 * NULL for no arguments; `names` a tuple of the names of the last ones, or NULL. NULL with the exception in
 * `error`. */
PyObject *rv_call(struct rv_fiber *f, PyObject *object, PyObject *callable, PyObject *args, PyObject *names,
                  PyObject *context, PyObject **error);
/* Gives a fiber whose first call is Rust code its object, borrowed until rv_finish. */
void rv_begin(struct rv_fiber *f, PyObject *object);

/* A set of thread-locals: what threading.local knows a thread by, and the ident that goes with it. A cache of clients may compare
 * idents to see that a client stays where it was made; so whoever has the set has the ident. */
struct rv_locals {
    PyObject *key, *sentinel;
    unsigned long long ident;
    /* The only thread whose fibers may have it: clients may be a thread's, as those of sqlite3 are. */
    unsigned long long thread;
};
/* Gives a fiber that has run no Python code yet a set, whose references are given away with it. */
void rv_locals_lend(struct rv_fiber *f, const struct rv_locals *set);
/* Takes the set of a fiber that will run no more Python code but destructors, with its references; 0 when it has none. */
int rv_locals_take(struct rv_fiber *f, struct rv_locals *set);
unsigned long long rv_locals_thread(struct rv_fiber *f);
/* A call, or an iterator's next item, from Rust code in such a fiber: no frame of Rust's is unwound should the thread end
 * in it. NULL with an exception set; of rv_next also without one, at the end. */
PyObject *rv_invoke(PyObject *callable, PyObject *const *args, size_t count);
PyObject *rv_next(PyObject *iterator);
/* Drops what the fiber keeps per fiber, and the reference to its object. Runs destructors, which may park. */
void rv_finish(struct rv_fiber *f, PyObject *object);
/* A copy of the calling thread's or fiber's context for a new fiber: 0 and a reference, or NULL for an empty
 * one; or -1 with an exception set. */
int rv_context_copy(PyObject **copy);
/* A tuple of so many objects. */
PyObject *rv_keep_arguments(PyObject *const *args, Py_ssize_t count);

/* The bit that tells the ident of a fiber from that of a thread, which is an address. Not the sign of a long. */
#define RV_FIBER_IDENT (1ULL << 62)
/* And in one whose thread-locals have been taken: the ident went with them, and may be another fiber's by now. */
#define RV_BARE_IDENT (RV_FIBER_IDENT | 1ULL << 61)

extern __thread struct rv_worker *rv_worker_here __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline struct rv_fiber *rv_fiber_here(void) {
    struct rv_worker *w = rv_worker_here;
    return w == NULL ? NULL : w->running;
}

/* Whether C code called back into Python by PyGILState_Ensure and has not gone on yet: sqlite3's functions, ctypes'
 * callbacks, ssl's for a server's name... The count is the fiber's own; a thread state begins with one. */
static inline int rv_in_callback(const struct rv_fiber *f) {
    return f->worker->tstate->gilstate_counter != 1 || f->callbacks != 0;
}

/* What CPython knows the calling thread by. */
static inline unsigned long long rv_thread_ident(void) { return (unsigned long long)(uintptr_t)pthread_self(); }

/* The ident of the fiber or thread that runs here. */
static inline unsigned long long rv_ident(void) {
    struct rv_fiber *f = rv_fiber_here();
    return f == NULL ? rv_thread_ident() : f->ident;
}

static inline _PyStackChunk *rv_root_chunk(struct rv_fiber *f) {
    return (_PyStackChunk *)(((uintptr_t)(f + 1) + 15) & ~(uintptr_t)15);
}

static inline PyObject **rv_root_limit(struct rv_fiber *f) { return (PyObject **)f->room_end; }

#endif
