/* Finds SQLite, and tries out all that sqlite.c takes for granted:
 *
 * - the functions, in what `_sqlite3` is linked with, and nowhere else: two copies in one process know different structures.
 *   The source's id must be the one that a Connection gives when asked in SQL.
 * - the int in a `sqlite3` that is its timeout, by setting it and looking which int of the structure, whose size SQLite's
 *   allocator tells, has changed with it. There must be one.
 * - the `sqlite3 *` in a Connection. It is the first field, and has always been. What is found there is read by the kernel, which
 *   fails where we would crash, and must hold the timeout that the Connection was made with, and another when that has been
 *   changed in SQL.
 * - that SQLite has a lock for each connection: sqlite.c changes the handler of one that another thread may be using. */
#include "sqlite.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

struct rv_sqlite rv_sqlite;

static const char *(*source_id)(void);
static int (*thread_safe)(void);
static int (*open_db)(const char *, sqlite3 **, int, const char *);
static int (*close_db)(sqlite3 *);
static uint64_t (*size_of)(void *);

static int find_functions(PyObject *module) {
    const struct {
        const char *name;
        void *place;
    } functions[] = {
        {"sqlite3_busy_handler", &rv_sqlite.busy_handler}, {"sqlite3_busy_timeout", &rv_sqlite.busy_timeout},
        {"sqlite3_get_autocommit", &rv_sqlite.get_autocommit}, {"sqlite3_sleep", &rv_sqlite.sleep},
        {"sqlite3_db_filename", &rv_sqlite.db_filename}, {"sqlite3_db_mutex", &rv_sqlite.db_mutex},
        {"sqlite3_mutex_enter", &rv_sqlite.mutex_enter}, {"sqlite3_mutex_leave", &rv_sqlite.mutex_leave},
        {"sqlite3_sourceid", &source_id}, {"sqlite3_threadsafe", &thread_safe}, {"sqlite3_open_v2", &open_db},
        {"sqlite3_close_v2", &close_db}, {"sqlite3_msize", &size_of},
    };
    void *library = RTLD_DEFAULT;
    /* One that is built into the interpreter has no file. */
    PyObject *file = PyModule_GetFilenameObject(module);
    if (file == NULL) {
        PyErr_Clear();
    }
    else {
        PyObject *path = PyUnicode_EncodeFSDefault(file);
        Py_DECREF(file);
        if (path == NULL) {
            return -1;
        }
        /* It is loaded already, and stays so: extension modules are never unloaded. */
        library = dlopen(PyBytes_AS_STRING(path), RTLD_LAZY | RTLD_NOLOAD);
        Py_DECREF(path);
        if (library == NULL) {
            return 0;
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        void *function = dlsym(library, functions[i].name);
        if (function == NULL) {
            return 0;
        }
        memcpy(functions[i].place, &function, sizeof(function));
    }
    return 1;
}

/* SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE */
#define OPEN 6
#define FIRST 0x5ead01
#define SECOND 0x2bad17

/* Where a `sqlite3` keeps its timeout; 0 if that is not clear. */
static size_t find_timeout(void) {
    sqlite3 *db = NULL;
    size_t found = 0;
    int count = 0;
    if (open_db(":memory:", &db, OPEN, NULL) == 0) {
        size_t size = (size_t)size_of(db);
        for (size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
            const int *field = (const int *)((const char *)db + at);
            rv_sqlite.busy_timeout(db, FIRST);
            int same = *field == FIRST;
            rv_sqlite.busy_timeout(db, SECOND);
            if (same && *field == SECOND) {
                found = at;
                count++;
            }
        }
        if (count == 1) {
            /* What it is while another handler is in place. */
            rv_sqlite.busy_handler(db, NULL, NULL);
            count = *(const int *)((const char *)db + found) == 0 ? 1 : 0;
        }
    }
    close_db(db);
    return count == 1 ? found : 0;
}

/* Whether an int may be read there, and is this one. */
static int holds(const char *address, int number, const int pipe[2]) {
    int found = 0;
    return write(pipe[1], address, sizeof(found)) == (ssize_t)sizeof(found) &&
           read(pipe[0], &found, sizeof(found)) == (ssize_t)sizeof(found) && found == number;
}

/* What a statement gives, the first column of its first row: a new reference. */
static PyObject *ask(PyObject *connection, const char *sql) {
    PyObject *cursor = PyObject_CallMethod(connection, "execute", "s", sql);
    PyObject *row = cursor == NULL ? NULL : PyObject_CallMethod(cursor, "fetchone", NULL);
    Py_XDECREF(cursor);
    PyObject *value = row == NULL ? NULL : PySequence_GetItem(row, 0);
    Py_XDECREF(row);
    return value;
}

static int gives_number(PyObject *connection, const char *sql, long number) {
    PyObject *value = ask(connection, sql);
    if (value == NULL) {
        return -1;
    }
    int same = PyLong_CheckExact(value) && PyLong_AsLong(value) == number;
    Py_DECREF(value);
    return same;
}

static int same_source(PyObject *connection) {
    PyObject *value = ask(connection, "SELECT sqlite_source_id()");
    if (value == NULL) {
        return -1;
    }
    int same = PyUnicode_Check(value) && PyUnicode_EqualToUTF8(value, source_id());
    Py_DECREF(value);
    return same;
}

static int try_connection(PyObject *connection, const int pipe[2]) {
    int ok = same_source(connection);
    sqlite3 *db = rv_sqlite_db(connection);
    if (ok <= 0 || db == NULL || ((uintptr_t)db & (sizeof(void *) - 1)) != 0) {
        return ok < 0 ? -1 : 0;
    }
    const char *timeout = (const char *)db + rv_sqlite.timeout;
    if (!holds(timeout, 1234567, pipe)) {
        return 0;
    }
    ok = gives_number(connection, "PRAGMA busy_timeout = 7654321", 7654321);
    if (ok <= 0 || !holds(timeout, 7654321, pipe)) {
        return ok < 0 ? -1 : 0;
    }
    rv_sqlite.busy_timeout(db, 4321);
    return gives_number(connection, "PRAGMA busy_timeout", 4321);
}

static int try_objects(void) {
    /* A Cursor's place for its Connection is in the table of its members. */
    PyObject *member = PyObject_GetAttrString((PyObject *)rv_sqlite.cursors, "connection");
    if (member == NULL) {
        PyErr_Clear();
        return 0;
    }
    int ok = 0;
    if (Py_IS_TYPE(member, &PyMemberDescr_Type)) {
        const PyMemberDef *def = ((PyMemberDescrObject *)member)->d_member;
        rv_sqlite.connection = def->offset;
        ok = def->type == _Py_T_OBJECT || def->type == Py_T_OBJECT_EX;
    }
    Py_DECREF(member);
    int ends[2];
    if (!ok || pipe2(ends, O_CLOEXEC) < 0) {
        return ok ? (PyErr_SetFromErrno(PyExc_OSError), -1) : 0;
    }
    /* By name: by position it is deprecated, and a warning may be an error. */
    PyObject *args = Py_BuildValue("(s)", ":memory:");
    PyObject *timeout = args == NULL ? NULL : Py_BuildValue("{s:d}", "timeout", 1234.567);
    PyObject *connection = timeout == NULL ? NULL : PyObject_Call((PyObject *)rv_sqlite.connections, args, timeout);
    Py_XDECREF(args);
    Py_XDECREF(timeout);
    ok = connection == NULL ? -1 : try_connection(connection, ends);
    (void)close(ends[0]);
    (void)close(ends[1]);
    if (connection != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *closed = PyObject_CallMethod(connection, "close", NULL);
        Py_XDECREF(closed);
        Py_DECREF(connection);
        if (error != NULL || closed != NULL) {
            PyErr_SetRaisedException(error);
        }
        else {
            ok = -1;
        }
    }
    return ok;
}

static int look(PyObject *module) {
    PyObject *connections = PyObject_GetAttrString(module, "Connection");
    PyObject *cursors = connections == NULL ? NULL : PyObject_GetAttrString(module, "Cursor");
    if (cursors == NULL || !PyType_Check(connections) || !PyType_Check(cursors)) {
        PyErr_Clear();
        Py_XDECREF(connections);
        Py_XDECREF(cursors);
        return 0;
    }
    /* Kept: the module is never gone. */
    rv_sqlite.connections = (PyTypeObject *)connections;
    rv_sqlite.cursors = (PyTypeObject *)cursors;
    int ok = find_functions(module);
    if (ok > 0) {
        /* 1: each connection has a lock, which it may be shared under. */
        ok = sizeof(void *) == 8 && thread_safe() == 1 && (rv_sqlite.timeout = find_timeout()) != 0;
    }
    return ok > 0 ? try_objects() : ok;
}

int rv_sqlite_find(void) {
    PyObject *module = PyImport_ImportModule("_sqlite3");
    if (module == NULL) {
        int missing = PyErr_ExceptionMatches(PyExc_ImportError);
        if (missing) {
            PyErr_Clear();
        }
        return missing ? 0 : -1;
    }
    int ok = look(module);
    Py_DECREF(module);
    if (ok == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "roving: _sqlite3 of this interpreter, or the SQLite it is linked with, is not as roving knows it, so "
                        "that it cannot be patched; pass sqlite=False to roving.patch.all, or --no-patch sqlite to roving run");
        return -1;
    }
    return ok;
}
