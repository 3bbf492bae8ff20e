//! What the locks answer instead of a guard. One type an operation, with the guard handed back where there is one.

use super::waiter::GaveUp;

macro_rules! plain_error {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $text,)*
                })
            }
        }

        impl std::error::Error for $name {}
    };
}
pub(super) use plain_error;

const POISONED: &str = "a fiber or thread panicked while it held this lock";
const CANCELLED: &str = "this fiber was cancelled while it waited for a lock";
const TIMED_OUT: &str = "the lock did not come free in time";
const HELD: &str = "the lock is held by another";

/// Why `lock`, `read` or `write` gave no ordinary guard.
pub enum LockError<G> {
    /// The lock was taken, but one that held it before has panicked: the data may be half changed.
    Poisoned(G),
    /// The calling fiber was cancelled while it waited.
    Cancelled,
}

/// Why `lock_timeout` and its like gave no ordinary guard.
pub enum LockTimeoutError<G> {
    /// As [`LockError::Poisoned`].
    Poisoned(G),
    /// The lock did not come free in time.
    TimedOut,
    /// The calling fiber was cancelled while it waited.
    Cancelled,
}

/// Why `try_lock`, `try_read` or `try_write` gave no ordinary guard.
pub enum TryLockError<G> {
    /// As [`LockError::Poisoned`].
    Poisoned(G),
    /// Another holds the lock, or was first to wait for it.
    WouldBlock,
}

/// Data whose lock is poisoned.
pub struct PoisonError<T> {
    data: T,
}

impl<T> PoisonError<T> {
    pub(super) fn new(data: T) -> Self {
        Self { data }
    }

    /// The data, such as it is.
    pub fn into_inner(self) -> T {
        self.data
    }
}

impl<G> LockError<G> {
    /// The guard of a poisoned lock.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled), when that was it.
    pub fn into_guard(self) -> Result<G, crate::fiber::Cancelled> {
        match self {
            LockError::Poisoned(guard) => Ok(guard),
            LockError::Cancelled => Err(crate::fiber::Cancelled),
        }
    }

    pub(super) fn after(gave_up: GaveUp) -> Self {
        match gave_up {
            GaveUp::Cancelled => LockError::Cancelled,
            GaveUp::TimedOut => unreachable!("a wait without a deadline does not time out"),
        }
    }
}

impl<G> LockTimeoutError<G> {
    pub(super) fn after(gave_up: GaveUp) -> Self {
        match gave_up {
            GaveUp::Cancelled => LockTimeoutError::Cancelled,
            GaveUp::TimedOut => LockTimeoutError::TimedOut,
        }
    }
}

macro_rules! guard_error {
    ($name:ident, $($pattern:pat => ($variant:literal, $text:expr),)*) => {
        impl<G> std::fmt::Debug for $name<G> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($pattern => $variant,)* })
            }
        }

        impl<G> std::fmt::Display for $name<G> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($pattern => $text,)* })
            }
        }

        impl<G> std::error::Error for $name<G> {}
    };
}

guard_error!(LockError,
    LockError::Poisoned(_) => ("Poisoned(..)", POISONED),
    LockError::Cancelled => ("Cancelled", CANCELLED),
);
guard_error!(LockTimeoutError,
    LockTimeoutError::Poisoned(_) => ("Poisoned(..)", POISONED),
    LockTimeoutError::TimedOut => ("TimedOut", TIMED_OUT),
    LockTimeoutError::Cancelled => ("Cancelled", CANCELLED),
);
guard_error!(TryLockError,
    TryLockError::Poisoned(_) => ("Poisoned(..)", POISONED),
    TryLockError::WouldBlock => ("WouldBlock", HELD),
);
guard_error!(PoisonError, PoisonError { .. } => ("PoisonError(..)", POISONED),);
