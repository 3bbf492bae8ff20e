/* The methods of `_ssl._SSLSocket` that wait: CPython's own makes an attempt, and raises SSLWantReadError or SSLWantWriteError
 * where it would have waited (tls_state.c); here that is waited for. Each attempt is whole: no lock of `_ssl`'s or OpenSSL's
 * is held in between. */
#include "tls.h"

#include <fcntl.h>

/* Whether fibers park. The methods stay in place when it is switched off: objects that were adopted need them. */
static int switched_on;

/* Classes derived from SSLError. */
static PyObject *want_read, *want_write;

int rv_ssl_errors(PyObject *module) {
    PyObject *reading = PyObject_GetAttrString(module, "SSLWantReadError");
    PyObject *writing = PyObject_GetAttrString(module, "SSLWantWriteError");
    if (reading == NULL || writing == NULL || want_read != NULL || !PyType_Check(reading)) {
        Py_XDECREF(reading);
        Py_XDECREF(writing);
        if (want_read == NULL && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "roving: _ssl.SSLWantReadError is no class");
        }
        return want_read != NULL ? 0 : -1;
    }
    want_write = writing;
    want_read = reading;
    return 0;
}

void rv_ssl_switch(int on) { _Py_atomic_store_int(&switched_on, on); }

static int parks(void) { return _Py_atomic_load_int_relaxed(&switched_on) && rv_may_park(); }

static const char *const too_late[] = {
    [RV_IO_SSL_HANDSHAKE] = "_ssl.c: The handshake operation timed out",
    [RV_IO_SSL_READ] = "The read operation timed out",
    [RV_IO_SSL_WRITE] = "The write operation timed out",
    [RV_IO_SSL_SHUTDOWN] = NULL,
    [RV_IO_SSL_POSTAUTH] = NULL,
};

static int timed_out(enum rv_io which, int write) {
    const char *text = too_late[which];
    if (text == NULL) {
        text = too_late[write ? RV_IO_SSL_WRITE : RV_IO_SSL_READ];
    }
    PyErr_SetString(PyExc_TimeoutError, text);
    return -1;
}

/* Waits for the descriptor: 0, or -1 with an exception. */
static int wait_for(enum rv_io which, struct rv_socket *s, int fd, int write, struct rv_patience *patience) {
    PyTime_t left = rv_patience_left(patience);
    if (left == 0) {
        return timed_out(which, write);
    }
    if (parks()) {
        int ready = rv_wait_refused(fd, write, left, &s->fd);
        return ready == 0 ? timed_out(which, write) : ready < 0 ? -1 : 0;
    }
    /* A plain thread, or where nothing may park. */
    struct pollfd question = {fd, write ? POLLOUT : POLLIN, 0};
    PyTime_t ms = left < 0 ? -1 : (left + 999999) / 1000000;
    int ready;
    Py_BEGIN_ALLOW_THREADS
    ready = poll(&question, 1, ms > INT_MAX ? INT_MAX : (int)ms);
    Py_END_ALLOW_THREADS
    if (ready < 0 && errno == EINTR) {
        return PyErr_CheckSignals();
    }
    return ready == 0 && rv_patience_left(patience) == 0 ? timed_out(which, write) : 0;
}

/* Sees that OpenSSL's system calls on a socket without a timeout do not wait. Looked at each time: setblocking, settimeout and
 * do_handshake undo it. */
static void make_impatient(struct rv_tls *t, struct rv_socket *s, int fd) {
    if (s->timeout >= 0) {
        return;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) {
        _Py_atomic_store_int(&t->made, fd);
    }
}

/* ---- an attempt ---- */

struct attempt {
    enum rv_io which;
    PyObject *op, *arg;
    struct rv_tls *t;
    struct rv_socket *s;
    int fd;
    /* What a callback has raised meanwhile. */
    PyObject *raised;
};

static int closed(void) {
    errno = EBADF;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Callbacks' errors are raised when all is done; where `_ssl` gives up before that, they are the context of its own error. */
static void keep_context(struct attempt *a) {
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *context = PyException_GetContext(exception);
    PyObject *handled = PyErr_GetHandledException();
    if (context != NULL && context != handled) {
        Py_XSETREF(a->raised, Py_NewRef(context));
    }
    Py_XDECREF(handled);
    Py_XDECREF(context);
    Py_DECREF(exception);
}

/* How many bytes a read asks for. */
static Py_ssize_t asked_for(PyObject *args) {
    Py_ssize_t size = PyLong_AsSsize_t(PyTuple_GET_ITEM(args, 0));
    if (PyTuple_GET_SIZE(args) > 1) {
        Py_buffer view;
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(args, 1), &view, PyBUF_SIMPLE) == 0) {
            size = size <= 0 || size > view.len ? view.len : size;
            PyBuffer_Release(&view);
        }
    }
    PyErr_Clear();
    return size;
}

/* Whether a read that gave `result` took all that there was of a record. */
static int has_drained(PyObject *result, PyObject *args) {
    Py_ssize_t count = PyBytes_Check(result) ? PyBytes_GET_SIZE(result) : PyLong_AsSsize_t(result);
    return count > 0 && count < asked_for(args);
}

/* What the method gives, or NULL with an exception, or without one if it would have waited: then `*write` is for what. */
static PyObject *once(struct attempt *a, int *write) {
    struct rv_tls *t = a->t;
    unsigned long long me = rv_ident();
    /* A finalizer or a signal handler that runs amid an attempt of ours: OpenSSL has returned, or else called it. */
    int inside = _Py_atomic_load_ullong_relaxed(&t->owner) == me;
    if (!inside) {
        if (rv_mutex_lock(&t->turn, -1) < 0) {
            return NULL;
        }
        _Py_atomic_store_ullong_relaxed(&t->owner, me);
    }
    PyObject *result = NULL;
    int fd = rv_sock_fd(a->s);
    /* OpenSSL knows the descriptor's number, and would go on with whatever has it now. */
    if (fd != a->fd || (fd < 0 && a->which != RV_IO_SSL_SHUTDOWN)) {
        closed();
    }
    else {
        if (fd < 0) {
            _Py_atomic_store_int_relaxed(&t->companion->fd, -1);
        }
        int before = t->drained;
        t->drained = 0;
        result = rv_io_original[a->which](a->op, a->arg);
        if (result != NULL && (a->which == RV_IO_SSL_READ || a->which == RV_IO_SSL_WRITE)) {
            t->drained = a->which == RV_IO_SSL_READ ? has_drained(result, a->arg) : before;
        }
    }
    if (!inside) {
        _Py_atomic_store_ullong_relaxed(&t->owner, 0);
        rv_mutex_unlock(&t->turn);
    }
    if (result == NULL && a->s->timeout != 0) {
        *write = PyErr_ExceptionMatches(want_write);
        if (*write || PyErr_ExceptionMatches(want_read)) {
            keep_context(a);
        }
    }
    return result;
}

/* Whether there is nothing to read for sure: an attempt that fails costs an exception. A read of nothing waits for nothing. */
static int is_quiet(struct attempt *a) {
    char byte;
    if (a->which != RV_IO_SSL_READ || !_Py_atomic_load_int_relaxed(&a->t->drained) || asked_for(a->arg) <= 0) {
        return 0;
    }
    return recv(a->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && rv_would_block(errno);
}

/* The buffer among the arguments stays as large as it is while it is waited for, as CPython has it. */
static int hold_buffer(struct attempt *a, Py_buffer *view) {
    if (view->obj != NULL) {
        return 0;
    }
    if (a->which == RV_IO_SSL_WRITE) {
        return PyObject_GetBuffer(a->arg, view, PyBUF_SIMPLE);
    }
    if (a->which == RV_IO_SSL_READ && PyTuple_GET_SIZE(a->arg) > 1) {
        return PyObject_GetBuffer(PyTuple_GET_ITEM(a->arg, 1), view, PyBUF_WRITABLE);
    }
    return 0;
}

/* Attempts until one need not wait. */
static PyObject *go_on(struct attempt *a, struct rv_patience *patience) {
    Py_buffer view = {0};
    PyObject *result = NULL;
    for (;;) {
        int write = 0;
        if (a->fd >= 0) {
            make_impatient(a->t, a->s, a->fd);
        }
        if (!is_quiet(a)) {
            result = once(a, &write);
            if (result != NULL || PyErr_Occurred()) {
                break;
            }
        }
        if (hold_buffer(a, &view) < 0 || wait_for(a->which, a->s, a->fd, write, patience) < 0) {
            break;
        }
    }
    PyBuffer_Release(&view);
    return result;
}

/* In turn with other writes. */
static PyObject *write_in_turn(struct attempt *a, struct rv_patience *patience) {
    struct rv_tls *t = a->t;
    unsigned long long me = rv_ident();
    if (_Py_atomic_load_ullong_relaxed(&t->writer) == me) {
        return go_on(a, patience);
    }
    PyTime_t left = a->s->timeout == 0 ? 0 : rv_patience_left(patience);
    int locked = rv_mutex_lock(&t->writing, left);
    if (locked <= 0) {
        if (locked == 0) {
            if (a->s->timeout == 0) {
                /* 3: SSL_ERROR_WANT_WRITE. */
                PyObject *args = Py_BuildValue("(is)", 3, "The operation did not complete (write)");
                if (args != NULL) {
                    PyErr_SetObject(want_write, args);
                    Py_DECREF(args);
                }
            }
            else {
                timed_out(a->which, 1);
            }
        }
        return NULL;
    }
    _Py_atomic_store_ullong_relaxed(&t->writer, me);
    PyObject *result = go_on(a, patience);
    _Py_atomic_store_ullong_relaxed(&t->writer, 0);
    rv_mutex_unlock(&t->writing);
    return result;
}

static PyObject *over_socket(struct attempt *a) {
    struct rv_patience patience = rv_patience(a->s->timeout);
    a->fd = rv_sock_fd(a->s);
    PyObject *result = a->which == RV_IO_SSL_WRITE ? write_in_turn(a, &patience) : go_on(a, &patience);
    if (a->which == RV_IO_SSL_SHUTDOWN && result == (PyObject *)a->t->companion) {
        Py_SETREF(result, Py_NewRef((PyObject *)a->s));
        /* What is sent from now on is not encrypted, and not ours. */
        rv_tls_restore(a->t);
    }
    if (a->raised != NULL) {
        Py_CLEAR(result);
        if (PyErr_Occurred()) {
            PyObject *exception = PyErr_GetRaisedException();
            PyException_SetContext(exception, a->raised);
            PyErr_SetRaisedException(exception);
        }
        else {
            PyErr_SetRaisedException(a->raised);
        }
    }
    return result;
}

static PyObject *call(enum rv_io which, PyObject *op, PyObject *arg) {
    PyObject *weak = _Py_atomic_load_ptr_acquire(&((struct rv_ssl *)op)->socket);
    struct rv_tls *t = rv_tls_of(op);
    /* Over a MemoryBIO nothing waits. */
    if (weak == NULL || (t == NULL && !parks())) {
        return rv_io_original[which](op, arg);
    }
    struct rv_socket *s = rv_tls_socket(t == NULL ? weak : t->socket);
    if (s == NULL && t != NULL) {
        /* `_ssl` would find the companion, and use the descriptor's number, which others may have by now. */
        PyObject *args = Py_BuildValue("(is)", 0, "Underlying socket connection gone (_ssl.c)");
        if (args != NULL) {
            PyErr_SetObject((PyObject *)((PyTypeObject *)want_read)->tp_base, args);
            Py_DECREF(args);
        }
        return NULL;
    }
    if (s == NULL || (t == NULL && s->timeout == 0)) {
        Py_XDECREF(s);
        return rv_io_original[which](op, arg);
    }
    PyObject *result = NULL;
    if (t != NULL || (t = rv_tls_adopt(op)) != NULL) {
        struct attempt a = {which, op, arg, t, s, -1, NULL};
        result = over_socket(&a);
    }
    Py_DECREF(s);
    return result;
}

PyObject *rv_ssl_do_handshake(PyObject *op, PyObject *unused) { return call(RV_IO_SSL_HANDSHAKE, op, unused); }

PyObject *rv_ssl_read(PyObject *op, PyObject *args) { return call(RV_IO_SSL_READ, op, args); }

PyObject *rv_ssl_write(PyObject *op, PyObject *buffer) { return call(RV_IO_SSL_WRITE, op, buffer); }

PyObject *rv_ssl_shutdown(PyObject *op, PyObject *unused) { return call(RV_IO_SSL_SHUTDOWN, op, unused); }

/* Waits for nothing; but what it asks for is sent by the next read or write. */
PyObject *rv_ssl_post_handshake(PyObject *op, PyObject *unused) { return call(RV_IO_SSL_POSTAUTH, op, unused); }
