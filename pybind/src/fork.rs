//! `fork` in a process whose runtime runs.
//!
//! The child has one thread, the one that forked. If that is a plain thread the child starts without a runtime, and gets its
//! own at its first spawn. If it is a worker, in a fiber, the child is an *orphan*: the scheduler below that fiber's
//! stack is a copy whose other threads are gone, and whose poll is shared with the parent. So nothing may
//! park, spawn or join there; and when the fiber's function returns the process ends, as it does where a plain
//! thread forks and then ends.
//!
//! CPython stops the world before it forks, so that no other worker is in the middle of anything here: those that
//! run are at a safe point, those that are detached sleep. What threads that never attach may hold (the monitor) is
//! made anew, see `engine::forget`.

use crate::{deadlock, engine, guards, locks, seams, shim, testing};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Which process this is, of those forked from one another.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Looks out for forks from now on.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    static IN_CHILD: Once = Once::new();
    static IN_PARENT: OnceLock<()> = OnceLock::new();
    IN_CHILD.call_once(|| {
        // SAFETY: the handler only touches what this library owns. It allocates, which the C library makes safe in a
        // child. If it cannot be entered, for want of memory, children are taken for their parents.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    if IN_PARENT.set(()).is_ok() {
        let kwargs = pyo3::types::PyDict::new(py);
        let look_again = py.import("roving._roving")?.getattr("_after_fork")?;
        kwargs.set_item("after_in_parent", look_again)?;
        py.import("os")?
            .call_method("register_at_fork", (), Some(&kwargs))?;
    }
    Ok(())
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    engine::forget();
    deadlock::forget();
    testing::forget();
    locks::forget_waiters();
    guards::forget();
    seams::forget();
    if shim::is_worker() {
        shim::set_orphaned();
    }
}

/// Called in the parent after a fork, and of no use to anybody else: the interpreter has held the import lock and
/// let go of it without knowing of fibers that wait for it.
#[pyfunction(name = "_after_fork")]
pub(crate) fn after_in_parent() {
    shim::nudge_import_lock();
}

/// Whether this process was forked in a fiber.
#[inline]
pub(crate) fn is_orphan() -> bool {
    shim::is_orphaned()
}

/// The error of all that an orphan cannot do.
#[cold]
pub(crate) fn orphaned(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "cannot {what}: this process was forked in a fiber, and may only finish or exec; fork in a plain thread, or use \
         subprocess"
    ))
}

/// Refuses to wait for a fiber of another process.
pub(crate) fn check(generation_of_fiber: u32) -> PyResult<()> {
    if generation_of_fiber == generation() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "the fiber runs in the process that this one was forked from, and will not end here",
    ))
}

/// Ends an orphan whose fiber has returned, or raised `error`.
pub(crate) fn finish(result: Result<*mut ffi::PyObject, *mut ffi::PyObject>) -> ! {
    // SAFETY: called on the fiber's stack, attached.
    let py = unsafe { Python::assume_attached() };
    let mut code = 0;
    if let Err(error) = result {
        // SAFETY: attached; an owned reference to an exception.
        let error = unsafe { Bound::from_owned_ptr(py, error) };
        let error = PyErr::from_value(error);
        code = exit_code(py, &error).unwrap_or_else(|| {
            error.print(py);
            1
        });
    }
    for name in ["stdout", "stderr"] {
        // Closed or missing, it has nothing left to write.
        let _ = py
            .import("sys")
            .and_then(|sys| sys.getattr(name)?.call_method0("flush"));
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// What SystemExit says; `None` for other exceptions.
fn exit_code(py: Python<'_>, error: &PyErr) -> Option<i32> {
    if !error.is_instance_of::<pyo3::exceptions::PySystemExit>(py) {
        return None;
    }
    let code = error.value(py).getattr("code").ok()?;
    if code.is_none() {
        return Some(0);
    }
    Some(code.extract().unwrap_or_else(|_| {
        eprintln!("{code}");
        1
    }))
}
