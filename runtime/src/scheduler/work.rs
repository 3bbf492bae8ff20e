//! What the stealable queues hold: an unstarted fiber or a stackless future, in one word.

use crate::fiber::{Core, FiberRef, Refusal, options::Class};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// A stackless future ready to be polled.
pub(crate) type Runnable = async_task::Runnable<Class>;

/// One unit of unstarted, stealable work.
pub(crate) struct Work(NonNull<()>);

/// [`Work`], unpacked.
pub(crate) enum Unpacked {
    Fiber(FiberRef),
    Future(Runnable),
}

const FUTURE: usize = 1;

// SAFETY: it owns a `FiberRef` or a `Runnable`, both of which are Send.
unsafe impl Send for Work {}

impl Work {
    #[inline]
    pub(crate) fn fiber(fiber: FiberRef) -> Self {
        Self(fiber.into_raw().cast())
    }

    pub(crate) fn future(runnable: Runnable) -> Self {
        // Both pointers come from allocations aligned to at least a word, so the low bit is free.
        Self(runnable.into_raw().map_addr(|addr| addr | FUTURE))
    }

    #[inline]
    pub(crate) fn unpack(self) -> Unpacked {
        let this = ManuallyDrop::new(self);
        let tagged = this.0;
        if tagged.addr().get() & FUTURE == 0 {
            // SAFETY: made by `fiber`, whose count we own, and given out once.
            Unpacked::Fiber(unsafe { FiberRef::from_raw(tagged.cast::<Core>()) })
        } else {
            let raw = tagged.map_addr(|addr| {
                std::num::NonZeroUsize::new(addr.get() & !FUTURE).expect("a pointer under the tag")
            });
            // SAFETY: made by `future` from a Runnable of this type, and given out once.
            Unpacked::Future(unsafe { Runnable::from_raw(raw) })
        }
    }

    /// Gives the work to the caller as a pointer, to be taken back with `from_raw`.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<()> {
        ManuallyDrop::new(self).0
    }

    /// # Safety
    /// `raw` came from `into_raw`, and is taken back once.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<()>) -> Self {
        Self(raw)
    }

    /// Whether it makes sense to hand it to another worker: a future belongs to none anyway.
    pub(crate) fn can_be_placed(&self) -> bool {
        self.0.addr().get() & FUTURE == 0
    }

    /// Whether it is a fiber that nobody waits for.
    pub(super) fn is_daemon(&self) -> bool {
        // SAFETY: our count keeps the fiber alive.
        self.can_be_placed() && unsafe { self.0.cast::<Core>().as_ref() }.daemon
    }

    /// Whether nothing is left to do: the fiber was claimed by its joiner, or cancelled.
    pub(crate) fn is_tombstone(&self) -> bool {
        if self.0.addr().get() & FUTURE != 0 {
            return false;
        }
        // SAFETY: our count keeps the fiber alive.
        let core = unsafe { self.0.cast::<Core>().as_ref() };
        !core.state.load().is_unstarted()
    }
}

impl Drop for Work {
    /// Work that is dropped is refused: whoever joins it learns that the runtime went away.
    fn drop(&mut self) {
        match Work(self.0).unpack() {
            Unpacked::Fiber(fiber) => {
                crate::fiber::refuse(&fiber, Refusal::Abandoned);
            }
            // Dropping a Runnable cancels its task.
            Unpacked::Future(runnable) => drop(runnable),
        }
    }
}
