//! The state word of a fiber: documented bits, moved only by the `transition_to_*` functions below.
//!
//! ```text
//!  bits 0..2  phase   UNSTARTED  a closure in some queue; whoever moves it to ACTIVE may start it
//!                     ACTIVE     running, or in its home worker's ready queue or inbox
//!                     PARKED     suspended; the one that moves it to ACTIVE must schedule it
//!                     DONE       its outcome is stored; the word never changes phase again
//!  bit  2     TOKEN   an unpark came while ACTIVE; the next park consumes it and returns at once
//!  bit  3     CANCEL  cancellation is requested; stays set, unless the fiber itself takes the request back
//!  bit  4     WAITED  somebody waits for DONE: whoever moves to DONE must wake them
//!  bit  5     DETACHED  nobody will take the outcome
//! ```
//!
//! There is no phase for "unparked but not yet running": an unpark moves PARKED to ACTIVE itself, so
//! resuming costs no atomic operation. A second unpark before the fiber runs leaves a TOKEN; the park
//! that consumes it returns early, which every wait loop allows.

use crate::loom::sync::atomic::{AtomicU32, Ordering};

const PHASE: u32 = 0b11;
const UNSTARTED: u32 = 0;
const ACTIVE: u32 = 1;
const PARKED: u32 = 2;
const DONE: u32 = 3;
const TOKEN: u32 = 1 << 2;
const CANCEL: u32 = 1 << 3;
const WAITED: u32 = 1 << 4;
const DETACHED: u32 = 1 << 5;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct StateWord(AtomicU32);

/// A copy of the word at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u32);

/// Who may start the fiber.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToActive {
    /// The caller: it owns the closure now.
    Claimed,
    /// Somebody else already did, or it was cancelled: the queue entry is a tombstone.
    Taken,
}

/// What a fiber about to suspend finds.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToParked {
    /// It must switch out now; it may be scheduled from this moment on.
    Parked,
    /// An unpark came first; it must not switch out.
    TokenConsumed,
}

/// What an unpark has to do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToReady {
    /// The fiber was parked and is ours alone: put it into its home's queue.
    Schedule,
    /// It was active (a token is left), not started, or done: nothing to do.
    Noted,
}

/// What the completer has to do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToDone {
    /// Somebody waits for the end.
    pub(crate) waited: bool,
    /// Nobody will take the outcome.
    pub(crate) detached: bool,
}

/// What a handle finds when it lets go.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToDetached {
    /// The fiber goes on; whoever completes it disposes of the outcome.
    StillRunning,
    /// It is done: the caller disposes of the outcome.
    Done,
}

/// What a waiter for the end finds.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToWaited {
    /// It will be woken.
    Waiting,
    /// There is nothing to wait for.
    Done,
}

impl StateWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(UNSTARTED))
    }

    #[inline]
    pub(crate) fn load(&self) -> Snapshot {
        // Acquire pairs with the release of `transition_to_done`: who sees DONE sees the outcome.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// UNSTARTED to ACTIVE.
    #[inline]
    pub(crate) fn transition_to_active(&self) -> ToActive {
        let mut word = self.0.load(Ordering::Relaxed);
        while word & PHASE == UNSTARTED {
            // Acquire pairs with the queue's own release as well; kept here so that a claim through
            // the handle, which takes no queue, sees the closure too (it was written before the
            // handle was made, and the handle crossed threads by some release).
            match self
                .0
                .compare_exchange_weak(word, word | ACTIVE, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return ToActive::Claimed,
                Err(now) => word = now,
            }
        }
        ToActive::Taken
    }

    /// ACTIVE to PARKED, or the token. Called by the fiber itself.
    #[inline]
    pub(crate) fn transition_to_parked(&self) -> ToParked {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & PHASE, ACTIVE, "only a running fiber parks itself");
            let (next, outcome) = if word & TOKEN != 0 {
                (word & !TOKEN, ToParked::TokenConsumed)
            } else {
                (word & !PHASE | PARKED, ToParked::Parked)
            };
            // Release: what the fiber wrote before parking (its home, its record) is seen by the
            // unparker that schedules it. Acquire: what the unparker wrote before its token is seen.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return outcome,
                Err(now) => word = now,
            }
        }
    }

    /// PARKED to ACTIVE, or leaves the token.
    #[inline]
    pub(crate) fn transition_to_ready(&self) -> ToReady {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, outcome) = match word & PHASE {
                PARKED => (word & !PHASE | ACTIVE, ToReady::Schedule),
                ACTIVE => (word | TOKEN, ToReady::Noted),
                _ => return ToReady::Noted,
            };
            // AcqRel, also when nothing changes: the fiber must see what we wrote before this unpark
            // when it finds the token, and we must see its record when we schedule it.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return outcome,
                Err(now) => word = now,
            }
        }
    }

    /// Any phase to DONE. Called by whoever holds the right to run the fiber.
    #[inline]
    pub(crate) fn transition_to_done(&self) -> ToDone {
        // Release publishes the outcome; acquire sees the waiters that set WAITED.
        let word = self.0.fetch_or(DONE, Ordering::AcqRel);
        debug_assert_ne!(word & PHASE, DONE, "a fiber is completed once");
        ToDone {
            waited: word & WAITED != 0,
            detached: word & DETACHED != 0,
        }
    }

    /// Announces a waiter that is already in the list of waiters.
    #[inline]
    pub(crate) fn transition_to_waited(&self) -> ToWaited {
        // AcqRel: the completer that sees WAITED sees the list; we see the outcome if it came first.
        let word = self.0.fetch_or(WAITED, Ordering::AcqRel);
        if word & PHASE == DONE {
            ToWaited::Done
        } else {
            ToWaited::Waiting
        }
    }

    /// The handle lets go.
    #[inline]
    pub(crate) fn transition_to_detached(&self) -> ToDetached {
        let word = self.0.fetch_or(DETACHED, Ordering::AcqRel);
        if word & PHASE == DONE {
            ToDetached::Done
        } else {
            ToDetached::StillRunning
        }
    }

    /// Requests cancellation; true for the first request on a fiber that is not done. The caller
    /// must unpark the fiber afterwards: the order closes the gap between a check and a park.
    #[inline]
    pub(crate) fn transition_to_cancelled(&self) -> bool {
        let word = self.0.fetch_or(CANCEL, Ordering::AcqRel);
        word & CANCEL == 0 && word & PHASE != DONE
    }

    /// Takes a request of cancellation back; true if there was one. Called by the fiber itself.
    pub(crate) fn transition_to_uncancelled(&self) -> bool {
        // AcqRel: what was written before a request, also one that found the bit set, is seen once it is taken.
        self.0.fetch_and(!CANCEL, Ordering::AcqRel) & CANCEL != 0
    }
}

impl Snapshot {
    pub(crate) fn is_unstarted(self) -> bool {
        self.0 & PHASE == UNSTARTED
    }

    pub(crate) fn is_parked(self) -> bool {
        self.0 & PHASE == PARKED
    }

    pub(crate) fn is_done(self) -> bool {
        self.0 & PHASE == DONE
    }

    pub(crate) fn is_detached(self) -> bool {
        self.0 & DETACHED != 0
    }

    pub(crate) fn is_cancelled(self) -> bool {
        self.0 & CANCEL != 0
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = ["Unstarted", "Active", "Parked", "Done"][(self.0 & PHASE) as usize];
        f.write_str(phase)?;
        for (bit, name) in [
            (TOKEN, "token"),
            (CANCEL, "cancel"),
            (WAITED, "waited"),
            (DETACHED, "detached"),
        ] {
            if self.0 & bit != 0 {
                write!(f, "|{name}")?;
            }
        }
        Ok(())
    }
}
