/* What tls.c and tls_state.c share: TLS over sockets that know fibers. tls_state.c says how. */
#ifndef RV_TLS_H
#define RV_TLS_H

#include "sockets.h"

/* What roving knows of `_ssl._SSLSocket`: a weak reference to its socket, the first of its fields; NULL over a MemoryBIO. */
struct rv_ssl {
    PyObject_HEAD
    PyObject *socket;
};

/* Stands where that weak reference was, as soon as a fiber has used the object, and is one itself: to the companion. */
struct rv_tls {
    PyWeakReference ref;
    /* A socket whose timeout is zero: so _ssl makes one attempt, and waits for nothing. */
    struct rv_socket *companion;
    /* The weak reference to the socket. */
    PyObject *socket;
    /* Held for an attempt: OpenSSL's objects are not fit for two threads at once. Whose it is, by rv_ident. */
    PyMutex turn;
    unsigned long long owner;
    /* Held for a write, waits included: OpenSSL has a record that was not taken as a whole sent again by the next write, and
     * that must be the same one. Whose it is. */
    PyMutex writing;
    unsigned long long writer;
    /* The descriptor that was made one that does not wait for the sake of this, or -1. */
    int made;
    /* The last thing that happened was a read that emptied the record it came from: there is nothing to be had but from
     * the descriptor. */
    int drained;
};

static inline struct rv_tls *rv_tls_of(PyObject *op) {
    PyObject *ref = _Py_atomic_load_ptr_acquire(&((struct rv_ssl *)op)->socket);
    extern PyTypeObject rv_tls_type;
    return ref != NULL && Py_IS_TYPE(ref, &rv_tls_type) ? (struct rv_tls *)ref : NULL;
}

/* Has it from now on: NULL with an exception. It is the object's, and lives as long. */
struct rv_tls *rv_tls_adopt(PyObject *op);
/* The socket, a new reference; NULL without an exception if it is gone. */
struct rv_socket *rv_tls_socket(PyObject *weak);
/* Gives the socket of an object that has become useless its mode back. */
void rv_tls_restore(struct rv_tls *t);

#endif
