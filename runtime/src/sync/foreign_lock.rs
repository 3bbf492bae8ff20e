//! A lock in a byte of somebody else's, who locks it too, and has waiters of his own kind.
//!
//! ```text
//!  bit 0  LOCKED  somebody holds it
//!  bit 1  QUEUED  there may be waiters, ours or theirs: unlocking must look
//! ```
//!
//! This is the byte of WebKit's `WTF::Lock` and of CPython's `PyMutex`. Their waiters stand in their own parking lot, ours in
//! a [`Lot`]; QUEUED speaks for both. Whoever holds the lock may be of either kind, so **every** unlock goes
//! through here: theirs does not know of our waiters.
//!
//! Law of the byte. LOCKED is set by anybody, by compare-exchange. With QUEUED clear, the holder clears LOCKED by
//! compare-exchange. With both set the byte is changed under our lot's lock only, and under the lock of their
//! queue as well if one of theirs is woken, or none of ours is there. QUEUED is set by waiters of either kind, by
//! compare-exchange, and cleared only under both locks with both queues empty.
//!
//! Unlocking wakes one waiter, ours and theirs in turn. Ours is *nudged* and competes with whoever comes by; after
//! [`LIMIT`] failures, or a millisecond after the first, it is *handed* the lock. What theirs get is theirs to say.

use super::lot::{Lot, LotPlace, LotWait};
use crate::fiber::{Cancelled, clock};
use crate::loom::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

const LOCKED: u8 = 1;
const QUEUED: u8 = 2;

/// Failures after which a waiter is handed the lock.
const LIMIT: u32 = if cfg!(loom) { 1 } else { 8 };
/// How long after its first failure a waiter is handed the lock.
const GRACE: Duration = Duration::from_millis(1);

/// The tokens of our waiters.
const FRESH: u32 = 0;
const FAILED_ENOUGH: u32 = 1;

/// The codes they are woken with.
const NUDGED: u32 = 0;
const HANDED_OVER: u32 = 1;

/// The wakers' note: whose turn it is. Ours come first, since who unlocks knows of them for sure.
const OURS: u32 = 0;
const THEIRS: u32 = 1;

/// The waiters of the other kind.
pub trait ForeignWaiters {
    /// Wakes the first of theirs that waits for this byte, and stores what the byte is to say: QUEUED (2) if more of them
    /// wait or `keep` says so, and LOCKED (1) if the lock is handed over. If none waits: leaves the byte as it is
    /// and returns false if `keep`, else stores 0. All under the lock their waiters take to look at the byte.
    fn wake_one(&self, byte: &AtomicU8, keep: bool) -> bool;
}

/// See the module's documentation.
#[derive(Clone, Copy)]
pub struct ForeignLock<'a, F> {
    byte: &'a AtomicU8,
    lot: &'a Lot,
    theirs: F,
}

impl<'a, F: ForeignWaiters> ForeignLock<'a, F> {
    /// The lock in `byte`, whose waiters of ours are in `lot`, at the byte's address.
    #[inline]
    pub fn new(byte: &'a AtomicU8, lot: &'a Lot, theirs: F) -> Self {
        Self { byte, lot, theirs }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self.byte).addr()
    }

    /// Locks it if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        let mut byte = self.byte.load(Ordering::Relaxed);
        while byte & LOCKED == 0 {
            // Acquire pairs with the release of whoever unlocked it.
            match self
                .byte
                .compare_exchange_weak(byte, byte | LOCKED, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => byte = now,
            }
        }
        false
    }

    /// Waits until `deadline` at most (`None`: for ever); true when it was locked.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    pub fn lock_until(&self, deadline: Option<Instant>) -> Result<bool, Cancelled> {
        let mut failures = 0;
        let mut first = None;
        let mut place = LotPlace::Back;
        loop {
            if self.try_lock() {
                return Ok(true);
            }
            let enough = failures >= LIMIT
                || first.is_some_and(|at: Instant| clock::now().saturating_duration_since(at) >= GRACE);
            let token = if enough { FAILED_ENOUGH } else { FRESH };
            let mut locked = false;
            let ended = self.lot.wait(self.address(), (place, token), deadline, || {
                locked = self.lock_or_queue();
                !locked
            })?;
            // A nudged waiter that leaves by a timeout or a cancellation passes nothing on: it has tried once more,
            // and found the lock held, by one that will look for waiters when it unlocks.
            match ended {
                LotWait::Unneeded | LotWait::Woken(HANDED_OVER) => return Ok(true),
                LotWait::TimedOut => return Ok(false),
                LotWait::Woken(_nudged) => {
                    failures += 1;
                    first = first.or_else(|| Some(clock::now()));
                    place = LotPlace::Front;
                }
            }
        }
    }

    /// Locks it, or else sets QUEUED: then whoever unlocks looks for waiters. Under the lot's lock.
    fn lock_or_queue(&self) -> bool {
        let mut byte = self.byte.load(Ordering::Relaxed);
        loop {
            let (next, locked) = if byte & LOCKED == 0 {
                (byte | LOCKED, true)
            } else {
                (byte | QUEUED, false)
            };
            // Acquire: as in `try_lock`.
            match self
                .byte
                .compare_exchange_weak(byte, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return locked,
                Err(now) => byte = now,
            }
        }
    }

    /// Unlocks it; false when it was not locked.
    #[inline]
    pub fn unlock(&self) -> bool {
        // Release pairs with the acquire of the next one that locks, of either kind.
        match self
            .byte
            .compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed)
        {
            Ok(_) => true,
            Err(byte) if byte & LOCKED == 0 => false,
            Err(_) => self.unlock_slow(),
        }
    }

    #[cold]
    fn unlock_slow(&self) -> bool {
        let mut unlocked = true;
        // Whether one of theirs was woken, and the byte is written.
        let done = std::cell::Cell::new(false);
        self.lot.wake_one(
            self.address(),
            |turn, token| {
                // Somebody else may have unlocked it, or ours have left and come again.
                if self.byte.load(Ordering::Relaxed) != LOCKED | QUEUED {
                    return None;
                }
                if *turn == THEIRS {
                    *turn = OURS;
                    if self.theirs.wake_one(self.byte, true) {
                        done.set(true);
                        return None;
                    }
                }
                *turn = THEIRS;
                Some(if token == FAILED_ENOUGH {
                    HANDED_OVER
                } else {
                    NUDGED
                })
            },
            |woken| match woken.code {
                // Both bits stay. QUEUED does in any case, for theirs: one may queue up while it is set.
                Some(HANDED_OVER) => {}
                // Release: as in `unlock`.
                Some(_nudged) => self.byte.store(QUEUED, Ordering::Release),
                None if done.get() => {}
                None => unlocked = self.unlock_without_ours(woken.more),
            },
        );
        unlocked
    }

    /// Unlocks it when none of ours was woken. Under the lot's lock.
    fn unlock_without_ours(&self, more: bool) -> bool {
        let mut byte = self.byte.load(Ordering::Relaxed);
        loop {
            if byte & LOCKED == 0 {
                return false;
            }
            if byte & QUEUED != 0 {
                // Ours were looked at, and none could be woken: only after theirs have unlocked it, who did not know
                // of ours and cleared QUEUED. `nudge_all` is to come then.
                if !self.theirs.wake_one(self.byte, more) && more {
                    // Release: as in `unlock`.
                    self.byte.store(QUEUED, Ordering::Release);
                }
                return true;
            }
            // Release: as in `unlock`.
            match self
                .byte
                .compare_exchange_weak(byte, 0, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => byte = now,
            }
        }
    }

    /// Wakes all of ours, to look again: after the lock was unlocked by one who did not know of them.
    pub fn nudge_all(&self) {
        self.lot.wake_all(self.address(), NUDGED);
    }
}

impl<F> std::fmt::Debug for ForeignLock<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignLock").finish_non_exhaustive()
    }
}
