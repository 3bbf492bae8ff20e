//! Calls that block a worker: which, where, how often and for how long. `stats()` tells; the first long one of each place is
//! logged.
//!
//! The monitor finds them. To see where one is it stops the world, as a dump does; so it looks at most so often, and of
//! calls in between only the number is known.

use crate::engine::{self, Process};
use crate::shim::{self, WorkerState};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// So many places are told apart.
const PLACES: usize = 200;
/// A call that blocks for so long is logged.
const LONG: Duration = Duration::from_millis(100);
/// So many calls of its stack are kept.
const DEEP: usize = 10;

/// Where something blocks: the line, the innermost one, and how it came there.
struct Place {
    file: String,
    line: i32,
    function: String,
    /// One line a call, the outermost first.
    stack: Vec<String>,
    times: u64,
    total: Duration,
    longest: Duration,
    logged: bool,
}

/// What a worker is in.
#[derive(Clone, Copy, Default)]
struct Current {
    turn: u64,
    /// Counted up to here.
    age: Duration,
    place: Option<usize>,
}

/// What is known of one process's blocking calls.
pub(crate) struct Blocked {
    places: Vec<Place>,
    workers: Vec<Option<Current>>,
    times: u64,
    next_look: Option<Instant>,
}

impl Blocked {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            workers: Vec::new(),
            times: 0,
            next_look: None,
        }
    }

    /// Notes that a worker blocks, in this turn, for so long; whether somebody should look where.
    fn note(&mut self, worker: usize, turn: u64, age: Duration) -> bool {
        if self.workers.len() <= worker {
            self.workers.resize(worker + 1, None);
        }
        let slot = &mut self.workers[worker];
        let is_new = slot.is_none_or(|current| current.turn != turn);
        if is_new {
            self.times += 1;
            *slot = Some(Current {
                turn,
                ..Current::default()
            });
        }
        let current = slot.get_or_insert_default();
        if let Some(place) = current.place {
            let place = &mut self.places[place];
            place.total += age - current.age;
            place.longest = place.longest.max(age);
            current.age = age;
            return false;
        }
        let now = Instant::now();
        let look = self.next_look.is_none_or(|at| at <= now);
        if look {
            self.next_look = Some(now + PAUSE);
        }
        look
    }

    /// Notes where.
    fn found(&mut self, worker: usize, stack: Vec<(String, i32, String)>) {
        let Some((file, line, function)) = stack.first().cloned() else {
            return;
        };
        let known = self
            .places
            .iter()
            .position(|place| place.line == line && place.file == file && place.function == function);
        let index = match known {
            Some(index) => index,
            None if self.places.len() < PLACES => {
                let lines = stack.iter().take(DEEP).rev();
                self.places.push(Place {
                    file,
                    line,
                    function,
                    stack: lines
                        .map(|(file, line, function)| format!("{file}:{line} in {function}"))
                        .collect(),
                    times: 0,
                    total: Duration::ZERO,
                    longest: Duration::ZERO,
                    logged: false,
                });
                self.places.len() - 1
            }
            None => return,
        };
        self.places[index].times += 1;
        if let Some(current) = &mut self.workers[worker] {
            current.place = Some(index);
        }
    }

    /// What is to be logged of what this worker is in: once for each place.
    fn due_for_log(&mut self, worker: usize) -> Option<(Vec<String>, f64)> {
        let place = &mut self.places[self.workers[worker]?.place?];
        if place.logged || place.longest < LONG {
            return None;
        }
        place.logged = true;
        Some((place.stack.clone(), place.longest.as_secs_f64()))
    }
}

/// How many there were. Called on any thread, attached or not: the lock is held for a few instructions.
pub(crate) fn count(process: &Process) -> u64 {
    process.with_blocked(|blocked| blocked.times)
}

/// A worker of this process sits in a blocking call, for so long. Called by its monitor, each millisecond.
pub(crate) fn note(process: &Process, worker: usize, turn: u64, age: Duration) {
    if process.is_stopping() || shim::gil_enabled() {
        return;
    }
    // One that blocks and keeps the interpreter would hold up whoever stops the world.
    if process.with_blocked(|blocked| blocked.note(worker, turn, age))
        && process.worker_state(worker) == WorkerState::Detached
    {
        let Some(record) = process.worker_record(worker) else {
            return;
        };
        let stack = attached(|py| calls(py, record));
        if let Some(stack) = stack {
            process.with_blocked(|blocked| blocked.found(worker, stack));
        }
    }
    // In a run by a seed a handler of the log would be one more thing from outside.
    if !process.is_seeded()
        && let Some((stack, seconds)) = process.with_blocked(|blocked| blocked.due_for_log(worker))
    {
        log(process, stack, seconds);
    }
}

/// Calls `f` attached. On the monitor's thread, which holds no lock.
fn attached<R>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _attached = shim::monitor_attach()?;
    // SAFETY: just attached, until the guard goes.
    Some(f(unsafe { Python::assume_attached() }))
}

/// The calls of the fiber that a worker runs, the innermost first; none if it runs none.
fn calls(py: Python<'_>, worker: *mut shim::RvWorker) -> Vec<(String, i32, String)> {
    let calls = shim::worker_calls(py, worker).and_then(|calls| {
        let calls = calls.iter().map(|call| {
            let (code, line): (Bound<'_, PyAny>, i32) = call.extract()?;
            let file = code.getattr("co_filename")?.extract()?;
            Ok((file, line, code.getattr("co_qualname")?.extract()?))
        });
        calls.collect()
    });
    calls.unwrap_or_else(|error: PyErr| {
        error.write_unraisable(py, None);
        Vec::new()
    })
}

/// Has it logged, on a thread made for calls that block: handlers of the log may, and workers and monitor must not.
fn log(process: &Process, stack: Vec<String>, seconds: f64) {
    let Some(handle) = process.handle() else { return };
    handle.spawn_blocking(move || {
        let _ = Python::try_attach(|py| {
            let report = py
                .import("roving._blocked")
                .and_then(|module| module.getattr("report"));
            if let Err(error) = report.and_then(|report| report.call1((stack, seconds))) {
                error.write_unraisable(py, None);
            }
        });
    });
}

/// Adds what is known to `stats`.
pub(crate) fn add_to(stats: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = stats.py();
    let (times, places) = engine::process().with_blocked(|blocked| {
        let places = blocked.places.iter().map(|place| {
            let call = format!("{}:{} in {}", place.file, place.line, place.function);
            (call, place.times, place.total, place.longest)
        });
        (blocked.times, places.collect::<Vec<_>>())
    });
    let list = PyList::empty(py);
    for (call, times, total, longest) in places {
        let entry = PyDict::new(py);
        entry.set_item("call", call)?;
        entry.set_item("times", times)?;
        entry.set_item("seconds", total.as_secs_f64())?;
        entry.set_item("longest", longest.as_secs_f64())?;
        list.append(entry)?;
    }
    stats.set_item("blocking_calls", times)?;
    stats.set_item("blocking_places", list)
}
