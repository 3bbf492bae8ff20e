//! A queue of deadlines that fibers arm and disarm while its worker sleeps until the next of them. Knows nothing of
//! polls, so that models can check it: how a timer that is called off races with its time, and one that is armed
//! with its worker going to sleep.

use super::{TimerKey, TimerQueue};
use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Timers taken out before the first of them is begun, so that what they stand for comes into the cache together.
const BATCH: usize = 16;

/// See the module's documentation.
pub(in crate::reactor) struct SharedTimers<T> {
    inner: Mutex<Inner<T>>,
    /// Pending timers, so that a look need not take the lock to learn that there are none. Written under it.
    pending: AtomicUsize,
}

struct Inner<T> {
    queue: TimerQueue<T>,
    /// The owner sleeps, or is about to, until the deadline it saw under this lock.
    asleep: bool,
}

/// A timer that has been armed.
#[must_use]
pub(in crate::reactor) struct Armed {
    pub(in crate::reactor) key: TimerKey,
    /// The owner sleeps until a later moment: it must be woken.
    pub(in crate::reactor) wake: bool,
}

impl<T> SharedTimers<T> {
    pub(in crate::reactor) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                queue: TimerQueue::new(),
                asleep: false,
            }),
            pending: AtomicUsize::new(0),
        }
    }

    /// Calls `begin` with what is due, under the lock: whoever finds its timer gone knows that this is over.
    /// About so many at most. `announce` is called with some of them ahead of that.
    pub(in crate::reactor) fn expire(
        &self,
        now: impl FnOnce() -> Instant,
        most: usize,
        announce: impl Fn(&T),
        mut begin: impl FnMut(T),
    ) {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = now();
        let mut inner = self.inner.lock();
        for _ in 0..most.div_ceil(BATCH) {
            let mut batch = [const { None }; BATCH];
            for place in &mut batch {
                let Some((_, value)) = inner.queue.pop_expired(now) else {
                    break;
                };
                announce(&value);
                *place = Some(value);
            }
            let full = batch[BATCH - 1].is_some();
            batch.into_iter().flatten().for_each(&mut begin);
            if !full {
                break;
            }
        }
        self.pending.store(inner.queue.len(), Ordering::Relaxed);
    }

    pub(in crate::reactor) fn arm(&self, deadline: Instant, value: T) -> Armed {
        let mut inner = self.inner.lock();
        let key = inner.queue.insert(deadline, value);
        self.pending.store(inner.queue.len(), Ordering::Relaxed);
        let wake = inner.asleep && inner.queue.is_next(key);
        // Once is enough: it looks at the queue again before its next sleep.
        inner.asleep &= !wake;
        Armed { key, wake }
    }

    /// True when it was not due yet. Otherwise `begin` has been called with its value, and has returned.
    pub(in crate::reactor) fn disarm(&self, key: TimerKey) -> bool {
        let mut inner = self.inner.lock();
        let value = inner.queue.cancel(key);
        self.pending.store(inner.queue.len(), Ordering::Relaxed);
        // The drop of a waker is code of the user's, which may well disarm another timer.
        drop(inner);
        value.is_some()
    }

    /// The owner is about to sleep, until then at the latest: whoever arms an earlier timer after this wakes it.
    pub(in crate::reactor) fn fall_asleep(&self) -> Option<Instant> {
        let mut inner = self.inner.lock();
        inner.asleep = true;
        inner.queue.next_deadline()
    }

    /// When the next timer is due.
    pub(in crate::reactor) fn next_deadline(&self) -> Option<Instant> {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.inner.lock().queue.next_deadline()
    }

    /// The owner sleeps no more.
    pub(in crate::reactor) fn awake(&self) {
        self.inner.lock().asleep = false;
    }
}
