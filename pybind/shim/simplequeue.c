/* `_queue.SimpleQueue`, whose get() waits in CPython's parking lot, where a fiber would take its worker along.
 *
 * Items stay where they are, in the queue's own ring. Plain threads get and wait by CPython's method; put() hands an item to
 * a thread that waits. A fiber takes what is there, or parks at the address of the queue; put() wakes one when an item
 * was left in the ring. Who was woken looks, takes the item or finds that somebody was quicker, and waits again, in
 * front. No wake-up is lost: put() changes the count and then looks for waiters, a waiter stands in the queue and then
 * looks at the count (roving_runtime::sync::Lot has the fences), and whoever was woken looks once more before it gives up.
 *
 * Where fibers and threads wait for the same queue they take turns: every other item is kept from the threads. */
#include "seams.h"

#include <internal/pycore_time.h>
#include <stdbool.h>

/* The core's own are inline, and read what it does not export. */
#undef PyCriticalSection_Begin
#undef PyCriticalSection_End

/* As in Modules/_queuemodule.c, the same in 3.13 and 3.14; tried out before anything is replaced. */
struct simple_queue {
    PyObject_HEAD
    bool has_threads_waiting;
    struct {
        Py_ssize_t put_idx;
        Py_ssize_t get_idx;
        PyObject **items;
        Py_ssize_t items_cap;
        Py_ssize_t num_items;
    } ring;
    PyObject *weakrefs;
};

/* Strong, and set once. */
static PyObject *empty_error;

static PyCFunction put_original, put_nowait_original, get_original, get_nowait_original;

static int is_empty(const void *queue) {
    return _Py_atomic_load_ssize_relaxed(&((struct simple_queue *)queue)->ring.num_items) == 0;
}

static unsigned turn;

/* With a GIL it is the lock. */
#ifdef Py_GIL_DISABLED
#define QUEUE_SECTION_BEGIN(queue)                                                                               \
    PyCriticalSection section;                                                                                   \
    PyCriticalSection_Begin(&section, queue);
#define QUEUE_SECTION_END PyCriticalSection_End(&section);
#else
#define QUEUE_SECTION_BEGIN(queue)
#define QUEUE_SECTION_END
#endif

/* Has what follows leave its item in the ring, though threads wait; what it finds out about threads is put right after it. */
#define PUT(call)                                                                                                \
    struct simple_queue *q = (struct simple_queue *)self;                                                        \
    PyObject *result;                                                                                            \
    if (q->has_threads_waiting && rv_may_wait_at(self) && _Py_atomic_add_uint(&turn, 1) % 2 == 0) {              \
        QUEUE_SECTION_BEGIN(self)                                                                                \
        q->has_threads_waiting = false;                                                                          \
        result = call;                                                                                           \
        q->has_threads_waiting = true;                                                                           \
        QUEUE_SECTION_END                                                                                        \
    }                                                                                                            \
    else {                                                                                                       \
        result = call;                                                                                           \
    }                                                                                                            \
    if (result != NULL && rv_may_wait_at(self)) {                                                                \
        rv_wake_one(self);                                                                                       \
    }                                                                                                            \
    return result;

static PyObject *put(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    PUT(((rv_fast_named)(void (*)(void))put_original)(self, args, count, names))
}

static PyObject *put_nowait(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    PUT(((rv_fast_named)(void (*)(void))put_nowait_original)(self, args, count, names))
}

static PyObject *take(PyObject *self, PyTypeObject *class) {
    return ((rv_of_class)(void (*)(void))get_nowait_original)(self, class, NULL, 0, NULL);
}

/* 1, 0 for what CPython is to refuse, -1 with an exception. */
static int parse(PyObject *const *args, Py_ssize_t count, PyObject *names, int *block, PyTime_t *timeout) {
    PyObject *given[2] = {Py_True, Py_None};
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (count + named > 2) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        given[i] = args[i];
    }
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int place = PyUnicode_EqualToUTF8(name, "block") ? 0 : PyUnicode_EqualToUTF8(name, "timeout") ? 1 : -1;
        if (place < count) {
            return 0;
        }
        given[place] = args[count + i];
    }
    *block = PyObject_IsTrue(given[0]);
    *timeout = -1;
    if (*block < 0) {
        return -1;
    }
    if (*block && given[1] != Py_None) {
        if (_PyTime_FromSecondsObject(timeout, given[1], _PyTime_ROUND_CEILING) < 0) {
            return -1;
        }
        if (*timeout < 0) {
            PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
            return -1;
        }
    }
    return 1;
}

static PyObject *get(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    int block;
    PyTime_t timeout, now, end = 0;
    if (!rv_parks_for(RV_QUEUES)) {
        return ((rv_of_class)(void (*)(void))get_original)(self, class, args, count, names);
    }
    int parsed = parse(args, count, names, &block, &timeout);
    if (parsed < 0) {
        return NULL;
    }
    if (parsed == 0) {
        return ((rv_of_class)(void (*)(void))get_original)(self, class, args, count, names);
    }
    if (!block || timeout == 0) {
        return take(self, class);
    }
    if (timeout > 0) {
        (void)PyTime_MonotonicRaw(&now);
        end = timeout > PyTime_MAX - now ? PyTime_MAX : now + timeout;
    }
    for (;;) {
        if (!is_empty(self)) {
            PyObject *item = take(self, class);
            if (item != NULL || !PyErr_ExceptionMatches(empty_error)) {
                return item;
            }
            /* Somebody was quicker. */
            PyErr_Clear();
        }
        int woken = rv_wait_while(self, is_empty, self, timeout, RV_QUEUES, 0);
        if (woken < 0) {
            return NULL;
        }
        if (woken == 0) {
            return take(self, class);
        }
        if (timeout > 0) {
            (void)PyTime_MonotonicRaw(&now);
            timeout = end > now ? end - now : 1;
        }
    }
}

#define QUEUE(name, flags, function, original)                                                                   \
    {RV_QUEUES, "_queue", "SimpleQueue", name, flags, 0, RV_FUNCTION(function), &original, NULL}

/* get_nowait never waits: it is ours only for its original. */
static PyObject *get_nowait(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    return ((rv_of_class)(void (*)(void))get_nowait_original)(self, class, args, count, names);
}

struct rv_seam rv_queue_seams[] = {
    QUEUE("put", METH_FASTCALL | METH_KEYWORDS, put, put_original),
    QUEUE("put_nowait", METH_FASTCALL | METH_KEYWORDS, put_nowait, put_nowait_original),
    QUEUE("get", METH_METHOD | METH_FASTCALL | METH_KEYWORDS, get, get_original),
    QUEUE("get_nowait", METH_METHOD | METH_FASTCALL | METH_KEYWORDS, get_nowait, get_nowait_original),
    {0},
};

int rv_queues_are_known(void) {
    PyObject *module = PyImport_ImportModule("_queue");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "SimpleQueue");
    PyObject *queue = type == NULL ? NULL : PyObject_CallNoArgs(type);
    int known = queue != NULL && Py_TYPE(queue)->tp_basicsize == (Py_ssize_t)sizeof(struct simple_queue);
    struct simple_queue *q = (struct simple_queue *)queue;
    for (int i = 0; known && i < 3; i++) {
        PyObject *result = PyObject_CallMethod(queue, "put", "O", Py_None);
        known = result != NULL && !q->has_threads_waiting && q->ring.num_items == i + 1 && q->ring.get_idx == 0 &&
                q->ring.put_idx == i + 1 && q->ring.items[i] == Py_None;
        Py_XDECREF(result);
    }
    if (known && empty_error == NULL) {
        empty_error = PyObject_GetAttrString(module, "Empty");
        known = empty_error != NULL && PyExceptionClass_Check(empty_error);
    }
    Py_XDECREF(queue);
    Py_XDECREF(type);
    Py_XDECREF(module);
    if (!known && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "roving: _queue.SimpleQueue of this interpreter is not as roving knows it; install "
                                            "roving for this interpreter, or report it");
    }
    return known ? 0 : -1;
}
