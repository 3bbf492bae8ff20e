//! One operation of a select, whatever the type of its channel.

use super::core::{Channel, Receiving, Sending, Side, State};
use super::slot::{Party, Slot};
use crate::fiber::parker::Wake;
use crate::loom::sync::MutexGuard;
use crate::sync::waiter::Waiter;
use crate::sync::waiters::{Node, Place, WaitQueue};
use std::ptr::NonNull;

/// What became of an operation that was tried under its channel's lock.
#[must_use]
pub(super) enum Attempt {
    /// It is done; this wake is to be finished after the lock is released.
    Done(Wake),
    /// It is done in so far as the channel is closed.
    Closed,
    MustWait,
}

/// The lock of a channel that some case holds, as the others of that channel use it.
#[derive(Clone, Copy)]
pub(super) struct Locked(NonNull<()>);

/// One operation. Several may be on one channel: then one of them, their leader, holds the lock for all.
pub(super) trait Case {
    fn side(&self) -> Side;

    /// Whether it takes part in waits.
    fn is_live(&self) -> bool;

    /// Takes it out of all further waits.
    fn retire(&mut self);

    /// Drops a value that was received and not fetched.
    fn clear(&mut self);

    /// Takes the channel's lock.
    fn lock(&mut self) -> Locked;

    /// Lets go of the lock this case took.
    fn unlock(&mut self);

    /// Does it, if it need not wait.
    ///
    /// # Safety
    /// `locked` came from a case of the same channel, which still holds the lock.
    unsafe fn attempt(&mut self, locked: Locked) -> Attempt;

    /// Queues up.
    ///
    /// # Safety
    /// As for `attempt`. The case and the waiter stay where they are until `leave`.
    unsafe fn enter(&mut self, locked: Locked, waiter: NonNull<Waiter>, index: u32);

    /// Leaves the queue, if a waker has not taken it out.
    ///
    /// # Safety
    /// As for `attempt`, and the case has entered.
    unsafe fn leave(&mut self, locked: Locked);

    /// As `leave`, for one that its waker has taken out and let go of.
    fn left(&mut self);
}

/// The one implementation.
pub(super) struct CaseOf<'a, T> {
    side: Side,
    channel: &'a Channel<T>,
    /// While this case holds the lock.
    guard: Option<MutexGuard<'a, State<T>>>,
    /// Of a sender, the value that is to be sent; of a receiver, the one that came.
    slot: Slot<T>,
    /// While it is in the queue.
    node: Option<Node<Party<T>>>,
    live: bool,
}

impl<'a, T> CaseOf<'a, T> {
    pub(super) fn new(side: Side, channel: &'a Channel<T>, value: Option<T>) -> Self {
        Self {
            side,
            channel,
            guard: None,
            slot: Slot::new(value),
            node: None,
            live: true,
        }
    }

    /// # Safety
    /// `locked` came from a case of the same channel, which still holds the lock; the reference is the only one while
    /// it lives.
    unsafe fn state<'s>(locked: Locked) -> &'s mut State<T> {
        // SAFETY: by the caller's promise: the same channel, so the same type, and the lock is held.
        unsafe { locked.0.cast().as_mut() }
    }

    /// What the slot holds.
    pub(super) fn take_value(&mut self) -> Option<T> {
        // SAFETY: the borrow is exclusive, and outside a wait the slot is ours.
        unsafe { self.slot.take() }
    }
}

impl<T> Case for CaseOf<'_, T> {
    fn side(&self) -> Side {
        self.side
    }

    fn is_live(&self) -> bool {
        self.live
    }

    fn retire(&mut self) {
        self.live = false;
    }

    fn clear(&mut self) {
        if self.side == Side::Recv {
            drop(self.take_value());
        }
    }

    fn lock(&mut self) -> Locked {
        let guard = self.guard.insert(self.channel.lock());
        Locked(NonNull::from(&mut **guard).cast())
    }

    fn unlock(&mut self) {
        self.guard = None;
    }

    unsafe fn attempt(&mut self, locked: Locked) -> Attempt {
        // SAFETY: passed on to the caller.
        let state = unsafe { Self::state(locked) };
        match self.side {
            Side::Recv => match state.recv() {
                Receiving::Received(value, wake) => {
                    // SAFETY: not in a queue, so the slot is ours; a receiver's is empty before its wait.
                    unsafe { self.slot.put(value) };
                    Attempt::Done(wake)
                }
                Receiving::Closed => Attempt::Closed,
                Receiving::MustWait => Attempt::MustWait,
            },
            Side::Send => {
                // SAFETY: not in a queue, so the slot is ours.
                let value = unsafe { self.slot.take() }.expect("a live sender has its value");
                let (value, attempt) = match state.send(value) {
                    Sending::Sent(wake) => return Attempt::Done(wake),
                    Sending::Closed(value) => (value, Attempt::Closed),
                    Sending::MustWait(value) => (value, Attempt::MustWait),
                };
                // SAFETY: as above, and just emptied.
                unsafe { self.slot.put(value) };
                attempt
            }
        }
    }

    unsafe fn enter(&mut self, locked: Locked, waiter: NonNull<Waiter>, index: u32) {
        let node = WaitQueue::node(waiter, Party::new(&self.slot, index));
        let node = NonNull::from(self.node.insert(node));
        // SAFETY: passed on to the caller.
        let state = unsafe { Self::state(locked) };
        // SAFETY: the caller keeps the case, and so the node, and the waiter where they are until `leave`.
        unsafe { state.queue(self.side).push(node, Place::Back) };
    }

    unsafe fn leave(&mut self, locked: Locked) {
        // SAFETY: passed on to the caller.
        let state = unsafe { Self::state(locked) };
        let node = NonNull::from(self.node.as_ref().expect("it has entered"));
        // SAFETY: the node is alive, and was pushed to this queue only.
        unsafe { state.queue(self.side).remove(node) };
        self.left();
    }

    fn left(&mut self) {
        self.node = None;
    }
}
