//! What all sockets have in common: a socket of the standard library's, in non-blocking mode, registered.

use super::sys;
use crate::loom::sync::atomic::{AtomicU64, Ordering};
use crate::reactor::{Direction, Source, Transfer};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll};
use std::time::Duration;

/// See the module's documentation.
pub(super) struct Io<S> {
    // Goes before the socket: its descriptor must still be open, and ours, while the registration ends.
    source: Source,
    socket: S,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

impl<S: AsFd> Io<S> {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(socket: S) -> Self {
        Self::with(socket, true)
    }

    /// As [`Io::new`], for a socket that is still connecting: no call is worth trying yet.
    pub(super) fn connecting(socket: S) -> Self {
        Self::with(socket, false)
    }

    fn with(socket: S, assumed: bool) -> Self {
        Self {
            source: Source::new(socket.as_fd(), assumed),
            socket,
            read_timeout: Timeout::default(),
            write_timeout: Timeout::default(),
        }
    }

    /// The socket, for calls that do not wait.
    pub(super) fn socket(&self) -> &S {
        &self.socket
    }

    pub(super) fn into_socket(self) -> S {
        let Self { source, socket, .. } = self;
        drop(source);
        socket
    }

    pub(super) fn timeout(&self, direction: Direction) -> &Timeout {
        match direction {
            Direction::Read => &self.read_timeout,
            Direction::Write => &self.write_timeout,
        }
    }

    /// Calls `call`, waiting while it would block.
    #[inline]
    pub(super) fn run<T: Transfer>(
        &self,
        direction: Direction,
        call: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        self.run_for(self.timeout(direction).get(), direction, call)
    }

    /// As [`Io::run`], with a timeout of its own.
    #[inline]
    pub(super) fn run_for<T: Transfer>(
        &self,
        timeout: Option<Duration>,
        direction: Direction,
        mut call: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        self.source.run(direction, timeout, || call(&self.socket))
    }

    /// As [`Io::run`], for a stackless future.
    #[inline]
    pub(super) fn poll_run<T: Transfer>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        mut call: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.source.poll_run(direction, cx, || call(&self.socket))
    }

    /// As [`Io::run`], but fails with `WouldBlock` where that would wait.
    pub(super) fn try_run<T: Transfer>(
        &self,
        direction: Direction,
        mut call: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        self.source.try_run(direction, || call(&self.socket))
    }

    pub(super) fn poll_ready(&self, direction: Direction, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_ready(direction, cx)
    }

    /// Ends the socket for all who use it. The number stays taken until the drop: somebody may hold it.
    pub(super) fn close(&self) {
        if self.source.close() {
            sys::bury(self.socket.as_fd());
        }
    }
}

impl<S: AsFd> std::fmt::Debug for Io<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("fd", &self.socket.as_fd().as_raw_fd())
            .field("closed", &self.source.is_closed())
            .finish_non_exhaustive()
    }
}

/// For how long a call may wait, in nanoseconds; zero for ever.
#[derive(Default)]
pub(super) struct Timeout(AtomicU64);

impl Timeout {
    #[inline]
    pub(super) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// # Errors
    /// `InvalidInput`: it is zero, as with the standard library.
    pub(super) fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        let nanos = match timeout {
            None => 0,
            Some(Duration::ZERO) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a timeout of zero: pass None to wait for ever, or use a try_ call not to wait",
                ));
            }
            // 584 years are as good as more.
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }
}
