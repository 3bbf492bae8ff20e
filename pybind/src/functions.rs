//! The module's functions.

use crate::errors::{Cancelled, Deadlock};
use crate::fiber::Fiber;
use crate::wait::{self, Place};
use crate::{blocked, config, engine, entry, shim, timeout};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use roving_runtime::Metrics;
use std::time::Duration;

/// Wait for so many seconds; other fibers run meanwhile.
///
/// Of 0 seconds: let others run, as yield_now. Raises ValueError for a negative time, and Cancelled as every wait does.
///
/// >>> roving.sleep(0.01)
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub(crate) fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    let duration = timeout::duration(seconds, "seconds")?.unwrap_or(Duration::MAX);
    wait::sleep(py, duration)
}

/// Raise Cancelled if this fiber, or the block it is in, has been cancelled or is out of time; else do nothing.
///
/// For long calculations, which wait nowhere. Others do not run meanwhile: for that there is yield_now.
///
/// >>> roving.checkpoint()
#[pyfunction]
pub(crate) fn checkpoint(py: Python<'_>) -> PyResult<()> {
    if matches!(wait::place()?, Place::Thread) {
        py.check_signals()?;
    }
    wait::checkpoint(py)
}

/// The fiber that runs here; None in a plain thread.
///
/// >>> roving.spawn(lambda: roving.current().id > 0).join()
/// True
#[pyfunction]
pub(crate) fn current(py: Python<'_>) -> Option<Py<PyAny>> {
    let object = shim::current_object()?;
    // SAFETY: attached, and the running fiber's object is live.
    Some(unsafe { Bound::from_borrowed_ptr(py, object) }.unbind())
}

/// Call main(*args) in a fiber, wait for it and for all other fibers but daemons, and return its result.
///
/// With `workers`, on so many of them: RuntimeError if the runtime runs with another number already. What main raises is
/// raised, after the others have ended. Ctrl-C (or whatever else a signal handler raises) cancels main; run goes on to wait
/// for all to clean up and end, then raises it. A second one is raised at once. For plain threads: RuntimeError in a fiber.
/// Raises Deadlock when everybody waits for one another.
///
/// >>> roving.run(pow, 2, 10)
/// 1024
#[pyfunction]
#[pyo3(signature = (main, /, *args, workers=None))]
pub(crate) fn run(
    py: Python<'_>,
    main: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    workers: Option<isize>,
) -> PyResult<Py<PyAny>> {
    if wait::place()? != Place::Thread {
        return Err(PyRuntimeError::new_err(
            "run was called in a fiber: it is for plain threads; use spawn",
        ));
    }
    if !main.is_callable() {
        let kind = main.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "run takes a callable and its arguments, and {kind} is not callable"
        )));
    }
    if let Some(workers) = config::count(workers, "workers", 1, 1024)? {
        engine::start_with(py, workers)?;
    }
    let fiber = entry::spawn_with(py, &main, &args)?;
    let waited = wait::join(py, fiber.get().runtime_handle(), None);
    if waited.is_err() {
        // A signal's handler, a block around us, a deadlock: whatever it is, main is not wanted any more.
        fiber.get().cancel();
    }
    // The block around us that is to be left would end this wait as well, and main could not clean up.
    let regardless = matches!(&waited, Err(error) if error.is_instance_of::<Cancelled>(py));
    let rested = wait::join_all(py, engine::handle(py)?, regardless);
    // The reason why main was cancelled comes before a deadlock of those that are left.
    if let (Err(first), Err(second)) = (&waited, &rested)
        && second.is_instance_of::<Deadlock>(py)
    {
        return Err(first.clone_ref(py));
    }
    rested?;
    waited?;
    fiber.call_method0(py, "join")
}

/// Wait, in a plain thread, for all fibers but daemons.
#[pyfunction]
pub(crate) fn _join_fibers(py: Python<'_>) -> PyResult<()> {
    match engine::started() {
        Some(handle) => wait::join_all(py, handle, false),
        None => Ok(()),
    }
}

/// All fibers that have started and not ended, as a list in no order.
///
/// Those that have not started yet are not listed, since a list of them would cost every spawn: `stats()["fibers"]` counts
/// them, too. All threads that run Python code stand still for the moment it takes to look (100 ms for 100,000 fibers).
///
/// >>> [fiber.name for fiber in roving.fibers()]
/// []
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
///
/// `workers`: threads that run fibers, spares included. `sleeping`: those with nothing to do. `spares`: those that start
/// nothing new. `blocked`: those that sit in a call that blocks. `live`: for each, how many fibers it has that will want it
/// again. `turns`: how often they ran something.
///
/// `fibers`: those that have not ended, started or not. `daemons`: how many of them run does not wait for. `started`,
/// `stolen`, `preemptions`: how often a fiber was started, was taken from another worker, was suspended at the end of its
/// quantum. `ready_delay`: how many seconds a fiber waited for its turn, when last measured, at the slowest worker. `held_up`:
/// the longest that one can have waited because a call blocked its worker, or another fiber kept it.
///
/// `blocking_calls`: how many calls were found blocking a worker for 10 ms or more. `blocking_places`: where they were, as
/// far as roving looked (it does fifty times a second at most): for each its line, how often, how many seconds in all, and
/// the longest.
///
/// `blocking_threads`, `blocking_queued`: threads for roving.blocking, and calls that wait for one. `gil`: whether the
/// GIL is on. `stacks`, `stacks_cached`, `stacks_leaked`: stacks in use, kept for the next fibers, lost with fibers that were
/// abandoned at exit. `stacks_bytes`: their address space.
///
/// >>> roving.stats().get("gil")
/// False
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
        awaited,
        stacks_live,
        stacks_cached,
        stacks_leaked,
        stacks_mapped,
        blocking,
        ..
    } = handle.metrics();
    let workers: Vec<_> = workers.into_iter().filter(|worker| !worker.vacant).collect();
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
    let held_up = workers.iter().map(|worker| worker.held_up).max();
    stats.set_item("held_up", held_up.unwrap_or_default().as_secs_f64())?;
    stats.set_item("daemons", outstanding.saturating_sub(awaited))?;
    stats.set_item("blocking_threads", blocking.threads)?;
    stats.set_item("blocking_queued", blocking.queued)?;
    stats.set_item(
        "preemptions",
        workers.iter().map(|worker| worker.preempted).sum::<u64>(),
    )?;
    blocked::add_to(&stats)?;
    stats.set_item("gil", shim::gil_enabled())?;
    stats.set_item("stacks", stacks_live)?;
    stats.set_item("stacks_cached", stacks_cached)?;
    stats.set_item("stacks_leaked", stacks_leaked)?;
    stats.set_item("stacks_bytes", stacks_mapped)?;
    Ok(stats)
}
