//! The Python extension module `roving._roving`: the Python side of the green threads, over nothing but the
//! public interface of [`roving_runtime`] and a C shim, which alone touches the interpreter's thread state.
//!
//! `README.md` beside this crate's manifest describes the protocol of a switch. This file only registers.

mod cancel;
mod config;
mod engine;
mod entry;
mod errors;
mod fiber;
mod functions;
mod gil;
mod held;
mod hooks;
mod preempt;
mod shim;
mod timeout;
mod wait;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _roving(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    shim::check(py)?;
    module.add_class::<fiber::Fiber>()?;
    module.add_class::<errors::UnjoinedFailure>()?;
    module.add_class::<preempt::NoPreempt>()?;
    module.add("Cancelled", py.get_type::<errors::Cancelled>())?;
    module.add("FiberCancelled", py.get_type::<errors::FiberCancelled>())?;
    entry::add_to(module)?;
    module.add_function(wrap_pyfunction!(config::configure, module)?)?;
    module.add_function(wrap_pyfunction!(functions::sleep, module)?)?;
    module.add_function(wrap_pyfunction!(functions::current, module)?)?;
    module.add_function(wrap_pyfunction!(functions::run, module)?)?;
    module.add_function(wrap_pyfunction!(functions::stats, module)?)?;
    module.add_function(wrap_pyfunction!(errors::excepthook, module)?)?;
    module.add_function(wrap_pyfunction!(engine::stop, module)?)?;
    Ok(())
}
