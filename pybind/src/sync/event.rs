//! `roving.Event`.

use super::queue::Queue;
use super::{hold, lenient_deadline};
use crate::testing;
use crate::wait::{Waiter, Why};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};

/// A flag that fibers and threads wait for, with the interface of threading.Event.
///
/// Setting it wakes all who wait at that moment, even if it is cleared right after.
///
/// >>> event = roving.Event()
/// >>> fiber = roving.spawn(event.wait)
/// >>> event.set()
/// >>> fiber.join()
/// True
#[pyclass(frozen, weakref, subclass, module = "roving")]
pub(crate) struct Event(Mutex<State>);

struct State {
    set: bool,
    queue: Queue,
}

#[pymethods]
impl Event {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(State {
            set: false,
            queue: Queue::new(),
        }))
    }

    /// Whether it is set.
    fn is_set(&self) -> bool {
        testing::may_switch();
        hold(&self.0).set
    }

    /// Set it, and wake all that wait for it.
    fn set(&self) {
        testing::may_switch();
        let woken = {
            let mut state = hold(&self.0);
            state.set = true;
            state.queue.choose_many(usize::MAX, 0)
        };
        for waiter in woken {
            waiter.wake();
        }
    }

    /// Clear it.
    fn clear(&self) {
        hold(&self.0).set = false;
    }

    /// Wait until it is set, for at most `timeout` seconds; return whether it was.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = lenient_deadline(timeout)?;
        let waiter = {
            let mut state = hold(&self.0);
            if state.set {
                return Ok(true);
            }
            let waiter = Arc::new(Waiter::new());
            state.queue.push(&waiter);
            waiter
        };
        match waiter.wait(py, deadline, Why::Event) {
            Ok(true) => Ok(true),
            ended => {
                let given_up = hold(&self.0).queue.give_up(&waiter);
                // Nothing was handed over that could be lost: an error is one even if the event came at last.
                if given_up || ended.is_err() {
                    ended
                } else {
                    Ok(true)
                }
            }
        }
    }

    fn _at_fork_reinit(&self) {
        hold(&self.0).queue = Queue::new();
    }

    fn __repr__(&self) -> String {
        let state = if self.is_set() { "set" } else { "unset" };
        format!("<roving.Event, {state}>")
    }
}
