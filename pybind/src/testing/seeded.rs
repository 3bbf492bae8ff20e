//! `roving.testing.run`: a runtime of one worker whose turns a seed draws, with a clock that stands.
//!
//! It is made at the first call and kept. While `run` runs it takes the place of the ordinary one (`engine::change_places`), in
//! which nothing may move: all that spawns meanwhile spawns in it. The calling thread watches it (`rest::step`). At the
//! end all its fibers have ended, or it is given up.

use super::rest::{self, Found, Jump, Settings};
use crate::engine::{self, Process};
use crate::errors::Deadlock;
use crate::fiber::Fiber;
use crate::wait::{self, Place};
use crate::{clock as time, entry, fork, shim};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use roving_runtime::{Handle, Observer};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether turns are drawn, in this process.
static BY_CHANCE: AtomicBool = AtomicBool::new(false);
/// How often the calling thread looks at its signals.
const SLICE: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(1);
/// How long other fibers have to come to rest before, and those that are left to end after.
const PATIENCE: Duration = Duration::from_secs(2);

/// A place where another fiber could have gone on, had it another worker: goes on with another one, or does not, as the
/// seed has it. No lock may be held.
#[inline]
pub(crate) fn may_switch() {
    if BY_CHANCE.load(Ordering::Relaxed) {
        switch();
    }
}

#[cold]
fn switch() {
    if shim::is_worker() && shim::may_give_way() {
        roving_runtime::chance_to_switch();
    }
}

/// A number from the seed's generator, if there is one here.
pub(crate) fn chance() -> Option<u64> {
    BY_CHANCE
        .load(Ordering::Relaxed)
        .then(roving_runtime::chance)
        .flatten()
}

/// The seeded runtime in the place of the ordinary one.
struct Run {
    ordinary: &'static Process,
    process: &'static Process,
    /// See `fork::generation`.
    generation: u32,
    /// Fibers of the ordinary runtime, which are left alone.
    strangers: HashSet<u64>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // Forked in a signal handler: the child has none of all this.
            return;
        }
        BY_CHANCE.store(false, Ordering::Relaxed);
        let mut asked = self.process.testing.asked();
        asked.clocks.clear();
        asked.watched = false;
        drop(asked);
        self.process.handle().map(Handle::release_clock);
        time::released();
        engine::change_places(self.ordinary);
        RUNS.store(false, Ordering::Release);
    }
}

/// Whether somebody is in `run`.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Forgets the run. Called in the child of a fork.
pub(super) fn forget() {
    BY_CHANCE.store(false, Ordering::Relaxed);
    RUNS.store(false, Ordering::Relaxed);
}

impl Run {
    fn begin(py: Python<'_>, seed: u64) -> PyResult<Self> {
        if wait::place()? != Place::Thread {
            return Err(PyRuntimeError::new_err(
                "roving.testing.run was called in a fiber: it is for plain threads",
            ));
        }
        if RUNS.swap(true, Ordering::Acquire) {
            return Err(PyRuntimeError::new_err(
                "roving.testing.run runs already: one at a time",
            ));
        }
        let strangers = match ordinary_at_rest(py) {
            Ok(strangers) => strangers,
            Err(error) => {
                RUNS.store(false, Ordering::Release);
                return Err(error);
            }
        };
        let process = engine::seeded();
        let ordinary = engine::change_places(process);
        time::stopped();
        // From here on dropping it puts everything back.
        let run = Self {
            ordinary,
            process,
            generation: fork::generation(),
            strangers,
        };
        let handle = engine::handle(py)?;
        handle.stop_clock();
        time::look_again();
        handle.reseed(seed);
        let settings = Settings::here(py, Jump::AtRest, None)?;
        let mut asked = process.testing.asked();
        asked.clocks.push(settings);
        // It is watched from here.
        asked.watched = true;
        drop(asked);
        BY_CHANCE.store(true, Ordering::Relaxed);
        Ok(run)
    }

    fn handle(&self) -> &'static Handle {
        self.process.handle().expect("it has been started")
    }

    /// Waits until all fibers but daemons have ended. False when that never happens.
    fn watch(&self, py: Python<'_>, observer: &mut Observer) -> PyResult<bool> {
        let handle = self.handle();
        let mut found = Found::Motion;
        loop {
            // At rest: two counts that change are not compared.
            if handle.is_quiet() && self.only_daemons_are_left() {
                return Ok(true);
            }
            let slice = if found == Found::Outside { POLL } else { SLICE };
            py.detach(|| observer.wait(Some(Instant::now() + slice)));
            py.check_signals()?;
            found = rest::step(self.process, handle, found, || self.only_daemons_are_left());
            if found == Found::Stuck {
                return Ok(self.only_daemons_are_left());
            }
        }
    }

    /// Cancels all fibers that are left; false when some do not end.
    fn end(&self, py: Python<'_>, observer: &mut Observer) -> bool {
        let handle = self.handle();
        let deadline = Instant::now() + PATIENCE;
        let mut found = Found::Motion;
        self.process.testing.asked().clocks.truncate(1);
        while handle.metrics().outstanding != 0 {
            if Instant::now() >= deadline || self.cancel_all(py).is_err() {
                return false;
            }
            let slice = if found == Found::Outside { POLL } else { SLICE };
            py.detach(|| observer.wait(Some(Instant::now() + slice)));
            let before = handle.next_deadline();
            found = rest::step(self.process, handle, found, || false);
            // Shielded, and waiting for one another.
            if found == Found::Stuck && before.is_none() && handle.is_quiet() {
                return handle.metrics().outstanding == 0;
            }
        }
        true
    }

    fn only_daemons_are_left(&self) -> bool {
        self.handle().metrics().awaited == 0
    }

    /// Asks all fibers that have started to stop.
    fn cancel_all(&self, py: Python<'_>) -> PyResult<()> {
        for fiber in started(py)? {
            if !self.strangers.contains(&fiber.get().runtime_handle().id().get()) {
                fiber.get().cancel();
            }
        }
        Ok(())
    }
}

/// All fibers that have started and not ended.
fn started(py: Python<'_>) -> PyResult<Vec<Bound<'_, Fiber>>> {
    let list = PyList::empty(py);
    shim::dump(&list, false)?;
    list.iter()
        .map(|entry| Ok(entry.get_item(0)?.cast_into::<Fiber>()?))
        .collect()
}

/// Waits until nothing moves in the ordinary runtime; gives back which fibers are parked there.
fn ordinary_at_rest(py: Python<'_>) -> PyResult<HashSet<u64>> {
    let Some(handle) = engine::started() else {
        return Ok(HashSet::new());
    };
    let mut observer = handle.observe();
    let deadline = Instant::now() + PATIENCE;
    // A fiber that has been joined may be about to leave its worker.
    while !handle.is_quiet() {
        let changed = py.detach(|| observer.wait(Some(deadline)));
        py.check_signals()?;
        if !changed && !handle.is_quiet() {
            return Err(PyRuntimeError::new_err(
                "roving.testing.run needs the process to itself, and there are fibers that run: join or cancel them first",
            ));
        }
    }
    if handle.metrics().outstanding == 0 {
        return Ok(HashSet::new());
    }
    let fibers = started(py)?;
    Ok(fibers
        .iter()
        .map(|fiber| fiber.get().runtime_handle().id().get())
        .collect())
}

fn deadlock(py: Python<'_>) -> PyErr {
    let dump = py
        .import("roving._dump")
        .and_then(|module| module.call_method0("dump")?.extract::<String>());
    let dump = dump.unwrap_or_else(|error| error.to_string());
    Deadlock::new_err(format!(
        "all fibers wait, and nobody can wake any of them:\n\n{}",
        dump.trim_end()
    ))
}

/// Call main(*args) in a fiber that a seed schedules: see roving.testing.run.
#[pyfunction]
#[pyo3(name = "_run_seeded")]
pub(crate) fn run_seeded(
    py: Python<'_>,
    main: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    seed: u64,
) -> PyResult<Py<PyAny>> {
    let run = Run::begin(py, seed)?;
    let mut observer = run.handle().observe();
    let fiber = entry::spawn_with(py, &main, &args)?;
    let watched = run
        .watch(py, &mut observer)
        .and_then(|ended| if ended { Ok(()) } else { Err(deadlock(py)) });
    if !run.end(py, &mut observer) {
        let process = run.process;
        drop(run);
        engine::give_up(py, process);
        watched?;
        return Err(PyRuntimeError::new_err(
            "there are fibers that do not end when they are cancelled",
        ));
    }
    drop(run);
    watched?;
    fiber.call_method0(py, "join")
}
