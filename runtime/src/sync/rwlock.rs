//! A lock around data that many may read at once.

use super::error::{LockError, LockTimeoutError, PoisonError, TryLockError};
use super::poison::{Poison, Watch};
use super::raw_rwlock::{Mode, RawRwLock};
use super::waiter::{GaveUp, Patience};
use crate::fiber::{self, WaitReason};
use crate::loom::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// Many readers or one writer, of fibers and plain threads.
///
/// Fair: who comes later waits behind who waits already, readers too, so neither writers nor readers starve.
/// Therefore a reader must not read-lock again while it holds a guard: a writer that came in between would wait
/// for the first guard, and the second for the writer. A lock that is free is taken without looking at
/// cancellation. A panic while writing poisons the lock, as for [`Mutex`](super::Mutex).
///
/// ```
/// use roving_runtime::sync::RwLock;
///
/// let table = RwLock::new(vec![1, 2]);
/// table.write().unwrap().push(3);
/// assert_eq!(table.read().unwrap().len(), 3);
/// ```
pub struct RwLock<T> {
    pub(super) raw: RawRwLock,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the data goes from thread to thread with the lock.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: the raw lock lets writers at the data one at a time, which sends it to their threads, or else readers,
// which share it.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> std::panic::UnwindSafe for RwLock<T> {}
impl<T> std::panic::RefUnwindSafe for RwLock<T> {}

/// Shared access to the data of a [`RwLock`]. It stays with its fiber or thread, as a
/// [`MutexGuard`](super::MutexGuard) does.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: PhantomData<*const ()>,
}

/// Exclusive access to the data of a [`RwLock`]. It stays with its fiber or thread, as a
/// [`MutexGuard`](super::MutexGuard) does.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    watch: Watch,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives no more than a shared reference to the data.
unsafe impl<T: Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for RwLockWriteGuard<'_, T> {}

type Read<'a, T> = RwLockReadGuard<'a, T>;
type Write<'a, T> = RwLockWriteGuard<'a, T>;

impl<T> RwLock<T> {
    const_unless_loom! {
        /// An unlocked lock.
        pub const fn new(data: T) -> Self {
            Self { raw: RawRwLock::new(), poison: Poison::new(), data: UnsafeCell::new(data) }
        }
    }

    /// Waits until no writer holds the lock and none waits, and takes it for reading.
    ///
    /// # Errors
    /// See [`LockError`].
    #[inline]
    pub fn read(&self) -> Result<Read<'_, T>, LockError<Read<'_, T>>> {
        self.lock(Mode::Read, None).map_err(LockError::after)?;
        self.read_guard().map_err(LockError::Poisoned)
    }

    /// Waits until nobody holds the lock, and takes it for writing.
    ///
    /// # Errors
    /// See [`LockError`].
    #[inline]
    pub fn write(&self) -> Result<Write<'_, T>, LockError<Write<'_, T>>> {
        self.lock(Mode::Write, None).map_err(LockError::after)?;
        self.write_guard().map_err(LockError::Poisoned)
    }

    /// Takes the lock for reading if no writer holds it and none waits.
    ///
    /// # Errors
    /// See [`TryLockError`].
    #[inline]
    pub fn try_read(&self) -> Result<Read<'_, T>, TryLockError<Read<'_, T>>> {
        if !self.raw.try_lock(Mode::Read) {
            return Err(TryLockError::WouldBlock);
        }
        self.read_guard().map_err(TryLockError::Poisoned)
    }

    /// Takes the lock for writing if nobody holds it.
    ///
    /// # Errors
    /// See [`TryLockError`].
    #[inline]
    pub fn try_write(&self) -> Result<Write<'_, T>, TryLockError<Write<'_, T>>> {
        if !self.raw.try_lock(Mode::Write) {
            return Err(TryLockError::WouldBlock);
        }
        self.write_guard().map_err(TryLockError::Poisoned)
    }

    /// As [`RwLock::read`], for at most `timeout`.
    ///
    /// # Errors
    /// See [`LockTimeoutError`].
    pub fn read_timeout(&self, timeout: Duration) -> Result<Read<'_, T>, LockTimeoutError<Read<'_, T>>> {
        self.read_within(fiber::deadline_after(timeout))
    }

    /// As [`RwLock::read`], until `deadline` at most.
    ///
    /// # Errors
    /// See [`LockTimeoutError`].
    pub fn read_deadline(&self, deadline: Instant) -> Result<Read<'_, T>, LockTimeoutError<Read<'_, T>>> {
        self.read_within(Some(deadline))
    }

    /// As [`RwLock::write`], for at most `timeout`.
    ///
    /// # Errors
    /// See [`LockTimeoutError`].
    pub fn write_timeout(&self, timeout: Duration) -> Result<Write<'_, T>, LockTimeoutError<Write<'_, T>>> {
        self.write_within(fiber::deadline_after(timeout))
    }

    /// As [`RwLock::write`], until `deadline` at most.
    ///
    /// # Errors
    /// See [`LockTimeoutError`].
    pub fn write_deadline(&self, deadline: Instant) -> Result<Write<'_, T>, LockTimeoutError<Write<'_, T>>> {
        self.write_within(Some(deadline))
    }

    fn lock(&self, mode: Mode, deadline: Option<Instant>) -> Result<(), GaveUp> {
        self.raw
            .lock(mode, &Patience::until(deadline, WaitReason::RwLock))
    }

    fn read_within(&self, deadline: Option<Instant>) -> Result<Read<'_, T>, LockTimeoutError<Read<'_, T>>> {
        self.lock(Mode::Read, deadline).map_err(LockTimeoutError::after)?;
        self.read_guard().map_err(LockTimeoutError::Poisoned)
    }

    fn write_within(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Write<'_, T>, LockTimeoutError<Write<'_, T>>> {
        self.lock(Mode::Write, deadline)
            .map_err(LockTimeoutError::after)?;
        self.write_guard().map_err(LockTimeoutError::Poisoned)
    }

    #[inline]
    fn read_guard(&self) -> Result<Read<'_, T>, Read<'_, T>> {
        let guard = RwLockReadGuard {
            lock: self,
            _not_send: PhantomData,
        };
        self.poison.vet(guard)
    }

    #[inline]
    fn write_guard(&self) -> Result<Write<'_, T>, Write<'_, T>> {
        let guard = RwLockWriteGuard {
            lock: self,
            watch: Watch::start(),
            _not_send: PhantomData,
        };
        self.poison.vet(guard)
    }

    /// Whether a writer has panicked.
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
    /// [`PoisonError`] with the same when a writer has panicked.
    pub fn get_mut(&mut self) -> Result<&mut T, PoisonError<&mut T>> {
        // SAFETY: the borrow of the lock is exclusive.
        let data = self.data.with_mut(|data| unsafe { &mut *data });
        self.poison.vet(data).map_err(PoisonError::new)
    }

    /// The data.
    ///
    /// # Errors
    /// [`PoisonError`] with the same when a writer has panicked.
    pub fn into_inner(self) -> Result<T, PoisonError<T>> {
        self.poison.vet(self.data.into_inner()).map_err(PoisonError::new)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) | Err(TryLockError::Poisoned(guard)) => debug.field("data", &*guard),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.is_poisoned()).finish()
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock for reading, and the guard is borrowed for as long as the reference lives.
        self.lock.data.with(|data| unsafe { &*data })
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock, and the guard is borrowed for as long as the reference lives.
        self.lock.data.with(|data| unsafe { &*data })
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the lock for writing, and the guard is borrowed exclusively for as long as the reference
        // lives.
        self.lock.data.with_mut(|data| unsafe { &mut *data })
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock(Mode::Read);
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.end(self.watch);
        self.lock.raw.unlock(Mode::Write);
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}
