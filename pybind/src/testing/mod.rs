//! `roving.testing`: waiting until nothing moves, a clock of one's own, scheduling by a seed.
//!
//! Somebody looks when the runtime comes to rest, and does what is to be done then ([`rest::step`]): wakes who waits for
//! just that, else moves the clock on to the next deadline. That is a thread made for it (`watch.rs`), or
//! `roving.testing.run` itself (`seeded.rs`).
//!
//! At rest means: no fiber moves (`Handle::is_quiet`), and, for the clock, nothing that moves could make one move: no call on
//! the pool, nobody waits for a descriptor, and the plain threads that take part wait in roving's calls. So each of those
//! waits is noted here while a clock stands, with what will end it: a thread that has been woken and has not run yet moves.
//!
//! Hold no lock here across a call into Python.

mod clock;
mod rest;
mod seeded;
mod watch;

pub(crate) use clock::Clock;
pub(crate) use seeded::{chance, may_switch, run_seeded};
pub(crate) use watch::wait_all_parked;

use crate::wait::{Target, Waiter};
use crate::{clock as time, engine};
use pyo3::ffi;
use rest::{Settings, ThreadWait, Until};
use roving_runtime::PlainThread;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a process (`engine::Process`) keeps for tests.
pub(crate) struct State {
    /// Plain threads in waits of roving's, while a clock stands.
    threads: Mutex<Vec<ThreadWait>>,
    asked: Mutex<Asked>,
}

/// What is to be done when nothing moves.
struct Asked {
    /// Those in `wait_all_parked`, and until when, by the system's clock.
    waiters: Vec<(Arc<Waiter>, Option<Instant>)>,
    /// The clocks that stand, the innermost last.
    clocks: Vec<Settings>,
    /// Whether somebody sees to it.
    watched: bool,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            threads: Mutex::new(Vec::new()),
            asked: Mutex::new(Asked {
                waiters: Vec::new(),
                clocks: Vec::new(),
                watched: false,
            }),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<ThreadWait>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the parent's clocks, and its run. Called in the child of a fork, after its process was made anew.
pub(crate) fn forget() {
    time::forget();
    seeded::forget();
}

/// The number Python knows this thread by.
fn this_thread() -> u64 {
    // SAFETY: asks which thread this is.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// A wait of the plain thread that runs here, for as long as it is noted.
pub(crate) struct Noted {
    state: &'static State,
    thread: u64,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut threads = self.state.threads();
        // The innermost: a signal handler may wait in the middle of a wait, but between two of its parks.
        if let Some(place) = threads.iter().rposition(|wait| wait.thread == self.thread) {
            threads.remove(place);
        }
    }
}

/// Notes that the plain thread that runs here waits, if a clock stands. Who waits for something that nobody here knows of
/// is as good as running.
#[inline]
pub(crate) fn wait_of_thread(until: Option<Instant>, target: Target<'_>) -> Option<Noted> {
    if time::stands() {
        note(
            until,
            match target {
                Target::Waiter(waiter) => Until::Chosen(Arc::clone(waiter)),
                Target::Fiber(handle) => Until::Ended(handle.fiber()),
                Target::All => Until::Drained,
                Target::Outside => return None,
            },
        )
    } else {
        None
    }
}

#[cold]
fn note(deadline: Option<Instant>, until: Until) -> Option<Noted> {
    let process = engine::process();
    let handle = process.handle()?;
    let thread = this_thread();
    process.testing.threads().push(ThreadWait {
        thread,
        wakes: PlainThread::current(),
        deadline,
        until,
        disturbed: false,
    });
    handle.call_observers();
    Some(Noted {
        state: &process.testing,
        thread,
    })
}

/// A plain thread was woken from its wait for a reason that is none of those it waits for.
#[inline]
pub(crate) fn disturb(thread: &PlainThread) {
    if time::stands() {
        let mut threads = engine::process().testing.threads();
        let its = threads.iter_mut().filter(|wait| wait.wakes == *thread);
        its.for_each(|wait| wait.disturbed = true);
    }
}
