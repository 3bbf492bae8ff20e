/* Waits for SQLite's locks park.
 *
 * SQLite waits for a lock of a database in the connection's busy handler: in C, with the connection's mutex and who knows what
 * else held, for as long as its timeout says. The fiber that has the lock may be a neighbour, which cannot go on meanwhile. And
 * no fiber may park there: its neighbours would walk into mutexes that are held in the name of their thread.
 *
 * So the methods below put another handler in place while they run. It gives up at once, and takes a note. The method of
 * `_sqlite3` fails with SQLITE_BUSY, as it does when its time is over: nothing of the statement has been done, and nothing of
 * SQLite's is left on the stack. The fiber parks a while; then the method is called again, until the timeout is over. Where
 * SQLite fails with SQLITE_BUSY without having asked the handler (waiting would be a deadlock) there is no note, and the error
 * is raised at once.
 *
 * The handler is in place only while a method runs: between them, and whenever the fiber is parked, the connection is as
 * `_sqlite3` and the program have made it, its timeout included. A connection whose timeout is zero, or whose handler is
 * somebody else's, is left alone.
 *
 * A connection may be used by several threads at once, and so have the handler of another fiber's call. It knows by a number,
 * which is never used again, whether it is called from within the call it was put in place for. If not, it waits as SQLite's own
 * does. Nothing that it is given is an address: no fiber that is gone can be found through it. */
#include "sqlite.h"

#include <strings.h>

/* What a fiber is in the middle of: on its stack. */
struct rv_sqlite_call {
    uint64_t number;
    /* Whether it can be made again as a whole. */
    int repeatable;
    /* The handler was asked, and gave up. */
    int asked;
};

#define METHODS(X)                                                                                 \
    X(CURSOR_EXECUTE, cursors, "execute", METH_FASTCALL, cursor_execute)                           \
    X(CURSOR_EXECUTEMANY, cursors, "executemany", METH_FASTCALL, cursor_executemany)               \
    X(CURSOR_EXECUTESCRIPT, cursors, "executescript", METH_O, cursor_executescript)                \
    X(EXECUTE, connections, "execute", METH_FASTCALL, connection_execute)                          \
    X(EXECUTEMANY, connections, "executemany", METH_FASTCALL, connection_executemany)              \
    X(COMMIT, connections, "commit", METH_NOARGS, connection_commit)                               \
    X(ROLLBACK, connections, "rollback", METH_NOARGS, connection_rollback)                         \
    X(EXIT, connections, "__exit__", METH_FASTCALL, connection_exit)                               \
    X(CLOSE, connections, "close", METH_NOARGS, connection_close)                                  \
    X(BLOBOPEN, connections, "blobopen", RV_FASTKW, connection_blobopen)

enum which {
#define X(id, type, name, flags, function) id,
    METHODS(X)
#undef X
        COUNT
};

/* Those of `_sqlite3`: set once, before any of ours is in place. */
static PyCFunction originals[COUNT];

/* One call of a method of `_sqlite3`. */
struct request {
    enum which which;
    PyObject *self;
    PyObject *const *args;
    Py_ssize_t count;
    PyObject *names;
    /* The rows of an executemany. */
    struct rows *rows;
};

static PyObject *invoke(const struct request *r) {
    PyCFunction original = originals[r->which];
    switch (r->which) {
    case COMMIT:
    case ROLLBACK:
    case CLOSE:
        return original(r->self, NULL);
    case CURSOR_EXECUTESCRIPT:
        return original(r->self, r->args[0]);
    case BLOBOPEN:
        return ((rv_fastkw)(void (*)(void))original)(r->self, r->args, r->count, r->names);
    default:
        return ((PyCFunctionFast)(void (*)(void))original)(r->self, r->args, r->count);
    }
}

/* ---- The rows of an executemany: one that failed is given again. ---- */

struct rows {
    PyObject_HEAD
    PyObject *inner;
    PyObject *last;
    int again;
    struct rv_sqlite_call *call;
};

static void rows_dealloc(PyObject *op) {
    struct rows *rows = (struct rows *)op;
    Py_XDECREF(rows->inner);
    Py_XDECREF(rows->last);
    PyObject_Free(op);
}

static PyObject *rows_next(PyObject *op) {
    struct rows *rows = (struct rows *)op;
    if (rows->again) {
        rows->again = 0;
        return Py_NewRef(rows->last);
    }
    PyObject *next = PyIter_Next(rows->inner);
    if (rows->last != NULL) {
        /* The one before has been done: what comes is not to be repeated as a whole. */
        rows->call->repeatable = 0;
    }
    if (next != NULL) {
        Py_XSETREF(rows->last, Py_NewRef(next));
    }
    return next;
}

static PyTypeObject rows_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "roving._rows",
    .tp_basicsize = sizeof(struct rows),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = rows_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = rows_next,
};

/* ---- The handler ---- */

/* As SQLite's own: sleeps longer and longer, and gives up when `timeout` milliseconds are over. */
static int wait_here(int timeout, int count) {
    static const unsigned char pauses[] = {1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100};
    const int known = (int)Py_ARRAY_LENGTH(pauses);
    int64_t before = 0;
    for (int i = 0; i < count && i < known; i++) {
        before += pauses[i];
    }
    if (count >= known) {
        before += (int64_t)pauses[known - 1] * (count - known);
    }
    int64_t pause = pauses[count < known ? count : known - 1];
    if (before + pause > timeout) {
        pause = timeout - before;
    }
    if (pause <= 0) {
        return 0;
    }
    rv_sqlite.sleep((int)pause);
    return 1;
}

/* Called by SQLite, detached, with the connection's mutex held. `arg` is the number of a call, and a timeout. */
static int busy(void *arg, int count) {
    uint64_t number = (uint64_t)(uintptr_t)arg;
    struct rv_fiber *f = rv_fiber_here();
    struct rv_sqlite_call *call = f == NULL ? NULL : f->sqlite_call;
    /* In a callback, of a statement that this one is part of, nobody can park. */
    if (call != NULL && call->number == number && call->repeatable && !rv_in_callback(f)) {
        call->asked = 1;
        return 0;
    }
    return wait_here((int)(number & 0x7fffffff), count);
}

static int *timeout_of(sqlite3 *db) { return (int *)((char *)db + rv_sqlite.timeout); }

/* Puts it in place: the timeout that it replaces, or 0. The mutex that this takes may be held for as long as another thread's
 * statement takes: so detached, as whatever `_sqlite3` does. */
static int arm(sqlite3 *db, struct rv_sqlite_call *call) {
    static uint32_t last;
    int timeout = db == NULL ? 0 : _Py_atomic_load_int_relaxed(timeout_of(db));
    if (timeout <= 0) {
        return 0;
    }
    call->number = (uint64_t)(_Py_atomic_add_uint32(&last, 1) + 1) << 32 | (uint64_t)timeout;
    call->repeatable = 1;
    call->asked = 0;
    Py_BEGIN_ALLOW_THREADS
    rv_sqlite.busy_handler(db, busy, (void *)(uintptr_t)call->number);
    Py_END_ALLOW_THREADS
    return timeout;
}

/* Somebody may have set another timeout meanwhile, on another thread: then that is the one. */
static void disarm(sqlite3 *db, int timeout) {
    Py_BEGIN_ALLOW_THREADS
    if (_Py_atomic_load_int_relaxed(timeout_of(db)) == 0) {
        rv_sqlite.busy_timeout(db, timeout);
    }
    Py_END_ALLOW_THREADS
}

/* ---- Waiting: by the name of the file, so that whoever ends a transaction wakes one who may want the same lock ---- */

#define PLACES 64
static unsigned ended[PLACES];
static int waiting;

static unsigned place_of(sqlite3 *db) {
    unsigned hash = 2166136261u;
    Py_BEGIN_ALLOW_THREADS
    /* The list of databases changes under it. */
    void *mutex = rv_sqlite.db_mutex(db);
    rv_sqlite.mutex_enter(mutex);
    const char *name = rv_sqlite.db_filename(db, "main");
    for (; name != NULL && *name != 0; name++) {
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    }
    rv_sqlite.mutex_leave(mutex);
    Py_END_ALLOW_THREADS
    return hash % PLACES;
}

static void wake(unsigned place) {
    _Py_atomic_add_uint(&ended[place], 1);
    rv_wake_one(&ended[place]);
}

struct question {
    const unsigned *ended;
    unsigned seen;
};

static int still(const void *object) {
    const struct question *question = object;
    return _Py_atomic_load_uint_relaxed(question->ended) == question->seen;
}

static int is_busy(PyObject *error) {
    PyObject *code = NULL;
    int busy = PyObject_GetOptionalAttrString(error, "sqlite_errorcode", &code) > 0 && PyLong_CheckExact(code) &&
               (PyLong_AsLong(code) & 0xff) == 5;
    PyErr_Clear();
    Py_XDECREF(code);
    return busy;
}

/* The arguments may be changed while the fiber is parked; `_sqlite3` would have had them by now. A list or a dict with a copy in
 * its place: -1 with an exception. */
static int keep_parameters(struct request *r, PyObject **args, PyObject **kept) {
    int execute = r->which == CURSOR_EXECUTE || r->which == EXECUTE;
    if (!execute || r->count != 2 || *kept != NULL) {
        return 0;
    }
    PyObject *parameters = r->args[1];
    if (PyList_CheckExact(parameters)) {
        *kept = PyList_AsTuple(parameters);
    }
    else if (PyDict_CheckExact(parameters)) {
        *kept = PyDict_Copy(parameters);
    }
    else {
        return 0;
    }
    if (*kept == NULL) {
        return -1;
    }
    args[0] = r->args[0];
    args[1] = *kept;
    r->args = args;
    return 0;
}

#define SHORTEST 200000
#define LONGEST 25000000

static PyTime_t now(void) {
    PyTime_t time;
    (void)PyTime_MonotonicRaw(&time);
    return time;
}

/* Calls the method until it need not wait, or the connection's timeout is over. In a fiber that may park. */
static PyObject *patiently(struct rv_fiber *f, struct request *r, PyObject *connection) {
    struct rv_patience patience = {0};
    struct rv_sqlite_call *outer = f->sqlite_call;
    /* Begins with the first wait. */
    struct question question = {NULL, 0};
    PyObject *args[2];
    PyObject *kept = NULL;
    PyObject *result = NULL;
    PyTime_t pause = SHORTEST;
    for (;;) {
        struct rv_sqlite_call call;
        /* Each time anew: it may have been closed, or given another timeout, while the fiber was parked. */
        sqlite3 *db = rv_sqlite_db(connection);
        int timeout = arm(db, &call);
        PyTime_t begun = now();
        if (timeout != 0 && !patience.begun) {
            patience = rv_patience((PyTime_t)timeout * 1000000);
            (void)rv_patience_left(&patience);
        }
        if (question.ended != NULL) {
            /* Whoever lets go from here on need not be waited for. */
            question.seen = _Py_atomic_load_uint(question.ended);
        }
        if (r->rows != NULL) {
            r->rows->call = &call;
            r->rows->again = r->rows->last != NULL;
        }
        f->sqlite_call = timeout == 0 ? NULL : &call;
        result = invoke(r);
        f->sqlite_call = outer;
        if (timeout == 0) {
            break;
        }
        if (rv_sqlite_db(connection) == db) {
            disarm(db, timeout);
        }
        if (result != NULL || !call.asked || !call.repeatable) {
            break;
        }
        PyObject *error = PyErr_GetRaisedException();
        /* A blob for which the schema could not be read says SQLITE_ERROR; having refused it a lock, we know better. */
        PyTime_t left = r->which == BLOBOPEN || is_busy(error) ? rv_patience_left(&patience) : 0;
        if (left <= 0) {
            PyErr_SetRaisedException(error);
            break;
        }
        Py_DECREF(error);
        if (keep_parameters(r, args, &kept) < 0) {
            break;
        }
        /* One that takes long, to be made anew from its beginning, is not made all the time. */
        PyTime_t took = now() - begun;
        PyTime_t wait = Py_MIN(Py_MAX(pause, took), left);
        pause = Py_MIN(pause * 2, LONGEST);
        (void)_Py_atomic_add_int(&waiting, 1);
        if (question.ended == NULL && rv_sqlite_db(connection) == db) {
            question.ended = &ended[place_of(db)];
            question.seen = _Py_atomic_load_uint(question.ended);
        }
        int woken = question.ended == NULL ? rv_io_sleep(wait)
                                           : rv_wait_sqlite(question.ended, still, &question, wait);
        (void)_Py_atomic_add_int(&waiting, -1);
        if (woken < 0) {
            break;
        }
    }
    Py_XDECREF(kept);
    return result;
}

/* Statements that look at the handler, or the timeout, themselves: `PRAGMA busy_timeout`, and `PRAGMA wal_checkpoint`, which
 * does not fail when the handler gives up. They are done with SQLite's own handler. */
static int looks_at_handler(PyObject *sql) {
    if (!PyUnicode_Check(sql)) {
        return 0;
    }
    const char *text = PyUnicode_AsUTF8(sql);
    if (text == NULL) {
        PyErr_Clear();
        return 0;
    }
    return strcasestr(text, "pragma") != NULL &&
           (strcasestr(text, "busy_timeout") != NULL || strcasestr(text, "checkpoint") != NULL);
}

static PyObject *connection_of(const struct request *r) {
    switch (r->which) {
    case CURSOR_EXECUTE:
    case CURSOR_EXECUTEMANY:
    case CURSOR_EXECUTESCRIPT:
        return _Py_atomic_load_ptr_relaxed((PyObject **)((char *)r->self + rv_sqlite.connection));
    default:
        return r->self;
    }
}

static int may_be_repeated(const struct request *r) {
    switch (r->which) {
    case CURSOR_EXECUTESCRIPT:
    case ROLLBACK:
    case CLOSE:
    case EXIT:
        return 0;
    case COMMIT:
    case BLOBOPEN:
        return 1;
    default:
        return r->count > 0 && !looks_at_handler(r->args[0]);
    }
}

static PyObject *call(struct request *r) {
    PyObject *connection = Py_XNewRef(connection_of(r));
    struct rv_fiber *f = rv_fiber_here();
    /* Where a transaction's end is to be told: a connection that closes has no name afterwards. */
    int told = 0;
    unsigned place = 0;
    sqlite3 *db = rv_sqlite_db(connection);
    if (r->which == CLOSE && db != NULL && _Py_atomic_load_int_relaxed(&waiting) != 0) {
        told = 1;
        place = place_of(db);
    }
    PyObject *result;
    if (f == NULL) {
        result = invoke(r);
    }
    else if (rv_may_park() && may_be_repeated(r)) {
        result = patiently(f, r, connection);
    }
    else {
        /* What waits in it is none of the call, if any, that it is part of. */
        struct rv_sqlite_call *outer = f->sqlite_call;
        f->sqlite_call = NULL;
        result = invoke(r);
        f->sqlite_call = outer;
    }
    if (_Py_atomic_load_int_relaxed(&waiting) != 0) {
        db = rv_sqlite_db(connection);
        if (!told && result != NULL && db != NULL && rv_sqlite.get_autocommit(db)) {
            told = 1;
            place = place_of(db);
        }
        if (told) {
            wake(place);
        }
    }
    Py_XDECREF(connection);
    return result;
}

/* ---- The methods ---- */

#define FAST(function, id)                                                                         \
    static PyObject *function(PyObject *self, PyObject *const *args, Py_ssize_t count) {           \
        return call(&(struct request){id, self, args, count, NULL, NULL});                         \
    }
#define NONE(function, id)                                                                         \
    static PyObject *function(PyObject *self, PyObject *Py_UNUSED(none)) {                         \
        return call(&(struct request){id, self, NULL, 0, NULL, NULL});                             \
    }

FAST(cursor_execute, CURSOR_EXECUTE)
FAST(connection_execute, EXECUTE)
NONE(connection_commit, COMMIT)
NONE(connection_rollback, ROLLBACK)
NONE(connection_close, CLOSE)

static PyObject *cursor_executescript(PyObject *self, PyObject *script) {
    return call(&(struct request){CURSOR_EXECUTESCRIPT, self, &script, 1, NULL, NULL});
}

static PyObject *connection_blobopen(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    return call(&(struct request){BLOBOPEN, self, args, count, names, NULL});
}

static PyObject *many(enum which which, PyObject *self, PyObject *const *args, Py_ssize_t count) {
    struct request r = {which, self, args, count, NULL, NULL};
    if (count != 2 || !rv_may_park()) {
        return call(&r);
    }
    PyObject *inner = PyObject_GetIter(args[1]);
    if (inner == NULL) {
        /* `_sqlite3` says it, in its order. */
        PyErr_Clear();
        return call(&r);
    }
    struct rows *rows = PyObject_New(struct rows, &rows_type);
    if (rows == NULL) {
        Py_DECREF(inner);
        return NULL;
    }
    /* Where it is given to nobody who may be asked again. */
    struct rv_sqlite_call nowhere;
    rows->inner = inner;
    rows->last = NULL;
    rows->again = 0;
    rows->call = &nowhere;
    PyObject *const with_rows[2] = {args[0], (PyObject *)rows};
    r.args = with_rows;
    r.rows = rows;
    PyObject *result = call(&r);
    Py_DECREF(rows);
    return result;
}

static PyObject *cursor_executemany(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return many(CURSOR_EXECUTEMANY, self, args, count);
}

static PyObject *connection_executemany(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return many(EXECUTEMANY, self, args, count);
}

/* `_sqlite3`'s rolls back when its commit fails: so the commit is made here, and what follows as there. */
static PyObject *connection_exit(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || args[0] != Py_None || args[1] != Py_None || args[2] != Py_None || !rv_may_park()) {
        return call(&(struct request){EXIT, self, args, count, NULL, NULL});
    }
    PyObject *result = connection_commit(self, NULL);
    if (result == NULL) {
        PyObject *error = PyErr_GetRaisedException();
        result = connection_rollback(self, NULL);
        if (result == NULL) {
            _PyErr_ChainExceptions1(error);
            return NULL;
        }
        Py_DECREF(result);
        PyErr_SetRaisedException(error);
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_FALSE;
}

/* ---- Putting them in place ---- */

static const struct {
    PyTypeObject **type;
    const char *place;
    const char *name;
    int flags;
    PyCFunction method;
} entries[COUNT] = {
#define X(id, type, name, flags, function)                                                         \
    {&rv_sqlite.type, #type[1] == 'u' ? "sqlite3.Cursor" : "sqlite3.Connection", name, flags,      \
     (PyCFunction)(void (*)(void))function},
    METHODS(X)
#undef X
};

static PyMethodDef *defs[COUNT];
static int on;
/* 1 when they have been found, -1 when there is no sqlite3. */
static int known;

static int find_methods(PyMethodDef *found[COUNT]) {
    for (int i = 0; i < COUNT; i++) {
        PyObject *object = PyObject_GetAttrString((PyObject *)*entries[i].type, entries[i].name);
        PyMethodDef *def = object != NULL && Py_IS_TYPE(object, &PyMethodDescr_Type) ? ((PyMethodDescrObject *)object)->d_method : NULL;
        PyErr_Clear();
        /* The type keeps it. */
        Py_XDECREF(object);
        if (def == NULL || strcmp(def->ml_name, entries[i].name) != 0 || (def->ml_flags & ~METH_COEXIST) != entries[i].flags) {
            PyErr_Format(PyExc_RuntimeError,
                         "roving: %s.%s of this interpreter is not as roving knows it, so that it cannot be patched; pass "
                         "sqlite=False to roving.patch.all, or --no-patch sqlite to roving run",
                         entries[i].place, entries[i].name);
            return -1;
        }
        found[i] = def;
    }
    return 1;
}

/* Guards all of the above, and is held attached, with no call that may detach. */
static PyMutex mutex;

static int look(void) {
    PyMethodDef *found[COUNT];
    if (_Py_atomic_load_int_acquire(&known)) {
        return 0;
    }
    int there = rv_sqlite_find();
    if (there < 0 || PyType_Ready(&rows_type) < 0 || (there > 0 && find_methods(found) < 0)) {
        return -1;
    }
    PyMutex_Lock(&mutex);
    if (!known) {
        for (int i = 0; there > 0 && i < COUNT; i++) {
            defs[i] = found[i];
            originals[i] = found[i]->ml_meth;
        }
        _Py_atomic_store_int_release(&known, there > 0 ? 1 : -1);
    }
    PyMutex_Unlock(&mutex);
    return 0;
}

int rv_sqlite_patch(int put) {
    if ((put || known) && look() < 0) {
        return -1;
    }
    PyMutex_Lock(&mutex);
    for (int i = 0; known > 0 && i < COUNT; i++) {
        _Py_atomic_store_ptr_release((void *)&defs[i]->ml_meth, (void *)(put ? entries[i].method : originals[i]));
    }
    _Py_atomic_store_int_relaxed(&on, put && known > 0);
    PyMutex_Unlock(&mutex);
    return 0;
}

int rv_sqlite_entry(int index, const char **place, const char **name, int *is_on) {
    if (index < 0 || index >= COUNT) {
        return 0;
    }
    *place = entries[index].place;
    *name = entries[index].name;
    *is_on = _Py_atomic_load_int_relaxed(&on);
    return 1;
}
