//! What the owner of a connection can see of its stream, which hyper has.

use super::checker::Phase;
use super::fault::Refused;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Looks at a [`Strict`](super::Strict) stream that was given away. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Seen>);

/// Written by the stream alone. Nothing is ordered by these: each is read for itself.
#[derive(Debug)]
struct Seen {
    refused: OnceLock<Refused>,
    phase: AtomicU8,
    requests: AtomicU64,
}

const PHASES: [Phase; 6] = [
    Phase::Idle,
    Phase::Head,
    Phase::Body,
    Phase::Ended,
    Phase::Refused,
    Phase::Http2,
];

impl Watch {
    pub(super) fn new() -> Self {
        Self(Arc::new(Seen {
            refused: OnceLock::new(),
            phase: AtomicU8::new(0),
            requests: AtomicU64::new(0),
        }))
    }

    /// What was refused, for a log line and a counter: the first thing, and there is no second.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.0.refused.get().copied()
    }

    /// Where the client is with what it sends: whoever times heads and idle connections goes by it. What was read ahead while
    /// a response is being written counts.
    #[must_use]
    pub fn phase(&self) -> Phase {
        PHASES
            .get(usize::from(self.0.phase.load(Ordering::Relaxed)))
            .copied()
            .unwrap_or(Phase::Idle)
    }

    /// How many whole heads have come.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, phase: Phase, requests: u64) {
        let index = PHASES.iter().position(|&known| known == phase).unwrap_or(0);
        self.0.phase.store(index as u8, Ordering::Relaxed);
        self.0.requests.store(requests, Ordering::Relaxed);
    }

    pub(super) fn set_refused(&self, refused: Refused) {
        // The checker gives the same one every time.
        let _ = self.0.refused.set(refused);
    }
}
