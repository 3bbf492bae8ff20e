//! A call of the store, and the wait for its end.

use super::errors::from_store;
use crate::wait::{self, Waiter, Why};
use pyo3::prelude::*;
use roving_store::{Done, Error};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether a wait ends when whoever waits is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It ends. What was begun goes on by itself, and nobody learns what came of it.
    Cancellable,
    /// It does not: what came of the call has to be known. It takes a commit, or as long as another process may hold the
    /// database.
    Regardless,
}

/// Where a call's outcome is put, and who waits for it.
struct Slot<T> {
    /// Locked for a move of the value, by attached threads and by the store's, which never attach.
    outcome: Mutex<Option<Result<T, Error>>>,
    waiter: Arc<Waiter>,
}

impl<T> Slot<T> {
    fn take(&self) -> Option<Result<T, Error>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Makes a call, and waits for what comes of it: a fiber parks, a plain thread blocks, detached.
pub(super) fn wait<T: Send + 'static>(
    py: Python<'_>,
    patience: Patience,
    call: impl FnOnce(Done<T>),
) -> PyResult<T> {
    // Where nobody may wait nothing is begun.
    wait::place_for_others()?;
    let slot = Arc::new(Slot {
        outcome: Mutex::new(None),
        waiter: Arc::new(Waiter::new()),
    });
    let filled = Arc::clone(&slot);
    call(Box::new(move |outcome| {
        // The outcome first: who is chosen looks for it.
        *filled.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        if filled.waiter.choose(0) {
            filled.waiter.wake();
        }
    }));
    let mut outcome = slot.take();
    if outcome.is_none() {
        match patience {
            Patience::Cancellable => {
                slot.waiter.wait(py, None, Why::Store)?;
            }
            Patience::Regardless => slot.waiter.wait_regardless(py, Why::Store)?,
        }
        outcome = slot.take();
    }
    match outcome {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(from_store(py, &error)),
        None => Err(crate::errors::RovingInternalError::new_err(
            "a call of the job store ended without an outcome",
        )),
    }
}

/// Does what may block, and waits for nobody who waits for the interpreter.
pub(super) fn detached<T: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    py.detach(call).map_err(|error| from_store(py, &error))
}
