//! Waiters, first come, first served.

use crate::wait::Waiter;
use std::collections::VecDeque;
use std::sync::Arc;

/// Lives under its owner's lock. Holds only waiters that have not given up: those leave it under the same lock.
pub(crate) struct Queue {
    waiters: VecDeque<Arc<Waiter>>,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            waiters: VecDeque::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.push_back(Arc::clone(waiter));
    }

    /// For one that has waited before.
    pub(crate) fn push_first(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.push_front(Arc::clone(waiter));
    }

    /// Chooses the first waiter; it is to be woken once the lock is let go of.
    #[inline]
    #[must_use]
    pub(crate) fn choose(&mut self, code: u32) -> Option<Arc<Waiter>> {
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.choose(code) {
                return Some(waiter);
            }
        }
        None
    }

    /// Chooses the first `count` waiters.
    #[must_use]
    pub(crate) fn choose_many(&mut self, count: usize, code: u32) -> Vec<Arc<Waiter>> {
        std::iter::from_fn(|| self.choose(code)).take(count).collect()
    }

    /// Takes out a waiter that gives up; false if it was chosen, and has what it waited for.
    pub(crate) fn give_up(&mut self, waiter: &Arc<Waiter>) -> bool {
        if !waiter.abort() {
            return false;
        }
        if let Some(place) = self.waiters.iter().position(|one| Arc::ptr_eq(one, waiter)) {
            self.waiters.remove(place);
        }
        true
    }
}
