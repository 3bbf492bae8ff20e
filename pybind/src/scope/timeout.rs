//! `roving.timeout` and `roving.move_on_after`.

use super::Block;
use crate::cancel::{self, Leaving};
use crate::errors;
use crate::timeout as limits;
use pyo3::PyErr;
use pyo3::exceptions::{PyBaseException, PyTimeoutError};
use pyo3::prelude::*;

use std::sync::atomic::{AtomicBool, Ordering};

/// A block with a limit of time: made by roving.timeout and roving.move_on_after.
#[pyclass(frozen, module = "roving")]
pub(crate) struct Timeout {
    seconds: Option<f64>,
    /// Whether leaving it late is an error.
    raises: bool,
    expired: AtomicBool,
    block: Block,
}

fn new(seconds: Option<f64>, raises: bool) -> PyResult<Timeout> {
    if let Some(seconds) = seconds {
        limits::duration(seconds, "seconds")?;
    }
    Ok(Timeout {
        seconds,
        raises,
        expired: AtomicBool::new(false),
        block: Block::new(),
    })
}

/// Limit a `with` block to so many seconds from its beginning; None is no limit.
///
/// When they are over, whatever the block waits for, or waits for next, ends, and the block raises TimeoutError: this
/// one's own, never that of a timeout around it. A calculation that waits nowhere is not interrupted: call
/// roving.checkpoint() in it. In a plain thread the limit holds for roving's own waits.
///
/// >>> with roving.timeout(1.0):
/// ...     roving.sleep(0.01)
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Timeout> {
    new(seconds, true)
}

/// Limit a `with` block to so many seconds from its beginning, and go on behind it when they are over.
///
/// As roving.timeout, but for the error: ask `expired` whether the block was left early.
///
/// >>> with roving.move_on_after(0.01) as limit:
/// ...     roving.sleep(10)
/// >>> limit.expired
/// True
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub(crate) fn move_on_after(seconds: Option<f64>) -> PyResult<Timeout> {
    new(seconds, false)
}

#[pymethods]
impl Timeout {
    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let deadline = limits::deadline(slf.seconds)?;
        slf.block.enter(cancel::enter(slf.py(), deadline, false))?;
        Ok(slf)
    }

    #[pyo3(signature = (_kind, exception, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        exception: Option<&Bound<'_, PyBaseException>>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let entered = self.block.leave()?;
        let Some(exception) = exception else {
            return Ok(false);
        };
        match cancel::leaving(exception, &entered.scope)? {
            Leaving::Own => {}
            Leaving::Outer | Leaving::Other => return Ok(false),
            Leaving::Rest(rest) => return Err(errors::raise_again(&rest)),
        }
        self.expired.store(true, Ordering::Relaxed);
        if !self.raises {
            return Ok(true);
        }
        let seconds = self.seconds.unwrap_or(f64::INFINITY);
        let error = PyTimeoutError::new_err(format!("it took longer than {seconds} s"));
        error.set_cause(py, Some(PyErr::from_value(exception.clone().into_any())));
        Err(errors::raise_again(error.value(py)))
    }

    /// Whether the time was over before the block was, and so ended it.
    #[getter]
    fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// The seconds the block may take, or None.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        self.seconds
    }

    fn __repr__(&self) -> String {
        let name = if self.raises { "timeout" } else { "move_on_after" };
        let seconds = self
            .seconds
            .map_or("None".to_owned(), |seconds| seconds.to_string());
        let state = if self.expired() { ", expired" } else { "" };
        format!("<roving.{name}({seconds}){state}>")
    }
}
