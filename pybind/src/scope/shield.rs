//! `roving.shield`.

use super::Block;
use crate::cancel;
use pyo3::prelude::*;

/// A block that cancellation from outside does not reach: made by roving.shield.
#[pyclass(frozen, module = "roving")]
pub(crate) struct Shield(Block);

/// Hold back cancellation in a `with` block, for clean-up that must be done and takes its time.
///
/// Waits in the block succeed although the fiber was cancelled, or a timeout around the block is up; the first wait
/// after it raises Cancelled. Timeouts inside the block work.
///
/// >>> with roving.shield():
/// ...     roving.sleep(0)
#[pyfunction]
pub(crate) fn shield() -> Shield {
    Shield(Block::new())
}

#[pymethods]
impl Shield {
    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.0.enter(cancel::enter(slf.py(), None, true))?;
        Ok(slf)
    }

    fn __repr__(&self) -> &'static str {
        "<roving.shield()>"
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<bool> {
        self.0.leave()?;
        Ok(false)
    }
}
