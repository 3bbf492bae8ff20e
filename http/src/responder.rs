//! How the application answers.

use crate::pipe::Pipe;
use crate::response_body::ResponseBody;
use crate::server::Context;
use crate::slot::Slot;
use crate::wait::wait;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use roving_runtime::Cancelled;
use std::sync::Arc;
use std::time::Instant;

/// The client has gone, or took nothing for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client has gone")
    }
}

impl std::error::Error for Gone {}

/// The head of a response.
#[derive(Debug, Default)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// Its words, where they are not the usual ones.
    pub reason: Option<ReasonPhrase>,
    /// The fields.
    pub headers: HeaderMap,
}

/// How a wait for room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// There is room.
    Room,
    /// The client has gone.
    Gone,
    /// The caller's own deadline came first.
    TimedOut,
}

/// Answers one request. Dropped before it has answered it sends 500; dropped amid a streamed response it breaks the
/// connection off, so that the client sees that something is missing.
pub struct Responder {
    slot: Arc<Slot>,
    /// Once a streamed response has begun.
    pipe: Option<Arc<Pipe>>,
    answered: bool,
    context: Arc<Context>,
}

impl Responder {
    pub(crate) fn new(slot: Arc<Slot>, context: Arc<Context>) -> Self {
        Self {
            slot,
            pipe: None,
            answered: false,
            context,
        }
    }

    fn fill(&mut self, head: Head, body: ResponseBody) -> Result<(), Gone> {
        debug_assert!(!self.answered, "a request is answered once");
        self.answered = true;
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if let Some(reason) = head.reason {
            response.extensions_mut().insert(reason);
        }
        if self.slot.fill(response) {
            Ok(())
        } else {
            Err(Gone)
        }
    }

    /// Whether a response has begun.
    pub fn has_started(&self) -> bool {
        self.answered
    }

    /// Answers in one step. The length of `body` is what the client is told, unless it asked for the head alone and
    /// `head` has one.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&mut self, head: Head, body: Bytes) -> Result<(), Gone> {
        self.fill(head, ResponseBody::whole(body))
    }

    /// Begins a response of `length` bytes, or of a length that is not known, to be written by [`Responder::write`] and
    /// ended by [`Responder::finish`].
    ///
    /// # Errors
    /// [`Gone`].
    pub fn start(&mut self, head: Head, length: Option<u64>) -> Result<(), Gone> {
        let pipe = Arc::new(Pipe::new(self.context.shared.config.write_buffer));
        let body = ResponseBody::streamed(pipe.clone(), length);
        if let Some(hook) = self.slot.take_hook() {
            pipe.on_gone(hook);
        }
        self.pipe = Some(pipe);
        self.fill(head, body)
    }

    /// Waits until there is room for more, until `until` at most. Parks a fiber, blocks a plain thread.
    ///
    /// # Errors
    /// The calling fiber was cancelled.
    pub fn wait_for_room(&self, until: Option<Instant>) -> Result<Written, Cancelled> {
        let Some(pipe) = &self.pipe else {
            return Ok(Written::Gone);
        };
        let room = wait(&self.context.shared.handle, until, |context| {
            pipe.poll_room(context)
        })?;
        Ok(match room {
            Some(true) => Written::Room,
            Some(false) => Written::Gone,
            None => Written::TimedOut,
        })
    }

    /// Writes a chunk of a streamed response, whether there is room or not: see [`Responder::wait_for_room`].
    ///
    /// # Errors
    /// [`Gone`].
    pub fn write(&self, chunk: Bytes) -> Result<(), Gone> {
        match &self.pipe {
            Some(pipe) if pipe.push(chunk) => Ok(()),
            _ => Err(Gone),
        }
    }

    /// Ends a streamed response.
    pub fn finish(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.end(true);
        }
    }

    /// Breaks the connection off, whatever has been sent.
    pub fn abort(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.end(false);
        } else if !self.answered {
            // A response whose body breaks off before its first byte.
            let _ = self.start(Head::default(), Some(1));
            self.abort();
        }
    }

    /// Whether the client has gone, as far as is known: see [`Config::half_close`](crate::Config::half_close).
    pub fn is_gone(&self) -> bool {
        match &self.pipe {
            Some(pipe) => pipe.is_gone(),
            None => self.slot.is_gone(),
        }
    }

    /// Has `hook` called, on any thread, should the client go before it has all of the response: at once if it has. It
    /// must neither block nor panic.
    pub fn on_gone(&self, hook: impl FnOnce() + Send + 'static) {
        match &self.pipe {
            Some(pipe) => pipe.on_gone(Box::new(hook)),
            None => self.slot.on_gone(Box::new(hook)),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            let head = Head {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Head::default()
            };
            let _ = self.fill(head, ResponseBody::whole(Bytes::new()));
        } else if let Some(pipe) = self.pipe.take() {
            pipe.end(false);
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder")
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}
