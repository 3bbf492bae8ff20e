//! Settings that may change while the runtime runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In nanoseconds.
static CANCEL_GRACE: AtomicU64 = AtomicU64::new(5_000_000_000);

/// How long clean-up may wait while a cancellation is being handled.
pub(crate) fn cancel_grace() -> Duration {
    Duration::from_nanos(CANCEL_GRACE.load(Ordering::Relaxed))
}

pub(crate) fn set_cancel_grace(grace: Duration) {
    let nanos = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
    CANCEL_GRACE.store(nanos, Ordering::Relaxed);
}
