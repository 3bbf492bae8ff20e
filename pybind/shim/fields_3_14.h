/* CPython 3.14 and 3.14t: what of a PyThreadState belongs to the fiber and not to the thread.
 *
 * Derived by reading Include/cpython/pystate.h and Include/internal/pycore_tstate.h. Three kinds of rows:
 *
 *   COPY (where, type, name, fresh)  saved when the fiber leaves, loaded when it comes back
 *   FIXED(where, type, name, fresh)  the same for a fiber's whole life: loaded, never saved
 *   OWNED(where, name)               as COPY, a strong reference or NULL; NULL in a new fiber, cleared at its end
 *
 * `where` is `base` for a field of PyThreadState and `impl` for one of _PyThreadStateImpl. `fresh` may name
 * `f`, the rv_fiber, and `ts`, the thread state of its worker.
 *
 * Left to the thread, on purpose: eval_breaker, async_exc, delete_later, id, thread_id, datastack_cached_chunk, dict_global_version, asyncio_tasks_head, qsbr,
 * mem_free_queue, gc, mimalloc, freelists, brc, refcounts, tlbc_index, c_stack_init_*: they are keyed by OS
 * thread, and a fiber never leaves its own. context_ver and py_recursion_remaining are handled by hand in switch.h, the
 * trace and profile functions in tracing.h.
 */
#ifndef RV_FIELDS_3_14_H
#define RV_FIELDS_3_14_H

#ifdef Py_GIL_DISABLED
#define RV_FIELDS_FREE_THREADED(COPY, FIXED, OWNED)                                                              \
    /* Chain of critical sections in C frames of this fiber; suspended before it is saved. */                  \
    COPY(base, uintptr_t, critical_section, 0)                                                                   \
    /* Chain of references in C frames of this fiber, which the collector walks; ends in our sentinel. */     \
    COPY(impl, struct _PyCStackRef *, c_stack_refs, &f->last_ref)                                                \
    /* Depth of compile() and marshal calls, of which a parked one must not speak for the others. */          \
    COPY(impl, int, suppress_co_const_immortalization, 0)
#else
#define RV_FIELDS_FREE_THREADED(COPY, FIXED, OWNED)
#endif

#define RV_FIELDS(COPY, FIXED, OWNED)                                                                            \
    /* The Python stack. A fiber's ends in a sentinel frame of ours, so that walks stop there. */              \
    COPY(base, struct _PyInterpreterFrame *, current_frame, &f->sentinel)                                        \
    /* Where frames are allocated. The first chunk lies in the fiber's own slot and is never popped. */        \
    COPY(base, _PyStackChunk *, datastack_chunk, rv_root_chunk(f))                                               \
    COPY(base, PyObject **, datastack_top, rv_root_chunk(f)->data + 1)                                           \
    COPY(base, PyObject **, datastack_limit, rv_root_limit(f))                                                   \
    /* The exceptions being handled: a list through generators that ends in exc_state, held by value. */      \
    COPY(base, _PyErr_StackItem *, exc_info, &ts->exc_state)                                                     \
    COPY(base, _PyErr_StackItem, exc_state, ((_PyErr_StackItem){NULL, NULL}))                                    \
    /* The exception being raised: a switch may come out of a destructor, with an error set around it. */     \
    OWNED(base, current_exception)                                                                               \
    /* contextvars; a new fiber is given a copy of its spawner's. */                                           \
    OWNED(base, context)                                                                                         \
    /* Py_ReprEnter's list, ctypes' errno and whatever else extensions keep per thread. */                     \
    OWNED(base, dict)                                                                                            \
    /* threading.local; the sentinel's end is what removes the values. */                                      \
    OWNED(base, threading_local_key)                                                                             \
    OWNED(base, threading_local_sentinel)                                                                        \
    /* asyncio.run sets these for its length, and fibers may each run a loop. */                               \
    OWNED(base, async_gen_firstiter)                                                                             \
    OWNED(base, async_gen_finalizer)                                                                             \
    COPY(base, int, coroutine_origin_tracking_depth, 0)                                                          \
    OWNED(impl, asyncio_running_loop)                                                                            \
    OWNED(impl, asyncio_running_task)                                                                            \
    /* Room above the recursion limit while an error is being handled. */                                      \
    COPY(base, int, recursion_headroom, 0)                                                                       \
    /* Calls of PyGILState_Ensure that have not ended: C code that called back. A thread state begins with one. */ \
    COPY(base, int, gilstate_counter, 1)                                                                         \
    /* Depth of trace and profile calls, and the event being reported. */                                      \
    COPY(base, int, tracing, 0)                                                                                  \
    COPY(base, int, what_event, -1)                                                                              \
    /* The trace of the JIT compiler that this fiber is in. */                                                 \
    COPY(base, PyObject *, current_executor, NULL)                                                               \
    /* Where the C stack ends: RecursionError and the deferral of deep deallocations depend on it. */          \
    FIXED(impl, uintptr_t, c_stack_top, f->stack_high)                                                           \
    FIXED(impl, uintptr_t, c_stack_soft_limit, f->stack_low + 2 * _PyOS_STACK_MARGIN_BYTES)                      \
    FIXED(impl, uintptr_t, c_stack_hard_limit, f->stack_low + _PyOS_STACK_MARGIN_BYTES)                          \
    RV_FIELDS_FREE_THREADED(COPY, FIXED, OWNED)

#endif
