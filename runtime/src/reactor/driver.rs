//! One worker's poll and timer queue.
//!
//! The poll is behind a lock that the owner holds while it sleeps; any other thread may look in its place
//! with a try-lock when the owner is stuck. The timer queue has a lock of its own, since fibers arm and
//! disarm timers while the poll is held. Wakes are begun under the lock that names the waiter and finished
//! after all locks are released: see `fiber::parker`.

use super::record::Registrar;
use super::seat::{Found, Seat};
use super::selector::{PollSelector, broken};
use super::timers::{SharedTimers, TimerKey};
use crate::fiber::TimerId;
use crate::fiber::clock::TimeSource;
use crate::fiber::parker::{Unparker, Wake};
use crate::loom::sync::Arc;
use crate::scheduler::driver::Driver;
use mio::Waker;
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

/// Timers of one look. More that are due wait for the next, which comes after some turns, or at once before a
/// sleep: the alarm then rings without delay.
const TIMERS: usize = 1024;
/// Sleeps shorter than this end by the alarm.
const SHORT: Duration = Duration::from_millis(10);

pub(crate) struct PollDriver {
    seat: Seat<PollSelector>,
    timers: SharedTimers<Unparker>,
    time: Arc<TimeSource>,
    waker: Waker,
    registrar: Arc<Registrar>,
}

thread_local! {
    /// Room for the wakes of one look, kept from look to look.
    static WAKES: Cell<Vec<Wake>> = const { Cell::new(Vec::new()) };
}

impl PollDriver {
    /// A poll whose timers go by `time`.
    pub(crate) fn new(time: Arc<TimeSource>) -> io::Result<Self> {
        let (selector, waker, watcher) = PollSelector::new()?;
        Ok(Self {
            seat: Seat::new(selector),
            timers: SharedTimers::new(),
            time,
            waker,
            registrar: Arc::new(Registrar::new(watcher)),
        })
    }

    pub(super) fn registrar(&self) -> &Arc<Registrar> {
        &self.registrar
    }

    /// Calls `look`, then, with no lock held, carries out the wakes it found and those of due timers. I/O
    /// goes first: who waited for both finds its data, not a timeout.
    fn look(&self, timers: bool, look: impl FnOnce(&mut Found)) {
        let mut found = Found {
            woken: false,
            wakes: WAKES.take(),
        };
        look(&mut found);
        if timers {
            let now = || self.time.now();
            self.timers.expire(now, TIMERS, Unparker::prefetch, |unparker| {
                found.wakes.push(unparker.begin());
            });
        }
        finish(&mut found.wakes);
        WAKES.set(found.wakes);
    }
}

/// Carries out wakes. No lock may be held: a waker is code of the user's, and a woken thread is free to go.
pub(super) fn finish(wakes: &mut Vec<Wake>) {
    for wake in wakes.drain(..) {
        wake.finish();
    }
}

impl Driver for PollDriver {
    fn park(&self, timeout: Option<Duration>) {
        // The poll itself counts in milliseconds.
        let short = timeout
            .filter(|&timeout| timeout < SHORT)
            .and_then(|timeout| Instant::now().checked_add(timeout));
        // By a virtual clock nothing falls due in a sleep: whoever moves it ends the sleep, and the worker, by then known to be
        // awake, polls. Otherwise it would have fibers to run while it still counted as asleep.
        let stands = self.time.is_virtual();
        self.look(!stands, |found| {
            let prepare = |selector: &mut PollSelector| {
                let deadline = self.timers.fall_asleep().filter(|_| !stands);
                let deadline = deadline.into_iter().chain(short).min();
                if let Some(deadline) = deadline {
                    selector.set_alarm(deadline);
                }
            };
            self.seat.sleep(timeout, prepare, found);
            self.timers.awake();
        });
    }

    fn poll(&self) {
        self.look(true, |found| {
            if self.registrar.is_waited_for() {
                self.seat.glance(found);
            }
        });
    }

    fn wake(&self) {
        self.waker
            .wake()
            .unwrap_or_else(|error| broken("wake a worker", &error));
    }

    fn arm(&self, deadline: Instant, unparker: Unparker) -> TimerId {
        let armed = self.timers.arm(deadline, unparker);
        if armed.wake {
            self.wake();
        }
        TimerId(armed.key.to_bits())
    }

    fn disarm(&self, timer: TimerId) -> bool {
        self.timers.disarm(TimerKey::from_bits(timer.0))
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    fn awaits_events(&self) -> bool {
        self.registrar.is_waited_for()
    }

    fn shut(&self) {
        self.registrar.shut();
    }
}

impl Drop for PollDriver {
    fn drop(&mut self) {
        // Of a runtime that never ran.
        self.shut();
    }
}
