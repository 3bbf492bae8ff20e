/* A fiber's first call, and its end. */
#include "switch.h"
#include "tracing.h"

#include <unistd.h>

#if PY_VERSION_HEX < 0x030E0000
/* As in worker.c: a fiber that comes to a safe point while the interpreter is finalized must hang there. */
static void hang(const int *armed) {
    while (*armed) {
        pause();
    }
}
#endif

PyObject *rv_call(struct rv_fiber *f, PyObject *object, PyObject *callable, PyObject *args, PyObject *names,
                  PyObject *context, PyObject **error) {
    f->object = object;
    if (context != NULL) {
        PyThreadState *ts = f->worker->tstate;
        ts->context = context;
        ts->context_ver++;
    }
#if PY_VERSION_HEX < 0x030E0000
    __attribute__((cleanup(hang))) int armed = 1;
#endif
    PyObject *result;
    if (args == NULL) {
        result = PyObject_Vectorcall(callable, NULL, 0, NULL);
    }
    else {
        Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
        result = PyObject_Vectorcall(callable, &PyTuple_GET_ITEM(args, 0), (size_t)(PyTuple_GET_SIZE(args) - named),
                                     names);
    }
#if PY_VERSION_HEX < 0x030E0000
    armed = 0;
#endif
    *error = result == NULL ? PyErr_GetRaisedException() : NULL;
    return result;
}

void rv_begin(struct rv_fiber *f, PyObject *object) {
    f->object = object;
}

void rv_locals_lend(struct rv_fiber *f, const struct rv_locals *set) {
    PyThreadState *ts = f->worker->tstate;
    assert(ts->threading_local_key == NULL && ts->threading_local_sentinel == NULL);
    ts->threading_local_key = set->key;
    ts->threading_local_sentinel = set->sentinel;
    f->ident = set->ident;
}

int rv_locals_take(struct rv_fiber *f, struct rv_locals *set) {
    PyThreadState *ts = f->worker->tstate;
    if (ts->threading_local_key == NULL || ts->threading_local_sentinel == NULL) {
        return 0;
    }
    *set = (struct rv_locals){ts->threading_local_key, ts->threading_local_sentinel, f->ident, f->worker->thread};
    ts->threading_local_key = NULL;
    ts->threading_local_sentinel = NULL;
    /* Destructors run still, and may park. Two fibers with one ident would both own what either has locked. */
    f->ident = RV_BARE_IDENT | f->number;
    return 1;
}

unsigned long long rv_locals_thread(struct rv_fiber *f) { return f->worker->thread; }

PyObject *rv_invoke(PyObject *callable, PyObject *const *args, size_t count) {
#if PY_VERSION_HEX < 0x030E0000
    __attribute__((cleanup(hang))) int armed = 1;
#endif
    PyObject *result = PyObject_Vectorcall(callable, args, count, NULL);
#if PY_VERSION_HEX < 0x030E0000
    armed = 0;
#endif
    return result;
}

PyObject *rv_next(PyObject *iterator) {
#if PY_VERSION_HEX < 0x030E0000
    __attribute__((cleanup(hang))) int armed = 1;
#endif
    PyObject *item = PyIter_Next(iterator);
#if PY_VERSION_HEX < 0x030E0000
    armed = 0;
#endif
    return item;
}

/* Destructors may make what is being cleared anew; so many times it is cleared again. */
#define ROUNDS 8

static void clear(PyThreadState *ts) {
    for (int round = 0; round < ROUNDS; round++) {
        int clean = !rv_tracing_clear(ts) && ts->exc_state.exc_value == NULL;
        /* One at a time: each destructor sees a whole state. */
        Py_CLEAR(ts->exc_state.exc_value);
#define RV_SKIP(where, type, name, fresh)
#define RV_CLEAR(where, name)                                                                                    \
    if (RV_AT_##where(ts)->name != NULL) {                                                                       \
        clean = 0;                                                                                               \
        Py_CLEAR(RV_AT_##where(ts)->name);                                                                       \
    }
        RV_FIELDS(RV_SKIP, RV_SKIP, RV_CLEAR)
#undef RV_SKIP
#undef RV_CLEAR
        if (clean) {
            return;
        }
    }
}

void rv_finish(struct rv_fiber *f, PyObject *object) {
    clear(f->worker->tstate);
    /* With the last reference the object goes: what that runs must not find it. */
    f->object = NULL;
    Py_DECREF(object);
    clear(f->worker->tstate);
}

int rv_context_copy(PyObject **copy) {
    PyContext *context = (PyContext *)PyThreadState_Get()->context;
    *copy = NULL;
    /* An empty one is as good as none, and made when it is first written to. */
    if (context == NULL || context->ctx_vars->h_count == 0) {
        return 0;
    }
    *copy = PyContext_CopyCurrent();
    return *copy == NULL ? -1 : 0;
}

PyObject *rv_keep_arguments(PyObject *const *args, Py_ssize_t count) {
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    }
    return tuple;
}
