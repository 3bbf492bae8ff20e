/* What sqlite.c, which waits for SQLite's locks, and sqlite_find.c, which finds SQLite, share. */
#ifndef RV_SQLITE_H
#define RV_SQLITE_H

#include "io.h"

typedef struct sqlite3 sqlite3;

/* SQLite's functions, of the very library that `_sqlite3` is linked with; and what `_sqlite3`'s objects look like. Set once,
 * before any method is in place. */
struct rv_sqlite {
    int (*busy_handler)(sqlite3 *, int (*)(void *, int), void *);
    int (*busy_timeout)(sqlite3 *, int);
    int (*get_autocommit)(sqlite3 *);
    int (*sleep)(int);
    const char *(*db_filename)(sqlite3 *, const char *);
    void *(*db_mutex)(sqlite3 *);
    void (*mutex_enter)(void *);
    void (*mutex_leave)(void *);
    /* Where a `sqlite3` keeps its timeout: an int, of milliseconds, zero where the handler is none of SQLite's. */
    size_t timeout;
    /* Where a Cursor keeps its Connection. */
    Py_ssize_t connection;
    /* `_sqlite3.Connection` and `_sqlite3.Cursor`. */
    PyTypeObject *connections;
    PyTypeObject *cursors;
};

extern struct rv_sqlite rv_sqlite;

/* 1; 0 if this interpreter has no sqlite3; -1 with an exception if it is not as roving knows it. */
int rv_sqlite_find(void);

/* The first field of a Connection, since there is one: sqlite_find.c tries it. NULL once it is closed. */
static inline sqlite3 *rv_sqlite_db(PyObject *connection) {
    return connection == NULL ? NULL : _Py_atomic_load_ptr_relaxed((sqlite3 **)((char *)connection + sizeof(PyObject)));
}

#endif
