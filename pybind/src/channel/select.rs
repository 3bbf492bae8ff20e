//! Waiting for the first of several operations that can be done.
//!
//! After Go's `select.go`: the locks of all channels are taken, in the order of their addresses, so that the select sees them
//! at one moment and, if none of its operations can be done, has an offer in all their queues before anything can change.
//! From then on whoever completes one of them claims the one waiter; the others are taken out afterwards.

use super::{Channel, Offer, Offers, RecvOp, SendOp, State, Tried, closed, decode, timed_out, wake};
use crate::errors::Cancelled;
use crate::held::Held;
use crate::wait::{Waiter, Why};
use crate::{testing, timeout};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;
use std::sync::{Arc, MutexGuard};

/// One operation.
struct Case<'py> {
    channel: Bound<'py, Channel>,
    /// What is to be sent.
    value: Option<Bound<'py, PyAny>>,
}

impl<'py> Case<'py> {
    fn of(operation: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = operation.py();
        if let Ok(operation) = operation.cast::<RecvOp>() {
            let channel = operation.get().channel.bind(py).clone();
            return Ok(Self { channel, value: None });
        }
        if let Ok(operation) = operation.cast::<SendOp>() {
            let operation = operation.get();
            let value = Some(operation.value.bind(py).clone());
            return Ok(Self {
                channel: operation.channel.bind(py).clone(),
                value,
            });
        }
        let kind = operation.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "select takes channel.recv_op() and channel.send_op(value), not {kind}"
        )))
    }

    fn sends(&self) -> bool {
        self.value.is_some()
    }

    fn held(&self) -> Option<Held> {
        self.value.as_ref().map(|value| Held::new(value.clone().unbind()))
    }
}

/// A select that did something: which operation, and the value it received.
type Outcome = (u32, Option<Held>, bool);

/// Do the first of several channel operations that can be done; return its index and the value received, or None.
///
/// Exactly one is done: of several that can be done at once, one chosen at random. Waits for at most `timeout` seconds,
/// then raises TimeoutError. Raises Closed when the operation's channel is closed.
///
/// >>> a, b = roving.Channel(1), roving.Channel(1)
/// >>> b.send("hi")
/// >>> roving.select(a.recv_op(), b.recv_op())
/// (1, 'hi')
#[pyfunction]
#[pyo3(signature = (*operations, timeout=None))]
pub(crate) fn select(
    py: Python<'_>,
    operations: &Bound<'_, PyTuple>,
    timeout: Option<f64>,
) -> PyResult<(usize, Option<Py<PyAny>>)> {
    testing::may_switch();
    let deadline = timeout::deadline(timeout)?;
    let cases = operations
        .iter()
        .map(|one| Case::of(&one))
        .collect::<PyResult<Vec<_>>>()?;
    if cases.is_empty() {
        return Err(PyValueError::new_err("select has nothing to choose from"));
    }
    let values: Vec<_> = cases.iter().map(Case::held).collect();
    let mut by_address: Vec<usize> = (0..cases.len()).collect();
    by_address.sort_by_key(|&case| cases[case].channel.as_ptr() as usize);
    let done = match attempt(&cases, values, &by_address) {
        Attempt::Done(done, waiter) => {
            wake(waiter);
            done
        }
        Attempt::Waits(offers) => {
            let ended = offers.waiter.wait(py, deadline, Why::Select);
            let done = settle(&cases, &by_address, &offers);
            match (done, ended) {
                (None, Err(error)) => return Err(error),
                (None, Ok(_)) => return Err(timed_out("none of the operations could be done in time")),
                (Some((case, value, _)), Err(error)) if !error.is_instance_of::<Cancelled>(py) => {
                    if let Some(value) = value {
                        let waiter = cases[case as usize].channel.get().state().give_back(value);
                        wake(waiter);
                    }
                    return Err(error);
                }
                (Some(done), _) => done,
            }
        }
    };
    let (case, value, was_closed) = done;
    if was_closed {
        return Err(closed());
    }
    Ok((case as usize, value.map(Held::into_py)))
}

enum Attempt {
    Done(Outcome, Option<Arc<Waiter>>),
    Waits(Arc<Offers>),
}

/// Does one operation, or leaves an offer with every channel.
fn attempt(cases: &[Case<'_>], mut values: Vec<Option<Held>>, by_address: &[usize]) -> Attempt {
    let mut locked: Vec<(usize, MutexGuard<'_, State>)> = Vec::with_capacity(cases.len());
    for &case in by_address {
        let channel = &cases[case].channel;
        if locked
            .last()
            .is_none_or(|(last, _)| !cases[*last].channel.is(channel))
        {
            locked.push((case, channel.get().state()));
        }
    }
    let place_of = |locked: &[(usize, MutexGuard<'_, State>)], case: usize| {
        let channel = &cases[case].channel;
        locked
            .iter()
            .position(|(leader, _)| cases[*leader].channel.is(channel))
            .unwrap_or_default()
    };
    let start = chance() as usize % cases.len();
    for case in (start..cases.len()).chain(0..start) {
        let place = place_of(&locked, case);
        let state = &mut *locked[place].1;
        let index = u32::try_from(case).unwrap_or(u32::MAX);
        let done = if cases[case].sends() {
            match state.try_send(&mut values[case]) {
                Tried::Done((), waiter) => ((index, None, false), waiter),
                Tried::Closed => ((index, None, true), None),
                Tried::MustWait => continue,
            }
        } else {
            match state.try_recv() {
                Tried::Done(value, waiter) => ((index, Some(value), false), waiter),
                Tried::Closed => ((index, None, true), None),
                Tried::MustWait => continue,
            }
        };
        drop(locked);
        return Attempt::Done(done.0, done.1);
    }
    let offers = Offers::new(values);
    for (case, index) in (0..cases.len()).zip(0u32..) {
        let place = place_of(&locked, case);
        let queue = locked[place].1.queue(cases[case].sends());
        queue.push_back(Offer(Arc::clone(&offers), index));
    }
    Attempt::Waits(offers)
}

/// Ends a wait: takes its offers out everywhere, and says what was done.
fn settle(cases: &[Case<'_>], by_address: &[usize], offers: &Arc<Offers>) -> Option<Outcome> {
    let mut last: Option<usize> = None;
    let mut out = Vec::new();
    for &case in by_address {
        let channel = &cases[case].channel;
        if last.is_some_and(|last| cases[last].channel.is(channel)) {
            continue;
        }
        last = Some(case);
        let mut state = channel.get().state();
        // Under the lock of any of them: it is then chosen by nobody, or by somebody who is done.
        let _ = offers.waiter.abort();
        for sends in [false, true] {
            let queue = state.queue(sends);
            while let Some(place) = queue.iter().position(|offer| Arc::ptr_eq(&offer.0, offers)) {
                out.extend(queue.remove(place));
            }
        }
    }
    drop(out);
    let done = offers.waiter.chosen().map(decode);
    let mut outcome = None;
    for (case, index) in (0..cases.len()).zip(0u32..) {
        // SAFETY: no queue holds an offer of this any more, and each lock was held since.
        let value = unsafe { offers.take(index) };
        if let Some((chosen, was_closed)) = done
            && chosen == index
        {
            let received = value.filter(|_| !cases[case].sends());
            outcome = Some((index, received, was_closed));
        }
    }
    outcome
}

/// A number that is different each time.
fn chance() -> u64 {
    if let Some(number) = testing::chance() {
        return number >> 1;
    }
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0x9E37_79B9_7F4A_7C15) };
    }
    STATE.with(|state| {
        // Marsaglia's xorshift.
        let mut next = state.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        state.set(next);
        next
    })
}
