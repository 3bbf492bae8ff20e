//! Poison: the mark a lock bears when a fiber or thread panicked while it held it. As in the standard library.

use crate::fiber::current;
use crate::loom::sync::atomic::{AtomicBool, Ordering};

/// The mark.
pub(super) struct Poison(AtomicBool);

/// Whether the holder was unwinding when it took the lock: a lock that is taken by a destructor in the middle of
/// a panic is not poisoned by that panic.
#[derive(Clone, Copy)]
pub(super) struct Watch {
    was_unwinding: bool,
}

impl Watch {
    #[inline]
    pub(super) fn start() -> Self {
        Self {
            was_unwinding: current::is_unwinding(),
        }
    }
}

impl Poison {
    const_unless_loom! {
        pub(super) const fn new() -> Self {
            Self(AtomicBool::new(false))
        }
    }

    /// Relaxed, as are the others: the lock beside the mark orders it.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What was reached through the lock, in the error's place if the mark is there.
    #[inline]
    pub(super) fn vet<G>(&self, reached: G) -> Result<G, G> {
        if self.is_set() { Err(reached) } else { Ok(reached) }
    }

    /// Called by the holder as it unlocks.
    #[inline]
    pub(super) fn end(&self, watch: Watch) {
        if !watch.was_unwinding && current::is_unwinding() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
