//! The job store (`roving_store`) as Python sees it: what `roving.tasks` is built on.
//!
//! | what | where |
//! |---|---|
//! | the store's calls | `store.rs`, those that manage it in `manage.rs` |
//! | how a call waits for its end | `call.rs` |
//! | what happens in the store: who is told, who waits for a job | `watch.rs` |
//! | jobs and what they take, from and to dicts | `jobs.rs`, `convert.rs` |
//! | what goes wrong | `errors.rs` |
//!
//! The store's threads never attach. What they call, a call's `Done` and a watch's listener, stores Rust values and wakes; the
//! objects are made by whoever waited, attached. Its locks, the memory store's above all, are held by attached threads too,
//! for microseconds, with no call into Python and no park under them.

mod call;
mod convert;
mod errors;
mod jobs;
mod manage;
mod store;
mod watch;

use pyo3::prelude::*;

/// Adds the classes to the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<store::JobStore>()?;
    module.add_class::<manage::Admin>()?;
    module.add_class::<store::Attempt>()?;
    module.add_class::<store::ManualClock>()?;
    module.add_class::<watch::Watch>()?;
    errors::add_to(module)
}
