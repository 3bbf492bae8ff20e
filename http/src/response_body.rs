//! The body of a response, as hyper sends it.

use crate::link::Link;
use crate::meter::Tally;
use crate::pipe::{Piece, Pipe};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The application broke its response off, so the connection is, too: the client must not take it for whole.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the application broke its response off")
    }
}

impl std::error::Error for BrokenOff {}

/// See the module's documentation.
pub(crate) struct ResponseBody {
    content: Content,
    link: Option<Arc<Link>>,
    tally: Option<Tally>,
}

enum Content {
    Whole(Bytes),
    Streamed {
        pipe: Arc<Pipe>,
        left: Option<u64>,
        /// Something has been given to hyper that it may not have sent yet.
        unsent: bool,
    },
    Done,
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self {
            content: if bytes.is_empty() {
                Content::Done
            } else {
                Content::Whole(bytes)
            },
            link: None,
            tally: None,
        }
    }

    /// `length`: how long it will be, if that is known.
    pub(crate) fn streamed(pipe: Arc<Pipe>, length: Option<u64>) -> Self {
        Self {
            content: Content::Streamed {
                pipe,
                left: length,
                unsent: false,
            },
            link: None,
            tally: None,
        }
    }

    /// The connection's link is told when the body's end has come.
    pub(crate) fn set_link(&mut self, link: Arc<Link>, tally: Option<Tally>) {
        self.link = Some(link);
        self.tally = tally;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let item = match &mut self.content {
            Content::Streamed { pipe, left, unsent } => match ready!(pipe.poll_piece(context)) {
                Piece::Data(bytes) => {
                    *unsent = true;
                    if let Some(left) = left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    Some(Ok(Frame::data(bytes)))
                }
                Piece::End => None,
                // An error makes hyper forget what it has not sent; while it waits for more, it sends.
                Piece::Aborted if std::mem::take(unsent) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Piece::Aborted => Some(Err(BrokenOff)),
            },
            whole => match std::mem::replace(whole, Content::Done) {
                Content::Whole(bytes) => Some(Ok(Frame::data(bytes))),
                _ => None,
            },
        };
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(_) => false,
            Content::Streamed { pipe, .. } => pipe.is_at_end(),
            Content::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Streamed { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Content::Done => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Content::Streamed { pipe, .. } = &self.content {
            pipe.abandon();
        }
        if let Some(link) = &self.link {
            link.record(self.tally);
            link.end_response();
        }
    }
}
