//! `roving.testing.clock`.

use super::rest::{self, Jump, Settings};
use super::{this_thread, watch};
use crate::engine::{self, Process};
use crate::wait::{self, Place};
use crate::{clock as time, fork, timeout};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A clock that stands until it is moved on: made by roving.testing.clock.
#[pyclass(frozen, module = "roving.testing")]
pub(crate) struct Clock {
    jump: Jump,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy)]
enum Phase {
    New,
    Stands {
        process: &'static Process,
        /// See `fork::generation`.
        generation: u32,
        since: Instant,
        /// Whether it was this one that stopped it, and not one around it.
        stopped: bool,
    },
    /// It stood for so long.
    Over(Duration),
}

/// When a clock moves on by itself, as Python says it.
#[derive(FromPyObject)]
enum Autojump {
    Whether(bool),
    After(f64),
}

#[pymethods]
impl Clock {
    #[new]
    #[pyo3(signature = (*, autojump=Autojump::Whether(true)), text_signature = "(*, autojump=True)")]
    fn new(autojump: Autojump) -> PyResult<Self> {
        let jump = match autojump {
            Autojump::Whether(true) => Jump::AtRest,
            Autojump::Whether(false) => Jump::Never,
            Autojump::After(seconds) => {
                timeout::duration(seconds, "autojump")?.map_or(Jump::Never, Jump::After)
            }
        };
        Ok(Self {
            jump,
            phase: Mutex::new(Phase::New),
        })
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let py = slf.py();
        let owner = match wait::place()? {
            Place::Fiber | Place::Callback => None,
            Place::Thread => Some(this_thread()),
        };
        if !matches!(*slf.phase(), Phase::New) {
            return Err(PyRuntimeError::new_err("a clock is entered once: make another"));
        }
        engine::handle(py)?;
        let process = engine::process();
        let handle = process.handle().expect("it has just been started");
        let settings = Settings::here(py, slf.jump, owner)?;
        let stopped = {
            let mut asked = process.testing.asked();
            let settings = match asked.clocks.last() {
                // The same clock, moved on by another rule.
                Some(outer) => Settings {
                    jump: slf.jump,
                    ..outer.clone()
                },
                None => settings,
            };
            asked.clocks.push(settings);
            let stopped = handle.stop_clock();
            if stopped {
                time::stopped();
            }
            stopped
        };
        *slf.phase() = Phase::Stands {
            process,
            generation: fork::generation(),
            since: handle.now(),
            stopped,
        };
        watch::watch(process)?;
        Ok(slf)
    }

    #[pyo3(signature = (_kind, exception, _traceback))]
    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        exception: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Phase::Stands {
            process,
            generation,
            since,
            stopped,
        } = *self.phase()
        else {
            return Err(PyRuntimeError::new_err("the clock has not been entered"));
        };
        let handle = process.handle().expect("it has been started");
        *self.phase() = Phase::Over(handle.now().saturating_duration_since(since));
        if generation != fork::generation() {
            // The child of a fork has another runtime, whose clock was never stopped.
            return Ok(());
        }
        let late = {
            let mut asked = process.testing.asked();
            asked.clocks.pop();
            let late = handle.next_deadline().is_some_and(|at| at > Instant::now());
            if stopped && handle.release_clock() {
                time::released();
            }
            stopped && late
        };
        handle.call_observers();
        if late && exception.is_none() {
            return Err(PyRuntimeError::new_err(
                "there are fibers that wait for a time of this clock, which is over: join or cancel them in its block",
            ));
        }
        Ok(())
    }

    /// The seconds that the clock has moved on since its block began.
    fn time(&self) -> f64 {
        match *self.phase() {
            Phase::New => Duration::ZERO,
            Phase::Stands { process, since, .. } => process.handle().map_or(Duration::ZERO, |handle| {
                handle.now().saturating_duration_since(since)
            }),
            Phase::Over(stood) => stood,
        }
        .as_secs_f64()
    }

    /// Move the clock on by so many seconds, and return at once: whoever waited for a time until then wakes.
    ///
    /// A fiber that sleeps again and again wakes once, late: to see each of its wakes move the clock on in steps, and call
    /// wait_all_parked() in between.
    fn advance(&self, seconds: f64) -> PyResult<()> {
        let by = timeout::duration(seconds, "seconds")?;
        let Phase::Stands {
            process, generation, ..
        } = *self.phase()
        else {
            return Err(PyRuntimeError::new_err(
                "the clock does not stand: move it on in its `with` block",
            ));
        };
        if generation != fork::generation() {
            return Err(PyRuntimeError::new_err(
                "the clock stands in the process that this one was forked from",
            ));
        }
        let handle = process.handle().expect("it has been started");
        let to = by.and_then(|by| handle.now().checked_add(by));
        let Some(to) = to else {
            return Err(PyRuntimeError::new_err(format!(
                "the clock cannot be moved on by {seconds} s"
            )));
        };
        rest::advance(process, handle, to);
        handle.call_observers();
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = match *self.phase() {
            Phase::New => "not entered",
            Phase::Stands { .. } => "standing",
            Phase::Over(_) => "over",
        };
        format!("<roving.testing.clock at {} s, {state}>", self.time())
    }
}

impl Clock {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
