//! A stream whose reader gets checked bytes alone.

use super::answer::{Closing, response};
use super::checker::{Checker, Phase, Step};
use super::fault::Refused;
use super::limits::Limits;
use super::watch::Watch;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Timer, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How connections are checked. One for all connections of a listener.
#[derive(Clone, Default)]
pub struct Config {
    /// How much of everything a request may have.
    pub limits: Limits,
    /// How long a connection is read from after the last response.
    pub linger: Linger,
    /// The clock for that. Without one, what has already come is read and no more is waited for.
    pub timer: Option<Arc<dyn Timer + Send + Sync>>,
    /// HTTP/2's preface passes, and all that follows it.
    pub http2: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("limits", &self.limits)
            .field("linger", &self.linger)
            .field("timer", &self.timer.is_some())
            .field("http2", &self.http2)
            .finish()
    }
}

/// How long, and how much, to read from a client that was answered before all it sent was read. To close at once would reset
/// the connection, and a reset throws the answer away that the client has yet to read (RFC 9112, 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linger {
    /// At most this long.
    pub time: Duration,
    /// At most this many bytes.
    pub bytes: usize,
}

impl Default for Linger {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            bytes: 256 * 1024,
        }
    }
}

/// How reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// From the connection.
    Open,
    /// The client has ended its side.
    Eof,
    /// The connection ends for its reader here, at the beginning of a head: what comes was refused, or is not wanted.
    End,
    /// As `End`, and the reader has had an empty line, so that it asks again only when it wants a head.
    Asked,
    /// As `Asked`, and it has asked: every response is in its write buffer or past it.
    Over,
    /// The reader gets the refusal as an error: it is in a body.
    Fails(Refused),
}

/// A connection whose reader, hyper, gets only what the [`Checker`] passes.
///
/// A refused head is the end of the connection for hyper, once it has written the responses to the requests before. Then
/// comes the answer to the refused request from here. A refused body is an error for whoever reads that body: an
/// [`io::Error`] in which [`Refused::find`] finds the reason.
///
/// The state machine, with its argument, is in the module's description.
#[derive(Debug)]
pub struct Strict<I> {
    io: I,
    config: Arc<Config>,
    checker: Checker,
    reading: Reading,
    /// What was read and not passed on: first what is checked, then the part of a head or a trailer line that is not yet whole.
    held: Vec<u8>,
    /// Up to where `held` was passed on.
    given: usize,
    /// Up to where `held` is checked.
    checked: usize,
    /// Something was dropped.
    dropped: bool,
    /// The refused request asks for a head alone.
    of_head: bool,
    closing: Option<Closing>,
    watch: Watch,
}

impl<I: Read + Write + Unpin> Strict<I> {
    /// Puts the checker in front of a connection from which nothing was read yet.
    ///
    /// ```no_run
    /// # use roving_http::strict::{Config, Strict, drive};
    /// # use std::sync::Arc;
    /// # async fn f<I, S>(stream: I, service: S, config: Arc<Config>) where
    /// #     I: hyper::rt::Read + hyper::rt::Write + Unpin,
    /// #     S: hyper::service::HttpService<hyper::body::Incoming, ResBody = String> + Send,
    /// #     S::Error: std::error::Error + Send + Sync,
    /// # {
    /// let mut builder = hyper::server::conn::http1::Builder::new();
    /// config.limits.configure(&mut builder);
    /// let stream = Strict::new(stream, config);
    /// let watch = stream.watch();
    /// let done = drive(builder.serve_connection(stream, service)).await;
    /// if let Some(refused) = watch.refused() {
    ///     eprintln!("{refused}");
    /// }
    /// # }
    /// ```
    pub fn new(io: I, config: Arc<Config>) -> Self {
        Self {
            io,
            checker: Checker::new(&config.limits).allow_http2(config.http2),
            config,
            reading: Reading::Open,
            held: Vec::new(),
            given: 0,
            checked: 0,
            dropped: false,
            of_head: false,
            closing: None,
            watch: Watch::new(),
        }
    }

    /// What can be seen of it once hyper has it.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The connection itself. To read from it is to go round the checker.
    pub fn get_ref(&self) -> &I {
        &self.io
    }

    /// Whether the client has ended its side, and all that it sent has been given.
    pub(crate) fn has_ended(&self) -> bool {
        self.reading == Reading::Eof
    }

    /// Answers 408 in [`close`](Strict::close) where a head has begun, after hyper has given up waiting for it.
    pub fn time_out(&mut self) {
        if let Some(refused) = self.checker.time_out(&self.held) {
            self.of_head = asks_for_head(&self.held);
            self.refuse(refused);
            // hyper waited for a head: its responses are written.
            self.reading = Reading::Over;
            self.look(&[]);
        }
    }

    /// Ends the connection as hyper's shutdown of it does, or goes on where that stopped: the answer to a refused head, the end
    /// of our side, and the linger.
    ///
    /// hyper leaves that out where a request asked for an upgrade that it did not get, as `Upgrade: h2c` does. Whoever drives
    /// a connection calls this after it, in every case: see [`drive`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn close(mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await
    }

    /// Looks at bytes that come right after those that were passed on or are held as checked: how many may be passed on.
    fn check(&mut self, bytes: &[u8]) -> usize {
        let mut pass = 0;
        let mut late = None;
        while pass < bytes.len() {
            match self.checker.next(&bytes[pass..]) {
                Ok(Step::More) => break,
                Ok(Step::Head(head)) => pass += head.length,
                Ok(Step::Body { length, .. }) => pass += length,
                Ok(Step::Http2) => pass = bytes.len(),
                Ok(Step::Ended) => {
                    self.dropped = true;
                    self.reading = Reading::End;
                    break;
                }
                Err(refused) => {
                    self.of_head = asks_for_head(&bytes[pass..]);
                    late = Some(refused);
                    break;
                }
            }
        }
        if let Some(refused) = late {
            self.refuse(refused);
        }
        self.look(&bytes[pass..]);
        pass
    }

    fn refuse(&mut self, refused: Refused) {
        self.dropped = true;
        self.watch.set_refused(refused);
        self.reading = match refused.in_body {
            true => Reading::Fails(refused),
            // Nothing else was asked of the reader: it wants this head.
            false if self.checker.requests() == 0 => Reading::Asked,
            false => Reading::End,
        };
    }

    /// Lets the watcher see where the connection is, with the bytes that are held back.
    fn look(&self, rest: &[u8]) {
        self.watch.set(self.checker.phase(rest), self.checker.requests());
    }

    /// Gives what is checked.
    fn give(&mut self, buf: &mut ReadBufCursor<'_>) {
        let count = buf.remaining().min(self.checked - self.given);
        buf.put_slice(&self.held[self.given..self.given + count]);
        self.given += count;
        if self.given == self.checked {
            self.held.drain(..self.given);
            self.given = 0;
            self.checked = 0;
            if self.held.is_empty() {
                // Idle connections, of which there are many, keep nothing.
                self.held = Vec::new();
            }
        }
    }

    /// The client has ended its side.
    fn on_eof(&mut self) {
        self.reading = Reading::Eof;
        if let Err(refused) = self.checker.end(&self.held) {
            self.of_head = asks_for_head(&self.held);
            self.refuse(refused);
        }
        // The empty lines that may be left are of no use to anybody.
        self.held = Vec::new();
        self.look(&[]);
    }

    /// Reads from the connection, by way of `buf`, and passes on what may be. Ready where there is something to give or
    /// `reading` has changed.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut fresh = ReadBuf::uninit({
            // SAFETY: `ReadBuf` only ever writes initialised bytes.
            unsafe { buf.as_mut() }
        });
        ready!(Pin::new(&mut self.io).poll_read(cx, fresh.unfilled()))?;
        let bytes = fresh.filled();
        if bytes.is_empty() {
            self.on_eof();
            return Poll::Ready(Ok(()));
        }
        if self.held.is_empty() {
            let pass = self.check(bytes);
            if self.reading == Reading::Open {
                self.held.extend_from_slice(&bytes[pass..]);
            }
            // SAFETY: `fresh` filled at least that many bytes, which initialised them.
            unsafe { buf.advance(pass) };
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            self.checked = self.check(&held);
            self.held = held;
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether the method of a request that is refused is HEAD.
fn asks_for_head(request: &[u8]) -> bool {
    request.trim_ascii_start().starts_with(b"HEAD ")
}

/// Drives a connection of hyper's to its end, and ends its stream.
///
/// Who needs the connection meanwhile, to shut it down gracefully, polls it to its end himself, and then calls
/// [`Strict::close`], after [`Strict::time_out`] where that is hyper's error, on the `io` of its [`into_parts`](http1::Connection::into_parts).
///
/// # Errors
/// hyper's. How the stream ends makes no difference to anybody by then.
pub async fn drive<I, S>(mut connection: http1::Connection<Strict<I>, S>) -> hyper::Result<()>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::ResBody: Body + 'static,
    <S::ResBody as Body>::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let done = (&mut connection).await;
    let mut stream = connection.into_parts().io;
    if done.as_ref().is_err_and(hyper::Error::is_timeout) {
        stream.time_out();
    }
    // The client may be gone.
    let _ = stream.close().await;
    done
}

impl<I: Read + Write + Unpin> Read for Strict<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.given < this.checked {
                this.give(&mut buf);
            }
            if buf.remaining() < room {
                return Poll::Ready(Ok(()));
            }
            match this.reading {
                Reading::Open => ready!(this.poll_fill(cx, &mut buf))?,
                Reading::Eof => return Poll::Ready(Ok(())),
                Reading::Fails(refused) => return Poll::Ready(Err(refused.into_io())),
                Reading::End => {
                    this.reading = Reading::Asked;
                    let count = room.min(2);
                    buf.put_slice(&b"\r\n"[..count]);
                }
                Reading::Asked | Reading::Over => {
                    this.reading = Reading::Over;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<I: Read + Write + Unpin> Write for Strict<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    /// Writes the answer to a refused head, ends our side, and reads on for a while where the client may still be sending.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let answer = match (this.reading, this.checker.refused()) {
                // hyper has read to the end, so it owes no response, and its last one did not say that it was the last.
                (Reading::Over, Some(refused)) if !refused.in_body => response(refused.fault, this.of_head),
                _ => Vec::new(),
            };
            let unread = this.reading != Reading::Eof
                && (this.dropped || !this.held.is_empty() || this.checker.phase(&this.held) == Phase::Body);
            let linger = match unread {
                true => this.config.linger.bytes,
                false => 0,
            };
            this.closing = Some(Closing::new(answer, linger));
        }
        match &mut this.closing {
            Some(closing) => closing.poll(&mut this.io, &this.config, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }
}
