//! Blocking and waking, for fibers, plain threads and futures alike.
//!
//! A [`Parker`] is the ability of whoever runs here to block; an [`Unparker`] the ability to end that.
//! Wakes come in two steps: `begin` decides who must be woken, and is done while the lock that names
//! the waiter is held; [`Wake::finish`] does the work, after that lock is released. Between the two a
//! fiber cannot run, so it cannot end, and a raw pointer to it is enough.

use super::core::{Core, FiberRef, WaitReason};
use super::current;
use super::state::{ToParked, ToReady};
use super::{Directive, TimerId};
use crate::loom::futex::Gate;
use crate::loom::sync::Arc;
use crate::loom::sync::atomic::{AtomicU32, Ordering};
use std::ptr::NonNull;
use std::task::Waker;
use std::time::Instant;

/// How a park ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Somebody unparked us, or nobody did: look at what you wait for again.
    Woken,
    /// The deadline passed.
    TimedOut,
}

/// When a woken fiber of this worker goes on.
#[derive(Clone, Copy)]
enum Turn {
    /// After those that are ready already.
    InOrder,
    /// Once the current fiber has left.
    Next,
}

/// The ability to block.
pub(crate) enum Parker {
    Fiber(NonNull<Core>),
    Thread(Arc<ThreadParker>),
}

/// The ability to wake a waiter, once. A `Fiber` one is only valid while the waiter is bound to wait
/// for it: see [`super::wait_list::WaitNode`].
pub(crate) enum Unparker {
    Fiber(NonNull<Core>),
    Thread(Arc<ThreadParker>),
    Future(Waker),
}

// SAFETY: the pointer is only used through `begin`, under the lock that keeps the fiber waiting.
unsafe impl Send for Unparker {}

/// A wake that has been decided and not yet carried out.
#[must_use = "a wake that is not finished is lost"]
pub(crate) enum Wake {
    Nothing,
    Fiber(FiberRef),
    Thread(Arc<ThreadParker>),
    Future(Waker),
}

impl Parker {
    /// The ability to block of the fiber or plain thread that runs here.
    ///
    /// # Panics
    /// On a worker's base stack (inside a stackless future): blocking there would stop every fiber of
    /// that worker.
    #[inline]
    pub(crate) fn current() -> Self {
        match current::fiber() {
            Some(core) => Parker::Fiber(core),
            None => Self::of_thread(),
        }
    }

    fn of_thread() -> Self {
        assert!(
            !current::is_worker(),
            "roving: a stackless future tried to block its worker: await instead, or do it in a fiber"
        );
        Parker::Thread(THREAD.with(Arc::clone))
    }

    #[inline]
    pub(crate) fn unparker(&self) -> Unparker {
        match self {
            Parker::Fiber(core) => Unparker::Fiber(*core),
            Parker::Thread(parker) => Unparker::Thread(parker.clone()),
        }
    }

    /// Blocks until unparked or until `deadline`. May return early; an unpark that comes before the
    /// park makes it return at once.
    #[inline]
    pub(crate) fn park(&self, deadline: Option<Instant>, reason: WaitReason) -> Parked {
        match self {
            Parker::Fiber(core) => park_fiber(*core, deadline, reason),
            Parker::Thread(parker) => parker.park(deadline),
        }
    }

    /// Whether the fiber that runs here has been cancelled and is not shielded. False on threads.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Parker::Fiber(core) => {
                // SAFETY: the running fiber is alive.
                let core = unsafe { core.as_ref() };
                // SAFETY: this is the home worker's thread.
                core.state.load().is_cancelled() && unsafe { core.with_owned(|owned| owned.shielded == 0) }
            }
            Parker::Thread(_) => false,
        }
    }
}

#[inline]
fn park_fiber(core: NonNull<Core>, deadline: Option<Instant>, reason: WaitReason) -> Parked {
    // SAFETY: the running fiber is alive.
    let core_ref = unsafe { core.as_ref() };
    current::prepare_suspension(core);
    let timer: Option<TimerId> = deadline.map(|at| {
        // SAFETY: this is the fiber itself, after `prepare_suspension`.
        let home = unsafe { core_ref.home() };
        home.arm(at, Unparker::Fiber(core))
    });
    core_ref.set_reason(reason);
    if core_ref.state.transition_to_parked() == ToParked::Parked {
        // SAFETY: we are on the fiber's stack, its state is PARKED, and it has a home.
        unsafe { current::switch_out(core, Directive::Park) };
    }
    core_ref.set_reason(WaitReason::None);
    match timer {
        None => Parked::Woken,
        Some(timer) => {
            // SAFETY: this is the fiber itself, after `prepare_suspension`.
            let home = unsafe { core_ref.home() };
            // A timer that is gone has fired, and has done with our pointer: it is used under the
            // lock of the timer queue, which `disarm` takes.
            if home.disarm(timer) {
                Parked::Woken
            } else {
                Parked::TimedOut
            }
        }
    }
}

impl Unparker {
    /// Whether the waiter is a fiber that will never run again, having been abandoned where it waits. The
    /// caller must hold the lock that keeps it waiting.
    #[inline]
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            // SAFETY: the waiter cannot leave before the lock the caller holds is released.
            Unparker::Fiber(core) => unsafe { core.as_ref() }.state.load().is_done(),
            Unparker::Thread(_) | Unparker::Future(_) => false,
        }
    }

    /// Asks the cache for what [`Unparker::begin`] will need.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let Unparker::Fiber(core) = self {
            crate::context::prefetch(core.as_ptr().cast(), 1);
        }
    }

    /// Decides the wake. For a fiber, the caller must hold the lock that keeps it waiting.
    #[inline]
    pub(crate) fn begin(self) -> Wake {
        match self {
            Unparker::Fiber(core) => {
                // SAFETY: the waiter cannot leave before the lock the caller holds is released.
                let state = unsafe { &core.as_ref().state };
                match state.transition_to_ready() {
                    // SAFETY: PARKED to ACTIVE hands us the scheduler's count.
                    ToReady::Schedule => Wake::Fiber(unsafe { FiberRef::from_raw(core) }),
                    ToReady::Noted => Wake::Nothing,
                }
            }
            Unparker::Thread(parker) => Wake::Thread(parker),
            Unparker::Future(waker) => Wake::Future(waker),
        }
    }
}

impl Wake {
    /// Carries the wake out. Call it with no lock held.
    #[inline]
    pub(crate) fn finish(self) {
        match self {
            Wake::Nothing => {}
            Wake::Fiber(fiber) => schedule(fiber, Turn::InOrder),
            Wake::Thread(parker) => parker.unpark(),
            Wake::Future(waker) => waker.wake(),
        }
    }

    /// As [`Wake::finish`], for one that waited for the calling fiber's end: on the same worker it goes on
    /// right away, so that fork and join run depth first.
    pub(super) fn finish_joiner(self) {
        match self {
            Wake::Fiber(fiber) => schedule(fiber, Turn::Next),
            other => other.finish(),
        }
    }
}

/// Unparks a fiber the caller has a counted reference to.
#[inline]
pub(crate) fn unpark(fiber: &FiberRef) {
    match fiber.state.transition_to_ready() {
        // SAFETY: PARKED to ACTIVE hands us the scheduler's count.
        ToReady::Schedule => schedule(unsafe { FiberRef::from_raw(fiber.as_ptr()) }, Turn::InOrder),
        ToReady::Noted => {}
    }
}

#[inline]
fn schedule(fiber: FiberRef, turn: Turn) {
    let core = fiber.as_ptr();
    // SAFETY: our reference, which the queue gets in the end, keeps it alive until then.
    let core = unsafe { core.as_ref() };
    // SAFETY: we moved it from PARKED to ACTIVE and have not scheduled it.
    let home = unsafe { core.home() };
    if current::is_home(home) {
        match turn {
            Turn::InOrder => home.schedule_here(fiber),
            Turn::Next => home.resume_next(fiber),
        }
    } else {
        // Once queued, the fiber may run, end, and with it the runtime, before `schedule_from_afar` has
        // returned: our own count keeps the home in being until then.
        home.clone().schedule_from_afar(fiber);
    }
}

const EMPTY: u32 = 0;
const PARKED: u32 = 1;
const NOTIFIED: u32 = 2;

crate::loom::thread_local! {
    static THREAD: Arc<ThreadParker> = Arc::new(ThreadParker::new());
}

/// A plain thread's ability to block: a token, and a place to sleep while there is none.
/// After parking in rust's standard library (`library/std/src/sys/sync/thread_parking/futex.rs`), which goes on
/// sleeping after a signal; here that ends a park early, so that an embedder may look what the signal was.
#[derive(Debug)]
pub(crate) struct ThreadParker {
    state: AtomicU32,
    gate: Gate,
}

impl ThreadParker {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU32::new(EMPTY),
            gate: Gate::new(),
        }
    }

    pub(crate) fn park(&self, deadline: Option<Instant>) -> Parked {
        if self.take_token() {
            return Parked::Woken;
        }
        if self
            .state
            .compare_exchange(EMPTY, PARKED, Ordering::Acquire, Ordering::Acquire)
            .is_err()
        {
            // Notified since we looked. Swap, not store: it must read the unparker's release.
            self.state.swap(EMPTY, Ordering::Acquire);
            return Parked::Woken;
        }
        // An unpark that comes before the sleep has changed the word: then there is no sleep.
        let timed_out = self.gate.wait(&self.state, PARKED, deadline);
        match self.state.swap(EMPTY, Ordering::Acquire) {
            NOTIFIED => Parked::Woken,
            _ if timed_out => Parked::TimedOut,
            // A signal, or nothing at all.
            _ => Parked::Woken,
        }
    }

    fn take_token(&self) -> bool {
        self.state
            .compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn unpark(&self) {
        // Release pairs with the acquire of the park that reads NOTIFIED.
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED {
            self.gate.wake_one(&self.state);
        }
    }
}

/// A plain thread, known by reference: it can be woken where it waits.
///
/// ```
/// use roving_runtime::{PlainThread, park};
///
/// let here = PlainThread::current();
/// std::thread::spawn(move || here.unpark());
/// park()?; // until then, or until a signal handler has run on this thread
/// # Ok::<(), roving_runtime::Cancelled>(())
/// ```
#[derive(Clone, Debug)]
pub struct PlainThread(Arc<ThreadParker>);

/// Two are equal if they are the same thread.
impl PartialEq for PlainThread {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PlainThread {}

impl PlainThread {
    /// The thread that runs here.
    ///
    /// # Panics
    /// On a worker: there it is the fiber that waits.
    pub fn current() -> Self {
        match Parker::of_thread() {
            Parker::Thread(parker) => Self(parker),
            Parker::Fiber(_) => unreachable!("a thread is none"),
        }
    }

    /// Makes its current or next [`park`](crate::park) return, and likewise `JoinHandle::wait_interruptible` and
    /// `Handle::wait_idle`. Waits that must have what they wait for go on.
    pub fn unpark(&self) {
        self.0.unpark();
    }
}
