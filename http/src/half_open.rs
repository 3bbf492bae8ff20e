//! A stream that keeps its client's end to itself while that client waits for a response.
//!
//! To hyper an end amid a response is a client that has gone, and the response goes with it. But a client may well end its
//! sending half when it has sent its request (`nc -N`, `shutdown(SHUT_WR)`), and read on (RFC 9112, 9.6).
//!
//! While its request only waits for its turn an end is one: most who end then have given up, and where there are too many
//! requests already nothing is left for those whose answers nobody reads.
//!
//! *No wake-up is lost*: a read that is pending for that leaves its waker with the link, which wakes it when the response is over.
//! hyper does not read again by itself: for all it knows the connection has nothing for it.

use crate::link::Link;
use crate::strict::Strict;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct HalfOpen<I> {
    stream: Strict<I>,
    /// `None` where an end is one at once.
    link: Option<Arc<Link>>,
}

impl<I> HalfOpen<I> {
    pub(crate) fn new(stream: Strict<I>, link: Option<Arc<Link>>) -> Self {
        Self { stream, link }
    }

    pub(crate) fn into_inner(self) -> Strict<I> {
        self.stream
    }
}

impl<I: Read + Write + Unpin> Read for HalfOpen<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.stream.has_ended() {
            ready!(Pin::new(&mut this.stream).poll_read(context, buf))?;
        }
        let holds = |link: &Arc<Link>| link.hold(context.waker());
        if this.stream.has_ended() && this.link.as_ref().is_some_and(holds) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Read + Write + Unpin> Write for HalfOpen<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bufs)
    }
}
