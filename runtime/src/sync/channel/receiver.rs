//! The receiving end.

use super::core::{Channel, Failure, Receiving, Side};
use super::err::{RecvError, RecvTimeoutError, TryRecvError};
use crate::fiber::{self, WaitReason};
use crate::loom::sync::Arc;
use crate::sync::waiter::{GaveUp, Patience};
use std::time::{Duration, Instant};

/// The receiving end of a channel. It may be cloned and shared: each value goes to one receiver. When the last one
/// is dropped the channel closes, and what it holds is dropped.
///
/// ```
/// use roving_runtime::sync::channel::{RecvTimeoutError, bounded};
/// use std::time::Duration;
///
/// let (sender, receiver) = bounded(2);
/// sender.send("a value")?;
/// assert_eq!(receiver.recv()?, "a value");
/// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::TimedOut));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver<T> {
    pub(super) channel: Arc<Channel<T>>,
}

impl<T> Receiver<T> {
    /// Takes over one count of receivers.
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self { channel }
    }

    /// Receives a value, waiting until there is one.
    ///
    /// # Errors
    /// See [`RecvError`].
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel
            .recv(&Patience::until(None, WaitReason::Recv))
            .map_err(|failure| match failure {
                Failure::Closed => RecvError::Closed,
                Failure::GaveUp(GaveUp::Cancelled) => RecvError::Cancelled,
                Failure::GaveUp(GaveUp::TimedOut) => {
                    unreachable!("a wait without a deadline does not time out")
                }
            })
    }

    /// Receives a value if that can be done without waiting.
    ///
    /// # Errors
    /// See [`TryRecvError`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.channel.try_recv() {
            Receiving::Received(value, _) => Ok(value),
            Receiving::Closed => Err(TryRecvError::Closed),
            Receiving::MustWait => Err(TryRecvError::Empty),
        }
    }

    /// As [`Receiver::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// See [`RecvTimeoutError`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_within(fiber::deadline_after(timeout))
    }

    /// As [`Receiver::recv`], waiting until `deadline` at most.
    ///
    /// # Errors
    /// See [`RecvTimeoutError`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_within(Some(deadline))
    }

    fn recv_within(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        self.channel
            .recv(&Patience::until(deadline, WaitReason::Recv))
            .map_err(|failure| match failure {
                Failure::Closed => RecvTimeoutError::Closed,
                Failure::GaveUp(GaveUp::Cancelled) => RecvTimeoutError::Cancelled,
                Failure::GaveUp(GaveUp::TimedOut) => RecvTimeoutError::TimedOut,
            })
    }

    /// The values that come, until the channel is closed and drained, or the calling fiber is cancelled.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The values that can be received without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// See [`Sender::close`](super::Sender::close).
    pub fn close(&self) -> bool {
        self.channel.close()
    }

    /// Whether it is closed, by `close` or because one side is gone. Values may be left in it.
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

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.add(Side::Recv);
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.remove(Side::Recv);
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// See [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// See [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// As [`Iter`], with the receiver in it.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
