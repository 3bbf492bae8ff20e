//! Delivery of cancellation: the account of who is to stop, and why.
//!
//! The runtime knows one thing, that a fiber is asked to stop, and ends its wait. Python asks for more: a timeout ends
//! the waits of one block, a scope those of its body, `shield` holds both back, and clean-up may wait for a while. So each
//! fiber, and each plain thread, has an *account*: a stack of the scopes it is in, from the outermost to the innermost.
//! A scope is *due* once it is cancelled or its deadline has passed; the fiber itself is the outermost scope of all. The
//! runtime's request only ends a wait, is taken back at once, and the account says what comes of it.
//!
//! Before each park the account is looked at:
//!
//! 1. Scopes outside the innermost shield do not count.
//! 2. While a `Cancelled` is being handled, or what came up while it was (found in `exc_info`, or by the contexts of what
//!    is there), only scopes that were entered since count: clean-up may have timeouts of its own. The others are held
//!    back until the grace, which begins with each delivery, is over. One that has reached its scope does not count.
//! 3. Of the scopes that count and are due the outermost is delivered: a `Cancelled` that carries its number is raised, and
//!    the scope of that number, when the exception gets there, makes of it what it is for. Swallowed on its way, it is
//!    delivered again at the next park, after other fibers had their turn.
//! 4. Otherwise the park ends at the earliest deadline of those that count, to look again.
//!
//! **No request is lost.** Who cancels a scope sets its flag first, then wakes its host; the host takes the request back
//! first, then reads the flags. A deadline needs nobody to tell of it.
//!
//! Law of an account: its own fiber's or thread's alone, and nobody else looks at it. The scopes on it are shared; all
//! they let others change is atomic.

use crate::errors::{self, Cancelled, SoftTimeout};
use crate::fiber::Fiber;
use crate::wait::Who;
use crate::{clock, config, engine, shim};
use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::cell::{Cell, UnsafeCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// The attribute of a `Cancelled` that holds the number of the scope it is for. One string for all: the interpreter's cache
/// of attributes goes by its address, and keeps it.
fn scope_name(py: Python<'_>) -> &Bound<'_, PyString> {
    intern!(py, "_scope")
}

/// The number of the fiber itself, as the outermost scope.
const FIBER: u64 = 0;
/// And of what has been left: its `Cancelled` means nothing any more, though contexts lead to it.
const NOBODY: u64 = u64::MAX;
/// How far the contexts of what is being handled are followed.
const FAR: usize = 100;

static NEXT: AtomicU64 = AtomicU64::new(FIBER + 1);

/// A block whose waits can be ended.
pub(crate) struct Scope {
    number: u64,
    /// Holds back what is outside.
    shield: bool,
    deadline: Option<Instant>,
    cancelled: AtomicBool,
    /// The address of the `Cancelled` that was being handled when it was entered, or 0; whoever made the scope keeps
    /// that exception, so that no other has its address.
    met: AtomicUsize,
    /// Who is in it.
    host: Who,
}

impl Scope {
    fn is_due(&self, now: &mut Option<Instant>) -> bool {
        // Acquire: what was done before it was cancelled is seen.
        self.cancelled.load(Ordering::Acquire)
            || self
                .deadline
                .is_some_and(|at| at <= *now.get_or_insert_with(clock::now))
    }

    /// Ends the waits of the block.
    pub(crate) fn cancel(&self) {
        // Release: see `is_due`.
        if !self.cancelled.swap(true, Ordering::Release) {
            self.host.interrupt();
        }
    }
}

/// See the module's documentation.
pub(crate) struct Account {
    scopes: UnsafeCell<Vec<Arc<Scope>>>,
    /// When what was delivered last is delivered again, though it is being handled.
    grace: Cell<Option<Instant>>,
    /// Something has been delivered.
    delivered: Cell<bool>,
}

impl Account {
    pub(crate) const fn new() -> Self {
        Self {
            scopes: UnsafeCell::new(Vec::new()),
            grace: Cell::new(None),
            delivered: Cell::new(false),
        }
    }

    /// Calls `f` with the scopes. It calls nothing of Python's and does not park.
    fn with<R>(&self, f: impl FnOnce(&mut Vec<Arc<Scope>>) -> R) -> R {
        // SAFETY: the account is the caller's alone, and `f` does not come back here.
        f(unsafe { &mut *self.scopes.get() })
    }

    fn is_empty(&self) -> bool {
        self.with(|scopes| scopes.is_empty())
    }
}

thread_local! {
    /// The account of a plain thread.
    static THREAD: Account = const { Account::new() };
}

/// The fiber that runs here.
#[inline]
pub(crate) fn fiber<'a>() -> Option<&'a Fiber> {
    // SAFETY: attached. The running fiber's object is a `Fiber`, and lives until the fiber has ended.
    shim::current_object().map(|object| unsafe { Fiber::of(object) })
}

/// Calls `f` with the account of whoever runs here. It does not park.
fn here<R>(f: impl FnOnce(&Account, Option<&Fiber>) -> R) -> R {
    match fiber() {
        Some(fiber) => f(fiber.account(), Some(fiber)),
        None => THREAD.with(|account| f(account, None)),
    }
}

/// What the account says before a park.
enum Verdict {
    /// Park, until then at most.
    Park(Option<Instant>),
    /// The scope of this number is to be left.
    Leave(u64),
}

/// Whether the account has nothing to say.
#[inline]
pub(crate) fn is_quiet() -> bool {
    here(|account, fiber| account.is_empty() && !fiber.is_some_and(Fiber::is_asked_to_stop))
}

/// Raises what is to be raised before a park; else says when to look again, and so to end the park.
#[inline]
pub(crate) fn before_park(py: Python<'_>) -> PyResult<Option<Instant>> {
    if is_quiet() {
        return Ok(None);
    }
    if takes_soft_timeout() {
        return Err(errors::raise_again(SoftTimeout::new_err(SOFT).value(py)));
    }
    match look(py) {
        Verdict::Park(limit) => Ok(limit),
        Verdict::Leave(number) => Err(deliver(py, number)),
    }
}

/// What SoftTimeout says at a wait.
const SOFT: &str = "the soft limit of this task is over";

/// Whether SoftTimeout is to be raised here: not in a shield, nor in whatever is to stop anyway.
#[cold]
fn takes_soft_timeout() -> bool {
    here(|account, fiber| {
        let shielded = account.with(|scopes| scopes.iter().any(|scope| scope.shield));
        fiber.is_some_and(|fiber| {
            let may = !shielded && fiber.is_interruptible() && !fiber.is_cancel_requested();
            may && fiber.take_soft_timeout()
        })
    })
}

/// What a fiber that does not wait is to be interrupted with.
pub(crate) enum Interruption {
    Cancel,
    SoftTimeout,
}

/// What the fiber that runs here, between two bytecodes, is to be interrupted with, and now will be.
pub(crate) fn interruption(fiber: &Fiber) -> Option<Interruption> {
    if !fiber.is_interruptible() || !fiber.is_asked_to_stop() {
        return None;
    }
    if takes_soft_timeout() {
        return Some(Interruption::SoftTimeout);
    }
    let account = fiber.account();
    let shielded = account.with(|scopes| scopes.iter().any(|scope| scope.shield));
    let now = clock::now();
    // What has been delivered is being handled, or was swallowed: it has its grace, and is delivered again after it.
    if shielded || !fiber.is_cancel_requested() || account.grace.get().is_some_and(|end| now < end) {
        return None;
    }
    account.grace.set(now.checked_add(config::cancel_grace()));
    account.delivered.set(true);
    Some(Interruption::Cancel)
}

/// Whether this thread, or fiber, is in any scope.
pub(crate) fn is_in_scope() -> bool {
    here(|account, _| !account.is_empty())
}

#[cold]
fn look(py: Python<'_>) -> Verdict {
    let mut now = None;
    let (any_due, limit) = here(|account, fiber| {
        account.with(|scopes| {
            let (mut any_due, mut limit) = (false, None);
            for scope in scopes.iter().rev() {
                if scope.is_due(&mut now) {
                    any_due = true;
                } else {
                    limit = earlier(limit, scope.deadline);
                }
                if scope.shield {
                    return (any_due, limit);
                }
            }
            (any_due || fiber.is_some_and(Fiber::is_cancel_requested), limit)
        })
    });
    if !any_due {
        return Verdict::Park(limit);
    }
    // Only now: it costs more than all of the above.
    let handled = handled(py).map_or(0, |exception| exception.as_ptr() as usize);
    here(|account, fiber| {
        let (mut leave, mut held_back, mut limit) = (None, None, None);
        let mut count = |number, met, due, deadline: Option<Instant>| match (due, met == handled) {
            // The last one met is the outermost.
            (true, true) => leave = Some(number),
            (true, false) => held_back = Some(number),
            (false, true) => limit = earlier(limit, deadline),
            (false, false) => {}
        };
        let shielded = account.with(|scopes| {
            scopes.iter().rev().any(|scope| {
                let due = scope.is_due(&mut now);
                count(
                    scope.number,
                    scope.met.load(Ordering::Relaxed),
                    due,
                    scope.deadline,
                );
                scope.shield
            })
        });
        if !shielded && fiber.is_some_and(Fiber::is_cancel_requested) {
            count(FIBER, 0, true, None);
        }
        if let Some(number) = leave {
            return Verdict::Leave(number);
        }
        if let Some(number) = held_back {
            let now = now.unwrap_or_else(clock::now);
            // A Cancelled that was raised by hand begins a grace too.
            let end = account
                .grace
                .get()
                .or_else(|| now.checked_add(config::cancel_grace()));
            account.grace.set(end);
            match end {
                Some(at) if at <= now => return Verdict::Leave(number),
                end => limit = earlier(limit, end),
            }
        }
        Verdict::Park(limit)
    })
}

pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cold]
fn deliver(py: Python<'_>, number: u64) -> PyErr {
    let again = here(|account, fiber| {
        let grace = clock::now().checked_add(config::cancel_grace());
        account.grace.set(grace);
        account.delivered.replace(true) && fiber.is_some()
    });
    if again && shim::place() == shim::Place::Fiber {
        // One that swallows it in a loop must not keep the worker to itself.
        roving_runtime::yield_now();
    }
    let text = if number == FIBER {
        "this fiber was cancelled"
    } else {
        "this block was cancelled"
    };
    let error = Cancelled::new_err(text);
    match error.value(py).setattr(scope_name(py), number) {
        Ok(()) => errors::raise_again(error.value(py)),
        Err(error) => error,
    }
}

/// The runtime has ended a wait: takes its request back. What was meant is in the account.
pub(crate) fn interrupted() {
    roving_runtime::take_cancellation();
    // The runtime asks by itself only when it is being stopped.
    if engine::is_stopping()
        && let Some(fiber) = fiber()
    {
        fiber.request_cancel();
    }
}

/// The `Cancelled` that is being handled here: the exception being handled, or what it came up in handling.
fn handled(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: attached.
    let first = unsafe { ffi::PyErr_GetHandledException() };
    // SAFETY: attached; a new reference, or null for none.
    let mut next = unsafe { Bound::from_owned_ptr_or_opt(py, first) };
    for _ in 0..FAR {
        let exception = next?;
        if let Some(found) = cancelled_in(&exception)
            && number_of(&found) != Some(NOBODY)
        {
            return Some(found);
        }
        // SAFETY: attached, and an exception.
        let context = unsafe { ffi::PyException_GetContext(exception.as_ptr()) };
        // SAFETY: attached; a new reference, or null for none.
        next = unsafe { Bound::from_owned_ptr_or_opt(py, context) };
    }
    None
}

/// An exception if it is a `Cancelled`, or the first one of a group.
pub(crate) fn cancelled_in<'py>(exception: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if exception.is_instance_of::<Cancelled>() {
        return Some(exception.clone());
    }
    // SAFETY: a static type of CPython's.
    let group = unsafe { ffi::PyExc_BaseExceptionGroup };
    // SAFETY: attached, both are live.
    if unsafe { ffi::PyObject_IsInstance(exception.as_ptr(), group) } != 1 {
        return None;
    }
    let members = exception.getattr(intern!(exception.py(), "exceptions")).ok()?;
    let mut members = members.try_iter().ok()?.flatten();
    members.find_map(|member| cancelled_in(&member))
}

/// A scope that whoever runs here is in, until it leaves it.
pub(crate) struct Entered {
    pub(crate) scope: Arc<Scope>,
    /// The exception whose address the scope knows.
    _met: Option<Py<PyAny>>,
}

/// Enters a scope.
pub(crate) fn enter(py: Python<'_>, deadline: Option<Instant>, shield: bool) -> Entered {
    let met = handled(py);
    let scope = Arc::new(Scope {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        shield,
        deadline,
        cancelled: AtomicBool::new(false),
        met: AtomicUsize::new(met.as_ref().map_or(0, |met| met.as_ptr() as usize)),
        host: Who::current(),
    });
    here(|account, _| account.with(|scopes| scopes.push(Arc::clone(&scope))));
    Entered {
        scope,
        _met: met.map(Bound::unbind),
    }
}

/// Leaves a scope; false if whoever runs here is not in it.
pub(crate) fn leave(scope: &Arc<Scope>) -> bool {
    here(|account, _| {
        account.with(|scopes| {
            let place = scopes.iter().rposition(|one| Arc::ptr_eq(one, scope));
            place.map(|place| scopes.remove(place)).is_some()
        })
    })
}

/// The number of the scope that a `Cancelled` is for; `None` for one that was raised by hand.
fn number_of(exception: &Bound<'_, PyAny>) -> Option<u64> {
    let number = exception.getattr(scope_name(exception.py())).ok()?;
    number.extract().ok()
}

/// What an exception that leaves a scope means to it.
pub(crate) enum Leaving<'py> {
    /// It is the scope's own cancellation.
    Own,
    /// It is a cancellation from outside.
    Outer,
    /// It is nothing of the kind.
    Other,
    /// It is a group, which without the cancellations in it is this.
    Rest(Bound<'py, PyAny>),
}

/// Tells what an exception that leaves a scope means to it.
pub(crate) fn leaving<'py>(exception: &Bound<'py, PyBaseException>, scope: &Scope) -> PyResult<Leaving<'py>> {
    let exception = exception.as_any();
    let Some(found) = cancelled_in(exception) else {
        return Ok(Leaving::Other);
    };
    if !found.is(exception) {
        let cancelled = exception.py().get_type::<Cancelled>();
        let rest = exception
            .call_method1(intern!(exception.py(), "split"), (cancelled,))?
            .get_item(1)?;
        if !rest.is_none() {
            return Ok(Leaving::Rest(rest));
        }
    }
    if number_of(&found) != Some(scope.number) {
        return Ok(Leaving::Outer);
    }
    found.setattr(scope_name(found.py()), NOBODY)?;
    Ok(Leaving::Own)
}
