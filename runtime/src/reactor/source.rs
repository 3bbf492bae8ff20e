//! A descriptor of our own: try the call, and wait when it would block.

use super::error::closed;
use super::readiness::{Direction, Proof, ToUnready};
use super::record::Record;
use super::table;
use crate::fiber::deadline_after;
use crate::loom::sync::Arc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// The registration of a non-blocking descriptor. It goes before the descriptor is closed: keep it in a
/// field above the descriptor's.
pub(crate) struct Source {
    record: Arc<Record>,
}

/// What a call that moves data brought.
pub(crate) trait Transfer {
    /// Whether it says that a direction is exhausted although the call succeeded.
    fn is_short(&self) -> bool;
}

/// The result of a read from a stream into `wanted` bytes.
pub(crate) struct FromStream {
    pub(crate) count: usize,
    pub(crate) wanted: usize,
}

impl Transfer for FromStream {
    #[inline]
    fn is_short(&self) -> bool {
        // Zero is the end, which stays.
        0 < self.count && self.count < self.wanted
    }
}

/// The result of a call whose success says nothing of the next one.
pub(crate) struct Whole<T>(pub(crate) T);

impl<T> Transfer for Whole<T> {
    #[inline]
    fn is_short(&self) -> bool {
        false
    }
}

impl Source {
    /// `assumed`: whether calls are worth trying before any event.
    pub(crate) fn new(fd: BorrowedFd<'_>, assumed: bool) -> Self {
        Self {
            record: table::insert_owned(fd.as_raw_fd(), assumed),
        }
    }

    /// Calls `call` until it neither fails with EAGAIN nor with EINTR, waiting in between, `timeout` at most.
    #[inline]
    pub(crate) fn run<T: Transfer>(
        &self,
        direction: Direction,
        timeout: Option<Duration>,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut deadline: Option<Option<Instant>> = None;
        loop {
            if let Some(result) = self.attempt(direction, &mut call) {
                return result;
            }
            let deadline = *deadline.get_or_insert_with(|| timeout.and_then(deadline_after));
            self.record.wait(direction, deadline)?;
        }
    }

    /// As [`Source::run`], for a stackless future.
    pub(crate) fn poll_run<T: Transfer>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            if let Some(result) = self.attempt(direction, &mut call) {
                return Poll::Ready(result);
            }
            ready!(self.poll_ready(direction, cx))?;
        }
    }

    /// Calls `call` once, if it is worth trying.
    ///
    /// # Errors
    /// `WouldBlock` if it is not.
    pub(crate) fn try_run<T: Transfer>(
        &self,
        direction: Direction,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        self.attempt(direction, &mut call)
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// `Pending` until a call is worth trying.
    pub(crate) fn poll_ready(&self, direction: Direction, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.record.poll(direction, cx).map_err(io::Error::from)
    }

    /// `None`: wait for an event.
    #[inline]
    fn attempt<T: Transfer>(
        &self,
        direction: Direction,
        call: &mut impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        loop {
            // Before the call: an event after this voids what the call proves.
            let seen = self.record.load();
            if seen.is_closed() {
                return Some(Err(closed()));
            }
            if !seen.is_ready(direction) {
                return None;
            }
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.record.unready(seen, direction, Proof::Refused) {
                        ToUnready::Unready => return None,
                        ToUnready::StillReady => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(transfer) if transfer.is_short() => {
                    // Saves the call that would fail, most often.
                    let _ = self.record.unready(seen, direction, Proof::Short);
                    return Some(Ok(transfer));
                }
                done => return Some(done),
            }
        }
    }

    /// Ends the registration, and all waits through it, with EBADF. True for the first call.
    pub(crate) fn close(&self) -> bool {
        table::close(&self.record)
    }

    #[cfg(test)]
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.record.load().is_closed()
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.record.load()).finish()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.close();
    }
}
