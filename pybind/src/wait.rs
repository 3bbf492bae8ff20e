//! Blocking: a fiber parks, a plain thread waits detached and looks after signals.

use crate::{cancel, fork, shim};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use roving_runtime::JoinHandle;
use std::time::{Duration, Instant};

/// How long the main thread waits between two looks at its signals.
const SLICE: Duration = Duration::from_millis(50);

/// Where the caller is.
pub(crate) enum Place {
    Fiber,
    Thread,
}

/// Where the caller is, if it may wait there.
pub(crate) fn place() -> PyResult<Place> {
    if shim::current().is_some() {
        if fork::is_orphan() {
            return Err(fork::orphaned("wait"));
        }
        return Ok(Place::Fiber);
    }
    if shim::is_worker() {
        // A destructor of something that was dropped when its fiber never ran.
        return Err(PyRuntimeError::new_err(
            "roving: cannot wait here: this runs between two fibers",
        ));
    }
    Ok(Place::Thread)
}

/// Waits until a fiber is done; false when `deadline` came first.
pub(crate) fn join(py: Python<'_>, handle: &JoinHandle<()>, deadline: Option<Instant>) -> PyResult<bool> {
    if handle.is_done() {
        return Ok(true);
    }
    match place()? {
        Place::Fiber => cancel::wait(|| match deadline {
            None => handle.wait().map(|()| true),
            Some(at) => handle.wait_timeout(at.saturating_duration_since(Instant::now())),
        }),
        Place::Thread => join_from_thread(py, handle, deadline),
    }
}

fn join_from_thread(py: Python<'_>, handle: &JoinHandle<()>, deadline: Option<Instant>) -> PyResult<bool> {
    // Only the main thread runs signal handlers.
    let main = shim::is_main_thread();
    loop {
        let now = Instant::now();
        let left = deadline.map(|at| at.saturating_duration_since(now));
        let slice = match left {
            Some(left) if !main || left <= SLICE => Some(left),
            _ => main.then_some(SLICE),
        };
        let done = py.detach(|| match slice {
            Some(slice) => handle.wait_timeout(slice),
            None => handle.wait().map(|()| true),
        });
        // Plain threads are not cancelled.
        if done.unwrap_or(false) {
            return Ok(true);
        }
        py.check_signals()?;
        if deadline.is_some_and(|at| Instant::now() >= at) {
            return Ok(false);
        }
    }
}
