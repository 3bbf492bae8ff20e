/* What sockets.c, where data comes and goes most, and messages.c, for the rest, have in common. */
#ifndef RV_SOCKETS_H
#define RV_SOCKETS_H

#include "io.h"

#include <sys/socket.h>

#define RV_SOCKET(op) ((struct rv_socket *)(op))

static inline int rv_sock_fd(struct rv_socket *s) { return _Py_atomic_load_int_relaxed(&s->fd); }

/* Whether a method of this socket would wait in a fiber. Otherwise it is CPython's. */
static inline int rv_sock_parks(struct rv_socket *s) { return s->timeout != 0 && rv_may_park(); }

static inline int rv_would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

/* Waits until a call that would have blocked on `fd` is worth another attempt: 0, or -1 with an exception, which is CPython's
 * for a timeout that is over. */
int rv_sock_wait(struct rv_socket *s, int fd, int write, struct rv_patience *patience);

/* The patience of a call that begins. */
static inline struct rv_patience rv_sock_patience(struct rv_socket *s) { return rv_patience(s->timeout); }

#endif
