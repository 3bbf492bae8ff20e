//! What the tests of waiting need.
#![allow(dead_code, reason = "each program uses a part")]

use roving_runtime::{DropPolicy, FiberState, Runtime, WaitReason};
use std::time::{Duration, Instant};

/// Longer than any step of a test takes; a wait this long is a hang.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Short enough to wait for in a test.
pub(crate) const SHORT: Duration = Duration::from_millis(2);

/// Calls `test` with runtimes of one, two and four workers.
pub(crate) fn on_each(test: impl Fn(&Runtime)) {
    for workers in [1, 2, 4] {
        let policy = DropPolicy::Abandon(Duration::from_secs(5));
        let runtime = Runtime::builder()
            .workers(workers)
            .on_drop(policy)
            .build()
            .expect("a runtime");
        test(&runtime);
    }
}

/// Lets other threads run until `condition` holds.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "it never came about");
        std::thread::yield_now();
    }
}

/// Returns when this many fibers are parked for this reason.
pub(crate) fn until_parked(runtime: &Runtime, reason: WaitReason, count: usize) {
    until(|| {
        let dump = runtime.handle().dump();
        dump.iter()
            .filter(|fiber| fiber.state == FiberState::Parked(reason))
            .count()
            == count
    });
}
