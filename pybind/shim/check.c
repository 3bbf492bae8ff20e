/* Whether the interpreter we were loaded into is the one whose headers this was compiled against. */
#include "shim.h"

#include <stdio.h>

static char why[512];

static const char *complain(const char *what, unsigned long long built, unsigned long long here) {
    snprintf(why, sizeof why,
             "roving was built for CPython %s%s and cannot run here: %s is %llu in this interpreter and was %llu in the "
             "one it was built for. Install roving for this interpreter, or build it anew.",
             PY_VERSION,
#ifdef Py_GIL_DISABLED
             " (free-threaded)",
#else
             "",
#endif
             what, here, built);
    return why;
}

#define SAME(what, built, here)                                                                                  \
    if ((unsigned long long)(built) != (unsigned long long)(here)) {                                             \
        return complain(what, (unsigned long long)(built), (unsigned long long)(here));                          \
    }

/* Fields the interpreter does not describe are compared with what they must hold on this thread. */
static const char *probe(void) {
    PyThreadState *ts = PyThreadState_Get();
    SAME("the layout of a thread state (its exception stack)", 1, ts->exc_info != NULL);
    SAME("the recursion limit of a thread state", Py_GetRecursionLimit(), ts->py_recursion_limit);
    SAME("the tail of a thread state (threading.local)", 1,
         ts->threading_local_key == NULL || Py_TYPE(ts->threading_local_key) != NULL);
#if PY_VERSION_HEX >= 0x030E0000
    _PyThreadStateImpl *impl = (_PyThreadStateImpl *)ts;
    uintptr_t here = (uintptr_t)&ts;
    SAME("the C stack limits of a thread state", 1,
         impl->c_stack_hard_limit < here && here < impl->c_stack_top &&
             impl->c_stack_soft_limit - impl->c_stack_hard_limit == _PyOS_STACK_MARGIN_BYTES);
#endif
#if RV_ANCHOR
    SAME("the index of a thread's bytecode", 1, impl->tlbc_index >= 0 && impl->tlbc_index < 1 << 20);
#endif
    return NULL;
}

const char *rv_check(void) {
    /* First the symbol that all versions have: what follows may lie elsewhere in another one. */
    unsigned long built = RV_FAULTY(RV_FAULT_VERSION) ? PY_VERSION_HEX + 0x10000 : PY_VERSION_HEX;
    SAME("the version", built >> 16, Py_Version >> 16);
    const struct _Py_DebugOffsets *here = &_PyRuntime.debug_offsets;
    if (memcmp(here->cookie, "xdebugpy", 8) != 0) {
        return complain("the cookie of _PyRuntime", 1, 0);
    }
    SAME("the version of _PyRuntime", Py_Version, here->version);
#ifdef Py_GIL_DISABLED
    SAME("free threading", 1, here->free_threaded);
#else
    SAME("free threading", 0, here->free_threaded);
#endif
    SAME("the size of a thread state", sizeof(PyThreadState), here->thread_state.size);
    SAME("the offset of a thread state's interpreter", offsetof(PyThreadState, interp), here->thread_state.interp);
    SAME("the offset of a thread state's frame", offsetof(PyThreadState, current_frame),
         here->thread_state.current_frame);
    SAME("the offset of a thread state's number", offsetof(PyThreadState, thread_id), here->thread_state.thread_id);
    SAME("the offset of a thread state's frame memory", offsetof(PyThreadState, datastack_chunk),
         here->thread_state.datastack_chunk);
    SAME("the offset of a thread state's status", offsetof(PyThreadState, _status), here->thread_state.status);
    SAME("the size of a frame", sizeof(struct _PyInterpreterFrame), here->interpreter_frame.size);
    SAME("the offset of a frame's predecessor", offsetof(struct _PyInterpreterFrame, previous),
         here->interpreter_frame.previous);
    SAME("the offset of a frame's code", offsetof(struct _PyInterpreterFrame, f_executable),
         here->interpreter_frame.executable);
    SAME("the offset of a frame's position", offsetof(struct _PyInterpreterFrame, instr_ptr),
         here->interpreter_frame.instr_ptr);
    SAME("the offset of a frame's owner", offsetof(struct _PyInterpreterFrame, owner), here->interpreter_frame.owner);
    SAME("the offset of a frame's variables", offsetof(struct _PyInterpreterFrame, localsplus),
         here->interpreter_frame.localsplus);
    SAME("the size of the interpreter's state", sizeof(PyInterpreterState), here->interpreter_state.size);
    return probe();
}
