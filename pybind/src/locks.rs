//! Waiting for CPython's locks: what the methods in `shim/locks.c` need of the runtime.
//!
//! Fibers wait in one [`Lot`], at the address of the lock. README.md in `shim` argues why no wake-up is lost.

use crate::timeout::deadline_in;
use crate::{clock, shim, wait};
use pyo3::prelude::*;
use roving_runtime::sync::{ForeignLock, ForeignWaiters, Lot, LotPlace, LotWait};
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::time::{Duration, Instant};

static LOT: AtomicPtr<Lot> = AtomicPtr::new(std::ptr::null_mut());

/// Where fibers of this process wait; made when the first one does.
pub(crate) fn lot() -> &'static Lot {
    let mut lot = LOT.load(Ordering::Acquire);
    if lot.is_null() {
        let made = Box::into_raw(Box::new(Lot::new()));
        // Both orderings pair with one another's: who sees the pointer sees the lot.
        match LOT.compare_exchange(lot, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => lot = made,
            Err(other) => {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                lot = other;
            }
        }
    }
    // SAFETY: never freed.
    unsafe { &*lot }
}

/// Forgets all that waited: in the child of a fork they do not exist, and a thread of the parent's may have held a
/// lock of the lot's.
pub(crate) fn forget_waiters() {
    LOT.store(std::ptr::null_mut(), Ordering::Release);
}

/// The threads that wait for a `PyMutex`.
struct Threads;

impl ForeignWaiters for Threads {
    fn wake_one(&self, byte: &AtomicU8, keep: bool) -> bool {
        shim::wake_thread(byte, keep)
    }
}

/// # Safety
/// `byte` is that of a `PyMutex` which stays alive as long as the result is used.
unsafe fn byte_lock<'a>(byte: *mut u8) -> ForeignLock<'a, Threads> {
    // SAFETY: alive by the caller's promise, and only ever accessed atomically.
    let byte = unsafe { AtomicU8::from_ptr(byte) };
    ForeignLock::new(byte, lot(), Threads)
}

pub(crate) fn outcome(waited: PyResult<bool>) -> c_int {
    match waited {
        Ok(locked) => c_int::from(locked),
        Err(error) => {
            // SAFETY: called attached, by C code that hands the exception on.
            error.restore(unsafe { Python::assume_attached() });
            -1
        }
    }
}

/// Waits until a `PyMutex` is locked.
///
/// # Safety
/// In a fiber, attached; the mutex stays alive.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_park_for_byte(byte: *mut u8, timeout: i64, shielded: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    let lock = unsafe { byte_lock(byte) };
    let deadline = deadline_in(timeout);
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    outcome(wait::for_lock(py, shielded != 0, deadline, |until| {
        lock.lock_until(until)
    }))
}

/// Unlocks a `PyMutex` that may have waiters; 0 if it was not locked.
///
/// # Safety
/// The mutex stays alive.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_unlock_byte(byte: *mut u8) -> c_int {
    // SAFETY: by the caller's promise.
    c_int::from(unsafe { byte_lock(byte) }.unlock())
}

/// Has all fibers that wait at an address look again.
#[unsafe(no_mangle)]
extern "C" fn rv_nudge(address: *const c_void) {
    lot().wake_all(address.addr(), NUDGED);
}

/// As for a `ForeignLock`: failures, or time since the first, after which a waiter is handed the lock.
const LIMIT: u32 = 8;
const GRACE: Duration = Duration::from_millis(1);

const FRESH: u32 = 0;
const FAILED_ENOUGH: u32 = 1;

const NUDGED: u32 = 0;
const HANDED_OVER: u32 = 1;

/// The wakers' note: the semaphore must be posted this time, for threads that wait in the kernel.
const POST: u32 = 1;

/// Waits until a semaphore of CPython's is taken.
///
/// # Safety
/// In a fiber, attached; the lock stays alive.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_park_for_semaphore(lock: *const *mut c_void, timeout: i64, shielded: c_int) -> c_int {
    let deadline = deadline_in(timeout);
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    outcome(wait::for_lock(py, shielded != 0, deadline, |deadline| {
        let mut failures = 0;
        let mut first = None;
        let mut place = LotPlace::Back;
        loop {
            let enough = failures >= LIMIT
                || first.is_some_and(|at: Instant| clock::now().saturating_duration_since(at) >= GRACE);
            let token = if enough { FAILED_ENOUGH } else { FRESH };
            let needed = || {
                // SAFETY: alive by the caller's promise.
                !unsafe { shim::try_semaphore(lock) }
            };
            match lot().wait(lock.addr(), (place, token), deadline, needed)? {
                LotWait::Unneeded | LotWait::Woken(HANDED_OVER) => return Ok(true),
                LotWait::TimedOut => return Ok(false),
                LotWait::Woken(_nudged) => {
                    failures += 1;
                    first = first.or_else(|| Some(clock::now()));
                    place = LotPlace::Front;
                }
            }
        }
    }))
}

/// Gives a semaphore back, or hands it to the first fiber if it has failed to get it often enough; not twice in a row,
/// for the sake of threads that wait in the kernel. `locked`, if there is one, is cleared when it is given back.
///
/// # Safety
/// Attached, by the holder; the lock stays alive until this returns, and `locked` with it.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_unlock_semaphore(lock: *const *mut c_void, locked: *mut c_char) {
    let post = || {
        if !locked.is_null() {
            // SAFETY: by the caller's promise.
            unsafe { locked.write_volatile(0) };
        }
        // SAFETY: alive by the caller's promise, and held.
        unsafe { shim::post_semaphore(lock) };
    };
    let address = lock.addr();
    let lot = lot();
    if !lot.may_have_waiters(address) {
        post();
        // A fiber may have found it taken meanwhile.
        if lot.may_have_waiters(address) {
            lot.wake_one(address, |_, _| Some(NUDGED), |_| {});
        }
        return;
    }
    let decide = |note: &mut u32, token| {
        let hand_over = token == FAILED_ENOUGH && *note != POST;
        *note = if hand_over { POST } else { 0 };
        Some(if hand_over { HANDED_OVER } else { NUDGED })
    };
    lot.wake_one(address, decide, |woken| {
        if woken.code != Some(HANDED_OVER) {
            post();
        }
    });
}
