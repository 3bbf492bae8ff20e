//! The module's functions.

use crate::wait::{self, Place};
use crate::{cancel, engine, entry, shim, timeout};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use roving_runtime::Metrics;
use std::time::Duration;

/// Wait for so many seconds; other fibers run meanwhile.
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub(crate) fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    let duration = timeout::duration(seconds, "seconds")?.unwrap_or(Duration::MAX);
    match wait::place()? {
        Place::Fiber => cancel::wait(|| roving_runtime::sleep(duration)),
        Place::Thread => py.import("time")?.call_method1("sleep", (seconds,)).map(drop),
    }
}

/// The fiber that runs here; None in a plain thread.
#[pyfunction]
pub(crate) fn current(py: Python<'_>) -> Option<Py<PyAny>> {
    let object = shim::current_object()?;
    // SAFETY: attached, and the running fiber's object is live.
    Some(unsafe { Bound::from_borrowed_ptr(py, object) }.unbind())
}

/// How long `run` sleeps between two looks at what still runs: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(20));

/// Call main(*args) in a fiber, wait for it and for all other fibers, and return its result.
///
/// With `workers`, on so many of them; the runtime must not run with another number already.
#[pyfunction]
#[pyo3(signature = (main, /, *args, workers=None))]
pub(crate) fn run(
    py: Python<'_>,
    main: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    workers: Option<usize>,
) -> PyResult<Py<PyAny>> {
    if matches!(wait::place()?, Place::Fiber) {
        return Err(PyRuntimeError::new_err(
            "run was called in a fiber: it is for plain threads; use spawn",
        ));
    }
    match workers {
        Some(0) => return Err(PyValueError::new_err("workers must be at least 1")),
        Some(workers) => engine::start_with(py, workers)?,
        None => {}
    }
    let fiber = entry::spawn_with(py, &main, &args)?;
    let result = fiber.call_method0(py, "join");
    let handle = engine::handle(py)?;
    let mut pause = LOOK.0;
    while handle.metrics().outstanding != 0 {
        py.detach(|| std::thread::sleep(pause));
        py.check_signals()?;
        pause = (pause * 2).min(LOOK.1);
    }
    result
}

/// Counters of the runtime, as a dict; empty before the first spawn.
#[pyfunction]
pub(crate) fn stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let stats = PyDict::new(py);
    let Some(handle) = engine::started() else {
        return Ok(stats);
    };
    let Metrics {
        workers,
        sleeping,
        outstanding,
        stacks_live,
        stacks_cached,
        stacks_leaked,
        stacks_mapped,
        ..
    } = handle.metrics();
    stats.set_item("workers", workers.len())?;
    stats.set_item("sleeping", sleeping)?;
    stats.set_item("fibers", outstanding)?;
    stats.set_item(
        "started",
        workers.iter().map(|worker| worker.started).sum::<u64>(),
    )?;
    stats.set_item(
        "live",
        workers.iter().map(|worker| worker.live).collect::<Vec<_>>(),
    )?;
    stats.set_item("turns", workers.iter().map(|worker| worker.turns).sum::<u64>())?;
    stats.set_item("stolen", workers.iter().map(|worker| worker.stolen).sum::<u64>())?;
    stats.set_item(
        "preemptions",
        workers.iter().map(|worker| worker.preempted).sum::<u64>(),
    )?;
    stats.set_item("gil", shim::gil_enabled())?;
    stats.set_item("stacks", stacks_live)?;
    stats.set_item("stacks_cached", stacks_cached)?;
    stats.set_item("stacks_leaked", stacks_leaked)?;
    stats.set_item("stacks_bytes", stacks_mapped)?;
    Ok(stats)
}
