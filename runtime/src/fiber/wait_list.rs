//! An intrusive queue of waiters. A node lives on the stack of the one that waits; the list's lock
//! guards both the links and the node's contents.

use super::parker::Unparker;
use crate::loom::cell::UnsafeCell;
use crate::loom::sync::atomic::{AtomicBool, Ordering};
use std::marker::PhantomPinned;
use std::ptr::NonNull;

/// A waiter's place in a [`WaitList`], with what its wakers must know: how to wake it, unless said otherwise.
///
/// Its owner makes it, pushes it under the list's lock, parks, and must not let it go before it has
/// seen, under the lock, that the node is in no list, or that a waker has released it.
pub(crate) struct WaitNode<P = Option<Unparker>> {
    inner: UnsafeCell<Inner<P>>,
    /// A waker that took the node out has done with it: its owner may let it go without the lock.
    released: AtomicBool,
    _pin: PhantomPinned,
}

struct Inner<P> {
    prev: Option<NonNull<WaitNode<P>>>,
    next: Option<NonNull<WaitNode<P>>>,
    queued: bool,
    payload: P,
}

impl WaitNode {
    pub(crate) fn new(unparker: Unparker) -> Self {
        Self::with_payload(Some(unparker))
    }

    /// Takes the means of waking the waiter: once.
    ///
    /// # Safety
    /// The caller holds the list's lock.
    pub(crate) unsafe fn take_unparker(&self) -> Option<Unparker> {
        // SAFETY: passed on to the caller.
        unsafe { self.payload(Option::take) }
    }
}

impl<P> WaitNode<P> {
    pub(crate) fn with_payload(payload: P) -> Self {
        Self {
            inner: UnsafeCell::new(Inner {
                prev: None,
                next: None,
                queued: false,
                payload,
            }),
            released: AtomicBool::new(false),
            _pin: PhantomPinned,
        }
    }

    /// Lets the owner go without the lock. The last that a waker does with a node it has taken out of the list.
    #[inline]
    pub(crate) fn release(&self) {
        // Release: our uses of the node come before its owner frees it.
        self.released.store(true, Ordering::Release);
    }

    /// Whether a waker has released it.
    #[inline]
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// # Safety
    /// The caller holds the lock of the list the node is or was in, and `f` does not come back here.
    #[inline]
    unsafe fn with<R>(&self, f: impl FnOnce(&mut Inner<P>) -> R) -> R {
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

    /// Calls `f` with what the node carries.
    ///
    /// # Safety
    /// The caller holds the list's lock, and `f` does not reach for this node.
    #[inline]
    pub(crate) unsafe fn payload<R>(&self, f: impl FnOnce(&mut P) -> R) -> R {
        // SAFETY: passed on to the caller.
        unsafe { self.with(|inner| f(&mut inner.payload)) }
    }
}

/// First in, first out. All methods need the lock that guards the list, which the owner upholds by
/// keeping the list inside that lock.
pub(crate) struct WaitList<P = Option<Unparker>> {
    head: Option<NonNull<WaitNode<P>>>,
    tail: Option<NonNull<WaitNode<P>>>,
}

// SAFETY: the nodes are reached only under the lock the list lives in, and what they carry is Send.
unsafe impl<P: Send> Send for WaitList<P> {}

impl<P> WaitList<P> {
    pub(crate) const fn new() -> Self {
        Self {
            head: None,
            tail: None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let mut next = self.head;
        std::iter::from_fn(|| {
            // SAFETY: a node in the list is alive.
            let node = unsafe { next?.as_ref() };
            // SAFETY: we hold the lock.
            next = unsafe { node.with(|inner| inner.next) };
            Some(())
        })
        .count()
    }

    /// The first node, left where it is.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&WaitNode<P>> {
        // SAFETY: a node in the list is alive, and does not leave it while the list is borrowed.
        self.head.map(|head| unsafe { head.as_ref() })
    }

    /// Appends a node.
    ///
    /// # Safety
    /// The node must stay where it is, and alive, until it has left the list.
    #[inline]
    pub(crate) unsafe fn push_back(&mut self, node: NonNull<WaitNode<P>>) {
        // SAFETY: by the caller's promise.
        unsafe { self.link(node, self.tail, None) };
    }

    /// Puts a node before all others.
    ///
    /// # Safety
    /// As for [`WaitList::push_back`].
    pub(crate) unsafe fn push_front(&mut self, node: NonNull<WaitNode<P>>) {
        // SAFETY: by the caller's promise.
        unsafe { self.link(node, None, self.head) };
    }

    /// # Safety
    /// The node is alive and in no list; its neighbours are in this one, side by side.
    #[inline]
    unsafe fn link(
        &mut self,
        node: NonNull<WaitNode<P>>,
        prev: Option<NonNull<WaitNode<P>>>,
        next: Option<NonNull<WaitNode<P>>>,
    ) {
        // SAFETY: alive by the caller's promise.
        let fresh = unsafe { node.as_ref() };
        // SAFETY: we hold the lock.
        unsafe {
            fresh.with(|inner| {
                debug_assert!(!inner.queued);
                inner.prev = prev;
                inner.next = next;
                inner.queued = true;
            });
        }
        self.set_next(prev, Some(node));
        self.set_prev(next, Some(node));
    }

    /// Sets what comes after `prev`, a node of this list; `None`: after its beginning.
    #[inline]
    fn set_next(&mut self, prev: Option<NonNull<WaitNode<P>>>, next: Option<NonNull<WaitNode<P>>>) {
        let Some(prev) = prev else {
            self.head = next;
            return;
        };
        // SAFETY: a node in the list is alive.
        let prev = unsafe { prev.as_ref() };
        // SAFETY: we hold the lock.
        unsafe { prev.with(|inner| inner.next = next) };
    }

    /// Sets what comes before `next`, a node of this list; `None`: before its end.
    #[inline]
    fn set_prev(&mut self, next: Option<NonNull<WaitNode<P>>>, prev: Option<NonNull<WaitNode<P>>>) {
        let Some(next) = next else {
            self.tail = prev;
            return;
        };
        // SAFETY: a node in the list is alive.
        let next = unsafe { next.as_ref() };
        // SAFETY: we hold the lock.
        unsafe { next.with(|inner| inner.prev = prev) };
    }

    /// Takes the first node out.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<NonNull<WaitNode<P>>> {
        let node = self.head?;
        // SAFETY: a node in the list is alive and in this list.
        unsafe { self.remove(node) };
        Some(node)
    }

    /// Takes a node out; does nothing if it has left already.
    ///
    /// # Safety
    /// The node is alive, and this is the only list it is ever pushed to.
    #[inline]
    pub(crate) unsafe fn remove(&mut self, node: NonNull<WaitNode<P>>) {
        // SAFETY: alive by the caller's promise.
        let node = unsafe { node.as_ref() };
        // SAFETY: we hold the lock.
        let links = unsafe {
            node.with(|inner| {
                std::mem::take(&mut inner.queued).then(|| (inner.prev.take(), inner.next.take()))
            })
        };
        if let Some((prev, next)) = links {
            self.set_next(prev, next);
            self.set_prev(next, prev);
        }
    }
}
