//! One wait of one fiber or thread, and the word that decides how it ends.
//!
//! ```text
//!  bits 0..2   phase  WAITING  anybody may end the wait: a waker by CHOSEN, the waiter itself by ABORTED
//!                     ABORTED  the waiter gave up; nobody can choose it any more
//!                     CHOSEN   one waker has it: under the lock of the queue it found the waiter in, it hands
//!                              over what the wait was for and begins the wake
//!                     WOKEN    that waker has touched the waiter for the last time
//!  bits 2..32  code   what the waker had to say; what it means is the queue's affair
//! ```
//!
//! The one word may stand in several queues at once (a `select`): the compare-exchange away from WAITING is
//! what makes exactly one of them win. After crossbeam-channel's `context.rs` and Go's `select.go`. There, a
//! woken waiter takes the lock again before it may leave its queue; here WOKEN tells it that it need not,
//! and CHOSEN that it must.

#[cfg(all(test, loom))]
#[path = "loom_waiter.rs"]
mod loom_waiter;

use crate::fiber::WaitReason;
use crate::fiber::clock;
use crate::fiber::parker::{Parked, Parker, Unparker, Wake};
use crate::loom::cell::UnsafeCell;
use crate::loom::sync::atomic::{AtomicU32, Ordering};
use std::marker::PhantomPinned;
use std::time::Instant;

const PHASE: u32 = 0b11;
const WAITING: u32 = 0;
const ABORTED: u32 = 1;
const CHOSEN: u32 = 2;
const WOKEN: u32 = 3;
const CODE_SHIFT: u32 = 2;

/// See the module's documentation.
struct Word(AtomicU32);

/// What a waker finds.
#[must_use]
enum ToChosen {
    /// The waiter is the caller's to wake, and must be woken.
    Chosen,
    /// It gave up, or another waker has it.
    Taken,
}

/// What a waiter that gives up finds.
#[must_use]
enum ToAborted {
    /// Nobody will choose it any more.
    Aborted,
    /// Somebody has.
    TooLate,
}

/// The word at some moment, as its waiter sees it.
enum Seen {
    Waiting,
    Chosen(u32),
    Woken(u32),
}

impl Word {
    fn new() -> Self {
        Self(AtomicU32::new(WAITING))
    }

    #[inline]
    fn load(&self) -> Seen {
        // Acquire pairs with the release of `transition_to_woken`: what the waker handed over is seen.
        let word = self.0.load(Ordering::Acquire);
        match word & PHASE {
            WOKEN => Seen::Woken(word >> CODE_SHIFT),
            CHOSEN => Seen::Chosen(word >> CODE_SHIFT),
            _ => Seen::Waiting,
        }
    }

    /// WAITING to CHOSEN. Under the lock of a queue the waiter is in.
    #[inline]
    fn transition_to_chosen(&self, code: u32) -> ToChosen {
        debug_assert!(code <= u32::MAX >> CODE_SHIFT);
        // Relaxed: the waiter's own writes came to us by the queue's lock, and it sees ours by WOKEN or by
        // that lock. That it sees CHOSEN when it finds our unpark is the release of `Unparker::begin`.
        match self.0.compare_exchange(
            WAITING,
            code << CODE_SHIFT | CHOSEN,
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            Ok(_) => ToChosen::Chosen,
            Err(_) => ToChosen::Taken,
        }
    }

    /// CHOSEN to WOKEN, by the one that chose.
    #[inline]
    fn transition_to_woken(&self, code: u32) {
        // Release pairs with the acquire of `load`. A store: nobody else moves the word from CHOSEN.
        self.0.store(code << CODE_SHIFT | WOKEN, Ordering::Release);
    }

    /// WAITING to ABORTED, by the waiter.
    fn transition_to_aborted(&self) -> ToAborted {
        // Relaxed: giving up hands nothing over, and who finds itself too late looks again.
        match self
            .0
            .compare_exchange(WAITING, ABORTED, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => ToAborted::Aborted,
            Err(_) => ToAborted::TooLate,
        }
    }
}

/// How long to wait, and for what.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    deadline: Option<Instant>,
    cancellable: bool,
    reason: WaitReason,
}

/// Why a wait ended with nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GaveUp {
    TimedOut,
    Cancelled,
}

impl Patience {
    /// Until `deadline` (`None`: for ever), or until cancelled.
    pub(super) fn until(deadline: Option<Instant>, reason: WaitReason) -> Self {
        Self {
            deadline,
            cancellable: true,
            reason,
        }
    }

    /// Come what may.
    pub(super) const fn endless(reason: WaitReason) -> Self {
        Self {
            deadline: None,
            cancellable: false,
            reason,
        }
    }

    /// The same wait, come what may.
    pub(super) fn without_end(self) -> Self {
        Self::endless(self.reason)
    }

    /// Whether there is any point in beginning to wait.
    #[inline]
    pub(super) fn lasts(&self, parker: &Parker) -> Result<(), GaveUp> {
        if self.cancellable && parker.is_cancelled() {
            return Err(GaveUp::Cancelled);
        }
        match self.deadline {
            Some(at) if at <= clock::now() => Err(GaveUp::TimedOut),
            _ => Ok(()),
        }
    }
}

/// How a wait ended.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its waker said this, and has let go of the waiter.
    Woken(u32),
    /// Its waker said this and may still be at work: the waiter must take the lock of the queue it was chosen
    /// from once before it looks at anything or leaves.
    Chosen(u32),
}

/// What a waiter finds when it wakes up.
#[must_use]
pub(super) enum Pause {
    Ended(Ended),
    /// Its patience is at an end. It may still be chosen, until it gives up.
    Impatient(GaveUp),
}

/// One wait. Pinned where it is made until its nodes have left their queues.
pub(super) struct Waiter {
    word: Word,
    /// Law: set when the waiter is made; taken by the one that moved the word to CHOSEN.
    unparker: UnsafeCell<Option<Unparker>>,
    _pin: PhantomPinned,
}

/// A waiter that the caller has chosen and must wake.
#[must_use = "a waiter that is chosen and not woken waits for ever"]
pub(super) struct Choice<'a> {
    waiter: &'a Waiter,
    unparker: Unparker,
    code: u32,
}

impl Waiter {
    pub(super) fn new(unparker: Unparker) -> Self {
        Self {
            word: Word::new(),
            unparker: UnsafeCell::new(Some(unparker)),
            _pin: PhantomPinned,
        }
    }

    /// Ends the wait with `code`, unless it has ended already. Of a fiber that was abandoned where it waits the
    /// choice falls on the next.
    ///
    /// # Safety
    /// The caller holds the lock of a queue that a node of this waiter is (or was, since it took the lock) in,
    /// and keeps it until the returned choice is used up.
    #[inline]
    pub(super) unsafe fn choose(&self, code: u32) -> Option<Choice<'_>> {
        match self.word.transition_to_chosen(code) {
            ToChosen::Taken => None,
            ToChosen::Chosen => {
                // SAFETY: the transition is made once, and makes the cell ours.
                let unparker = self.unparker.with_mut(|unparker| unsafe { (*unparker).take() });
                let unparker = unparker.expect("a waiter is chosen once");
                (!unparker.is_abandoned()).then_some(Choice {
                    waiter: self,
                    unparker,
                    code,
                })
            }
        }
    }

    /// Blocks until chosen, or until `patience` ends.
    #[inline]
    pub(super) fn wait(&self, parker: &Parker, patience: &Patience) -> Pause {
        // An embedder's hook that unwinds would free a waiter that stands in queues.
        let bomb = AbortOnUnwind;
        let pause = self.wait_by(
            || parker.park(patience.deadline, patience.reason),
            || patience.cancellable && parker.is_cancelled(),
        );
        std::mem::forget(bomb);
        pause
    }

    #[inline]
    fn wait_by(&self, park: impl Fn() -> Parked, is_cancelled: impl Fn() -> bool) -> Pause {
        loop {
            let parked = park();
            if let Some(ended) = self.ended() {
                return Pause::Ended(ended);
            }
            if is_cancelled() {
                return Pause::Impatient(GaveUp::Cancelled);
            }
            if parked == Parked::TimedOut {
                return Pause::Impatient(GaveUp::TimedOut);
            }
        }
    }

    /// Ends the wait with nothing, unless it has been chosen.
    pub(super) fn give_up(&self) -> Option<Ended> {
        match self.word.transition_to_aborted() {
            ToAborted::Aborted => None,
            ToAborted::TooLate => Some(self.ended().expect("the word never goes back to WAITING")),
        }
    }

    /// How it ended, if it has.
    #[inline]
    pub(super) fn ended(&self) -> Option<Ended> {
        match self.word.load() {
            Seen::Waiting => None,
            Seen::Chosen(code) => Some(Ended::Chosen(code)),
            Seen::Woken(code) => Some(Ended::Woken(code)),
        }
    }
}

impl Choice<'_> {
    /// Begins the wake, still under the lock; what the waiter is given has been handed over.
    #[inline]
    pub(super) fn wake(self) -> Wake {
        self.wake_by(Unparker::begin)
    }

    #[inline]
    fn wake_by<R>(self, begin: impl FnOnce(Unparker) -> R) -> R {
        // In this order. Were the word WOKEN first, a waiter that is not asleep could leave, and its fiber end,
        // before `begin` has used the pointer to it. Were it still WAITING at `begin`, a waiter that is not
        // asleep could find nothing, and go to sleep with its wake used up.
        let wake = begin(self.unparker);
        self.waiter.word.transition_to_woken(self.code);
        wake
    }
}

/// Aborts the process if a panic passes through it.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        eprintln!("roving: a panic in a hook, while a fiber waited; aborting");
        std::process::abort();
    }
}
