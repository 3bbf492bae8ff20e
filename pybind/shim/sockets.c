/* recv, recv_into, send and sendall in fibers: system calls of our own, so that a call which would block costs no
 * exception. MSG_DONTWAIT keeps each attempt from blocking, and leaves the descriptor as it is: others who use it, children
 * among them, see no difference.
 *
 * A blocking socket's send returns when all has been taken, as the kernel has it, one with a timeout when some has. */
#include "sockets.h"

/* What is copied while the thread stays attached; more takes long enough to let a collection begin. */
#define QUICK (64 << 10)

int rv_socket_is_known(PyTypeObject *type) {
    if (type->tp_basicsize < (Py_ssize_t)sizeof(struct rv_socket)) {
        return 0;
    }
    PyObject *object = PyObject_CallFunction((PyObject *)type, "iii", AF_UNIX, SOCK_STREAM, 0);
    PyObject *number = object == NULL ? NULL : PyObject_CallMethod(object, "fileno", NULL);
    PyObject *odd = number == NULL ? NULL : PyObject_CallMethod(object, "settimeout", "d", 1234.5);
    int result = -1;
    if (odd != NULL) {
        struct rv_socket *s = RV_SOCKET(object);
        result = s->fd == PyLong_AsInt(number) && s->family == AF_UNIX && s->type == SOCK_STREAM && s->proto == 0 &&
                 s->timeout == 1234500000000;
        PyObject *closed = PyObject_CallMethod(object, "close", NULL);
        result = closed == NULL ? -1 : result && s->fd == -1;
        Py_XDECREF(closed);
    }
    Py_XDECREF(odd);
    Py_XDECREF(number);
    Py_XDECREF(object);
    return result;
}

/* Whether anybody has set SO_RCVTIMEO or SO_SNDTIMEO in this process. */
static int system_timeouts;

PyObject *rv_sock_setsockopt(PyObject *op, PyObject *args) {
    if (PyTuple_GET_SIZE(args) >= 2 && PyLong_CheckExact(PyTuple_GET_ITEM(args, 1))) {
        int option = PyLong_AsInt(PyTuple_GET_ITEM(args, 1));
        PyErr_Clear();
        if (option == SO_RCVTIMEO || option == SO_SNDTIMEO) {
            _Py_atomic_store_int_relaxed(&system_timeouts, 1);
        }
    }
    return RV_PLAIN(SETSOCKOPT)(op, args);
}

/* SO_RCVTIMEO and SO_SNDTIMEO, in nanoseconds: negative for none. They end a blocking call with EAGAIN. */
static PyTime_t system_timeout(int fd, int write) {
    struct timeval time;
    socklen_t size = sizeof time;
    if (!_Py_atomic_load_int_relaxed(&system_timeouts) || getsockopt(fd, SOL_SOCKET, write ? SO_SNDTIMEO : SO_RCVTIMEO, &time, &size) < 0 ||
        (time.tv_sec == 0 && time.tv_usec == 0)) {
        return -1;
    }
    return (PyTime_t)time.tv_sec * 1000000000 + (PyTime_t)time.tv_usec * 1000;
}

int rv_sock_wait(struct rv_socket *s, int fd, int write, struct rv_patience *patience) {
    int system = s->timeout < 0;
    if (patience->timeout < 0) {
        *patience = rv_patience(system_timeout(fd, write));
    }
    PyTime_t left = rv_patience_left(patience);
    int ready = left == 0 ? 0 : rv_wait_refused(fd, write, left, &s->fd);
    if (ready == 0) {
        if (system) {
            errno = EAGAIN;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        else {
            PyErr_SetString(PyExc_TimeoutError, "timed out");
        }
        return -1;
    }
    return ready < 0 ? -1 : 0;
}

/* One attempt, which does not block: the count, or -1 and errno. */
static ssize_t receive(int fd, char *buffer, Py_ssize_t size, int flags) {
    ssize_t count;
    do {
        if (size <= QUICK) {
            count = recv(fd, buffer, (size_t)size, flags | MSG_DONTWAIT);
        }
        else {
            Py_BEGIN_ALLOW_THREADS
            count = recv(fd, buffer, (size_t)size, flags | MSG_DONTWAIT);
            Py_END_ALLOW_THREADS
        }
    } while (count < 0 && errno == EINTR);
    return count;
}

static ssize_t transmit(int fd, const char *buffer, Py_ssize_t size, int flags) {
    ssize_t count;
    do {
        if (size <= QUICK) {
            count = send(fd, buffer, (size_t)size, flags | MSG_DONTWAIT);
        }
        else {
            Py_BEGIN_ALLOW_THREADS
            count = send(fd, buffer, (size_t)size, flags | MSG_DONTWAIT);
            Py_END_ALLOW_THREADS
        }
    } while (count < 0 && errno == EINTR);
    return count;
}

/* Whether the caller asked not to wait, or for what is never waited for. On a socket with a timeout CPython waits first. */
static inline int is_impatient(struct rv_socket *s, int flags) {
    return s->timeout < 0 && (flags & (MSG_DONTWAIT | MSG_ERRQUEUE));
}

/* Whether the kernel would wait for all of it. On a socket with a timeout it does not. */
static inline int wants_all(struct rv_socket *s, int flags) {
    return s->timeout < 0 && (flags & MSG_WAITALL) && (s->type & 0xf) == SOCK_STREAM;
}

/* Receives into a buffer, waiting as long as there is nothing: the count, or -1 with an exception. */
static Py_ssize_t receive_into(struct rv_socket *s, char *buffer, Py_ssize_t size, int flags) {
    struct rv_patience patience = rv_sock_patience(s);
    int all = wants_all(s, flags);
    Py_ssize_t total = 0;
    for (;;) {
        int fd = rv_sock_fd(s);
        ssize_t count = receive(fd, buffer + total, size - total, flags);
        if (count >= 0) {
            total += count;
            if (!all || count == 0 || total == size) {
                return total;
            }
        }
        else if (!rv_would_block(errno)) {
            if (total == 0) {
                PyErr_SetFromErrno(PyExc_OSError);
            }
            /* As the kernel: what came counts, the error comes again. */
            return total != 0 ? total : -1;
        }
        else if (rv_sock_wait(s, fd, 0, &patience) < 0) {
            return -1;
        }
    }
}

/* Where a worker receives what is as a rule shorter than asked for: a bytes object of the size asked for, made and cut down
 * at each call, costs more than a copy of what came. Nothing switches between the two. */
#define LANDING (64 << 10)
/* As much as that comes in bulk, and the next is received in its place. */
#define BULK (8 << 10)
static __thread char *landing __attribute__((tls_model("initial-exec")));
static __thread int in_bulk __attribute__((tls_model("initial-exec")));

void rv_sock_worker_stop(void) {
    free(landing);
    landing = NULL;
}

/* One attempt: bytes, or NULL with an exception, or without one if it would have blocked. */
static PyObject *receive_some(int fd, Py_ssize_t size, int flags) {
    PyObject *buffer = NULL;
    char *into = landing;
    if (size > LANDING || in_bulk || (into == NULL && (into = landing = malloc(LANDING)) == NULL)) {
        buffer = PyBytes_FromStringAndSize(NULL, size);
        if (buffer == NULL) {
            return NULL;
        }
        into = PyBytes_AS_STRING(buffer);
    }
    ssize_t count = receive(fd, into, size, flags);
    if (count < 0) {
        int error = errno;
        /* Whoever waits holds no buffer: there may be many. */
        Py_XDECREF(buffer);
        if (!rv_would_block(error)) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        return NULL;
    }
    in_bulk = count > BULK;
    if (buffer == NULL) {
        return PyBytes_FromStringAndSize(into, count);
    }
    if (count != size) {
        _PyBytes_Resize(&buffer, count);
    }
    return buffer;
}

PyObject *rv_sock_recv(PyObject *op, PyObject *args) {
    struct rv_socket *s = RV_SOCKET(op);
    Py_ssize_t size;
    int flags = 0;
    if (!rv_sock_parks(s)) {
        return RV_PLAIN(RECV)(op, args);
    }
    if (!PyArg_ParseTuple(args, "n|i:recv", &size, &flags)) {
        return NULL;
    }
    /* The first is refused there. */
    if (size <= 0 || is_impatient(s, flags)) {
        return RV_PLAIN(RECV)(op, args);
    }
    if (wants_all(s, flags)) {
        if (flags & MSG_PEEK) {
            /* What has come is there still at the next attempt, and so is nothing to wait for. */
            PyObject *all = PyTuple_Pack(3, op, PyTuple_GET_ITEM(args, 0), PyTuple_GET_ITEM(args, 1));
            PyObject *result = all == NULL ? NULL : rv_io_pool(rv_io_object[RV_IO_RECV], all, NULL);
            Py_XDECREF(all);
            return result;
        }
        PyObject *buffer = PyBytes_FromStringAndSize(NULL, size);
        Py_ssize_t count = buffer == NULL ? -1 : receive_into(s, PyBytes_AS_STRING(buffer), size, flags);
        if (count < 0) {
            Py_XDECREF(buffer);
            return NULL;
        }
        if (count != size) {
            _PyBytes_Resize(&buffer, count);
        }
        return buffer;
    }
    struct rv_patience patience = rv_sock_patience(s);
    for (;;) {
        int fd = rv_sock_fd(s);
        PyObject *result = receive_some(fd, size, flags);
        if (result != NULL || PyErr_Occurred()) {
            return result;
        }
        if (rv_sock_wait(s, fd, 0, &patience) < 0) {
            return NULL;
        }
    }
}

PyObject *rv_sock_recv_into(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"buffer", "nbytes", "flags", NULL};
    struct rv_socket *s = RV_SOCKET(op);
    Py_buffer buffer;
    Py_ssize_t size = 0;
    int flags = 0;
    if (!rv_sock_parks(s)) {
        return RV_KW(RECV_INTO)(op, args, kwargs);
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "w*|ni:recv_into", names, &buffer, &size, &flags)) {
        return NULL;
    }
    PyObject *result = NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recv_into");
    }
    else if (buffer.len < size) {
        PyErr_SetString(PyExc_ValueError, "buffer too small for requested bytes");
    }
    else if (is_impatient(s, flags) || (wants_all(s, flags) && flags & MSG_PEEK) || buffer.len == 0) {
        result = RV_KW(RECV_INTO)(op, args, kwargs);
    }
    else {
        Py_ssize_t count = receive_into(s, buffer.buf, size == 0 ? buffer.len : size, flags);
        result = count < 0 ? NULL : PyLong_FromSsize_t(count);
    }
    PyBuffer_Release(&buffer);
    return result;
}

/* Sends a buffer, all of it or, without `all`, some. The count, or -1 with an exception. */
static Py_ssize_t send_from(struct rv_socket *s, const char *buffer, Py_ssize_t size, int flags, int all, int report) {
    struct rv_patience patience = rv_sock_patience(s);
    Py_ssize_t total = 0;
    for (;;) {
        int fd = rv_sock_fd(s);
        ssize_t count = transmit(fd, buffer + total, size - total, flags);
        if (count >= 0) {
            total += count;
            if (!all || total == size) {
                return total;
            }
            /* The time is that of the whole, though something moves. */
            if (s->timeout > 0 && rv_patience_left(&patience) == 0) {
                PyErr_SetString(PyExc_TimeoutError, "timed out");
                return -1;
            }
        }
        else if (!rv_would_block(errno)) {
            if (total != 0 && report) {
                return total;
            }
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        else if (rv_sock_wait(s, fd, 1, &patience) < 0) {
            return -1;
        }
    }
}

PyObject *rv_sock_send(PyObject *op, PyObject *args) {
    struct rv_socket *s = RV_SOCKET(op);
    Py_buffer buffer;
    int flags = 0;
    if (!rv_sock_parks(s)) {
        return RV_PLAIN(SEND)(op, args);
    }
    if (!PyArg_ParseTuple(args, "y*|i:send", &buffer, &flags)) {
        return NULL;
    }
    PyObject *result;
    if (is_impatient(s, flags)) {
        result = RV_PLAIN(SEND)(op, args);
    }
    else {
        int all = s->timeout < 0 && (s->type & 0xf) == SOCK_STREAM;
        Py_ssize_t count = send_from(s, buffer.buf, buffer.len, flags, all, 1);
        result = count < 0 ? NULL : PyLong_FromSsize_t(count);
    }
    PyBuffer_Release(&buffer);
    return result;
}

PyObject *rv_sock_sendall(PyObject *op, PyObject *args) {
    struct rv_socket *s = RV_SOCKET(op);
    Py_buffer buffer;
    int flags = 0;
    if (!rv_sock_parks(s)) {
        return RV_PLAIN(SENDALL)(op, args);
    }
    if (!PyArg_ParseTuple(args, "y*|i:sendall", &buffer, &flags)) {
        return NULL;
    }
    PyObject *result;
    if (is_impatient(s, flags)) {
        result = RV_PLAIN(SENDALL)(op, args);
    }
    else {
        Py_ssize_t count = send_from(s, buffer.buf, buffer.len, flags, 1, 0);
        result = count < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyBuffer_Release(&buffer);
    return result;
}
