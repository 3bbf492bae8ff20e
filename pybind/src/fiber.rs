//! `roving.Fiber`, and what runs in one.
//!
//! Law of its fields: `handle` is set by the maker before anybody else sees the object. `call` belongs to the maker
//! until the fiber is started, then to whoever runs or refuses it. `account` is the fiber's own.
//! `outcome` is written by the one that runs or refuses it, before the runtime publishes the fiber's end, and only
//! read after that end was seen. The collector looks at both while every thread stands at a safe point, and none
//! of the accesses above has one in its middle.

use crate::cancel::Account;
use crate::errors::{self, Cancelled, FiberCancelled, RovingInternalError};
use crate::held::Held;
use crate::options::Settings;
use crate::wait::{self, Why};
use crate::{deadlock, engine, fork, gil, seams, shim, testing, timeout};
use pyo3::Borrowed;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTimeoutError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};
use roving_runtime::JoinHandle;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU8, Ordering};

/// Somebody asked for the outcome, so that a failure need not be reported.
const TAKEN: u8 = 1;
/// `cancel` was called.
const CANCELLED: u8 = 2;
/// Its task's soft limit is over, and it has not heard.
const SOFT_TIMEOUT: u8 = 4;
/// It is in a function that may be interrupted between two bytecodes.
const INTERRUPTIBLE: u8 = 8;
/// In `why`: only another fiber, or thread, can end that wait.
const ENDLESS: u8 = 0x80;

/// What a fiber is to call.
struct Call {
    function: Held,
    /// A tuple: the arguments, those by name last; `None` for no arguments.
    args: Option<Held>,
    /// A tuple of the last arguments' names; `None` for none.
    names: Option<Held>,
    /// A copy of the spawner's context; `None` for an empty one.
    context: Option<Held>,
    /// The handle of the thread that the fiber stands for, if it stands for one.
    thread: Option<Held>,
}

pub(crate) enum Outcome {
    /// Not ended, or abandoned in the middle.
    Missing,
    Returned(Held),
    Raised(Held),
    /// It was cancelled, before it started or by what it was told.
    Cancelled,
    /// It never ran, for want of a stack.
    NoStack,
}

/// A green thread: made by roving.spawn.
///
/// `Fiber[int]` is one that returns an int, for type checkers.
///
/// >>> fiber = roving.spawn(pow, 2, 3)
/// >>> fiber.join(), fiber.done(), fiber.exception()
/// (8, True, None)
#[pyclass(frozen, weakref, module = "roving")]
pub(crate) struct Fiber {
    handle: UnsafeCell<Option<JoinHandle<()>>>,
    flags: AtomicU8,
    /// The process it runs in: see `fork`.
    generation: u32,
    /// What it waits for: a `Why`. For dumps.
    why: AtomicU8,
    /// The server whose request it works on, or 0.
    server: u32,
    account: Account,
    call: UnsafeCell<Option<Call>>,
    outcome: UnsafeCell<Outcome>,
}

// SAFETY: the cells are under the law at the top of this file; the rest is Send and Sync, and references to Python
// objects may be anywhere.
unsafe impl Send for Fiber {}
// SAFETY: as above.
unsafe impl Sync for Fiber {}

/// The right to run a fiber, which the runtime holds until it has.
struct Task(Held);

impl Task {
    /// Runs the fiber. On its own stack.
    fn run(self) {
        let object = self.0.as_ptr();
        // SAFETY: attached as workers are; made in `spawn` with a `Fiber`, which the reference keeps alive.
        let fiber = unsafe { Fiber::of(object) };
        let record = shim::current().expect("a fiber's closure runs in a fiber");
        // SAFETY: the right to run it is ours.
        let call = unsafe { &mut *fiber.call.get() }
            .take()
            .expect("a fiber runs once");
        let args = call.args.as_ref().map_or(std::ptr::null_mut(), Held::as_ptr);
        let names = call.names.as_ref().map_or(std::ptr::null_mut(), Held::as_ptr);
        let context = call.context.map_or(std::ptr::null_mut(), Held::into_ptr);
        if let Some(thread) = &call.thread {
            seams::begins(thread);
        }
        // SAFETY: this is the fiber's stack, attached; `call` and `self` keep all of them alive.
        let result = unsafe { shim::call(record, object, call.function.as_ptr(), args, names, context) };
        if fork::is_orphan() {
            fork::finish(result);
        }
        let outcome = match result {
            // SAFETY: attached, and the call gives us its result.
            Ok(value) => unsafe { Held::from_owned(value) }.map_or(Outcome::Missing, Outcome::Returned),
            Err(error) if call.thread.is_some() => seams::raised(&call.function, error),
            Err(error) => Fiber::failed(error),
        };
        if call.thread.is_some() {
            seams::returns();
        }
        // SAFETY: the right to run it is ours, and its end is not published yet.
        unsafe { *fiber.outcome.get() = outcome };
        // SAFETY: attached.
        unsafe { call.function.drop_attached() };
        for held in [call.args, call.names].into_iter().flatten() {
            // SAFETY: attached.
            unsafe { held.drop_attached() };
        }
        // SAFETY: this is the fiber's stack, attached; the reference is given away, and `self` forgotten.
        unsafe { shim::finish(record, std::mem::ManuallyDrop::new(self).0.as_ptr()) };
        if let Some(thread) = call.thread {
            seams::ended(thread);
        }
    }
}

impl Drop for Task {
    /// The fiber will not run.
    fn drop(&mut self) {
        // SAFETY: made in `spawn` with a `Fiber`, which the reference keeps alive.
        let fiber = unsafe { Fiber::of(self.0.as_ptr()) };
        let outcome = if fiber.has(CANCELLED) {
            Outcome::Cancelled
        } else if engine::is_stopping() {
            Outcome::Missing
        } else {
            Outcome::NoStack
        };
        // SAFETY: the right to refuse it is ours, and its end is not published yet.
        unsafe { *fiber.outcome.get() = outcome };
        // SAFETY: as above.
        let mut call = unsafe { &mut *fiber.call.get() }.take();
        if let Some(thread) = call.as_mut().and_then(|call| call.thread.take()) {
            seams::refused(thread);
        }
        drop(call);
    }
}

impl Fiber {
    /// The fiber of an object.
    ///
    /// # Safety
    /// `object` is a live `Fiber`, for as long as the result is used.
    pub(crate) unsafe fn of<'a>(object: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: only names a lifetime: nothing below touches a count.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: live by the caller's promise, and never dropped here.
        let object = unsafe { Borrowed::from_ptr(py, object) };
        // SAFETY: a `Fiber` by the caller's promise.
        let fiber: *const Self = unsafe { object.cast_unchecked::<Self>() }.get();
        // SAFETY: a frozen class's value lives as long as its object.
        unsafe { &*fiber }
    }

    /// That of a fiber which Rust code has spawned: see `native`.
    pub(crate) fn native(handle: JoinHandle<()>, server: u32) -> Self {
        Self {
            handle: UnsafeCell::new(Some(handle)),
            flags: AtomicU8::new(0),
            generation: fork::generation(),
            why: AtomicU8::new(0),
            server,
            account: Account::new(),
            call: UnsafeCell::new(None),
            outcome: UnsafeCell::new(Outcome::Missing),
        }
    }

    /// Stores that it has returned nothing.
    ///
    /// # Safety
    /// In the fiber itself, whose end is not published yet, attached.
    pub(crate) unsafe fn return_none(&self) {
        // SAFETY: names the one `None`.
        let none = unsafe { ffi::Py_None() };
        // SAFETY: attached; it is live.
        let none = unsafe { Held::from_borrowed(none) };
        // SAFETY: the right to run it is the caller's, and its end is not published yet.
        unsafe { *self.outcome.get() = Outcome::Returned(none) };
    }

    fn handle(&self) -> &JoinHandle<()> {
        // SAFETY: set before anybody else saw the fiber, and never again.
        let handle = unsafe { &*self.handle.get() };
        handle
            .as_ref()
            .expect("a fiber that could not be started is seen by nobody")
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::Relaxed);
    }

    /// Whether it has been asked to stop.
    #[inline]
    pub(crate) fn is_cancel_requested(&self) -> bool {
        self.has(CANCELLED)
    }

    /// Notes that it is asked to stop.
    pub(crate) fn request_cancel(&self) {
        self.set(CANCELLED);
    }

    /// Whether something is to be raised at its next wait.
    #[inline]
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.has(CANCELLED | SOFT_TIMEOUT)
    }

    /// Whether it may be interrupted between two bytecodes.
    pub(crate) fn is_interruptible(&self) -> bool {
        self.has(INTERRUPTIBLE)
    }

    /// From here on it may be. By the fiber itself.
    pub(crate) fn begin_interruptible(&self) {
        self.set(INTERRUPTIBLE);
    }

    /// It may not be any more. By the fiber itself.
    pub(crate) fn end_interruptible(&self) {
        self.flags
            .fetch_and(!(INTERRUPTIBLE | SOFT_TIMEOUT), Ordering::Relaxed);
    }

    /// Has SoftTimeout raised in it, once, in the function that may be interrupted.
    pub(crate) fn request_soft_timeout(&self) {
        self.set(SOFT_TIMEOUT);
        self.handle().cancel();
    }

    /// Whether SoftTimeout is to be raised in it, as its account allows; by the fiber itself, which raises it.
    pub(crate) fn take_soft_timeout(&self) -> bool {
        self.flags.fetch_and(!SOFT_TIMEOUT, Ordering::Relaxed) & SOFT_TIMEOUT != 0
    }

    /// Notes that somebody has what it raised, so that it need not be reported.
    pub(crate) fn take_failure(&self) {
        self.set(TAKEN);
    }

    /// The number of the server whose request it works on, or 0.
    pub(crate) fn server(&self) -> u32 {
        self.server
    }

    /// Whom it obeys. For the fiber itself alone.
    #[inline]
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Says what it waits for, and whether only another fiber can end that. By the fiber itself.
    #[inline]
    pub(crate) fn set_why(&self, why: Why, endless: bool) {
        let endless = if endless { ENDLESS } else { 0 };
        let before = self.why.load(Ordering::Relaxed);
        self.why.store(why as u8 | endless, Ordering::Relaxed);
        match (before & ENDLESS, endless) {
            (0, ENDLESS) => deadlock::fiber_waits(1),
            (ENDLESS, 0) => deadlock::fiber_waits(-1),
            _ => {}
        }
    }

    /// What it waits for.
    pub(crate) fn why(&self) -> &'static str {
        Why::of(self.why.load(Ordering::Relaxed) & !ENDLESS)
    }

    pub(crate) fn runtime_handle(&self) -> &JoinHandle<()> {
        self.handle()
    }

    /// The outcome of a call that raised.
    #[cold]
    fn failed(error: *mut ffi::PyObject) -> Outcome {
        // SAFETY: attached, as workers are.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: an owned reference that the call gave us.
        let Some(error) = (unsafe { Held::from_owned(error) }) else {
            return Outcome::Missing;
        };
        if error.bind(py).is_instance_of::<Cancelled>() {
            Outcome::Cancelled
        } else {
            Outcome::Raised(error)
        }
    }

    fn wait_until(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = timeout::deadline(timeout)?;
        let handle = self.handle();
        if handle.is_done() {
            return Ok(true);
        }
        if shim::current_object().is_some_and(|current| {
            // SAFETY: the running fiber's object is live, and a `Fiber`.
            std::ptr::eq(unsafe { Self::of(current) }, self)
        }) {
            return Err(PyRuntimeError::new_err(
                "a fiber cannot join itself: it would wait for ever",
            ));
        }
        fork::check(self.generation)?;
        wait::join(py, handle, deadline)
    }

    /// The outcome of a fiber that has ended.
    fn outcome(&self) -> &Outcome {
        self.set(TAKEN);
        // SAFETY: the end has been seen, so nobody writes it any more, but for the collector, which clears what
        // nobody can reach.
        unsafe { &*self.outcome.get() }
    }

    fn timed_out(&self) -> PyErr {
        let label = errors::label(self.handle().id().get(), self.handle().name());
        PyTimeoutError::new_err(format!("{label} has not ended yet"))
    }

    fn was_cancelled(&self) -> PyErr {
        let label = errors::label(self.handle().id().get(), self.handle().name());
        FiberCancelled::new_err(format!("{label} was cancelled"))
    }

    fn no_outcome(&self) -> PyErr {
        let label = errors::label(self.handle().id().get(), self.handle().name());
        if engine::is_stopping() {
            PyRuntimeError::new_err(format!("{label} was abandoned: the interpreter is exiting"))
        } else {
            RovingInternalError::new_err(format!(
                "{label} ended in a panic of roving's: stderr has the message"
            ))
        }
    }

    /// Tells the hook of a failure that nobody took. The outcome's last user.
    fn let_go(&self, py: Python<'_>) {
        // SAFETY: nobody can reach the object any more, so its fiber has ended, or never began.
        let outcome = std::mem::replace(unsafe { &mut *self.outcome.get() }, Outcome::Missing);
        if let Outcome::Raised(exception) = outcome
            && !self.has(TAKEN)
        {
            let handle = self.handle();
            errors::report_unjoined(py, handle.id().get(), handle.name(), exception.clone_ref(py));
        }
    }
}

impl Drop for Fiber {
    fn drop(&mut self) {
        if matches!(self.outcome.get_mut(), Outcome::Raised(_)) {
            Python::attach(|py| self.let_go(py));
        }
    }
}

#[pymethods]
impl Fiber {
    /// Wait until the fiber has ended; return its result, or raise what it raised.
    ///
    /// Raises TimeoutError when it takes longer than `timeout` seconds (None: no limit), and FiberCancelled when
    /// it was cancelled. Joining again gives the same again. Raises RuntimeError in the fiber itself, and Deadlock, in a
    /// plain thread, when nobody can ever wake anybody.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if !self.wait_until(py, timeout)? {
            return Err(self.timed_out());
        }
        match self.outcome() {
            Outcome::Returned(value) => Ok(value.clone_ref(py)),
            Outcome::Raised(exception) => Err(errors::raise_again(exception.bind(py))),
            Outcome::Cancelled => Err(self.was_cancelled()),
            Outcome::NoStack => Err(PyMemoryError::new_err("no memory for the fiber's stack")),
            Outcome::Missing => Err(self.no_outcome()),
        }
    }

    /// The same as join, by the name concurrent.futures gives it.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.join(py, timeout)
    }

    /// Wait until the fiber has ended, for at most `timeout` seconds; return whether it has.
    ///
    /// Never raises what the fiber raised.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait_until(py, timeout)
    }

    /// Wait until the fiber has ended; return the exception it raised, or None.
    ///
    /// Raises TimeoutError and FiberCancelled as join does.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        if !self.wait_until(py, timeout)? {
            return Err(self.timed_out());
        }
        match self.outcome() {
            Outcome::Returned(_) => Ok(None),
            Outcome::Raised(exception) => Ok(Some(exception.clone_ref(py))),
            Outcome::Cancelled => Err(self.was_cancelled()),
            Outcome::NoStack => Err(PyMemoryError::new_err("no memory for the fiber's stack")),
            Outcome::Missing => Err(self.no_outcome()),
        }
    }

    /// Ask the fiber to stop, and return at once: False if it has ended already.
    ///
    /// One that has not started never will. One that has gets Cancelled raised where it waits, or at its next wait.
    /// While it handles that its waits succeed, for `cancel_grace` seconds (see configure): in `except` and `finally` blocks
    /// that the Cancelled passes, and in what is called there, whatever else is raised and handled in them. If it goes on
    /// as if nothing had happened, the next wait raises it again.
    pub(crate) fn cancel(&self) -> bool {
        let handle = self.handle();
        if handle.is_done() {
            return false;
        }
        self.set(CANCELLED);
        handle.cancel();
        true
    }

    /// Whether the fiber has ended.
    fn done(&self) -> bool {
        self.handle().is_done()
    }

    /// Whether the fiber has ended because it was cancelled.
    fn cancelled(&self) -> bool {
        // SAFETY: the end has been seen, so nobody writes it any more.
        self.handle().is_done() && matches!(unsafe { &*self.outcome.get() }, Outcome::Cancelled)
    }

    /// The fiber's number, unique in this process.
    #[getter]
    pub(crate) fn id(&self) -> u64 {
        self.handle().id().get()
    }

    /// The fiber's name, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.handle().name()
    }

    /// `Fiber[int]` is for type checkers: to the interpreter it is as good as `Fiber`.
    #[classmethod]
    fn __class_getitem__(class: &Bound<'_, PyType>, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let alias = class.py().import("types")?.getattr("GenericAlias")?;
        Ok(alias.call1((class, item))?.unbind())
    }

    fn __repr__(&self) -> String {
        let handle = self.handle();
        let state = if !handle.is_done() {
            "running"
        } else if self.cancelled() {
            "cancelled"
        } else {
            "done"
        };
        format!(
            "<roving.Fiber {}, {state}>",
            errors::label(handle.id().get(), handle.name())
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: every other thread stands at a safe point: see the law at the top of this file.
        if let Some(call) = unsafe { &*self.call.get() } {
            visit.call(&*call.function)?;
            for held in [&call.args, &call.names, &call.context].into_iter().flatten() {
                visit.call(&**held)?;
            }
        }
        // SAFETY: as above.
        match unsafe { &*self.outcome.get() } {
            Outcome::Returned(object) | Outcome::Raised(object) => visit.call(&**object),
            _ => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        self.let_go(py);
        // SAFETY: nobody can reach the object any more, so no fiber runs that would look at it.
        drop(unsafe { &mut *self.call.get() }.take());
    }
}

/// Starts a fiber that calls the first of `args` with the others.
///
/// # Safety
/// Attached; `args` are `count` live objects, at least one, and behind them one for each name in the tuple `names`,
/// which may be null.
#[inline]
pub(crate) unsafe fn spawn(
    py: Python<'_>,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    options: Option<&Settings>,
    thread: Option<Held>,
) -> PyResult<Py<Fiber>> {
    // SAFETY: there is at least one, by the caller's promise.
    let function = unsafe { *args };
    // SAFETY: live, by the caller's promise.
    if unsafe { ffi::PyCallable_Check(function) } == 0 {
        // SAFETY: as above.
        return Err(not_callable(unsafe { Borrowed::from_ptr(py, function) }));
    }
    let handle = engine::handle(py)?;
    gil::check(py)?;
    // A thread brings its own, or begins with an empty one.
    let context = match thread {
        None => shim::context_copy(py)?,
        Some(_) => None,
    };
    // SAFETY: at most one past the arguments, of which there is at least one.
    let rest = unsafe { args.add(1) };
    // SAFETY: by the caller's promise.
    let (rest, names) = unsafe { shim::keep_arguments(py, rest, count - 1, names) }?;
    let fiber = Fiber {
        handle: UnsafeCell::new(None),
        flags: AtomicU8::new(0),
        generation: fork::generation(),
        why: AtomicU8::new(0),
        server: 0,
        account: Account::new(),
        call: UnsafeCell::new(Some(Call {
            // SAFETY: attached; a live object, counted here.
            function: unsafe { Held::from_borrowed(function) },
            args: rest,
            names,
            context,
            thread,
        })),
        outcome: UnsafeCell::new(Outcome::Missing),
    };
    let object = Py::new(py, fiber)?;
    // SAFETY: attached; a live object, counted here.
    let task = Task(unsafe { Held::from_borrowed(object.as_ptr()) });
    let builder = match options {
        None => handle.fiber(),
        Some(options) => options.apply(handle.fiber()),
    };
    let (prepared, joiner) = builder
        .prepare(move || task.run())
        .map_err(|error| PyRuntimeError::new_err(format!("cannot spawn: {error}")))?;
    // SAFETY: nobody else has seen the fiber yet.
    unsafe { *object.get().handle.get() = Some(joiner) };
    prepared.start();
    testing::may_switch();
    Ok(object)
}

#[cold]
fn not_callable(object: Borrowed<'_, '_, PyAny>) -> PyErr {
    match object.get_type().name() {
        Ok(kind) => PyTypeError::new_err(format!(
            "spawn takes a callable and its arguments, and {kind} is not callable"
        )),
        Err(error) => error,
    }
}
