//! `roving.Channel`: values from hand to hand, uncopied.
//!
//! One lock guards a buffer, a flag, and two queues of offers. Who comes first leaves an *offer* in a queue; who comes second
//! completes it under the lock: a receiver's by putting a value into its slot, a sender's by taking the value out of it.
//! An offer belongs to a [`Waiter`], whose word makes sure that of the several offers of a `select` one is completed.
//! So receivers wait only while the buffer is empty and no sender waits, senders only while it is full.
//!
//! Not the runtime's channels: the collector must see what is in the buffer, and must find it at rest. So values only
//! move in attached threads, and a plain thread waits detached for being told, no more.
//!
//! Law of a slot: the offer's maker's before it is queued up, and after its wait has ended and it has had the channel's
//! lock once more; in between of whoever has chosen its waiter, under that lock.

mod ops;
pub(crate) mod select;

pub(crate) use ops::{RecvOp, SendOp};

use crate::errors::{Cancelled, Closed, WouldBlock};
use crate::held::Held;
use crate::sync::hold;
use crate::wait::{Waiter, Why};
use crate::{testing, timeout};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// One wait of a sender, receiver or select.
pub(super) struct Offers {
    waiter: Arc<Waiter>,
    /// One a case.
    first: Slot,
    others: Box<[Slot]>,
}

#[derive(Default)]
struct Slot(UnsafeCell<Option<Held>>);

// SAFETY: slots are under the law at the top of this file; references to Python objects may be anywhere.
unsafe impl Send for Offers {}
// SAFETY: as above.
unsafe impl Sync for Offers {}

impl Offers {
    pub(super) fn new(values: impl IntoIterator<Item = Option<Held>>) -> Arc<Self> {
        let mut values = values.into_iter();
        let slot = |value| Slot(UnsafeCell::new(value));
        Arc::new(Self {
            waiter: Arc::new(Waiter::new()),
            first: slot(values.next().flatten()),
            others: values.map(slot).collect(),
        })
    }

    fn slot(&self, case: u32) -> &Slot {
        match case {
            0 => &self.first,
            case => &self.others[case as usize - 1],
        }
    }

    /// # Safety
    /// The slot is the caller's under the law.
    pub(super) unsafe fn take(&self, case: u32) -> Option<Held> {
        // SAFETY: by the caller's promise.
        unsafe { (*self.slot(case).0.get()).take() }
    }

    /// # Safety
    /// As for `take`.
    unsafe fn put(&self, case: u32, value: Held) {
        // SAFETY: by the caller's promise.
        unsafe { *self.slot(case).0.get() = Some(value) };
    }
}

/// An offer in a queue: whose, and which of its cases.
pub(super) struct Offer(pub(super) Arc<Offers>, pub(super) u32);

/// Codes of a waiter that was chosen: the case, and whether it is done or the channel was closed.
pub(super) const fn code(case: u32, closed: bool) -> u32 {
    case << 1 | closed as u32
}

pub(super) const fn decode(code: u32) -> (u32, bool) {
    (code >> 1, code & 1 != 0)
}

pub(super) struct State {
    capacity: usize,
    closed: bool,
    buffer: VecDeque<Held>,
    senders: VecDeque<Offer>,
    receivers: VecDeque<Offer>,
}

/// What became of an operation that was tried under the lock.
pub(super) enum Tried<T> {
    /// Done; this one is to be woken after the lock is let go of.
    Done(T, Option<Arc<Waiter>>),
    Closed,
    MustWait,
}

impl State {
    /// The first offer of a queue that has not ended otherwise, chosen.
    #[inline]
    fn choose(queue: &mut VecDeque<Offer>, closed: bool) -> Option<Offer> {
        while let Some(offer) = queue.pop_front() {
            if offer.0.waiter.choose(code(offer.1, closed)) {
                return Some(offer);
            }
        }
        None
    }

    /// Sends what is in `value`, which is taken if that is done.
    #[inline]
    pub(super) fn try_send(&mut self, value: &mut Option<Held>) -> Tried<()> {
        if self.closed {
            return Tried::Closed;
        }
        if let Some(Offer(offers, case)) = Self::choose(&mut self.receivers, false) {
            if let Some(value) = value.take() {
                // SAFETY: the waiter was chosen, under the lock.
                unsafe { offers.put(case, value) };
            }
            return Tried::Done((), Some(Arc::clone(&offers.waiter)));
        }
        if self.buffer.len() < self.capacity {
            self.buffer.extend(value.take());
            return Tried::Done((), None);
        }
        Tried::MustWait
    }

    #[inline]
    pub(super) fn try_recv(&mut self) -> Tried<Held> {
        if let Some(value) = self.buffer.pop_front() {
            // A sender that waits moves up.
            let mut wake = None;
            if let Some(Offer(offers, case)) = Self::choose(&mut self.senders, false) {
                // SAFETY: the waiter was chosen, under the lock.
                self.buffer.extend(unsafe { offers.take(case) });
                wake = Some(Arc::clone(&offers.waiter));
            }
            return Tried::Done(value, wake);
        }
        if let Some(Offer(offers, case)) = Self::choose(&mut self.senders, false) {
            // SAFETY: as above.
            if let Some(value) = unsafe { offers.take(case) } {
                return Tried::Done(value, Some(Arc::clone(&offers.waiter)));
            }
        }
        if self.closed {
            Tried::Closed
        } else {
            Tried::MustWait
        }
    }

    /// Puts a value back that was received and has nobody: the next receiver gets it.
    fn give_back(&mut self, value: Held) -> Option<Arc<Waiter>> {
        if let Some(Offer(offers, case)) = Self::choose(&mut self.receivers, false) {
            // SAFETY: the waiter was chosen, under the lock.
            unsafe { offers.put(case, value) };
            return Some(Arc::clone(&offers.waiter));
        }
        self.buffer.push_front(value);
        None
    }

    pub(super) fn queue(&mut self, sends: bool) -> &mut VecDeque<Offer> {
        if sends {
            &mut self.senders
        } else {
            &mut self.receivers
        }
    }
}

fn wake(waiter: Option<Arc<Waiter>>) {
    if let Some(waiter) = waiter {
        waiter.wake();
    }
}

/// Values from fiber to fiber, or thread: uncopied, in order.
///
/// With capacity 0 (the default) a sender waits until its value has been received; otherwise so many values are kept,
/// and a sender waits only when there are more. Any number may send and receive. Iterating receives until the channel is
/// closed and empty; as a context manager it is closed at the end.
///
/// >>> channel = roving.Channel(capacity=1)
/// >>> channel.send("hello")
/// >>> channel.recv()
/// 'hello'
#[pyclass(frozen, weakref, generic, module = "roving")]
pub(crate) struct Channel(pub(super) Mutex<State>);

impl Channel {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        hold(&self.0)
    }

    /// Ends a wait that came to nothing; false if its offer was completed after all.
    fn give_up(&self, offers: &Arc<Offers>, sends: bool) -> bool {
        let taken_out = {
            let mut state = self.state();
            if !offers.waiter.abort() {
                return false;
            }
            let queue = state.queue(sends);
            let place = queue.iter().position(|offer| Arc::ptr_eq(&offer.0, offers));
            place.and_then(|place| queue.remove(place))
        };
        drop(taken_out);
        true
    }

    fn send_until(&self, py: Python<'_>, value: Held, deadline: Option<Instant>) -> PyResult<()> {
        testing::may_switch();
        let mut value = Some(value);
        let mut state = self.state();
        match state.try_send(&mut value) {
            Tried::Done((), waiter) => {
                drop(state);
                wake(waiter);
                return Ok(());
            }
            Tried::Closed => {
                drop(state);
                return Err(closed());
            }
            Tried::MustWait => {}
        }
        let offers = Offers::new([value]);
        state.senders.push_back(Offer(Arc::clone(&offers), 0));
        drop(state);
        let ended = offers.waiter.wait(py, deadline, Why::Send);
        if !matches!(ended, Ok(true)) && self.give_up(&offers, true) {
            // SAFETY: the wait has ended.
            drop(unsafe { offers.take(0) });
            return ended.and_then(|_| Err(timed_out("nobody received the value in time")));
        }
        match ended {
            // It was sent all the same; a cancellation comes back at the next wait.
            Err(error) if !error.is_instance_of::<Cancelled>(py) => return Err(error),
            _ => {}
        }
        match decode(offers.waiter.chosen().unwrap_or_default()) {
            (_, false) => Ok(()),
            (_, true) => {
                // SAFETY: the wait has ended.
                drop(unsafe { offers.take(0) });
                Err(closed())
            }
        }
    }

    /// `None` when the channel is closed and empty.
    fn recv_until(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Option<Held>> {
        testing::may_switch();
        let mut state = self.state();
        match state.try_recv() {
            Tried::Done(value, waiter) => {
                drop(state);
                wake(waiter);
                return Ok(Some(value));
            }
            Tried::Closed => return Ok(None),
            Tried::MustWait => {}
        }
        let offers = Offers::new([None]);
        state.receivers.push_back(Offer(Arc::clone(&offers), 0));
        drop(state);
        let ended = offers.waiter.wait(py, deadline, Why::Receive);
        if !matches!(ended, Ok(true)) && self.give_up(&offers, false) {
            return ended.and_then(|_| Err(timed_out("nobody sent a value in time")));
        }
        let value = {
            // One that wakes for no reason may see that it was chosen before it has been given the value.
            let _state = self.state();
            // SAFETY: who has chosen it has had the lock, and let go of it.
            unsafe { offers.take(0) }
        };
        if let Err(error) = ended
            && !error.is_instance_of::<Cancelled>(py)
        {
            // A signal handler raised: the value is somebody else's.
            if let Some(value) = value {
                let waiter = self.state().give_back(value);
                wake(waiter);
            }
            return Err(error);
        }
        Ok(value)
    }
}

pub(super) fn closed() -> PyErr {
    Closed::new_err("the channel is closed")
}

pub(super) fn timed_out(text: &'static str) -> PyErr {
    PyTimeoutError::new_err(text)
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (capacity=0))]
    fn new(capacity: isize) -> PyResult<Self> {
        let capacity = usize::try_from(capacity).map_err(|_| {
            PyValueError::new_err(format!("capacity must not be negative, and is {capacity}"))
        })?;
        Ok(Self(Mutex::new(State {
            capacity,
            closed: false,
            buffer: VecDeque::new(),
            senders: VecDeque::new(),
            receivers: VecDeque::new(),
        })))
    }

    /// Send a value; wait until it is received, or kept in the buffer, for at most `timeout` seconds.
    ///
    /// Raises Closed when the channel is closed, and TimeoutError when it takes too long: then the value was not sent.
    #[pyo3(signature = (value, /, timeout=None))]
    fn send(&self, py: Python<'_>, value: Py<PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let deadline = timeout::deadline(timeout)?;
        self.send_until(py, Held::new(value), deadline)
    }

    /// Receive a value; wait for one for at most `timeout` seconds.
    ///
    /// Raises Closed when the channel is closed and empty, and TimeoutError when it takes too long.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let deadline = timeout::deadline(timeout)?;
        match self.recv_until(py, deadline)? {
            Some(value) => Ok(value.into_py()),
            None => Err(closed()),
        }
    }

    /// Send a value if that need not wait; else raise WouldBlock. Raises Closed when the channel is closed.
    #[pyo3(signature = (value, /))]
    fn try_send(&self, value: Py<PyAny>) -> PyResult<()> {
        let mut value = Some(Held::new(value));
        let tried = self.state().try_send(&mut value);
        match tried {
            Tried::Done((), waiter) => {
                wake(waiter);
                Ok(())
            }
            Tried::Closed => Err(closed()),
            Tried::MustWait => Err(WouldBlock::new_err(
                "nobody waits for a value, and there is no room",
            )),
        }
    }

    /// Receive a value if there is one; else raise WouldBlock. Raises Closed when the channel is closed and empty.
    fn try_recv(&self) -> PyResult<Py<PyAny>> {
        let tried = self.state().try_recv();
        match tried {
            Tried::Done(value, waiter) => {
                wake(waiter);
                Ok(value.into_py())
            }
            Tried::Closed => Err(closed()),
            Tried::MustWait => Err(WouldBlock::new_err("there is no value")),
        }
    }

    /// Close the channel: nothing can be sent any more, and those who wait raise Closed. What is in the buffer can still be
    /// received. Closing again does nothing.
    fn close(&self) {
        let woken: Vec<_> = {
            let mut state = self.state();
            let state = &mut *state;
            state.closed = true;
            [&mut state.senders, &mut state.receivers]
                .into_iter()
                .flat_map(|queue| std::iter::from_fn(|| State::choose(queue, true)).collect::<Vec<_>>())
                .collect()
        };
        for offer in woken {
            offer.0.waiter.wake();
        }
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.state().closed
    }

    /// How many values it keeps.
    #[getter]
    fn capacity(&self) -> usize {
        self.state().capacity
    }

    /// How many values are in the buffer.
    fn __len__(&self) -> usize {
        self.state().buffer.len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// The receiving of a value, for roving.select.
    fn recv_op(slf: Py<Self>) -> RecvOp {
        RecvOp { channel: slf }
    }

    /// The sending of a value, for roving.select.
    #[pyo3(signature = (value, /))]
    fn send_op(slf: Py<Self>, value: Py<PyAny>) -> SendOp {
        SendOp { channel: slf, value }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.recv_until(py, None)?.map(Held::into_py))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }

    fn __repr__(&self) -> String {
        let state = self.state();
        let closed = if state.closed { ", closed" } else { "" };
        format!(
            "<roving.Channel, {} of {} values{closed}>",
            state.buffer.len(),
            state.capacity
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Nobody holds the lock while the world is stopped: it is held attached, and not at safe points.
        for value in &self.state().buffer {
            visit.call(&**value)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let buffer = std::mem::take(&mut self.state().buffer);
        drop(buffer);
    }
}
