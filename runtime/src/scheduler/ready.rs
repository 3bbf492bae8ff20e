//! The ready queue: fibers of one worker that can go on, first in, first out, linked through their own
//! records. Only the worker's thread touches it.

use crate::fiber::{Core, FiberId, FiberRef};
use std::ptr::NonNull;

#[derive(Default)]
pub(super) struct ReadyQueue {
    head: Option<NonNull<Core>>,
    tail: Option<NonNull<Core>>,
}

impl ReadyQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The fiber that has the longest wait before it.
    pub(super) fn last_id(&self) -> Option<FiberId> {
        // SAFETY: a fiber in the queue is alive.
        self.tail.map(|tail| unsafe { tail.as_ref() }.id)
    }

    #[inline]
    pub(super) fn push(&mut self, fiber: FiberRef) {
        let core = fiber.into_raw();
        // SAFETY: the reference we took over makes its link ours.
        unsafe { Core::set_next(core, None) };
        match self.tail.replace(core) {
            // SAFETY: a fiber in the queue is alive and its link belongs to the queue.
            Some(tail) => unsafe { Core::set_next(tail, Some(core)) },
            None => self.head = Some(core),
        }
    }

    /// While the fiber before it runs, what the switch to this one needs may come into the cache: its record was asked for
    /// one turn earlier.
    fn prepare(core: NonNull<Core>) {
        // SAFETY: a fiber in the queue is alive and suspended, or has not started; the queue is the worker's loop's.
        unsafe { Core::prefetch_stack(core) };
        // SAFETY: a fiber in the queue is alive and its link belongs to the queue.
        if let Some(after) = unsafe { Core::next(core) } {
            Core::prefetch(after);
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<FiberRef> {
        let core = self.head?;
        // SAFETY: a fiber in the queue is alive and its link belongs to the queue.
        self.head = unsafe { Core::next(core) };
        match self.head {
            None => self.tail = None,
            // Two that take turns stay in the cache by themselves.
            Some(next) if self.head != self.tail => Self::prepare(next),
            Some(_) => {}
        }
        // SAFETY: the count given to `push`.
        Some(unsafe { FiberRef::from_raw(core) })
    }
}
