//! The GIL: there from the start, or switched on by an extension that needs it.
//!
//! CPython itself warns, once, with the module's name. Workers then take turns: each makes way between any two turns when
//! somebody asks for the GIL, as Python code does by itself.

use crate::shim;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

static REFUSED: AtomicBool = AtomicBool::new(false);

/// Refuses the GIL from now on, or no longer.
pub(crate) fn refuse(py: Python<'_>, refuse: bool) -> PyResult<()> {
    if refuse {
        refuse_now(py)?;
        // The import that switches it on fails, with a message that names the module.
        let warnings = py.import("warnings")?;
        let kwargs = pyo3::types::PyDict::new(py);
        kwargs.set_item("category", py.get_type::<pyo3::exceptions::PyRuntimeWarning>())?;
        warnings.call_method(
            "filterwarnings",
            ("error", r"The global interpreter lock \(GIL\) has been enabled"),
            Some(&kwargs),
        )?;
    }
    REFUSED.store(refuse, Ordering::Relaxed);
    Ok(())
}

/// Fails if there is a GIL, and it was to be refused: at the start and at each spawn, since an import may switch it on at
/// any time, whatever has become of the filter that was to make it fail.
#[inline]
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    if REFUSED.load(Ordering::Relaxed) {
        refuse_now(py)
    } else {
        Ok(())
    }
}

#[cold]
fn refuse_now(py: Python<'_>) -> PyResult<()> {
    if !shim::gil_enabled() {
        return Ok(());
    }
    let culprits = culprits(py)?;
    let why = if !cfg!(Py_GIL_DISABLED) {
        "this is not a free-threaded interpreter".to_owned()
    } else if culprits.is_empty() {
        "PYTHON_GIL or -X gil asked for it".to_owned()
    } else {
        format!("needed by {}", culprits.join(", "))
    };
    Err(PyRuntimeError::new_err(format!(
        "roving: fibers cannot run in parallel: the GIL is on ({why})"
    )))
}

/// The extension modules that need it.
fn culprits(py: Python<'_>) -> PyResult<Vec<String>> {
    let modules = py.import("sys")?.getattr("modules")?.call_method0("copy")?;
    let mut names = Vec::new();
    for item in modules.call_method0("items")?.try_iter()? {
        let (name, module): (String, Bound<'_, PyAny>) = item?.extract()?;
        if shim::needs_gil(&module) {
            names.push(name);
        }
    }
    Ok(names)
}
