//! Guards of objects whose methods may park while C code holds a lock of the object's that is keyed by thread: see
//! `shim/buffered.c`. A guard exists as long as somebody is inside.

use crate::locks::{lot, outcome};
use crate::{shim, wait};
use pyo3::prelude::*;
use roving_runtime::sync::{LotPlace, LotWait};
use std::ffi::{c_int, c_ulonglong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who is inside of what: address of the object, ident of the fiber or thread. Some objects at a time, as a rule none. On a
/// cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Inside(Mutex<Vec<(usize, u64)>>);

/// Objects are spread over so many, so that those who read from different sockets do not meet.
const SHARDS: usize = 64;
type Shards = [Inside; SHARDS];

static FIRST: Shards = [const { Inside(Mutex::new(Vec::new())) }; SHARDS];
static SHARDED: AtomicPtr<Shards> = AtomicPtr::new((&raw const FIRST).cast_mut());

fn inside<R>(object: usize, f: impl FnOnce(&mut Vec<(usize, u64)>) -> R) -> R {
    // Relaxed: only changed in a child that has one thread yet.
    // SAFETY: never freed.
    let shards: &Shards = unsafe { &*SHARDED.load(Ordering::Relaxed) };
    // Objects of a kind lie at multiples of their size: neighbours differ in the bits above.
    let shard = (object >> 4) ^ (object >> 10) ^ (object >> 16);
    f(&mut shards[shard % SHARDS]
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner))
}

/// Forgets who was inside. In the child of a fork, where they do not exist.
pub(crate) fn forget() {
    let shards: Box<Shards> = Box::new(std::array::from_fn(|_| Inside::default()));
    SHARDED.store(Box::into_raw(shards), Ordering::Relaxed);
}

enum Entered {
    Yes,
    /// By the same fiber or thread, before.
    Already,
    /// Somebody else is.
    No,
}

fn try_enter(object: usize, ident: u64) -> Entered {
    inside(object, |inside| {
        match inside.iter().find(|&&(held, _)| held == object) {
            None => {
                inside.push((object, ident));
                Entered::Yes
            }
            Some(&(_, holder)) if holder == ident => Entered::Already,
            Some(_) => Entered::No,
        }
    })
}

/// How long a plain thread waits between two looks at its signals.
const SLICE: Duration = Duration::from_millis(50);

/// Enters an object's guard, waiting as long as somebody else is inside: 1, or 0 for one that is inside already, or -1
/// with an exception.
#[unsafe(no_mangle)]
extern "C" fn rv_enter(object: *const c_void, ident: c_ulonglong, in_fiber: c_int) -> c_int {
    let object = object.addr();
    let mut entered = try_enter(object, ident);
    if !matches!(entered, Entered::No) {
        return c_int::from(matches!(entered, Entered::Yes));
    }
    let mut place = LotPlace::Back;
    let mut look = |deadline: Option<Instant>| loop {
        let needed = || {
            entered = try_enter(object, ident);
            matches!(entered, Entered::No)
        };
        match lot().wait(object, (place, 0), deadline, needed)? {
            LotWait::Unneeded => return Ok(true),
            LotWait::TimedOut => return Ok(false),
            LotWait::Woken(_) => place = LotPlace::Front,
        }
    };
    // SAFETY: called attached, by C code.
    let py = unsafe { Python::assume_attached() };
    if in_fiber != 0 {
        return outcome(wait::for_lock(py, false, None, look));
    }
    if shim::is_worker() {
        return outcome(Err(pyo3::exceptions::PyRuntimeError::new_err(
            "roving: cannot wait here for a file that others use: this runs between two fibers, or in a callback of C code",
        )));
    }
    let waited = loop {
        // Plain threads are not cancelled.
        if py.detach(|| look(Some(Instant::now() + SLICE))) == Ok(true) {
            break Ok(true);
        }
        if let Err(error) = py.check_signals() {
            break Err(error);
        }
    };
    outcome(waited)
}

/// Leaves the guard, and wakes the next.
#[unsafe(no_mangle)]
extern "C" fn rv_leave(object: *const c_void) {
    let object = object.addr();
    // A waiter looks under the lot's lock, so it finds the object left, or is found.
    inside(object, |inside| inside.retain(|&(held, _)| held != object));
    if lot().may_have_waiters(object) {
        lot().wake_one(object, |_, _| Some(0), |_| {});
    }
}
