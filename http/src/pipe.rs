//! A response that is streamed: from the fiber that writes it to the connection that sends it.
//!
//! Its lock is held for a few instructions, with nothing else under it. Who waits leaves a waker under the lock, and the
//! other side takes it under the lock, so no wake-up is lost.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// See the module's documentation.
pub(crate) struct Pipe {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    writer: Option<Waker>,
    reader: Option<Waker>,
    /// To be called when the client goes.
    hook: Option<Box<dyn FnOnce() + Send>>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The writer has written all of it.
    Finished,
    /// The writer gave up.
    Aborted,
    /// The reader is gone.
    Gone,
}

/// What the reader gets.
pub(crate) enum Piece {
    Data(Bytes),
    End,
    Aborted,
}

impl Pipe {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once there is room: true, or false when the client has gone.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if state.end != End::Open {
            return Poll::Ready(false);
        }
        if state.bytes < self.most {
            return Poll::Ready(true);
        }
        match &state.writer {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => state.writer = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Writes a chunk, room or not; false when the client has gone.
    pub(crate) fn push(&self, chunk: Bytes) -> bool {
        let mut state = self.state();
        if state.end != End::Open {
            return false;
        }
        state.bytes += chunk.len();
        state.chunks.push_back(chunk);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// The writer is done: it has written all, or gives up.
    pub(crate) fn end(&self, complete: bool) {
        let mut state = self.state();
        if state.end != End::Open {
            return;
        }
        state.end = if complete { End::Finished } else { End::Aborted };
        let (reader, hook) = (state.reader.take(), state.hook.take());
        drop(state);
        drop(hook);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Has `hook` called should the client go before the end; at once when it has gone.
    pub(crate) fn on_gone(&self, hook: Box<dyn FnOnce() + Send>) {
        let mut state = self.state();
        match state.end {
            End::Open => state.hook = Some(hook),
            End::Gone => {
                drop(state);
                hook();
            }
            End::Finished | End::Aborted => drop(state),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.state().end == End::Gone
    }

    pub(crate) fn poll_piece(&self, context: &mut Context<'_>) -> Poll<Piece> {
        let mut state = self.state();
        if let Some(chunk) = state.chunks.pop_front() {
            let was_full = state.bytes >= self.most;
            state.bytes -= chunk.len();
            let writer = match was_full && state.bytes < self.most {
                true => state.writer.take(),
                false => None,
            };
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Piece::Data(chunk));
        }
        match state.end {
            End::Finished => Poll::Ready(Piece::End),
            End::Aborted | End::Gone => Poll::Ready(Piece::Aborted),
            End::Open => {
                match &state.reader {
                    Some(waker) if waker.will_wake(context.waker()) => {}
                    _ => state.reader = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Whether all has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        let state = self.state();
        state.end == End::Finished && state.chunks.is_empty()
    }

    /// The reader is gone, with or without having read all.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        if state.end == End::Finished && state.chunks.is_empty() {
            return;
        }
        let was_open = state.end == End::Open;
        state.end = End::Gone;
        state.bytes = 0;
        let (chunks, writer) = (std::mem::take(&mut state.chunks), state.writer.take());
        let hook = state.hook.take().filter(|_| was_open);
        drop(state);
        // What they hold may be the application's to free.
        drop(chunks);
        if let Some(writer) = writer {
            writer.wake();
        }
        if let Some(hook) = hook {
            hook();
        }
    }
}
