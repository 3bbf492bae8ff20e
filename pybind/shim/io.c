/* Puts the I/O methods in place, and takes them out again: `ml_meth` of CPython's method tables, as install.c does for
 * locks. No thread need be stopped: a call that is in the middle of either method ends in it. */
#include "io.h"

PyCFunction rv_io_original[RV_IO_COUNT];
PyObject *rv_io_object[RV_IO_COUNT];

enum place { IN_TIME, IN_SOCKET, IN_SOCKET_TYPE, IN_SELECT, IN_POLL_TYPE, IN_EPOLL_TYPE, IN_POSIX, IN_SSL_TYPE, PLACES };

static const char *const place_names[PLACES] = {"time",        "_socket",      "_socket.socket", "select",
                                                "select.poll", "select.epoll", "posix",          "_ssl._SSLSocket"};

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

static const struct entry {
    enum rv_io_group group;
    enum place place;
    const char *name;
    int flags;
    PyCFunction method;
} entries[RV_IO_COUNT] = {
#define X(id, group, place, name, flags, function) {RV_GROUP_##group, place, name, flags, FUNCTION(function)},
    RV_IO(X)
#undef X
};

static PyMethodDef *defs[RV_IO_COUNT];
static int on[RV_IO_COUNT];

/* Guards all of the above, and is held attached, with no call that may detach. */
static PyMutex mutex;
static int known;

PyTime_t rv_patience_left(struct rv_patience *patience) {
    if (patience->timeout < 0) {
        return -1;
    }
    PyTime_t now;
    (void)PyTime_MonotonicRaw(&now);
    if (!patience->begun) {
        patience->begun = 1;
        patience->end = now > PyTime_MAX - patience->timeout ? PyTime_MAX : now + patience->timeout;
    }
    return patience->end > now ? patience->end - now : 0;
}

static int refuse(const char *place, const char *name) {
    PyErr_Format(PyExc_RuntimeError,
                 "roving: %s.%s of this interpreter is not as roving knows it, so that it cannot be patched; install "
                 "roving for this interpreter, or report it",
                 place, name);
    return -1;
}

/* `_ssl._SSLSocket`, where there is an `_ssl`: CPython can be built without OpenSSL. */
static int find_ssl(PyObject **place, PyTypeObject *sockets) {
    PyObject *module = PyImport_ImportModule("_ssl");
    if (module == NULL) {
        int missing = PyErr_ExceptionMatches(PyExc_ImportError);
        if (missing) {
            PyErr_Clear();
        }
        return missing ? 0 : -1;
    }
    PyObject *type = PyObject_GetAttrString(module, "_SSLSocket");
    int ok = type == NULL ? -1 : PyType_Check(type) ? rv_ssl_is_known(module, (PyTypeObject *)type, sockets) : 0;
    if (ok > 0) {
        ok = rv_ssl_errors(module) < 0 ? -1 : 1;
    }
    Py_DECREF(module);
    *place = type;
    return ok > 0 ? 0 : ok < 0 ? -1 : refuse("_ssl", "_SSLSocket");
}

/* New references. */
static int find_places(PyObject *places[PLACES]) {
    const char *const modules[] = {"time", "_socket", NULL, "select", NULL, NULL, "posix", NULL};
    for (int i = 0; i < PLACES; i++) {
        if (modules[i] != NULL && (places[i] = PyImport_ImportModule(modules[i])) == NULL) {
            return -1;
        }
    }
    PyObject *poll = PyObject_CallMethod(places[IN_SELECT], "poll", NULL);
    PyObject *epoll = poll == NULL ? NULL : PyObject_CallMethod(places[IN_SELECT], "epoll", NULL);
    places[IN_SOCKET_TYPE] = epoll == NULL ? NULL : PyObject_GetAttrString(places[IN_SOCKET], "socket");
    int result = -1;
    if (places[IN_SOCKET_TYPE] != NULL) {
        places[IN_POLL_TYPE] = Py_NewRef(Py_TYPE(poll));
        places[IN_EPOLL_TYPE] = Py_NewRef(Py_TYPE(epoll));
        int ok = PyType_Check(places[IN_SOCKET_TYPE]) ? rv_socket_is_known((PyTypeObject *)places[IN_SOCKET_TYPE]) : 0;
        result = ok > 0 ? 0 : ok < 0 ? -1 : refuse("_socket", "socket");
        ok = result < 0 ? 1 : rv_poll_is_known(poll);
        result = ok > 0 ? result : ok < 0 ? -1 : refuse("select", "poll");
        ok = result < 0 ? 1 : rv_epoll_is_known(epoll);
        result = ok > 0 ? result : ok < 0 ? -1 : refuse("select", "epoll");
        result = result < 0 ? -1 : find_ssl(&places[IN_SSL_TYPE], (PyTypeObject *)places[IN_SOCKET_TYPE]);
    }
    Py_XDECREF(poll);
    Py_XDECREF(epoll);
    return result;
}

static int find_entries(PyObject *places[PLACES], PyMethodDef *found[RV_IO_COUNT], PyObject *objects[RV_IO_COUNT]) {
    for (int i = 0; i < RV_IO_COUNT; i++) {
        const struct entry *entry = &entries[i];
        if (places[entry->place] == NULL) {
            continue;
        }
        PyObject *object = PyObject_GetAttrString(places[entry->place], entry->name);
        if (object == NULL) {
            PyErr_Clear();
            return refuse(place_names[entry->place], entry->name);
        }
        objects[i] = object;
        if (Py_IS_TYPE(object, &PyMethodDescr_Type)) {
            found[i] = ((PyMethodDescrObject *)object)->d_method;
        }
        else if (PyCFunction_CheckExact(object)) {
            found[i] = ((PyCFunctionObject *)object)->m_ml;
        }
        if (found[i] == NULL || strcmp(found[i]->ml_name, entry->name) != 0 ||
            (found[i]->ml_flags & ~METH_COEXIST) != entry->flags) {
            return refuse(place_names[entry->place], entry->name);
        }
    }
    return 0;
}

/* Finds what is to be replaced, once. */
static int look(void) {
    PyObject *places[PLACES] = {NULL};
    PyMethodDef *found[RV_IO_COUNT] = {NULL};
    PyObject *objects[RV_IO_COUNT] = {NULL};
    if (_Py_atomic_load_int_acquire(&known)) {
        return 0;
    }
    int result = find_places(places);
    if (result == 0) {
        result = find_entries(places, found, objects);
    }
    if (result == 0) {
        PyMutex_Lock(&mutex);
        if (!known) {
            for (int i = 0; i < RV_IO_COUNT; i++) {
                defs[i] = found[i];
                rv_io_original[i] = found[i] == NULL ? NULL : found[i]->ml_meth;
                rv_io_object[i] = Py_XNewRef(objects[i]);
            }
            _Py_atomic_store_int_release(&known, 1);
        }
        PyMutex_Unlock(&mutex);
    }
    for (int i = 0; i < PLACES; i++) {
        Py_XDECREF(places[i]);
    }
    for (int i = 0; i < RV_IO_COUNT; i++) {
        Py_XDECREF(objects[i]);
    }
    return result;
}

int rv_io_patch(int group, int put) {
    if (group == RV_GROUP_SQLITE) {
        return rv_sqlite_patch(put);
    }
    if (look() < 0) {
        return -1;
    }
    PyMutex_Lock(&mutex);
    for (int i = 0; i < RV_IO_COUNT; i++) {
        if ((int)entries[i].group == group && on[i] != put && defs[i] != NULL) {
            on[i] = put;
            /* Those of `_ssl` stay: see tls.c. */
            if (group == RV_GROUP_SSL && !put) {
                continue;
            }
            PyCFunction method = put ? entries[i].method : rv_io_original[i];
            _Py_atomic_store_ptr_release((void *)&defs[i]->ml_meth, (void *)method);
        }
    }
    if (group == RV_GROUP_SSL) {
        rv_ssl_switch(put);
    }
    PyMutex_Unlock(&mutex);
    return 0;
}

int rv_io_entry(int index, int *group, const char **place, const char **name, int *is_on) {
    if (index >= RV_IO_COUNT) {
        *group = RV_GROUP_SQLITE;
        return rv_sqlite_entry(index - RV_IO_COUNT, place, name, is_on);
    }
    if (index < 0) {
        return 0;
    }
    *group = (int)entries[index].group;
    *place = place_names[entries[index].place];
    *name = entries[index].name;
    *is_on = _Py_atomic_load_int_relaxed(&on[index]);
    return 1;
}
