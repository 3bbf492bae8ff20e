//! How a wait for a descriptor ends other than well.

use crate::fiber::Cancelled;
use std::io;

/// See [`io::Error`]'s `From` below for what the user gets.
#[derive(Debug)]
pub(crate) enum WaitError {
    /// The descriptor was closed, before or while we waited.
    Closed,
    /// The waiting fiber was cancelled.
    Cancelled,
    /// The deadline passed.
    TimedOut,
    /// The system refused to watch the descriptor.
    System(io::Error),
}

impl From<io::Error> for WaitError {
    fn from(error: io::Error) -> Self {
        WaitError::System(error)
    }
}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Closed => closed(),
            WaitError::Cancelled => io::Error::other(Cancelled),
            WaitError::TimedOut => io::ErrorKind::TimedOut.into(),
            WaitError::System(error) => error,
        }
    }
}

/// What calls on a closed descriptor fail with.
pub(crate) fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Whether an I/O call failed because the calling fiber was cancelled. (Not `ErrorKind::Interrupted`: the
/// standard library's loops would try again.)
///
/// ```
/// use roving_runtime::{Cancelled, is_cancelled};
/// use std::io;
///
/// assert!(is_cancelled(&io::Error::other(Cancelled)));
/// assert!(!is_cancelled(&io::ErrorKind::Interrupted.into()));
/// ```
pub fn is_cancelled(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.downcast_ref::<Cancelled>().is_some())
}
