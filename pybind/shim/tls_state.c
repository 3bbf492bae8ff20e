/* How `_ssl` is brought to make one attempt and not to wait.
 *
 * It looks at the timeout of the socket, which it has by a weak reference. So once a fiber has used an `_SSLSocket`, that
 * reference is one to a *companion*, a socket of nobody's whose timeout is zero, and `_ssl` raises SSLWantReadError where it
 * would have waited. The socket itself keeps its timeout; tls.c waits, by that, in fibers and from then on in threads too.
 *
 * That OpenSSL does not wait either takes O_NONBLOCK: nothing less reaches the system calls that it makes. CPython sets it on
 * sockets that have a timeout. On those that have none it is set here, and taken back when the object goes.
 *
 *     _SSLSocket --socket--> rv_tls --(weak, and owned)--> companion
 *                               `----> weak reference --(weak)--> SSLSocket
 *
 * Nothing is ever put back: a thread may be reading the field. What it held lives as long as the object. */
#include "tls.h"

#include <fcntl.h>

/* The companion's descriptor, where there is one: never an open one, so that nothing can be closed by its end. */
#define NOWHERE INT_MAX

struct rv_socket *rv_tls_socket(PyObject *weak) {
    PyObject *object = NULL;
    if (weak == NULL || PyWeakref_GetRef(weak, &object) <= 0) {
        return NULL;
    }
    return RV_SOCKET(object);
}

void rv_tls_restore(struct rv_tls *t) {
    int fd = _Py_atomic_exchange_int(&t->made, -1);
    struct rv_socket *s = fd < 0 ? NULL : rv_tls_socket(t->socket);
    if (s == NULL) {
        return;
    }
    /* Neither closed meanwhile nor given a timeout, which needs it. */
    if (rv_sock_fd(s) == fd && s->timeout < 0) {
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0) {
            (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        }
    }
    Py_DECREF(s);
}

static void tls_dealloc(PyObject *op) {
    struct rv_tls *t = (struct rv_tls *)op;
    PyObject *exception = PyErr_GetRaisedException();
    struct rv_socket *companion = t->companion;
    PyObject *socket = t->socket;
    rv_tls_restore(t);
    _PyWeakref_RefType.tp_dealloc(op);
    if (companion != NULL) {
        _Py_atomic_store_int_relaxed(&companion->fd, -1);
        Py_DECREF(companion);
    }
    Py_XDECREF(socket);
    PyErr_SetRaisedException(exception);
}

/* What it refers to is not shown to the collector, which would finalize, that is close, a companion that is part of garbage
 * with its object. It is part of no cycle: nothing leads from a companion anywhere. */
PyTypeObject rv_tls_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "roving._roving._TLS",
    .tp_base = &_PyWeakref_RefType,
    .tp_basicsize = sizeof(struct rv_tls),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = tls_dealloc,
};

/* Companions' type: sockets that weak references can be made to, which those of `_socket` are not. Set once. */
static PyTypeObject *companion_type;

/* A socket that does not wait. */
static PyObject *make_companion(void) {
    /* Without __init__, which would make a descriptor. */
    PyObject *none = PyTuple_New(0);
    PyObject *object = none == NULL ? NULL : companion_type->tp_new(companion_type, none, NULL);
    Py_XDECREF(none);
    if (object != NULL) {
        RV_SOCKET(object)->timeout = 0;
        _Py_atomic_store_int_relaxed(&RV_SOCKET(object)->fd, NOWHERE);
    }
    return object;
}

struct rv_tls *rv_tls_adopt(PyObject *op) {
    struct rv_ssl *ssl = (struct rv_ssl *)op;
    PyObject *companion = make_companion();
    PyObject *made = companion == NULL ? NULL : PyObject_CallOneArg((PyObject *)&rv_tls_type, companion);
    if (made == NULL) {
        if (companion != NULL) {
            _Py_atomic_store_int_relaxed(&RV_SOCKET(companion)->fd, -1);
            Py_DECREF(companion);
        }
        return NULL;
    }
    struct rv_tls *t = (struct rv_tls *)made;
    t->companion = RV_SOCKET(companion);
    t->made = -1;
    void *expected = _Py_atomic_load_ptr_acquire(&ssl->socket);
    if (!Py_IS_TYPE((PyObject *)expected, &rv_tls_type)) {
        t->socket = expected;
        if (_Py_atomic_compare_exchange_ptr(&ssl->socket, &expected, made)) {
            return t;
        }
        t->socket = NULL;
    }
    /* Somebody was quicker. */
    Py_DECREF(made);
    return rv_tls_of(op);
}

/* Whether an object over `socket`, made by `module`, refers to it where we think. */
static int refers_to(PyObject *module, PyTypeObject *type, PyObject *socket) {
    PyObject *reference = PyWeakref_NewRef(socket, NULL);
    PyObject *protocol = reference == NULL ? NULL : PyObject_GetAttrString(module, "PROTOCOL_TLS_CLIENT");
    PyObject *context = protocol == NULL ? NULL : PyObject_CallMethod(module, "_SSLContext", "O", protocol);
    PyObject *ssl = context == NULL ? NULL : PyObject_CallMethod(context, "_wrap_socket", "OO", socket, Py_False);
    /* There is one such reference to an object, however often it is asked for. */
    int result = ssl == NULL ? -1 : Py_IS_TYPE(ssl, type) && ((struct rv_ssl *)ssl)->socket == reference;
    Py_XDECREF(ssl);
    Py_XDECREF(context);
    Py_XDECREF(protocol);
    Py_XDECREF(reference);
    return result;
}

int rv_ssl_is_known(PyObject *module, PyTypeObject *type, PyTypeObject *sockets) {
    if (type->tp_basicsize < (Py_ssize_t)sizeof(struct rv_ssl)) {
        return 0;
    }
    PyObject *made = PyType_Ready(&rv_tls_type) < 0
                         ? NULL
                         : PyObject_CallFunction((PyObject *)&PyType_Type, "s(O){s(s)}", "roving._roving._Companion", sockets,
                                                 "__slots__", "__weakref__");
    PyObject *socket = made == NULL ? NULL : PyObject_CallFunction(made, "ii", AF_UNIX, SOCK_STREAM);
    int result = socket == NULL ? -1 : refers_to(module, type, socket);
    if (result >= 0) {
        PyObject *closed = PyObject_CallMethod(socket, "close", NULL);
        result = closed == NULL ? -1 : result;
        Py_XDECREF(closed);
    }
    if (result > 0 && companion_type == NULL) {
        companion_type = (PyTypeObject *)Py_NewRef(made);
    }
    Py_XDECREF(socket);
    Py_XDECREF(made);
    return result;
}
