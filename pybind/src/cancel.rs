//! Delivery of cancellation.
//!
//! The runtime refuses every wait of a cancelled fiber from then on. In Python that would livelock
//! `while True: try: wait() except: pass`, and fail the waits of clean-up code; so it is delivered once, at the first
//! wait, and later waits are shielded from it.

use crate::errors::Cancelled;
use crate::fiber::Fiber;
use crate::shim;
use pyo3::prelude::*;

/// Waits in the fiber that runs here.
pub(crate) fn wait<R>(wait: impl FnOnce() -> Result<R, roving_runtime::Cancelled>) -> PyResult<R> {
    let Some(object) = shim::current_object() else {
        return wait().map_err(|_| delivered());
    };
    // SAFETY: attached. The running fiber's object is a `Fiber`, and lives until the fiber has ended.
    let fiber = unsafe { Fiber::of(object) };
    if fiber.has_been_told() {
        return roving_runtime::shield(wait).map_err(|_| delivered());
    }
    wait().map_err(|_| {
        fiber.tell();
        delivered()
    })
}

/// Waits for a lock of CPython's in the fiber that runs here; `shielded`: come what may.
///
/// Code that keeps the books of the standard library (`Semaphore.release`, the import system) waits for its locks come
/// what may, too: half done, its books would be wrong for ever.
pub(crate) fn wait_for_lock<R>(
    shielded: bool,
    mut wait: impl FnMut() -> Result<R, roving_runtime::Cancelled>,
) -> PyResult<R> {
    let fiber = shim::current_object().map(|object| {
        // SAFETY: attached. The running fiber's object is a `Fiber`, and lives until the fiber has ended.
        unsafe { Fiber::of(object) }
    });
    if !shielded && !fiber.is_some_and(Fiber::has_been_told) {
        if let Ok(waited) = wait() {
            return Ok(waited);
        }
        if !shim::in_bookkeeping() {
            if let Some(fiber) = fiber {
                fiber.tell();
            }
            return Err(delivered());
        }
    }
    roving_runtime::shield(wait).map_err(|_| delivered())
}

#[cold]
fn delivered() -> PyErr {
    Cancelled::new_err("this fiber was cancelled")
}
