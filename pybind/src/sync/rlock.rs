//! `roving.RLock`.

use super::Patience;
use super::lock::RawLock;
use crate::cancel;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// A lock for fibers and threads that its owner may acquire again, with the interface of threading.RLock.
///
/// Its owner is the fiber, or the plain thread, that acquired it, and must release it as often.
///
/// >>> lock = roving.RLock()
/// >>> with lock, lock:
/// ...     pass
#[pyclass(frozen, weakref, subclass, module = "roving")]
pub(crate) struct RLock {
    raw: RawLock,
    /// Law: both are written by the owner alone; others only ask whether they are it, and no value but their own,
    /// which they wrote themselves, says yes.
    owner: AtomicU64,
    depth: AtomicU64,
}

/// The number of the fiber or thread that runs here. Threads have odd ones.
fn me() -> u64 {
    thread_local! {
        static THREAD: u64 = {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            NEXT.fetch_add(1, Ordering::Relaxed) * 2 + 1
        };
    }
    match cancel::fiber() {
        Some(fiber) => (fiber.runtime_handle().id().get() + 1) * 2,
        None => THREAD.with(|thread| *thread),
    }
}

impl RLock {
    pub(crate) fn is_owned(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == me()
    }

    fn again(&self, me: u64) -> bool {
        let ours = self.owner.load(Ordering::Relaxed) == me;
        if ours {
            self.depth
                .store(self.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        ours
    }

    fn begin(&self, me: u64, depth: u64) {
        self.owner.store(me, Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
    }

    fn acquire_until(&self, py: Python<'_>, patience: &Patience) -> PyResult<bool> {
        let me = me();
        if self.again(me) {
            return Ok(true);
        }
        let acquired = self.raw.acquire(py, patience)?;
        if acquired {
            self.begin(me, 1);
        }
        Ok(acquired)
    }

    /// Lets go of it altogether; how often it was acquired.
    pub(crate) fn release_all(&self) -> PyResult<u64> {
        if !self.is_owned() {
            return Err(not_owned());
        }
        let depth = self.depth.swap(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
        self.raw.release();
        Ok(depth)
    }

    pub(crate) fn restore(&self, py: Python<'_>, depth: u64) -> PyResult<()> {
        self.raw.acquire_regardless(py)?;
        self.begin(me(), depth);
        Ok(())
    }
}

fn not_owned() -> PyErr {
    PyRuntimeError::new_err("cannot release un-acquired lock")
}

#[pymethods]
impl RLock {
    #[new]
    pub(crate) fn new() -> Self {
        Self {
            raw: RawLock::new(),
            owner: AtomicU64::new(0),
            depth: AtomicU64::new(0),
        }
    }

    /// Acquire the lock, again if it is one's own; return whether it was acquired. As Lock.acquire.
    #[pyo3(signature = (blocking=true, timeout=-1.0), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        self.acquire_until(py, &Patience::of_lock(blocking, timeout)?)
    }

    /// Release the lock once; RuntimeError if it is not one's own.
    fn release(&self) -> PyResult<()> {
        if !self.is_owned() {
            return Err(not_owned());
        }
        let depth = self.depth.load(Ordering::Relaxed);
        if depth > 1 {
            self.depth.store(depth - 1, Ordering::Relaxed);
            return Ok(());
        }
        self.release_all().map(drop)
    }

    /// Whether anybody has it.
    fn locked(&self) -> bool {
        self.raw.is_locked()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire_until(py, &Patience::Until(None))
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.release()
    }

    fn _is_owned(&self) -> bool {
        self.is_owned()
    }

    fn _recursion_count(&self) -> u64 {
        if self.is_owned() {
            self.depth.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    fn _release_save(&self) -> PyResult<u64> {
        self.release_all()
    }

    fn _acquire_restore(&self, py: Python<'_>, state: u64) -> PyResult<()> {
        self.restore(py, state)
    }

    fn _at_fork_reinit(&self) {
        self.raw.reset();
        self.begin(0, 0);
    }

    fn __repr__(&self) -> String {
        let state = if self.raw.is_locked() {
            "locked"
        } else {
            "unlocked"
        };
        format!("<roving.RLock, {state}>")
    }
}
