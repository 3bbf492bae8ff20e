//! What time it is, for deadlines: the system's monotonic time, or that of the runtime while its clock stands
//! (`roving.testing.clock`), for fibers and plain threads alike.

use crate::engine;
use pyo3::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// How many runtimes have a clock that stands: there are at most two.
static STAND: AtomicUsize = AtomicUsize::new(0);

/// What time it is.
#[inline]
pub(crate) fn now() -> Instant {
    // Relaxed: the virtual time begins at the system's, so a late reader is not far off.
    if STAND.load(Ordering::Relaxed) == 0 {
        Instant::now()
    } else {
        of_runtime()
    }
}

#[cold]
fn of_runtime() -> Instant {
    engine::started().map_or_else(Instant::now, roving_runtime::Handle::now)
}

/// Whether any clock stands.
#[inline]
pub(crate) fn stands() -> bool {
    STAND.load(Ordering::Relaxed) != 0
}

/// Notes that one more stands.
pub(super) fn stopped() {
    STAND.fetch_add(1, Ordering::Relaxed);
}

/// Notes that one goes on.
pub(super) fn released() {
    STAND.fetch_sub(1, Ordering::Relaxed);
}

/// What time.monotonic is to the standard library's queues: seconds since some moment.
#[pyfunction]
pub(crate) fn _monotonic() -> f64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    // The first caller's own reading may be later than what another thread puts in.
    let begin = *BEGIN.get_or_init(now);
    now().saturating_duration_since(begin).as_secs_f64()
}
