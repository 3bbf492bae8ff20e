//! What senders and receivers share, and what may happen under its lock.
//!
//! After Go's `chan.go`: who comes first deals with who waits on the other side, and puts the value where that one
//! will find it. So, apart from `select`s that wait on both sides, receivers wait only while there is nothing to
//! receive, and senders only while there is no room.

use super::buffer::Buffer;
use super::slot::{Party, Slot, Transferred};
use crate::fiber::parker::{Parker, Wake};
use crate::loom::sync::MutexGuard;
use crate::loom::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::waiter::{GaveUp, Patience};
use crate::sync::waiters::{Place, Wait, WaitQueue, Waiters};

/// A channel, as its senders and receivers share it.
pub(super) struct Channel<T> {
    shared: Waiters<State<T>>,
    /// How many values it holds at most; `usize::MAX`: as many as there is memory for.
    pub(super) capacity: usize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// A model must meet the same order in each run, and addresses are not the same.
    #[cfg(loom)]
    number: u64,
}

/// What the lock guards.
pub(super) struct State<T> {
    buffer: Buffer<T>,
    capacity: usize,
    closed: bool,
    senders: WaitQueue<Party<T>>,
    receivers: WaitQueue<Party<T>>,
}

/// How a sender fares under the lock.
#[must_use]
pub(super) enum Sending<T> {
    /// It is in the buffer, or with the receiver to be woken.
    Sent(Wake),
    Closed(T),
    MustWait(T),
}

/// How a receiver fares under the lock.
#[must_use]
pub(super) enum Receiving<T> {
    /// And the sender to be woken.
    Received(T, Wake),
    Closed,
    MustWait,
}

/// Which queue to wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Send,
    Recv,
}

/// Why a wait transferred nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Closed,
    GaveUp(GaveUp),
}

impl<T> State<T> {
    /// Sends if that needs no waiting.
    #[inline]
    pub(super) fn send(&mut self, value: T) -> Sending<T> {
        if self.closed {
            return Sending::Closed(value);
        }
        let mut to = None;
        let choice = self.receivers.choose(|party| {
            to = Some(*party);
            Some(party.done())
        });
        if let (Some(choice), Some(party)) = (choice, to) {
            // SAFETY: chosen, and not woken yet.
            let slot = unsafe { party.slot() };
            // SAFETY: its node was in the queue, so the slot is the lock's, which we hold; a receiver's is empty.
            unsafe { slot.put(value) };
            return Sending::Sent(choice.wake());
        }
        if self.buffer.len() < self.capacity {
            self.buffer.push(value);
            return Sending::Sent(Wake::Nothing);
        }
        Sending::MustWait(value)
    }

    /// Receives if that needs no waiting.
    #[inline]
    pub(super) fn recv(&mut self) -> Receiving<T> {
        let buffered = self.buffer.pop();
        let mut from = None;
        let choice = self.senders.choose(|party| {
            from = Some(*party);
            Some(party.done())
        });
        let (Some(choice), Some(party)) = (choice, from) else {
            return match buffered {
                Some(value) => Receiving::Received(value, Wake::Nothing),
                None if self.closed => Receiving::Closed,
                None => Receiving::MustWait,
            };
        };
        // SAFETY: chosen, and not woken yet.
        let slot = unsafe { party.slot() };
        // SAFETY: its node was in the queue, so the slot is the lock's, which we hold.
        let value = unsafe { slot.take() }.expect("a sender that waits has its value");
        let value = match buffered {
            // Its value moves up into the room that we made.
            Some(oldest) => {
                self.buffer.push(value);
                oldest
            }
            None => value,
        };
        Receiving::Received(value, choice.wake())
    }

    pub(super) fn queue(&mut self, side: Side) -> &mut WaitQueue<Party<T>> {
        match side {
            Side::Send => &mut self.senders,
            Side::Recv => &mut self.receivers,
        }
    }
}

impl<T> Channel<T> {
    /// With one sender and one receiver.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            buffer: Buffer::new(),
            capacity,
            closed: false,
            senders: WaitQueue::new(),
            receivers: WaitQueue::new(),
        };
        Self {
            shared: Waiters::new(state),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            #[cfg(loom)]
            number: {
                static NEXT: crate::loom::statics::AtomicU64 = crate::loom::statics::AtomicU64::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed)
            },
        }
    }

    /// What no other channel has while this one lives: the order in which selects lock, and which channel it is.
    #[cfg(not(loom))]
    #[inline]
    pub(super) fn rank(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[cfg(loom)]
    pub(super) fn rank(&self) -> usize {
        usize::try_from(self.number).expect("a model makes few channels")
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.shared.lock()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().buffer.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many wait to send, and to receive.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.senders.len(), state.receivers.len())
    }

    /// Sends, waiting as long as `patience` says. What is not sent comes back.
    #[inline]
    pub(super) fn send(&self, value: T, patience: &Patience) -> Result<(), (Failure, T)> {
        // Before the lock, so that it is dropped after it.
        let slot;
        let mut state = self.lock();
        let value = match state.send(value) {
            Sending::Sent(wake) => {
                drop(state);
                wake.finish();
                return Ok(());
            }
            Sending::Closed(value) => {
                drop(state);
                return Err((Failure::Closed, value));
            }
            Sending::MustWait(value) => value,
        };
        slot = Slot::new(Some(value));
        let parker = Parker::current();
        let waited = self.shared.wait(
            state,
            &parker,
            (Place::Back, Party::new(&slot, 0)),
            patience,
            Side::Send,
        );
        let failure = match waited {
            Ok(code) if !Transferred::from_code(code).closed => return Ok(()),
            Ok(_closed) => Failure::Closed,
            Err(gave_up) => Failure::GaveUp(gave_up),
        };
        Err((
            failure,
            slot.into_inner()
                .expect("a value that was not sent is still here"),
        ))
    }

    /// Sends without waiting.
    pub(super) fn try_send(&self, value: T) -> Sending<T> {
        let mut state = self.lock();
        let sending = state.send(value);
        drop(state);
        match sending {
            Sending::Sent(wake) => {
                wake.finish();
                Sending::Sent(Wake::Nothing)
            }
            other => other,
        }
    }

    /// Receives, waiting as long as `patience` says.
    #[inline]
    pub(super) fn recv(&self, patience: &Patience) -> Result<T, Failure> {
        let mut state = self.lock();
        match state.recv() {
            Receiving::Received(value, wake) => {
                drop(state);
                wake.finish();
                return Ok(value);
            }
            Receiving::Closed => return Err(Failure::Closed),
            Receiving::MustWait => {}
        }
        let slot = Slot::new(None);
        let parker = Parker::current();
        let waited = self.shared.wait(
            state,
            &parker,
            (Place::Back, Party::new(&slot, 0)),
            patience,
            Side::Recv,
        );
        match waited {
            Ok(code) if !Transferred::from_code(code).closed => {
                Ok(slot.into_inner().expect("a receiver that was woken has a value"))
            }
            Ok(_closed) => Err(Failure::Closed),
            Err(gave_up) => Err(Failure::GaveUp(gave_up)),
        }
    }

    /// Receives without waiting.
    pub(super) fn try_recv(&self) -> Receiving<T> {
        let mut state = self.lock();
        let receiving = state.recv();
        drop(state);
        match receiving {
            Receiving::Received(value, wake) => {
                wake.finish();
                Receiving::Received(value, Wake::Nothing)
            }
            other => other,
        }
    }

    /// Refuses values from now on, and ends every wait. True for the call that closed it.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        if std::mem::replace(&mut state.closed, true) {
            return false;
        }
        // Nobody queues up any more, so the second batch of wakes may look at the queues anew.
        self.shared
            .wake_all(state, |state| &mut state.receivers, Party::closed);
        self.shared
            .wake_all(self.lock(), |state| &mut state.senders, Party::closed);
        true
    }

    pub(super) fn add(&self, side: Side) {
        // Relaxed: a new end is made from one that keeps the channel open.
        let before = self.ends(side).fetch_add(1, Ordering::Relaxed);
        // As in Arc: a count that wraps would close a channel in use.
        if before > isize::MAX as usize {
            std::process::abort();
        }
    }

    /// One end goes. With the last sender the channel closes; with the last receiver what it holds goes too, since
    /// nobody can receive it.
    pub(super) fn remove(&self, side: Side) {
        // AcqRel: what was done through the other ends comes before the closing.
        if self.ends(side).fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        self.close();
        if side == Side::Recv {
            let left_over = std::mem::take(&mut self.lock().buffer);
            // Outside the lock: a value's destructor may do anything.
            drop(left_over);
        }
    }

    fn ends(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Send => &self.senders,
            Side::Recv => &self.receivers,
        }
    }
}

impl<T> Wait<State<T>> for Side {
    type Data = Party<T>;

    fn queue<'q>(&self, state: &'q mut State<T>) -> &'q mut WaitQueue<Party<T>> {
        state.queue(*self)
    }

    fn left(self, _: MutexGuard<'_, State<T>>) {}
}
