//! What the log is told of requests that were malformed: one in a second, so that a flood of them costs little.

use crate::held::Held;
use crate::native;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};
use roving_http::Endpoint;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Malformed {
    /// Called with who sent it, what was wrong, and how many there were since the last call.
    tell: Held,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Malformed {
    pub(crate) fn new(tell: Held) -> Self {
        Self {
            tell,
            state: Mutex::default(),
        }
    }

    /// How many there were since the last time, if it is time to tell again.
    fn count(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.is_some_and(|told| told.elapsed() < PAUSE) {
            state.untold += 1;
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }

    fn call(&self, py: Python<'_>, host: &str, why: &str, untold: u64) -> PyResult<()> {
        let arguments = [
            PyString::new(py, host).into_any(),
            PyString::new(py, why).into_any(),
            PyInt::new(py, untold).into_any(),
        ];
        native::invoke(self.tell.bind(py), arguments.each_ref()).map(drop)
    }

    /// Tells of one, if it is time. On the stack of a fiber.
    pub(crate) fn tell(&self, py: Python<'_>, host: &str, why: &str) -> PyResult<()> {
        match self.count() {
            Some(untold) => self.call(py, host, why, untold),
            None => Ok(()),
        }
    }

    /// Has a fiber tell of one, if it is time. In the poll of a connection.
    pub(crate) fn note(self: &Arc<Self>, server: u32, endpoint: &Endpoint, why: &dyn Display) {
        let (Some(untold), Some(handle)) = (self.count(), roving_runtime::Handle::current()) else {
            return;
        };
        let (this, host, why) = (self.clone(), endpoint.remote_host.clone(), why.to_string());
        // Refused only while the runtime shuts down.
        let _ = native::spawn(&handle, server, move |py| {
            if let Err(error) = this.call(py, &host, &why, untold) {
                error.write_unraisable(py, None);
            }
        });
    }
}
