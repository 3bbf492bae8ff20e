//! `roving.configure`.

use crate::{engine, gil, options, preempt, timeout};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// In nanoseconds.
static CANCEL_GRACE: AtomicU64 = AtomicU64::new(5_000_000_000);

/// What the runtime will be started with.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) workers: Option<usize>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) max_spares: Option<usize>,
    pub(crate) blocking_threads: Option<usize>,
}

static START: Mutex<Start> = Mutex::new(Start {
    workers: None,
    stack_size: None,
    max_spares: None,
    blocking_threads: None,
});

/// How long clean-up may wait while a cancellation is being handled.
pub(crate) fn cancel_grace() -> Duration {
    Duration::from_nanos(CANCEL_GRACE.load(Ordering::Relaxed))
}

pub(crate) fn start() -> Start {
    *START.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks a number.
pub(crate) fn count(value: Option<isize>, what: &str, from: usize, to: usize) -> PyResult<Option<usize>> {
    let Some(value) = value else { return Ok(None) };
    let count = usize::try_from(value)
        .ok()
        .filter(|count| (from..=to).contains(count));
    count.map(Some).ok_or_else(|| {
        PyValueError::new_err(format!(
            "{what} must be a number from {from} to {to}, and is {value}"
        ))
    })
}

/// Set how roving works. What is not named stays as it is.
///
/// `workers`: how many threads run fibers (default: the processors this process may use). `stack_size`: bytes of address
/// space of a fiber's stack (default 512 KiB). `max_spares`: how many more threads stand in for workers that sit in calls
/// that block (default 64). `blocking_threads`: how many threads roving.blocking may use (default 512). These four are for
/// before the first spawn: RuntimeError later. `cancel_grace`: for how many seconds a fiber may wait while it handles its
/// cancellation (default 5). `preempt`: for how many seconds a fiber may run while others wait for its worker, before it
/// is suspended in their favour; None or 0, as at first, for ever. `require_free_threading`: raise RuntimeError if the GIL
/// is on, and let no import switch it on: the import fails, with a message that names the module; if it goes on all the same,
/// every spawn raises RuntimeError from then on. Fibers that run already go on.
///
/// >>> roving.configure(cancel_grace=2.0, preempt=0.010)
#[pyfunction]
#[pyo3(
    signature = (*, workers=None, stack_size=None, max_spares=None, blocking_threads=None, cancel_grace=None,
                 preempt=preempt::Setting::Unchanged, require_free_threading=None),
    text_signature = "(*, workers=None, stack_size=None, max_spares=None, blocking_threads=None, cancel_grace=None, \
                      preempt=..., require_free_threading=None)"
)]
#[allow(clippy::too_many_arguments, reason = "they are keywords")]
pub(crate) fn configure(
    py: Python<'_>,
    workers: Option<isize>,
    stack_size: Option<isize>,
    max_spares: Option<isize>,
    blocking_threads: Option<isize>,
    cancel_grace: Option<f64>,
    preempt: preempt::Setting,
    require_free_threading: Option<bool>,
) -> PyResult<()> {
    let asked = Start {
        workers: count(workers, "workers", 1, 1024)?,
        stack_size: stack_size.map(options::stack_size).transpose()?,
        max_spares: count(max_spares, "max_spares", 0, 1024)?,
        blocking_threads: count(blocking_threads, "blocking_threads", 1, 1 << 16)?,
    };
    let grace = cancel_grace
        .map(|grace| timeout::duration(grace, "cancel_grace"))
        .transpose()?;
    if asked != Start::default() && engine::started().is_some() {
        return Err(PyRuntimeError::new_err(
            "the runtime has been started: configure it before the first spawn",
        ));
    }
    if let Some(required) = require_free_threading {
        gil::refuse(py, required)?;
    }
    preempt::set(preempt);
    if let Some(grace) = grace {
        let nanos = grace.and_then(|grace| u64::try_from(grace.as_nanos()).ok());
        CANCEL_GRACE.store(nanos.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    let mut start = START.lock().unwrap_or_else(PoisonError::into_inner);
    *start = Start {
        workers: asked.workers.or(start.workers),
        stack_size: asked.stack_size.or(start.stack_size),
        max_spares: asked.max_spares.or(start.max_spares),
        blocking_threads: asked.blocking_threads.or(start.blocking_threads),
    };
    Ok(())
}
