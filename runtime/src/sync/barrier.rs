//! A point that a number of fibers or threads pass together.

use super::error::plain_error;
use super::waiter::{GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters};
use crate::fiber::parker::Parker;
use crate::fiber::{self, WaitReason};
use crate::loom::sync::MutexGuard;
use std::time::{Duration, Instant};

/// The codes a waiter is woken with.
const PASSED: u32 = 0;
const BROKE: u32 = 1;

/// A point that a number of fibers or plain threads pass together, again and again.
///
/// After Python's `threading.Barrier`: one that gives up waiting, by a timeout or a cancellation, breaks the
/// barrier, since the others would wait for it in vain. They all get [`BarrierError::Broken`], and so does whoever
/// comes, until [`Barrier::reset`].
///
/// ```
/// use roving_runtime::Runtime;
/// use roving_runtime::sync::Barrier;
/// use std::sync::Arc;
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let barrier = Arc::new(Barrier::new(2));
/// let fiber = runtime.spawn({
///     let barrier = barrier.clone();
///     move || barrier.wait().unwrap().is_leader()
/// });
/// let here = barrier.wait()?.is_leader();
/// assert_ne!(here, fiber.join()?, "one of them is the leader");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Barrier {
    parties: usize,
    waiters: Waiters<Arrivals>,
}

/// What the lock guards.
struct Arrivals {
    queue: WaitQueue,
    /// The number of the party that is gathering.
    party: u64,
    /// How many of it have come.
    waiting: usize,
    broken: bool,
}

/// What [`Barrier::wait`] says to one that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierPassed {
    index: usize,
    parties: usize,
}

impl BarrierPassed {
    /// How many had come before.
    pub fn index(self) -> usize {
        self.index
    }

    /// Whether this was the last to come: one of each party is.
    pub fn is_leader(self) -> bool {
        self.index + 1 == self.parties
    }
}

plain_error! {
    /// Why [`Barrier::wait`] did not pass.
    BarrierError {
        /// Another gave up waiting, or it was aborted or reset meanwhile.
        Broken => "the barrier is broken: another gave up waiting for it, or it was aborted",
        /// The others did not come in time; the barrier is broken.
        TimedOut => "the others did not reach the barrier in time",
        /// The calling fiber was cancelled while it waited; the barrier is broken.
        Cancelled => "this fiber was cancelled while it waited for a barrier",
    }
}

impl Barrier {
    const_unless_loom! {
        /// A barrier for this many; zero counts as one.
        pub const fn new(parties: usize) -> Self {
            let arrivals = Arrivals { queue: WaitQueue::new(), party: 0, waiting: 0, broken: false };
            Self { parties: if parties == 0 { 1 } else { parties }, waiters: Waiters::new(arrivals) }
        }
    }

    /// Waits until all have come.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub fn wait(&self) -> Result<BarrierPassed, BarrierError> {
        self.wait_within(None)
    }

    /// Waits for at most `timeout` until all have come.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierPassed, BarrierError> {
        self.wait_within(fiber::deadline_after(timeout))
    }

    /// Waits until all have come, until `deadline` at most.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierPassed, BarrierError> {
        self.wait_within(Some(deadline))
    }

    fn wait_within(&self, deadline: Option<Instant>) -> Result<BarrierPassed, BarrierError> {
        let mut arrivals = self.waiters.lock();
        if arrivals.broken {
            return Err(BarrierError::Broken);
        }
        let passed = BarrierPassed {
            index: arrivals.waiting,
            parties: self.parties,
        };
        if passed.is_leader() {
            self.disband(arrivals, PASSED);
            return Ok(passed);
        }
        let parker = Parker::current();
        arrivals.waiting += 1;
        let patience = Patience::until(deadline, WaitReason::Barrier);
        let member = Member {
            barrier: self,
            party: arrivals.party,
        };
        let waited = self
            .waiters
            .wait(arrivals, &parker, (Place::Back, ()), &patience, member);
        match waited {
            Ok(PASSED) => Ok(passed),
            Ok(_broke) => Err(BarrierError::Broken),
            Err(GaveUp::TimedOut) => Err(BarrierError::TimedOut),
            Err(GaveUp::Cancelled) => Err(BarrierError::Cancelled),
        }
    }

    /// Breaks the barrier for those who wait and those who come, until it is reset.
    pub fn abort(&self) {
        self.break_up(self.waiters.lock(), true);
    }

    /// Makes it whole again. Those who wait get [`BarrierError::Broken`].
    pub fn reset(&self) {
        self.break_up(self.waiters.lock(), false);
    }

    fn break_up(&self, mut arrivals: MutexGuard<'_, Arrivals>, broken: bool) {
        arrivals.broken = broken;
        self.disband(arrivals, BROKE);
    }

    /// Lets the party that is gathering go.
    fn disband(&self, mut arrivals: MutexGuard<'_, Arrivals>, code: u32) {
        arrivals.waiting = 0;
        arrivals.party += 1;
        self.waiters
            .wake_all(arrivals, |arrivals| &mut arrivals.queue, |()| code);
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.waiters.lock().broken
    }

    /// How many it takes.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait, at this moment.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().waiting
    }
}

/// One that waits for the rest of its party.
struct Member<'a> {
    barrier: &'a Barrier,
    party: u64,
}

impl Wait<Arrivals> for Member<'_> {
    type Data = ();

    fn queue<'q>(&self, arrivals: &'q mut Arrivals) -> &'q mut WaitQueue {
        &mut arrivals.queue
    }

    /// Of a party that was let go, all members hear of it, those too whose wakes are still to come.
    fn may_leave(&self, arrivals: &Arrivals) -> bool {
        arrivals.party == self.party
    }

    fn left(self, arrivals: MutexGuard<'_, Arrivals>) {
        self.barrier.break_up(arrivals, true);
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arrivals = self.waiters.lock();
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &arrivals.waiting)
            .field("broken", &arrivals.broken)
            .finish_non_exhaustive()
    }
}
