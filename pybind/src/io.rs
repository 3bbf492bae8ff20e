//! Waiting for I/O: what the methods in `shim/sockets.c`, `selects.c`, `files.c`, `calls.c` and `tls.c` need of the runtime.

use crate::locks::outcome;
use crate::timeout::deadline_in;
use crate::wait::{self, Step, Target, Why};
use crate::{blocking, clock, shim};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use roving_runtime::PollFd;
use std::ffi::{c_int, c_short, c_void};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

fn os_error(error: &io::Error) -> PyErr {
    // Closed by somebody while it was waited for has no number.
    let code = error.raw_os_error().unwrap_or(libc::EBADF);
    PyOSError::new_err((code, strerror(code)))
}

/// As Python has it: without the number that Rust adds.
fn strerror(code: i32) -> String {
    let text = io::Error::from_raw_os_error(code).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Waits for a descriptor by `wait`: true when it is over, false when the time was up. Raises OSError.
pub(crate) fn wait_by(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut wait: impl FnMut(Option<Instant>) -> io::Result<bool> + Send,
) -> PyResult<bool> {
    let mut failed = None;
    let waited = wait::block(
        py,
        deadline,
        Why::Descriptor,
        Target::Outside,
        |until| match wait(until) {
            Ok(true) => Step::Done,
            Ok(false) => Step::TimedOut,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Step::TimedOut,
            Err(error) if roving_runtime::is_cancelled(&error) => Step::Interrupted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Again,
            Err(error) => {
                failed = Some(error);
                Step::Done
            }
        },
    )?;
    match failed {
        Some(error) => Err(os_error(&error)),
        None => Ok(waited),
    }
}

/// Waits, after a call on `fd` has failed with EAGAIN, until it is worth making again, for `timeout` nanoseconds at most: 1,
/// or 0 when time was up, or -1 with an exception. `place`, if there is one, holds the descriptor's number for as long as it
/// is open.
///
/// # Safety
/// In a fiber, attached; `place` is null or stays valid meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_wait_refused(fd: c_int, write: c_int, timeout: i64, place: *mut c_int) -> c_int {
    let place = if place.is_null() {
        None
    } else {
        // SAFETY: valid by the caller's promise; others write it atomically.
        Some(unsafe { AtomicI32::from_ptr(place) })
    };
    let still = || place.is_none_or(|place| place.load(Ordering::Acquire) == fd);
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    outcome(wait_by(py, deadline_in(timeout), |until| {
        roving_runtime::wait_refused(fd, write != 0, until, still).map(|()| true)
    }))
}

/// Waits until one of some descriptors is ready for what poll(2) calls POLLIN or POLLOUT, for `timeout` nanoseconds at
/// most: 1, or 0 when time was up, or -1 with an exception.
///
/// # Safety
/// In a fiber, attached; there are so many `fds`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_wait_fds(fds: *const libc::pollfd, count: usize, timeout: i64) -> c_int {
    let asked = |fd: &libc::pollfd, events: c_short| fd.events & events != 0;
    let mut questions: Vec<_> = if count == 0 {
        Vec::new()
    } else {
        // SAFETY: by the caller's promise.
        let fds = unsafe { std::slice::from_raw_parts(fds, count) };
        let read = libc::POLLIN | libc::POLLRDNORM;
        let write = libc::POLLOUT | libc::POLLWRNORM;
        fds.iter()
            .map(|fd| PollFd::new(fd.fd, asked(fd, read), asked(fd, write)))
            .collect()
    };
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    outcome(wait_by(py, deadline_in(timeout), |until| {
        let left = until.map(|at| at.saturating_duration_since(clock::now()));
        roving_runtime::wait_fds(&mut questions, left).map(|ready| ready != 0)
    }))
}

/// Sleeps for so many nanoseconds: 0, or -1 with an exception.
///
/// # Safety
/// In a fiber, attached.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_io_sleep(nanoseconds: i64) -> c_int {
    // SAFETY: by the caller's promise.
    let py = unsafe { Python::assume_attached() };
    let duration = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    outcome(wait::sleep(py, duration).map(|()| false))
}

/// Calls something on the blocking pool, as `roving.blocking`: a new reference, or null with an exception.
///
/// # Safety
/// In a fiber, attached; a callable, a tuple, and null or a dict.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_io_pool(
    function: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: by the caller's promise.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: live by the caller's promise.
    let function = unsafe { Bound::from_borrowed_ptr(py, function) };
    // SAFETY: as above.
    let args = unsafe { Bound::from_borrowed_ptr(py, args) };
    // SAFETY: null or live by the caller's promise.
    let kwargs = unsafe { Bound::from_borrowed_ptr_or_opt(py, kwargs) };
    let called = (|| {
        let args = args.cast::<PyTuple>()?;
        let kwargs = kwargs
            .as_ref()
            .map(|kwargs| kwargs.cast::<PyDict>())
            .transpose()?;
        blocking::blocking(py, &function, args, kwargs)
    })();
    match called {
        Ok(value) => value.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// Calls `close`, which closes the descriptors from `low` up to and without `high`, and tells whoever waits for them.
///
/// # Safety
/// `close` may be called with `context`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_while_closing(
    low: c_int,
    high: c_int,
    close: unsafe extern "C" fn(*mut c_void),
    context: *mut c_void,
) {
    if low >= 0 && high.checked_sub(low) == Some(1) {
        let _closing = roving_runtime::closing(low);
        // SAFETY: by the caller's promise.
        unsafe { close(context) };
    } else {
        let _closing = roving_runtime::closing_range(low.max(0)..high);
        // SAFETY: by the caller's promise.
        unsafe { close(context) };
    }
}

/// The groups of replacements, in the order of `shim/io.h`.
const GROUPS: [&str; 7] = ["time", "socket", "dns", "select", "os", "ssl", "sqlite"];

fn group(name: &str) -> PyResult<c_int> {
    let found = GROUPS.iter().position(|group| *group == name);
    found.map(|index| index as c_int).ok_or_else(|| {
        PyValueError::new_err(format!(
            "there is nothing to patch called {name:?}; there are {GROUPS:?}"
        ))
    })
}

/// Puts the replacements of a group in place, or takes them out again. Twice is once.
#[pyfunction]
pub(crate) fn _patch(py: Python<'_>, name: &str, on: bool) -> PyResult<()> {
    if wait::place()? == wait::Place::Fiber && !on {
        return Err(PyRuntimeError::new_err(
            "fibers rely on what is patched: undo it in a plain thread",
        ));
    }
    shim::patch(py, group(name)?, on)
}

/// All replacements there are, in place or not: group, module or type, name, whether it is in place.
#[pyfunction]
pub(crate) fn _patches() -> Vec<(&'static str, String, String, bool)> {
    let mut found = Vec::new();
    while let Some((group, place, name, on)) = shim::patched(found.len()) {
        found.push((GROUPS[group], place, name, on));
    }
    found
}
