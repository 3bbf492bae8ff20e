//! Fibers: the record, its state machine, the handle, parking. Knows no scheduler: what it needs of one
//! is the trait [`Home`]. The README beside this file holds the state machine and the field-access law.

mod cell;
pub(crate) mod clock;
pub(crate) mod core;
pub(crate) mod current;
mod handle;
mod id;
mod locals;
pub(crate) mod options;
pub(crate) mod parker;
pub(crate) mod state;
pub(crate) mod wait_list;

#[cfg(all(test, loom))]
mod loom_test;
#[cfg(all(test, not(loom)))]
mod test;

pub(crate) use self::core::{Core, FiberRef, PanicPayload, Refusal};
pub use self::core::{FiberId, WaitReason};
pub(crate) use handle::panic_message;
pub use handle::{Cancelled, Fiber, JoinError, JoinHandle};
pub use locals::FiberLocal;
pub use parker::PlainThread;

use crate::context::{Context, Suspender};
use crate::loom::sync::OnceLock;
use crate::stack::Stack;
use options::{Class, FiberOptions};
use parker::{Parked, Parker, Unparker};
use state::{ToActive, ToDone};
use std::panic::{Location, catch_unwind};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// Why a fiber left its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    /// Still ACTIVE: goes to the back of its worker's ready queue.
    Yield,
    /// PARKED, or already made ACTIVE again and queued by an unparker.
    Park,
}

/// A timer armed through [`Home::arm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerId(pub(crate) u64);

/// What a fiber needs of the worker it is pinned to.
pub(crate) trait Home: Send + Sync {
    /// Queues a fiber of this worker that is runnable again. Called on this worker's thread.
    fn schedule_here(&self, fiber: FiberRef);
    /// The same from any other thread.
    fn schedule_from_afar(&self, fiber: FiberRef);
    /// Lists a fiber that is about to suspend for the first time. Called on this worker's thread.
    fn enroll(&self, core: NonNull<Core>) -> u32;
    /// Wakes `unparker` at `deadline`.
    fn arm(&self, deadline: Instant, unparker: Unparker) -> TimerId;
    /// Forgets a timer; false when it has fired, and then its wake has begun.
    fn disarm(&self, timer: TimerId) -> bool;
    /// What time it is by the runtime's clock.
    fn now(&self) -> Instant;
    /// The runtime this worker belongs to.
    fn runtime(&self) -> u32;
    /// Starts an unstarted fiber of this runtime before anything else, once the current one parks.
    /// Called on this worker's thread.
    fn start_next(&self, fiber: &FiberRef);
    /// Resumes a fiber of this worker, whose child has just ended, before anything else. Called on this
    /// worker's thread.
    fn resume_next(&self, fiber: FiberRef);
}

/// Makes an unstarted fiber: the reference for a queue, and the handle.
///
/// # Safety
/// What `closure` and its result borrow must outlive the fiber's end and the handle.
pub(crate) unsafe fn create<F, T>(
    closure: F,
    options: FiberOptions,
    runtime: u32,
    site: &'static Location<'static>,
) -> (FiberRef, JoinHandle<T>)
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: passed on to the caller.
    let (scheduler, handle) = unsafe { cell::allocate(closure, options, runtime, site) };
    // SAFETY: `allocate` made it with `T`, and this is its only handle.
    (scheduler, unsafe { JoinHandle::new(handle) })
}

/// Prepares a claimed fiber to run on `stack`.
///
/// # Safety
/// The caller moved the fiber to ACTIVE and will resume the context on this thread only.
pub(crate) unsafe fn mount(fiber: &FiberRef, stack: Stack) -> Context<Stack, Directive> {
    let core = fiber.as_ptr();
    Context::new(stack, move |suspender| body(core, suspender))
}

/// The bottom of every fiber's stack.
fn body(core: NonNull<Core>, suspender: Suspender<Directive>) {
    // SAFETY: the worker holds the scheduler's reference for as long as we run.
    let core_ref = unsafe { core.as_ref() };
    // SAFETY: we are the fiber's body, on its stack.
    unsafe { current::install_suspender(core, suspender) };
    let run = core_ref.vtable.run;
    // SAFETY: the worker moved the fiber to ACTIVE, and the body runs once.
    unsafe { run(core) };
    // SAFETY: the worker's reference keeps it alive; the copy is forgotten.
    let fiber = std::mem::ManuallyDrop::new(unsafe { FiberRef::from_raw(core) });
    if let Err(payload) = catch_unwind(locals::drop_all) {
        report_unjoined(&fiber, payload);
    }
    // Here, before the end is published, destructors of the user's may still park.
    if core_ref.state.load().is_detached() {
        handle::dispose(&fiber);
    }
    complete(&fiber);
}

/// Publishes the outcome.
fn complete(fiber: &FiberRef) {
    let done = fiber.state.transition_to_done();
    // SAFETY: DONE, and we are its completer.
    unsafe { fiber.clear_home() };
    after_done(fiber, done);
}

fn after_done(fiber: &FiberRef, done: ToDone) {
    if done.waited {
        handle::wake_waiters(fiber);
    }
    if done.detached {
        // The handle went in the last moment (or the fiber never ran). A fiber that is DONE must not park
        // again, so a destructor that tries is told that it is not on one.
        current::outside_fiber(|| handle::dispose(fiber));
    }
}

/// Ends a started fiber that will never run again, nothing on its stack being dropped. It keeps its home and
/// its references: an unparker may be about to use them.
///
/// # Safety
/// The caller is its home worker, which will not resume it, and has leaked its context.
pub(crate) unsafe fn abandon(fiber: FiberRef) {
    let refuse = fiber.vtable.refuse;
    // SAFETY: the fiber has its stage to itself, and it is not going to use it.
    unsafe { refuse(fiber.as_ptr(), Refusal::Abandoned) };
    let done = fiber.state.transition_to_done();
    after_done(&fiber, done);
    std::mem::forget(fiber);
}

/// Blocks until a fiber of a scope is done.
pub(crate) fn wait_for_child(fiber: &Fiber, cancellable: bool) -> Result<bool, Cancelled> {
    handle::wait_done(&fiber.0, None, cancellable)
}

/// Ends a fiber that has not started; false when it has. Its queue entry becomes a tombstone.
pub(crate) fn refuse(fiber: &FiberRef, why: Refusal) -> bool {
    match fiber.state.transition_to_active() {
        ToActive::Taken => false,
        ToActive::Claimed => {
            // SAFETY: the right to start it is ours.
            unsafe { refuse_claimed(fiber, why) };
            true
        }
    }
}

/// Ends a fiber that will not be started after all.
///
/// # Safety
/// The caller moved it to ACTIVE and has not started it.
pub(crate) unsafe fn refuse_claimed(fiber: &FiberRef, why: Refusal) {
    let refuse = fiber.vtable.refuse;
    // SAFETY: by the caller's promise.
    unsafe { refuse(fiber.as_ptr(), why) };
    complete(fiber);
}

/// A fiber about to wait for an unstarted one starts it right away, in place of whatever the queues
/// hold: fork-join then runs depth first, with as many live fibers as the recursion is deep.
fn claim_for_join(fiber: &FiberRef, parker: &Parker) {
    if !matches!(parker, Parker::Fiber(_)) || fiber.class != Class::Normal || fiber.spread {
        return;
    }
    if !fiber.state.load().is_unstarted() {
        return;
    }
    current::with_home(|home| {
        if home.runtime() == fiber.runtime && fiber.state.transition_to_active() == ToActive::Claimed {
            home.start_next(fiber);
        }
    });
}

/// What hears of panics nobody joined: the fiber and the payload.
pub type UnjoinedPanicHandler = Box<dyn Fn(&Fiber, PanicPayload) + Send + Sync>;

static UNJOINED: OnceLock<UnjoinedPanicHandler> = OnceLock::new();

/// Sets what hears of panics in fibers whose handle was dropped; by default they are reported on
/// stderr. Once per process.
///
/// # Errors
/// The handler back, when one is set already.
pub fn set_unjoined_panic_handler(handler: UnjoinedPanicHandler) -> Result<(), UnjoinedPanicHandler> {
    UNJOINED.set(handler)
}

/// Tells the handler, whose own panics end here.
fn report_unjoined(fiber: &FiberRef, payload: PanicPayload) {
    let fiber = Fiber(fiber.clone());
    let reported = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match UNJOINED.get() {
        Some(handler) => handler(&fiber, payload),
        None => {
            let what = panic_message(&*payload).unwrap_or("a value that is not text");
            match fiber.name() {
                Some(name) => eprintln!(
                    "roving: fiber {} {name:?} panicked and nobody joined it: {what}",
                    fiber.id()
                ),
                None => eprintln!(
                    "roving: fiber {} panicked and nobody joined it: {what}",
                    fiber.id()
                ),
            }
        }
    }));
    if reported.is_err() {
        eprintln!("roving: the handler of unjoined panics panicked");
    }
}

/// Lets other fibers of this worker run; on a plain thread, other threads.
#[inline]
pub fn yield_now() {
    match current::fiber() {
        Some(core) => {
            current::prepare_suspension(core);
            // SAFETY: we are that fiber, it is ACTIVE and prepared.
            unsafe { current::switch_out(core, Directive::Yield) };
        }
        None => crate::loom::thread::yield_now(),
    }
}

/// Blocks until [`Fiber::unpark`] or [`JoinHandle::unpark`] (a call made before counts), or spuriously.
/// On a plain thread [`PlainThread::unpark`] ends it, and on Linux a signal whose handler runs on the thread.
///
/// # Errors
/// [`Cancelled`] when this fiber is.
pub fn park() -> Result<(), Cancelled> {
    park_until(None, WaitReason::Park).map(|_| ())
}

/// As [`park`], for at most `timeout`.
///
/// # Errors
/// [`Cancelled`] when this fiber is.
pub fn park_timeout(timeout: Duration) -> Result<(), Cancelled> {
    park_until(deadline_after(timeout), WaitReason::Park).map(|_| ())
}

/// Waits for `duration`; other fibers run meanwhile.
///
/// # Errors
/// [`Cancelled`] when this fiber is.
///
/// ```
/// # use std::time::Duration;
/// roving_runtime::sleep(Duration::from_millis(1)).expect("nobody cancels a plain thread");
/// ```
pub fn sleep(duration: Duration) -> Result<(), Cancelled> {
    let deadline = deadline_after(duration);
    while park_until(deadline, WaitReason::Sleep)? == Parked::Woken {
        // A timer may be disarmed by an early wake just as its time comes.
        if deadline.is_some_and(|at| clock::now() >= at) {
            break;
        }
    }
    Ok(())
}

fn park_until(deadline: Option<Instant>, reason: WaitReason) -> Result<Parked, Cancelled> {
    let parker = Parker::current();
    if parker.is_cancelled() {
        return Err(Cancelled);
    }
    let parked = parker.park(deadline, reason);
    if parker.is_cancelled() {
        Err(Cancelled)
    } else {
        Ok(parked)
    }
}

/// When a timeout that starts now ends; `None`: later than the clock can say, so never.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    clock::now().checked_add(timeout)
}

/// The fiber that runs here, or `None` on a plain thread.
pub fn current_fiber() -> Option<Fiber> {
    current::fiber_ref().map(Fiber)
}

/// Whether this fiber has been asked to stop and is not inside [`shield`].
///
/// # Errors
/// [`Cancelled`] when it has.
pub fn checkpoint() -> Result<(), Cancelled> {
    if Parker::current().is_cancelled() {
        Err(Cancelled)
    } else {
        Ok(())
    }
}

/// Takes back the request that this fiber stop; true if there was one. For an embedder that keeps its own account of
/// who is to stop and why, and uses [`Fiber::cancel`] to end the wait of a started fiber: it writes its account first, then
/// cancels; the fiber, whose wait failed, takes the request back and then reads the account. A request made in between
/// is not lost: it ends the next wait.
///
/// ```
/// # let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
/// let fiber = runtime.spawn(|| {
///     roving_runtime::current_fiber().expect("this is one").cancel();
///     (roving_runtime::take_cancellation(), roving_runtime::checkpoint().is_ok())
/// });
/// assert_eq!(fiber.join()?, (true, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn take_cancellation() -> bool {
    match current::fiber() {
        // SAFETY: the running fiber is alive.
        Some(core) => unsafe { core.as_ref() }.state.transition_to_uncancelled(),
        None => false,
    }
}

/// Runs `f` with cancellation held back: waits inside succeed, and a cancellation that came shows at
/// the first wait after it. For clean-up.
pub fn shield<R>(f: impl FnOnce() -> R) -> R {
    let Some(core) = current::fiber() else { return f() };
    let _guard = Shielded::new(core);
    f()
}

/// One level of [`shield`], for as long as it lives.
struct Shielded(NonNull<Core>);

impl Shielded {
    fn new(core: NonNull<Core>) -> Self {
        Self::change(core, 1);
        Self(core)
    }

    fn change(core: NonNull<Core>, by: i32) {
        // SAFETY: called by the fiber itself, which is alive.
        let core = unsafe { core.as_ref() };
        // SAFETY: this is the home worker's thread.
        unsafe { core.with_owned(|owned| owned.shielded = owned.shielded.wrapping_add_signed(by)) };
    }
}

impl Drop for Shielded {
    fn drop(&mut self) {
        Self::change(self.0, -1);
    }
}

/// Runs an unstarted fiber's closure on the caller's stack, a plain thread's, and publishes the outcome; false
/// when somebody else has started or cancelled it.
pub(crate) fn run_in_place(fiber: &FiberRef) -> bool {
    match fiber.state.transition_to_active() {
        ToActive::Taken => false,
        ToActive::Claimed => {
            let run = fiber.vtable.run;
            // SAFETY: the right to start it is ours.
            unsafe { run(fiber.as_ptr()) };
            complete(fiber);
            true
        }
    }
}
