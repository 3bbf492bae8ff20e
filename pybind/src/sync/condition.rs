//! `roving.Condition`.
//!
//! A waiter queues up first, then lets go of the lock: who changes what it waits for under the lock, and notifies, finds
//! it. Taking the lock back is neither cancelled nor timed, so that `with` can release it. One that was notified and
//! raises all the same passes the notification on.

use super::queue::Queue;
use super::rlock::RLock;
use super::{Patience, hold, lenient_deadline, lock::Lock};
use crate::clock;
use crate::wait::{self, Waiter, Why};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A condition of fibers and threads, with the interface of threading.Condition.
///
/// `lock` is a Lock or RLock of roving's, by default a new RLock; or any object with acquire and release.
///
/// >>> ready = roving.Condition()
/// >>> with ready:
/// ...     ready.wait(timeout=0)
/// False
#[pyclass(frozen, weakref, subclass, module = "roving")]
pub(crate) struct Condition {
    lock: Py<PyAny>,
    queue: Mutex<Queue>,
}

/// What gives the lock back as it was.
enum Saved {
    Lock,
    RLock(u64),
    Other(Option<Py<PyAny>>),
}

impl Condition {
    fn is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        let lock = self.lock.bind(py);
        if let Ok(lock) = lock.cast::<RLock>() {
            return Ok(lock.get().is_owned());
        }
        if let Ok(lock) = lock.cast::<Lock>() {
            return Ok(lock.get().0.is_locked());
        }
        if lock.hasattr(intern!(py, "_is_owned"))? {
            return lock.call_method0(intern!(py, "_is_owned"))?.is_truthy();
        }
        // As in threading: of a lock that does not know its owner it can only be said whether it is locked.
        if lock.call_method1(intern!(py, "acquire"), (false,))?.is_truthy()? {
            lock.call_method0(intern!(py, "release"))?;
            return Ok(false);
        }
        Ok(true)
    }

    fn release_lock(&self, py: Python<'_>) -> PyResult<Saved> {
        let lock = self.lock.bind(py);
        if let Ok(lock) = lock.cast::<Lock>() {
            lock.get().0.release();
            return Ok(Saved::Lock);
        }
        if let Ok(lock) = lock.cast::<RLock>() {
            return lock.get().release_all().map(Saved::RLock);
        }
        if lock.hasattr(intern!(py, "_release_save"))? {
            let saved = lock.call_method0(intern!(py, "_release_save"))?;
            return Ok(Saved::Other(Some(saved.unbind())));
        }
        lock.call_method0(intern!(py, "release"))?;
        Ok(Saved::Other(None))
    }

    fn acquire_lock(&self, py: Python<'_>, saved: Saved) -> PyResult<()> {
        let lock = self.lock.bind(py);
        match saved {
            Saved::Lock => lock.cast::<Lock>()?.get().0.acquire_regardless(py),
            Saved::RLock(depth) => lock.cast::<RLock>()?.get().restore(py, depth),
            Saved::Other(Some(saved)) => lock
                .call_method1(intern!(py, "_acquire_restore"), (saved,))
                .map(drop),
            Saved::Other(None) => lock.call_method0(intern!(py, "acquire")).map(drop),
        }
    }

    fn wait_until(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        if !self.is_owned(py)? {
            return Err(PyRuntimeError::new_err("cannot wait on un-acquired lock"));
        }
        // Before the lock is let go of: it could not be waited for either.
        wait::place_for_others()?;
        let waiter = Arc::new(Waiter::new());
        hold(&self.queue).push(&waiter);
        let saved = match self.release_lock(py) {
            Ok(saved) => saved,
            Err(error) => {
                hold(&self.queue).give_up(&waiter);
                return Err(error);
            }
        };
        let ended = match waiter.wait(py, deadline, Why::Condition) {
            Ok(true) => Ok(true),
            ended => {
                let given_up = hold(&self.queue).give_up(&waiter);
                if !given_up && ended.is_err() {
                    self.wake(1);
                }
                if given_up || ended.is_err() {
                    ended
                } else {
                    Ok(true)
                }
            }
        };
        self.acquire_lock(py, saved)?;
        ended
    }

    fn wake(&self, count: usize) {
        let woken = hold(&self.queue).choose_many(count, 0);
        for waiter in woken {
            waiter.wake();
        }
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (lock=None))]
    fn new(py: Python<'_>, lock: Option<Py<PyAny>>) -> PyResult<Self> {
        let lock = match lock {
            Some(lock) => {
                let lock = lock.into_bound(py);
                if !lock.hasattr("acquire")? || !lock.hasattr("release")? {
                    let kind = lock.get_type().name()?;
                    return Err(PyTypeError::new_err(format!(
                        "a condition's lock has acquire and release, and {kind} has not"
                    )));
                }
                lock.unbind()
            }
            None => Py::new(py, RLock::new())?.into_any(),
        };
        Ok(Self {
            lock,
            queue: Mutex::new(Queue::new()),
        })
    }

    /// Acquire the lock: what its own acquire does.
    #[pyo3(signature = (*args, **kwargs))]
    fn acquire(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.lock.call_method(py, intern!(py, "acquire"), args, kwargs)
    }

    /// Release the lock.
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.lock.call_method0(py, intern!(py, "release"))
    }

    /// Let go of the lock, wait to be notified for at most `timeout` seconds, take the lock back; return whether notified.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait_until(py, lenient_deadline(timeout)?)
    }

    /// Wait until predicate() is true, for at most `timeout` seconds; return its last value.
    #[pyo3(signature = (predicate, timeout=None))]
    fn wait_for(
        &self,
        py: Python<'_>,
        predicate: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let deadline = lenient_deadline(timeout)?;
        let mut result = predicate.call0()?;
        while !result.is_truthy()? {
            if deadline.is_some_and(|at| at <= clock::now()) {
                break;
            }
            self.wait_until(py, deadline)?;
            result = predicate.call0()?;
        }
        Ok(result.unbind())
    }

    /// Wake `n` of those that wait, first come, first served. RuntimeError if the lock is not held.
    #[pyo3(signature = (n=1))]
    fn notify(&self, py: Python<'_>, n: isize) -> PyResult<()> {
        if !self.is_owned(py)? {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        self.wake(usize::try_from(n).unwrap_or(0));
        Ok(())
    }

    /// Wake all that wait.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify(py, isize::MAX)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // The lock of most, without a look for its methods.
        if let Ok(lock) = self.lock.bind(py).cast_exact::<Lock>() {
            let acquired = lock.get().0.acquire(py, &Patience::Until(None))?;
            return Ok(acquired.into_pyobject(py)?.to_owned().into_any().unbind());
        }
        self.lock.call_method0(py, intern!(py, "__enter__"))
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        if let Ok(lock) = self.lock.bind(py).cast_exact::<Lock>() {
            return lock.get().release().map(|()| py.None());
        }
        self.lock
            .call_method1(py, intern!(py, "__exit__"), exception.clone())
    }

    /// Whether the lock is locked.
    fn locked(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.lock.call_method0(py, intern!(py, "locked"))
    }

    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_owned(py)
    }

    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        *hold(&self.queue) = Queue::new();
        self.lock
            .call_method0(py, intern!(py, "_at_fork_reinit"))
            .map(drop)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let lock = self.lock.bind(py).repr()?;
        Ok(format!(
            "<roving.Condition of {lock}, {} waiting>",
            hold(&self.queue).len()
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lock)
    }
}
