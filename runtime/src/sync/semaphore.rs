//! A number of permits, handed out first come first served.

use super::error::plain_error;
use super::permits::{Permits, ToAdded, ToTaken};
use super::waiter::{GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters, Wakes};
use crate::fiber::parker::Parker;
use crate::fiber::{self, WaitReason};
use crate::loom::sync::MutexGuard;
use std::time::{Duration, Instant};

/// The codes a waiter is woken with.
const GRANTED: u32 = 0;
const SHUT: u32 = 1;

/// A number of permits, for fibers and plain threads.
///
/// Strictly first come first served: who wants many is not overtaken by those who want few, so nobody starves.
///
/// ```
/// use roving_runtime::sync::Semaphore;
///
/// let connections = Semaphore::new(2);
/// let one = connections.acquire()?;
/// let other = connections.acquire()?;
/// assert!(connections.try_acquire().is_err());
/// drop(one);
/// assert_eq!(connections.available_permits(), 1);
/// # drop(other);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Semaphore {
    permits: Permits,
    waiters: Waiters<WaitQueue<usize>>,
}

/// Permits of a [`Semaphore`], given back when dropped.
#[must_use = "the permits are given back at once if this is not kept"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

plain_error! {
    /// Why [`Semaphore::acquire`] gave no permit.
    AcquireError {
        /// The semaphore is closed.
        Closed => CLOSED_TEXT,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED_TEXT,
    }
}

plain_error! {
    /// Why [`Semaphore::acquire_timeout`] gave no permit.
    AcquireTimeoutError {
        /// There were not enough permits in time.
        TimedOut => "the semaphore had too few permits for too long",
        /// The semaphore is closed.
        Closed => CLOSED_TEXT,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED_TEXT,
    }
}

plain_error! {
    /// Why [`Semaphore::try_acquire`] gave no permit.
    TryAcquireError {
        /// There are too few permits, or others wait for them.
        NoPermits => "the semaphore has too few permits at present",
        /// The semaphore is closed.
        Closed => CLOSED_TEXT,
    }
}

const CLOSED_TEXT: &str = "the semaphore is closed";
const CANCELLED_TEXT: &str = "this fiber was cancelled while it waited for a semaphore";

/// How a wait for permits ended without them.
enum Refused {
    Closed,
    GaveUp(GaveUp),
}

impl Semaphore {
    /// The most permits one can have.
    pub const MAX_PERMITS: usize = Permits::MAX;

    const_unless_loom! {
        /// A semaphore with this many permits; at most [`Semaphore::MAX_PERMITS`].
        ///
        /// # Panics
        /// When there are more.
        pub const fn new(permits: usize) -> Self {
            Self { permits: Permits::new(permits), waiters: Waiters::new(WaitQueue::new()) }
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// See [`AcquireError`].
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Waits for this many permits, and takes them all at once. More than there ever are: waits for ever, until
    /// cancelled or closed.
    ///
    /// # Errors
    /// See [`AcquireError`].
    #[inline]
    pub fn acquire_many(&self, permits: usize) -> Result<Permit<'_>, AcquireError> {
        self.acquire_within(permits, None)
            .map_err(|refused| match refused {
                Refused::Closed => AcquireError::Closed,
                Refused::GaveUp(GaveUp::Cancelled) => AcquireError::Cancelled,
                Refused::GaveUp(GaveUp::TimedOut) => {
                    unreachable!("a wait without a deadline does not time out")
                }
            })
    }

    /// Takes this many permits if they are there and nobody waits for them.
    ///
    /// # Errors
    /// See [`TryAcquireError`].
    #[inline]
    pub fn try_acquire_many(&self, permits: usize) -> Result<Permit<'_>, TryAcquireError> {
        match self.permits.transition_to_taken(permits) {
            ToTaken::Taken => Ok(Permit {
                semaphore: self,
                permits,
            }),
            ToTaken::MustWait => Err(TryAcquireError::NoPermits),
            ToTaken::Closed => Err(TryAcquireError::Closed),
        }
    }

    /// Takes a permit if there is one and nobody waits for it.
    ///
    /// # Errors
    /// See [`TryAcquireError`].
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Waits for a permit for at most `timeout`.
    ///
    /// # Errors
    /// See [`AcquireTimeoutError`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(1, fiber::deadline_after(timeout))
    }

    /// Waits for a permit until `deadline` at most.
    ///
    /// # Errors
    /// See [`AcquireTimeoutError`].
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(1, Some(deadline))
    }

    /// As [`Semaphore::acquire_many`], for at most `timeout`.
    ///
    /// # Errors
    /// See [`AcquireTimeoutError`].
    pub fn acquire_many_timeout(
        &self,
        permits: usize,
        timeout: Duration,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(permits, fiber::deadline_after(timeout))
    }

    /// As [`Semaphore::acquire_many`], until `deadline` at most.
    ///
    /// # Errors
    /// See [`AcquireTimeoutError`].
    pub fn acquire_many_deadline(
        &self,
        permits: usize,
        deadline: Instant,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(permits, Some(deadline))
    }

    fn acquire_until(
        &self,
        permits: usize,
        deadline: Option<Instant>,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_within(permits, deadline)
            .map_err(|refused| match refused {
                Refused::Closed => AcquireTimeoutError::Closed,
                Refused::GaveUp(GaveUp::Cancelled) => AcquireTimeoutError::Cancelled,
                Refused::GaveUp(GaveUp::TimedOut) => AcquireTimeoutError::TimedOut,
            })
    }

    #[inline]
    fn acquire_within(&self, permits: usize, deadline: Option<Instant>) -> Result<Permit<'_>, Refused> {
        match self.permits.transition_to_taken(permits) {
            ToTaken::Taken => Ok(Permit {
                semaphore: self,
                permits,
            }),
            ToTaken::Closed => Err(Refused::Closed),
            ToTaken::MustWait => self.acquire_slow(permits, deadline),
        }
    }

    #[cold]
    fn acquire_slow(&self, permits: usize, deadline: Option<Instant>) -> Result<Permit<'_>, Refused> {
        let parker = Parker::current();
        let queue = self.waiters.lock();
        match self.permits.transition_to_taken_or_queued(permits) {
            ToTaken::Taken => {
                return Ok(Permit {
                    semaphore: self,
                    permits,
                });
            }
            ToTaken::Closed => return Err(Refused::Closed),
            ToTaken::MustWait => {}
        }
        let patience = Patience::until(deadline, WaitReason::Semaphore);
        match self
            .waiters
            .wait(queue, &parker, (Place::Back, permits), &patience, self)
        {
            Ok(GRANTED) => Ok(Permit {
                semaphore: self,
                permits,
            }),
            Ok(_shut) => Err(Refused::Closed),
            Err(gave_up) => Err(Refused::GaveUp(gave_up)),
        }
    }

    /// Adds permits, and hands them to those who wait.
    ///
    /// # Panics
    /// When there would be more than [`Semaphore::MAX_PERMITS`].
    #[inline]
    pub fn add_permits(&self, permits: usize) {
        if self.permits.transition_to_added(permits) == ToAdded::MustGrant {
            self.grant(self.waiters.lock());
        }
    }

    /// Refuses permits from now on: who waits for one, and who asks later, gets an error. Permits that are out
    /// stay good. True for the call that closed it.
    pub fn close(&self) -> bool {
        let queue = self.waiters.lock();
        let first = self.permits.transition_to_closed();
        self.waiters.wake_all(queue, |queue| queue, |_| SHUT);
        first
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// How many permits are left, at this moment.
    pub fn available_permits(&self) -> usize {
        self.permits.left()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Hands permits to the first waiters, as far as they go.
    fn grant(&self, queue: MutexGuard<'_, WaitQueue<usize>>) {
        let mut wakes = Wakes::new();
        self.grant_batch(queue, &mut wakes);
        while wakes.finish() {
            self.grant_batch(self.waiters.lock(), &mut wakes);
        }
    }

    fn grant_batch(&self, mut queue: MutexGuard<'_, WaitQueue<usize>>, wakes: &mut Wakes) {
        while !wakes.is_full()
            && let Some(there) = self.permits.grantable()
        {
            let mut taken = 0;
            let choice = queue.choose(|permits| {
                taken = *permits;
                (*permits <= there).then_some(GRANTED)
            });
            let Some(choice) = choice else { break };
            self.permits.transition_to_granted(taken);
            wakes.push(choice.wake());
        }
        if queue.is_empty() {
            self.permits.transition_to_unqueued();
        }
    }
}

impl Wait<WaitQueue<usize>> for &Semaphore {
    type Data = usize;

    fn queue<'q>(&self, queue: &'q mut WaitQueue<usize>) -> &'q mut WaitQueue<usize> {
        queue
    }

    /// One that gives up may have kept those behind it, who want less, waiting for nothing.
    fn left(self, queue: MutexGuard<'_, WaitQueue<usize>>) {
        self.grant(queue);
    }
}

impl Permit<'_> {
    /// How many permits it stands for.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// Keeps the permits out of the semaphore for good, or until [`Semaphore::add_permits`].
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.add_permits(self.permits);
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
