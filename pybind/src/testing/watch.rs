//! `roving.testing.wait_all_parked`, and the thread that watches for the moment.

use super::rest::{self, Found, QUIET, TOO_LATE};
use crate::engine::{self, Process};
use crate::timeout;
use crate::wait::{self, Waiter, Why};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked at what nobody tells of.
const POLL: Duration = Duration::from_millis(2);

/// Wait until every other fiber is parked: none runs, is ready to run, or has yet to start.
///
/// Then nothing moves any more until something happens outside of the fibers: a plain thread does something, a call of
/// roving.blocking returns, a descriptor becomes ready, time passes. In a test that is the moment at which all consequences
/// of what was done have come to pass. Fibers, and threads, that wait for the same moment count as parked. `timeout` is in
/// seconds of real time, even where a virtual clock stands: then it raises TimeoutError.
///
/// >>> event = roving.Event()
/// >>> fiber = roving.spawn(event.wait)
/// >>> roving.testing.wait_all_parked()
/// >>> fiber.done()
/// False
#[pyfunction]
#[pyo3(signature = (timeout=None))]
pub(crate) fn wait_all_parked(py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
    let limit = match timeout {
        None => None,
        Some(seconds) => timeout::duration(seconds, "timeout")?,
    };
    wait::place_for_others()?;
    engine::handle(py)?;
    let process = engine::process();
    let waiter = Arc::new(Waiter::new());
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    process
        .testing
        .asked()
        .waiters
        .push((Arc::clone(&waiter), deadline));
    watch(process)?;
    let waited = waiter.wait(py, None, Why::Quiet);
    if waited.is_err() {
        let mut asked = process.testing.asked();
        waiter.abort();
        asked.waiters.retain(|(one, _)| !Arc::ptr_eq(one, &waiter));
    }
    waited?;
    if waiter.chosen() == Some(TOO_LATE) {
        return Err(PyTimeoutError::new_err("not all fibers have parked in time"));
    }
    debug_assert_eq!(waiter.chosen(), Some(QUIET));
    Ok(())
}

/// Makes sure that somebody watches, and looks now.
pub(super) fn watch(process: &'static Process) -> PyResult<()> {
    let handle = process.handle().expect("it has been started");
    let starts = !std::mem::replace(&mut process.testing.asked().watched, true);
    if starts {
        let watcher = std::thread::Builder::new()
            .name("roving-testing".to_owned())
            .spawn(move || run(process));
        if let Err(error) = watcher {
            process.testing.asked().watched = false;
            return Err(PyRuntimeError::new_err(format!(
                "the thread that watches the fibers cannot be started: {error}"
            )));
        }
    }
    handle.call_observers();
    Ok(())
}

/// Watches as long as there is a reason to.
fn run(process: &'static Process) {
    let Some(handle) = process.handle() else { return };
    let mut observer = handle.observe();
    let mut found = Found::Motion;
    loop {
        let late = {
            let mut asked = process.testing.asked();
            let now = Instant::now();
            let mut late = Vec::new();
            asked.waiters.retain(|(waiter, deadline)| {
                let is_late = deadline.is_some_and(|at| at <= now);
                if is_late && waiter.choose(TOO_LATE) {
                    late.push(Arc::clone(waiter));
                }
                !is_late
            });
            let idle = asked.waiters.is_empty() && asked.clocks.is_empty();
            if idle || process.is_stopping() {
                // Under the lock: who asks for something next starts another.
                asked.watched = false;
                drop(asked);
                late.iter().for_each(|waiter| waiter.wake());
                return;
            }
            late
        };
        late.iter().for_each(|waiter| waiter.wake());
        observer.wait(next_look(process, found));
        found = rest::step(process, handle, found, || false);
    }
}

/// When to look again though nothing has been heard.
fn next_look(process: &Process, found: Found) -> Option<Instant> {
    let asked = process.testing.asked();
    let soon = match (found, asked.clocks.last().map(|clock| clock.jump)) {
        (Found::Outside, _) => Instant::now().checked_add(POLL),
        (Found::Since(since, _), Some(rest::Jump::After(time))) => since.checked_add(time),
        _ => None,
    };
    asked.waiters.iter().filter_map(|(_, at)| *at).chain(soon).min()
}
