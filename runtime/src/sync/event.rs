//! A flag that can be waited for.

use super::waiter::{GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters};
use crate::fiber::parker::Parker;
use crate::fiber::{self, Cancelled, WaitReason};
use crate::loom::sync::MutexGuard;
use crate::loom::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The one code: it was set.
const WAS_SET: u32 = 0;

/// The flag. Changed under the queue's lock, read without.
struct Flag(AtomicBool);

impl Flag {
    #[inline]
    fn is_up(&self) -> bool {
        // Acquire pairs with the release of `transition_to_up`: what came before the event is seen after it.
        self.0.load(Ordering::Acquire)
    }

    fn transition_to_up(&self) {
        // Release: as above.
        self.0.store(true, Ordering::Release);
    }

    fn transition_to_down(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A flag that fibers and plain threads wait for.
///
/// Setting it wakes everyone who waits at that moment, even if it is cleared right after, and lets later ones
/// pass until it is cleared.
///
/// ```
/// use roving_runtime::Runtime;
/// use roving_runtime::sync::Event;
/// use std::sync::Arc;
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let started = Arc::new(Event::new());
/// let fiber = runtime.spawn({
///     let started = started.clone();
///     move || started.set()
/// });
/// started.wait()?;
/// fiber.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Event {
    flag: Flag,
    waiters: Waiters<WaitQueue>,
}

impl Event {
    const_unless_loom! {
        /// An event that is not set.
        pub const fn new() -> Self {
            Self { flag: Flag(AtomicBool::new(false)), waiters: Waiters::new(WaitQueue::new()) }
        }
    }

    /// Sets it, and wakes all that wait for it.
    pub fn set(&self) {
        let queue = self.waiters.lock();
        self.flag.transition_to_up();
        self.waiters.wake_all(queue, |queue| queue, |()| WAS_SET);
    }

    /// Clears it: who waits from now on waits for the next `set`.
    pub fn clear(&self) {
        let _queue = self.waiters.lock();
        self.flag.transition_to_down();
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.flag.is_up()
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    #[inline]
    pub fn wait(&self) -> Result<(), Cancelled> {
        self.wait_within(None).map(|_| ())
    }

    /// Waits for at most `timeout`; true when it was set.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Cancelled> {
        self.wait_within(fiber::deadline_after(timeout))
    }

    /// Waits until `deadline` at most; true when it was set.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    pub fn wait_deadline(&self, deadline: Instant) -> Result<bool, Cancelled> {
        self.wait_within(Some(deadline))
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    fn wait_within(&self, deadline: Option<Instant>) -> Result<bool, Cancelled> {
        if self.flag.is_up() {
            return Ok(true);
        }
        let parker = Parker::current();
        let queue = self.waiters.lock();
        if self.flag.is_up() {
            return Ok(true);
        }
        let patience = Patience::until(deadline, WaitReason::Event);
        match self
            .waiters
            .wait(queue, &parker, (Place::Back, ()), &patience, self)
        {
            Ok(_was_set) => Ok(true),
            Err(GaveUp::TimedOut) => Ok(false),
            Err(GaveUp::Cancelled) => Err(Cancelled),
        }
    }
}

impl Wait<WaitQueue> for &Event {
    type Data = ();

    fn queue<'q>(&self, queue: &'q mut WaitQueue) -> &'q mut WaitQueue {
        queue
    }

    fn left(self, _: MutexGuard<'_, WaitQueue>) {}
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .finish_non_exhaustive()
    }
}
