//! Where a value lies while its sender or receiver waits.

use crate::loom::cell::UnsafeCell;
use std::ptr::NonNull;

/// A sender's slot holds the value it waits to be rid of, a receiver's is empty.
///
/// Law: while a node that points here is in a queue, the slot belongs to the channel's lock. Before that, and
/// once the wait has ended, it belongs to the waiter.
pub(super) struct Slot<T>(UnsafeCell<Option<T>>);

impl<T> Slot<T> {
    pub(super) fn new(value: Option<T>) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub(super) fn into_inner(self) -> Option<T> {
        self.0.into_inner()
    }

    /// # Safety
    /// The slot is the caller's by the law.
    #[inline]
    pub(super) unsafe fn take(&self) -> Option<T> {
        // SAFETY: by the caller's promise.
        self.0.with_mut(|value| unsafe { (*value).take() })
    }

    /// # Safety
    /// The slot is the caller's by the law, and empty.
    #[inline]
    pub(super) unsafe fn put(&self, new: T) {
        // SAFETY: by the caller's promise.
        self.0.with_mut(|value| unsafe {
            *value = Some(new);
        });
    }
}

/// One side of a transfer, as the other finds it in the queue.
pub(super) struct Party<T> {
    slot: NonNull<Slot<T>>,
    /// Which operation of its select it is; zero for one of its own.
    index: u32,
}

// By hand: a derive would ask for `T: Copy`.
impl<T> Clone for Party<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Party<T> {}

// SAFETY: it is a reference to a slot that belongs to whoever holds the channel's lock; values go through it.
unsafe impl<T: Send> Send for Party<T> {}

/// What the code a waiter is woken with says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transferred {
    /// Which operation.
    pub(super) index: u32,
    /// It ended because the channel was closed; the slot is as it was.
    pub(super) closed: bool,
}

impl Transferred {
    pub(super) fn from_code(code: u32) -> Self {
        Self {
            index: code >> 1,
            closed: code & 1 != 0,
        }
    }
}

impl<T> Party<T> {
    /// The most operations a select can have: the code must hold the index and a bit.
    pub(super) const MAX_INDEX: u32 = (1 << 29) - 1;

    pub(super) fn new(slot: &Slot<T>, index: u32) -> Self {
        Self {
            slot: NonNull::from(slot),
            index,
        }
    }

    #[inline]
    pub(super) fn done(&self) -> u32 {
        self.index << 1
    }

    #[inline]
    pub(super) fn closed(&self) -> u32 {
        self.index << 1 | 1
    }

    /// The slot.
    ///
    /// # Safety
    /// The caller has chosen the waiter, and has not woken it yet.
    #[inline]
    pub(super) unsafe fn slot(&self) -> &Slot<T> {
        // SAFETY: a waiter that is chosen and not woken cannot leave, and its slot lives as long as its wait.
        unsafe { self.slot.as_ref() }
    }
}
