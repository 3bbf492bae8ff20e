//! What streams of both kinds have: reading and writing, in all the ways one may wait.

use crate::reactor::FromStream;
use socket2::{MsgHdr, SockRef};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

/// Writes without SIGPIPE, whatever the process does with it.
pub(super) fn send_vectored(socket: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    SockRef::from(&socket).sendmsg(&MsgHdr::new().with_buffers(bufs), libc::MSG_NOSIGNAL)
}

/// What a read of `count` bytes into `wanted` says. `drains`: a short one shows that there are no more.
pub(super) fn from_stream(count: usize, wanted: usize, drains: bool) -> FromStream {
    FromStream {
        count,
        wanted: if drains { wanted } else { 0 },
    }
}

/// `$type { io: Io<$inner> }`. `$drains`: whether a read that gives less than was asked for shows that there
/// is no more; not so where messages keep their bounds.
macro_rules! stream {
    ($type:ident, $inner:ty, drained_by_short_reads: $drains:expr) => {
        impl $type {
            /// Reads what there is, waiting until there is something. Zero: the other side will send no more.
            ///
            /// # Errors
            /// What recv(2) says, such as ECONNRESET. `TimedOut` after
            #[doc = concat!("[`", stringify!($type), "::set_read_timeout`]. EBADF after [`", stringify!($type), "::close`].")]
            /// An error for which [`is_cancelled`](crate::is_cancelled) is true: the calling fiber was cancelled.
            ///
            /// # Panics
            /// In a stackless future, when it would have to wait.
            #[inline]
            pub fn read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let wanted = buf.len();
                self.io.run(Direction::Read, |stream| Self::receive(stream, buf, wanted)).map(|read| read.count)
            }

            /// As `read`, for a stackless future: `Pending` once the waker is noted, in place of an older one.
            ///
            /// # Errors
            /// As `read`, but for timeouts and cancellation.
            pub fn poll_read(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let wanted = buf.len();
                let read = self.io.poll_run(Direction::Read, cx, |stream| Self::receive(stream, buf, wanted));
                read.map_ok(|read| read.count)
            }

            /// As `read`, but never waits.
            ///
            /// # Errors
            /// As `read`; `WouldBlock` when there is nothing.
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let wanted = buf.len();
                self.io.try_run(Direction::Read, |stream| Self::receive(stream, buf, wanted)).map(|read| read.count)
            }

            #[inline]
            fn receive(
                mut stream: &$inner,
                buf: &mut [u8],
                wanted: usize,
            ) -> std::io::Result<crate::reactor::FromStream> {
                let count = std::io::Read::read(&mut stream, buf)?;
                Ok(crate::net::stream_io::from_stream(count, wanted, $drains))
            }

            /// Reads into several buffers, one after another.
            ///
            /// # Errors
            /// As `read`.
            pub fn read_vectored(&self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                let read = self.io.run(Direction::Read, |mut stream| {
                    std::io::Read::read_vectored(&mut stream, bufs).map(Whole)
                });
                read.map(|count| count.0)
            }

            /// Writes as much as the system takes, waiting until it takes something.
            ///
            /// # Errors
            /// What send(2) says, such as EPIPE and ECONNRESET (never the signal). `TimedOut` after
            #[doc = concat!("[`", stringify!($type), "::set_write_timeout`]. EBADF after [`", stringify!($type), "::close`].")]
            /// An error for which [`is_cancelled`](crate::is_cancelled) is true: the calling fiber was cancelled.
            ///
            /// # Panics
            /// In a stackless future, when it would have to wait.
            #[inline]
            pub fn write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.run(Direction::Write, |stream| Self::send(stream, buf)).map(|count| count.0)
            }

            /// As `write`, for a stackless future: `Pending` once the waker is noted, in place of an older one.
            ///
            /// # Errors
            /// As `write`, but for timeouts and cancellation.
            pub fn poll_write(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_run(Direction::Write, cx, |stream| Self::send(stream, buf)).map_ok(|count| count.0)
            }

            /// As `write`, but never waits.
            ///
            /// # Errors
            /// As `write`; `WouldBlock` when the system takes nothing.
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.try_run(Direction::Write, |stream| Self::send(stream, buf)).map(|count| count.0)
            }

            #[inline]
            fn send(mut stream: &$inner, buf: &[u8]) -> std::io::Result<Whole<usize>> {
                std::io::Write::write(&mut stream, buf).map(Whole)
            }

            /// Writes from several buffers, one after another.
            ///
            /// # Errors
            /// As `write`.
            pub fn write_vectored(&self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                let send = |stream: &$inner| crate::net::stream_io::send_vectored(stream, bufs).map(Whole);
                self.io.run(Direction::Write, send).map(|count| count.0)
            }

            /// As `write_vectored`, for a stackless future.
            ///
            /// # Errors
            /// As `poll_write`.
            pub fn poll_write_vectored(
                &self,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let send = |stream: &$inner| crate::net::stream_io::send_vectored(stream, bufs).map(Whole);
                self.io.poll_run(Direction::Write, cx, send).map_ok(|count| count.0)
            }

            /// For a stackless future: `Pending` until a read is worth trying.
            ///
            /// # Errors
            #[doc = concat!("EBADF after [`", stringify!($type), "::close`].")]
            pub fn poll_read_ready(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_ready(Direction::Read, cx)
            }

            /// For a stackless future: `Pending` until a write is worth trying.
            ///
            /// # Errors
            #[doc = concat!("EBADF after [`", stringify!($type), "::close`].")]
            pub fn poll_write_ready(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_ready(Direction::Write, cx)
            }

            /// For how long one read may wait; `None`: for ever.
            ///
            /// # Errors
            /// `InvalidInput`: it is zero.
            pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
                self.io.timeout(Direction::Read).set(timeout)
            }

            /// For how long one read may wait.
            pub fn read_timeout(&self) -> Option<std::time::Duration> {
                self.io.timeout(Direction::Read).get()
            }

            /// For how long one write may wait; `None`: for ever.
            ///
            /// # Errors
            /// `InvalidInput`: it is zero.
            pub fn set_write_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
                self.io.timeout(Direction::Write).set(timeout)
            }

            /// For how long one write may wait.
            pub fn write_timeout(&self) -> Option<std::time::Duration> {
                self.io.timeout(Direction::Write).get()
            }

            /// Closes the connection at once, for all who use this handle: their calls, those that wait
            /// included, fail with EBADF. Clones are not concerned.
            pub fn close(&self) {
                self.io.close();
            }
        }

        impl std::io::Read for &$type {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                $type::read(self, buf)
            }

            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                $type::read_vectored(self, bufs)
            }
        }

        impl std::io::Read for $type {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                $type::read(self, buf)
            }

            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                $type::read_vectored(self, bufs)
            }
        }

        impl std::io::Write for &$type {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                $type::write(self, buf)
            }

            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                $type::write_vectored(self, bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Write for $type {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                $type::write(self, buf)
            }

            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                $type::write_vectored(self, bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(super) use stream;
