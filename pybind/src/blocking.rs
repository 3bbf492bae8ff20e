//! `roving.blocking`, and waiting for descriptors.

use crate::errors::{self, Cancelled};
use crate::held::Held;
use crate::wait::{self, Place, Step, Target, Why};
use crate::{clock, engine, timeout};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

type Result = std::result::Result<Held, Held>;

/// Call function(*args, **kwargs) on a thread made for calls that block, wait for it, and return its result.
///
/// For calls that neither wait through roving nor come back soon: files, name resolution, C libraries. Other fibers of
/// this worker run meanwhile. A fiber that is cancelled while it waits does not wait on; the call goes on by itself. In
/// a plain thread the function is simply called.
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
    if wait::place()? == Place::Thread {
        return function.call(args, kwargs).map(Bound::unbind);
    }
    // As a fiber, the call runs in a copy of its caller's context.
    let context = py.import("contextvars")?.call_method0("copy_context")?;
    let run = Held::new(context.getattr("run")?.unbind());
    let function = Held::new(function.clone().unbind());
    let args = Held::new(args.clone().into_any().unbind());
    let kwargs = kwargs.map(|kwargs| Held::new(kwargs.clone().into_any().unbind()));
    let result = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&result);
    let call = engine::handle(py)?.spawn_blocking(move || {
        // When the interpreter is exiting there is nothing to call any more.
        let _ = Python::try_attach(|py| {
            let called = call(py, &run, &function, &args, kwargs.as_ref());
            *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(called);
            drop((run, function, args, kwargs));
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

fn call(py: Python<'_>, run: &Held, function: &Held, args: &Held, kwargs: Option<&Held>) -> Result {
    let called = (|| {
        let args = args.bind(py).cast::<PyTuple>()?;
        let all = std::iter::once(function.bind(py).clone()).chain(args.iter());
        let all = PyTuple::new(py, all.collect::<Vec<_>>())?;
        let kwargs = kwargs
            .map(|kwargs| kwargs.bind(py).cast::<PyDict>())
            .transpose()?;
        run.bind(py).call(all, kwargs)
    })();
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
/// Raises TimeoutError when it takes longer than `timeout` seconds, OSError when it is not open. Regular files are always
/// ready.
#[pyfunction]
#[pyo3(signature = (fd, timeout=None))]
pub(crate) fn wait_readable(py: Python<'_>, fd: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
    wait_descriptor(py, fd, timeout, roving_runtime::wait_readable)
}

/// Wait until a descriptor (a number, or an object with fileno) can be written without blocking; other fibers run meanwhile.
///
/// Raises TimeoutError when it takes longer than `timeout` seconds, OSError when it is not open.
#[pyfunction]
#[pyo3(signature = (fd, timeout=None))]
pub(crate) fn wait_writable(py: Python<'_>, fd: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
    wait_descriptor(py, fd, timeout, roving_runtime::wait_writable)
}

fn wait_descriptor(
    py: Python<'_>,
    fd: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    wait: fn(RawFd, Option<std::time::Duration>) -> io::Result<()>,
) -> PyResult<()> {
    let deadline = timeout::deadline(timeout)?;
    let fd = descriptor(fd)?;
    let mut failed = None;
    let ready = wait::block(py, deadline, Why::Descriptor, Target::Outside, |until| {
        let left = until.map(|at| at.saturating_duration_since(clock::now()));
        match wait(fd, left) {
            Ok(()) => Step::Done,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Step::TimedOut,
            Err(error) if roving_runtime::is_cancelled(&error) => Step::Interrupted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Again,
            Err(error) => {
                failed = Some(error);
                Step::Done
            }
        }
    })?;
    match failed {
        Some(error) => Err(match error.raw_os_error() {
            Some(code) => PyOSError::new_err((code, io::Error::from_raw_os_error(code).to_string())),
            // Closed by somebody while it was waited for.
            None => PyOSError::new_err((libc::EBADF, error.to_string())),
        }),
        None if ready => Ok(()),
        None => Err(PyTimeoutError::new_err(format!(
            "descriptor {fd} was not ready in time"
        ))),
    }
}

fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let fd = match object.extract::<RawFd>() {
        Ok(fd) => fd,
        Err(_) if object.hasattr("fileno")? => object.call_method0("fileno")?.extract()?,
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
