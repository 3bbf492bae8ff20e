//! `roving.Lock`, and the word that it and `RLock` are made of.
//!
//! Unlocking lets the first waiter try (a *nudge*) and leaves the lock free, so that one that comes by may take it: whoever
//! unlocks and locks again at once need not wait for a sleeper to wake up. A waiter that has waited for a millisecond, or was
//! nudged eight times in vain, is *handed* the lock. A nudged waiter that gives up nudges the next.

use super::queue::Queue;
use super::{Patience, hold};
use crate::wait::{Waiter, Why};
use crate::{clock, testing};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Codes of a waiter that was chosen.
const NUDGED: u32 = 0;
const HANDED: u32 = 1;
/// From when on the first waiter is handed the lock.
const PATIENCE: Duration = Duration::from_millis(1);
const NUDGES: u32 = 8;

pub(crate) struct RawLock(Mutex<State>);

struct State {
    locked: bool,
    queue: Queue,
    /// How often the first waiter was nudged in vain, and since when.
    nudges: u32,
    since: Option<Instant>,
}

impl RawLock {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            locked: false,
            queue: Queue::new(),
            nudges: 0,
            since: None,
        }))
    }

    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        let mut state = hold(&self.0);
        !std::mem::replace(&mut state.locked, true)
    }

    pub(crate) fn is_locked(&self) -> bool {
        hold(&self.0).locked
    }

    /// False when there was no patience, or it came to its end.
    #[inline]
    pub(crate) fn acquire(&self, py: Python<'_>, patience: &Patience) -> PyResult<bool> {
        testing::may_switch();
        if self.try_acquire() {
            return Ok(true);
        }
        match patience {
            Patience::None => Ok(false),
            Patience::Until(deadline) => self.wait(py, |waiter| waiter.wait(py, *deadline, Why::Lock)),
        }
    }

    /// Acquires it whatever may come: for those that must have it back.
    pub(crate) fn acquire_regardless(&self, py: Python<'_>) -> PyResult<()> {
        if self.try_acquire() {
            return Ok(());
        }
        self.wait(py, |waiter| waiter.wait_regardless(py, Why::Lock).map(|()| true))
            .map(drop)
    }

    fn wait(&self, py: Python<'_>, wait: impl Fn(&Arc<Waiter>) -> PyResult<bool>) -> PyResult<bool> {
        let _ = py;
        let mut first = true;
        loop {
            let waiter = Arc::new(Waiter::new());
            {
                let mut state = hold(&self.0);
                if !std::mem::replace(&mut state.locked, true) {
                    state.forget_nudges();
                    return Ok(true);
                }
                if std::mem::take(&mut first) {
                    state.queue.push(&waiter);
                } else {
                    state.queue.push_first(&waiter);
                }
            }
            let ended = wait(&waiter);
            let given_up = match ended {
                Ok(true) => false,
                _ => hold(&self.0).queue.give_up(&waiter),
            };
            if given_up {
                return ended;
            }
            match (waiter.chosen(), ended) {
                // What was handed over is kept, unless a signal handler has raised.
                (Some(HANDED), Err(error)) if !is_cancelled(&error) => {
                    self.release();
                    return Err(error);
                }
                (Some(HANDED), _) => return Ok(true),
                (_, Ok(true)) => {}
                (_, ended) => {
                    // The nudge was ours: the lock is taken, or the next one gets it.
                    if self.try_acquire() {
                        if ended.is_ok() {
                            return Ok(true);
                        }
                        self.release();
                    }
                    return ended;
                }
            }
        }
    }

    /// False if it was not locked.
    #[inline]
    pub(crate) fn release(&self) -> bool {
        let mut state = hold(&self.0);
        if !state.locked {
            return false;
        }
        if state.queue.is_empty() {
            state.locked = false;
            drop(state);
            testing::may_switch();
            return true;
        }
        let wake = state.nudge();
        drop(state);
        if let Some(waiter) = wake {
            waiter.wake();
        }
        true
    }

    /// Makes it new, for the child of a fork.
    pub(crate) fn reset(&self) {
        let mut state = hold(&self.0);
        state.locked = false;
        state.queue = Queue::new();
        state.forget_nudges();
    }
}

impl State {
    fn forget_nudges(&mut self) {
        self.nudges = 0;
        self.since = None;
    }

    fn nudge(&mut self) -> Option<Arc<Waiter>> {
        let now = clock::now();
        let since = *self.since.get_or_insert(now);
        if self.nudges >= NUDGES || now.saturating_duration_since(since) >= PATIENCE {
            let waiter = self.queue.choose(HANDED);
            self.forget_nudges();
            self.locked = waiter.is_some();
            return waiter;
        }
        self.nudges += 1;
        self.locked = false;
        self.queue.choose(NUDGED)
    }
}

fn is_cancelled(error: &PyErr) -> bool {
    Python::attach(|py| error.is_instance_of::<crate::errors::Cancelled>(py))
}

/// A lock for fibers and threads, with the interface of threading.Lock.
///
/// Whoever waits for it in a fiber lets others run. Any fiber or thread may release it. Waiting can be cancelled.
///
/// >>> lock = roving.Lock()
/// >>> with lock:
/// ...     lock.locked()
/// True
#[pyclass(frozen, weakref, subclass, module = "roving")]
pub(crate) struct Lock(pub(crate) RawLock);

#[pymethods]
impl Lock {
    #[new]
    fn new() -> Self {
        Self(RawLock::new())
    }

    /// Acquire the lock; return whether it was.
    ///
    /// With blocking=False it does not wait; with a timeout it waits for at most so many seconds (-1: no limit).
    #[pyo3(signature = (blocking=true, timeout=-1.0), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        self.0.acquire(py, &Patience::of_lock(blocking, timeout)?)
    }

    /// Release the lock; RuntimeError if it is not locked.
    pub(crate) fn release(&self) -> PyResult<()> {
        if self.0.release() {
            Ok(())
        } else {
            Err(PyRuntimeError::new_err("release unlocked lock"))
        }
    }

    /// Whether it is locked.
    fn locked(&self) -> bool {
        self.0.is_locked()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.acquire(py, &Patience::Until(None))
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.release()
    }

    fn _at_fork_reinit(&self) {
        self.0.reset();
    }

    fn __repr__(&self) -> String {
        let state = if self.0.is_locked() { "locked" } else { "unlocked" };
        format!("<roving.Lock, {state}>")
    }
}
