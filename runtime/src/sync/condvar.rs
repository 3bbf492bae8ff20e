//! Waiting for a change of what a mutex guards.

use super::mutex::MutexGuard;
use super::waiter::{Choice, GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters};
use crate::fiber::parker::Parker;
use crate::fiber::{self, WaitReason};
use crate::loom::sync;
use std::time::{Duration, Instant};

/// The one code: notified.
const NOTIFIED: u32 = 0;

/// Waiting for a change of what a [`Mutex`](super::Mutex) guards, of fibers and plain threads.
///
/// A wait ends by a notification, a timeout or a cancellation, and takes the mutex again before it returns,
/// whatever it was: that second wait cannot be cancelled, so the guard always comes back. A notification wakes
/// one that waits when it is made; one that gave up does not use a notification up. There are no spurious
/// wake-ups, but others may come between the notification and the return: wait in a loop, or with
/// [`Condvar::wait_while`].
///
/// ```
/// use roving_runtime::Runtime;
/// use roving_runtime::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let shared = Arc::new((Mutex::new(false), Condvar::new()));
/// let fiber = runtime.spawn({
///     let shared = shared.clone();
///     move || {
///         let (ready, changed) = &*shared;
///         let guard = ready.lock().unwrap();
///         *changed.wait_while(guard, |ready| !*ready).unwrap()
///     }
/// });
/// *shared.0.lock().unwrap() = true;
/// shared.1.notify_all();
/// assert!(fiber.join()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Condvar {
    waiters: Waiters<WaitQueue>,
}

/// Why a wait of a [`Condvar`] ended otherwise than by its notification or timeout. The mutex is held.
pub enum ConditionError<G> {
    /// A fiber or thread panicked while it held the mutex.
    Poisoned(G),
    /// The calling fiber was cancelled while it waited.
    Cancelled(G),
}

impl<G> ConditionError<G> {
    /// The guard.
    pub fn into_guard(self) -> G {
        match self {
            ConditionError::Poisoned(guard) | ConditionError::Cancelled(guard) => guard,
        }
    }
}

impl<G> std::fmt::Debug for ConditionError<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ConditionError::Poisoned(_) => "Poisoned(..)",
            ConditionError::Cancelled(_) => "Cancelled(..)",
        })
    }
}

impl<G> std::fmt::Display for ConditionError<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ConditionError::Poisoned(_) => "a fiber or thread panicked while it held the condition's mutex",
            ConditionError::Cancelled(_) => "this fiber was cancelled while it waited for a condition",
        })
    }
}

impl<G> std::error::Error for ConditionError<G> {}

type Waited<'a, T> = Result<MutexGuard<'a, T>, ConditionError<MutexGuard<'a, T>>>;
type WaitedFor<'a, T> = Result<(MutexGuard<'a, T>, bool), ConditionError<MutexGuard<'a, T>>>;

impl Condvar {
    const_unless_loom! {
        /// A condition nobody waits for.
        pub const fn new() -> Self {
            Self { waiters: Waiters::new(WaitQueue::new()) }
        }
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    ///
    /// # Errors
    /// See [`ConditionError`]. When it is both, it is poisoned; the cancellation shows at the next wait.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> Waited<'a, T> {
        self.wait_within(guard, None).map(|(guard, _)| guard)
    }

    /// As [`Condvar::wait`], for at most `timeout`; true when the notification came.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> WaitedFor<'a, T> {
        self.wait_within(guard, fiber::deadline_after(timeout))
    }

    /// As [`Condvar::wait`], until `deadline` at most; true when the notification came.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_deadline<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Instant) -> WaitedFor<'a, T> {
        self.wait_within(guard, Some(deadline))
    }

    /// Waits until `condition` is false.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Waited<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits until `condition` is false, for at most `timeout`; false when it still was true then.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> WaitedFor<'a, T> {
        let deadline = fiber::deadline_after(timeout);
        let mut notified = true;
        while condition(&mut guard) {
            if !notified {
                return Ok((guard, false));
            }
            (guard, notified) = self.wait_within(guard, deadline)?;
        }
        Ok((guard, true))
    }

    fn wait_within<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> WaitedFor<'a, T> {
        let parker = Parker::current();
        let mutex = guard.mutex();
        let mut guard = Some(guard);
        let patience = Patience::until(deadline, WaitReason::Condvar);
        let wait = OnceQueued(&mut guard);
        let waited = self
            .waiters
            .wait(self.waiters.lock(), &parker, (Place::Back, ()), &patience, wait);
        let guard = match guard {
            // There was no patience to begin with.
            Some(guard) => guard,
            None => {
                mutex.raw.lock_uncancellable();
                mutex.guard().map_err(ConditionError::Poisoned)?
            }
        };
        match waited {
            Ok(_notified) => Ok((guard, true)),
            Err(GaveUp::TimedOut) => Ok((guard, false)),
            Err(GaveUp::Cancelled) => Err(ConditionError::Cancelled(guard)),
        }
    }

    /// Wakes the one that has waited longest, if any does; true if so.
    pub fn notify_one(&self) -> bool {
        let mut queue = self.waiters.lock();
        let wake = queue.choose(|()| Some(NOTIFIED)).map(Choice::wake);
        drop(queue);
        match wake {
            Some(wake) => {
                wake.finish();
                true
            }
            None => false,
        }
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        self.waiters
            .wake_all(self.waiters.lock(), |queue| queue, |()| NOTIFIED);
    }
}

/// Queued first, then unlocked: whoever changes the data under the mutex, and notifies then, finds us.
struct OnceQueued<'g, 'a, T>(&'g mut Option<MutexGuard<'a, T>>);

impl<T> Wait<WaitQueue> for OnceQueued<'_, '_, T> {
    type Data = ();

    fn queue<'q>(&self, queue: &'q mut WaitQueue) -> &'q mut WaitQueue {
        queue
    }

    fn unlocked(&mut self) {
        drop(self.0.take());
    }

    fn left(self, _: sync::MutexGuard<'_, WaitQueue>) {}
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Condvar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
