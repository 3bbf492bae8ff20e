//! Waits where the system has no event to wait for: it is asked again, less and less often.

use crate::fiber::{clock, deadline_after, sleep};
use std::io;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// Tells errors that concern one connection, or pass, from those that end an accept loop, and waits before
/// the next attempt when the system has run out of something.
///
/// ```
/// use roving_runtime::net::{AcceptBackoff, TcpListener};
///
/// fn serve(listener: &TcpListener) -> std::io::Result<()> {
///     let mut backoff = AcceptBackoff::new();
///     loop {
///         match listener.accept() {
///             Ok((_stream, _peer)) => backoff.accepted(),
///             // EMFILE, for one: with no descriptor free accept fails at once, again and again.
///             Err(error) => backoff.failed(error)?,
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct AcceptBackoff {
    delay: Duration,
}

impl Default for AcceptBackoff {
    fn default() -> Self {
        Self::new()
    }
}

impl AcceptBackoff {
    /// No failure so far.
    pub fn new() -> Self {
        Self { delay: FIRST }
    }

    /// To be called after a success: the next wait is a short one again.
    pub fn accepted(&mut self) {
        self.delay = FIRST;
    }

    /// Returns when it makes sense to accept again: at once after an error of one connection; after 5 ms,
    /// then twice as long each time, up to a second, when descriptors or memory have run out (EMFILE, ENFILE,
    /// ENOBUFS, ENOMEM).
    ///
    /// # Errors
    /// `error` itself, when it is of another kind: trying again would not help. An error for which
    /// [`is_cancelled`](crate::is_cancelled) is true: the calling fiber was cancelled while it waited.
    pub fn failed(&mut self, error: io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                let delay = self.delay;
                self.delay = (2 * delay).min(LONGEST);
                sleep(delay).map_err(io::Error::other)
            }
            // accept(2): "treat them like EAGAIN by retrying".
            Some(
                libc::ECONNABORTED
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM,
            ) => Ok(()),
            _ => Err(error),
        }
    }
}

/// Waits between attempts of one call: a millisecond at first, then longer.
pub(super) struct Patience {
    delay: Duration,
    deadline: Option<Instant>,
}

impl Patience {
    const LONGEST: Duration = Duration::from_millis(32);

    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self {
            delay: Duration::from_millis(1),
            deadline: timeout.and_then(deadline_after),
        }
    }

    /// # Errors
    /// `TimedOut`; the calling fiber was cancelled.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let left = self
            .deadline
            .map_or(Self::LONGEST, |at| at.saturating_duration_since(clock::now()));
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(self.delay.min(left)).map_err(io::Error::other)?;
        self.delay = (2 * self.delay).min(Self::LONGEST);
        Ok(())
    }
}
