/* os.read, os.write and their like in fibers, on what can be waited for: pipes, terminals, sockets, eventfds. Regular files
 * are always ready, and left alone.
 *
 * An attempt that does not block, on a descriptor that would: RWF_NOWAIT, which pipes and sockets know and leaves the
 * descriptor as it is. Where it is not known (terminals): poll(2) first, then CPython's function; it blocks if another
 * reader was quicker. A descriptor with O_NONBLOCK is left to CPython, which does not wait either. */
#include "io.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

/* Whether calls on this descriptor may be waited for. */
static int waits(int fd) {
    struct stat about;
    if (fstat(fd, &about) < 0 || S_ISREG(about.st_mode) || S_ISDIR(about.st_mode) || S_ISBLK(about.st_mode)) {
        return 0;
    }
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && !(flags & O_NONBLOCK);
}

/* A descriptor among the arguments that may be waited for; -1 if it is none. */
static int waiting_fd(PyObject *object) {
    if (!rv_may_park() || !PyLong_CheckExact(object)) {
        return -1;
    }
    int fd = PyLong_AsInt(object);
    if (fd == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return -1;
    }
    return fd >= 0 && waits(fd) ? fd : -1;
}

static int unknown(int error) { return error == EOPNOTSUPP || error == EINVAL || error == ENOSYS || error == ESPIPE; }

/* Waits as poll(2): 0, or -1 with an exception. */
static int wait_ready(int fd, short events) {
    struct pollfd question = {fd, events, 0};
    return rv_wait_fds(&question, 1, -1) < 0 ? -1 : 0;
}

PyObject *rv_os_read(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    int fd = count == 2 ? waiting_fd(args[0]) : -1;
    Py_ssize_t size = fd >= 0 && PyLong_CheckExact(args[1]) ? PyLong_AsSsize_t(args[1]) : -1;
    if (size <= 0) {
        PyErr_Clear();
        return RV_FAST(READ)(module, args, count);
    }
    for (;;) {
        PyObject *buffer = PyBytes_FromStringAndSize(NULL, size);
        if (buffer == NULL) {
            return NULL;
        }
        struct iovec whole = {PyBytes_AS_STRING(buffer), (size_t)size};
        ssize_t got = preadv2(fd, &whole, 1, -1, RWF_NOWAIT);
        int error = errno;
        if (got >= 0) {
            if (got != size) {
                _PyBytes_Resize(&buffer, got);
            }
            return buffer;
        }
        Py_DECREF(buffer);
        if (unknown(error)) {
            return wait_ready(fd, POLLIN) < 0 ? NULL : RV_FAST(READ)(module, args, count);
        }
        if (error != EAGAIN && error != EINTR) {
            errno = error;
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (error == EAGAIN && rv_wait_refused(fd, 0, -1, NULL) < 0) {
            return NULL;
        }
    }
}

PyObject *rv_os_readv(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    int fd = count == 2 ? waiting_fd(args[0]) : -1;
    if (fd >= 0 && wait_ready(fd, POLLIN) < 0) {
        return NULL;
    }
    return RV_FAST(READV)(module, args, count);
}

/* Writes as a blocking write does: all of it, if it is a stream. */
static PyObject *write_all(PyObject *module, int fd, Py_buffer *buffer, PyObject *const *args) {
    Py_ssize_t total = 0;
    do {
        struct iovec rest = {(char *)buffer->buf + total, (size_t)(buffer->len - total)};
        ssize_t put = pwritev2(fd, &rest, 1, -1, RWF_NOWAIT);
        if (put >= 0) {
            total += put;
        }
        else if (unknown(errno) && total == 0) {
            return wait_ready(fd, POLLOUT) < 0 ? NULL : RV_FAST(WRITE)(module, args, 2);
        }
        else if (errno == EAGAIN) {
            /* A cancellation takes no part back, nor does an error below. */
            if (rv_wait_refused(fd, 1, -1, NULL) < 0) {
                return NULL;
            }
        }
        else if (errno != EINTR) {
            if (total == 0) {
                return PyErr_SetFromErrno(PyExc_OSError);
            }
            break;
        }
    } while (total < buffer->len);
    return PyLong_FromSsize_t(total);
}

PyObject *rv_os_write(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    int fd = count == 2 ? waiting_fd(args[0]) : -1;
    Py_buffer buffer;
    if (fd < 0 || PyObject_GetBuffer(args[1], &buffer, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return RV_FAST(WRITE)(module, args, count);
    }
    PyObject *result = buffer.len == 0 ? RV_FAST(WRITE)(module, args, count) : write_all(module, fd, &buffer, args);
    PyBuffer_Release(&buffer);
    return result;
}

/* A call that blocks until all of something has gone, and cannot be cut up here: in the pool. */
static PyObject *in_pool(enum rv_io which, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    PyObject *all = PyTuple_New(count);
    PyObject *named = names == NULL ? NULL : PyDict_New();
    PyObject *result = NULL;
    if (all == NULL || (names != NULL && named == NULL)) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(all, i, Py_NewRef(args[i]));
    }
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(names, i), args[count + i]) < 0) {
            goto done;
        }
    }
    result = rv_io_pool(rv_io_object[which], all, named);
done:
    Py_XDECREF(all);
    Py_XDECREF(named);
    return result;
}

PyObject *rv_os_writev(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count == 2 && waiting_fd(args[0]) >= 0) {
        return in_pool(RV_IO_WRITEV, args, count, NULL);
    }
    return RV_FAST(WRITEV)(module, args, count);
}

PyObject *rv_os_sendfile(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    if (count > 0 && waiting_fd(args[0]) >= 0) {
        return in_pool(RV_IO_SENDFILE, args, count, names);
    }
    return RV_FAST_KW(SENDFILE)(module, args, count, names);
}

/* ---- the end: on plain threads too, fibers may wait for what is closed ---- */

struct closing {
    enum rv_io which;
    PyObject *module;
    PyObject *const *args;
    Py_ssize_t count;
    PyObject *names, *result;
};

static void close_now(void *context) {
    struct closing *c = context;
    if (c->which == RV_IO_CLOSERANGE) {
        c->result = RV_FAST(CLOSERANGE)(c->module, c->args, c->count);
    }
    else {
        c->result = ((rv_fastkw)(void (*)(void))rv_io_original[c->which])(c->module, c->args, c->count, c->names);
    }
}

/* Whether it is a number that a descriptor may have. */
static int number(PyObject *object, int *value) {
    if (!PyLong_CheckExact(object)) {
        return 0;
    }
    *value = PyLong_AsInt(object);
    if (*value == -1) {
        PyErr_Clear();
    }
    return *value >= 0;
}

/* Of close(fd) and of dup2(fd, fd2): the argument at `place`, or `name`d. */
static PyObject *tell(struct closing *c, Py_ssize_t place, const char *name) {
    PyObject *object = c->count > place ? c->args[place] : NULL;
    for (Py_ssize_t i = 0; c->names != NULL && i < PyTuple_GET_SIZE(c->names); i++) {
        if (PyUnicode_EqualToUTF8(PyTuple_GET_ITEM(c->names, i), name)) {
            object = c->args[c->count + i];
        }
    }
    int fd;
    if (object != NULL && number(object, &fd) && fd < INT_MAX) {
        rv_while_closing(fd, fd + 1, close_now, c);
    }
    else {
        close_now(c);
    }
    return c->result;
}

PyObject *rv_os_close(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    struct closing c = {RV_IO_CLOSE, module, args, count, names, NULL};
    return tell(&c, 0, "fd");
}

PyObject *rv_os_dup2(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    struct closing c = {RV_IO_DUP2, module, args, count, names, NULL};
    int from, to;
    if (count >= 2 && number(args[0], &from) && number(args[1], &to) && from == to) {
        close_now(&c);
        return c.result;
    }
    return tell(&c, 1, "fd2");
}

PyObject *rv_os_closerange(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    struct closing c = {RV_IO_CLOSERANGE, module, args, count, NULL, NULL};
    int low, high;
    if (count != 2 || !number(args[0], &low) || !number(args[1], &high) || low >= high) {
        return RV_FAST(CLOSERANGE)(module, args, count);
    }
    rv_while_closing(low, high, close_now, &c);
    return c.result;
}
