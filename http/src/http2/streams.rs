//! What the streams of a connection have in common, and what is known of each.
//!
//! A stream's future runs wherever a worker takes it, so all of this is shared between threads. *No wake-up is lost*: who
//! changes a count does so before waking the connection, and the connection enters its waker before it looks at the counts.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// How many streams more may be reset by the client, on one connection, than were finished. It is what a page that is left
/// while it loads may well do, and no more.
pub(super) const MOST_RESETS: u32 = 100;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: AtomicU32,
    /// Changes whenever a stream is opened or closed.
    stamp: AtomicU32,
    resets: AtomicU32,
    connection: Mutex<Option<Waker>>,
    /// The stream whose future hyper makes next: it calls the service and the executor one after the other, in one poll of
    /// the connection.
    opened: Mutex<Option<Arc<Stream>>>,
}

/// What is known of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    streams: Arc<Streams>,
    /// What comes next is the client's to take. Otherwise the application has to give something, or the client to send it,
    /// which is timed where it is read.
    waits_for_client: AtomicBool,
    /// Changes with everything that is given to be sent.
    progress: AtomicU32,
    /// All of the response has been given, or the application has given up.
    finished: AtomicBool,
}

impl Streams {
    pub(super) fn open(self: &Arc<Self>) -> Arc<Stream> {
        let stream = Arc::new(Stream {
            streams: self.clone(),
            waits_for_client: AtomicBool::new(false),
            progress: AtomicU32::new(0),
            finished: AtomicBool::new(false),
        });
        self.open.fetch_add(1, SeqCst);
        self.stamp.fetch_add(1, SeqCst);
        let before = self
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(stream.clone());
        drop(before);
        stream
    }

    /// The stream that was opened last, once.
    pub(super) fn take_opened(&self) -> Option<Arc<Stream>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How many are open, and a number that says whether that was so all the time.
    pub(super) fn count(&self) -> (u32, u32) {
        (self.open.load(SeqCst), self.stamp.load(SeqCst))
    }

    /// Whether any has been opened.
    pub(super) fn had_any(&self) -> bool {
        self.stamp.load(SeqCst) != 0
    }

    pub(super) fn is_abused(&self) -> bool {
        self.resets.load(SeqCst) > MOST_RESETS
    }

    /// Has the connection woken when a stream ends.
    pub(super) fn enter(&self, waker: &Waker) {
        let mut place = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        let before = place.replace(waker.clone());
        drop(place);
        drop(before);
    }

    fn closed(&self, finished: bool) {
        if finished {
            let _ = self
                .resets
                .fetch_update(SeqCst, SeqCst, |resets| resets.checked_sub(1));
        } else {
            self.resets.fetch_add(1, SeqCst);
        }
        self.stamp.fetch_add(1, SeqCst);
        if self.open.fetch_sub(1, SeqCst) == 1 || self.is_abused() {
            let place = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let waker = place.clone();
            drop(place);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Stream {
    /// Something was given to be sent: the client has to take it.
    pub(super) fn give(&self) {
        self.progress.fetch_add(1, SeqCst);
        self.waits_for_client.store(true, SeqCst);
    }

    /// What there was has been given, and the application has to give more.
    pub(super) fn ask(&self) {
        self.waits_for_client.store(false, SeqCst);
    }

    pub(super) fn finish(&self) {
        self.finished.store(true, SeqCst);
    }

    /// Where it is, when it waits for its client.
    pub(super) fn waits_for_client(&self) -> Option<u32> {
        let waits = self.waits_for_client.load(SeqCst);
        waits.then(|| self.progress.load(SeqCst))
    }

    /// Its future has ended, or was dropped.
    pub(super) fn close(&self) {
        self.streams.closed(self.finished.load(SeqCst));
    }
}
