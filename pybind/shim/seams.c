/* Puts what seams.h lists in place: `ml_meth` of CPython's own method tables, as install.c does with locks. */
#include "seams.h"

int rv_group_on[RV_GROUPS];

static struct rv_seam *const tables[] = {rv_thread_seams, rv_tracing_seams, rv_queue_seams, rv_pipe_seams, rv_hook_seams};
#define TABLES (sizeof tables / sizeof tables[0])

static int (*const known[RV_GROUPS])(void) = {
    [RV_THREADS] = rv_threads_are_known,
    [RV_QUEUES] = rv_queues_are_known,
    [RV_PIPES] = rv_pipes_are_known,
};

static PyMethodDef *find(const struct rv_seam *seam) {
    PyMethodDef *def = NULL;
    PyObject *where = PyImport_ImportModule(seam->module);
    if (where != NULL && seam->type != NULL) {
        Py_SETREF(where, PyObject_GetAttrString(where, seam->type));
    }
    PyObject *found = where == NULL ? NULL : PyObject_GetAttrString(where, seam->name);
    if (found != NULL && Py_IS_TYPE(found, &PyMethodDescr_Type)) {
        def = ((PyMethodDescrObject *)found)->d_method;
    }
    else if (found != NULL && PyCFunction_CheckExact(found)) {
        def = ((PyCFunctionObject *)found)->m_ml;
    }
    Py_XDECREF(found);
    Py_XDECREF(where);
    PyErr_Clear();
    if (def != NULL && ((def->ml_flags & ~METH_COEXIST) != seam->flags || strcmp(def->ml_name, seam->name) != 0)) {
        return NULL;
    }
    return def;
}

static int put_in_place(int group) {
    static int done[RV_GROUPS];
    if (done[group]) {
        return 0;
    }
    if (known[group] != NULL && known[group]() < 0) {
        return -1;
    }
    PyMethodDef *found[TABLES][32] = {{NULL}};
    for (size_t t = 0; t < TABLES; t++) {
        for (int i = 0; tables[t][i].name != NULL; i++) {
            struct rv_seam *seam = &tables[t][i];
            if ((int)seam->group != group) {
                continue;
            }
            found[t][i] = find(seam);
            if (found[t][i] == NULL && !seam->optional) {
                PyErr_Format(PyExc_RuntimeError,
                             "roving: %s.%s of this interpreter is not as roving knows it and cannot be patched; install "
                             "roving for this interpreter, or report it",
                             seam->module, seam->name);
                return -1;
            }
        }
    }
    /* With the world stopped nobody is in the middle of an old method, which would not see fibers that wait. */
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    PyInterpreterState *interp = PyInterpreterState_Get();
    _PyEval_StopTheWorld(interp);
#endif
    /* Another thread may have been here meanwhile. */
    if (!done[group]) {
        for (size_t t = 0; t < TABLES; t++) {
            for (int i = 0; tables[t][i].name != NULL; i++) {
                struct rv_seam *seam = &tables[t][i];
                if (found[t][i] != NULL) {
                    *seam->original = found[t][i]->ml_meth;
                    seam->def = found[t][i];
                    _Py_atomic_store_ptr_release((void *)&seam->def->ml_meth, (void *)seam->method);
                }
            }
        }
        done[group] = 1;
    }
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    _PyEval_StartTheWorld(interp);
#elif defined(Py_GIL_DISABLED)
    /* 3.13 does not let us; but a collection does the same, before the first fiber waits. */
    PyGC_Collect();
#endif
    return 0;
}

int rv_switch_group(int group, int on) {
    if (put_in_place(group) < 0) {
        return -1;
    }
    _Py_atomic_store_int(&rv_group_on[group], on);
    return 0;
}

int rv_seam_entry(int index, int *group, const char **module, const char **type, const char **name, int *on) {
    for (size_t t = 0; t < TABLES; t++) {
        for (int i = 0; tables[t][i].name != NULL; i++) {
            const struct rv_seam *seam = &tables[t][i];
            if (index-- == 0) {
                *group = (int)seam->group;
                *module = seam->module;
                *type = seam->type;
                *name = seam->name;
                *on = seam->def != NULL && rv_is_on(seam->group);
                return 1;
            }
        }
    }
    return 0;
}
