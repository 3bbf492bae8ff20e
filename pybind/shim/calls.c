/* time.sleep, and the calls that have no readiness: names are looked up by threads of the pool. */
#include "io.h"

#include <arpa/inet.h>

#include <internal/pycore_time.h>

PyObject *rv_time_sleep(PyObject *module, PyObject *seconds) {
    if (!rv_may_park()) {
        return RV_PLAIN(SLEEP)(module, seconds);
    }
    PyTime_t duration;
    if (PySys_Audit("time.sleep", "O", seconds) < 0 ||
        _PyTime_FromSecondsObject(&duration, seconds, _PyTime_ROUND_TIMEOUT) < 0) {
        return NULL;
    }
    if (duration < 0) {
        PyErr_SetString(PyExc_ValueError, "sleep length must be non-negative");
        return NULL;
    }
    if (rv_io_sleep(duration) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whether a host is one that is not looked up anywhere. */
static int is_numeric(PyObject *host) {
    const char *text = NULL;
    unsigned char address[16];
    if (host == Py_None) {
        return 1;
    }
    if (PyUnicode_CheckExact(host)) {
        text = PyUnicode_AsUTF8(host);
        if (text == NULL) {
            PyErr_Clear();
            return 0;
        }
    }
    else if (PyBytes_CheckExact(host)) {
        text = PyBytes_AS_STRING(host);
    }
    return text != NULL && (inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1);
}

/* Services are looked up too. */
static int is_numeric_service(PyObject *service) {
    if (service == Py_None || PyLong_CheckExact(service)) {
        return 1;
    }
    return PyUnicode_CheckExact(service) && PyUnicode_GET_LENGTH(service) != 0 &&
           PyUnicode_READ_CHAR(service, 0) >= '0' && PyUnicode_READ_CHAR(service, 0) <= '9';
}

static PyObject *in_pool(enum rv_io which, PyObject *args, PyObject *kwargs) {
    /* On a plain thread it is the function CPython had. */
    return rv_io_pool(rv_io_object[which], args, kwargs);
}

PyObject *rv_getaddrinfo(PyObject *module, PyObject *args, PyObject *kwargs) {
    int quick = kwargs == NULL && PyTuple_GET_SIZE(args) >= 2 && is_numeric(PyTuple_GET_ITEM(args, 0)) &&
                is_numeric_service(PyTuple_GET_ITEM(args, 1));
    if (quick || !rv_may_park()) {
        return RV_KW(GETADDRINFO)(module, args, kwargs);
    }
    return in_pool(RV_IO_GETADDRINFO, args, kwargs);
}

#define LOOKUP(function, id)                                                                     \
    PyObject *function(PyObject *module, PyObject *args) {                                       \
        return rv_may_park() ? in_pool(RV_IO_##id, args, NULL) : RV_PLAIN(id)(module, args);      \
    }

LOOKUP(rv_gethostbyname, GETHOSTBYNAME)
LOOKUP(rv_gethostbyname_ex, GETHOSTBYNAME_EX)
LOOKUP(rv_gethostbyaddr, GETHOSTBYADDR)

PyObject *rv_getnameinfo(PyObject *module, PyObject *args) {
    /* What is no address is refused here: a thread of the pool would hold on to it for a moment longer. */
    int is_address = PyTuple_GET_SIZE(args) > 0 && PyTuple_Check(PyTuple_GET_ITEM(args, 0));
    return is_address && rv_may_park() ? in_pool(RV_IO_GETNAMEINFO, args, NULL) : RV_PLAIN(GETNAMEINFO)(module, args);
}

/* connect and sendto look names up in C, past every replacement. */
PyObject *rv_resolved(struct rv_socket *s, PyObject *address) {
    PyObject *host = NULL;
    if ((s->family != AF_INET && s->family != AF_INET6) || !PyTuple_Check(address) || PyTuple_GET_SIZE(address) < 2) {
        return Py_NewRef(address);
    }
    host = PyTuple_GET_ITEM(address, 0);
    /* Names only: what else there may be is CPython's to judge. Empty, <broadcast> and fe80::1%eth0 are not looked up. */
    if (!PyUnicode_Check(host) || PyUnicode_GET_LENGTH(host) == 0 || PyUnicode_READ_CHAR(host, 0) == '<' ||
        PyUnicode_FindChar(host, ':', 0, PyUnicode_GET_LENGTH(host), 1) >= 0 || is_numeric(host)) {
        return Py_NewRef(address);
    }
    /* What CPython asks for. */
    PyObject *question = Py_BuildValue("OOi", host, Py_None, s->family);
    PyObject *found = question == NULL ? NULL : in_pool(RV_IO_GETADDRINFO, question, NULL);
    Py_XDECREF(question);
    if (found == NULL) {
        return NULL;
    }
    PyObject *first = PyList_Check(found) && PyList_GET_SIZE(found) != 0 ? PyList_GET_ITEM(found, 0) : NULL;
    PyObject *sockaddr = first != NULL && PyTuple_Check(first) && PyTuple_GET_SIZE(first) == 5 ? PyTuple_GET_ITEM(first, 4) : NULL;
    PyObject *result = NULL;
    if (sockaddr == NULL || !PyTuple_Check(sockaddr) || PyTuple_GET_SIZE(sockaddr) < 2) {
        PyErr_SetString(PyExc_OSError, "roving: getaddrinfo gave no address");
    }
    else if ((result = PySequence_List(address)) != NULL) {
        PyObject *tuple = NULL;
        if (PyList_SetItem(result, 0, Py_NewRef(PyTuple_GET_ITEM(sockaddr, 0))) == 0) {
            tuple = PyList_AsTuple(result);
        }
        Py_SETREF(result, tuple);
    }
    Py_DECREF(found);
    return result;
}
