//! A connection in memory, and futures that are polled only when they were woken: a wake-up that is lost stays lost.

use hyper::rt::{Read, ReadBufCursor, Write};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Debug, Default)]
struct State {
    incoming: VecDeque<Vec<u8>>,
    eof: bool,
    written: Vec<u8>,
    /// Bytes that may still be written; any number where there is none.
    room: Option<usize>,
    vectored: usize,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Both sides of a connection: hyper's, by its traits, and the client's, by methods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Rc<RefCell<State>>);

impl Wire {
    /// With these parts on the way.
    pub(crate) fn with<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let wire = Self::default();
        wire.0.borrow_mut().incoming = parts.into_iter().map(<[u8]>::to_vec).collect();
        wire
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        state.incoming.push_back(bytes.to_vec());
        state.reader.take().inspect(Waker::wake_by_ref);
    }

    /// The client sends nothing more.
    pub(crate) fn end(&self) {
        let mut state = self.0.borrow_mut();
        state.eof = true;
        state.reader.take().inspect(Waker::wake_by_ref);
    }

    /// Lets this many bytes be written from now on.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        let mut state = self.0.borrow_mut();
        state.room = room;
        state.writer.take().inspect(Waker::wake_by_ref);
    }

    pub(crate) fn written(&self) -> String {
        String::from_utf8(self.0.borrow().written.clone()).expect("responses are text here")
    }

    /// How many writes were vectored.
    pub(crate) fn vectored(&self) -> usize {
        self.0.borrow().vectored
    }

    /// The server has ended its side.
    pub(crate) fn is_shut(&self) -> bool {
        self.0.borrow().shut
    }

    /// Bytes that nobody has read.
    pub(crate) fn unread(&self) -> usize {
        self.0.borrow().incoming.iter().map(Vec::len).sum()
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        match state.incoming.pop_front() {
            Some(mut part) => {
                let count = part.len().min(buf.remaining());
                buf.put_slice(&part[..count]);
                if count < part.len() {
                    state.incoming.push_front(part.split_off(count));
                }
                Poll::Ready(Ok(()))
            }
            None if state.eof => Poll::Ready(Ok(())),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        assert!(!state.shut, "a write after the end");
        let count = buf.len().min(state.room.unwrap_or(usize::MAX));
        if count == 0 && !buf.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.room = state.room.map(|room| room - count);
        state.written.extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().shut = true;
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().vectored += 1;
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
        self.poll_write(cx, &bytes)
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A future that is polled for as long as it is woken.
pub(crate) struct Driven<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    flag: Arc<Flag>,
}

impl<'f, T> Driven<'f, T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'f) -> Self {
        Self {
            future: Box::pin(future),
            flag: Arc::new(Flag(AtomicBool::new(true))),
        }
    }

    /// Its output, or none where it waits for something.
    pub(crate) fn run(&mut self) -> Option<T> {
        let waker = Waker::from(self.flag.clone());
        let mut polls = 0;
        while self.flag.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            polls += 1;
            assert!(polls < 1_000, "it wakes itself for ever");
        }
        None
    }
}

/// The statuses of responses, each as long as it says it is, without those of 100.
pub(crate) fn statuses(mut written: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !written.is_empty() {
        let (head, rest) = written.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with("HTTP/1."), "{written}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        let status = head[9..12].parse().expect("a status");
        if status != 100 {
            statuses.push(status);
        }
        // An answer to HEAD says how long it would be.
        assert!(rest.is_empty() || rest.len() >= length, "{written}");
        written = rest.get(length..).unwrap_or_default();
    }
    statuses
}
