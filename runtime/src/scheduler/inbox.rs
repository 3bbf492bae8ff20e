//! The inbox: fibers of one worker made runnable by other threads. Many producers, one consumer.
//! Treiber's stack (IBM RJ 5118, 1986), taken whole and reversed by the consumer, so there is no ABA.

use super::ready::ReadyQueue;
use crate::fiber::{Core, FiberRef, options::Class};
use crate::loom::sync::atomic::{AtomicPtr, Ordering};
use std::ptr::NonNull;

pub(super) struct Inbox {
    head: AtomicPtr<Core>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            head: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Any thread. The caller then wakes the worker if it sleeps (after a fence: see the README).
    pub(super) fn push(&self, fiber: FiberRef) {
        let core = fiber.into_raw();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: not in the inbox yet: the link is ours through the reference we took over.
            unsafe { Core::set_next(core, NonNull::new(head)) };
            // Release publishes the link; pairs with the acquire of `drain`.
            match self
                .head
                .compare_exchange_weak(head, core.as_ptr(), Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Moves everything to the ready queues by class, oldest first. The worker's thread only.
    pub(super) fn drain(&self, ready: &mut [ReadyQueue; 2]) -> usize {
        let mut newest = NonNull::new(self.head.swap(std::ptr::null_mut(), Ordering::Acquire));
        let mut oldest: Option<NonNull<Core>> = None;
        while let Some(core) = newest {
            // SAFETY: taken from the inbox, so alive and its link ours.
            newest = unsafe { Core::next(core) };
            // SAFETY: as above.
            unsafe { Core::set_next(core, oldest) };
            oldest = Some(core);
        }
        let mut moved = 0;
        while let Some(core) = oldest {
            // SAFETY: as above.
            oldest = unsafe { Core::next(core) };
            // SAFETY: the count given to `push`.
            let fiber = unsafe { FiberRef::from_raw(core) };
            let class: Class = fiber.class;
            ready[class.index()].push(fiber);
            moved += 1;
        }
        moved
    }
}
