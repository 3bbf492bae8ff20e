//! What time it is, for deadlines: the system's monotonic time, or that of the runtime while its clock stands
//! (`roving.testing.clock`), for fibers and plain threads alike.

use crate::engine;
use pyo3::prelude::*;
use roving_runtime::PlainThread;
use std::cell::OnceCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How many runtimes have a clock that stands: there are at most two.
static STAND: AtomicUsize = AtomicUsize::new(0);

/// What time it is.
#[inline]
pub(crate) fn now() -> Instant {
    // Relaxed: the virtual time begins at the system's, so a late reader is not far off.
    if STAND.load(Ordering::Relaxed) == 0 {
        Instant::now()
    } else {
        of_runtime()
    }
}

#[cold]
fn of_runtime() -> Instant {
    engine::started().map_or_else(Instant::now, roving_runtime::Handle::now)
}

/// Whether any clock stands.
#[inline]
pub(crate) fn stands() -> bool {
    STAND.load(Ordering::Relaxed) != 0
}

/// Notes that one more stands. Attached.
pub(super) fn stopped() {
    STAND.fetch_add(1, Ordering::Relaxed);
    look_again();
}

/// Notes that one goes on. Attached.
pub(super) fn released() {
    STAND.fetch_sub(1, Ordering::Relaxed);
    look_again();
}

/// The plain threads that have ever waited in a call of roving's. Locked by attached threads alone, for no call.
static THREADS: Mutex<Vec<Weak<PlainThread>>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: OnceCell<Arc<PlainThread>> = const { OnceCell::new() };
}

fn threads() -> MutexGuard<'static, Vec<Weak<PlainThread>>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the plain thread that runs here, attached, learn of clocks that are stopped, and that go on, while it waits: it reckons how
/// long to wait by the one it goes by when it begins. To be called before it asks whether one stands.
#[inline]
pub(crate) fn enlist_thread() {
    // Where the thread's own are gone already, it waits by whatever clock there is.
    let _ = HERE.try_with(|here| {
        here.get_or_init(enlist);
    });
}

#[cold]
fn enlist() -> Arc<PlainThread> {
    let here = Arc::new(PlainThread::current());
    let mut threads = threads();
    if threads.len() == threads.capacity() {
        threads.retain(|thread| thread.strong_count() != 0);
    }
    threads.push(Arc::downgrade(&here));
    here
}

/// Ends all waits of plain threads once. One that has read the clock before, and begins its wait after this, finds its
/// token, and with it what we did before.
pub(super) fn look_again() {
    for thread in threads().iter().filter_map(Weak::upgrade) {
        thread.unpark();
    }
}

/// Forgets that any stands. Called in the child of a fork.
pub(crate) fn forget() {
    STAND.store(0, Ordering::Relaxed);
}

/// How often, at most, a plain thread looks at a clock that stands.
const LOOK: Duration = Duration::from_millis(1);

/// When to look whether it is so late. A clock that stands is not there the sooner for being looked at, and whoever moves it
/// wakes those that wait.
#[inline]
pub(crate) fn not_at_once(until: Instant) -> Instant {
    if !stands() {
        return until;
    }
    let now = now();
    if until <= now {
        until
    } else {
        until.max(now + LOOK)
    }
}

/// For the standard library's queues: nanoseconds since some moment.
#[pyfunction]
pub(crate) fn _monotonic_ns() -> u128 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    // The first caller's own reading may be later than what another thread puts in.
    let begin = *BEGIN.get_or_init(now);
    now().saturating_duration_since(begin).as_nanos()
}
