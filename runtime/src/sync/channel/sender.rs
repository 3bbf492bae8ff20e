//! The sending end.

use super::core::{Channel, Failure, Sending, Side};
use super::err::{SendError, SendTimeoutError, TrySendError};
use crate::fiber::{self, WaitReason};
use crate::loom::sync::Arc;
use crate::sync::waiter::{GaveUp, Patience};
use std::time::{Duration, Instant};

/// The sending end of a channel. It may be cloned and shared; when the last one is dropped, receivers take what is
/// left and then get an error.
///
/// ```
/// let (sender, receiver) = roving_runtime::sync::channel::bounded(2);
/// let another = sender.clone();
/// sender.send(1)?;
/// another.send(2)?;
/// drop((sender, another));
/// assert!(receiver.iter().eq([1, 2]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender<T> {
    pub(super) channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Takes over one count of senders.
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self { channel }
    }

    /// Sends a value: to a receiver that waits, or into the buffer, or else waits until one of them can be had.
    ///
    /// # Errors
    /// See [`SendError`]; the value comes back, and has not been received.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.channel
            .send(value, &Patience::until(None, WaitReason::Send))
            .map_err(|(failure, value)| match failure {
                Failure::Closed => SendError::Closed(value),
                Failure::GaveUp(GaveUp::Cancelled) => SendError::Cancelled(value),
                Failure::GaveUp(GaveUp::TimedOut) => {
                    unreachable!("a wait without a deadline does not time out")
                }
            })
    }

    /// Sends a value if that can be done without waiting.
    ///
    /// # Errors
    /// See [`TrySendError`]; the value comes back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.channel.try_send(value) {
            Sending::Sent(_) => Ok(()),
            Sending::Closed(value) => Err(TrySendError::Closed(value)),
            Sending::MustWait(value) => Err(TrySendError::Full(value)),
        }
    }

    /// As [`Sender::send`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// See [`SendTimeoutError`]; the value comes back.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_within(value, fiber::deadline_after(timeout))
    }

    /// As [`Sender::send`], waiting until `deadline` at most.
    ///
    /// # Errors
    /// See [`SendTimeoutError`]; the value comes back.
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_within(value, Some(deadline))
    }

    fn send_within(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let sent = self
            .channel
            .send(value, &Patience::until(deadline, WaitReason::Send));
        sent.map_err(|(failure, value)| match failure {
            Failure::Closed => SendTimeoutError::Closed(value),
            Failure::GaveUp(GaveUp::Cancelled) => SendTimeoutError::Cancelled(value),
            Failure::GaveUp(GaveUp::TimedOut) => SendTimeoutError::TimedOut(value),
        })
    }

    /// Closes the channel: no more values are taken, those that wait to be sent come back, those in the buffer can
    /// still be received. True for the call that closed it.
    pub fn close(&self) -> bool {
        self.channel.close()
    }

    /// Whether it is closed, by `close` or because one side is gone.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        self.channel.waiting()
    }

    /// How many values the buffer holds, at this moment.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether the buffer holds no value, at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values the buffer can hold; `None`: as many as there is memory for.
    pub fn capacity(&self) -> Option<usize> {
        (self.channel.capacity != usize::MAX).then_some(self.channel.capacity)
    }

    /// Whether both are ends of one channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.add(Side::Send);
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.remove(Side::Send);
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
