//! `Deadlock`: everybody waits for one another.
//!
//! Counted are fibers and plain threads in waits without an end that only another of them can end. A plain thread that
//! joins looks from time to time: if a few times in a row all fibers there are, and all plain threads, were in such waits, and
//! every worker slept, and none has done anything in between, nobody will ever wake anybody.
//!
//! *What may be under way meanwhile.* A fiber that was woken is in its worker's queue, and whoever put it there has marked that
//! worker as awake first. A plain thread that was woken and has not run yet still counts as waiting: hence several looks,
//! far apart. Whoever sleeps, waits for a descriptor, a call on the pool or one of CPython's own locks, or has a
//! deadline, does not count, and so keeps the sums apart; so does any other Python thread. A signal handler might wake
//! somebody: with one installed there are no deadlocks, the default one for Ctrl-C excepted.

use crate::engine;
use crate::errors::Deadlock;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One count a worker, written by that worker alone: this happens at every park. Never freed.
static FIBERS: Mutex<Vec<&'static AtomicI64>> = Mutex::new(Vec::new());
static THREADS: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OURS: &'static AtomicI64 = {
        let ours: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(0)));
        FIBERS.lock().unwrap_or_else(PoisonError::into_inner).push(ours);
        ours
    };
}

/// Notes that a fiber of this worker begins such a wait, or ends it.
#[inline]
pub(crate) fn fiber_waits(more: i64) {
    OURS.with(|ours| ours.store(ours.load(Ordering::Relaxed) + more, Ordering::Relaxed));
}

fn fibers() -> i64 {
    let counts = FIBERS.lock().unwrap_or_else(PoisonError::into_inner);
    counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

/// A plain thread in such a wait.
pub(crate) struct ThreadWaits;

impl ThreadWaits {
    pub(crate) fn new() -> Self {
        THREADS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for ThreadWaits {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often in a row a thread must find everybody waiting.
const LOOKS: u32 = 4;
/// Between two looks: while it looks like a deadlock, or at first; and at most.
const PACE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The looks of one wait.
pub(crate) struct Lookout {
    pace: Duration,
    /// What was seen last, how often, and when: the turns of all workers.
    seen: (u64, u32),
    last: Instant,
}

impl Lookout {
    pub(crate) fn new() -> Self {
        Self {
            pace: PACE.0,
            seen: (0, 0),
            last: Instant::now(),
        }
    }

    /// When to look next.
    pub(crate) fn pace(&self) -> Duration {
        self.pace
    }

    /// Raises `Deadlock` if there is one. By a plain thread in a wait without an end, when it has woken.
    pub(crate) fn look(&mut self, py: Python<'_>) -> PyResult<()> {
        // It may have been woken by something else, many times in a row.
        if self.last.elapsed() < self.pace {
            return Ok(());
        }
        self.last = Instant::now();
        let Some(handle) = engine::started() else {
            return Ok(());
        };
        let metrics = handle.metrics();
        let turns = metrics.workers.iter().map(|worker| worker.turns).sum::<u64>();
        let waiting = fibers();
        let stuck = metrics.outstanding != 0
            && i64::try_from(metrics.outstanding) == Ok(waiting)
            && metrics.asleep
            && metrics.blocking.queued == 0
            && metrics.blocking.threads == metrics.blocking.idle
            && threads(py)? == THREADS.load(Ordering::Relaxed)
            && !handles_signals(py)?;
        let (before, times) = self.seen;
        let times = match stuck {
            true if before == turns => times + 1,
            true => 1,
            false => 0,
        };
        self.seen = (turns, times);
        self.pace = if stuck {
            PACE.0
        } else {
            (self.pace * 2).min(PACE.1)
        };
        if times < LOOKS {
            return Ok(());
        }
        let text = format!(
            "all {waiting} fibers, and all threads, wait for one another, and nobody can wake any of them; \
             roving.dump() tells for what"
        );
        Err(Deadlock::new_err(text))
    }
}

/// Forgets the parent's waits. Called in the child of a fork, which has one thread, and may have none of the others' locks.
pub(crate) fn forget() {
    // A child whose thread forked while it waited (in a signal handler) is one off, and finds no deadlocks.
    THREADS.store(0, Ordering::Relaxed);
    // Held by attached threads alone, for no call, and a fork stops them: it is free. A child must not wait to learn otherwise.
    if let Ok(counts) = FIBERS.try_lock() {
        counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// Whether a signal may run code that wakes somebody.
fn handles_signals(py: Python<'_>) -> PyResult<bool> {
    let signal = py.import("signal")?;
    let interrupt = signal.getattr("default_int_handler")?;
    for number in signal.call_method0("valid_signals")?.try_iter()? {
        let handler = signal.call_method1("getsignal", (number?,))?;
        if handler.is_callable() && !handler.is(&interrupt) && !handler.is_instance_of::<pyo3::types::PyInt>()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many plain threads run Python code.
fn threads(py: Python<'_>) -> PyResult<i64> {
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let mut count = 0;
    for thread in frames.try_iter()? {
        let thread = thread?.extract::<u64>()?;
        // The anchors' number is 0.
        if thread != 0 && !engine::is_worker_thread(thread) {
            count += 1;
        }
    }
    Ok(count)
}
