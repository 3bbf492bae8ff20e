//! What `roving.select` chooses from.

use super::Channel;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// The receiving of a value, for roving.select: made by Channel.recv_op.
#[pyclass(frozen, generic, module = "roving")]
pub(crate) struct RecvOp {
    pub(super) channel: Py<Channel>,
}

/// The sending of a value, for roving.select: made by Channel.send_op.
#[pyclass(frozen, generic, module = "roving")]
pub(crate) struct SendOp {
    pub(super) channel: Py<Channel>,
    pub(super) value: Py<PyAny>,
}

#[pymethods]
impl RecvOp {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<roving.RecvOp of {}>", self.channel.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.channel)
    }
}

#[pymethods]
impl SendOp {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<roving.SendOp of {}>", self.channel.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.channel)?;
        visit.call(&self.value)
    }
}
