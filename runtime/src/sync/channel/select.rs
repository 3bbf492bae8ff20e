//! Waiting for the first of several operations that can be done.
//!
//! After Go's `select.go`: the locks of all channels are taken, in the order of their addresses, so that the select
//! sees them at one moment and, if none of its operations can be done, stands in all their queues before anything
//! can change. From then on whoever completes it claims its one [`Waiter`] word by compare-exchange, as in
//! crossbeam-channel's `context.rs`: of several that could, one does. A select that tries stands in no queue, so it
//! cannot meet itself; one that stands in queues does not try.

use super::case::{Attempt, Case, CaseOf, Locked};
use super::chance;
use super::core::{Channel, Side};
use super::err::{RecvError, SelectError, SelectTimeoutError, SendError, TrySelectError};
use super::slot::{Party, Transferred};
use super::{Receiver, Sender};
use crate::fiber::parker::{Parker, Wake};
use crate::fiber::{self, WaitReason};
use crate::sync::waiter::{Ended, GaveUp, Patience, Pause, Waiter};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// A choice between operations on channels of any types, made up at run time.
///
/// A wait does exactly one of them: one that can be done at once, chosen at random, or else the first that can.
/// An operation on a closed channel can be done: its outcome is the error. A send that has been done takes no part
/// in further waits; the other operations do, so a `Select` may wait again and again.
///
/// Values that have not been sent stay with the `Select`, whatever the outcome; [`Select::take_unsent`] takes them
/// back.
///
/// ```
/// use roving_runtime::sync::channel::{Select, bounded};
///
/// let (numbers, from_numbers) = bounded::<u32>(1);
/// let (words, _from_words) = bounded::<&str>(0);
/// numbers.send(7)?;
///
/// let mut select = Select::new();
/// let recv = select.recv(&from_numbers);
/// let send = select.send(&words, "nobody receives this");
/// let done = select.wait()?;
/// assert_eq!(done.index(), recv);
/// assert_eq!(done.recv(&from_numbers), Ok(7));
/// assert_eq!(select.take_unsent(send, &words), Some("nobody receives this"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Select<'a> {
    cases: Vec<Entry<'a>>,
    /// The live cases in the order of their channels' ranks: that of locking.
    by_rank: Vec<u32>,
    /// And in the order they are tried.
    by_chance: Vec<u32>,
    /// The operation that was done last.
    last: Option<u32>,
}

struct Entry<'a> {
    /// Boxed, so that it stays where it is while it stands in a queue.
    case: Box<dyn Case + 'a>,
    /// The rank of its channel.
    channel: usize,
    /// The lock of its channel, while the select holds them all.
    locked: Option<Locked>,
}

/// The operation that a [`Select`] has done. Its outcome is fetched with [`Selected::recv`] or [`Selected::send`]; a
/// received value that is not fetched is dropped by the next wait, or with the `Select`.
#[must_use = "a received value that is not fetched is lost"]
pub struct Selected<'s, 'a> {
    select: &'s mut Select<'a>,
    transferred: Transferred,
}

/// How a wait ended without an operation.
enum Failure {
    WouldBlock,
    GaveUp(GaveUp),
}

impl<'a> Select<'a> {
    /// A choice of nothing as yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the receiving of a value; returns the operation's index.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Side::Recv, &receiver.channel, None)
    }

    /// Adds the sending of a value; returns the operation's index.
    pub fn send<T: 'a>(&mut self, sender: &'a Sender<T>, value: T) -> usize {
        self.add(Side::Send, &sender.channel, Some(value))
    }

    /// # Panics
    /// When there are more operations than can be told apart: half a thousand million.
    fn add<T: 'a>(&mut self, side: Side, channel: &'a Channel<T>, value: Option<T>) -> usize {
        let index = self.cases.len();
        assert!(
            index <= Party::<T>::MAX_INDEX as usize,
            "roving: too many operations in one select"
        );
        let case = Box::new(CaseOf::new(side, channel, value));
        self.cases.push(Entry {
            case,
            channel: channel.rank(),
            locked: None,
        });
        index
    }

    /// Takes an operation out of all further waits. A value that was to be sent can still be taken back.
    ///
    /// # Panics
    /// When there is no such operation.
    pub fn remove(&mut self, index: usize) {
        self.cases[index].case.retire();
    }

    /// Waits until one of the operations can be done, and does it.
    ///
    /// # Errors
    /// See [`SelectError`].
    pub fn wait(&mut self) -> Result<Selected<'_, 'a>, SelectError> {
        if !self.cases.iter().any(|entry| entry.case.is_live()) {
            return Err(SelectError::NoCases);
        }
        match self.select(Some(&Patience::until(None, WaitReason::Select))) {
            Ok(transferred) => Ok(Selected {
                select: self,
                transferred,
            }),
            Err(Failure::GaveUp(GaveUp::Cancelled)) => Err(SelectError::Cancelled),
            Err(_) => unreachable!("a wait without a deadline does not time out"),
        }
    }

    /// Does one of the operations if that need not wait.
    ///
    /// # Errors
    /// See [`TrySelectError`].
    pub fn try_wait(&mut self) -> Result<Selected<'_, 'a>, TrySelectError> {
        match self.select(None) {
            Ok(transferred) => Ok(Selected {
                select: self,
                transferred,
            }),
            Err(_) => Err(TrySelectError::WouldBlock),
        }
    }

    /// As [`Select::wait`], for at most `timeout`.
    ///
    /// # Errors
    /// See [`SelectTimeoutError`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Selected<'_, 'a>, SelectTimeoutError> {
        self.wait_within(fiber::deadline_after(timeout))
    }

    /// As [`Select::wait`], until `deadline` at most.
    ///
    /// # Errors
    /// See [`SelectTimeoutError`].
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<Selected<'_, 'a>, SelectTimeoutError> {
        self.wait_within(Some(deadline))
    }

    fn wait_within(&mut self, deadline: Option<Instant>) -> Result<Selected<'_, 'a>, SelectTimeoutError> {
        match self.select(Some(&Patience::until(deadline, WaitReason::Select))) {
            Ok(transferred) => Ok(Selected {
                select: self,
                transferred,
            }),
            Err(Failure::GaveUp(GaveUp::Cancelled)) => Err(SelectTimeoutError::Cancelled),
            Err(Failure::GaveUp(GaveUp::TimedOut) | Failure::WouldBlock) => Err(SelectTimeoutError::TimedOut),
        }
    }

    /// Takes back the value of a send that has not been done, which takes no part in further waits; `None` when it
    /// has been done, or its value has been taken back.
    ///
    /// # Panics
    /// When the operation at `index` is not a send on that channel.
    pub fn take_unsent<T: 'a>(&mut self, index: usize, sender: &Sender<T>) -> Option<T> {
        let case = self.case_of(index, Side::Send, &sender.channel);
        case.retire();
        case.take_value()
    }

    /// The case at `index`, with its type.
    ///
    /// # Panics
    /// When it is not that operation on that channel.
    fn case_of<T: 'a>(&mut self, index: usize, side: Side, channel: &Channel<T>) -> &mut CaseOf<'a, T> {
        let entry = &mut self.cases[index];
        assert!(
            entry.channel == channel.rank() && entry.case.side() == side,
            "roving: operation {index} of the select is of the other kind, or on another channel"
        );
        let case = std::ptr::from_mut::<dyn Case + 'a>(&mut *entry.case).cast::<CaseOf<'a, T>>();
        // SAFETY: it was made for this very channel, whose type is `T`; and there is one kind of case.
        unsafe { &mut *case }
    }

    /// Does one operation; without patience, only if that need not wait.
    fn select(&mut self, patience: Option<&Patience>) -> Result<Transferred, Failure> {
        if let Some(last) = self.last.take() {
            self.cases[last as usize].case.clear();
        }
        let waiting = patience.map(|patience| (Parker::current(), patience));
        self.order();
        self.lock_all();
        if let Some((transferred, wake)) = self.attempt_any() {
            self.unlock_all();
            wake.finish();
            self.settle(transferred);
            return Ok(transferred);
        }
        let Some((parker, patience)) = waiting else {
            self.unlock_all();
            return Err(Failure::WouldBlock);
        };
        if let Err(gave_up) = patience.lasts(&parker) {
            self.unlock_all();
            return Err(Failure::GaveUp(gave_up));
        }
        let waiter = std::pin::pin!(Waiter::new(parker.unparker()));
        self.enter_all(NonNull::from(&*waiter));
        self.unlock_all();
        let ended = match waiter.wait(&parker, patience) {
            Pause::Ended(ended) => Ok(ended),
            Pause::Impatient(gave_up) => waiter.give_up().ok_or(gave_up),
        };
        match ended {
            Ok(Ended::Woken(code)) => {
                let transferred = Transferred::from_code(code);
                self.leave_all(Some(transferred.index));
                self.settle(transferred);
                Ok(transferred)
            }
            Ok(Ended::Chosen(code)) => {
                // Taking the lock of its channel, to leave it, makes sure that the waker is done.
                self.leave_all(None);
                let transferred = Transferred::from_code(code);
                self.settle(transferred);
                Ok(transferred)
            }
            Err(gave_up) => {
                self.leave_all(None);
                Err(Failure::GaveUp(gave_up))
            }
        }
    }

    /// Puts the live cases in order.
    fn order(&mut self) {
        let live = (0..)
            .zip(&self.cases)
            .filter_map(|(index, entry)| entry.case.is_live().then_some(index));
        self.by_rank.clear();
        self.by_rank.extend(live);
        self.by_chance.clone_from(&self.by_rank);
        chance::shuffle(&mut self.by_chance);
        let cases = &self.cases;
        self.by_rank
            .sort_unstable_by_key(|&index| cases[index as usize].channel);
    }

    /// Takes the lock of every channel, once.
    fn lock_all(&mut self) {
        let mut last = None;
        for &index in &self.by_rank {
            let entry = &mut self.cases[index as usize];
            let locked = match last {
                Some((channel, locked)) if channel == entry.channel => locked,
                _ => entry.case.lock(),
            };
            entry.locked = Some(locked);
            last = Some((entry.channel, locked));
        }
    }

    fn unlock_all(&mut self) {
        for &index in &self.by_rank {
            let entry = &mut self.cases[index as usize];
            entry.locked = None;
            entry.case.unlock();
        }
    }

    /// Does the first operation that can be done. All locks are held.
    fn attempt_any(&mut self) -> Option<(Transferred, Wake)> {
        for &index in &self.by_chance {
            let entry = &mut self.cases[index as usize];
            let locked = entry.locked.expect("all locks are held");
            // SAFETY: a case of this channel holds its lock.
            match unsafe { entry.case.attempt(locked) } {
                Attempt::Done(wake) => return Some((Transferred { index, closed: false }, wake)),
                Attempt::Closed => return Some((Transferred { index, closed: true }, Wake::Nothing)),
                Attempt::MustWait => {}
            }
        }
        None
    }

    /// Queues up everywhere. All locks are held; `leave_all` is called before the waiter goes.
    fn enter_all(&mut self, waiter: NonNull<Waiter>) {
        for &index in &self.by_rank {
            let entry = &mut self.cases[index as usize];
            let locked = entry.locked.expect("all locks are held");
            // SAFETY: a case of this channel holds its lock; cases are boxed, the waiter is pinned by the caller.
            unsafe { entry.case.enter(locked, waiter, index) };
        }
    }

    /// Leaves all queues, channel by channel. One that its waker has let go of (`out`) has left its own, whose lock is
    /// only taken if it holds another case.
    fn leave_all(&mut self, out: Option<u32>) {
        let mut rest = &self.by_rank[..];
        while let Some(&first) = rest.first() {
            let channel = self.cases[first as usize].channel;
            let size = rest
                .iter()
                .take_while(|&&index| self.cases[index as usize].channel == channel)
                .count();
            let (group, others) = rest.split_at(size);
            rest = others;
            let leader = first as usize;
            if let [only] = group
                && Some(*only) == out
            {
                self.cases[leader].case.left();
                continue;
            }
            let locked = self.cases[leader].case.lock();
            for &index in group {
                // SAFETY: the leader, on the same channel, holds its lock; all have entered.
                unsafe { self.cases[index as usize].case.leave(locked) };
            }
            self.cases[leader].case.unlock();
        }
    }

    /// Notes what was done. A value that has been sent cannot be sent again.
    fn settle(&mut self, transferred: Transferred) {
        let case = &mut self.cases[transferred.index as usize].case;
        if case.side() == Side::Send && !transferred.closed {
            case.retire();
        }
        self.last = Some(transferred.index);
    }
}

impl<'a> Selected<'_, 'a> {
    /// Which operation it was: what [`Select::recv`] or [`Select::send`] returned for it.
    pub fn index(&self) -> usize {
        self.transferred.index as usize
    }

    /// The value that was received.
    ///
    /// # Errors
    /// [`RecvError::Closed`] when the channel is closed and empty.
    ///
    /// # Panics
    /// When it was not a receiving on that channel.
    pub fn recv<T: 'a>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        let index = self.index();
        let value = self
            .select
            .case_of(index, Side::Recv, &receiver.channel)
            .take_value();
        if self.transferred.closed {
            Err(RecvError::Closed)
        } else {
            Ok(value.expect("it was received"))
        }
    }

    /// Whether the value was sent.
    ///
    /// # Errors
    /// [`SendError::Closed`] with the value when the channel is closed; the operation takes no part in further waits.
    ///
    /// # Panics
    /// When it was not a sending on that channel.
    pub fn send<T: 'a>(self, sender: &Sender<T>) -> Result<(), SendError<T>> {
        let index = self.index();
        let value = self.select.take_unsent(index, sender);
        if self.transferred.closed {
            Err(SendError::Closed(value.expect("it was not sent")))
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Select")
            .field("operations", &self.cases.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Selected<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selected")
            .field("index", &self.index())
            .finish_non_exhaustive()
    }
}
