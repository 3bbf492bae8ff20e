//! The lock of [`super::Mutex`], without the data.
//!
//! ```text
//!  bit 0  LOCKED  somebody holds it
//!  bit 1  QUEUED  there are waiters: unlocking must take the queue's lock. Changed under that lock only
//! ```
//!
//! Unlocking leaves the lock free and *nudges* the first waiter, which then competes with whoever comes by
//! (barging): throughput does not wait for a sleeper to wake up. A nudged waiter that finds the lock taken goes
//! back to the head of the queue; after [`LIMIT`] such failures, or a millisecond after the first, the lock is
//! *handed over* to it without ever being free, so that nobody starves. After parking_lot's `raw_mutex.rs`
//! (barging, eventual fairness) and Go's `sync/mutex.go` (the millisecond).

use super::spin::Spin;
use super::waiter::{Choice, GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters};
use crate::fiber::parker::Parker;
use crate::fiber::{Cancelled, WaitReason, clock};
use crate::loom::sync::MutexGuard;
use crate::loom::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LOCKED: u32 = 1;
const QUEUED: u32 = 2;

/// Failures after which a waiter is handed the lock.
const LIMIT: u32 = if cfg!(loom) { 1 } else { 8 };
/// How long after its first failure a waiter is handed the lock.
const GRACE: Duration = Duration::from_millis(1);

/// The codes a waiter is woken with.
const NUDGED: u32 = 0;
const HANDED_OVER: u32 = 1;

/// See the module's documentation.
struct Word(AtomicU32);

/// What one that wants the lock finds.
#[must_use]
#[derive(PartialEq, Eq)]
enum ToLocked {
    Locked,
    /// Somebody holds it; `queued` says whether others wait already.
    Held {
        queued: bool,
    },
}

/// What one that lets go of the lock finds.
#[must_use]
#[derive(PartialEq, Eq)]
enum ToUnlocked {
    Unlocked,
    /// It is still locked: the first waiter must be seen to.
    Queued,
    /// It was not locked.
    WasFree,
}

impl Word {
    /// Sets LOCKED if it is not set.
    #[inline]
    fn transition_to_locked(&self) -> ToLocked {
        // Acquire pairs with the release of `transition_to_unlocked` and `transition_to_free`.
        match self
            .0
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => ToLocked::Locked,
            Err(word) => self.transition_to_locked_beside_waiters(word),
        }
    }

    fn transition_to_locked_beside_waiters(&self, mut word: u32) -> ToLocked {
        while word & LOCKED == 0 {
            // Acquire: as above.
            match self
                .0
                .compare_exchange_weak(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return ToLocked::Locked,
                Err(now) => word = now,
            }
        }
        ToLocked::Held {
            queued: word & QUEUED != 0,
        }
    }

    /// Sets LOCKED, or else QUEUED: then whoever unlocks will take the queue's lock. Under that lock.
    fn transition_to_locked_or_queued(&self) -> ToLocked {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, outcome) = if word & LOCKED == 0 {
                (word | LOCKED, ToLocked::Locked)
            } else {
                (word | QUEUED, ToLocked::Held { queued: true })
            };
            // Acquire: as in `transition_to_locked`.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return outcome,
                Err(now) => word = now,
            }
        }
    }

    /// Clears LOCKED if nobody waits.
    #[inline]
    fn transition_to_unlocked(&self) -> ToUnlocked {
        // Release pairs with the acquire of the next one that locks.
        match self
            .0
            .compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed)
        {
            Ok(_) => ToUnlocked::Unlocked,
            Err(word) if word & LOCKED == 0 => ToUnlocked::WasFree,
            Err(_) => ToUnlocked::Queued,
        }
    }

    /// Clears LOCKED, and sets QUEUED as given. Of a word with both set, under the queue's lock.
    fn transition_to_free(&self, queued: bool) {
        // Release: as above. A store: a word with both bits set is only changed under the queue's lock.
        self.0.store(if queued { QUEUED } else { 0 }, Ordering::Release);
    }

    /// Clears QUEUED if nobody waits any more, and leaves LOCKED. Under the queue's lock.
    fn transition_to_queued(&self, queued: bool) {
        if !queued {
            // Relaxed: QUEUED only says that the queue's lock is to be taken, which orders the rest.
            self.0.fetch_and(!QUEUED, Ordering::Relaxed);
        }
    }

    fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LOCKED != 0
    }
}

/// What a waiter has been through.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    first: Option<Instant>,
}

impl Failures {
    fn again(self) -> Self {
        Self {
            count: self.count + 1,
            first: self.first.or_else(|| Some(clock::now())),
        }
    }

    /// The clock is only read for one that has failed: not on the way of a lock that goes round smoothly.
    fn have_been_enough(&self) -> bool {
        self.count >= LIMIT
            || self
                .first
                .is_some_and(|at| clock::now().saturating_duration_since(at) >= GRACE)
    }
}

/// A lock that guards no data: for those, such as interpreters, whose lock and unlock are calls of their own.
///
/// Any fiber or thread may unlock it. Fibers and plain threads may wait for it side by side. Waiters are woken
/// first come first served; one that just comes by may overtake them, for a bounded time.
///
/// ```
/// use roving_runtime::sync::RawMutex;
///
/// let lock = RawMutex::new();
/// lock.lock().expect("nobody cancels a plain thread");
/// assert!(!lock.try_lock());
/// assert!(lock.unlock());
/// assert!(!lock.unlock(), "it was not locked");
/// ```
pub struct RawMutex {
    word: Word,
    waiters: Waiters<WaitQueue<Failures>>,
}

impl RawMutex {
    const_unless_loom! {
        /// An unlocked lock.
        pub const fn new() -> Self {
            Self { word: Word(AtomicU32::new(0)), waiters: Waiters::new(WaitQueue::new()) }
        }
    }

    /// Locks it if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.word.transition_to_locked() == ToLocked::Locked
    }

    /// Waits until it is free, and locks it.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    #[inline]
    pub fn lock(&self) -> Result<(), Cancelled> {
        if self.try_lock() {
            return Ok(());
        }
        self.lock_slow(&Patience::until(None, WaitReason::Mutex))
            .map_err(|_| Cancelled)
    }

    /// Waits until `deadline` at most (`None`: for ever); true when it was locked.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    #[inline]
    pub fn lock_until(&self, deadline: Option<Instant>) -> Result<bool, Cancelled> {
        if self.try_lock() {
            return Ok(true);
        }
        match self.lock_slow(&Patience::until(deadline, WaitReason::Mutex)) {
            Ok(()) => Ok(true),
            Err(GaveUp::TimedOut) => Ok(false),
            Err(GaveUp::Cancelled) => Err(Cancelled),
        }
    }

    /// Locks it whatever comes.
    pub(super) fn lock_uncancellable(&self) {
        if !self.try_lock() {
            let locked = self.lock_slow(&Patience::endless(WaitReason::Mutex));
            debug_assert_eq!(locked, Ok(()));
        }
    }

    pub(super) fn lock_within(&self, deadline: Option<Instant>) -> Result<(), GaveUp> {
        if self.try_lock() {
            Ok(())
        } else {
            self.lock_slow(&Patience::until(deadline, WaitReason::Mutex))
        }
    }

    /// Unlocks it; false when it was not locked.
    #[inline]
    pub fn unlock(&self) -> bool {
        match self.word.transition_to_unlocked() {
            ToUnlocked::Unlocked => true,
            ToUnlocked::WasFree => false,
            ToUnlocked::Queued => self.unlock_slow(),
        }
    }

    /// Whether somebody holds it, at this moment.
    pub fn is_locked(&self) -> bool {
        self.word.is_locked()
    }

    #[cfg(test)]
    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.lock().is_empty()
    }

    #[cold]
    fn lock_slow(&self, patience: &Patience) -> Result<(), GaveUp> {
        let parker = Parker::current();
        let mut spin = Spin::new();
        let mut failures = Failures::default();
        let mut place = Place::Back;
        loop {
            match self.word.transition_to_locked() {
                ToLocked::Locked => return Ok(()),
                // Where others wait already, the lock is not about to come free for us.
                ToLocked::Held { queued: false } if spin.pause() => continue,
                ToLocked::Held { .. } => {}
            }
            let queue = self.waiters.lock();
            if self.word.transition_to_locked_or_queued() == ToLocked::Locked {
                return Ok(());
            }
            // A nudged waiter that gives up here passes nothing on: the lock is held, by one that came by, and
            // it will see QUEUED when it unlocks if anybody waits.
            match self
                .waiters
                .wait(queue, &parker, (place, failures), patience, self)?
            {
                HANDED_OVER => return Ok(()),
                _nudged => {
                    failures = failures.again();
                    place = Place::Front;
                }
            }
        }
    }

    #[cold]
    fn unlock_slow(&self) -> bool {
        let mut queue = self.waiters.lock();
        // The last waiter may have left meanwhile, or another unlocked what is not its own.
        match self.word.transition_to_unlocked() {
            ToUnlocked::Unlocked => return true,
            ToUnlocked::WasFree => return false,
            ToUnlocked::Queued => {}
        }
        let mut code = NUDGED;
        let choice = queue.choose(|failures| {
            code = if failures.have_been_enough() {
                HANDED_OVER
            } else {
                NUDGED
            };
            Some(code)
        });
        let wake = choice.map(Choice::wake);
        let queued = !queue.is_empty();
        match wake {
            Some(_) if code == HANDED_OVER => self.word.transition_to_queued(queued),
            _ => self.word.transition_to_free(queued),
        }
        drop(queue);
        if let Some(wake) = wake {
            wake.finish();
        }
        true
    }
}

impl Wait<WaitQueue<Failures>> for &RawMutex {
    type Data = Failures;

    fn queue<'q>(&self, queue: &'q mut WaitQueue<Failures>) -> &'q mut WaitQueue<Failures> {
        queue
    }

    fn left(self, queue: MutexGuard<'_, WaitQueue<Failures>>) {
        self.word.transition_to_queued(!queue.is_empty());
    }
}

impl Default for RawMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawMutex")
            .field("locked", &self.is_locked())
            .finish_non_exhaustive()
    }
}
