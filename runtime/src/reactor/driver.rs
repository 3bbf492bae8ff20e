//! One worker's poll and timer queue.
//!
//! The poll is behind a lock that the owner holds while it sleeps; any other thread may look in its place
//! with a try-lock when the owner is stuck. The timer queue has a lock of its own, since fibers arm and
//! disarm timers while the poll is held. Wakes are begun under the lock that names the waiter and finished
//! after all locks are released: see `fiber::parker`.

use super::record::Registrar;
use super::seat::{Found, Seat};
use super::selector::{PollSelector, broken};
use super::timers::{TimerKey, TimerQueue};
use crate::fiber::TimerId;
use crate::fiber::parker::{Unparker, Wake};
use crate::loom::sync::atomic::{AtomicUsize, Ordering};
use crate::loom::sync::{Arc, Mutex};
use crate::scheduler::driver::Driver;
use mio::Waker;
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

/// Timers of one look. More that are due wait for the next, which comes after some turns, or at once before a
/// sleep: the alarm then rings without delay.
const TIMERS: usize = 1024;
/// Timers taken out before their wakes are begun, so that the records of those that wait come into the cache together.
const BATCH: usize = 16;

pub(crate) struct PollDriver {
    seat: Seat<PollSelector>,
    timers: Mutex<Timers>,
    /// Pending timers, so that a look need not take the lock to learn that there are none. Written under it.
    pending: AtomicUsize,
    waker: Waker,
    registrar: Arc<Registrar>,
}

struct Timers {
    queue: TimerQueue<Unparker>,
    /// The owner sleeps, or is about to, until the deadline it saw under this lock.
    asleep: bool,
}

thread_local! {
    /// Room for the wakes of one look, kept from look to look.
    static WAKES: Cell<Vec<Wake>> = const { Cell::new(Vec::new()) };
}

impl PollDriver {
    pub(crate) fn new() -> io::Result<Self> {
        let (selector, waker, watcher) = PollSelector::new()?;
        Ok(Self {
            seat: Seat::new(selector),
            timers: Mutex::new(Timers {
                queue: TimerQueue::new(),
                asleep: false,
            }),
            pending: AtomicUsize::new(0),
            waker,
            registrar: Arc::new(Registrar::new(watcher)),
        })
    }

    pub(super) fn registrar(&self) -> &Arc<Registrar> {
        &self.registrar
    }

    /// Begins the wakes of the timers that are due.
    fn expire(&self, wakes: &mut Vec<Wake>) {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut timers = self.timers.lock();
        for _ in 0..TIMERS / BATCH {
            let mut batch = [const { None }; BATCH];
            for place in &mut batch {
                let Some((_, unparker)) = timers.queue.pop_expired(now) else {
                    break;
                };
                unparker.prefetch();
                *place = Some(unparker);
            }
            let full = batch[BATCH - 1].is_some();
            wakes.extend(batch.into_iter().flatten().map(Unparker::begin));
            if !full {
                break;
            }
        }
        self.pending.store(timers.queue.len(), Ordering::Relaxed);
    }

    /// Calls `look`, then, with no lock held, carries out the wakes it found and those of due timers. I/O
    /// goes first: who waited for both finds its data, not a timeout.
    fn look(&self, look: impl FnOnce(&mut Found)) {
        let mut found = Found {
            woken: false,
            wakes: WAKES.take(),
        };
        look(&mut found);
        self.expire(&mut found.wakes);
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
        self.look(|found| {
            let prepare = |selector: &mut PollSelector| {
                let deadline = {
                    let mut timers = self.timers.lock();
                    // Under the lock: who arms an earlier timer after this sees `asleep` and wakes us.
                    timers.asleep = true;
                    timers.queue.next_deadline()
                };
                if let Some(deadline) = deadline {
                    selector.set_alarm(deadline);
                }
            };
            self.seat.sleep(timeout, prepare, found);
            self.timers.lock().asleep = false;
        });
    }

    fn poll(&self) {
        self.look(|found| {
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
        let mut timers = self.timers.lock();
        let key = timers.queue.insert(deadline, unparker);
        self.pending.store(timers.queue.len(), Ordering::Relaxed);
        let wake = timers.asleep && timers.queue.is_next(key);
        // Once is enough: it looks at the queue again before its next sleep.
        timers.asleep &= !wake;
        drop(timers);
        if wake {
            self.wake();
        }
        TimerId(key.to_bits())
    }

    fn disarm(&self, timer: TimerId) -> bool {
        let mut timers = self.timers.lock();
        let disarmed = timers.queue.cancel(TimerKey::from_bits(timer.0)).is_some();
        self.pending.store(timers.queue.len(), Ordering::Relaxed);
        disarmed
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
