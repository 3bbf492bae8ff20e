/* A callback that does not say so by PyGILState_Ensure: the one that ssl asks for the password of a key. It is called with
 * a lock of the context's held, natively: a fiber that wants that lock blocks its worker. So nothing parks in it, and nobody
 * is preempted. It has no mark of its own, so all of `_SSLContext.load_cert_chain` is marked, which calls nothing else.
 *
 * `_ssl` is seldom there when the runtime starts, and too large to be imported for this. So what runs the extension modules
 * that are imported later has a look. */
#include "locks.h"

typedef PyObject *(*method_t)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

static method_t load_original;

static PyObject *load_cert_chain(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    struct rv_fiber *f = rv_fiber_here();
    if (f == NULL) {
        return load_original(self, args, count, names);
    }
    /* The fiber's own stack: whatever happens meanwhile, `f` is the one that comes back here. */
    f->callbacks++;
    PyObject *result = load_original(self, args, count, names);
    f->callbacks--;
    return result;
}

/* What it does not find it leaves as it is. */
static void mark_ssl(PyObject *ssl) {
    PyObject *type = PyObject_GetAttrString(ssl, "_SSLContext");
    PyObject *method = type == NULL ? NULL : PyObject_GetAttrString(type, "load_cert_chain");
    if (method != NULL && Py_IS_TYPE(method, &PyMethodDescr_Type)) {
        PyMethodDef *def = ((PyMethodDescrObject *)method)->d_method;
        PyCFunction ours = (PyCFunction)(void (*)(void))load_cert_chain;
        if (def->ml_flags == (METH_FASTCALL | METH_KEYWORDS) && def->ml_meth != ours) {
            load_original = (method_t)(void (*)(void))def->ml_meth;
            _Py_atomic_store_ptr_release((void *)&def->ml_meth, (void *)ours);
        }
    }
    PyErr_Clear();
    Py_XDECREF(method);
    Py_XDECREF(type);
}

static PyObject *run_module(PyCFunction original, PyObject *imp, PyObject *module) {
    PyObject *result = original(imp, module);
    if (result != NULL && PyModule_Check(module)) {
        const char *name = PyModule_GetName(module);
        if (name == NULL) {
            PyErr_Clear();
        }
        else if (strcmp(name, "_ssl") == 0) {
            /* Nobody else has it yet. */
            mark_ssl(module);
        }
    }
    return result;
}

PyObject *rv_exec_dynamic(PyObject *imp, PyObject *module) {
    return run_module(rv_originals.exec_dynamic, imp, module);
}

PyObject *rv_exec_builtin(PyObject *imp, PyObject *module) {
    return run_module(rv_originals.exec_builtin, imp, module);
}

void rv_mark_callbacks(void) {
    /* Borrowed. */
    PyObject *ssl = PyDict_GetItemString(PyImport_GetModuleDict(), "_ssl");
    if (ssl != NULL) {
        mark_ssl(ssl);
    }
}
