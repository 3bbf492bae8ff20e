//! Where times come from. Etas, expiries and timestamps are by the wall clock; rate limits by a clock that nobody sets;
//! who is alive is a matter of locks.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// A source of times, in milliseconds.
pub trait Clock: Send + Sync {
    /// Since 1970, by the wall clock.
    fn wall(&self) -> i64;
    /// Since the machine started, the same for all of its processes.
    fn steady(&self) -> i64;
    /// Whether time moves by itself, so that the store may wait for it.
    fn moves(&self) -> bool;
}

/// The system's clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(_) => 0,
        }
    }

    fn steady(&self) -> i64 {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the timespec is ours. The call cannot fail: the clock is one that Linux has.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    fn moves(&self) -> bool {
        true
    }
}

/// A clock for tests, which moves when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl ManualClock {
    /// A clock at this time of day.
    pub fn new(wall: i64) -> Self {
        ManualClock {
            wall: AtomicI64::new(wall),
            steady: AtomicI64::new(1_000_000),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, milliseconds: i64) {
        self.steady.fetch_add(milliseconds, Ordering::Relaxed);
        self.wall.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Sets the time of day, as an administrator would: no time passes.
    pub fn set_wall(&self, wall: i64) {
        self.wall.store(wall, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn steady(&self) -> i64 {
        self.steady.load(Ordering::Relaxed)
    }

    fn moves(&self) -> bool {
        false
    }
}
