//! Waiting for one another: locks, conditions, semaphores, events, barriers, one-time initialisation and channels,
//! for fibers and plain threads side by side.
//!
//! A fiber that waits here lets others run on its worker. Every wait that a fiber makes ends when the fiber is
//! cancelled, with an error that says so and with nothing lost; an operation that need not wait does not look
//! at cancellation. Everything that waits also comes as `try_..`, which never waits, `.._timeout` and
//! `.._deadline`. In a stackless future only what need not wait may be called: blocking there panics.
//!
//! The README beside this file proves that no wake-up is lost.

/// Declares a constructor that is `const`, except in models, whose types cannot be made at compile time.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $vis:vis const fn $name:ident($($arg:ident: $type:ty),*) -> Self $body:block) => {
        $(#[$meta])*
        #[cfg(not(loom))]
        #[inline]
        $vis const fn $name($($arg: $type),*) -> Self $body

        $(#[$meta])*
        #[cfg(loom)]
        $vis fn $name($($arg: $type),*) -> Self $body
    };
}

mod barrier;
pub mod channel;
mod condvar;
mod error;
mod event;
mod foreign_lock;
mod lot;
mod mutex;
mod once;
mod once_cell;
mod permits;
mod poison;
mod raw_mutex;
mod raw_rwlock;
mod rwlock;
mod semaphore;
mod spin;
mod waiter;
mod waiters;

#[cfg(all(test, loom))]
mod loom_lot;
#[cfg(all(test, loom))]
mod loom_test;
#[cfg(all(test, not(loom)))]
pub(crate) mod test;

pub use barrier::{Barrier, BarrierError, BarrierPassed};
pub use condvar::{ConditionError, Condvar};
pub use error::{LockError, LockTimeoutError, PoisonError, TryLockError};
pub use event::Event;
pub use foreign_lock::{ForeignLock, ForeignWaiters};
pub use lot::{Lot, LotPlace, LotWait, LotWoken};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceError};
pub use once_cell::{InitError, OnceCell, SetError};
pub use raw_mutex::RawMutex;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{AcquireError, AcquireTimeoutError, Permit, Semaphore, TryAcquireError};
