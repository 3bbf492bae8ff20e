/* The GIL of a free-threaded interpreter, which an extension module may switch on at any import. */
#include "shim.h"

#include <internal/pycore_moduleobject.h>

int rv_gil_enabled(void) {
#ifdef Py_GIL_DISABLED
    struct _gil_runtime_state *gil = PyInterpreterState_Main()->ceval.gil;
    return gil != NULL && _Py_atomic_load_int_relaxed(&gil->enabled) != 0;
#else
    return 1;
#endif
}

int rv_needs_gil(PyObject *module) {
#ifdef Py_GIL_DISABLED
    /* Those written in Python have no definition, and say nothing. */
    return PyModule_Check(module) && ((PyModuleObject *)module)->md_def != NULL &&
           ((PyModuleObject *)module)->md_gil == Py_MOD_GIL_USED;
#else
    (void)module;
    return 0;
#endif
}
