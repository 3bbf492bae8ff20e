//! `roving.configure`.

use crate::{gil, preempt};
use pyo3::prelude::*;

/// Set how roving works. What is not named stays as it is.
///
/// `preempt`: for how many seconds a fiber may run while others wait for its worker, before it is suspended in their
/// favour; None or 0, as at first, for ever. `require_free_threading`: raise RuntimeError if the GIL is on, now or when the
/// runtime starts, and let no import switch it on.
///
/// >>> roving.configure(preempt=0.010)
#[pyfunction]
#[pyo3(signature = (*, preempt=preempt::Setting::Unchanged, require_free_threading=None),
       text_signature = "(*, preempt=..., require_free_threading=None)")]
pub(crate) fn configure(
    py: Python<'_>,
    preempt: preempt::Setting,
    require_free_threading: Option<bool>,
) -> PyResult<()> {
    if let Some(required) = require_free_threading {
        gil::refuse(py, required)?;
    }
    preempt::set(preempt);
    Ok(())
}
