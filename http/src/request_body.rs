//! The body of a request, as the application reads it.

use crate::server::Context;
use crate::strict::Refused;
use crate::wait::wait;
use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Incoming};
use roving_runtime::Cancelled;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

/// Why a body has no more bytes, though it is not at its end. Asked again it says the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The client broke it off, or it is malformed.
    Broken(String),
    /// It is longer than the server allows.
    TooLarge(u64),
    /// It comes too slowly.
    TooSlow,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyError::Broken(why) => write!(f, "the request's body broke off: {why}"),
            BodyError::TooLarge(most) => write!(f, "the request's body is longer than {most} bytes"),
            BodyError::TooSlow => f.write_str("the request's body comes too slowly"),
        }
    }
}

impl std::error::Error for BodyError {}

/// What reading gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Some bytes, at least one.
    Data(Bytes),
    /// All of it has been read.
    End,
    /// The caller's own deadline came first.
    TimedOut,
}

/// The rules for those who send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) grace: Duration,
    pub(crate) rate: u32,
    pub(crate) most: Option<u64>,
}

/// A request's body: what has come already, and the way to the rest.
pub struct RequestBody {
    ready: VecDeque<Bytes>,
    /// `None` once its end has come.
    rest: Option<Incoming>,
    failed: Option<BodyError>,
    length: Option<u64>,
    received: u64,
    /// For how long the client has been waited for, in all.
    waited: Duration,
    pace: Pace,
    context: Arc<Context>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, pace: Pace, context: Arc<Context>) -> Self {
        let length = incoming.size_hint().exact();
        let rest = (!incoming.is_end_stream()).then_some(incoming);
        let failed = match (length, pace.most) {
            (Some(length), Some(most)) if length > most => Some(BodyError::TooLarge(most)),
            _ => None,
        };
        Self {
            ready: VecDeque::new(),
            rest,
            failed,
            length,
            received: 0,
            waited: Duration::ZERO,
            pace,
            context,
        }
    }

    /// How long it is, if the client has said so.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether there is nothing to read, now or later.
    pub fn is_at_end(&self) -> bool {
        self.ready.is_empty() && self.rest.is_none() && self.failed.is_none()
    }

    pub(crate) fn failure(&self) -> Option<&BodyError> {
        self.failed.as_ref()
    }

    /// Whether the client may still send something of it.
    pub(crate) fn is_unread(&self) -> bool {
        self.rest.is_some() || self.failed.is_some()
    }

    /// For how much longer the client may let us wait.
    fn patience(&self) -> Option<Duration> {
        if self.pace.rate == 0 {
            return None;
        }
        let earned = Duration::from_secs_f64(self.received as f64 / f64::from(self.pace.rate));
        Some((self.pace.grace + earned).saturating_sub(self.waited))
    }

    /// Takes in what comes next: true, or false at the end.
    fn poll_receive(&mut self, context: &mut task::Context<'_>) -> Poll<Result<bool, BodyError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        loop {
            let Some(incoming) = &mut self.rest else {
                return Poll::Ready(Ok(false));
            };
            let error = match ready!(Pin::new(incoming).poll_frame(context)) {
                None => {
                    self.rest = None;
                    continue;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => {
                        self.received += data.len() as u64;
                        match self.pace.most {
                            Some(most) if self.received > most => BodyError::TooLarge(most),
                            _ => {
                                self.ready.push_back(data);
                                if self.rest.as_ref().is_some_and(Incoming::is_end_stream) {
                                    self.rest = None;
                                }
                                return Poll::Ready(Ok(true));
                            }
                        }
                    }
                    // Trailers: nobody asks for them.
                    Err(_) => continue,
                },
                Some(Err(error)) => match (Refused::find(&error), self.pace.most) {
                    (Some(refused), Some(most)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                        BodyError::TooLarge(most)
                    }
                    (Some(refused), _) => BodyError::Broken(refused.to_string()),
                    (None, _) => BodyError::Broken(cause(&error)),
                },
            };
            self.failed = Some(error.clone());
            return Poll::Ready(Err(error));
        }
    }

    /// Receives until there are `enough` bytes, or all; for the connection, before the application is called.
    pub(crate) fn poll_prefetch(
        &mut self,
        context: &mut task::Context<'_>,
        enough: usize,
    ) -> Poll<Result<(), BodyError>> {
        while self.received < enough as u64 {
            if !ready!(self.poll_receive(context))? {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How long a prefetch may take.
    pub(crate) fn prefetch_time(&self) -> Option<Duration> {
        self.patience()
    }

    pub(crate) fn note_waited(&mut self, time: Duration) {
        self.waited += time;
    }

    pub(crate) fn fail(&mut self, error: BodyError) {
        self.failed = Some(error);
    }

    /// Waits for bytes, until `until` at most, and takes them. Parks a fiber, blocks a plain thread.
    ///
    /// # Errors
    /// The outer one: the calling fiber was cancelled. The inner one: see [`BodyError`].
    pub fn next(&mut self, until: Option<Instant>) -> Result<Result<Chunk, BodyError>, Cancelled> {
        if let Some(data) = self.ready.pop_front() {
            return Ok(Ok(Chunk::Data(data)));
        }
        if self.rest.is_none() && self.failed.is_none() {
            return Ok(Ok(Chunk::End));
        }
        let context = self.context.clone();
        let handle = &context.shared.handle;
        let began = handle.now();
        let limit = self.patience().and_then(|patience| began.checked_add(patience));
        let earlier = match (until, limit) {
            (Some(until), Some(limit)) => Some(until.min(limit)),
            (until, limit) => until.or(limit),
        };
        let received = wait(handle, earlier, |context| self.poll_receive(context));
        let now = handle.now();
        self.waited += now.saturating_duration_since(began);
        Ok(match received? {
            Some(Ok(true)) => Ok(Chunk::Data(self.ready.pop_front().expect("it has just come"))),
            Some(Ok(false)) => Ok(Chunk::End),
            Some(Err(error)) => Err(error),
            None if limit.is_some_and(|limit| limit <= now) => {
                self.failed = Some(BodyError::TooSlow);
                Err(BodyError::TooSlow)
            }
            None => Ok(Chunk::TimedOut),
        })
    }
}

/// What is behind hyper's error, which itself says little.
fn cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody")
            .field("length", &self.length)
            .field("received", &self.received)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
