/* select, poll and epoll in fibers: level-triggered, as they are. CPython's own method is asked with a timeout of zero; when
 * nothing is ready the fiber parks until something may be, and asks again. */
#include "io.h"

#include <sys/epoll.h>

#include <internal/pycore_time.h>

/* After waits that ended for something CPython's method does not tell of. */
#define PAUSE 5000000

int rv_poll_is_known(PyObject *object) {
    /* No such descriptor is open: the answer is POLLNVAL. */
    const int number = 0x7ffffff0;
    if (Py_TYPE(object)->tp_basicsize < (Py_ssize_t)sizeof(struct rv_poll)) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(object, "register", "ii", number, POLLIN);
    Py_XSETREF(done, done == NULL ? NULL : PyObject_CallMethod(object, "poll", "i", 0));
    if (done == NULL) {
        return -1;
    }
    struct rv_poll *poll = (struct rv_poll *)object;
    int known = PyDict_CheckExact(poll->fds) && PyDict_GET_SIZE(poll->fds) == 1 && poll->up_to_date == 1 &&
                poll->count == 1 && poll->array != NULL && poll->array[0].fd == number &&
                poll->array[0].events == POLLIN && poll->running == 0;
    Py_DECREF(done);
    return known;
}

int rv_epoll_is_known(PyObject *object) {
    struct rv_epoll *epoll = (struct rv_epoll *)object;
    PyObject *number = PyObject_CallMethod(object, "fileno", NULL);
    if (number == NULL) {
        return -1;
    }
    int fd = PyLong_AsInt(number);
    int known = Py_TYPE(object)->tp_basicsize >= (Py_ssize_t)sizeof *epoll && fd >= 0 && epoll->fd == fd;
    Py_DECREF(number);
    PyObject *closed = PyObject_CallMethod(object, "close", NULL);
    Py_XDECREF(closed);
    return closed == NULL ? -1 : known && epoll->fd == -1;
}

#define PLAIN_EVENTS (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLERR | POLLHUP | POLLNVAL)

/* Urgent data and the like: an epoll of our own knows every event, and is waited for instead. */
static int wait_odd(struct pollfd *fds, size_t count, PyTime_t left) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        /* poll(2)'s events have epoll's values. Files that are always ready have been told of already, the same number
         * twice is watched for both. */
        struct epoll_event event = {.events = (uint32_t)(unsigned short)fds[i].events, .data = {.fd = fds[i].fd}};
        if (fds[i].fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i].fd, &event) < 0 && errno == EEXIST) {
            for (size_t j = 0; j < i; j++) {
                event.events |= fds[j].fd == fds[i].fd ? (uint32_t)(unsigned short)fds[j].events : 0;
            }
            (void)epoll_ctl(epoll, EPOLL_CTL_MOD, fds[i].fd, &event);
        }
    }
    struct pollfd question = {epoll, POLLIN, 0};
    int ready = rv_wait_fds(&question, 1, left);
    close(epoll);
    return ready;
}

int rv_wait_polls(struct pollfd *fds, size_t count, struct rv_patience *patience) {
    PyTime_t left = rv_patience_left(patience);
    if (left == 0) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (fds[i].fd >= 0 && fds[i].events & ~PLAIN_EVENTS) {
            return wait_odd(fds, count, left);
        }
    }
    return rv_wait_fds(fds, count, left);
}

/* Keeps waits that end for nothing from spinning. 0, or -1 with an exception. */
static int pause_if(int again, struct rv_patience *patience) {
    if (!again) {
        return 0;
    }
    PyTime_t left = rv_patience_left(patience);
    return rv_io_sleep(left < 0 || left > PAUSE ? PAUSE : left);
}

/* A timeout that would be waited for, of these many nanoseconds a unit: 1; 0 for one that is CPython's to judge. Numbers
 * only: others might be asked twice. */
static int timeout_of(PyObject *object, PyTime_t *timeout, int milliseconds) {
    *timeout = -1;
    if (object == NULL || object == Py_None) {
        return 1;
    }
    if (!PyFloat_CheckExact(object) && !PyLong_CheckExact(object)) {
        return 0;
    }
    int failed = milliseconds ? _PyTime_FromMillisecondsObject(timeout, object, _PyTime_ROUND_TIMEOUT)
                              : _PyTime_FromSecondsObject(timeout, object, _PyTime_ROUND_TIMEOUT);
    if (failed < 0) {
        PyErr_Clear();
        return 0;
    }
    /* More milliseconds than an int holds are refused. */
    return *timeout != 0 && *timeout / 1000000 < INT_MAX;
}

/* ---- select ---- */

/* What select is asked: the objects of its three sequences, whose descriptors are asked for once, as CPython does. */
struct question {
    PyObject *objects[3], *numbers[3];
    struct pollfd *fds;
    size_t count;
};

static void forget(struct question *q) {
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(q->objects[i]);
        Py_XDECREF(q->numbers[i]);
    }
    PyMem_Free(q->fds);
}

/* A sequence may change while its objects are asked for their descriptors. */
static int ask(struct question *q, int i, PyObject *sequence) {
    PyObject *items = PySequence_Fast(sequence, "arguments 1-3 must be sequences");
    q->objects[i] = PyList_New(0);
    q->numbers[i] = PyList_New(0);
    int failed = items == NULL || q->objects[i] == NULL || q->numbers[i] == NULL;
    for (Py_ssize_t at = 0; !failed && at < PySequence_Fast_GET_SIZE(items); at++) {
        PyObject *object = PyList_CheckExact(items) ? PyList_GetItemRef(items, at) : Py_NewRef(PyTuple_GET_ITEM(items, at));
        if (object == NULL) {
            /* Another thread has made it shorter. */
            PyErr_Clear();
            break;
        }
        int fd = PyObject_AsFileDescriptor(object);
        PyObject *number = fd < 0 ? NULL : PyLong_FromLong(fd);
        failed = number == NULL || PyList_Append(q->objects[i], object) < 0 || PyList_Append(q->numbers[i], number) < 0;
        Py_XDECREF(number);
        Py_DECREF(object);
    }
    Py_XDECREF(items);
    return failed ? -1 : 0;
}

/* What to wait for. */
static int list_descriptors(struct question *q) {
    static const short events[] = {POLLIN, POLLOUT, POLLPRI};
    size_t size = 0;
    for (int i = 0; i < 3; i++) {
        size += (size_t)PyList_GET_SIZE(q->numbers[i]);
    }
    q->fds = PyMem_Calloc(size + 1, sizeof *q->fds);
    if (q->fds == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        for (Py_ssize_t j = 0; j < PyList_GET_SIZE(q->numbers[i]); j++) {
            int fd = PyLong_AsInt(PyList_GET_ITEM(q->numbers[i], j));
            q->fds[q->count++] = (struct pollfd){fd, events[i], 0};
        }
    }
    return 0;
}

static int is_empty(PyObject *result) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(result); i++) {
        if (PyList_GET_SIZE(PyTuple_GET_ITEM(result, i)) != 0) {
            return 0;
        }
    }
    return 1;
}

/* Select gives the very numbers it was asked for, in their order: the objects of those. Takes `ready`. */
static PyObject *objects_of(struct question *q, PyObject *ready) {
    PyObject *lists[3] = {NULL, NULL, NULL};
    int failed = 0;
    for (int i = 0; i < 3 && !failed; i++) {
        PyObject *found = PyTuple_GET_ITEM(ready, i);
        Py_ssize_t next = 0;
        lists[i] = PyList_New(0);
        failed = lists[i] == NULL;
        for (Py_ssize_t j = 0; !failed && j < PyList_GET_SIZE(q->numbers[i]) && next < PyList_GET_SIZE(found); j++) {
            if (PyList_GET_ITEM(found, next) == PyList_GET_ITEM(q->numbers[i], j)) {
                next++;
                failed = PyList_Append(lists[i], PyList_GET_ITEM(q->objects[i], j)) < 0;
            }
        }
    }
    PyObject *result = failed ? NULL : PyTuple_Pack(3, lists[0], lists[1], lists[2]);
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(lists[i]);
    }
    Py_DECREF(ready);
    return result;
}

static PyObject *select_and_wait(PyObject *module, struct question *q, PyTime_t timeout) {
    struct rv_patience patience = rv_patience(timeout);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *args[] = {q->numbers[0], q->numbers[1], q->numbers[2], zero};
    for (int again = 0; zero != NULL; again = 1) {
        PyObject *result = RV_FAST(SELECT)(module, args, 4);
        if (result == NULL || !is_empty(result) || (again && rv_patience_left(&patience) == 0)) {
            Py_DECREF(zero);
            return result == NULL ? NULL : objects_of(q, result);
        }
        Py_DECREF(result);
        if (pause_if(again, &patience) < 0 || (q->fds == NULL && list_descriptors(q) < 0) ||
            rv_wait_polls(q->fds, q->count, &patience) < 0) {
            break;
        }
    }
    Py_XDECREF(zero);
    return NULL;
}

PyObject *rv_select(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    PyTime_t timeout;
    if (!rv_may_park() || count < 3 || count > 4 || !timeout_of(count > 3 ? args[3] : NULL, &timeout, 0) ||
        (timeout < 0 && count > 3 && args[3] != Py_None)) {
        return RV_FAST(SELECT)(module, args, count);
    }
    struct question question = {0};
    PyObject *result = NULL;
    if (ask(&question, 0, args[0]) == 0 && ask(&question, 1, args[1]) == 0 && ask(&question, 2, args[2]) == 0) {
        result = select_and_wait(module, &question, timeout);
    }
    forget(&question);
    return result;
}

/* ---- poll ---- */

PyObject *rv_poll_poll(PyObject *op, PyObject *const *args, Py_ssize_t count) {
    struct rv_poll *self = (struct rv_poll *)op;
    PyTime_t timeout;
    if (!rv_may_park() || count > 1 || !timeout_of(count > 0 ? args[0] : NULL, &timeout, 1)) {
        return RV_FAST(POLL)(op, args, count);
    }
    struct rv_patience patience = rv_patience(timeout);
    PyObject *zero = PyLong_FromLong(0);
    for (int again = 0; zero != NULL; again = 1) {
        PyObject *result = RV_FAST(POLL)(op, &zero, 1);
        if (result == NULL || PyList_GET_SIZE(result) != 0 || (again && rv_patience_left(&patience) == 0)) {
            Py_DECREF(zero);
            return result;
        }
        Py_DECREF(result);
        /* Others may change the object's own while we wait. */
        size_t size = (size_t)self->count;
        struct pollfd *fds = PyMem_Calloc(size + 1, sizeof *fds);
        if (fds == NULL) {
            PyErr_NoMemory();
            break;
        }
        memcpy(fds, self->array, size * sizeof *fds);
        /* Whoever else polls it meanwhile is refused, as he is by a thread in poll(2). */
        self->running = 1;
        int ready = pause_if(again, &patience) < 0 ? -1 : rv_wait_polls(fds, size, &patience);
        self->running = 0;
        PyMem_Free(fds);
        if (ready < 0) {
            break;
        }
    }
    Py_XDECREF(zero);
    return NULL;
}

/* ---- epoll ---- */

/* The argument at a place or of a name; NULL if there is none. -1 for names that it does not have. */
static int arguments(PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject *found[2]) {
    static const char *const known[] = {"timeout", "maxevents"};
    found[0] = count > 0 ? args[0] : NULL;
    found[1] = count > 1 ? args[1] : NULL;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        int k = PyUnicode_EqualToUTF8(PyTuple_GET_ITEM(names, i), known[0])   ? 0
                : PyUnicode_EqualToUTF8(PyTuple_GET_ITEM(names, i), known[1]) ? 1
                                                                              : -1;
        if (k < 0 || found[k] != NULL) {
            return -1;
        }
        found[k] = args[count + i];
    }
    return count > 2 ? -1 : 0;
}

PyObject *rv_epoll_poll(PyObject *op, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    struct rv_epoll *self = (struct rv_epoll *)op;
    PyObject *found[2];
    PyTime_t timeout;
    if (!rv_may_park() || arguments(args, count, names, found) < 0 || !timeout_of(found[0], &timeout, 0)) {
        return RV_FAST_KW(EPOLL)(op, args, count, names);
    }
    struct rv_patience patience = rv_patience(timeout);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *now[] = {zero, found[1]};
    while (zero != NULL) {
        int fd = _Py_atomic_load_int_relaxed(&self->fd);
        PyObject *result = RV_FAST_KW(EPOLL)(op, now, found[1] == NULL ? 1 : 2, NULL);
        PyTime_t left = -1;
        if (result == NULL || PyList_GET_SIZE(result) != 0 || (left = rv_patience_left(&patience)) == 0) {
            Py_DECREF(zero);
            return result;
        }
        Py_DECREF(result);
        /* Itself a descriptor, readable when something is ready. */
        int ready = rv_wait_refused(fd, 0, left, &self->fd);
        if (ready < 0) {
            break;
        }
    }
    Py_XDECREF(zero);
    return NULL;
}

static void close_now(void *context) {
    PyObject **call = context;
    call[1] = RV_PLAIN(EPOLL_CLOSE)(call[0], NULL);
}

/* On plain threads too: fibers may wait for it. */
PyObject *rv_epoll_close(PyObject *op, PyObject *unused) {
    int fd = _Py_atomic_load_int_relaxed(&((struct rv_epoll *)op)->fd);
    PyObject *call[] = {op, NULL};
    if (fd < 0) {
        return RV_PLAIN(EPOLL_CLOSE)(op, unused);
    }
    rv_while_closing(fd, fd + 1, close_now, call);
    return call[1];
}
