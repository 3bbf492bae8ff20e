//! Timeouts as Python gives them.

use crate::clock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// The duration of so many seconds; `None` for one later than the clock can say, which is never.
pub(crate) fn duration(seconds: f64, what: &str) -> PyResult<Option<Duration>> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err(format!(
            "{what} must be a number of seconds, not NaN"
        )));
    }
    if seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{what} must not be negative, and is {seconds}"
        )));
    }
    let duration = Duration::try_from_secs_f64(seconds).ok();
    // Who waits for what is left of a time, again and again, would do so for ever where the clock stands.
    let too_short = seconds > 0.0 && duration == Some(Duration::ZERO);
    Ok(if too_short {
        Some(Duration::from_nanos(1))
    } else {
        duration
    })
}

/// When a wait of so many nanoseconds ends, as C code gives it: never for a negative number.
pub(crate) fn deadline_in(nanoseconds: i64) -> Option<Instant> {
    let timeout = u64::try_from(nanoseconds).ok()?;
    clock::now().checked_add(Duration::from_nanos(timeout))
}

/// When a wait with this timeout ends; `None` for never.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    Ok(duration(seconds, "timeout")?.and_then(|timeout| clock::now().checked_add(timeout)))
}
