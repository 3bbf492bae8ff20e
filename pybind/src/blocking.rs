//! `roving.blocking`, and waiting for descriptors.

use crate::errors::{self, Cancelled};
use crate::held::Held;
use crate::wait::{self, Place, Target, Why};
use crate::{clock, engine, native, timeout};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};
use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Result = std::result::Result<Held, Held>;

/// Call function(*args, **kwargs) on a thread made for calls that block, wait for it, and return its result.
///
/// For calls that neither wait through roving nor come back soon: files, name resolution, C libraries. Other fibers of
/// this worker run meanwhile. The call sees a copy of the caller's context variables; `threading.local` is the thread's. A
/// fiber that is cancelled while it waits does not wait on; the call goes on by itself. In a plain thread, and in a callback
/// of C code, the function is simply called. With more calls than `configure(blocking_threads=)` at once, the rest wait for
/// their turn.
///
/// >>> roving.blocking(pow, 2, 3)
/// 8
#[pyfunction]
#[pyo3(signature = (function, /, *args, **kwargs))]
pub(crate) fn blocking(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    if !function.is_callable() {
        let kind = function.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "blocking takes a callable and its arguments, and {kind} is not callable"
        )));
    }
    if wait::place()? != Place::Fiber {
        return function.call(args, kwargs).map(Bound::unbind);
    }
    // As a fiber, the call runs in a copy of its caller's context.
    let context = py
        .import(intern!(py, "contextvars"))?
        .call_method0(intern!(py, "copy_context"))?;
    let run = Held::new(context.getattr(intern!(py, "run"))?.unbind());
    let all = std::iter::once(function.clone()).chain(args.iter());
    let all = PyTuple::new(py, all.collect::<Vec<_>>())?;
    let partial = py
        .import(intern!(py, "functools"))?
        .getattr(intern!(py, "partial"))?;
    let whole = Held::new(partial.call(all, kwargs)?.unbind());
    let result = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&result);
    let call = engine::handle(py)?.spawn_blocking(move || {
        // When the interpreter is exiting there is nothing to call any more.
        let _ = Python::try_attach(|py| {
            keep_state();
            let called = call(py, &run, &whole);
            *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(called);
            drop((run, whole));
        });
    });
    wait::block(py, None, Why::Blocking, Target::Outside, |until| {
        wait::join_step(&call, until)
    })?;
    let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    match result {
        Some(Ok(value)) => Ok(value.into_py()),
        Some(Err(error)) => Err(errors::raise_again(error.bind(py))),
        None => Err(PyRuntimeError::new_err(
            "the call was not made: the interpreter is exiting, or there are no threads",
        )),
    }
}

thread_local! {
    /// Whether this thread of the pool has a thread state that outlives its calls.
    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps this thread's state, which otherwise ends with the call: making one takes some 100 us, most calls take less.
/// Attached, by a thread of the pool.
fn keep_state() {
    if !KEEPS.replace(true) {
        // SAFETY: attached, as all of PyO3's users are through the same interface: this counts one user more, who is gone
        // in `forget_state`.
        unsafe { ffi::PyGILState_Ensure() };
    }
}

/// A thread of the pool ends, or has had nothing to do for long.
pub(crate) fn forget_state() {
    if !KEEPS.replace(false) {
        return;
    }
    // When the interpreter is exiting the state goes with it.
    let _ = Python::try_attach(|_| {
        // SAFETY: attached. The user counted in `keep_state`, who was attached before, too; PyO3's own, which is still
        // there, deletes the state.
        unsafe { ffi::PyGILState_Release(ffi::PyGILState_STATE::PyGILState_LOCKED) };
    });
}

fn call(py: Python<'_>, run: &Held, whole: &Held) -> Result {
    // A call that comes back while the interpreter is finalized finds its thread ended: by unwinding it, before 3.14. Nothing
    // of ours may be unwound, so it hangs in there.
    let called = native::invoke(run.bind(py), [whole.bind(py)]);
    match called {
        Ok(value) => Ok(Held::new(value.unbind())),
        Err(error) => {
            // A cancellation is the fiber's own affair.
            debug_assert!(!error.is_instance_of::<Cancelled>(py));
            Err(Held::new(error.into_value(py).into_any()))
        }
    }
}

/// Wait until a descriptor (a number, or an object with fileno) can be read without blocking; other fibers run meanwhile.
///
/// Raises TimeoutError when it takes longer than `timeout` seconds (None: no limit), OSError when it is not open or is closed
/// meanwhile. Regular files are always ready. Any number may wait for one descriptor; all wake.
///
/// >>> ours, theirs = socket.socketpair()
/// >>> theirs.send(b"hi")
/// 2
/// >>> roving.wait_readable(ours, timeout=1.0)
#[pyfunction]
#[pyo3(signature = (fd, timeout=None))]
pub(crate) fn wait_readable(py: Python<'_>, fd: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
    wait_descriptor(py, fd, timeout, roving_runtime::wait_readable)
}

/// Wait until a descriptor (a number, or an object with fileno) can be written without blocking; other fibers run meanwhile.
///
/// Raises TimeoutError and OSError as wait_readable does.
///
/// >>> ours, theirs = socket.socketpair()
/// >>> roving.wait_writable(ours)
#[pyfunction]
#[pyo3(signature = (fd, timeout=None))]
pub(crate) fn wait_writable(py: Python<'_>, fd: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
    wait_descriptor(py, fd, timeout, roving_runtime::wait_writable)
}

fn wait_descriptor(
    py: Python<'_>,
    fd: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    wait: fn(RawFd, Option<Duration>) -> io::Result<()>,
) -> PyResult<()> {
    let deadline = timeout::deadline(timeout)?;
    let fd = descriptor(fd)?;
    if wait_fd(py, fd, deadline, wait)? {
        Ok(())
    } else {
        Err(PyTimeoutError::new_err(format!(
            "descriptor {fd} was not ready in time"
        )))
    }
}

/// Waits for a descriptor by `wait`; false when `deadline` came first. Raises OSError.
pub(crate) fn wait_fd(
    py: Python<'_>,
    fd: RawFd,
    deadline: Option<Instant>,
    wait: fn(RawFd, Option<Duration>) -> io::Result<()>,
) -> PyResult<bool> {
    crate::io::wait_by(py, deadline, |until| {
        let left = until.map(|at| at.saturating_duration_since(clock::now()));
        wait(fd, left).map(|()| true)
    })
}

fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let fd = match object.extract::<RawFd>() {
        Ok(fd) => fd,
        Err(_) if object.is_instance_of::<PyInt>() => {
            return Err(PyValueError::new_err(format!("{object} is no descriptor")));
        }
        Err(_) if object.hasattr(intern!(object.py(), "fileno"))? => {
            object.call_method0(intern!(object.py(), "fileno"))?.extract()?
        }
        Err(_) => {
            let kind = object.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a descriptor is a number or an object with fileno(), not {kind}"
            )));
        }
    };
    if fd < 0 {
        return Err(PyValueError::new_err(format!(
            "a descriptor is not negative, and this is {fd}"
        )));
    }
    Ok(fd)
}
