//! What time it is, for deadlines: the monotonic clock's, or a runtime's own, which stands still until it is moved on.
//!
//! Whoever compares a deadline with now asks [`now`]. As long as no runtime of the process has a virtual clock that costs one
//! load and one branch more than the system's clock. A virtual clock begins at the moment it is switched on, and its times
//! are `Instant`s like any others: deadlines that were set before stay comparable.

use super::current;
use crate::loom::statics;
use crate::loom::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many runtimes have a virtual clock.
static VIRTUAL: statics::AtomicU64 = statics::AtomicU64::new(0);

/// What time it is for whoever runs here: by the runtime's clock on its workers, by the system's elsewhere.
#[inline]
pub(crate) fn now() -> Instant {
    // Relaxed: who switches a clock on tells the others in ways of its own, and a late reader is late by no more than
    // one reading of the system's clock, at which the virtual one begins.
    if VIRTUAL.load(Ordering::Relaxed) == 0 {
        Instant::now()
    } else {
        of_this_thread()
    }
}

#[cold]
fn of_this_thread() -> Instant {
    if current::is_worker() {
        current::with_home(|home| home.now())
    } else {
        Instant::now()
    }
}

/// A runtime's clock.
pub(crate) struct TimeSource {
    origin: Instant,
    /// Zero for the system's time; else one more than the nanoseconds since `origin`.
    stands_at: AtomicU64,
}

impl TimeSource {
    /// The system's clock.
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            stands_at: AtomicU64::new(0),
        }
    }

    /// What time it is.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        // Acquire pairs with the release of whoever moved it on: what was done before is seen.
        match self.stands_at.load(Ordering::Acquire) {
            0 => Instant::now(),
            at => self.instant(at),
        }
    }

    fn instant(&self, at: u64) -> Instant {
        self.origin + Duration::from_nanos(at - 1)
    }

    fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        // A century, so that the sum with the origin is an `Instant` anywhere.
        u64::try_from(nanos).unwrap_or(u64::MAX).min(u64::MAX / 8)
    }

    /// Whether it is a virtual one.
    #[inline]
    pub(crate) fn is_virtual(&self) -> bool {
        self.stands_at.load(Ordering::Acquire) != 0
    }

    /// Stops the clock where it is: it moves by [`TimeSource::advance_to`] from now on. False if it did already.
    pub(crate) fn stop(&self) -> bool {
        let now = self.nanos(Instant::now()) + 1;
        let stopped = self
            .stands_at
            .compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if stopped {
            VIRTUAL.fetch_add(1, Ordering::Relaxed);
        }
        stopped
    }

    /// Goes by the system's clock again. False if it did already.
    pub(crate) fn go_on(&self) -> bool {
        let stood = self.stands_at.swap(0, Ordering::AcqRel) != 0;
        if stood {
            VIRTUAL.fetch_sub(1, Ordering::Relaxed);
        }
        stood
    }

    /// Moves a virtual clock to `to`; never back, and the system's not at all.
    pub(crate) fn advance_to(&self, to: Instant) {
        let to = self.nanos(to) + 1;
        let _ = self
            .stands_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| {
                (at != 0 && at < to).then_some(to)
            });
    }
}

impl Drop for TimeSource {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[cfg(all(test, not(loom)))]
mod test {
    use super::*;

    #[test]
    fn a_stopped_clock_stands_until_it_is_moved() {
        let time = TimeSource::new();
        assert!(!time.is_virtual());
        let before = Instant::now();
        assert!(time.stop());
        assert!(!time.stop());
        let at = time.now();
        assert!(at + Duration::from_nanos(1) > before && at <= Instant::now());
        while Instant::now() <= at {
            std::hint::spin_loop();
        }
        assert_eq!(time.now(), at);
        time.advance_to(at + Duration::from_secs(3600));
        assert_eq!(time.now(), at + Duration::from_secs(3600));
        time.advance_to(at);
        assert_eq!(time.now(), at + Duration::from_secs(3600));
        assert!(time.go_on());
        assert!(!time.go_on());
        assert!(time.now() < at + Duration::from_secs(3600));
        time.advance_to(at + Duration::from_secs(7200));
        assert!(time.now() < at + Duration::from_secs(3600));
    }

    #[test]
    fn it_moves_no_further_than_instants_reach() {
        let time = TimeSource::new();
        time.stop();
        let far = time.now() + Duration::from_secs(1000 * 365 * 86_400);
        time.advance_to(far);
        assert!(time.now() < far);
        assert!(time.now() > Instant::now() + Duration::from_secs(50 * 365 * 86_400));
    }
}
