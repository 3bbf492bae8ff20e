//! What a worker sleeps in. The reactor implements it; the scheduler knows only this.

use crate::fiber::TimerId;
use crate::fiber::parker::Unparker;
use std::time::{Duration, Instant};

/// One poll and one timer queue.
pub(crate) trait Driver: Send + Sync {
    /// Sleeps until an event, a timer, a [`Driver::wake`] or `timeout`, then carries out the wakes. The
    /// owning worker only.
    fn park(&self, timeout: Option<Duration>);

    /// Carries out the wakes that are due, without blocking, unless another thread is at it. Any thread.
    fn poll(&self);

    /// Ends the current `park`, or makes the next one return at once. Any thread.
    fn wake(&self);

    /// Wakes `unparker` at `deadline`.
    fn arm(&self, deadline: Instant, unparker: Unparker) -> TimerId;

    /// Forgets a timer; false when it has fired: then its unparker has been used already.
    fn disarm(&self, timer: TimerId) -> bool;
}
