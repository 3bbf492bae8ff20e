//! What goes wrong in a store, as exceptions.

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use roving_store::Error;

create_exception!(
    roving.tasks,
    StoreError,
    PyException,
    "Raised when the job store cannot do what it was asked to: its disk is full, its file damaged, read-only or held by\n\
     another process for too long, it is closed. Whatever failed has changed nothing, unless `kind` is 'io'.\n\n\
     `kind` says which: full, locked, read_only, corrupt, newer, open, io, closed, forked, internal, stale, unknown_worker,\n\
     unknown_job, wrong_status."
);
create_exception!(
    roving.tasks,
    StaleAttempt,
    StoreError,
    "Raised by an acknowledgement of an attempt that is over: the job was acknowledged or taken over."
);
create_exception!(
    roving.tasks,
    UnknownWorker,
    StoreError,
    "Raised when a worker that was given up, or has retired, claims: register again."
);
create_exception!(
    roving.tasks,
    UnknownJob,
    StoreError,
    "Raised when no job has this id: it may have been pruned."
);
create_exception!(
    roving.tasks,
    WrongStatus,
    StoreError,
    "Raised when a job's status does not allow what was asked for: only what is finished can be retried."
);

/// Adds the exceptions to the module.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("StoreError", py.get_type::<StoreError>())?;
    module.add("StaleAttempt", py.get_type::<StaleAttempt>())?;
    module.add("UnknownWorker", py.get_type::<UnknownWorker>())?;
    module.add("UnknownJob", py.get_type::<UnknownJob>())?;
    module.add("WrongStatus", py.get_type::<WrongStatus>())
}

/// The exception of an error.
pub(super) fn from_store(py: Python<'_>, error: &Error) -> PyErr {
    let text = error.to_string();
    let (exception, kind) = match error {
        Error::Invalid(_) => return PyValueError::new_err(text),
        Error::Stale => (StaleAttempt::new_err(text), "stale"),
        Error::UnknownWorker => (UnknownWorker::new_err(text), "unknown_worker"),
        Error::UnknownJob => (UnknownJob::new_err(text), "unknown_job"),
        Error::WrongStatus(_) => (WrongStatus::new_err(text), "wrong_status"),
        Error::Full(_) => (StoreError::new_err(text), "full"),
        Error::Locked(_) => (StoreError::new_err(text), "locked"),
        Error::ReadOnly(_) => (StoreError::new_err(text), "read_only"),
        Error::Corrupt(_) => (StoreError::new_err(text), "corrupt"),
        Error::NewerSchema { .. } => (StoreError::new_err(text), "newer"),
        Error::Open(_) => (StoreError::new_err(text), "open"),
        Error::Io(_) => (StoreError::new_err(text), "io"),
        Error::Closed => (StoreError::new_err(text), "closed"),
        Error::Forked => (StoreError::new_err(text), "forked"),
        _ => (StoreError::new_err(text), "internal"),
    };
    match exception.value(py).setattr("kind", kind) {
        Ok(()) => exception,
        Err(error) => error,
    }
}
