/* Which fibers there are, and where they are: while the world is stopped, or the GIL held, since only their own
 * worker may look at their frames while it runs. */
#include "shim.h"

#include <internal/pycore_frame.h>

/* So many calls of one fiber, the innermost ones, are listed. */
#define DEEP 500

static int append(PyObject *list, PyObject *item) {
    int failed = item == NULL || PyList_Append(list, item) != 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

static PyObject *stack_of(struct rv_fiber *f, struct _PyInterpreterFrame *frame) {
    PyObject *calls = PyList_New(0);
    for (int depth = 0; calls != NULL && frame != NULL && frame != &f->sentinel && depth < DEEP;
         frame = frame->previous) {
        if (_PyFrame_IsIncomplete(frame)) {
            continue;
        }
        depth++;
        PyObject *code = PyUnstable_InterpreterFrame_GetCode(frame);
        if (append(calls, Py_BuildValue("(Ni)", code, PyUnstable_InterpreterFrame_GetLine(frame))) != 0) {
            Py_CLEAR(calls);
        }
    }
    return calls;
}

static int dump_fiber(PyObject *list, struct rv_fiber *f, struct _PyInterpreterFrame *frame, int runs, int stacks) {
    /* One that has not called anything yet, or is about to end. */
    if (f->object == NULL) {
        return 0;
    }
    PyObject *calls = stacks ? stack_of(f, frame) : Py_NewRef(Py_None);
    if (calls == NULL) {
        return -1;
    }
    return append(list, Py_BuildValue("(OiN)", f->object, runs, calls));
}

int rv_dump(PyObject *list, int stacks) {
    PyInterpreterState *interp = PyInterpreterState_Get();
    int failed = 0;
    _PyEval_StopTheWorld(interp);
    for (struct rv_worker *w = rv_first_worker(); w != NULL && !failed; w = w->next) {
        if (w->running != NULL) {
            failed = dump_fiber(list, w->running, w->tstate->current_frame, 1, stacks);
        }
        for (struct rv_fiber *f = w->parked; f != NULL && !failed; f = f->after) {
            failed = dump_fiber(list, f, f->saved.current_frame, 0, stacks);
        }
    }
    _PyEval_StartTheWorld(interp);
    return failed ? -1 : 0;
}
