//! `roving.Semaphore` and `roving.BoundedSemaphore`.

use super::queue::Queue;
use super::{Patience, hold};
use crate::testing;
use crate::wait::{Waiter, Why};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::{Arc, Mutex};

/// A count of permits for fibers and threads, with the interface of threading.Semaphore.
///
/// Permits go to those who wait in the order in which they came.
///
/// >>> gate = roving.Semaphore(2)
/// >>> with gate:
/// ...     pass
#[pyclass(frozen, weakref, subclass, module = "roving")]
pub(crate) struct Semaphore {
    state: Mutex<State>,
    /// The most permits there may be.
    bound: Option<usize>,
}

struct State {
    permits: usize,
    queue: Queue,
}

impl Semaphore {
    fn with(value: isize, bounded: bool) -> PyResult<Self> {
        let permits = usize::try_from(value)
            .map_err(|_| PyValueError::new_err("semaphore initial value must be >= 0"))?;
        Ok(Self {
            state: Mutex::new(State {
                permits,
                queue: Queue::new(),
            }),
            bound: bounded.then_some(permits),
        })
    }

    fn acquire_until(&self, py: Python<'_>, patience: &Patience) -> PyResult<bool> {
        testing::may_switch();
        let (waiter, deadline) = {
            let mut state = hold(&self.state);
            // With somebody waiting there is no permit: they are handed on.
            if state.permits > 0 {
                state.permits -= 1;
                return Ok(true);
            }
            let Patience::Until(deadline) = patience else {
                return Ok(false);
            };
            let waiter = Arc::new(Waiter::new());
            state.queue.push(&waiter);
            (waiter, *deadline)
        };
        match waiter.wait(py, deadline, Why::Semaphore) {
            Ok(true) => Ok(true),
            ended => {
                let given_up = hold(&self.state).queue.give_up(&waiter);
                if !given_up && ended.is_err() {
                    self.add(1, None);
                }
                if given_up || ended.is_err() {
                    ended
                } else {
                    Ok(true)
                }
            }
        }
    }

    /// Gives permits back; false if that would be more than `bound`.
    fn add(&self, count: usize, bound: Option<usize>) -> bool {
        let woken = {
            let mut state = hold(&self.state);
            if bound.is_some_and(|bound| state.permits.saturating_add(count) > bound) {
                return false;
            }
            let woken = state.queue.choose_many(count, 0);
            state.permits += count - woken.len();
            woken
        };
        for waiter in woken {
            waiter.wake();
        }
        true
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (value=1))]
    fn new(value: isize) -> PyResult<Self> {
        Self::with(value, false)
    }

    /// Take a permit; return whether one was had.
    ///
    /// With blocking=False it does not wait; with a timeout it waits for at most so many seconds.
    #[pyo3(signature = (blocking=true, timeout=None))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        self.acquire_until(py, &Patience::of_semaphore(blocking, timeout)?)
    }

    /// Give back so many permits; ValueError if that is less than one, or a BoundedSemaphore would hold too many.
    #[pyo3(signature = (n=1))]
    fn release(&self, n: isize) -> PyResult<()> {
        let count = usize::try_from(n).ok().filter(|&count| count > 0);
        let count = count.ok_or_else(|| PyValueError::new_err("n must be one or more"))?;
        if self.add(count, self.bound) {
            Ok(())
        } else {
            Err(PyValueError::new_err("Semaphore released too many times"))
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire_until(py, &Patience::Until(None))
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(1)
    }

    fn __repr__(&self) -> String {
        let state = hold(&self.state);
        let kind = if self.bound.is_some() {
            "BoundedSemaphore"
        } else {
            "Semaphore"
        };
        format!(
            "<roving.{kind}, {} permits, {} waiting>",
            state.permits,
            state.queue.len()
        )
    }
}

/// A semaphore that cannot be released more often than acquired, with the interface of threading.BoundedSemaphore.
///
/// >>> gate = roving.BoundedSemaphore(1)
/// >>> gate.release()
/// Traceback (most recent call last):
/// ValueError: Semaphore released too many times
#[pyclass(frozen, extends = Semaphore, subclass, module = "roving")]
pub(crate) struct BoundedSemaphore;

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (value=1))]
    fn new(value: isize) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Semaphore::with(value, true)?).add_subclass(Self))
    }
}
