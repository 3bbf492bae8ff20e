//! Blocks that own the fibers spawned in them, blocks with a limit of time, and blocks that cancellation does not reach.

pub(crate) mod children;
pub(crate) mod shield;
pub(crate) mod timeout;

use crate::cancel::{self, Entered};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a `with` block is: before, in it, after. The lock is held for a move only.
pub(crate) struct Block(Mutex<Stage>);

enum Stage {
    New,
    In(Entered),
    Left,
}

/// None of these locks is held across a call into Python.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Block {
    const fn new() -> Self {
        Self(Mutex::new(Stage::New))
    }

    fn enter(&self, entered: Entered) -> PyResult<()> {
        {
            let mut stage = lock(&self.0);
            if matches!(*stage, Stage::New) {
                *stage = Stage::In(entered);
                return Ok(());
            }
        }
        cancel::leave(&entered.scope);
        Err(PyRuntimeError::new_err(
            "it has been entered before: make a new one for each block",
        ))
    }

    fn leave(&self) -> PyResult<Entered> {
        let stage = std::mem::replace(&mut *lock(&self.0), Stage::Left);
        let Stage::In(entered) = stage else {
            return Err(PyRuntimeError::new_err("it has not been entered"));
        };
        if !cancel::leave(&entered.scope) {
            *lock(&self.0) = Stage::In(entered);
            return Err(PyRuntimeError::new_err(
                "it was entered in another fiber or thread",
            ));
        }
        Ok(entered)
    }

    /// Calls `f` with the scope, if the block is being run. Nothing of Python's in it.
    fn with<R>(&self, f: impl FnOnce(&cancel::Scope) -> R) -> Option<R> {
        match &*lock(&self.0) {
            Stage::In(entered) => Some(f(&entered.scope)),
            _ => None,
        }
    }
}
