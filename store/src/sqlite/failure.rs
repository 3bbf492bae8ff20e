//! SQLite's errors in words of ours.

use std::fmt::Display;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::Error;

/// What an error of SQLite's means to the caller.
pub(super) fn from_sqlite(error: &rusqlite::Error, path: &Path) -> Error {
    let said = format!("{}: {error}", path.display());
    let Some(code) = error.sqlite_error_code() else {
        return Error::Internal(said);
    };
    match code {
        ErrorCode::DiskFull => Error::Full(said),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            Error::Locked(said)
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Error::ReadOnly(said),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Error::Corrupt(said),
        ErrorCode::CannotOpen => Error::Open(said),
        ErrorCode::SystemIoFailure => Error::Io(said),
        _ => Error::Internal(said),
    }
}

/// A fault of this crate's.
pub(super) fn internal(what: impl Display) -> Error {
    Error::Internal(what.to_string())
}
