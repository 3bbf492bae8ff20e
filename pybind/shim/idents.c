/* What asks who runs here, or makes another process: get_ident and those that take what it gives, and fork. */
#include "locks.h"
#include "keyed.h"

int rv_orphaned;
/* Of the fiber that forked: it is the child's main thread. */
static unsigned long long orphan_ident;

void rv_orphan(void) {
    orphan_ident = rv_ident();
    rv_orphaned = 1;
}

PyObject *rv_get_ident(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLongLong(rv_ident());
}

/* threading takes the thread that forked for the main thread, by its ident. */
PyObject *rv_get_main_ident(PyObject *module, PyObject *unused) {
    return rv_orphaned ? PyLong_FromUnsignedLongLong(orphan_ident) : rv_originals.main_ident(module, unused);
}

/* With the fiber that asks under its own ident instead of its worker's, and without the anchors, which are no threads. */
PyObject *rv_current_frames(PyObject *module, PyObject *unused) {
    PyObject *frames = rv_originals.current_frames(module, unused);
    struct rv_fiber *f = rv_fiber_here();
    if (frames == NULL) {
        return NULL;
    }
    PyObject *anchors = PyLong_FromLong(0);
    PyObject *ident = PyLong_FromUnsignedLongLong(rv_ident());
    PyObject *thread = PyLong_FromUnsignedLongLong(rv_thread_ident());
    PyObject *frame = (PyObject *)PyThreadState_GetFrame(PyThreadState_Get());
    int failed = anchors == NULL || ident == NULL || thread == NULL || PyDict_Pop(frames, anchors, NULL) < 0 ||
                 (f != NULL && frame != NULL &&
                  (PyDict_Pop(frames, thread, NULL) < 0 || PyDict_SetItem(frames, ident, frame) < 0));
    Py_XDECREF(anchors);
    Py_XDECREF(ident);
    Py_XDECREF(thread);
    Py_XDECREF(frame);
    if (failed) {
        Py_CLEAR(frames);
    }
    return frames;
}

/* The ident of a fiber is no pthread_t, which is an address that the C library looks behind. */
PyObject *rv_pthread_kill(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count == 2 && PyLong_Check(args[0])) {
        unsigned long long ident = PyLong_AsUnsignedLongLongMask(args[0]);
        if (ident & RV_FIBER_IDENT && ident != rv_ident()) {
            PyErr_SetString(PyExc_ProcessLookupError, "this is the ident of a fiber, which gets no signals of its own");
            return NULL;
        }
        if (ident & RV_FIBER_IDENT) {
            PyObject *thread = PyLong_FromUnsignedLongLong(rv_thread_ident());
            if (thread == NULL) {
                return NULL;
            }
            PyObject *const replaced[] = {thread, args[1]};
            PyObject *result = rv_originals.pthread_kill(module, replaced, 2);
            Py_DECREF(thread);
            return result;
        }
    }
    return rv_originals.pthread_kill(module, args, count);
}

/* The same for time.pthread_getcpuclockid. A fiber has no clock: for itself it gets its worker's. */
PyObject *rv_cpu_clock(PyObject *module, PyObject *args) {
    if (PyTuple_GET_SIZE(args) != 1 || !PyLong_Check(PyTuple_GET_ITEM(args, 0))) {
        return rv_originals.cpu_clock(module, args);
    }
    unsigned long long ident = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(args, 0));
    if (!(ident & RV_FIBER_IDENT)) {
        return rv_originals.cpu_clock(module, args);
    }
    if (ident != rv_ident()) {
        PyErr_SetString(PyExc_ProcessLookupError, "this is the ident of a fiber, which has no clock of its own");
        return NULL;
    }
    PyObject *replaced = Py_BuildValue("(K)", rv_thread_ident());
    PyObject *result = replaced == NULL ? NULL : rv_originals.cpu_clock(module, replaced);
    Py_XDECREF(replaced);
    return result;
}

void rv_nudge_import_lock(void) { rv_nudge(&rv_import_lock(PyThreadState_Get())->mutex); }

/* fork takes the import lock in C, which waits natively. In a fiber it is taken here first: the holder may be a fiber of this
 * very worker. The interpreter then takes it once more. */
static PyObject *fork_with(PyCFunction original, PyObject *module, PyObject *unused) {
    if (rv_fiber_here() == NULL || rv_orphaned) {
        return original(module, unused);
    }
    PyObject *none = rv_import_acquire(module, NULL);
    if (none == NULL) {
        return NULL;
    }
    PyObject *result = original(module, unused);
    PyObject *error = PyErr_GetRaisedException();
    /* Also in the child, where it is ours alone. */
    Py_XDECREF(rv_import_release(module, NULL));
    PyErr_SetRaisedException(error);
    return result;
}

PyObject *rv_fork(PyObject *module, PyObject *unused) { return fork_with(rv_originals.fork, module, unused); }

PyObject *rv_forkpty(PyObject *module, PyObject *unused) { return fork_with(rv_originals.forkpty, module, unused); }
