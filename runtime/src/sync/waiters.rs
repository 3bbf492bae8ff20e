//! The one thing that blocks: a lock, what it guards, and queues of waiters among that.
//!
//! Every primitive of this room keeps its waiters in a [`WaitQueue`] behind a [`Waiters`], waits through
//! [`Waiters::wait`] and wakes through [`WaitQueue::choose`]. The README beside this file proves that no
//! wake-up is lost. No code of the user's runs under the lock, and no wake is finished under it.

use super::waiter::{Choice, Ended, GaveUp, Patience, Pause, Waiter};
use crate::fiber::parker::{Parker, Wake};
use crate::fiber::wait_list::{WaitList, WaitNode};
use crate::loom::sync::{Mutex, MutexGuard};
use std::ptr::NonNull;

/// How many wakes are begun under one hold of the lock.
#[cfg(not(loom))]
const BATCH: usize = 16;
#[cfg(loom)]
const BATCH: usize = 1;

/// A lock and what it guards.
pub(super) struct Waiters<S> {
    inner: Mutex<S>,
}

// No code of the user's runs under the lock, so no panic of the user's leaves what it guards half changed.
impl<S> std::panic::UnwindSafe for Waiters<S> {}
impl<S> std::panic::RefUnwindSafe for Waiters<S> {}

/// What a queue knows of a waiter.
pub(super) struct Queued<D> {
    waiter: NonNull<Waiter>,
    ticket: u64,
    data: D,
}

// SAFETY: a queued waiter is reached only under the lock of the queue, through `Waiter::choose`, which needs
// no more than that; what its waker may take from it, an `Unparker`, is Send.
unsafe impl<D: Send> Send for Queued<D> {}

/// A waiter's place in a queue, on the waiter's stack.
pub(super) type Node<D> = WaitNode<Queued<D>>;

/// Waiters, first come first served.
pub(super) struct WaitQueue<D = ()> {
    list: WaitList<Queued<D>>,
    next_ticket: u64,
}

/// Where a waiter queues up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Back,
    /// Before all others: for one that has waited before. Not in queues that [`Waiters::wake_all`] empties, which
    /// goes by the order of arrival.
    Front,
}

impl<D> WaitQueue<D> {
    pub(super) const fn new() -> Self {
        Self {
            list: WaitList::new(),
            next_ticket: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The ticket that the next waiter draws.
    pub(super) fn tickets(&self) -> u64 {
        self.next_ticket
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// A node for `waiter`, to be pushed here.
    pub(super) fn node(waiter: NonNull<Waiter>, data: D) -> Node<D> {
        WaitNode::with_payload(Queued {
            waiter,
            ticket: 0,
            data,
        })
    }

    /// # Safety
    /// The node and its waiter stay where they are, and alive, until the node has left the queue.
    #[inline]
    pub(super) unsafe fn push(&mut self, node: NonNull<Node<D>>, place: Place) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        // SAFETY: alive by the caller's promise.
        let queued = unsafe { node.as_ref() };
        // SAFETY: we hold the lock, since the queue lives in it.
        unsafe { queued.payload(|queued| queued.ticket = ticket) };
        match place {
            // SAFETY: by the caller's promise.
            Place::Back => unsafe { self.list.push_back(node) },
            // SAFETY: by the caller's promise.
            Place::Front => unsafe { self.list.push_front(node) },
        }
    }

    /// Takes a node out; does nothing if a waker has done so.
    ///
    /// # Safety
    /// The node is alive, and this is the only queue it was ever pushed to.
    #[inline]
    pub(super) unsafe fn remove(&mut self, node: NonNull<Node<D>>) {
        // SAFETY: by the caller's promise.
        unsafe { self.list.remove(node) };
    }

    /// Ends the first wait that has not ended otherwise, with the code that `decide` gives it; a waiter that
    /// `decide` has nothing for is left where it is, and with it those behind.
    #[inline]
    pub(super) fn choose(&mut self, mut decide: impl FnMut(&D) -> Option<u32>) -> Option<Choice<'_>> {
        self.choose_queued(|queued| decide(&queued.data))
    }

    /// As [`WaitQueue::choose`], for those that queued up before `ticket` was drawn.
    pub(super) fn choose_before(&mut self, ticket: u64, code: impl Fn(&D) -> u32) -> Option<Choice<'_>> {
        self.choose_queued(|queued| (queued.ticket < ticket).then(|| code(&queued.data)))
    }

    #[inline]
    fn choose_queued(&mut self, mut decide: impl FnMut(&Queued<D>) -> Option<u32>) -> Option<Choice<'_>> {
        loop {
            let node = self.list.front()?;
            // SAFETY: we hold the lock, since the queue lives in it.
            let (waiter, code) = unsafe { node.payload(|queued| (queued.waiter, decide(queued))) };
            let code = code?;
            self.list.pop_front();
            // SAFETY: a waiter outlives its node's stay in the queue, and cannot leave before the lock we
            // hold is released.
            let waiter = unsafe { waiter.as_ref() };
            // SAFETY: its node was in this queue, under the lock that we hold; so does the caller for as
            // long as it has the choice, which borrows the queue.
            if let Some(choice) = unsafe { waiter.choose(code) } {
                return Some(choice);
            }
        }
    }
}

/// What a primitive does at the turns of a wait under the lock that guards an `S`.
pub(super) trait Wait<S> {
    /// What the queue knows of a waiter.
    type Data;

    /// The queue to wait in.
    fn queue<'q>(&self, guarded: &'q mut S) -> &'q mut WaitQueue<Self::Data>;

    /// The waiter stands in the queue, and the lock has been let go of.
    fn unlocked(&mut self) {}

    /// Whether one whose patience is at an end may leave. Not when what it waits for has come about and its wake is
    /// on its way: then it stays for that. Under the lock.
    fn may_leave(&self, guarded: &S) -> bool {
        let _ = guarded;
        true
    }

    /// The waiter gave up and is in the queue no more: does what that makes possible for others, and lets go of
    /// the lock.
    fn left(self, guard: MutexGuard<'_, S>);
}

impl<S> Waiters<S> {
    #[cfg(not(loom))]
    pub(super) const fn new(guarded: S) -> Self {
        Self {
            inner: Mutex::new(guarded),
        }
    }

    #[cfg(loom)]
    pub(super) fn new(guarded: S) -> Self {
        Self {
            inner: Mutex::new(guarded),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, S> {
        self.inner.lock()
    }

    /// Queues up with `data`, lets the lock go, and blocks until chosen: then returns what the waker said.
    ///
    /// `parker` is the caller's, who asks for it before it changes anything: where one may not block, that panics.
    #[inline]
    pub(super) fn wait<'a, W: Wait<S>>(
        &'a self,
        mut guard: MutexGuard<'a, S>,
        parker: &Parker,
        (place, data): (Place, W::Data),
        patience: &Patience,
        mut wait: W,
    ) -> Result<u32, GaveUp> {
        if let Err(gave_up) = patience.lasts(parker) {
            wait.left(guard);
            return Err(gave_up);
        }
        let waiter = std::pin::pin!(Waiter::new(parker.unparker()));
        let node = std::pin::pin!(WaitQueue::node(NonNull::from(&*waiter), data));
        let node = NonNull::from(&*node);
        // SAFETY: both are pinned on this stack, and below they are seen out of the queue before they go: that
        // they were chosen means that the waker took the node out, and is done with both when it says so (WOKEN)
        // or has let go of the lock (CHOSEN).
        unsafe { wait.queue(&mut guard).push(node, place) };
        drop(guard);
        wait.unlocked();
        let ended = match waiter.wait(parker, patience) {
            Pause::Ended(ended) => ended,
            Pause::Impatient(gave_up) => {
                let mut guard = self.lock();
                match wait.may_leave(&guard).then(|| waiter.give_up()) {
                    Some(None) => {
                        // SAFETY: the node is alive, and was pushed to no other queue.
                        unsafe { wait.queue(&mut guard).remove(node) };
                        wait.left(guard);
                        return Err(gave_up);
                    }
                    Some(Some(ended)) => ended,
                    None => {
                        drop(guard);
                        match waiter.wait(parker, &patience.without_end()) {
                            Pause::Ended(ended) => ended,
                            Pause::Impatient(_) => unreachable!("this patience has no end"),
                        }
                    }
                }
            }
        };
        match ended {
            Ended::Woken(code) => Ok(code),
            Ended::Chosen(code) => {
                drop(self.lock());
                Ok(code)
            }
        }
    }

    /// Ends every wait in a queue, with the code that `code` gives it: those that are in it now, and none that comes
    /// while the lock is let go of between two batches.
    pub(super) fn wake_all<'a, D>(
        &'a self,
        mut guard: MutexGuard<'a, S>,
        queue: impl Fn(&mut S) -> &mut WaitQueue<D>,
        code: impl Fn(&D) -> u32,
    ) {
        let end = queue(&mut guard).next_ticket;
        let mut wakes = Wakes::new();
        loop {
            while !wakes.is_full()
                && let Some(choice) = queue(&mut guard).choose_before(end, &code)
            {
                wakes.push(choice.wake());
            }
            drop(guard);
            if !wakes.finish() {
                return;
            }
            guard = self.lock();
        }
    }
}

/// Wakes begun under a lock, to be finished after it.
#[must_use = "wakes that are not finished are lost"]
pub(super) struct Wakes {
    begun: [Wake; BATCH],
    len: usize,
}

impl Wakes {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            begun: [const { Wake::Nothing }; BATCH],
            len: 0,
        }
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len == BATCH
    }

    /// # Panics
    /// When full.
    #[inline]
    pub(super) fn push(&mut self, wake: Wake) {
        self.begun[self.len] = wake;
        self.len += 1;
    }

    /// Finishes them, with no lock held. True if the batch was full, so that there may be more to wake.
    #[inline]
    pub(super) fn finish(&mut self) -> bool {
        let was_full = self.is_full();
        for wake in &mut self.begun[..std::mem::take(&mut self.len)] {
            std::mem::replace(wake, Wake::Nothing).finish();
        }
        was_full
    }
}
