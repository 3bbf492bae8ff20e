//! Quiet: every worker sleeps and nothing is queued, so no fiber moves before something comes from outside: a thread that
//! is no worker, a descriptor, a signal, time. And those that watch for it.
//!
//! **Exact.** A worker takes nothing from any queue while it stands on the list of sleepers, and leaves the list under its
//! lock; so while that lock is held and all of them are on the list, what they pushed before is seen, nothing is taken, and
//! empty queues stay empty but for what comes from outside. A worker that found work in its last look before sleeping is on
//! the list too: the queue it found it in is not empty, and it waits for the lock. (A worker in its driver may have fibers to
//! run, unseen, when a descriptor or the system's clock woke them a moment ago: that came from outside. By a virtual clock
//! no fiber is woken in there, and a timer that is due counts as queued.)
//!
//! **No quiet moment is missed.** It begins with a worker that falls asleep, or a spare that ends. The worker: on the
//! list; fence; are there watchers? The watcher: counted; fence; look. Either the worker sees the watcher, or the watcher's
//! first look sees it asleep.

use super::hub::{Hub, Phase};
use crate::fiber::options::Class;
use crate::loom::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::loom::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// Those that watch for quiet.
pub(super) struct Watchers {
    count: AtomicUsize,
    /// How often a worker fell asleep, or somebody asked for another look, while there were any.
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Watchers {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            changes: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// After the fence of one that falls asleep.
    #[inline]
    pub(super) fn tell(&self) {
        if self.count.load(Ordering::Relaxed) != 0 {
            self.call();
        }
    }

    /// Makes all of them look again.
    pub(super) fn call(&self) {
        *self.changes.lock() += 1;
        self.changed.notify_all();
    }

    /// One more watches: it must look before it waits.
    pub(super) fn join(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence of a worker that falls asleep.
        fence(Ordering::SeqCst);
    }

    pub(super) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until there is a change that is not `seen`; false when `deadline` came first.
    pub(super) fn wait(&self, seen: &mut Option<u64>, deadline: Option<Instant>) -> bool {
        let mut changes = self.changes.lock();
        while *seen == Some(*changes) {
            if self.changed.wait_until(&mut changes, deadline) && *seen == Some(*changes) {
                return false;
            }
        }
        *seen = Some(*changes);
        true
    }
}

/// A thread that is no worker, watching.
pub(crate) struct Watch {
    hub: Arc<Hub>,
    /// The changes it knows of; `None` before the first look.
    seen: Option<u64>,
}

impl Watch {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        hub.watchers.join();
        Self { hub, seen: None }
    }

    /// Waits until there may be something new: at once the first time. False when `deadline`, by the system's clock, came
    /// first.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> bool {
        self.hub.watchers.wait(&mut self.seen, deadline)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.watchers.leave();
    }
}

impl Hub {
    /// Whether no fiber moves before something comes from outside: see the module's documentation.
    pub(crate) fn is_quiet(&self) -> bool {
        // A runtime that stops has workers that leave without falling asleep.
        if self.phase() >= Phase::Stopping {
            return true;
        }
        self.idle
            .while_asleep(self.threads(), || self.nothing_is_queued())
    }

    fn nothing_is_queued(&self) -> bool {
        let none_is_due =
            || !self.time.is_virtual() || self.next_deadline().is_none_or(|at| at > self.time.now());
        Class::ALL.iter().all(|&class| !self.has_stealable(class))
            && self.workers().iter().all(|remote| {
                remote.inbox.is_empty()
                    && remote.mailed.load(Ordering::Relaxed) == 0
                    && remote.fresh.peek().is_none()
            })
            && none_is_due()
    }

    /// After something other than a worker has come to rest: those that watch, if there are any, look again.
    pub(crate) fn tell_watchers(&self) {
        // Pairs with the fence of one that begins to watch: it sees what we did, or we see it.
        fence(Ordering::SeqCst);
        self.watchers.tell();
    }

    /// Makes those that watch look again.
    pub(crate) fn call_watchers(&self) {
        self.watchers.call();
    }

    /// When the next timer of any worker is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let workers = self.workers().iter();
        workers.filter_map(|remote| remote.driver().next_deadline()).min()
    }

    /// Whether any fiber or future waits for a descriptor.
    pub(crate) fn awaits_events(&self) -> bool {
        self.workers()
            .iter()
            .any(|remote| remote.driver().awaits_events())
    }

    /// Whether a timer of this worker is due by a virtual clock. By the system's the driver itself sees to it.
    pub(super) fn is_due(&self, worker: usize) -> bool {
        self.time.is_virtual()
            && self.remotes[worker]
                .driver()
                .next_deadline()
                .is_some_and(|at| at <= self.time.now())
    }

    /// Moves a virtual clock on, and has the workers look at their timers.
    pub(crate) fn advance_time(&self, to: Instant) {
        self.time.advance_to(to);
        self.look_at_timers();
    }

    /// Has every worker look at its timers, or, asleep, set its alarm anew.
    ///
    /// One that falls asleep meanwhile looks at the clock after it has said so, and thus after it was moved, or is found
    /// asleep here and woken.
    pub(crate) fn look_at_timers(&self) {
        for (index, remote) in self.workers().iter().enumerate() {
            if remote.driver().next_deadline().is_some() {
                remote.look_now.store(true, Ordering::Relaxed);
                self.wake_up(index);
            }
        }
    }
}
