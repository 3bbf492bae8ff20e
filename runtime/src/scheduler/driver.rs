//! What a worker sleeps in. The reactor implements it; the scheduler knows only this.

use crate::fiber::TimerId;
use crate::fiber::parker::Unparker;
use std::any::Any;
use std::time::{Duration, Instant};

/// One poll and one timer queue. `Any`, so that the reactor finds its own in the scheduler's hands.
pub(crate) trait Driver: Any + Send + Sync {
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

    /// When the next timer is due.
    fn next_deadline(&self) -> Option<Instant>;

    /// Whether anybody waits through this driver for a descriptor.
    fn awaits_events(&self) -> bool;

    /// The owning worker leaves: what others wait for through this driver goes elsewhere.
    fn shut(&self) {}
}
