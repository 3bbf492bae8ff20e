//! The stream: plaintext on this side, a TLS connection on the other.

use super::TlsInfo;
use super::wire::Wire;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::{ProtocolVersion, ServerConnection};
use std::io::{self, BufRead, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// How much may be encrypted that the connection has not taken.
const WAITING: usize = 64 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct TlsStream<S> {
    wire: Wire<S>,
    session: Box<ServerConnection>,
    /// rustls has refused something: there is nothing more to read or to write.
    failed: bool,
    /// `close_notify` is on its way, or gone.
    closed: bool,
}

impl<S: Read + Write + Unpin> TlsStream<S> {
    /// Of a connection that has shaken hands.
    pub(super) fn new(wire: Wire<S>, mut session: Box<ServerConnection>) -> Self {
        session.set_buffer_limit(Some(WAITING));
        Self {
            wire,
            session,
            failed: false,
            closed: false,
        }
    }

    /// Whether client and server have agreed on HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.session.alpn_protocol() == Some(b"h2")
    }

    pub(crate) fn info(&self) -> TlsInfo {
        let suite = self.session.negotiated_cipher_suite();
        TlsInfo {
            protocol: match self.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            // rustls says TLS13_AES_..., everybody else TLS_AES_...
            cipher: suite.map_or_else(String::new, |suite| {
                let name = format!("{:?}", suite.suite());
                name.replacen("TLS13_", "TLS_", 1)
            }),
            client_certificate: self
                .session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|certificate| certificate.as_ref().to_vec()),
        }
    }

    fn fail(&mut self, error: rustls::Error, context: &mut Context<'_>) -> io::Error {
        self.failed = true;
        // The alert that says why, if it goes at once.
        let _ = self.wire.poll_drain(&mut self.session, context);
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn check(&self) -> io::Result<()> {
        match self.failed {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the TLS connection has failed",
            )),
            false => Ok(()),
        }
    }

    fn poll_put(
        &mut self,
        context: &mut Context<'_>,
        put: impl Fn(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let mut count = put(&mut self.session.writer())?;
        // What was there before goes out together with what has just come.
        let drained = self.wire.poll_drain(&mut self.session, context)?;
        if count == 0 {
            ready!(drained);
            count = put(&mut self.session.writer())?;
            let _ = self.wire.poll_drain(&mut self.session, context)?;
        }
        // Where something was taken, whoever wrote it will flush.
        Poll::Ready(Ok(count))
    }
}

impl<S: Read + Write + Unpin> Read for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut reader = this.session.reader();
            match reader.fill_buf() {
                Ok(bytes) => {
                    // None: the client has said that this is all.
                    let count = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..count]);
                    reader.consume(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The connection has ended, and the client had not said so.
                Err(error) => return Poll::Ready(Err(error)),
            }
            let filled = this.wire.poll_fill(&mut this.session, context)?;
            if filled.is_ready()
                && let Err(error) = this.session.process_new_packets()
            {
                return Poll::Ready(Err(this.fail(error, context)));
            }
            // Reading may have made us owe something.
            let _ = this.wire.poll_drain(&mut this.session, context)?;
            ready!(filled);
        }
    }
}

impl<S: Read + Write + Unpin> Write for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_put(context, |writer| writer.write(buf))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Head and body become one record.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut()
            .poll_put(context, |writer| writer.write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.wire.poll_drain(&mut this.session, context))?;
        Pin::new(&mut this.wire.io).poll_flush(context)
    }

    /// Says that this is all, and ends our side. Reading goes on.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed && !this.failed {
            this.closed = true;
            this.session.send_close_notify();
        }
        ready!(this.wire.poll_drain(&mut this.session, context))?;
        Pin::new(&mut this.wire.io).poll_shutdown(context)
    }
}
