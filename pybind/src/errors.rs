//! The exceptions of roving, and what is said of failures that nobody took.

use pyo3::exceptions::{PyBaseException, PyException, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, create_exception};

create_exception!(
    roving,
    Cancelled,
    PyBaseException,
    "Raised in a fiber that has been cancelled, where it waits.\n\n\
     Not an Exception, so that `except Exception` lets it pass: clean up and let it go on. While it is being handled,\n\
     waits succeed for `cancel_grace` seconds (see roving.configure), so that clean-up may wait; after that the next wait\n\
     raises it again. Whatever is raised and handled meanwhile belongs to the clean-up. Swallowed, it is raised again\n\
     at the next wait."
);
create_exception!(
    roving.tasks,
    SoftTimeout,
    PyException,
    "Raised in a task, wherever it is, when its soft_timeout is over: it may clean up, or give what it has.\n\n\
     Not handled, it fails the attempt as any other exception does."
);
create_exception!(
    roving,
    FiberCancelled,
    PyException,
    "Raised by join: the joined fiber was cancelled, and so has no result."
);
create_exception!(
    roving,
    Deadlock,
    pyo3::exceptions::PyRuntimeError,
    "Raised in plain threads by join, run and the end of a scope, when nobody can ever wake anybody.\n\n\
     Every fiber, and every Python thread, waits for another, on fibers, locks, channels and the like of roving's, without \
     an\nend. Not while a timer, a descriptor or a call of roving.blocking is waited for, nor where signal.signal has\n\
     installed a handler in Python: each may wake somebody. roving.dump() tells who waits for what."
);
create_exception!(
    roving,
    Closed,
    PyException,
    "Raised by a channel's send when the channel is closed, and by its recv when it is closed and empty."
);
create_exception!(
    roving,
    WouldBlock,
    PyException,
    "Raised by a channel's try_send and try_recv when they would have to wait."
);
create_exception!(
    roving,
    RovingInternalError,
    pyo3::exceptions::PyRuntimeError,
    "Raised when roving finds itself in a state that cannot be.\n\nA bug of roving's: please report it."
);

/// Raises an exception that there is already, as `raise` does: what is being handled becomes its context.
///
/// PyO3 leaves that out; and whether a cancellation is being handled is told by the contexts.
#[cold]
pub(crate) fn raise_again(exception: &Bound<'_, PyAny>) -> PyErr {
    // SAFETY: attached, as the reference shows; an exception and its class.
    unsafe { ffi::PyErr_SetObject(exception.get_type().as_ptr(), exception.as_ptr()) };
    PyErr::fetch(exception.py())
}

/// What `roving.excepthook` is told: a fiber ended with an exception, and nobody joined it or asked for it.
#[pyclass(frozen, module = "roving")]
pub(crate) struct UnjoinedFailure {
    /// The fiber's number.
    #[pyo3(get)]
    id: u64,
    /// The fiber's name, or None.
    #[pyo3(get)]
    name: Option<String>,
    /// The exception, with its traceback.
    #[pyo3(get)]
    exception: Py<PyAny>,
}

#[pymethods]
impl UnjoinedFailure {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.exception)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let exception = self.exception.bind(py).repr()?;
        Ok(format!(
            "<roving.UnjoinedFailure of {} with {exception}>",
            label(self.id, self.name.as_deref())
        ))
    }
}

/// How a fiber is called in texts.
pub(crate) fn label(id: u64, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("fiber {id} {name:?}"),
        None => format!("fiber {id}"),
    }
}

/// Handle a failure that nobody took: print it with its traceback to sys.stderr.
///
/// Assign another function to roving.excepthook to have it called instead, with an UnjoinedFailure; or None for silence.
/// SystemExit and Cancelled are nobody's failure.
///
/// >>> roving.excepthook = lambda failure: logging.error("%s", failure.exception)
#[pyfunction]
#[pyo3(signature = (failure, /))]
pub(crate) fn excepthook(py: Python<'_>, failure: &UnjoinedFailure) -> PyResult<()> {
    let stderr = py.import("sys")?.getattr("stderr")?;
    if stderr.is_none() {
        return Ok(());
    }
    let label = label(failure.id, failure.name.as_deref());
    stderr.call_method1(
        "write",
        (format!("Exception in {label}, which nobody joined:\n"),),
    )?;
    let traceback = py.import("traceback")?;
    let kwargs = pyo3::types::PyDict::new(py);
    kwargs.set_item("file", stderr)?;
    traceback.call_method("print_exception", (&failure.exception,), Some(&kwargs))?;
    Ok(())
}

/// Reports a failure when its fiber's object goes. Whatever is being raised meanwhile is kept.
pub(crate) fn report_unjoined(py: Python<'_>, id: u64, name: Option<&str>, exception: Py<PyAny>) {
    let bound = exception.bind(py);
    // As threads do: SystemExit ends its fiber silently. So does being cancelled.
    if bound.is_instance_of::<PySystemExit>() || bound.is_instance_of::<Cancelled>() {
        return;
    }
    // SAFETY: asks for a flag.
    if unsafe { ffi::Py_IsFinalizing() } != 0 {
        // Too late to run code: modules are being taken apart.
        eprintln!(
            "Exception in {}, which nobody joined, and the interpreter is exiting",
            label(id, name)
        );
        return;
    }
    // SAFETY: attached; the exception being raised, if any, is ours until it is set again below.
    let raised = unsafe { ffi::PyErr_GetRaisedException() };
    if let Err(error) = call_hook(py, id, name, exception) {
        error.write_unraisable(py, None);
    }
    if !raised.is_null() {
        // SAFETY: attached, and the reference is given back.
        unsafe { ffi::PyErr_SetRaisedException(raised) };
    }
}

fn call_hook(py: Python<'_>, id: u64, name: Option<&str>, exception: Py<PyAny>) -> PyResult<()> {
    let failure = UnjoinedFailure {
        id,
        name: name.map(str::to_owned),
        exception,
    };
    let hook = py.import("roving")?.getattr("excepthook")?;
    if hook.is_none() {
        return Ok(());
    }
    hook.call1((failure,)).map(drop)
}
