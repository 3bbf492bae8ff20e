/* What roving.patch replaces in place beside I/O: threads, `_queue.SimpleQueue`, pipes of `_io.FileIO`, waits for processes
 * and for signals. seams.c puts it in place, the other files make it, ../src/seams.rs waits.
 *
 * Unlike a lock, a replacement is put in place once and stays: whoever waits by ours must be woken by ours. Its
 * group is switched on and off by a flag, which only those look at that are about to wait, or to start a thread. */
#ifndef RV_SEAMS_H
#define RV_SEAMS_H

#include "io.h"

#include <internal/pycore_lock.h>

/* ../src/seams.rs has their names, in this order. */
enum rv_group { RV_THREADS, RV_QUEUES, RV_PIPES, RV_PROCESSES, RV_SIGNALS, RV_GROUPS };

extern int rv_group_on[RV_GROUPS];

static inline int rv_is_on(enum rv_group group) { return _Py_atomic_load_int_relaxed(&rv_group_on[group]); }

/* Whether a call here parks: in a fiber that can, with its group on, and not in C code that called back (io.h). */
static inline int rv_parks_for(enum rv_group group) { return rv_may_park() && rv_is_on(group); }

struct rv_seam {
    enum rv_group group;
    const char *module;
    /* Or NULL: the module's own. */
    const char *type;
    const char *name;
    int flags;
    /* Where versions differ. */
    int optional;
    PyCFunction method;
    PyCFunction *original;
    PyMethodDef *def;
};

#define RV_FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

typedef PyObject *(*rv_fast_named)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
typedef PyObject *(*rv_of_class)(PyObject *, PyTypeObject *, PyObject *const *, Py_ssize_t, PyObject *);

/* Each file's table, ended by an entry without a name; and whether the objects are made as the file says: -1 with an
 * exception. */
extern struct rv_seam rv_thread_seams[], rv_tracing_seams[], rv_queue_seams[], rv_pipe_seams[], rv_hook_seams[];
int rv_threads_are_known(void);
int rv_queues_are_known(void);
int rv_pipes_are_known(void);
/* pipes.c: whether a _io.FileIO is known to have a position, so that no call of it parks. */
int rv_file_has_position(PyObject *file);

/* seams.c */
/* Puts a group in place, and switches it on or off; -1 with an exception. */
int rv_switch_group(int group, int on);
/* The entries there are, and whether they are in place and switched on: 0 past the last. */
int rv_seam_entry(int index, int *group, const char **module, const char **type, const char **name, int *on);

/* hooks.c: has a function of the group call this in fibers, or, with NULL, what it was before. Gives a new reference to a
 * callable that is the function as it was; NULL with an exception. */
PyObject *rv_set_hook(const char *name, PyObject *callable);

/* threads.c */
/* By so much more or less are threads that the caller starts to be threads of the system's. */
void rv_native_threads(int by);
/* The thread of a handle begins, in its fiber; its function is done; it has ended for good. */
void rv_thread_begins(PyObject *handle);
void rv_thread_returns(void);
void rv_thread_ended(PyObject *handle);
/* It will never begin. */
void rv_thread_refused(PyObject *handle);
unsigned long long rv_thread_handle_ident(PyObject *handle);
/* What a thread's function raised, which nobody can take: the exception is given away. */
void rv_thread_raised(PyObject *function, PyObject *exception);

/* ../src/seams.rs. Attached; times in nanoseconds, negative for none. */
/* Waits until `wanting` gives 0 for `object`, to be asked again when somebody nudges `address`: 1, or 0 when time was up, or
 * -1 with an exception. `wanting` is called under a lock. `shielded`: whatever comes. */
int rv_wait_while(const void *address, int (*wanting)(const void *), const void *object, int64_t timeout, enum rv_group why,
                  int shielded);
/* Wakes one who waits at an address, or has all look again; by whoever has changed what they look at. */
int rv_may_wait_at(const void *address);
void rv_wake_one(const void *address);
/* Starts a fiber for a thread: -1 with an exception. `handle` is a _ThreadHandle. */
int rv_spawn_thread(PyObject *function, PyObject *args, PyObject *kwargs, PyObject *handle, int daemon,
                    Py_ssize_t stack_size);
/* Waits for a thread of the system's, on the pool; calls `join` of the handle there. As rv_wait_while. */
int rv_join_native(PyObject *handle, int64_t timeout);
/* A thread that the interpreter waits for before it ends, as a new reference; NULL for none. Not that of this ident. */
PyObject *rv_next_to_join(unsigned long long ident);
/* Waits until a descriptor can be read, or written: 0, or -1 with an exception. */
int rv_wait_descriptor(int fd, int write);
/* Borrowed. */
PyObject *rv_cancelled_class(void);

#endif
