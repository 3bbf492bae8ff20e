//! Sets of thread-locals, which go from fiber to fiber. shim.h says what one is.

use crate::held::Held;
use crate::shim::{self, RvFiber};
use pyo3::ffi::PyObject;
use std::ffi::{c_int, c_ulonglong};

mod raw {
    use super::{RvFiber, RvLocals, c_int, c_ulonglong};

    unsafe extern "C" {
        pub(super) fn rv_locals_lend(fiber: *mut RvFiber, set: *const RvLocals);
        pub(super) fn rv_locals_take(fiber: *mut RvFiber, set: *mut RvLocals) -> c_int;
        pub(super) fn rv_locals_thread(fiber: *mut RvFiber) -> c_ulonglong;
    }
}

/// As in shim.h.
#[repr(C)]
struct RvLocals {
    key: *mut PyObject,
    sentinel: *mut PyObject,
    ident: c_ulonglong,
    thread: c_ulonglong,
}

/// A set of thread-locals that is with no fiber.
pub(crate) struct Locals {
    key: Held,
    /// Its end is what removes the values.
    sentinel: Held,
    ident: c_ulonglong,
    thread: c_ulonglong,
}

impl Locals {
    /// The only thread whose fibers may have it.
    pub(crate) fn thread(&self) -> u64 {
        self.thread
    }
}

/// The thread of the fiber that runs here.
pub(crate) fn thread() -> Option<u64> {
    // SAFETY: the record of the fiber that runs.
    shim::current().map(|fiber| unsafe { raw::rv_locals_thread(fiber) })
}

/// Gives the fiber that runs here a set of this thread's. It has run no Python code yet.
pub(crate) fn lend(set: Locals) {
    let Some(fiber) = shim::current() else { return };
    debug_assert_eq!(Some(set.thread), thread());
    let lent = RvLocals {
        key: set.key.into_ptr(),
        sentinel: set.sentinel.into_ptr(),
        ident: set.ident,
        thread: set.thread,
    };
    // SAFETY: the record of the fiber that runs, attached; the references are given away.
    unsafe { raw::rv_locals_lend(fiber, &lent) };
}

/// Takes the set of the fiber that runs here, which runs no more Python code but destructors; `None` when it has none.
pub(crate) fn take() -> Option<Locals> {
    let fiber = shim::current()?;
    let mut taken = RvLocals {
        key: std::ptr::null_mut(),
        sentinel: std::ptr::null_mut(),
        ident: 0,
        thread: 0,
    };
    // SAFETY: the record of the fiber that runs, attached; a place to write to.
    if unsafe { raw::rv_locals_take(fiber, &mut taken) } == 0 {
        return None;
    }
    // SAFETY: attached; an owned reference.
    let key = unsafe { Held::from_owned(taken.key) };
    // SAFETY: as above.
    let sentinel = unsafe { Held::from_owned(taken.sentinel) };
    Some(Locals {
        key: key?,
        sentinel: sentinel?,
        ident: taken.ident,
        thread: taken.thread,
    })
}
