//! The module's functions.

use crate::fiber::Fiber;
use crate::wait::{self, Place};
use crate::{deadlock, engine, entry, options, shim, testing, timeout};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use roving_runtime::Metrics;
use std::time::Duration;

/// Wait for so many seconds; other fibers run meanwhile.
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub(crate) fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    let duration = timeout::duration(seconds, "seconds")?.unwrap_or(Duration::MAX);
    wait::sleep(py, duration)
}

/// Raise Cancelled if this fiber, or the block it is in, has been cancelled or is out of time; else do nothing.
///
/// For long calculations, which wait nowhere.
#[pyfunction]
pub(crate) fn checkpoint(py: Python<'_>) -> PyResult<()> {
    if matches!(wait::place()?, Place::Thread) {
        py.check_signals()?;
    }
    wait::checkpoint(py)
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

/// Call main(*args) in a fiber, wait for it and for all other fibers but daemons, and return its result.
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
    let _waits = deadlock::ThreadWaits::new();
    while handle.metrics().outstanding > options::daemons() {
        let noted = testing::wait_of_run();
        py.detach(|| std::thread::sleep(pause));
        drop(noted);
        py.check_signals()?;
        if pause == LOOK.1 {
            deadlock::look(py)?;
        }
        pause = (pause * 2).min(LOOK.1);
    }
    result
}

/// All fibers that have started and not ended.
#[pyfunction]
pub(crate) fn fibers(py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
    let list = PyList::empty(py);
    shim::dump(&list, false)?;
    list.iter().map(|entry| Ok(entry.get_item(0)?.unbind())).collect()
}

/// For each fiber that has started and not ended: it, its state ("running" or "parked"), what it waits for, and its calls
/// as (code, line), the innermost first.
#[pyfunction]
pub(crate) fn _dump(py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
    let list = PyList::empty(py);
    shim::dump(&list, true)?;
    let entries = list.iter().map(|entry| {
        let fiber = entry.get_item(0)?.cast_into::<Fiber>()?;
        let runs = entry.get_item(1)?.is_truthy()?;
        let why = fiber.get().why();
        let state = match (runs, why) {
            (true, _) => "running",
            (false, "") => "ready",
            (false, _) => "parked",
        };
        let calls = entry.get_item(2)?;
        Ok((fiber, state, why, calls).into_pyobject(py)?.into_any().unbind())
    });
    entries.collect()
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
        blocking,
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
    stats.set_item("spares", workers.iter().filter(|worker| worker.resting).count())?;
    stats.set_item("blocked", workers.iter().filter(|worker| worker.blocked).count())?;
    let delay = workers
        .iter()
        .map(|worker| worker.ready_delay)
        .max()
        .unwrap_or_default();
    stats.set_item("ready_delay", delay.as_secs_f64())?;
    stats.set_item("daemons", options::daemons())?;
    stats.set_item("blocking_threads", blocking.threads)?;
    stats.set_item("blocking_queued", blocking.queued)?;
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
