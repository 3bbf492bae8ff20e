//! Waiting until all has ended but daemons: who waits, and how many daemons there are. The README argues why no
//! wake-up is lost, and why the count is exact when it says zero.

use super::hub::Hub;
use crate::fiber::parker::{Parked, ThreadParker};
use crate::loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use crate::loom::sync::{Arc, Mutex};
use std::time::Instant;

/// Daemons: fibers that nobody waits for. Both counters only grow.
#[derive(Default)]
pub(super) struct Daemons {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Daemons {
    /// To be called after a daemon was counted as spawned, by the same thread.
    pub(super) fn begin(&self) {
        // Release pairs with the acquire of `begun`: who sees this sees the fiber counted as spawned.
        self.begun.fetch_add(1, Ordering::Release);
    }

    /// To be called before a daemon is counted as finished, by the same thread: who sees that count, which is a release,
    /// sees this.
    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Release);
    }

    /// To be read before the counts of what was spawned.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// To be read after the counts of what was finished.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }
}

/// The plain threads that wait for everything to end.
#[derive(Default)]
pub(super) struct Rest {
    /// How many there are: changed under the lock, read without it.
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Arc<ThreadParker>>>,
}

impl Rest {
    /// Waits once until `is_over`, as far as `announce` tells of it; false when `deadline` came first, or something else
    /// woke the thread.
    pub(super) fn wait(
        &self,
        parker: &Arc<ThreadParker>,
        deadline: Option<Instant>,
        is_over: impl Fn() -> bool,
    ) -> bool {
        if is_over() {
            return true;
        }
        self.change(|waiters| waiters.push(parker.clone()));
        // Pairs with the fence in `announce`: either the announcer sees us, or we see what it announces.
        fence(Ordering::SeqCst);
        if !is_over() {
            let (Parked::Woken | Parked::TimedOut) = parker.park(deadline);
        }
        self.change(|waiters| {
            if let Some(place) = waiters.iter().position(|one| Arc::ptr_eq(one, parker)) {
                waiters.swap_remove(place);
            }
        });
        is_over()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<ThreadParker>>)) {
        let mut waiters = self.waiters.lock();
        change(&mut waiters);
        self.waiting.store(waiters.len(), Ordering::Relaxed);
    }

    /// Wakes those that wait, if `is_over`. By whoever has counted something, afterwards.
    pub(super) fn announce(&self, is_over: impl FnOnce() -> bool) {
        // Pairs with the fence in `wait`.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 || !is_over() {
            return;
        }
        let waiters = self.waiters.lock().clone();
        // A wake that comes late leaves a token, by which a later park of that thread returns early.
        waiters.iter().for_each(|parker| parker.unpark());
    }
}

impl Hub {
    /// A daemon has been counted as spawned, by this thread.
    pub(crate) fn daemon_begun(&self) {
        self.daemons.begin();
        // Until now it counted as one to wait for.
        self.announce_rest();
    }

    /// A daemon is going to be counted as finished, by this thread.
    #[cold]
    pub(super) fn daemon_ends(&self) {
        self.daemons.end();
    }

    /// Tells those that wait for it if all has ended but daemons.
    pub(crate) fn announce_rest(&self) {
        self.rest.announce(|| self.rests());
    }

    /// Whether all has ended but daemons.
    pub(crate) fn rests(&self) -> bool {
        self.outstanding_but_daemons() == 0
    }

    /// Waits once until all has ended but daemons; false when `deadline` came first, or the thread was woken otherwise.
    pub(crate) fn wait_rest(&self, parker: &Arc<ThreadParker>, deadline: Option<Instant>) -> bool {
        self.rest.wait(parker, deadline, || self.rests())
    }

    /// As [`Hub::outstanding`], without daemons. Exact when it says zero, too.
    pub(crate) fn outstanding_but_daemons(&self) -> u64 {
        // What is taken away is read first, what is added last: see the README.
        let begun = self.daemons.begun();
        let finished = self.finished();
        fence(Ordering::SeqCst);
        let spawned = self.spawned();
        let ended = self.daemons.ended();
        spawned
            .wrapping_add(ended)
            .wrapping_sub(finished)
            .wrapping_sub(begun)
    }
}
