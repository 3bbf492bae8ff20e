//! Locks and their like, between fibers and plain threads at once, with the interface of `threading`'s.
//!
//! Each guards its few words and a queue of waiters with a small lock of Rust's, under the rules of `wait.rs`: attached,
//! no call into Python, no park. Waiters are served first come, first served, and a wait that ends without what it was
//! for passes on what it was given meanwhile.

pub(crate) mod condition;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod rlock;
pub(crate) mod semaphore;

use crate::timeout;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// None of these locks is held across a call into Python, nor across a park.
#[inline]
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `acquire(blocking, timeout)` of a lock asks for.
pub(crate) enum Patience {
    None,
    Until(Option<Instant>),
}

impl Patience {
    /// As `threading.Lock.acquire` understands it: a timeout of -1 is none.
    #[inline]
    pub(crate) fn of_lock(blocking: bool, timeout: f64) -> PyResult<Self> {
        if !blocking {
            return if timeout == -1.0 {
                Ok(Patience::None)
            } else {
                Err(PyValueError::new_err(
                    "can't specify a timeout for a non-blocking call",
                ))
            };
        }
        if timeout == -1.0 {
            return Ok(Patience::Until(None));
        }
        if timeout < 0.0 {
            return Err(PyValueError::new_err(
                "timeout value must be a non-negative number",
            ));
        }
        timeout::deadline(Some(timeout)).map(Patience::Until)
    }

    /// As `threading.Semaphore.acquire` understands it: a timeout of None is none.
    pub(crate) fn of_semaphore(blocking: bool, timeout: Option<f64>) -> PyResult<Self> {
        if !blocking {
            return if timeout.is_none() {
                Ok(Patience::None)
            } else {
                Err(PyValueError::new_err(
                    "can't specify timeout for non-blocking acquire",
                ))
            };
        }
        lenient_deadline(timeout).map(Patience::Until)
    }
}

/// When a wait with this timeout ends. As in `threading`, a negative one is over at once.
pub(crate) fn lenient_deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    timeout::deadline(timeout.map(|timeout| if timeout < 0.0 { 0.0 } else { timeout }))
}
