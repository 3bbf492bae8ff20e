//! A lock around data.

use super::error::{LockError, LockTimeoutError, PoisonError, TryLockError};
use super::poison::{Poison, Watch};
use super::raw_mutex::RawMutex;
use crate::fiber;
use crate::loom::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// Mutual exclusion between fibers and plain threads, with the standard library's poisoning.
///
/// A fiber that waits lets others run on its worker, and may be cancelled meanwhile. A lock that is free is
/// taken without looking at cancellation. Waiters are woken first come first served; one that just comes by may
/// overtake them for at most a millisecond, or eight times, after which the lock is handed to the first waiter.
///
/// A panic of the holder poisons the lock, see [`LockError::Poisoned`]. While another fiber of the same worker
/// is parked in the middle of *its* unwinding, the holder's panic cannot be told from that one and poisons
/// nothing.
///
/// ```
/// use roving_runtime::sync::Mutex;
///
/// let total = Mutex::new(0);
/// *total.lock().unwrap() += 5;
/// assert_eq!(*total.lock().unwrap(), 5);
/// ```
pub struct Mutex<T> {
    pub(super) raw: RawMutex,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the raw lock lets one at a time reach the data, which goes from thread to thread with it.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> std::panic::UnwindSafe for Mutex<T> {}
impl<T> std::panic::RefUnwindSafe for Mutex<T> {}

/// Access to a [`Mutex`]'s data. Unlocks it when dropped.
///
/// It stays with the fiber or thread that locked (it is not `Send`): whether the lock is poisoned is found by
/// comparing two moments of one and the same holder. A fiber may keep it while it waits for something else.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    watch: Watch,
    // Neither Send, nor Sync unless said so below.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives no more than a shared reference to the data.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    const_unless_loom! {
        /// An unlocked mutex.
        pub const fn new(data: T) -> Self {
            Self { raw: RawMutex::new(), poison: Poison::new(), data: UnsafeCell::new(data) }
        }
    }

    /// Waits until the lock is free, and takes it.
    ///
    /// Locking again while holding the guard waits for ever, until cancelled.
    ///
    /// # Errors
    /// See [`LockError`].
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.raw.lock_within(None).map_err(LockError::after)?;
        self.guard().map_err(LockError::Poisoned)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// See [`TryLockError`].
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        if !self.raw.try_lock() {
            return Err(TryLockError::WouldBlock);
        }
        self.guard().map_err(TryLockError::Poisoned)
    }

    /// Waits for the lock for at most `timeout`.
    ///
    /// # Errors
    /// See [`LockTimeoutError`].
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T>, LockTimeoutError<MutexGuard<'_, T>>> {
        self.lock_within(fiber::deadline_after(timeout))
    }

    /// Waits for the lock until `deadline` at most.
    ///
    /// # Errors
    /// See [`LockTimeoutError`].
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<MutexGuard<'_, T>, LockTimeoutError<MutexGuard<'_, T>>> {
        self.lock_within(Some(deadline))
    }

    fn lock_within(
        &self,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, T>, LockTimeoutError<MutexGuard<'_, T>>> {
        self.raw.lock_within(deadline).map_err(LockTimeoutError::after)?;
        self.guard().map_err(LockTimeoutError::Poisoned)
    }

    /// The guard of a lock that has just been taken, in the error's place if it is poisoned.
    #[inline]
    pub(super) fn guard(&self) -> Result<MutexGuard<'_, T>, MutexGuard<'_, T>> {
        let guard = MutexGuard {
            mutex: self,
            watch: Watch::start(),
            _not_send: PhantomData,
        };
        self.poison.vet(guard)
    }

    /// Whether a holder has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Declares the data sound again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The data, reached without locking.
    ///
    /// # Errors
    /// [`PoisonError`] with the same when a holder has panicked.
    pub fn get_mut(&mut self) -> Result<&mut T, PoisonError<&mut T>> {
        // SAFETY: the borrow of the mutex is exclusive.
        let data = self.data.with_mut(|data| unsafe { &mut *data });
        self.poison.vet(data).map_err(PoisonError::new)
    }

    /// The data.
    ///
    /// # Errors
    /// [`PoisonError`] with the same when a holder has panicked.
    pub fn into_inner(self) -> Result<T, PoisonError<T>> {
        self.poison.vet(self.data.into_inner()).map_err(PoisonError::new)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) | Err(TryLockError::Poisoned(guard)) => debug.field("data", &*guard),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.is_poisoned()).finish()
    }
}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock, and the guard is borrowed for as long as the reference lives.
        self.mutex.data.with(|data| unsafe { &*data })
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the lock, and the guard is borrowed exclusively for as long as the reference lives.
        self.mutex.data.with_mut(|data| unsafe { &mut *data })
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.end(self.watch);
        self.mutex.raw.unlock();
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: std::fmt::Display> std::fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}
