/* CPython 3.13 and 3.13t: what of a PyThreadState belongs to the fiber and not to the thread.
 *
 * fields_3_14.h says how to read the table. Differences to 3.14: C recursion is a counter and not a pair of
 * addresses; frames hold strong references, so that the collector need not be told of parked ones; the JIT's
 * field has another name; asyncio keeps no current task here.
 */
#ifndef RV_FIELDS_3_13_H
#define RV_FIELDS_3_13_H

/* One C recursion of the interpreter is taken to need at most so many bytes, and so many are kept in reserve. */
#define RV_C_FRAME 1300
#define RV_C_RESERVE (48 << 10)

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
    /* Room above the recursion limit while an error is being handled. */                                      \
    COPY(base, int, recursion_headroom, 0)                                                                       \
    /* How much deeper the C stack may get. */                                                                 \
    COPY(base, int, c_recursion_remaining, (int)((f->stack_high - f->stack_low - RV_C_RESERVE) / RV_C_FRAME))    \
    /* Calls of PyGILState_Ensure that have not ended: C code that called back. A thread state begins with one. */ \
    COPY(base, int, gilstate_counter, 1)                                                                         \
    /* Depth of trace and profile calls, and the event being reported. */                                      \
    COPY(base, int, tracing, 0)                                                                                  \
    COPY(base, int, what_event, -1)                                                                              \
    /* Chain of critical sections in C frames of this fiber; suspended before it is saved. */                  \
    COPY(base, uintptr_t, critical_section, 0)                                                                   \
    /* The trace of the JIT compiler that this fiber has left. */                                              \
    COPY(base, PyObject *, previous_executor, NULL)

#endif
