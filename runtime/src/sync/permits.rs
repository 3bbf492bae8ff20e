//! How many permits a semaphore has: its word.
//!
//! ```text
//!  bit 0     CLOSED   no permit is handed out any more. Changed under the queue's lock only
//!  bit 1     QUEUED   there are waiters: nobody takes permits in passing, and whoever adds some takes the queue's
//!                     lock. Changed under that lock only
//!  bits 2..  PERMITS  how many are left
//! ```

use crate::loom::sync::atomic::{AtomicUsize, Ordering};

const CLOSED: usize = 1;
const QUEUED: usize = 2;
const SHIFT: u32 = 2;

/// See the module's documentation.
pub(super) struct Permits(AtomicUsize);

/// What one that wants permits finds.
#[must_use]
#[derive(PartialEq, Eq)]
pub(super) enum ToTaken {
    Taken,
    /// There are too few, or others wait for them.
    MustWait,
    Closed,
}

/// What one that adds permits finds.
#[must_use]
#[derive(PartialEq, Eq)]
pub(super) enum ToAdded {
    Added,
    /// Added, and there are waiters: they must be seen to.
    MustGrant,
}

impl Permits {
    /// The most there can be.
    pub(super) const MAX: usize = usize::MAX >> SHIFT;

    const_unless_loom! {
        pub(super) const fn new(permits: usize) -> Self {
            assert!(permits <= Self::MAX, "roving: a semaphore has more permits than it can count");
            Self(AtomicUsize::new(permits << SHIFT))
        }
    }

    /// Takes `permits` in passing.
    #[inline]
    pub(super) fn transition_to_taken(&self, permits: usize) -> ToTaken {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return ToTaken::Closed;
            }
            if word & QUEUED != 0 || word >> SHIFT < permits {
                return ToTaken::MustWait;
            }
            // Acquire pairs with the release of `transition_to_added`.
            let next = word - (permits << SHIFT);
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return ToTaken::Taken,
                Err(now) => word = now,
            }
        }
    }

    /// As above, or else sets QUEUED. Under the queue's lock.
    pub(super) fn transition_to_taken_or_queued(&self, permits: usize) -> ToTaken {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, outcome) = if word & CLOSED != 0 {
                return ToTaken::Closed;
            } else if word & QUEUED != 0 || word >> SHIFT < permits {
                (word | QUEUED, ToTaken::MustWait)
            } else {
                (word - (permits << SHIFT), ToTaken::Taken)
            };
            // Acquire: as above.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return outcome,
                Err(now) => word = now,
            }
        }
    }

    /// Adds permits.
    ///
    /// # Panics
    /// When there would be more than [`Permits::MAX`].
    #[inline]
    pub(super) fn transition_to_added(&self, permits: usize) -> ToAdded {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let left = (word >> SHIFT)
                .checked_add(permits)
                .filter(|left| *left <= Self::MAX);
            let left = left.expect("roving: a semaphore has more permits than it can count");
            let next = left << SHIFT | word & (CLOSED | QUEUED);
            // Release pairs with the acquire of those that take.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => {
                    return if word & QUEUED != 0 {
                        ToAdded::MustGrant
                    } else {
                        ToAdded::Added
                    };
                }
                Err(now) => word = now,
            }
        }
    }

    /// How many permits there are for waiters, unless it is closed. Under the queue's lock.
    pub(super) fn grantable(&self) -> Option<usize> {
        // Acquire pairs with the release of `transition_to_added`; the waiter sees it all by its own word.
        let word = self.0.load(Ordering::Acquire);
        (word & CLOSED == 0).then_some(word >> SHIFT)
    }

    /// Takes permits for a waiter, past QUEUED. Under the queue's lock, after `grantable` said that they are
    /// there: with QUEUED set, others only add.
    pub(super) fn transition_to_granted(&self, permits: usize) {
        let before = self.0.fetch_sub(permits << SHIFT, Ordering::Relaxed);
        debug_assert!(before & QUEUED != 0 && before >> SHIFT >= permits);
    }

    /// Clears QUEUED. Under the queue's lock, when nobody waits.
    pub(super) fn transition_to_unqueued(&self) {
        // Relaxed: QUEUED only says that the queue's lock is to be taken, which orders the rest.
        self.0.fetch_and(!QUEUED, Ordering::Relaxed);
    }

    /// Sets CLOSED; true for the first time. Under the queue's lock.
    pub(super) fn transition_to_closed(&self) -> bool {
        // Relaxed: nothing is handed over with it.
        self.0.fetch_or(CLOSED, Ordering::Relaxed) & CLOSED == 0
    }

    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed) >> SHIFT
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CLOSED != 0
    }
}
