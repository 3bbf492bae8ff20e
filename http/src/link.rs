//! What a connection's future, its service and its stream tell one another. All three are polled by the same task.

use crate::meter::{Meter, Tally};
use crate::strict::Watch;
use http::Method;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

/// What a connection is waited on for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The rest of a head, or, on a new connection, all of it.
    Head = 0,
    /// The application, or what the client makes of its response.
    Busy = 1,
    /// The next request.
    Idle = 2,
    /// Its turn with the application.
    Queued = 3,
}

/// Law: written and read in polls of the connection's task, hence Relaxed; save `end_response`, which is called wherever a
/// response's body is dropped, and orders nothing.
#[derive(Debug)]
pub(crate) struct Link {
    phase: AtomicU8,
    /// Changes whenever the phase is set, be it to what it was.
    stamp: AtomicU32,
    last: AtomicBool,
    /// Who waits for the response to be over.
    held: Mutex<Option<Waker>>,
    /// How many requests have begun.
    requests: AtomicU64,
    /// Changes whenever something has been written.
    writes: AtomicU32,
    /// What the checker of the stream has found.
    checked: OnceLock<Watch>,
    /// Where requests and bytes are counted, if they are.
    meter: Option<Arc<Meter>>,
}

impl Link {
    pub(crate) fn new(meter: Option<Arc<Meter>>) -> Self {
        Self {
            meter,
            phase: AtomicU8::new(Phase::Head as u8),
            stamp: AtomicU32::new(0),
            checked: OnceLock::new(),
            last: AtomicBool::new(false),
            held: Mutex::new(None),
            requests: AtomicU64::new(0),
            writes: AtomicU32::new(0),
        }
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.stamp.store(
            self.stamp.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn phase(&self) -> (Phase, u32) {
        let phase = match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Busy,
            2 => Phase::Idle,
            _ => Phase::Queued,
        };
        (phase, self.stamp.load(Ordering::Relaxed))
    }

    /// Begins to count a request.
    pub(crate) fn tally(&self, method: &Method) -> Option<Tally> {
        self.meter.is_some().then(|| Tally::new(method))
    }

    /// A request is over.
    pub(crate) fn record(&self, tally: Option<Tally>) {
        if let (Some(meter), Some(tally)) = (&self.meter, tally) {
            meter.record(tally);
        }
    }

    /// Bytes have gone, or would have.
    pub(crate) fn sent(&self, bytes: usize) {
        self.writes
            .store(self.writes().wrapping_add(1), Ordering::Relaxed);
        if let Some(meter) = &self.meter {
            meter.sent(bytes);
        }
    }

    /// So many bytes have come.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.received(bytes);
        }
        if self.phase().0 == Phase::Idle {
            self.set(Phase::Head);
        }
    }

    /// How often bytes have gone.
    pub(crate) fn writes(&self) -> u32 {
        self.writes.load(Ordering::Relaxed)
    }

    /// A whole head has come.
    pub(crate) fn begin_request(&self) {
        self.requests
            .store(self.requests.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.set(Phase::Busy);
    }

    /// There are too many requests: this one waits.
    pub(crate) fn begin_wait(&self) {
        self.set(Phase::Queued);
    }

    /// Its turn has come.
    pub(crate) fn end_wait(&self) {
        self.set(Phase::Busy);
    }

    /// The response has been given to hyper, or given up.
    pub(crate) fn end_response(&self) {
        self.set(Phase::Idle);
        // After the phase: whoever comes to hold later sees it.
        let held = self.held().take();
        if let Some(held) = held {
            held.wake();
        }
    }

    /// Has this woken when the response is over; false when there is none to wait for.
    pub(crate) fn hold(&self, waker: &Waker) -> bool {
        let mut held = self.held();
        if self.phase().0 != Phase::Busy {
            return false;
        }
        *held = Some(waker.clone());
        true
    }

    fn held(&self) -> MutexGuard<'_, Option<Waker>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_checked(&self, watch: Watch) {
        let _ = self.checked.set(watch);
    }

    /// Notes that no further request is wanted on this connection, for what has been answered with an error.
    pub(crate) fn set_last(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    /// Whether a request was refused in a way that ends the connection: hyper does not say so in the response itself.
    pub(crate) fn is_last(&self) -> bool {
        let refused = || self.checked.get().and_then(Watch::refused);
        // The checker reads ahead: requests before the one that it refused are answered as any.
        let begun = self.requests.load(Ordering::Relaxed);
        self.last.load(Ordering::Relaxed)
            || refused().is_some_and(|refused| refused.in_body && refused.request <= begun)
    }
}
