//! The primitives among plain threads, and what only the inside can see. With fibers: `runtime/tests/sync_*.rs`.

mod barrier;
mod condvar;
mod event;
mod mutex;
mod once;
mod rwlock;
mod semaphore;
mod waiters;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longer than any step of a test takes; a wait this long is a hang.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Short enough to wait for in a test.
pub(super) const SHORT: Duration = Duration::from_millis(2);

/// Lets other threads run until `condition` holds.
pub(super) fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "it never came about");
        std::thread::yield_now();
    }
}

/// Runs `f`, which panics, and swallows that.
pub(super) fn panics(f: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(f));
    assert!(outcome.is_err(), "it should have panicked");
}
