//! The Python extension module `roving._roving`: the Python side of the green threads, over nothing but the
//! public interface of [`roving_runtime`] and a C shim, which alone touches the interpreter's thread state.
//!
//! `README.md` beside this crate's manifest describes the protocol of a switch. This file only registers.

mod blocked;
mod blocking;
mod cancel;
mod channel;
mod clock;
mod config;
mod deadlock;
mod engine;
mod entry;
mod errors;
mod fiber;
mod fork;
mod functions;
mod gil;
mod guards;
mod held;
mod hooks;
mod io;
mod locks;
mod native;
mod options;
mod preempt;
mod scope;
mod seams;
mod shim;
mod sync;
mod tasks;
mod testing;
mod thread_locals;
mod timeout;
mod wait;
mod wsgi;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _roving(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    shim::check(py)?;
    module.add_class::<fiber::Fiber>()?;
    module.add_class::<errors::UnjoinedFailure>()?;
    module.add_class::<options::Options>()?;
    module.add_class::<channel::Channel>()?;
    module.add_class::<channel::RecvOp>()?;
    module.add_class::<channel::SendOp>()?;
    module.add_class::<sync::condition::Condition>()?;
    module.add_class::<sync::event::Event>()?;
    module.add_class::<sync::lock::Lock>()?;
    module.add_class::<sync::rlock::RLock>()?;
    module.add_class::<sync::semaphore::BoundedSemaphore>()?;
    module.add_class::<sync::semaphore::Semaphore>()?;
    module.add_class::<scope::children::Scope>()?;
    module.add_class::<scope::timeout::Timeout>()?;
    module.add_class::<scope::shield::Shield>()?;
    module.add_class::<testing::Clock>()?;
    module.add("Closed", py.get_type::<errors::Closed>())?;
    module.add("Deadlock", py.get_type::<errors::Deadlock>())?;
    module.add(
        "RovingInternalError",
        py.get_type::<errors::RovingInternalError>(),
    )?;
    module.add("WouldBlock", py.get_type::<errors::WouldBlock>())?;
    module.add("Cancelled", py.get_type::<errors::Cancelled>())?;
    module.add("FiberCancelled", py.get_type::<errors::FiberCancelled>())?;
    entry::add_to(module)?;
    module.add_function(wrap_pyfunction!(blocking::blocking, module)?)?;
    module.add_function(wrap_pyfunction!(blocking::wait_readable, module)?)?;
    module.add_function(wrap_pyfunction!(blocking::wait_writable, module)?)?;
    module.add_function(wrap_pyfunction!(config::configure, module)?)?;
    module.add_function(wrap_pyfunction!(functions::_dump, module)?)?;
    module.add_function(wrap_pyfunction!(functions::_join_fibers, module)?)?;
    module.add_function(wrap_pyfunction!(functions::fibers, module)?)?;
    module.add_function(wrap_pyfunction!(options::options, module)?)?;
    module.add_function(wrap_pyfunction!(channel::select::select, module)?)?;
    module.add_function(wrap_pyfunction!(scope::timeout::move_on_after, module)?)?;
    module.add_function(wrap_pyfunction!(scope::children::scope, module)?)?;
    module.add_function(wrap_pyfunction!(scope::shield::shield, module)?)?;
    module.add_function(wrap_pyfunction!(scope::timeout::timeout, module)?)?;
    module.add_function(wrap_pyfunction!(functions::checkpoint, module)?)?;
    module.add_class::<preempt::NoPreempt>()?;
    module.add_function(wrap_pyfunction!(preempt::_call_interruptible, module)?)?;
    module.add_function(wrap_pyfunction!(preempt::_interrupt, module)?)?;
    module.add("SoftTimeout", py.get_type::<errors::SoftTimeout>())?;
    module.add_function(wrap_pyfunction!(functions::sleep, module)?)?;
    module.add_function(wrap_pyfunction!(functions::current, module)?)?;
    module.add_function(wrap_pyfunction!(functions::run, module)?)?;
    module.add_function(wrap_pyfunction!(functions::stats, module)?)?;
    module.add_function(wrap_pyfunction!(errors::excepthook, module)?)?;
    module.add_function(wrap_pyfunction!(engine::stop, module)?)?;
    seams::add_to(module)?;
    tasks::add_to(module)?;
    wsgi::add_to(module)?;
    module.add_function(wrap_pyfunction!(fork::after_in_parent, module)?)?;
    module.add_function(wrap_pyfunction!(io::_patch, module)?)?;
    module.add_function(wrap_pyfunction!(io::_patches, module)?)?;
    module.add_function(wrap_pyfunction!(clock::_monotonic_ns, module)?)?;
    module.add_function(wrap_pyfunction!(testing::run_seeded, module)?)?;
    module.add_function(wrap_pyfunction!(testing::wait_all_parked, module)?)?;
    Ok(())
}
