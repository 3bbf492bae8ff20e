/* Trace and profile functions: a fiber's end, and the functions that set them for all threads. */
#include "tracing.h"

#include "seams.h"

#include <internal/pycore_interp.h>

#include <stdlib.h>

int rv_tracing_clear(PyThreadState *ts) {
    if (ts->c_tracefunc == NULL && ts->c_profilefunc == NULL && ts->c_traceobj == NULL && ts->c_profileobj == NULL) {
        return 0;
    }
    if (ts->c_tracefunc != NULL) {
        ts->c_tracefunc = NULL;
        _Py_atomic_add_ssize(&ts->interp->sys_tracing_threads, -1);
    }
    if (ts->c_profilefunc != NULL) {
        ts->c_profilefunc = NULL;
        _Py_atomic_add_ssize(&ts->interp->sys_profiling_threads, -1);
    }
    /* Their destructors may set others. */
    Py_CLEAR(ts->c_traceobj);
    Py_CLEAR(ts->c_profileobj);
    return 1;
}

/* 3.13t does not export what stops the world: there CPython's functions reach the fibers that run. */
#if !defined(Py_GIL_DISABLED) || PY_VERSION_HEX >= 0x030E0000

/* References to give up when the world runs again. Without memory for it they stay. */
struct old {
    PyObject **objects;
    size_t count, room;
};

static void keep(struct old *old, PyObject *object) {
    if (object == NULL) {
        return;
    }
    if (old->count == old->room) {
        size_t room = old->room == 0 ? 64 : old->room * 2;
        PyObject **grown = realloc(old->objects, room * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        old->objects = grown;
        old->room = room;
    }
    old->objects[old->count++] = object;
}

static void put(Py_tracefunc *function, PyObject **object, Py_ssize_t *count, Py_tracefunc new, PyObject *argument,
                struct old *old) {
    _Py_atomic_add_ssize(count, (new != NULL) - (*function != NULL));
    keep(old, *object);
    *function = new;
    *object = Py_XNewRef(argument);
}

/* For all fibers, and what lies with those that run: the workers'. */
static void put_everywhere(int profile, Py_tracefunc new, PyObject *argument) {
    PyInterpreterState *interp = PyInterpreterState_Get();
    Py_ssize_t *count = profile ? &interp->sys_profiling_threads : &interp->sys_tracing_threads;
    struct old old = {NULL, 0, 0};
#ifdef Py_GIL_DISABLED
    _PyEval_StopTheWorld(interp);
#endif
    for (struct rv_worker *w = rv_first_worker(); w != NULL; w = w->next) {
        PyThreadState *ts = w->tstate;
        put(profile ? &ts->c_profilefunc : &ts->c_tracefunc, profile ? &ts->c_profileobj : &ts->c_traceobj, count, new,
            argument, &old);
        for (struct rv_fiber *f = w->running != NULL ? w->running : w->parked; f != NULL;
             f = f == w->running ? w->parked : f->after) {
            put(profile ? &f->tracing.profile : &f->tracing.trace,
                profile ? &f->tracing.profile_object : &f->tracing.trace_object, count, new, argument, &old);
        }
    }
#ifdef Py_GIL_DISABLED
    _PyEval_StartTheWorld(interp);
#endif
    for (size_t i = 0; i < old.count; i++) {
        Py_DECREF(old.objects[i]);
    }
    free(old.objects);
}

/* CPython's function knows thread states. It is also the one that has the interpreter look at how many functions there
 * are: so it comes last when they are taken away, and first when they are set, when it tells us CPython's own function. */
static PyObject *for_all(PyCFunction original, int profile, PyObject *module, PyObject *argument) {
    if (argument == Py_None) {
        put_everywhere(profile, NULL, NULL);
        return original(module, argument);
    }
    PyObject *result = original(module, argument);
    PyThreadState *ts = PyThreadState_Get();
    Py_tracefunc function = profile ? ts->c_profilefunc : ts->c_tracefunc;
    /* Destructors of what was there before may have set something else. */
    if (result != NULL && function != NULL && (profile ? ts->c_profileobj : ts->c_traceobj) == argument) {
        put_everywhere(profile, function, argument);
    }
    return result;
}

static PyCFunction trace_original, profile_original;

static PyObject *trace_all(PyObject *module, PyObject *argument) {
    return for_all(trace_original, 0, module, argument);
}

static PyObject *profile_all(PyObject *module, PyObject *argument) {
    return for_all(profile_original, 1, module, argument);
}

#define FOR_ALL(name, function, original) {RV_THREADS, "sys", NULL, name, METH_O, 1, function, &original, NULL}

struct rv_seam rv_tracing_seams[] = {
    FOR_ALL("_settraceallthreads", trace_all, trace_original),
    FOR_ALL("_setprofileallthreads", profile_all, profile_original),
    {0},
};

#else

struct rv_seam rv_tracing_seams[] = {{0}};

#endif
