//! The state machine over a connection's bytes. It does no I/O and keeps no bytes.

use super::chunks::Chunks;
use super::fault::{Fault, Refused};
use super::head::{Head, Heads, Scan};
use super::limits::Limits;

/// The versions that are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// By Content-Length, which may be 0.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Between two requests, or before the first one: not more than an empty line has come of the next.
    Idle,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
    /// After the last request: what comes is ignored.
    Ended,
    /// Refused.
    Refused,
    /// In HTTP/2, which is not looked into.
    Http2,
}

/// What to do with the bytes at the beginning of those that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Keep them, and come back with them and more.
    More,
    /// Pass on this head. Behind it comes its body, or the next head where it has none.
    Head(Head),
    /// Pass on this much of a body, framing included.
    Body {
        /// How many bytes.
        length: usize,
        /// The body ends with them: the next head comes.
        end: bool,
    },
    /// Pass on everything, from now on: HTTP/2's preface has come and was allowed.
    Http2,
    /// Drop them, with all that follow: the last request said that it is the last.
    Ended,
}

#[derive(Debug, Clone)]
enum State {
    Head(Heads),
    Length(u64),
    Chunked(Chunks),
    Ended,
    Http2,
}

/// Checks the bytes that a client sends on one connection, before anything else reads them.
///
/// ```
/// use roving_http::strict::{Checker, Fault, Framing, Limits, Step};
///
/// let mut checker = Checker::new(&Limits::default());
/// let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\nHost: a\n\n";
/// // A head is passed on when it is whole.
/// assert_eq!(checker.next(&bytes[..20]), Ok(Step::More));
/// let Ok(Step::Head(head)) = checker.next(bytes) else { panic!() };
/// assert_eq!((head.length, head.framing), (47, Framing::Length(2)));
/// // A body as it comes.
/// assert_eq!(checker.next(&bytes[47..]), Ok(Step::Body { length: 2, end: true }));
/// // And nothing of what is wrong.
/// assert_eq!(checker.next(&bytes[49..]).unwrap_err().fault, Fault::BareLf);
/// ```
#[derive(Debug, Clone)]
pub struct Checker {
    limits: Limits,
    http2: bool,
    state: State,
    /// Bytes that were passed on.
    passed: u64,
    /// Heads that were passed on.
    requests: u64,
    /// The present or last request is followed by no other.
    last: bool,
    refused: Option<Refused>,
}

impl Checker {
    /// For a connection, whose first byte is the next to come. HTTP/2 is refused.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clamped(),
            http2: false,
            state: State::Head(Heads::default()),
            passed: 0,
            requests: 0,
            last: false,
            refused: None,
        }
    }

    /// Lets HTTP/2's preface pass at the beginning of the connection, and everything after it.
    #[must_use]
    pub fn allow_http2(mut self, allow: bool) -> Self {
        self.http2 = allow;
        self
    }

    /// Says what to do with `bytes`: all that has come and was neither passed on nor dropped, in order. What is passed on is
    /// not given again; the rest is, with what came since.
    ///
    /// Calls repeat until there is no byte left or [`Step::More`]. How the bytes are cut changes nothing: the same ones pass,
    /// and the same refusal comes behind them.
    ///
    /// # Errors
    /// Nothing of `bytes` may be passed on, nor anything later: every further call gives the same refusal.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Step, Refused> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        match &mut self.state {
            State::Ended => Ok(Step::Ended),
            State::Http2 => Ok(Step::Http2),
            State::Head(heads) => {
                // After a request it is no preface any more.
                let http2 = self.http2 && self.requests == 0;
                match heads.scan(bytes, &self.limits, http2) {
                    Ok(Scan::More) => Ok(Step::More),
                    Ok(Scan::Head(head)) => {
                        self.begin(&head);
                        Ok(Step::Head(head))
                    }
                    Ok(Scan::Http2) => {
                        self.state = State::Http2;
                        Ok(Step::Http2)
                    }
                    Err(fault) => {
                        let line = heads.line_start();
                        Err(self.refuse(fault, line))
                    }
                }
            }
            State::Length(_) | State::Chunked(_) if bytes.is_empty() => Ok(Step::More),
            State::Length(left) => {
                let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= length as u64;
                let end = *left == 0;
                Ok(self.pass(length, end))
            }
            State::Chunked(chunks) => {
                let advance = chunks.advance(bytes, &self.limits);
                match advance.fault {
                    // What is right in front of it passes first, and the refusal comes with the next call.
                    Some(fault) if advance.pass > 0 => {
                        let step = self.pass(advance.pass, false);
                        self.refuse(fault, 0);
                        Ok(step)
                    }
                    Some(fault) => Err(self.refuse(fault, 0)),
                    None if advance.pass == 0 => Ok(Step::More),
                    None => Ok(self.pass(advance.pass, advance.end)),
                }
            }
        }
    }

    /// The client will send nothing more, and `bytes` are what was neither passed on nor dropped.
    ///
    /// # Errors
    /// This is within a head or a body, or there was a refusal before.
    pub fn end(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match (self.phase(bytes), self.refused) {
            (_, Some(refused)) => Err(refused),
            (Phase::Head, None) => Err(self.refuse(Fault::HeadCut, 0)),
            (Phase::Body, None) => Err(self.refuse(Fault::BodyCut, 0)),
            _ => Ok(()),
        }
    }

    /// The head of which `bytes` have come takes too long. Says so, where one has begun.
    pub fn time_out(&mut self, bytes: &[u8]) -> Option<Refused> {
        match self.phase(bytes) {
            Phase::Head => Some(self.refuse(Fault::HeadTime, 0)),
            _ => None,
        }
    }

    /// Where the connection is, with `bytes` that were neither passed on nor dropped.
    #[must_use]
    pub fn phase(&self, bytes: &[u8]) -> Phase {
        match &self.state {
            _ if self.refused.is_some() => Phase::Refused,
            State::Head(heads) if heads.has_begun(bytes) => Phase::Head,
            State::Head(_) => Phase::Idle,
            State::Length(_) | State::Chunked(_) => Phase::Body,
            State::Ended => Phase::Ended,
            State::Http2 => Phase::Http2,
        }
    }

    /// How many heads were passed on.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// What was refused, once something was. The bytes in front of it may still have to be passed on.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn begin(&mut self, head: &Head) {
        self.passed += head.length as u64;
        self.requests += 1;
        self.last = !head.keep_alive;
        match head.framing {
            Framing::Empty | Framing::Length(0) => self.finish(),
            Framing::Length(length) => self.state = State::Length(length),
            Framing::Chunked => self.state = State::Chunked(Chunks::new()),
        }
    }

    fn pass(&mut self, length: usize, end: bool) -> Step {
        self.passed += length as u64;
        if end {
            self.finish();
        }
        Step::Body { length, end }
    }

    fn finish(&mut self) {
        self.state = match self.last {
            true => State::Ended,
            false => State::Head(Heads::default()),
        };
    }

    fn refuse(&mut self, fault: Fault, at: usize) -> Refused {
        let in_body = matches!(self.state, State::Length(_) | State::Chunked(_));
        let refused = Refused {
            fault,
            offset: self.passed + at as u64,
            request: self.requests + u64::from(!in_body),
            in_body,
        };
        self.refused = Some(refused);
        refused
    }
}
