//! `roving.scope`: no fiber outlives the block it was spawned in.
//!
//! A scope is OPEN from its `__enter__` until it has seen, after the block's end, that no child is left: then it is
//! CLOSED. Both are decided under the lock that guards the children, so a child is either among those that the scope
//! waits for, or refused.
//!
//! What a child raises is noted by the child itself, before its end; the first one cancels the other children and
//! the block. Who waits for the children is not told of that: it waits for all of them anyway.

use super::{Block, lock};
use crate::cancel::{self, Leaving};
use crate::errors::{self, Cancelled};
use crate::fiber::Fiber;
use crate::{entry, wait};
use pyo3::exceptions::{PyBaseException, PyGeneratorExit, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Mutex;

/// How many children are kept before those that have ended are looked for.
const SWEEP: usize = 32;

/// A block that owns the fibers spawned in it: made by roving.scope.
#[pyclass(frozen, weakref, module = "roving")]
pub(crate) struct Scope {
    block: Block,
    family: Mutex<Family>,
}

#[derive(Default)]
struct Family {
    open: bool,
    /// Nobody is to go on: later children are cancelled as they come.
    cancelled: bool,
    children: Vec<Py<Fiber>>,
    /// When so many are there, those that have ended are let go of.
    sweep: usize,
    /// What children raised, in the order they did.
    errors: Vec<Py<PyAny>>,
}

/// Own the fibers spawned in a `with` block: none outlives it.
///
/// The block ends when all of them have ended. The first one that fails cancels the others and the block; what they and
/// the block raised is raised as an ExceptionGroup (a BaseExceptionGroup if it holds, say, a KeyboardInterrupt). If the
/// block itself fails, or is cancelled, all of them are cancelled. Being cancelled is no failure.
///
/// >>> with roving.scope() as scope:
/// ...     first = scope.spawn(pow, 2, 3)
/// ...     second = scope.spawn(pow, 3, 2)
/// >>> first.result(), second.result()
/// (8, 9)
#[pyfunction]
pub(crate) fn scope() -> Scope {
    Scope {
        block: Block::new(),
        family: Mutex::new(Family {
            sweep: SWEEP,
            ..Family::default()
        }),
    }
}

/// What a child of a scope calls: the function, and if that fails the scope hears of it.
#[pyclass(frozen, module = "roving")]
pub(crate) struct Child {
    scope: Py<Scope>,
    function: Py<PyAny>,
}

#[pymethods]
impl Child {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let result = self.function.call(py, args, kwargs);
        if let Err(error) = &result
            && !error.is_instance_of::<Cancelled>(py)
        {
            self.scope.get().failed(py, error);
        }
        result
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.function.bind(py).repr()?.to_string())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)?;
        visit.call(&self.function)
    }
}

impl Scope {
    /// A child has raised.
    fn failed(&self, py: Python<'_>, error: &PyErr) {
        if let Some(fiber) = cancel::fiber() {
            fiber.take_failure();
        }
        let error = error.value(py).clone().into_any().unbind();
        lock(&self.family).errors.push(error);
        self.cancel_all(py);
    }

    fn cancel_all(&self, py: Python<'_>) {
        self.block.with(cancel::Scope::cancel);
        let children: Vec<_> = {
            let mut family = lock(&self.family);
            if std::mem::replace(&mut family.cancelled, true) {
                return;
            }
            family.children.iter().map(|child| child.clone_ref(py)).collect()
        };
        for child in children {
            child.get().cancel();
        }
    }

    /// The last child, if there is one; else no more can come.
    fn last_child(&self, py: Python<'_>) -> Option<Py<Fiber>> {
        let mut family = lock(&self.family);
        let last = family.children.last().map(|child| child.clone_ref(py));
        family.open = last.is_some();
        last
    }

    /// Waits for all children; true if it was cancelled meanwhile, with how.
    fn join_all(&self, py: Python<'_>, mut patient: bool) -> PyResult<Option<PyErr>> {
        let mut cancelled = None;
        while let Some(child) = self.last_child(py) {
            let handle = child.get().runtime_handle();
            while !handle.is_done() {
                let ended = if patient {
                    wait::join_in_scope(py, handle).map(drop)
                } else {
                    wait::join_regardless(py, handle)
                };
                let Err(error) = ended else { continue };
                if !patient && cancelled.is_some() {
                    // A second Ctrl-C. Whoever does that does not want to wait.
                    return Err(error);
                }
                patient = false;
                self.cancel_all(py);
                cancelled = Some(error);
            }
            let gone = {
                let mut family = lock(&self.family);
                let place = family.children.iter().rposition(|one| one.is(&child));
                place.map(|place| family.children.swap_remove(place))
            };
            drop(gone);
        }
        Ok(cancelled)
    }

    /// Lets go of children that have ended.
    fn sweep(&self) {
        let ended: Vec<_> = {
            let mut family = lock(&self.family);
            if family.children.len() < family.sweep {
                return;
            }
            let ended = family
                .children
                .extract_if(.., |child| child.get().runtime_handle().is_done())
                .collect();
            family.sweep = (family.children.len() * 2).max(SWEEP);
            ended
        };
        drop(ended);
    }
}

#[pymethods]
impl Scope {
    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        wait::place_for_others()?;
        slf.block.enter(cancel::enter(slf.py(), None, false))?;
        lock(&slf.family).open = true;
        Ok(slf)
    }

    #[pyo3(signature = (_kind, exception, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        exception: Option<&Bound<'_, PyBaseException>>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let entered = self.block.leave()?;
        let leaving = match exception {
            None => None,
            Some(exception) => Some((exception, cancel::leaving(exception, &entered.scope)?)),
        };
        if leaving.is_some() {
            self.cancel_all(py);
        }
        let interrupted = self.join_all(py, leaving.is_none())?;
        let mut errors = std::mem::take(&mut lock(&self.family).errors);
        let mut passes = false;
        match leaving {
            None | Some((_, Leaving::Own)) => {}
            Some((_, Leaving::Outer)) => passes = true,
            Some((exception, Leaving::Other)) => {
                if errors.is_empty() && exception.is_instance_of::<PyGeneratorExit>() {
                    return Ok(false);
                }
                // A block that joined a child that failed raises what that one did.
                if !errors.iter().any(|error| error.is(exception)) {
                    errors.insert(0, exception.clone().into_any().unbind());
                }
            }
            Some((_, Leaving::Rest(rest))) => errors.insert(0, rest.unbind()),
        }
        // Another cancellation from outside than the one that is being delivered comes back at the next wait.
        if let Some(error) = interrupted {
            if error.is_instance_of::<Cancelled>(py) {
                if errors.is_empty() {
                    return Err(error);
                }
            } else {
                errors.insert(0, error.value(py).clone().into_any().unbind());
            }
        }
        if errors.is_empty() {
            return Ok(exception.is_some() && !passes);
        }
        Err(group(py, errors)?)
    }

    /// Start a fiber that calls function(*args, **kwargs) and belongs to this scope, and return it.
    ///
    /// Children may spawn more of them, and so may others, as long as the scope has not ended: then it is a
    /// RuntimeError.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn spawn(
        slf: &Bound<'_, Self>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Fiber>> {
        let py = slf.py();
        if !function.is_callable() {
            let kind = function.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "spawn takes a callable and its arguments, and {kind} is not callable"
            )));
        }
        let this = slf.get();
        this.sweep();
        let child = Child {
            scope: slf.clone().unbind(),
            function: function.clone().unbind(),
        };
        let child = Bound::new(py, child)?.into_any();
        if !lock(&this.family).open {
            return Err(not_open());
        }
        let fiber = entry::spawn_named(py, &child, args, kwargs, None, None)?;
        let (open, cancelled) = {
            let mut family = lock(&this.family);
            if family.open {
                family.children.push(fiber.clone_ref(py));
            }
            (family.open, family.cancelled)
        };
        if !open || cancelled {
            fiber.get().cancel();
        }
        if open { Ok(fiber) } else { Err(not_open()) }
    }

    /// Cancel the block and all fibers of the scope. Leaving the block then raises nothing.
    fn cancel(&self, py: Python<'_>) {
        self.cancel_all(py);
    }

    /// Whether the scope was cancelled: by `cancel`, or because one of its fibers, or its block, failed.
    #[getter]
    fn cancelled(&self) -> bool {
        lock(&self.family).cancelled
    }

    fn __repr__(&self) -> String {
        let family = lock(&self.family);
        let state = if family.open { "open" } else { "closed" };
        format!("<roving.Scope, {state}, {} fibers>", family.children.len())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let family = lock(&self.family);
        for child in &family.children {
            visit.call(child)?;
        }
        for error in &family.errors {
            visit.call(error)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let family = std::mem::take(&mut *lock(&self.family));
        drop(family);
    }
}

fn not_open() -> PyErr {
    PyRuntimeError::new_err("the scope is not open: spawn in its `with` block, or in one of its fibers")
}

fn group(py: Python<'_>, members: Vec<Py<PyAny>>) -> PyResult<PyErr> {
    // SAFETY: a static of CPython's.
    let kind = unsafe { ffi::PyExc_BaseExceptionGroup };
    // SAFETY: attached, and a type that lives for ever.
    let kind = unsafe { Bound::from_borrowed_ptr(py, kind) };
    let count = members.len();
    let text = match count {
        1 => "a fiber of the scope, or its block, failed".to_owned(),
        _ => format!("{count} fibers of the scope, or its block, failed"),
    };
    Ok(errors::raise_again(&kind.call1((text, members))?))
}
