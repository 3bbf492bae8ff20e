//! The newest unstarted work of a worker, out of the deque for a moment.
//!
//! What a fiber spawns it often joins at once, or leaves to its own worker's next turn: in the deque a thief that
//! looks on would drag it across first. A thief takes it from here only when it has lain there while its owner was in
//! one and the same turn (Go's `runnext` is guarded in the same way: `runtime/proc.go`, `runqgrab`).

use super::work::Work;
use crate::loom::sync::atomic::{AtomicPtr, Ordering};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// One item of work, or none. Whoever takes the pointer out owns the work.
pub(super) struct Fresh(AtomicPtr<()>);

/// What somebody has seen in a [`Fresh`]: a name for it, not the right to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting(NonZeroUsize);

impl Sighting {
    pub(super) fn of(work: NonNull<()>) -> Self {
        Self(work.addr())
    }
}

impl Fresh {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Puts newer work in; the older comes out. The owner only.
    #[inline]
    #[must_use = "the older work must be queued"]
    pub(super) fn put(&self, work: Work) -> Option<Work> {
        // Release publishes what the work points to; pairs with the acquire of whoever takes it.
        let older = self.0.swap(work.into_raw().as_ptr(), Ordering::AcqRel);
        // SAFETY: put in by `put`, and taken out by us.
        NonNull::new(older).map(|older| unsafe { Work::from_raw(older) })
    }

    /// Takes what is there. The owner only.
    #[inline]
    pub(super) fn take(&self) -> Option<Work> {
        // Only the owner puts anything in, so what is empty stays so.
        self.peek()?;
        let work = self.0.swap(std::ptr::null_mut(), Ordering::Acquire);
        // SAFETY: put in by `put`, and taken out by us.
        NonNull::new(work).map(|work| unsafe { Work::from_raw(work) })
    }

    /// What is there.
    #[inline]
    pub(super) fn peek(&self) -> Option<Sighting> {
        NonNull::new(self.0.load(Ordering::Relaxed)).map(Sighting::of)
    }

    /// Takes what was seen, if it is still there (or other work at the same address, which is then ours as well).
    #[inline]
    pub(super) fn take_seen(&self, seen: Sighting) -> Option<Work> {
        self.0
            .compare_exchange(
                // Compared by address only: the pointer that comes out is the one that was put in.
                std::ptr::without_provenance_mut(seen.0.get()),
                std::ptr::null_mut(),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .ok()
            .and_then(NonNull::new)
            // SAFETY: put in by `put`, and taken out by us.
            .map(|work| unsafe { Work::from_raw(work) })
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Of a runtime that never ran, or was stopped: the work is refused.
        drop(self.take());
    }
}
