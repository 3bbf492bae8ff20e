/* I/O methods that know fibers: what replaces those of `time`, `_socket`, `select`, `posix` and `_ssl` when roving.patch asks for
 * it. io.c puts them in place, the files named below make them, ../src/io.rs waits.
 *
 * All are one scheme. On a plain thread, between fibers and where nothing may park: the method CPython had. In a fiber: an
 * attempt that cannot block; if it would have, the fiber parks until it is worth another. */
#ifndef RV_IO_H
#define RV_IO_H

#include "locks.h"

#include <poll.h>

#define RV_VARKW (METH_VARARGS | METH_KEYWORDS)
#define RV_FASTKW (METH_FASTCALL | METH_KEYWORDS)

/* ../src/io.rs has their names, in this order. */
enum rv_io_group { RV_GROUP_TIME, RV_GROUP_SOCKET, RV_GROUP_DNS, RV_GROUP_SELECT, RV_GROUP_OS, RV_GROUP_SSL, RV_GROUP_SQLITE };

/* Name here, group, place, name there, flags there, function. */
#define RV_IO(X)                                                                                   \
    X(SLEEP, TIME, IN_TIME, "sleep", METH_O, rv_time_sleep)                                        \
    X(ACCEPT, SOCKET, IN_SOCKET_TYPE, "_accept", METH_NOARGS, rv_sock_accept)                      \
    X(CONNECT, SOCKET, IN_SOCKET_TYPE, "connect", METH_O, rv_sock_connect)                         \
    X(CONNECT_EX, SOCKET, IN_SOCKET_TYPE, "connect_ex", METH_O, rv_sock_connect_ex)                \
    X(RECV, SOCKET, IN_SOCKET_TYPE, "recv", METH_VARARGS, rv_sock_recv)                            \
    X(RECV_INTO, SOCKET, IN_SOCKET_TYPE, "recv_into", RV_VARKW, rv_sock_recv_into)                 \
    X(RECVFROM, SOCKET, IN_SOCKET_TYPE, "recvfrom", METH_VARARGS, rv_sock_recvfrom)                \
    X(RECVFROM_INTO, SOCKET, IN_SOCKET_TYPE, "recvfrom_into", RV_VARKW, rv_sock_recvfrom_into)     \
    X(RECVMSG, SOCKET, IN_SOCKET_TYPE, "recvmsg", METH_VARARGS, rv_sock_recvmsg)                   \
    X(RECVMSG_INTO, SOCKET, IN_SOCKET_TYPE, "recvmsg_into", METH_VARARGS, rv_sock_recvmsg_into)    \
    X(SEND, SOCKET, IN_SOCKET_TYPE, "send", METH_VARARGS, rv_sock_send)                            \
    X(SENDALL, SOCKET, IN_SOCKET_TYPE, "sendall", METH_VARARGS, rv_sock_sendall)                   \
    X(SENDTO, SOCKET, IN_SOCKET_TYPE, "sendto", METH_VARARGS, rv_sock_sendto)                      \
    X(SENDMSG, SOCKET, IN_SOCKET_TYPE, "sendmsg", METH_VARARGS, rv_sock_sendmsg)                   \
    X(SETSOCKOPT, SOCKET, IN_SOCKET_TYPE, "setsockopt", METH_VARARGS, rv_sock_setsockopt)          \
    X(SOCK_CLOSE, SOCKET, IN_SOCKET_TYPE, "close", METH_NOARGS, rv_sock_close)                     \
    X(CLOSE_FD, SOCKET, IN_SOCKET, "close", METH_O, rv_socket_close)                               \
    X(GETADDRINFO, DNS, IN_SOCKET, "getaddrinfo", RV_VARKW, rv_getaddrinfo)                        \
    X(GETHOSTBYNAME, DNS, IN_SOCKET, "gethostbyname", METH_VARARGS, rv_gethostbyname)              \
    X(GETHOSTBYNAME_EX, DNS, IN_SOCKET, "gethostbyname_ex", METH_VARARGS, rv_gethostbyname_ex)     \
    X(GETHOSTBYADDR, DNS, IN_SOCKET, "gethostbyaddr", METH_VARARGS, rv_gethostbyaddr)              \
    X(GETNAMEINFO, DNS, IN_SOCKET, "getnameinfo", METH_VARARGS, rv_getnameinfo)                    \
    X(SELECT, SELECT, IN_SELECT, "select", METH_FASTCALL, rv_select)                               \
    X(POLL, SELECT, IN_POLL_TYPE, "poll", METH_FASTCALL, rv_poll_poll)                             \
    X(EPOLL, SELECT, IN_EPOLL_TYPE, "poll", RV_FASTKW, rv_epoll_poll)                              \
    X(EPOLL_CLOSE, SELECT, IN_EPOLL_TYPE, "close", METH_NOARGS, rv_epoll_close)                    \
    X(READ, OS, IN_POSIX, "read", METH_FASTCALL, rv_os_read)                                       \
    X(READV, OS, IN_POSIX, "readv", METH_FASTCALL, rv_os_readv)                                    \
    X(WRITE, OS, IN_POSIX, "write", METH_FASTCALL, rv_os_write)                                    \
    X(WRITEV, OS, IN_POSIX, "writev", METH_FASTCALL, rv_os_writev)                                 \
    X(SENDFILE, OS, IN_POSIX, "sendfile", RV_FASTKW, rv_os_sendfile)                               \
    X(CLOSE, OS, IN_POSIX, "close", RV_FASTKW, rv_os_close)                                        \
    X(CLOSERANGE, OS, IN_POSIX, "closerange", METH_FASTCALL, rv_os_closerange)                     \
    X(DUP2, OS, IN_POSIX, "dup2", RV_FASTKW, rv_os_dup2)                                           \
    X(SSL_HANDSHAKE, SSL, IN_SSL_TYPE, "do_handshake", METH_NOARGS, rv_ssl_do_handshake)           \
    X(SSL_READ, SSL, IN_SSL_TYPE, "read", METH_VARARGS, rv_ssl_read)                               \
    X(SSL_WRITE, SSL, IN_SSL_TYPE, "write", METH_O, rv_ssl_write)                                  \
    X(SSL_SHUTDOWN, SSL, IN_SSL_TYPE, "shutdown", METH_NOARGS, rv_ssl_shutdown)                    \
    X(SSL_POSTAUTH, SSL, IN_SSL_TYPE, "verify_client_post_handshake", METH_NOARGS, rv_ssl_post_handshake)

enum rv_io {
#define X(id, group, place, name, flags, function) RV_IO_##id,
    RV_IO(X)
#undef X
        RV_IO_COUNT
};

/* The methods of CPython's, and what was found under their names: the function or descriptor. Set once, before any
 * replacement is in place. */
extern PyCFunction rv_io_original[RV_IO_COUNT];
extern PyObject *rv_io_object[RV_IO_COUNT];

typedef PyObject *(*rv_fastkw)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

#define RV_PLAIN(id) (rv_io_original[RV_IO_##id])
#define RV_KW(id) ((PyCFunctionWithKeywords)(void (*)(void))rv_io_original[RV_IO_##id])
#define RV_FAST(id) ((PyCFunctionFast)(void (*)(void))rv_io_original[RV_IO_##id])
#define RV_FAST_KW(id) ((rv_fastkw)(void (*)(void))rv_io_original[RV_IO_##id])

/* `_socket.socket`: the same in 3.13 and 3.14, and tried out before anything is replaced. */
struct rv_socket {
    PyObject_HEAD
    int fd;
    int family;
    int type;
    int proto;
    void *errorhandler;
    /* Nanoseconds; negative for none, zero for calls that do not wait. */
    PyTime_t timeout;
    void *state;
};

/* `select.poll`'s objects, and `select.epoll`. The same holds for them. */
struct rv_poll {
    PyObject_HEAD
    PyObject *fds;
    int up_to_date;
    int count;
    struct pollfd *array;
    int running;
};

struct rv_epoll {
    PyObject_HEAD
    int fd;
};

/* A wait that is over when a time is, however many attempts it takes. */
struct rv_patience {
    PyTime_t timeout;
    PyTime_t end;
    int begun;
};

static inline struct rv_patience rv_patience(PyTime_t timeout) { return (struct rv_patience){timeout, 0, 0}; }

/* What is left of it: negative for no end. */
PyTime_t rv_patience_left(struct rv_patience *patience);

/* ../src/io.rs, which documents them. In a fiber, attached; times in nanoseconds. */
int rv_wait_refused(int fd, int write, int64_t timeout, int *place);
int rv_wait_fds(const struct pollfd *fds, size_t count, int64_t timeout);
int rv_io_sleep(int64_t nanoseconds);
/* ../src/seams.rs: waits until `wanting` gives 0 for `object`, as rv_wait_while. */
int rv_wait_sqlite(const void *address, int (*wanting)(const void *), const void *object, int64_t timeout);
void rv_wake_one(const void *address);
PyObject *rv_io_pool(PyObject *function, PyObject *args, PyObject *kwargs);
void rv_while_closing(int low, int high, void (*close)(void *), void *context);

/* sockets.c: whether they are made as this file says; -1 with an exception. */
int rv_socket_is_known(PyTypeObject *type);
/* selects.c */
int rv_poll_is_known(PyObject *poll);
int rv_epoll_is_known(PyObject *epoll);
/* tls_state.c, for `_ssl._SSLSocket`. */
int rv_ssl_is_known(PyObject *module, PyTypeObject *type, PyTypeObject *sockets);
/* tls.c: keeps the exceptions that mean a wait; -1 with an exception. Whether fibers park there. */
int rv_ssl_errors(PyObject *module);
void rv_ssl_switch(int on);
/* Waits for descriptors as poll(2), with any events. */
int rv_wait_polls(struct pollfd *fds, size_t count, struct rv_patience *patience);
/* calls.c: an address whose host is a name with the name looked up, in the pool: a new reference. */
PyObject *rv_resolved(struct rv_socket *s, PyObject *address);

/* sqlite.c: as the two below, for a table of its own. */
int rv_sqlite_patch(int on);
int rv_sqlite_entry(int index, const char **place, const char **name, int *on);

/* io.c: puts the replacements of a group in place, or takes them out; -1 with an exception. */
int rv_io_patch(int group, int on);
/* The entries there are: 0 past the last. */
int rv_io_entry(int index, int *group, const char **place, const char **name, int *on);

PyObject *rv_time_sleep(PyObject *, PyObject *);
PyObject *rv_sock_accept(PyObject *, PyObject *);
PyObject *rv_sock_connect(PyObject *, PyObject *);
PyObject *rv_sock_connect_ex(PyObject *, PyObject *);
PyObject *rv_sock_recv(PyObject *, PyObject *);
PyObject *rv_sock_recv_into(PyObject *, PyObject *, PyObject *);
PyObject *rv_sock_recvfrom(PyObject *, PyObject *);
PyObject *rv_sock_recvfrom_into(PyObject *, PyObject *, PyObject *);
PyObject *rv_sock_recvmsg(PyObject *, PyObject *);
PyObject *rv_sock_recvmsg_into(PyObject *, PyObject *);
PyObject *rv_sock_send(PyObject *, PyObject *);
PyObject *rv_sock_sendall(PyObject *, PyObject *);
PyObject *rv_sock_sendto(PyObject *, PyObject *);
PyObject *rv_sock_sendmsg(PyObject *, PyObject *);
PyObject *rv_sock_setsockopt(PyObject *, PyObject *);
PyObject *rv_sock_close(PyObject *, PyObject *);
PyObject *rv_socket_close(PyObject *, PyObject *);
PyObject *rv_getaddrinfo(PyObject *, PyObject *, PyObject *);
PyObject *rv_gethostbyname(PyObject *, PyObject *);
PyObject *rv_gethostbyname_ex(PyObject *, PyObject *);
PyObject *rv_gethostbyaddr(PyObject *, PyObject *);
PyObject *rv_getnameinfo(PyObject *, PyObject *);
PyObject *rv_select(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_poll_poll(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_epoll_poll(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *rv_epoll_close(PyObject *, PyObject *);
PyObject *rv_os_read(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_os_readv(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_os_write(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_os_writev(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_os_sendfile(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *rv_os_close(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *rv_os_closerange(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *rv_os_dup2(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *rv_ssl_do_handshake(PyObject *, PyObject *);
PyObject *rv_ssl_read(PyObject *, PyObject *);
PyObject *rv_ssl_write(PyObject *, PyObject *);
PyObject *rv_ssl_shutdown(PyObject *, PyObject *);
PyObject *rv_ssl_post_handshake(PyObject *, PyObject *);

#endif
