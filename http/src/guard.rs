//! A stream as hyper sees it, with a limit on how long a client may take nothing of what is sent to it.

use crate::link::Link;
use hyper::rt::{Read, ReadBufCursor, Write};
use roving_runtime::{Handle, Sleep};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// See the module's documentation.
pub(crate) struct Guard<S> {
    stream: S,
    link: Arc<Link>,
    handle: Handle,
    write_timeout: Duration,
    /// Set while a write waits, and nothing has been written since.
    stalled: Option<Sleep>,
}

impl<S> Guard<S> {
    pub(crate) fn new(stream: S, link: Arc<Link>, handle: Handle, write_timeout: Duration) -> Self {
        Self {
            stream,
            link,
            handle,
            write_timeout,
            stalled: None,
        }
    }

    /// A write has gone as `written` says: gives it on, or an error when writes have waited for too long.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = &written {
            self.stalled = None;
            self.link.sent(result.as_ref().copied().unwrap_or(0));
            return written;
        }
        let sleep = self
            .stalled
            .get_or_insert_with(|| self.handle.sleep_until(self.handle.now() + self.write_timeout));
        match Pin::new(sleep).poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client takes nothing of what is sent to it",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Read + Unpin> Read for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.remaining();
        // A view of the same memory: what is filled there is filled here.
        // SAFETY: only given on to the stream, which writes initialised bytes alone, as its contract says.
        let spare = unsafe { buf.as_mut() };
        let mut view = hyper::rt::ReadBuf::uninit(spare);
        let read = Pin::new(&mut this.stream).poll_read(context, view.unfilled());
        let count = view.filled().len();
        debug_assert!(count <= before);
        // SAFETY: the stream has filled so many bytes of this very memory.
        unsafe { buf.advance(count) };
        if count != 0 {
            this.link.received(count);
        }
        read
    }
}

impl<S: Write + Unpin> Write for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, buf);
        this.watch(context, written)
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
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, bufs);
        this.watch(context, written)
    }
}
