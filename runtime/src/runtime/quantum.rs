//! When a turn has lasted for a quantum, and who is told.
//!
//! A worker notes its coarse clock as each turn begins, a plain store: when turns are short that is at most some
//! 100 us before the turn's real beginning. A turn that follows others of suddenly greater length may carry an older
//! note; but it did not begin before the last sample that saw another one. So a fiber has its quantum, less 1 ms at the
//! worst, and the monitor sleeps until the moment it ends, not until the next sample.

use crate::loom::sync::atomic::Ordering;
use crate::scheduler::Hub;
use std::time::{Duration, Instant};

/// Between two requests to the same turn.
const AGAIN: Duration = Duration::from_millis(1);

/// What is remembered of a worker's turn between samples.
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    /// The last sample.
    seen: Option<Instant>,
    /// The last sample that saw another turn, or the worker asleep.
    before: Option<Instant>,
    /// When the embedder was last told.
    told: Option<Instant>,
}

impl Turn {
    /// A turn seen for the first time, after `last`.
    pub(super) fn seen(now: Instant, last: &Self) -> Self {
        Self {
            seen: Some(now),
            before: last.seen,
            told: None,
        }
    }

    /// A turn seen again. Tells the embedder if it has had its quantum and others wait; returns when its quantum ends if
    /// that is still to come.
    pub(super) fn look(
        &mut self,
        hub: &Hub,
        worker: usize,
        turn: u64,
        now: Instant,
        quantum: Duration,
        tell: impl FnOnce(),
    ) -> Option<Instant> {
        self.seen = Some(now);
        let remote = &hub.workers()[worker];
        if remote.running.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let noted = hub.origin + Duration::from_nanos(remote.counters.turn_began.load(Ordering::Relaxed));
        let began = self.before.map_or(noted, |before| before.max(noted));
        // A quantum of centuries is none.
        let due = began.checked_add(quantum)?;
        if now < due {
            return Some(due);
        }
        // What has fallen due meanwhile waits as well, but the worker does not know yet.
        remote.driver().poll();
        let since = self.told.map(|told| now.saturating_duration_since(told));
        // The ready queue is the worker's own: if it may hold anything the worker is asked, once a quantum.
        let alone = remote.counters.alone_in.load(Ordering::Relaxed) == turn.wrapping_add(1);
        let pause = if hub.is_wanted(worker) {
            AGAIN
        } else if remote.live.load(Ordering::Relaxed) == 0 {
            return None;
        } else if alone {
            quantum.max(AGAIN)
        } else {
            AGAIN
        };
        if since.is_none_or(|since| since >= pause.min(quantum)) {
            self.told = Some(now);
            tell();
        }
        None
    }
}
