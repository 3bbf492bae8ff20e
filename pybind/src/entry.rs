//! The entry points that are called most: plain C functions, without the tuple, the dict and the bookkeeping that a
//! `#[pyfunction]` costs at each call.

use crate::errors::RovingInternalError;
use crate::fiber::{self, Fiber};
use crate::held::Held;
use crate::options::Settings;
use crate::wait;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// A table that CPython keeps pointers into, and does not write to.
#[repr(transparent)]
struct Methods([ffi::PyMethodDef; 3]);

// SAFETY: it holds pointers to statics, and nobody writes it.
unsafe impl Sync for Methods {}

static METHODS: Methods = Methods([
    ffi::PyMethodDef {
        ml_name: c"spawn".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: spawn,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: c"spawn(function, /, *args, **kwargs)\n--\n\n\
            Start a fiber that calls function(*args, **kwargs), and return it.\n\n\
            It runs on any core, at the same time as its spawner, in a copy of its spawner's context\n\
            variables. The first call starts the runtime. What it raises, join raises; if nobody ever joins it,\n\
            roving.excepthook is told. Raises TypeError if function is not callable, and RuntimeError when the\n\
            interpreter is exiting.\n\n\
            >>> roving.spawn(pow, 2, 10).join()\n\
            1024"
            .as_ptr(),
    },
    ffi::PyMethodDef {
        ml_name: c"yield_now".as_ptr(),
        // Takes none: but of functions without arguments the interpreter has no specialised call.
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: yield_now,
        },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: c"yield_now()\n--\n\n\
            Let other fibers of this worker run; in a plain thread, other threads.\n\n\
            >>> roving.yield_now()"
            .as_ptr(),
    },
    ffi::PyMethodDef::zeroed(),
]);

/// Adds the functions to the module. CPython counts references to a module's own functions without contention.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let table = METHODS.0.as_ptr().cast_mut();
    // SAFETY: attached; the table is static and ends in zeros.
    if unsafe { ffi::PyModule_AddFunctions(module.as_ptr(), table) } != 0 {
        return Err(PyErr::fetch(module.py()));
    }
    let index = module.index()?;
    index.append("spawn")?;
    index.append("yield_now")
}

/// Runs `body`, and raises what it has to raise. A panic becomes an exception: it must not unwind into C.
#[inline]
fn guarded(body: impl FnOnce(Python<'_>) -> PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    // SAFETY: CPython calls these functions attached.
    let py = unsafe { Python::assume_attached() };
    match catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(object)) => object,
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(_) => {
            RovingInternalError::new_err("a panic: stderr has the message").restore(py);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn spawn(
    _module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guarded(|py| {
        if count == 0 {
            return Err(PyTypeError::new_err("spawn takes a callable and its arguments"));
        }
        // SAFETY: CPython passes `count` arguments, and behind them one for each of the `names`.
        unsafe { fiber::spawn(py, args, count, names, None, None) }.map(Py::into_ptr)
    })
}

unsafe extern "C" fn yield_now(
    _module: *mut ffi::PyObject,
    _args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    guarded(|py| {
        if count != 0 {
            return Err(PyTypeError::new_err(format!(
                "yield_now takes no arguments ({count} given)"
            )));
        }
        wait::pause(py)?;
        Ok(py.None().into_ptr())
    })
}

/// Starts a fiber from Rust.
pub(crate) fn spawn_with(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, pyo3::types::PyTuple>,
) -> PyResult<Py<Fiber>> {
    let all: Vec<_> = std::iter::once(function.as_ptr())
        .chain(args.iter().map(|argument| argument.as_ptr()))
        .collect();
    let count = all.len() as ffi::Py_ssize_t;
    // SAFETY: the tuple keeps the arguments alive; there are no names.
    unsafe { fiber::spawn(py, all.as_ptr(), count, ptr::null_mut(), None, None) }
}

/// Starts a fiber from Rust, with arguments by name too.
pub(crate) fn spawn_named(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, pyo3::types::PyTuple>,
    kwargs: Option<&Bound<'_, pyo3::types::PyDict>>,
    options: Option<&Settings>,
    thread: Option<Held>,
) -> PyResult<Py<Fiber>> {
    let mut all: Vec<_> = std::iter::once(function.clone()).chain(args.iter()).collect();
    let count = all.len() as ffi::Py_ssize_t;
    let (names, values): (Vec<_>, Vec<_>) = kwargs.iter().flat_map(|kwargs| kwargs.iter()).unzip();
    all.extend(values);
    let tuple = if names.is_empty() {
        None
    } else {
        Some(pyo3::types::PyTuple::new(py, names)?)
    };
    let names = tuple.as_ref().map_or(ptr::null_mut(), Bound::as_ptr);
    let pointers: Vec<_> = all.iter().map(Bound::as_ptr).collect();
    // SAFETY: `all` keeps the arguments alive, and the tuple of names, which is not dropped yet, has one for each of the last.
    unsafe { fiber::spawn(py, pointers.as_ptr(), count, names, options, thread) }
}
