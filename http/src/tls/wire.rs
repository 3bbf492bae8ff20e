//! The bytes of a TLS connection on their way between its stream and rustls.

use hyper::rt::{Read, ReadBuf, Write};
use rustls::ServerConnection;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Read at once: a whole record, and what comes around it.
const READ: usize = 18 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Wire<S> {
    pub(super) io: S,
    /// Read, and not taken by rustls from `taken` on. It has no memory while nothing is there: idle connections are many.
    inbox: Vec<u8>,
    taken: usize,
}

impl<S: Read + Write + Unpin> Wire<S> {
    pub(super) fn new(io: S) -> Self {
        Self {
            io,
            inbox: Vec::new(),
            taken: 0,
        }
    }

    /// Gives rustls some bytes, of those that are here or else of the connection's; how many, zero at the connection's end.
    /// To be called when all that was decrypted has been read, and followed by `process_new_packets`.
    pub(super) fn poll_fill(
        &mut self,
        session: &mut ServerConnection,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.taken == self.inbox.len() {
            let mut fresh = Vec::with_capacity(READ);
            let mut buf = ReadBuf::uninit(fresh.spare_capacity_mut());
            ready!(Pin::new(&mut self.io).poll_read(context, buf.unfilled()))?;
            let count = buf.filled().len();
            // SAFETY: so many bytes at its beginning have been filled.
            unsafe { fresh.set_len(count) };
            self.inbox = fresh;
            self.taken = 0;
        }
        let count = session.read_tls(&mut &self.inbox[self.taken..])?;
        self.taken += count;
        if self.taken == self.inbox.len() {
            self.inbox = Vec::new();
            self.taken = 0;
        }
        Poll::Ready(Ok(count))
    }

    /// Sends what rustls has to send.
    pub(super) fn poll_drain(
        &mut self,
        session: &mut ServerConnection,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while session.wants_write() {
            let mut writer = Writer {
                io: &mut self.io,
                context,
            };
            match session.write_tls(&mut writer) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The stream as rustls writes to it.
struct Writer<'a, 'b, S> {
    io: &'a mut S,
    context: &'a mut Context<'b>,
}

fn or_would_block(written: Poll<io::Result<usize>>) -> io::Result<usize> {
    match written {
        Poll::Ready(written) => written,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: Write + Unpin> io::Write for Writer<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.io).poll_write(self.context, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.io).poll_write_vectored(self.context, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
