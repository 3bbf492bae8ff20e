//! Preemption: `roving.configure(preempt=)` and `roving.no_preempt`. `README.md` argues the protocol.

use crate::cancel::{self, Interruption};
use crate::errors::{Cancelled, SoftTimeout};
use crate::fiber::Fiber;
use crate::{engine, shim};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shortest quantum: less, and workers would do little but switch.
const LEAST: Duration = Duration::from_micros(100);

/// In nanoseconds; zero for none.
static QUANTUM: AtomicU64 = AtomicU64::new(0);

/// What `configure` was told of the quantum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Nothing.
    #[default]
    Unchanged,
    Off,
    Every(Duration),
}

impl<'py> FromPyObject<'_, 'py> for Setting {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::Off);
        }
        let seconds: f64 = value.extract()?;
        let quantum = crate::timeout::duration(seconds, "preempt")?;
        match quantum {
            Some(Duration::ZERO) | None => Ok(Self::Off),
            Some(quantum) if quantum < LEAST => Err(PyValueError::new_err(format!(
                "preempt must be at least {} seconds, or None, and is {seconds}",
                LEAST.as_secs_f64()
            ))),
            Some(quantum) => Ok(Self::Every(quantum)),
        }
    }
}

/// Does what `configure` was told.
pub(crate) fn set(setting: Setting) {
    let nanos = match setting {
        Setting::Unchanged => return,
        Setting::Off => 0,
        Setting::Every(quantum) => u64::try_from(quantum.as_nanos()).unwrap_or(u64::MAX),
    };
    QUANTUM.store(nanos, Ordering::Relaxed);
    if let Some(handle) = engine::started()
        && !engine::process().is_seeded()
    {
        handle.set_preemption(quantum());
    }
}

/// How long a fiber may run while others wait for its worker.
pub(crate) fn quantum() -> Option<Duration> {
    let nanos = QUANTUM.load(Ordering::Relaxed);
    (nanos != 0).then(|| Duration::from_nanos(nanos))
}

/// Called by the shim on the fiber's own stack, at a check of the eval breaker, attached.
#[unsafe(no_mangle)]
extern "C" fn rv_preempt(turn: u64) {
    roving_runtime::preempt(turn);
}

/// Called by the shim where the fiber of this object may be interrupted, on its own stack, attached: what is to be raised.
#[unsafe(no_mangle)]
extern "C" fn rv_interrupted(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: attached, as the shim promises.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the running fiber's object is a `Fiber`, and lives until the fiber has ended.
    let fiber = unsafe { Fiber::of(object) };
    match cancel::interruption(fiber) {
        None => std::ptr::null_mut(),
        // Types that are never freed.
        Some(Interruption::Cancel) => py.get_type::<Cancelled>().as_ptr(),
        Some(Interruption::SoftTimeout) => py.get_type::<SoftTimeout>().as_ptr(),
    }
}

/// Call function(*args, **kwargs) so that `_interrupt` reaches it where it does not wait, too. For a fiber.
#[pyfunction]
#[pyo3(signature = (function, args, kwargs, /))]
pub(crate) fn _call_interruptible(
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: &Bound<'_, PyDict>,
) -> PyResult<Py<PyAny>> {
    let Some(fiber) = cancel::fiber() else {
        return function.call(args, Some(kwargs)).map(Bound::unbind);
    };
    fiber.begin_interruptible();
    let result = function.call(args, Some(kwargs)).map(Bound::unbind);
    // Nothing of Python's runs between the two: what was to be raised in the function is raised in it, or not at all.
    fiber.end_interruptible();
    shim::interrupt_end();
    result
}

/// Have a fiber that is in `_call_interruptible` stop: SoftTimeout is raised in it once, or, if it was cancelled, Cancelled,
/// where it waits or between two bytecodes. Without either: look again whether it has heard.
#[pyfunction]
#[pyo3(signature = (fiber, soft, /))]
pub(crate) fn _interrupt(fiber: &Bound<'_, Fiber>, soft: bool) {
    if soft {
        fiber.get().request_soft_timeout();
    }
    engine::process().nudge(fiber.get().id());
}

/// A block of code in which a fiber is not preempted: `with roving.no_preempt(): ...`.
///
/// Other fibers of the same worker do not run between its statements, unless the block waits for something. It says nothing
/// of other workers, whose fibers run at the same time: it is no lock. In a plain thread it does nothing.
#[pyclass(frozen, name = "no_preempt", module = "roving")]
pub(crate) struct NoPreempt;

#[pymethods]
impl NoPreempt {
    #[new]
    fn new() -> Self {
        Self
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        shim::no_preempt(1);
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, pyo3::types::PyTuple>) {
        shim::no_preempt(-1);
    }
}
