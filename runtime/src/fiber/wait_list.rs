//! An intrusive queue of waiters. A node lives on the stack of the one that waits; the list's lock
//! guards both the links and the node's contents.

use super::parker::Unparker;
use crate::loom::cell::UnsafeCell;
use std::marker::PhantomPinned;
use std::ptr::NonNull;

/// A waiter's place in a [`WaitList`].
///
/// Its owner makes it, pushes it under the list's lock, parks, and must not let it go before it has
/// seen, under the lock, that the node is in no list.
pub(crate) struct WaitNode {
    inner: UnsafeCell<Inner>,
    _pin: PhantomPinned,
}

struct Inner {
    prev: Option<NonNull<WaitNode>>,
    next: Option<NonNull<WaitNode>>,
    queued: bool,
    unparker: Option<Unparker>,
}

impl WaitNode {
    pub(crate) fn new(unparker: Unparker) -> Self {
        Self {
            inner: UnsafeCell::new(Inner { prev: None, next: None, queued: false, unparker: Some(unparker) }),
            _pin: PhantomPinned,
        }
    }

    /// # Safety
    /// The caller holds the lock of the list the node is or was in, and `f` does not come back here.
    unsafe fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: exclusive under the lock, by the caller's promise.
        self.inner.with_mut(|inner| f(unsafe { &mut *inner }))
    }

    /// Whether the node is still in its list.
    ///
    /// # Safety
    /// The caller holds the list's lock.
    pub(crate) unsafe fn is_queued(&self) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { self.with(|inner| inner.queued) }
    }

    /// Takes the means of waking the waiter: once.
    ///
    /// # Safety
    /// The caller holds the list's lock.
    pub(crate) unsafe fn take_unparker(&self) -> Option<Unparker> {
        // SAFETY: passed on to the caller.
        unsafe { self.with(|inner| inner.unparker.take()) }
    }
}

/// First in, first out. All methods need the lock that guards the list, which the owner upholds by
/// keeping the list inside that lock.
#[derive(Default)]
pub(crate) struct WaitList {
    head: Option<NonNull<WaitNode>>,
    tail: Option<NonNull<WaitNode>>,
}

// SAFETY: the nodes are reached only under the lock the list lives in, and an `Unparker` is Send.
unsafe impl Send for WaitList {}

impl WaitList {
    pub(crate) const fn new() -> Self {
        Self { head: None, tail: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Appends a node.
    ///
    /// # Safety
    /// The node must stay where it is, and alive, until it has left the list.
    pub(crate) unsafe fn push_back(&mut self, node: NonNull<WaitNode>) {
        let old_tail = self.tail.replace(node);
        // SAFETY: alive by the caller's promise, and we hold the lock.
        unsafe {
            node.as_ref().with(|inner| {
                debug_assert!(!inner.queued);
                inner.prev = old_tail;
                inner.next = None;
                inner.queued = true;
            });
        }
        match old_tail {
            // SAFETY: a node in the list is alive.
            Some(tail) => unsafe { tail.as_ref().with(|inner| inner.next = Some(node)) },
            None => self.head = Some(node),
        }
    }

    /// Takes the first node out.
    pub(crate) fn pop_front(&mut self) -> Option<NonNull<WaitNode>> {
        let node = self.head?;
        // SAFETY: a node in the list is alive and in this list.
        unsafe { self.remove(node) };
        Some(node)
    }

    /// Takes a node out; does nothing if it has left already.
    ///
    /// # Safety
    /// The node is alive, and this is the only list it is ever pushed to.
    pub(crate) unsafe fn remove(&mut self, node: NonNull<WaitNode>) {
        // SAFETY: alive by the caller's promise, and we hold the lock.
        let links = unsafe {
            node.as_ref().with(|inner| {
                std::mem::take(&mut inner.queued).then(|| (inner.prev.take(), inner.next.take()))
            })
        };
        let Some((prev, next)) = links else { return };
        match prev {
            // SAFETY: a node in the list is alive.
            Some(prev) => unsafe { prev.as_ref().with(|inner| inner.next = next) },
            None => self.head = next,
        }
        match next {
            // SAFETY: a node in the list is alive.
            Some(next) => unsafe { next.as_ref().with(|inner| inner.prev = prev) },
            None => self.tail = prev,
        }
    }
}
