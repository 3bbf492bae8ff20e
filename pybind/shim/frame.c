/* The frame at the end of every fiber's Python stack. */
#include "shim.h"

#include <frameobject.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_object.h>

/* One for the process, kept for ever: sentinels borrow from it. */
static PyFrameObject *shared;

int rv_init(void) {
    if (shared != NULL) {
        return 0;
    }
    if (rv_preempt_init() != 0) {
        return -1;
    }
    PyObject *globals = Py_BuildValue("{s:s}", "__name__", "roving");
    if (globals == NULL) {
        return -1;
    }
    PyObject *builtins = PyEval_GetBuiltins();
    PyCodeObject *code = PyCode_NewEmpty("<roving>", "<fiber>", 0);
    PyFrameObject *frame = NULL;
    if (code != NULL && PyDict_SetItemString(globals, "__builtins__", builtins) == 0) {
        frame = PyFrame_New(PyThreadState_Get(), code, globals, NULL);
    }
    Py_XDECREF(code);
    Py_DECREF(globals);
    if (frame == NULL) {
        return -1;
    }
#ifdef Py_GIL_DISABLED
    /* Every f_back of a fiber's outermost frame counts a reference to it, on every core. */
    PyObject_GC_UnTrack(frame);
    ((PyObject *)frame)->ob_tid = _Py_UNOWNED_TID;
    ((PyObject *)frame)->ob_ref_local = _Py_IMMORTAL_REFCNT_LOCAL;
    ((PyObject *)frame)->ob_ref_shared = 0;
#endif
    shared = frame;
    return 0;
}

void rv_sentinel_init(struct _PyInterpreterFrame *sentinel) {
    /* A complete frame: owned by a thread, past its first instruction, with the shared frame object made already.
     * Walks from any thread (f_back, sys._getframe, profilers) stop at the first complete frame they meet, take its
     * frame object, and go on from there: so they end here and never run into the next fiber's frames. */
    *sentinel = *shared->f_frame;
    sentinel->previous = NULL;
    sentinel->frame_obj = shared;
    sentinel->owner = FRAME_OWNED_BY_THREAD;
#if PY_VERSION_HEX >= 0x030E0000
    sentinel->stackpointer = sentinel->localsplus;
#ifdef Py_GIL_DISABLED
    sentinel->tlbc_index = 0;
#endif
#else
    sentinel->stacktop = 0;
#endif
}
