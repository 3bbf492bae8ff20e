/* The methods of sockets where CPython's own code is worth keeping: addresses, ancillary data, audit events, errors. It
 * makes each attempt itself, and raises BlockingIOError where it would have waited.
 *
 * That it does not wait: with data, MSG_DONTWAIT among its flags. Without, O_NONBLOCK: for as long as a connect takes; for
 * good on a socket that accepts, whose mode nobody looks at but accept (plain threads that share it: see rv_sock_accept).
 * On a socket with a timeout CPython's code would wait in poll(2) first: there it is called with a *scratch* socket, a copy
 * of the fields whose timeout is zero. */
#include "sockets.h"

#include <fcntl.h>

/* A copy of a socket that does not wait: a new reference, to be given to `let_go`. */
static PyObject *scratch_of(struct rv_socket *s) {
    PyTypeObject *type = (PyTypeObject *)((PyMethodDescrObject *)rv_io_object[RV_IO_RECV])->d_common.d_type;
    /* Without __init__, which would make a descriptor. */
    PyObject *none = PyTuple_New(0);
    PyObject *object = none == NULL ? NULL : type->tp_new(type, none, NULL);
    Py_XDECREF(none);
    if (object != NULL) {
        struct rv_socket *copy = RV_SOCKET(object);
        copy->family = s->family;
        copy->type = s->type;
        copy->proto = s->proto;
        copy->errorhandler = s->errorhandler;
        copy->state = s->state;
        copy->timeout = 0;
        _Py_atomic_store_int_relaxed(&copy->fd, rv_sock_fd(s));
    }
    return object;
}

/* The descriptor is not the scratch's: an audit hook may have kept a reference to it. */
static void let_go(PyObject *scratch) {
    _Py_atomic_store_int_relaxed(&RV_SOCKET(scratch)->fd, -1);
    Py_DECREF(scratch);
}

/* Whom an attempt is made with. */
static PyObject *begin(struct rv_socket *s) { return s->timeout > 0 ? scratch_of(s) : Py_NewRef((PyObject *)s); }

static void end(struct rv_socket *s, PyObject *self) {
    if (self != (PyObject *)s) {
        let_go(self);
    }
    else {
        Py_DECREF(self);
    }
}

/* The errno of the BlockingIOError that is set, which is cleared; 0 if it is another exception. */
static int refusal(void) {
    int error = EAGAIN;
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        return 0;
    }
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *number = PyObject_GetAttrString(exception, "errno");
    if (number != NULL && PyLong_Check(number)) {
        error = PyLong_AsInt(number);
    }
    PyErr_Clear();
    Py_XDECREF(number);
    Py_DECREF(exception);
    return error;
}

static PyObject *call(enum rv_io which, PyObject *self, PyObject *args, PyObject *kwargs) {
    PyCFunction original = rv_io_original[which];
    if (which == RV_IO_RECVFROM_INTO) {
        return ((PyCFunctionWithKeywords)(void (*)(void))original)(self, args, kwargs);
    }
    return original(self, args);
}

/* Calls a method until it need not wait. */
static PyObject *attempt(struct rv_socket *s, enum rv_io which, PyObject *args, PyObject *kwargs, int write) {
    struct rv_patience patience = rv_sock_patience(s);
    for (;;) {
        int fd = rv_sock_fd(s);
        PyObject *self = begin(s);
        if (self == NULL) {
            return NULL;
        }
        PyObject *result = call(which, self, args, kwargs);
        end(s, self);
        if (result != NULL || !refusal()) {
            return result;
        }
        if (rv_sock_wait(s, fd, write, &patience) < 0) {
            return NULL;
        }
    }
}

/* ---- with flags ---- */

/* The flags among the arguments, at `place`: 0 if there are none; -1 if they are nothing that CPython would take. */
static int flags_of(PyObject *args, Py_ssize_t place) {
    if (PyTuple_GET_SIZE(args) <= place) {
        return 0;
    }
    PyObject *object = PyTuple_GET_ITEM(args, place);
    int flags = PyLong_Check(object) ? PyLong_AsInt(object) : -1;
    if (flags == -1) {
        PyErr_Clear();
    }
    return flags;
}

/* Arguments by place, with other flags at `place`. Those left out before it are zero, which means that they were, or an
 * empty tuple. Iterators, which would be used up by the first attempt, become tuples. */
static PyObject *with_flags(PyObject *args, Py_ssize_t place, int flags, int iterables) {
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    PyObject *copy = PyTuple_New(count > place ? count : place + 1);
    if (copy == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(copy); i++) {
        PyObject *item;
        if (i == place) {
            item = PyLong_FromLong(flags);
        }
        else if (i >= count) {
            item = i < iterables ? PyTuple_New(0) : PyLong_FromLong(0);
        }
        else {
            item = PyTuple_GET_ITEM(args, i);
            item = i < iterables && Py_TYPE(item)->tp_iternext != NULL ? PySequence_Tuple(item) : Py_NewRef(item);
        }
        if (item == NULL) {
            Py_DECREF(copy);
            return NULL;
        }
        PyTuple_SET_ITEM(copy, i, item);
    }
    return copy;
}

/* The descriptor of a method, and its arguments with the socket first: for the pool. */
static PyObject *in_pool(enum rv_io which, PyObject *op, PyObject *args, PyObject *kwargs) {
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    PyObject *all = PyTuple_New(count + 1);
    if (all == NULL) {
        return NULL;
    }
    PyTuple_SET_ITEM(all, 0, Py_NewRef(op));
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(all, i + 1, Py_NewRef(PyTuple_GET_ITEM(args, i)));
    }
    PyObject *result = rv_io_pool(rv_io_object[which], all, kwargs);
    Py_DECREF(all);
    return result;
}

struct shape {
    enum rv_io which;
    Py_ssize_t least, most, flags;
    int iterables;
    int write;
};

static PyObject *with_shape(PyObject *op, PyObject *args, struct shape shape) {
    struct rv_socket *s = RV_SOCKET(op);
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    int flags = flags_of(args, shape.flags);
    /* What CPython refuses, and what is not to wait. */
    if (!rv_sock_parks(s) || count < shape.least || count > shape.most || flags < 0 ||
        (s->timeout < 0 && flags & (MSG_DONTWAIT | MSG_ERRQUEUE))) {
        return call(shape.which, op, args, NULL);
    }
    /* The kernel waits for all of it, and nobody could take the part of it that an attempt has got. */
    if (s->timeout < 0 && flags & MSG_WAITALL) {
        return in_pool(shape.which, op, args, NULL);
    }
    PyObject *changed = with_flags(args, shape.flags, flags | MSG_DONTWAIT, shape.iterables);
    PyObject *result = changed == NULL ? NULL : attempt(s, shape.which, changed, NULL, shape.write);
    Py_XDECREF(changed);
    return result;
}

PyObject *rv_sock_recvfrom(PyObject *op, PyObject *args) {
    return with_shape(op, args, (struct shape){RV_IO_RECVFROM, 1, 2, 1, 0, 0});
}

PyObject *rv_sock_recvmsg(PyObject *op, PyObject *args) {
    return with_shape(op, args, (struct shape){RV_IO_RECVMSG, 1, 3, 2, 0, 0});
}

PyObject *rv_sock_recvmsg_into(PyObject *op, PyObject *args) {
    return with_shape(op, args, (struct shape){RV_IO_RECVMSG_INTO, 1, 3, 2, 1, 0});
}

PyObject *rv_sock_sendmsg(PyObject *op, PyObject *args) {
    return with_shape(op, args, (struct shape){RV_IO_SENDMSG, 1, 4, 2, 2, 1});
}

PyObject *rv_sock_recvfrom_into(PyObject *op, PyObject *args, PyObject *kwargs) {
    struct rv_socket *s = RV_SOCKET(op);
    if (!rv_sock_parks(s)) {
        return RV_KW(RECVFROM_INTO)(op, args, kwargs);
    }
    PyObject *named = kwargs == NULL ? NULL : PyDict_GetItemString(kwargs, "flags");
    PyObject *place = PyTuple_GET_SIZE(args) > 2 ? PyTuple_GET_ITEM(args, 2) : named;
    int flags = place == NULL ? 0 : PyLong_Check(place) ? PyLong_AsInt(place) : -1;
    if (flags < 0 || PyTuple_GET_SIZE(args) > 3 || (s->timeout < 0 && flags & (MSG_DONTWAIT | MSG_ERRQUEUE))) {
        PyErr_Clear();
        return RV_KW(RECVFROM_INTO)(op, args, kwargs);
    }
    if (s->timeout < 0 && flags & MSG_WAITALL) {
        return in_pool(RV_IO_RECVFROM_INTO, op, args, kwargs);
    }
    PyObject *result = NULL;
    PyObject *number = PyLong_FromLong(flags | MSG_DONTWAIT);
    PyObject *first = PyTuple_GetSlice(args, 0, 2);
    PyObject *names = kwargs == NULL ? PyDict_New() : PyDict_Copy(kwargs);
    if (number != NULL && first != NULL && names != NULL && PyDict_SetItemString(names, "flags", number) == 0) {
        result = attempt(s, RV_IO_RECVFROM_INTO, first, names, 0);
    }
    Py_XDECREF(number);
    Py_XDECREF(first);
    Py_XDECREF(names);
    return result;
}

PyObject *rv_sock_sendto(PyObject *op, PyObject *args) {
    struct rv_socket *s = RV_SOCKET(op);
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    int flags = count == 3 ? flags_of(args, 1) : 0;
    if (!rv_sock_parks(s) || count < 2 || count > 3 || flags < 0 || (s->timeout < 0 && flags & MSG_DONTWAIT)) {
        return RV_PLAIN(SENDTO)(op, args);
    }
    PyObject *result = NULL;
    PyObject *address = rv_resolved(s, PyTuple_GET_ITEM(args, count - 1));
    PyObject *changed =
        address == NULL ? NULL : Py_BuildValue("OiO", PyTuple_GET_ITEM(args, 0), flags | MSG_DONTWAIT, address);
    if (changed != NULL) {
        result = attempt(s, RV_IO_SENDTO, changed, NULL, 1);
    }
    Py_XDECREF(address);
    Py_XDECREF(changed);
    return result;
}

/* ---- without ---- */

/* Makes a descriptor one that does not wait: 1 if it was not, else 0. */
static int make_impatient(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && !(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/* Which descriptors we made so for good, a bit for each: a plain thread must then wait as if they were not. */
#define MARKED (1 << 20)
static uint8_t marks[MARKED / 8];

static int is_marked(int fd) {
    return fd >= 0 && fd < MARKED && _Py_atomic_load_uint8(&marks[fd / 8]) & 1 << fd % 8;
}

static void mark(int fd, int set) {
    if (fd < 0 || fd >= MARKED) {
        return;
    }
    uint8_t bit = (uint8_t)(1 << fd % 8);
    uint8_t old = _Py_atomic_load_uint8(&marks[fd / 8]);
    while (!_Py_atomic_compare_exchange_uint8(&marks[fd / 8], &old, (uint8_t)(set ? old | bit : old & ~bit))) {
    }
}

/* A plain thread, or where nothing may park: waits as accept would have. */
static PyObject *accept_natively(struct rv_socket *s, PyObject *unused) {
    for (;;) {
        int fd = rv_sock_fd(s);
        PyObject *result = RV_PLAIN(ACCEPT)((PyObject *)s, unused);
        if (result != NULL || s->timeout >= 0 || !is_marked(fd) || !refusal()) {
            return result;
        }
        struct pollfd question = {fd, POLLIN, 0};
        Py_BEGIN_ALLOW_THREADS
        (void)poll(&question, 1, -1);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

PyObject *rv_sock_accept(PyObject *op, PyObject *unused) {
    struct rv_socket *s = RV_SOCKET(op);
    if (!rv_sock_parks(s)) {
        return accept_natively(s, unused);
    }
    int fd = rv_sock_fd(s);
    /* One that has a timeout is non-blocking as a rule, and one made blocking again by setblocking is marked still. */
    if (fd < MARKED && make_impatient(fd)) {
        mark(fd, 1);
    }
    return attempt(s, RV_IO_ACCEPT, unused, NULL, 0);
}

/* How long a fiber waits between two attempts to connect to a Unix socket whose backlog is full: nothing tells when it is
 * not. */
#define BACKLOG_FIRST 1000000
#define BACKLOG_LAST 20000000

/* Waits until a connection has been made: 0, or an errno, or -1 with an exception; ETIMEDOUT is the system's, EAGAIN the
 * socket's own timeout. */
static int connected(struct rv_socket *s, int fd) {
    struct rv_patience patience = rv_sock_patience(s);
    PyTime_t left = rv_patience_left(&patience);
    int ready = rv_wait_refused(fd, 1, left, &s->fd);
    /* May be early: a connection under way is no error, and is not writable. */
    while (ready > 0) {
        struct pollfd question = {fd, POLLOUT, 0};
        if (poll(&question, 1, 0) != 0) {
            break;
        }
        left = rv_patience_left(&patience);
        ready = left == 0 ? 0 : rv_wait_refused(fd, 1, left, &s->fd);
    }
    if (ready <= 0) {
        return ready < 0 ? -1 : EAGAIN;
    }
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        error = errno;
    }
    return error == EISCONN ? 0 : error;
}

static PyObject *failed(enum rv_io which, int error) {
    if (which == RV_IO_CONNECT_EX) {
        return PyLong_FromLong(error);
    }
    if (error == 0) {
        Py_RETURN_NONE;
    }
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* The errno of an attempt to connect: 0 if it is done with, and `result` is what came of it. */
static int under_way(enum rv_io which, PyObject **result) {
    int error = 0;
    if (*result == NULL) {
        return refusal();
    }
    if (which == RV_IO_CONNECT_EX && PyLong_Check(*result)) {
        error = PyLong_AsInt(*result);
        if (error == EINPROGRESS || error == EALREADY || error == EAGAIN) {
            Py_CLEAR(*result);
            return error;
        }
    }
    return 0;
}

static PyObject *connect_and_wait(struct rv_socket *s, int fd, enum rv_io which, PyObject *address) {
    PyTime_t pause = BACKLOG_FIRST;
    for (;;) {
        PyObject *self = begin(s);
        if (self == NULL) {
            return NULL;
        }
        PyObject *result = rv_io_original[which](self, address);
        end(s, self);
        int error = under_way(which, &result);
        if (error == 0) {
            return result;
        }
        /* A blocking connect waits for one that is under way, and for room. */
        if (error == EINPROGRESS || (error == EALREADY && s->timeout < 0)) {
            error = connected(s, fd);
            if (error == EAGAIN && which == RV_IO_CONNECT) {
                PyErr_SetString(PyExc_TimeoutError, "timed out");
                return NULL;
            }
            return error < 0 ? NULL : failed(which, error);
        }
        if (error != EAGAIN || s->timeout > 0) {
            return failed(which, error);
        }
        if (rv_io_sleep(pause) < 0) {
            return NULL;
        }
        pause = pause * 2 > BACKLOG_LAST ? BACKLOG_LAST : pause * 2;
    }
}

static PyObject *do_connect(PyObject *op, PyObject *address, enum rv_io which) {
    struct rv_socket *s = RV_SOCKET(op);
    if (!rv_sock_parks(s)) {
        return rv_io_original[which](op, address);
    }
    address = rv_resolved(s, address);
    if (address == NULL) {
        return NULL;
    }
    int fd = rv_sock_fd(s);
    int made = make_impatient(fd);
    PyObject *result = connect_and_wait(s, fd, which, address);
    Py_DECREF(address);
    /* Unless it was closed. */
    if (made && rv_sock_fd(s) == fd) {
        PyObject *exception = PyErr_GetRaisedException();
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0) {
            (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        }
        PyErr_SetRaisedException(exception);
    }
    return result;
}

PyObject *rv_sock_connect(PyObject *op, PyObject *address) { return do_connect(op, address, RV_IO_CONNECT); }

PyObject *rv_sock_connect_ex(PyObject *op, PyObject *address) { return do_connect(op, address, RV_IO_CONNECT_EX); }

/* ---- the end ---- */

struct closing {
    enum rv_io which;
    PyObject *self, *arg, *result;
};

static void close_now(void *context) {
    struct closing *closing = context;
    closing->result = rv_io_original[closing->which](closing->self, closing->arg);
}

/* On plain threads too: fibers may wait for it. */
PyObject *rv_sock_close(PyObject *op, PyObject *unused) {
    int fd = rv_sock_fd(RV_SOCKET(op));
    struct closing closing = {RV_IO_SOCK_CLOSE, op, unused, NULL};
    if (fd < 0) {
        return RV_PLAIN(SOCK_CLOSE)(op, unused);
    }
    mark(fd, 0);
    rv_while_closing(fd, fd + 1, close_now, &closing);
    return closing.result;
}

PyObject *rv_socket_close(PyObject *module, PyObject *number) {
    struct closing closing = {RV_IO_CLOSE_FD, module, number, NULL};
    int fd = PyLong_Check(number) ? PyLong_AsInt(number) : -1;
    PyErr_Clear();
    if (fd < 0) {
        return RV_PLAIN(CLOSE_FD)(module, number);
    }
    mark(fd, 0);
    rv_while_closing(fd, fd + 1, close_now, &closing);
    return closing.result;
}
