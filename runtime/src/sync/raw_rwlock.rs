//! The lock of [`super::RwLock`], without the data.
//!
//! ```text
//!  bit 0      WRITER   a writer holds it
//!  bit 1      QUEUED   there are waiters: nobody takes the lock in passing, and the last holder to leave takes
//!                      the queue's lock. Changed under that lock only
//!  bits 2..   READERS  how many readers hold it
//! ```
//!
//! Fair: once one waits, all that come after queue up behind it, readers too, and the lock is handed from its
//! last holder to the first in the queue: a writer, or all readers up to the next writer. So neither side
//! starves. The price is that a reader cannot take the lock a second time while a writer waits. After the queued
//! locks of Mellor-Crummey and Scott ("Scalable Reader-Writer Synchronization", 1991), over one locked list.

use super::spin::Spin;
use super::waiter::{GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters, Wakes};
use crate::fiber::parker::Parker;
use crate::loom::sync::MutexGuard;
use crate::loom::sync::atomic::{AtomicU32, Ordering};

const WRITER: u32 = 1;
const QUEUED: u32 = 2;
const READER: u32 = 4;
const READERS: u32 = !(WRITER | QUEUED);

/// The one code: the lock is the waiter's.
const GRANTED: u32 = 0;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

/// See the module's documentation.
struct Word(AtomicU32);

/// What one that wants the lock finds.
#[must_use]
#[derive(PartialEq, Eq)]
enum ToHeld {
    Held,
    /// Another holds it in a way that does not go with ours, or waits.
    MustWait,
}

/// What one that leaves finds.
#[must_use]
#[derive(PartialEq, Eq)]
enum ToLeft {
    Left,
    /// It was the last holder, and there are waiters: they must be seen to.
    MustGrant,
}

impl Word {
    /// Takes the lock if it may be taken in passing.
    #[inline]
    fn transition_to_held(&self, mode: Mode) -> ToHeld {
        match mode {
            // Acquire pairs with the release of `transition_to_left`.
            Mode::Write => match self
                .0
                .compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => ToHeld::Held,
                Err(_) => ToHeld::MustWait,
            },
            Mode::Read => {
                let mut word = self.0.load(Ordering::Relaxed);
                while word & (WRITER | QUEUED) == 0 {
                    let next = Self::with_reader(word);
                    // Acquire: as above.
                    match self
                        .0
                        .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
                    {
                        Ok(_) => return ToHeld::Held,
                        Err(now) => word = now,
                    }
                }
                ToHeld::MustWait
            }
        }
    }

    /// # Panics
    /// When there are 2^30 readers: that is a leak of guards.
    fn with_reader(word: u32) -> u32 {
        word.checked_add(READER)
            .expect("roving: more read guards of one lock than can be counted")
    }

    /// Takes the lock in passing, or sets QUEUED. Under the queue's lock.
    fn transition_to_held_or_queued(&self, mode: Mode) -> ToHeld {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let free = match mode {
                Mode::Write => word == 0,
                Mode::Read => word & (WRITER | QUEUED) == 0,
            };
            let (next, outcome) = match mode {
                Mode::Write if free => (WRITER, ToHeld::Held),
                Mode::Read if free => (Self::with_reader(word), ToHeld::Held),
                _ => (word | QUEUED, ToHeld::MustWait),
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

    /// Lets go of the lock.
    #[inline]
    fn transition_to_left(&self, mode: Mode) -> ToLeft {
        let held = match mode {
            Mode::Write => WRITER,
            Mode::Read => READER,
        };
        // Release pairs with the acquire of the next one that takes it. Acquire, for the one that must grant: it
        // acts for the readers that left before it, whose reads must come before the next writer's writes.
        let before = self.0.fetch_sub(held, Ordering::AcqRel);
        if before & QUEUED != 0 && before & !QUEUED == held {
            ToLeft::MustGrant
        } else {
            ToLeft::Left
        }
    }

    /// Whether a waiter can be given the lock. Under the queue's lock.
    fn can_be_granted(&self, mode: Mode) -> bool {
        // Acquire pairs with the release of those that left; the waiter sees it all by its own word.
        let word = self.0.load(Ordering::Acquire);
        match mode {
            Mode::Write => word & (WRITER | READERS) == 0,
            Mode::Read => word & WRITER == 0 && word & READERS != READERS,
        }
    }

    /// Takes the lock for a waiter, past QUEUED. Under the queue's lock, after `can_be_granted` said so: with
    /// QUEUED set, others only leave.
    fn transition_to_granted(&self, mode: Mode) {
        let held = match mode {
            Mode::Write => WRITER,
            Mode::Read => READER,
        };
        let before = self.0.fetch_add(held, Ordering::Relaxed);
        debug_assert!(before & QUEUED != 0 && before & WRITER == 0);
    }

    /// Clears QUEUED. Under the queue's lock, when nobody waits.
    fn transition_to_unqueued(&self) {
        // Relaxed: as for a mutex.
        self.0.fetch_and(!QUEUED, Ordering::Relaxed);
    }

    fn is_queued(&self) -> bool {
        self.0.load(Ordering::Relaxed) & QUEUED != 0
    }
}

pub(super) struct RawRwLock {
    word: Word,
    waiters: Waiters<WaitQueue<Mode>>,
}

impl RawRwLock {
    const_unless_loom! {
        pub(super) const fn new() -> Self {
            Self { word: Word(AtomicU32::new(0)), waiters: Waiters::new(WaitQueue::new()) }
        }
    }

    #[inline]
    pub(super) fn try_lock(&self, mode: Mode) -> bool {
        self.word.transition_to_held(mode) == ToHeld::Held
    }

    #[inline]
    pub(super) fn lock(&self, mode: Mode, patience: &Patience) -> Result<(), GaveUp> {
        if self.try_lock(mode) {
            Ok(())
        } else {
            self.lock_slow(mode, patience)
        }
    }

    #[cfg(test)]
    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.lock().is_empty()
    }

    #[cold]
    fn lock_slow(&self, mode: Mode, patience: &Patience) -> Result<(), GaveUp> {
        let parker = Parker::current();
        let mut spin = Spin::new();
        while !self.word.is_queued() && spin.pause() {
            if self.try_lock(mode) {
                return Ok(());
            }
        }
        let queue = self.waiters.lock();
        if self.word.transition_to_held_or_queued(mode) == ToHeld::Held {
            return Ok(());
        }
        self.waiters
            .wait(queue, &parker, (Place::Back, mode), patience, self)
            .map(|_granted| ())
    }

    #[inline]
    pub(super) fn unlock(&self, mode: Mode) {
        if self.word.transition_to_left(mode) == ToLeft::MustGrant {
            self.unlock_slow();
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        self.grant(self.waiters.lock());
    }

    /// Gives the lock to the first waiters, as far as it can be given.
    fn grant(&self, queue: MutexGuard<'_, WaitQueue<Mode>>) {
        let mut wakes = Wakes::new();
        self.grant_batch(queue, &mut wakes);
        while wakes.finish() {
            self.grant_batch(self.waiters.lock(), &mut wakes);
        }
    }

    fn grant_batch(&self, mut queue: MutexGuard<'_, WaitQueue<Mode>>, wakes: &mut Wakes) {
        while !wakes.is_full() {
            let mut chosen = Mode::Write;
            let choice = queue.choose(|mode| {
                chosen = *mode;
                self.word.can_be_granted(chosen).then_some(GRANTED)
            });
            let Some(choice) = choice else { break };
            self.word.transition_to_granted(chosen);
            wakes.push(choice.wake());
        }
        if queue.is_empty() {
            self.word.transition_to_unqueued();
        }
    }
}

impl Wait<WaitQueue<Mode>> for &RawRwLock {
    type Data = Mode;

    fn queue<'q>(&self, queue: &'q mut WaitQueue<Mode>) -> &'q mut WaitQueue<Mode> {
        queue
    }

    /// A writer that gives up may have kept the readers behind it waiting for nothing.
    fn left(self, queue: MutexGuard<'_, WaitQueue<Mode>>) {
        self.grant(queue);
    }
}
