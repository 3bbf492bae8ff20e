//! What happens when nothing moves.

use super::State;
use crate::engine::Process;
use crate::wait::Waiter;
use pyo3::prelude::*;
use roving_runtime::{Fiber, Handle, PlainThread};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the waiter of a `wait_all_parked` is told.
pub(super) const QUIET: u32 = 0;
pub(super) const TOO_LATE: u32 = 1;

/// When a clock moves on by itself.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Jump {
    Never,
    /// When nothing moves.
    AtRest,
    /// When no fiber has moved for so long, whatever goes on outside.
    After(Duration),
}

/// A clock that stands.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) jump: Jump,
    /// The plain thread that stopped it: it must wait in a call of roving's before the clock moves.
    pub(super) owner: Option<u64>,
    /// Threads that were there before, and have nothing to do with it.
    pub(super) strangers: Arc<HashSet<u64>>,
    /// How many threads of Python's making there were.
    pub(super) threads: i64,
}

impl Settings {
    /// For a clock that is stopped here.
    pub(super) fn here(py: Python<'_>, jump: Jump, owner: Option<u64>) -> PyResult<Self> {
        let frames = py.import("sys")?.call_method0("_current_frames")?;
        let strangers = frames.try_iter()?.map(|thread| thread?.extract::<u64>());
        Ok(Self {
            jump,
            owner,
            strangers: Arc::new(strangers.collect::<PyResult<_>>()?),
            threads: count(py)?,
        })
    }
}

/// How many threads of Python's making there are, the main thread not counted.
fn count(py: Python<'_>) -> PyResult<i64> {
    py.import("_thread")?.call_method0("_count")?.extract()
}

/// What ends a plain thread's wait.
pub(super) enum Until {
    Chosen(Arc<Waiter>),
    Ended(Fiber),
    /// All fibers but daemons have ended.
    Drained,
}

/// A plain thread in a wait of roving's.
pub(super) struct ThreadWait {
    /// The number Python knows it by.
    pub(super) thread: u64,
    pub(super) wakes: PlainThread,
    pub(super) deadline: Option<Instant>,
    pub(super) until: Until,
    /// It was woken for something else.
    pub(super) disturbed: bool,
}

impl ThreadWait {
    /// Whether it is going to run.
    fn moves(&self, handle: &Handle, now: Instant) -> bool {
        self.disturbed
            || self.deadline.is_some_and(|at| at <= now)
            || match &self.until {
                Until::Chosen(waiter) => waiter.is_over(),
                Until::Ended(fiber) => fiber.is_done(),
                Until::Drained => handle.metrics().awaited == 0,
            }
    }
}

/// What [`step`] found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Found {
    /// Something moves, or was set in motion: whoever watches is told when that is over.
    Motion,
    /// Something moves of which nobody tells: look again soon.
    Outside,
    /// No fiber moves, nor has since this moment, and the clock waits to see that last. With the turns of all workers until then.
    Since(Instant, u64),
    /// Nothing will ever move again, or all is over.
    Stuck,
}

/// Does what is to be done if nothing moves. By the one thread that watches, with what it found last. Once all is `over` the
/// clock stays where it is: only here is it known that nothing moves, and a look before this may have come too early.
pub(super) fn step(process: &Process, handle: &Handle, before: Found, over: impl FnOnce() -> bool) -> Found {
    if !handle.is_quiet() {
        return Found::Motion;
    }
    let settings = {
        let mut asked = process.testing.asked();
        let waiters = std::mem::take(&mut asked.waiters);
        if !waiters.is_empty() {
            // Under the lock: who gives up takes itself off the list, or finds itself chosen.
            let chosen = waiters.iter().filter(|(waiter, _)| waiter.choose(QUIET));
            let chosen: Vec<_> = chosen.map(|(waiter, _)| Arc::clone(waiter)).collect();
            drop(asked);
            chosen.iter().for_each(|waiter| waiter.wake());
            return Found::Motion;
        }
        asked.clocks.last().cloned()
    };
    let Some(settings) = settings else {
        return Found::Motion;
    };
    let lenient = matches!(settings.jump, Jump::After(_));
    if !lenient && handle.awaits_outside() {
        return Found::Outside;
    }
    let Some(rest) = look_at_threads(&process.testing, handle, &settings) else {
        return Found::Outside;
    };
    // Before the threads were looked at, one of them may have spawned a fiber, and waited.
    if !handle.is_quiet() {
        return Found::Motion;
    }
    match settings.jump {
        Jump::AtRest | Jump::Never if !rest.is_complete => return Found::Outside,
        Jump::After(time) => {
            let turns = handle.metrics().workers.iter().map(|worker| worker.turns).sum();
            let since = match before {
                Found::Since(since, then) if then == turns => since,
                _ => Instant::now(),
            };
            if since.elapsed() < time {
                return Found::Since(since, turns);
            }
        }
        _ => {}
    }
    if over() {
        return Found::Stuck;
    }
    let fibers = handle.next_deadline();
    let next = match (fibers, rest.deadline) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    match next {
        Some(at) if settings.jump != Jump::Never => advance(process, handle, at),
        _ => return Found::Stuck,
    }
    Found::Motion
}

/// Moves the clock on, and wakes whoever waited for that.
pub(super) fn advance(process: &Process, handle: &Handle, to: Instant) {
    handle.advance_clock(to);
    for wait in process.testing.threads().iter() {
        if wait.deadline.is_some_and(|at| at <= to) {
            wait.wakes.unpark();
        }
    }
}

/// Plain threads that wait.
struct Rest {
    /// When the first of them is to wake.
    deadline: Option<Instant>,
    /// Whether all that take part wait.
    is_complete: bool,
}

/// Those of them that are noted, at one moment.
#[derive(PartialEq)]
struct Waiting {
    deadline: Option<Instant>,
    /// Whether the one that stopped the clock is there.
    owner: bool,
    /// The others, without strangers.
    taking_part: HashSet<u64>,
}

/// `None` if one of those that are noted is about to run.
fn waiting(state: &State, handle: &Handle, settings: &Settings) -> Option<Waiting> {
    let waits = state.threads();
    let now = handle.now();
    if waits.iter().any(|wait| wait.moves(handle, now)) {
        return None;
    }
    let owner = settings.owner;
    let others = waits
        .iter()
        .map(|wait| wait.thread)
        .filter(|thread| Some(*thread) != owner && !settings.strangers.contains(thread));
    Some(Waiting {
        deadline: waits.iter().filter_map(|wait| wait.deadline).min(),
        owner: owner.is_none_or(|owner| waits.iter().any(|wait| wait.thread == owner)),
        taking_part: others.collect(),
    })
}

/// `None` if one of those that are noted is about to run.
fn look_at_threads(state: &State, handle: &Handle, settings: &Settings) -> Option<Rest> {
    let before = waiting(state, handle, settings)?;
    // A thread that is started after they were looked at was started by one that runs, and is counted. One that has ended
    // before it was counted may have woken somebody first: so they are looked at again. When the interpreter is exiting
    // nobody is sure of anything any more.
    let threads = Python::try_attach(|py| count(py).ok()).flatten();
    let after = waiting(state, handle, settings)?;
    let all = threads.is_some_and(|threads| threads - settings.threads <= after.taking_part.len() as i64);
    Some(Rest {
        is_complete: all && after.owner && before == after,
        deadline: after.deadline,
    })
}
