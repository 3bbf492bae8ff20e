//! What can go wrong, in words for the one who called.

use std::fmt;
use std::path::PathBuf;

use crate::job::Status;

/// Why a call of the store failed. Whatever failed has changed nothing, but see [`Error::Io`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An argument that no store takes: an empty name, a name or payload above its limit, a time that is none.
    Invalid(String),
    /// The attempt is not the job's current one any more: it was acknowledged, or taken over after its worker was given
    /// up. Whatever it was to say is the business of its successor.
    Stale,
    /// The worker is not registered, or was retired or given up since: register again.
    UnknownWorker,
    /// No job has this id (it may have been pruned).
    UnknownJob,
    /// The job's status allows no such thing.
    WrongStatus(Status),
    /// The disk, or the database's own limit of size, is full. The store works again when there is room.
    Full(String),
    /// Another process held the database for longer than the store was told to wait.
    Locked(String),
    /// The file, its folder or the file system does not let itself be written.
    ReadOnly(String),
    /// The file is no database of jobs, or a damaged one.
    Corrupt(String),
    /// The schema is newer than this program knows.
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema's version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file cannot be opened or created: no such folder, no permission.
    Open(String),
    /// The system failed to read or write. If it failed in a commit, then whether it happened shows only when the store is
    /// opened again: enqueue again with the same id, which enqueues once.
    Io(String),
    /// The store was closed.
    Closed,
    /// The store was opened by a process of which this one is a fork: open it here.
    Forked,
    /// A fault of this crate's.
    Internal(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(what) => write!(f, "{what}"),
            Error::Stale => write!(f, "this attempt is over: the job was acknowledged or taken over"),
            Error::UnknownWorker => {
                write!(f, "the worker is not registered, or was given up: register again")
            }
            Error::UnknownJob => write!(f, "no such job"),
            Error::WrongStatus(status) => write!(f, "the job is {status}"),
            Error::Full(what) => write!(f, "no room for the job store: {what}"),
            Error::Locked(what) => write!(f, "the job store is locked by another process: {what}"),
            Error::ReadOnly(what) => write!(f, "the job store cannot be written: {what}"),
            Error::Corrupt(what) => write!(f, "the job store is damaged, or is none: {what}"),
            Error::NewerSchema { path, found, known } => write!(
                f,
                "{}: its schema has version {found}, and this program knows up to {known}: use the newer program",
                path.display()
            ),
            Error::Open(what) => write!(f, "cannot open the job store: {what}"),
            Error::Io(what) => write!(f, "the job store failed to read or write: {what}"),
            Error::Closed => write!(f, "the job store is closed"),
            Error::Forked => write!(
                f,
                "the job store was opened before this process was forked: open it again here"
            ),
            Error::Internal(what) => write!(f, "a fault in the job store: {what}"),
        }
    }
}

impl std::error::Error for Error {}
