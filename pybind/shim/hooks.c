/* Functions that wait for processes and signals. What a fiber does in their place is written in Python
 * (roving/patch/_subprocess.py), over waits that park: these calls take as long as a process does, not microseconds. On a plain
 * thread, with the hook taken off, and in the child of a fork in a fiber, they are the functions CPython had. */
#include "seams.h"

/* Name, module, group, flags. */
#define HOOKS(X)                                                                                                 \
    X(waitpid, "posix", RV_PROCESSES, METH_FASTCALL)                                                             \
    X(wait, "posix", RV_PROCESSES, METH_NOARGS)                                                                  \
    X(wait3, "posix", RV_PROCESSES, METH_FASTCALL | METH_KEYWORDS)                                               \
    X(wait4, "posix", RV_PROCESSES, METH_FASTCALL | METH_KEYWORDS)                                               \
    X(waitid, "posix", RV_PROCESSES, METH_FASTCALL)                                                              \
    X(system, "posix", RV_PROCESSES, METH_FASTCALL | METH_KEYWORDS)                                              \
    X(sigwait, "_signal", RV_SIGNALS, METH_O)                                                                    \
    X(sigwaitinfo, "_signal", RV_SIGNALS, METH_O)                                                                \
    X(sigtimedwait, "_signal", RV_SIGNALS, METH_FASTCALL)                                                        \
    X(pause, "_signal", RV_SIGNALS, METH_NOARGS)

enum hook {
#define NAME(name, module, group, flags) H_##name,
    HOOKS(NAME)
#undef NAME
        H_COUNT
};

static PyCFunction originals[H_COUNT];
/* Strong, and never freed: a call may be on its way to one that has just been replaced. */
static PyObject *hooks[H_COUNT];
static PyMethodDef copies[H_COUNT];

/* What the fiber that runs here is to call; NULL for the function as it was. */
static PyObject *hook_here(enum hook which, enum rv_group group) {
    return rv_parks_for(group) ? _Py_atomic_load_ptr_acquire(&hooks[which]) : NULL;
}

/* One wrapper for each way of calling; the compiler drops those that a function does not use. */
#define WRAP(name, module, group, flags)                                                                         \
    __attribute__((unused)) static PyObject *name##_noargs(PyObject *self, PyObject *unused) {                   \
        PyObject *hook = hook_here(H_##name, group);                                                             \
        return hook == NULL ? originals[H_##name](self, unused) : PyObject_CallNoArgs(hook);                     \
    }                                                                                                            \
    __attribute__((unused)) static PyObject *name##_one(PyObject *self, PyObject *arg) {                         \
        PyObject *hook = hook_here(H_##name, group);                                                             \
        return hook == NULL ? originals[H_##name](self, arg) : PyObject_CallOneArg(hook, arg);                   \
    }                                                                                                            \
    __attribute__((unused)) static PyObject *name##_fast(PyObject *self, PyObject *const *args,                  \
                                                         Py_ssize_t count) {                                     \
        PyObject *hook = hook_here(H_##name, group);                                                             \
        return hook == NULL ? ((PyCFunctionFast)(void (*)(void))originals[H_##name])(self, args, count)          \
                            : PyObject_Vectorcall(hook, args, (size_t)count, NULL);                              \
    }                                                                                                            \
    __attribute__((unused)) static PyObject *name##_named(PyObject *self, PyObject *const *args,                 \
                                                          Py_ssize_t count, PyObject *names) {                   \
        PyObject *hook = hook_here(H_##name, group);                                                             \
        return hook == NULL ? ((rv_fast_named)(void (*)(void))originals[H_##name])(self, args, count, names)     \
                            : PyObject_Vectorcall(hook, args, (size_t)count, names);                             \
    }

HOOKS(WRAP)

#define CHOOSE(name, flags)                                                                                      \
    ((flags) == METH_NOARGS                      ? RV_FUNCTION(name##_noargs)                                    \
     : (flags) == METH_O                         ? RV_FUNCTION(name##_one)                                       \
     : (flags) == METH_FASTCALL                  ? RV_FUNCTION(name##_fast)                                      \
     : (flags) == (METH_FASTCALL | METH_KEYWORDS) ? RV_FUNCTION(name##_named)                                    \
                                                 : NULL)

static PyCFunction fork_exec_original;

/* With a preexec_fn it forks as os.fork does, and takes the import lock in C, which waits natively: see fork_with in
 * idents.c. */
static PyObject *fork_exec(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    PyCFunctionFast original = (PyCFunctionFast)(void (*)(void))fork_exec_original;
    /* The last argument; before 3.14 a boolean follows it. */
    PyObject *preexec = count == 0 ? Py_None : args[count - 1];
    if (count > 1 && PyBool_Check(preexec)) {
        preexec = args[count - 2];
    }
    if (preexec == Py_None || rv_fiber_here() == NULL || rv_orphaned) {
        return original(module, args, count);
    }
    PyObject *none = rv_import_acquire(module, NULL);
    if (none == NULL) {
        return NULL;
    }
    PyObject *result = original(module, args, count);
    PyObject *error = PyErr_GetRaisedException();
    Py_XDECREF(rv_import_release(module, NULL));
    PyErr_SetRaisedException(error);
    return result;
}

struct rv_seam rv_hook_seams[] = {
#define SEAM(name, module, group, flags)                                                                         \
    {group, module, NULL, #name, flags, 1, CHOOSE(name, flags), &originals[H_##name], NULL},
    HOOKS(SEAM)
#undef SEAM
    /* Not a hook: behind them. */
    {RV_PROCESSES, "_posixsubprocess", NULL, "fork_exec", METH_FASTCALL, 1, RV_FUNCTION(fork_exec), &fork_exec_original,
     NULL},
    {0},
};

PyObject *rv_set_hook(const char *name, PyObject *callable) {
    for (int i = 0; i < H_COUNT; i++) {
        struct rv_seam *seam = &rv_hook_seams[i];
        if (strcmp(seam->name, name) != 0) {
            continue;
        }
        if (seam->def == NULL) {
            PyErr_Format(PyExc_LookupError, "roving: %s.%s is not in place", seam->module, name);
            return NULL;
        }
        PyObject *module = PyImport_ImportModule(seam->module);
        if (module == NULL) {
            return NULL;
        }
        copies[i] = *seam->def;
        copies[i].ml_meth = originals[i];
        PyObject *original = PyCFunction_New(&copies[i], module);
        Py_DECREF(module);
        if (original != NULL) {
            _Py_atomic_store_ptr_release(&hooks[i], callable == NULL ? NULL : Py_NewRef(callable));
        }
        return original;
    }
    PyErr_Format(PyExc_LookupError, "roving: there is no hook %s", name);
    return NULL;
}
