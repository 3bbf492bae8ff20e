/* `_io.FileIO` over what may make its reader or writer wait: pipes, terminals, sockets. That is how open() and
 * subprocess read them, past os.read.
 *
 * In a fiber the descriptor is asked first (poll(2) without waiting); if it is not ready the fiber parks. What another process
 * does between the question and the call may still make the call wait: two readers of one pipe.
 *
 * What has a position is not asked, once CPython knows that it has one: making a buffered object finds out. Those are regular
 * files, disks, and the like, which never wait. (An eventfd, or an inotify descriptor, takes a seek and does nothing: behind
 * a buffered object it holds up the worker.) So such files cost what they always did, in buffered.c too. */
#include "seams.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

/* As in Modules/_io/fileio.c, the same in 3.13 and 3.14; tried out before anything is replaced. */
struct file {
    PyObject_HEAD
    int fd;
    unsigned int created : 1;
    unsigned int readable : 1;
    unsigned int writable : 1;
    unsigned int appending : 1;
    /* -1: nobody has asked. */
    signed int seekable : 2;
};

#define FD(op) (((struct file *)(op))->fd)

static PyCFunction read_original, readall_original, readinto_original, write_original, close_original;

int rv_file_has_position(PyObject *op) { return ((struct file *)op)->seekable == 1; }

/* Whether a call may park. */
static int parks(PyObject *op) { return rv_parks_for(RV_PIPES) && !rv_file_has_position(op); }

#define CALL(original, ...) (((rv_of_class)(void (*)(void))original)(__VA_ARGS__))

/* Waits until a call would not: 1; 0 for a descriptor that is not to wait, or is none; -1 with an exception. */
static int ready(int fd, int write) {
    struct pollfd ask = {.fd = fd, .events = write ? POLLOUT : POLLIN};
    while (fd >= 0 && poll(&ask, 1, 0) == 0) {
        int flags = fcntl(fd, F_GETFL);
        /* One that is not open for this is never ready. */
        if (flags < 0 || flags & O_NONBLOCK || (flags & O_ACCMODE) == (write ? O_RDONLY : O_WRONLY)) {
            return 0;
        }
        if (rv_wait_descriptor(fd, write) < 0) {
            return -1;
        }
    }
    return fd >= 0;
}

/* Whether it is for CPython's method alone: closed, not open for this, or with nothing to wait for. */
static int is_left_alone(int fd, int write) {
    struct stat status;
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    return flags < 0 || (flags & O_ACCMODE) == (write ? O_RDONLY : O_WRONLY) || fstat(fd, &status) < 0 ||
           S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISBLK(status.st_mode);
}

static PyObject *file_readinto(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                               PyObject *names) {
    if (parks(self) && ready(FD(self), 0) < 0) {
        return NULL;
    }
    return CALL(readinto_original, self, class, args, count, names);
}

#define AT_ONCE 65536

/* Terminals do not know RWF_NOWAIT. They are ready, as we have asked. */
static int does_not_know(int error) {
    return error == EOPNOTSUPP || error == EINVAL || error == ENOSYS || error == ESPIPE;
}

/* To the end, or to where a descriptor that is not to wait has nothing yet. */
static PyObject *read_to_end(PyObject *self) {
    PyObject *all = PyByteArray_FromStringAndSize(NULL, 0);
    Py_ssize_t length = 0;
    while (all != NULL) {
        ssize_t n;
        if (ready(FD(self), 0) < 0 || PyByteArray_Resize(all, length + AT_ONCE) < 0) {
            Py_CLEAR(all);
            break;
        }
        struct iovec room = {PyByteArray_AS_STRING(all) + length, AT_ONCE};
        n = preadv2(FD(self), &room, 1, -1, RWF_NOWAIT);
        if (n < 0 && does_not_know(errno)) {
            n = read(FD(self), room.iov_base, room.iov_len);
        }
        else if (n < 0 && errno == EAGAIN && !(fcntl(FD(self), F_GETFL) & O_NONBLOCK)) {
            /* Another reader was quicker. */
            continue;
        }
        int failed = errno;
        if (n > 0) {
            length += n;
            continue;
        }
        if (n < 0 && failed == EINTR) {
            continue;
        }
        if (n < 0 && failed == EAGAIN) {
            if (length == 0) {
                Py_DECREF(all);
                Py_RETURN_NONE;
            }
        }
        else if (n < 0) {
            errno = failed;
            PyErr_SetFromErrno(PyExc_OSError);
            Py_CLEAR(all);
        }
        break;
    }
    PyObject *result = all == NULL ? NULL : PyBytes_FromStringAndSize(PyByteArray_AS_STRING(all), length);
    Py_XDECREF(all);
    return result;
}

static PyObject *file_readall(PyObject *self, PyObject *unused) {
    if (!parks(self) || is_left_alone(FD(self), 0)) {
        return readall_original(self, unused);
    }
    return read_to_end(self);
}

static PyObject *file_read(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                           PyObject *names) {
    if (parks(self)) {
        int all = count == 0 || args[0] == Py_None;
        if (!all && PyLong_Check(args[0])) {
            int overflow;
            all = PyLong_AsLongLongAndOverflow(args[0], &overflow) < 0;
        }
        if (all && count <= 1 && names == NULL && !is_left_alone(FD(self), 0)) {
            return read_to_end(self);
        }
        if (ready(FD(self), 0) < 0) {
            return NULL;
        }
    }
    return CALL(read_original, self, class, args, count, names);
}

/* As a write that waits: all of it. What does not know RWF_NOWAIT gets what it has room for if it has any at all. */
static PyObject *write_all(PyObject *self, Py_buffer *bytes) {
    Py_ssize_t done = 0;
    while (done < bytes->len) {
        if (ready(FD(self), 1) < 0) {
            /* What is cancelled or closed takes no part back, nor does an error below: the next write will be told. */
            return NULL;
        }
        struct iovec rest = {(char *)bytes->buf + done, (size_t)(bytes->len - done)};
        ssize_t n = pwritev2(FD(self), &rest, 1, -1, RWF_NOWAIT);
        if (n < 0 && does_not_know(errno)) {
            n = write(FD(self), rest.iov_base, rest.iov_len < PIPE_BUF ? rest.iov_len : PIPE_BUF);
        }
        if (n >= 0) {
            done += n;
        }
        else if (errno != EINTR && errno != EAGAIN) {
            if (done == 0) {
                return PyErr_SetFromErrno(PyExc_OSError);
            }
            break;
        }
    }
    return PyLong_FromSsize_t(done);
}

static PyObject *file_write(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    if (parks(self) && count == 1 && names == NULL && PyObject_CheckBuffer(args[0]) &&
        !is_left_alone(FD(self), 1) && !(fcntl(FD(self), F_GETFL) & O_NONBLOCK)) {
        Py_buffer bytes;
        if (PyObject_GetBuffer(args[0], &bytes, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        PyObject *result = write_all(self, &bytes);
        PyBuffer_Release(&bytes);
        return result;
    }
    return CALL(write_original, self, class, args, count, names);
}

struct closing {
    PyObject *self;
    PyTypeObject *class;
    PyObject *const *args;
    Py_ssize_t count;
    PyObject *names, *result;
};

static void close_now(void *context) {
    struct closing *c = context;
    c->result = CALL(close_original, c->self, c->class, c->args, c->count, c->names);
}

/* On plain threads too: fibers may wait for what is closed. */
static PyObject *file_close(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    struct closing c = {self, class, args, count, names, NULL};
    int fd = FD(self);
    if (fd < 0 || fd == INT_MAX || !rv_is_on(RV_PIPES)) {
        close_now(&c);
    }
    else {
        rv_while_closing(fd, fd + 1, close_now, &c);
    }
    return c.result;
}

#define OF_FILE(name, flags, function, original)                                                                 \
    {RV_PIPES, "_io", "FileIO", name, flags, 0, RV_FUNCTION(function), &original, NULL}
#define OF_CLASS (METH_METHOD | METH_FASTCALL | METH_KEYWORDS)

struct rv_seam rv_pipe_seams[] = {
    OF_FILE("readinto", OF_CLASS, file_readinto, readinto_original),
    OF_FILE("read", OF_CLASS, file_read, read_original),
    OF_FILE("readall", METH_NOARGS, file_readall, readall_original),
    OF_FILE("write", OF_CLASS, file_write, write_original),
    OF_FILE("close", OF_CLASS, file_close, close_original),
    {0},
};

/* Whether the file says of a position what it should, before and after it was asked. */
static int tells_of_position(PyObject *file, int expected) {
    struct file *f = (struct file *)file;
    int before = f->seekable;
    PyObject *told = PyObject_CallMethod(file, "seekable", NULL);
    int known = before == -1 && told == (expected ? Py_True : Py_False) && f->seekable == expected && f->readable && !f->writable;
    Py_XDECREF(told);
    return known;
}

/* A pipe's end, which has no position. */
static int pipe_is_known(PyObject *type) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return 0;
    }
    PyObject *file = PyObject_CallFunction(type, "isO", ends[0], "r", Py_False);
    int known = file != NULL && tells_of_position(file, 0);
    Py_XDECREF(file);
    close(ends[0]);
    close(ends[1]);
    return known;
}

int rv_pipes_are_known(void) {
    PyObject *io = PyImport_ImportModule("_io");
    PyObject *type = io == NULL ? NULL : PyObject_GetAttrString(io, "FileIO");
    PyObject *file = type == NULL ? NULL : PyObject_CallFunction(type, "ss", "/dev/null", "r");
    PyObject *number = file == NULL ? NULL : PyObject_CallMethod(file, "fileno", NULL);
    int known = number != NULL && PyLong_AsInt(number) == FD(file) && FD(file) >= 0 && tells_of_position(file, 1) &&
                pipe_is_known(type);
    if (file != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        Py_XDECREF(PyObject_CallMethod(file, "close", NULL));
        known = known && FD(file) < 0;
        PyErr_SetRaisedException(error);
    }
    Py_XDECREF(number);
    Py_XDECREF(file);
    Py_XDECREF(type);
    Py_XDECREF(io);
    if (!known && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "roving: _io.FileIO of this interpreter is not as roving knows it; install roving for "
                                            "this interpreter, or report it");
    }
    return known ? 0 : -1;
}
