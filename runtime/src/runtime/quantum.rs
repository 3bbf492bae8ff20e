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
    number: u64,
    /// The last sample.
    seen: Option<Instant>,
    /// The last sample that saw another turn, or the worker at rest.
    before: Option<Instant>,
    /// When the embedder was last told.
    told: Option<Instant>,
}

impl Turn {
    /// A sample that found the worker asleep: its next turn begins later.
    pub(super) fn rest(&mut self, number: u64, now: Instant) {
        *self = Self {
            number,
            seen: Some(now),
            before: Some(now),
            told: None,
        };
    }

    /// A sample that found it awake. Tells the embedder if the turn has had its quantum and others wait; returns when
    /// its quantum ends if that is still to come.
    pub(super) fn look(
        &mut self,
        hub: &Hub,
        worker: usize,
        number: u64,
        now: Instant,
        quantum: Duration,
        tell: impl FnOnce(),
    ) -> Option<Instant> {
        if number != self.number {
            *self = Self {
                number,
                seen: None,
                before: self.seen,
                told: None,
            };
        }
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
        let mut pause = AGAIN.min(quantum);
        if !hub.is_wanted(worker) {
            if remote.live.load(Ordering::Relaxed) == 0 {
                return None;
            }
            // The ready queue is the worker's own: it is asked, and if it was empty, asked again a quantum later.
            if remote.counters.alone_in.load(Ordering::Relaxed) == number.wrapping_add(1) {
                pause = quantum;
            }
        }
        if self
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= pause)
        {
            self.told = Some(now);
            tell();
        }
        None
    }
}
