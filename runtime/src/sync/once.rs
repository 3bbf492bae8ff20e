//! Something that is done once.

use super::error::plain_error;
use super::waiter::{Choice, GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters};
use crate::fiber::parker::Parker;
use crate::fiber::{WaitReason, current};
use crate::loom::sync::MutexGuard;
use crate::loom::sync::atomic::{AtomicU32, Ordering};

const UNTOUCHED: u32 = 0;
const RUNNING: u32 = 1;
const DONE: u32 = 2;

/// The codes a waiter is woken with.
const IS_DONE: u32 = 0;
const TRY_IT: u32 = 1;

/// How far it has come: UNTOUCHED, RUNNING (back to UNTOUCHED if it fails), DONE for good. Changed under the
/// queue's lock, read without.
struct Progress(AtomicU32);

impl Progress {
    #[inline]
    fn is_done(&self) -> bool {
        // Acquire pairs with the release of `transition_to_done`: who sees DONE sees what was done.
        self.0.load(Ordering::Acquire) == DONE
    }

    /// UNTOUCHED to RUNNING; false when it was not untouched. Under the lock.
    fn transition_to_running(&self) -> bool {
        // Relaxed: the lock orders all but DONE.
        let untouched = self.0.load(Ordering::Relaxed) == UNTOUCHED;
        if untouched {
            self.0.store(RUNNING, Ordering::Relaxed);
        }
        untouched
    }

    /// RUNNING to UNTOUCHED. Under the lock.
    fn transition_to_untouched(&self) {
        self.0.store(UNTOUCHED, Ordering::Relaxed);
    }

    /// RUNNING to DONE. Under the lock.
    fn transition_to_done(&self) {
        // Release: see `is_done`.
        self.0.store(DONE, Ordering::Release);
    }
}

/// Something that is done once, by whoever comes first; others wait until it is done.
///
/// ```
/// use roving_runtime::sync::Once;
///
/// static SETUP: Once = Once::new();
/// let mut runs = 0;
/// SETUP.call_once(|| runs += 1)?;
/// SETUP.call_once(|| runs += 1)?;
/// assert_eq!(runs, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Once {
    progress: Progress,
    waiters: Waiters<Attempt>,
}

/// What the lock guards.
struct Attempt {
    queue: WaitQueue,
    /// Who runs it, while it is running.
    runner: Option<Runner>,
}

/// A fiber, or a thread outside fibers, by an address that is its own while it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Runner(usize);

crate::loom::thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom's thread-locals have no const form")]
    static THREAD: u8 = 0;
}

impl Runner {
    fn current() -> Self {
        match current::fiber() {
            Some(core) => Self(core.as_ptr().addr()),
            None => Self(THREAD.with(|here| std::ptr::from_ref(here).addr())),
        }
    }
}

plain_error! {
    /// Why [`Once::call_once`] returned without its being done.
    OnceError {
        /// The calling fiber was cancelled while it waited for another.
        Cancelled => "this fiber was cancelled while it waited for an initialisation",
        /// The fiber or thread that does it asked for it to be done: it would wait for itself.
        Reentrant => "an initialisation depends on itself",
    }
}

impl Once {
    const_unless_loom! {
        /// Not done yet.
        pub const fn new() -> Self {
            let attempt = Attempt { queue: WaitQueue::new(), runner: None };
            Self { progress: Progress(AtomicU32::new(UNTOUCHED)), waiters: Waiters::new(attempt) }
        }
    }

    /// Calls `f` if that has not been done, and returns when it has. If `f` panics it has not been done, and one that
    /// waits calls its own.
    ///
    /// # Errors
    /// See [`OnceError`].
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) -> Result<(), OnceError> {
        self.try_call_once(|| {
            f();
            true
        })
    }

    /// As above, for an `f` that says whether it has been done; if not, the next one may try, and this one is content.
    #[inline]
    pub(super) fn try_call_once(&self, f: impl FnOnce() -> bool) -> Result<(), OnceError> {
        if self.progress.is_done() {
            Ok(())
        } else {
            self.call_slow(f)
        }
    }

    #[cold]
    fn call_slow(&self, f: impl FnOnce() -> bool) -> Result<(), OnceError> {
        loop {
            let mut attempt = self.waiters.lock();
            if self.progress.is_done() {
                return Ok(());
            }
            if self.progress.transition_to_running() {
                attempt.runner = Some(Runner::current());
                drop(attempt);
                let mut running = Running {
                    once: self,
                    done: false,
                };
                running.done = f();
                return Ok(());
            }
            if attempt.runner == Some(Runner::current()) {
                return Err(OnceError::Reentrant);
            }
            let parker = Parker::current();
            let patience = Patience::until(None, WaitReason::Once);
            match self
                .waiters
                .wait(attempt, &parker, (Place::Back, ()), &patience, self)
            {
                Ok(IS_DONE) => return Ok(()),
                Ok(_try_it) => {}
                Err(GaveUp::Cancelled) => return Err(OnceError::Cancelled),
                Err(GaveUp::TimedOut) => unreachable!("a wait without a deadline does not time out"),
            }
        }
    }

    /// Whether it has been done.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.progress.is_done()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiters.lock().queue.len()
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.waiters.lock().runner.is_some()
    }
}

impl Wait<Attempt> for &Once {
    type Data = ();

    fn queue<'q>(&self, attempt: &'q mut Attempt) -> &'q mut WaitQueue {
        &mut attempt.queue
    }

    fn left(self, _: MutexGuard<'_, Attempt>) {}
}

/// Ends an attempt, by a panic too.
struct Running<'a> {
    once: &'a Once,
    done: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Once { progress, waiters } = self.once;
        let mut attempt = waiters.lock();
        attempt.runner = None;
        if self.done {
            progress.transition_to_done();
            waiters.wake_all(attempt, |attempt| &mut attempt.queue, |()| IS_DONE);
            return;
        }
        progress.transition_to_untouched();
        // One is enough: it tries, or finds that another tries, who will wake the next.
        let wake = attempt.queue.choose(|()| Some(TRY_IT)).map(Choice::wake);
        drop(attempt);
        if let Some(wake) = wake {
            wake.finish();
        }
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once")
            .field("completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}
