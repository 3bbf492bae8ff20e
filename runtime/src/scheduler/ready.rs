//! The ready queue: fibers of one worker that can go on, first in, first out, linked through their own
//! records. Only the worker's thread touches it.

use crate::fiber::{Core, FiberId, FiberRef};
use std::ptr::NonNull;

#[derive(Default)]
pub(super) struct ReadyQueue {
    head: Option<NonNull<Core>>,
    tail: Option<NonNull<Core>>,
    len: usize,
}

impl ReadyQueue {
    pub(super) fn len(&self) -> usize {
        self.len
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
        unsafe { core.as_ref().set_next(None) };
        match self.tail.replace(core) {
            // SAFETY: a fiber in the queue is alive and its link belongs to the queue.
            Some(tail) => unsafe { tail.as_ref().set_next(Some(core)) },
            None => self.head = Some(core),
        }
        self.len += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<FiberRef> {
        let core = self.head?;
        // SAFETY: a fiber in the queue is alive and its link belongs to the queue.
        self.head = unsafe { core.as_ref().next() };
        if self.head.is_none() {
            self.tail = None;
        }
        self.len -= 1;
        // SAFETY: the count given to `push`.
        Some(unsafe { FiberRef::from_raw(core) })
    }
}
