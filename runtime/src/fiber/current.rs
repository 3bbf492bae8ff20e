//! Which fiber runs on this thread, and how it leaves its stack.
//!
//! A fiber never changes thread, so an address into these thread-locals stays right across a switch.

use super::core::{Core, FiberRef};
use super::{Directive, Home};
use crate::context::Suspender;
use crate::loom::sync::Arc;
use std::cell::Cell;
use std::ptr::NonNull;

/// What the embedder does on a fiber's own stack each time it is back on it.
pub(crate) type ResumedHook = fn(NonNull<Core>);

struct Current {
    fiber: Cell<Option<NonNull<Core>>>,
    /// Set on a worker's thread while its loop runs.
    home: Cell<Option<NonNull<Arc<dyn Home>>>>,
    resumed: Cell<Option<ResumedHook>>,
    /// How many fibers of this thread are parked in the middle of unwinding.
    parked_unwinding: Cell<u32>,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            fiber: Cell::new(None),
            home: Cell::new(None),
            resumed: Cell::new(None),
            parked_unwinding: Cell::new(0),
        }
    };
}

/// The fiber that runs on this thread.
#[inline]
pub(crate) fn fiber() -> Option<NonNull<Core>> {
    CURRENT.with(|current| current.fiber.get())
}

/// A counted reference to the fiber that runs on this thread.
pub(crate) fn fiber_ref() -> Option<FiberRef> {
    let core = fiber()?;
    // SAFETY: the running fiber is alive through its scheduler reference, which is forgotten here and
    // kept by the worker.
    let borrowed = std::mem::ManuallyDrop::new(unsafe { FiberRef::from_raw(core) });
    Some((*borrowed).clone())
}

/// Whether this thread is a worker (its base stack included).
pub(crate) fn is_worker() -> bool {
    CURRENT.with(|current| current.home.get().is_some())
}

/// Calls `f` with this worker's home.
///
/// # Panics
/// On a thread that is no worker.
pub(super) fn with_home<R>(f: impl FnOnce(&Arc<dyn Home>) -> R) -> R {
    let home = CURRENT
        .with(|current| current.home.get())
        .expect("called on a worker");
    // SAFETY: `WorkerMark` borrows the Arc for as long as the mark is set, and the mark outlives every
    // call made by this worker's loop and its fibers.
    f(unsafe { home.as_ref() })
}

/// Whether `home` is this thread's.
#[inline]
pub(super) fn is_home(home: &Arc<dyn Home>) -> bool {
    CURRENT.with(|current| current.home.get()).is_some_and(|ours| {
        // SAFETY: as in `with_home`.
        let ours = unsafe { ours.as_ref() };
        std::ptr::addr_eq(Arc::as_ptr(ours), Arc::as_ptr(home))
    })
}

/// Whether the current fiber is unwinding, as far as it can be told: the standard library counts
/// panics by thread, so while a neighbour is parked in the middle of its own unwinding the answer
/// is no. (The other answer would poison the locks of fibers that did not panic.)
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking() && CURRENT.with(|current| current.parked_unwinding.get() == 0)
}

/// Names the fiber that runs from here on. Called by the worker around each switch.
#[inline]
pub(crate) fn set_fiber(fiber: Option<NonNull<Core>>) {
    CURRENT.with(|current| current.fiber.set(fiber));
}

/// Runs `f` as if no fiber ran here.
pub(super) fn outside_fiber(f: impl FnOnce()) {
    let fiber = CURRENT.with(|current| current.fiber.take());
    // `f` catches the panics of the user's.
    f();
    set_fiber(fiber);
}

/// Marks this thread as a worker until dropped.
pub(crate) struct WorkerMark<'a>(std::marker::PhantomData<&'a Arc<dyn Home>>);

impl<'a> WorkerMark<'a> {
    pub(crate) fn new(home: &'a Arc<dyn Home>, resumed: Option<ResumedHook>) -> Self {
        CURRENT.with(|current| {
            current.home.set(Some(NonNull::from(home)));
            current.resumed.set(resumed);
        });
        Self(std::marker::PhantomData)
    }
}

impl Drop for WorkerMark<'_> {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.home.set(None);
            current.resumed.set(None);
        });
    }
}

/// Called once by the fiber's body, on its own stack.
///
/// # Safety
/// `core` runs on this thread, on the stack `suspender` was made for.
pub(super) unsafe fn install_suspender(core: NonNull<Core>, suspender: Suspender<Directive>) {
    // SAFETY: the running fiber is alive.
    let core = unsafe { core.as_ref() };
    // SAFETY: this is the home worker's thread.
    unsafe { core.with_owned(|owned| owned.suspender = Some(suspender)) };
}

/// Gives the running fiber its home and its place in the registry, before its first suspension.
#[inline]
pub(super) fn prepare_suspension(core: NonNull<Core>) {
    // SAFETY: the running fiber is alive.
    let core_ref = unsafe { core.as_ref() };
    // SAFETY: this is the home worker's thread.
    if !unsafe { core_ref.has_home() } {
        first_suspension(core, core_ref);
    }
}

#[cold]
fn first_suspension(core: NonNull<Core>, core_ref: &Core) {
    let (home, place) = with_home(|home| (home.clone(), home.enroll(core)));
    // SAFETY: this is the home worker's thread, before the first park.
    unsafe { core_ref.set_home(home) };
    // SAFETY: this is the home worker's thread.
    unsafe { core_ref.with_owned(|owned| owned.enrolled = Some(place)) };
}

/// Leaves the fiber's stack; returns when the worker resumes it.
///
/// # Safety
/// `core` is the current fiber, `prepare_suspension` was called, and its state word agrees with
/// `directive`.
#[inline]
pub(super) unsafe fn switch_out(core: NonNull<Core>, directive: Directive) {
    // SAFETY: the running fiber is alive.
    let core_ref = unsafe { core.as_ref() };
    // SAFETY: this is the home worker's thread.
    let suspender = unsafe {
        core_ref.with_owned(|owned| {
            owned.suspended_at = (&raw const owned).cast();
            owned.suspender
        })
    };
    let suspender = suspender.expect("a running fiber has a suspender");
    let unwinding = std::thread::panicking();
    if unwinding {
        CURRENT.with(|current| current.parked_unwinding.set(current.parked_unwinding.get() + 1));
    }
    // SAFETY: we run on that fiber's stack, by the caller's promise.
    unsafe { suspender.suspend(directive) };
    if unwinding {
        CURRENT.with(|current| current.parked_unwinding.set(current.parked_unwinding.get() - 1));
    }
    if let Some(hook) = CURRENT.with(|current| current.resumed.get()) {
        hook(core);
    }
}
