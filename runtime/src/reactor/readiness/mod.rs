//! Readiness of one descriptor and who waits for it: the protocol, without the kernel.
//! The room's README argues why no readiness is lost. After tokio's `ScheduledIo`
//! (`tokio/src/runtime/io/scheduled_io.rs`); the difference is that a descriptor is registered by its first
//! waiter, where that one lives, under the same lock.

#[cfg(all(test, not(loom)))]
mod test;
mod word;

pub(crate) use word::{Direction, Event, Proof, Snapshot, ToClosed, ToUnready};

use super::error::WaitError;
use crate::fiber::parker::{Parked, Parker, Wake};
use crate::fiber::wait_list::{WaitList, WaitNode};
use crate::loom::sync::Mutex;
use std::io;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use word::ReadyWord;

/// Where a descriptor's events come from. Lives under the lock of its [`Readiness`].
pub(super) trait Registration {
    /// Makes sure that events of `direction` come, among them one for what is ready already. `alone`: nobody
    /// waits now, so the registration may move.
    fn arm(&mut self, direction: Direction, alone: bool) -> io::Result<()>;

    /// How many wait, after each change.
    fn waiters_changed(&mut self, waiting: usize);

    /// The descriptor is about to be closed.
    fn disarm(&mut self);
}

/// Law: `side` guards the lists, the nodes in them, and the registration. Who wakes takes the means of
/// waking out of a node under the lock, and uses it after the lock is released.
pub(super) struct Readiness<R> {
    word: ReadyWord,
    side: Mutex<Side<R>>,
}

struct Side<R> {
    queues: [Queue; 2],
    waiting: usize,
    registration: R,
}

struct Queue {
    nodes: WaitList,
    /// The one stackless future that waits: the last to ask.
    future: Option<Waker>,
}

impl<R: Registration> Readiness<R> {
    pub(super) fn new(assumed: bool, registration: R) -> Self {
        let queue = || Queue {
            nodes: WaitList::new(),
            future: None,
        };
        let side = Side {
            queues: [queue(), queue()],
            waiting: 0,
            registration,
        };
        Self {
            word: ReadyWord::new(assumed),
            side: Mutex::new(side),
        }
    }

    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        self.word.load()
    }

    /// See [`Proof`].
    #[inline]
    pub(super) fn unready(&self, seen: Snapshot, direction: Direction, proof: Proof) -> ToUnready {
        self.word.transition_to_unready(seen, direction, proof)
    }

    /// Records an event and begins the wakes of all whom it concerns, the longest waiting first.
    pub(super) fn notify(&self, event: Event, wakes: &mut Vec<Wake>) {
        // Before the lock: who takes the lock after us sees the bits, who took it before is in the list.
        self.word.transition_to_ready(event);
        let mut side = self.side.lock();
        for direction in Direction::ALL {
            if event.concerns(direction) {
                side.wake_all(direction, wakes);
            }
        }
        side.changed();
    }

    /// Ends all waits, now and later, with [`WaitError::Closed`].
    pub(super) fn close(&self, wakes: &mut Vec<Wake>) -> ToClosed {
        let mut side = self.side.lock();
        let closed = self.word.transition_to_closed();
        for direction in Direction::ALL {
            side.wake_all(direction, wakes);
        }
        side.changed();
        side.registration.disarm();
        closed
    }

    /// Wakes everybody, so that they look again, and changes the registration before they do.
    pub(super) fn unsettle(&self, change: impl FnOnce(&mut R) -> bool, wakes: &mut Vec<Wake>) {
        let mut side = self.side.lock();
        if change(&mut side.registration) {
            for direction in Direction::ALL {
                side.wake_all(direction, wakes);
            }
            side.changed();
        }
    }

    /// Blocks until an event for `direction` (or spuriously). At once if there was one since the last proof.
    pub(super) fn wait(
        &self,
        direction: Direction,
        parker: &Parker,
        deadline: Option<Instant>,
    ) -> Result<(), WaitError> {
        if parker.is_cancelled() {
            return Err(WaitError::Cancelled);
        }
        let node = std::pin::pin!(WaitNode::new(parker.unparker()));
        let node = NonNull::from(&*node);
        // SAFETY: the node stays pinned on this stack until `leave`, or `has_left`, says it is out.
        if unsafe { self.enter(direction, node, true)? } == Entered::Ready {
            return Ok(());
        }
        loop {
            let parked = parker.park(deadline, direction.reason());
            // SAFETY: it was entered here, and is alive.
            if unsafe { self.has_left(node) } {
                break;
            }
            let error = if parker.is_cancelled() {
                WaitError::Cancelled
            } else if parked == Parked::TimedOut {
                WaitError::TimedOut
            } else {
                continue;
            };
            // SAFETY: as above.
            match unsafe { self.leave(direction, node) } {
                // What we waited for came in the last moment.
                Left::WasWoken => break,
                Left::Early => return Err(error),
            }
        }
        if self.load().is_closed() {
            Err(WaitError::Closed)
        } else {
            Ok(())
        }
    }

    /// As [`Readiness::wait`], for a stackless future: `Pending` once its waker is noted, in place of any
    /// other's of this direction.
    pub(super) fn poll(&self, direction: Direction, cx: &Context<'_>) -> Poll<Result<(), WaitError>> {
        // Cloned before and dropped after the lock: that is code of the user's.
        let waker = cx.waker().clone();
        let mut guard = self.side.lock();
        let side = &mut *guard;
        let word = self.load();
        if word.is_closed() {
            return Poll::Ready(Err(WaitError::Closed));
        }
        if word.is_ready(direction) {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = side.registration.arm(direction, side.waiting == 0) {
            return Poll::Ready(Err(error.into()));
        }
        let older = side.queues[direction.index()].future.replace(waker);
        side.waiting += usize::from(older.is_none());
        side.changed();
        drop(guard);
        drop(older);
        Poll::Pending
    }

    /// Puts a waiter into the list of `direction`, unless it need not wait. `arm`: it relies on events.
    ///
    /// # Safety
    /// If `Waiting`, the node stays where it is, and alive, until [`Readiness::has_left`] is true or
    /// [`Readiness::leave`] was called.
    pub(super) unsafe fn enter(
        &self,
        direction: Direction,
        node: NonNull<WaitNode>,
        arm: bool,
    ) -> Result<Entered, WaitError> {
        let mut guard = self.side.lock();
        let side = &mut *guard;
        let word = self.load();
        if word.is_closed() {
            return Err(WaitError::Closed);
        }
        if word.is_ready(direction) {
            return Ok(Entered::Ready);
        }
        if arm {
            side.registration.arm(direction, side.waiting == 0)?;
        }
        // SAFETY: by the caller's promise.
        unsafe { side.queues[direction.index()].nodes.push_back(node) };
        side.waiting += 1;
        side.changed();
        Ok(Entered::Waiting)
    }

    /// Whether the waiter was woken.
    ///
    /// # Safety
    /// The node was entered here and is alive.
    pub(super) unsafe fn has_left(&self, node: NonNull<WaitNode>) -> bool {
        let _side = self.side.lock();
        // SAFETY: alive by the caller's promise.
        let node = unsafe { node.as_ref() };
        // SAFETY: we hold the list's lock.
        unsafe { !node.is_queued() }
    }

    /// Takes a waiter out.
    ///
    /// # Safety
    /// The node was entered here, for this direction, and is alive.
    pub(super) unsafe fn leave(&self, direction: Direction, node: NonNull<WaitNode>) -> Left {
        let mut guard = self.side.lock();
        let side = &mut *guard;
        // SAFETY: alive by the caller's promise.
        let queued = unsafe { node.as_ref() };
        // SAFETY: we hold the list's lock.
        if unsafe { !queued.is_queued() } {
            return Left::WasWoken;
        }
        // SAFETY: alive, and this is the list it was pushed to.
        unsafe { side.queues[direction.index()].nodes.remove(node) };
        side.waiting -= 1;
        side.changed();
        Left::Early
    }
}

impl<R: Registration> Side<R> {
    fn wake_all(&mut self, direction: Direction, wakes: &mut Vec<Wake>) {
        let queue = &mut self.queues[direction.index()];
        while let Some(node) = queue.nodes.pop_front() {
            self.waiting -= 1;
            // SAFETY: we hold the list's lock, so the waiter, which has not left, is alive.
            let node = unsafe { node.as_ref() };
            // SAFETY: we hold the list's lock.
            if let Some(unparker) = unsafe { node.take_unparker() } {
                wakes.push(unparker.begin());
            }
        }
        if let Some(waker) = queue.future.take() {
            self.waiting -= 1;
            wakes.push(Wake::Future(waker));
        }
    }

    fn changed(&mut self) {
        self.registration.waiters_changed(self.waiting);
    }
}

/// What a waiter finds.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is in the list: an event will wake it.
    Waiting,
    /// There was an event since its proof.
    Ready,
}

/// What a waiter that gives up finds.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Early,
    WasWoken,
}

impl Left {
    pub(super) fn was_woken(self) -> bool {
        self == Left::WasWoken
    }
}
