/* Buffered files over a raw file that may park: one written in Python, as socket.SocketIO.
 *
 * A buffered object keeps a lock, taken in C and keyed by thread, while it calls its raw file. With the raw file
 * parked, another fiber of that thread would be told of a "reentrant call", and one of another worker would block
 * that worker until the first is done, which may need it. So a fiber or thread that calls a method which takes that lock
 * first enters a guard of ours, in which fibers wait parked. Over a FileIO nothing changes, unless pipes are patched (pipes.c):
 * then that may park too, but for one with a position.
 *
 * A fiber that comes back into the object it is in already (through its raw file) is let through, to CPython's own
 * error.
 */
#include "seams.h"

static PyTypeObject *file_io;
/* Where a buffered object keeps its raw file. */
static Py_ssize_t raw_offset;

static int is_guarded(PyObject *op) {
    PyObject *raw = *(PyObject **)((char *)op + raw_offset);
    return raw != NULL && (!Py_IS_TYPE(raw, file_io) || (rv_is_on(RV_PIPES) && !rv_file_has_position(raw)));
}

/* 1 to call and leave, 0 just to call, -1 with an exception. */
static int enter(PyObject *op) {
    if (!is_guarded(op) || rv_orphaned) {
        return 0;
    }
    return rv_enter(op, rv_ident(), rv_place() == RV_PLACE_FIBER);
}

typedef PyObject *(*method_t)(PyObject *, PyTypeObject *, PyObject *const *, Py_ssize_t, PyObject *);

/* One per name and C function; the wrapper of its calling convention is chosen at start. */
#define METHODS(X)                                                                                               \
    X(read) X(peek) X(read1) X(readinto) X(readinto1) X(readline) X(seek) X(tell) X(truncate) X(write) X(flush)  \
    X(close) X(detach)

#define GUARDED(call)                                                                                            \
    int entered = enter(self);                                                                                   \
    if (entered < 0) {                                                                                           \
        return NULL;                                                                                             \
    }                                                                                                            \
    Py_INCREF(self);                                                                                             \
    PyObject *result = call;                                                                                     \
    if (entered) {                                                                                               \
        rv_leave(self);                                                                                          \
    }                                                                                                            \
    Py_DECREF(self);                                                                                             \
    return result;

#define DEFINE(name)                                                                                             \
    static PyCFunction name##_original;                                                                          \
    static PyObject *name##_one(PyObject *self, PyObject *arg) { GUARDED(name##_original(self, arg)) }           \
    static PyObject *name##_fast(PyObject *self, PyObject *const *args, Py_ssize_t count) {                      \
        GUARDED(((PyCFunctionFast)(void (*)(void))name##_original)(self, args, count))                           \
    }                                                                                                            \
    static PyObject *name##_method(PyObject *self, PyTypeObject *type, PyObject *const *args, Py_ssize_t count,  \
                                   PyObject *names) {                                                            \
        GUARDED(((method_t)(void (*)(void))name##_original)(self, type, args, count, names))                     \
    }

METHODS(DEFINE)

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

static const struct guarded {
    const char *name;
    PyCFunction *original;
    PyCFunction one, fast, method;
} guarded[] = {
#define ENTRY(name) {#name, &name##_original, name##_one, FUNCTION(name##_fast), FUNCTION(name##_method)},
    METHODS(ENTRY)
};

static PyObject *(*next_original)(PyObject *);

static PyObject *next(PyObject *self) { GUARDED(next_original(self)) }

static void guard(PyTypeObject *type, int reader) {
    for (size_t i = 0; i < sizeof guarded / sizeof guarded[0]; i++) {
        const struct guarded *g = &guarded[i];
        PyObject *found = PyDict_GetItemString(type->tp_dict, g->name);
        if (found == NULL || !Py_IS_TYPE(found, &PyMethodDescr_Type) || (reader && strcmp(g->name, "flush") == 0)) {
            /* A reader's flush takes no lock. */
            continue;
        }
        PyMethodDef *def = ((PyMethodDescrObject *)found)->d_method;
        PyCFunction wrapper;
        switch (def->ml_flags & ~METH_COEXIST) {
        case METH_O:
        case METH_NOARGS:
        case METH_VARARGS:
            wrapper = g->one;
            break;
        case METH_FASTCALL:
            wrapper = g->fast;
            break;
        case METH_METHOD | METH_FASTCALL | METH_KEYWORDS:
            wrapper = g->method;
            break;
        default:
            continue;
        }
        if (*g->original == NULL) {
            *g->original = def->ml_meth;
        }
        /* All types share one function per name; one that does not is left alone. */
        if (def->ml_meth == *g->original) {
            _Py_atomic_store_ptr_release((void *)&def->ml_meth, (void *)wrapper);
        }
    }
    if (type->tp_iternext != NULL && (next_original == NULL || next_original == type->tp_iternext)) {
        next_original = type->tp_iternext;
        type->tp_iternext = next;
    }
}

/* What it does not find it leaves as it is. */
void rv_guard_buffered(PyObject *io) {
    static int begun;
    if (_Py_atomic_exchange_int(&begun, 1)) {
        return;
    }
    static const char *const names[] = {"BufferedReader", "BufferedWriter", "BufferedRandom"};
    PyObject *types[3] = {NULL, NULL, NULL};
    PyObject *file = PyObject_GetAttrString(io, "FileIO");
    int known = file != NULL && PyType_Check(file);
    Py_ssize_t offset = -1;
    for (int i = 0; i < 3 && known; i++) {
        types[i] = PyObject_GetAttrString(io, names[i]);
        PyObject *raw = types[i] == NULL ? NULL : PyObject_GetAttrString(types[i], "raw");
        known = raw != NULL && PyType_Check(types[i]) && Py_IS_TYPE(raw, &PyMemberDescr_Type);
        if (known) {
            Py_ssize_t here = ((PyMemberDescrObject *)raw)->d_member->offset;
            known = offset < 0 || offset == here;
            offset = here;
        }
        Py_XDECREF(raw);
    }
    if (known) {
        file_io = (PyTypeObject *)Py_NewRef(file);
        raw_offset = offset;
        for (int i = 0; i < 3; i++) {
            guard((PyTypeObject *)types[i], i == 0);
        }
    }
    PyErr_Clear();
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(types[i]);
    }
    Py_XDECREF(file);
}
