//! The handle to a fiber's end.

use super::cell::Outcome;
use super::core::{FiberId, FiberRef, PanicPayload, WaitReason};
use super::parker::{Parked, Parker, Unparker, Wake, unpark};
use super::state::{ToDetached, ToWaited};
use super::wait_list::WaitNode;
use crate::stack::StackError;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// The calling fiber was cancelled while it waited (or before). What it waited for is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this fiber was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Why a fiber has no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It panicked with this payload.
    Panicked(PanicPayload),
    /// It was cancelled before it started.
    Cancelled,
    /// There was no memory for its stack, so it never started.
    NoStack(StackError),
    /// The runtime shut down without waiting for it.
    Abandoned,
    /// The *joining* fiber was cancelled while it waited. The joined one goes on, without a handle; to
    /// keep the handle, call [`JoinHandle::wait`] first.
    CallerCancelled,
    /// A fiber joined itself.
    JoinedItself,
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JoinError::Panicked(payload) => match panic_message(&**payload) {
                Some(message) => write!(f, "the fiber panicked: {message}"),
                None => f.write_str("the fiber panicked"),
            },
            JoinError::Cancelled => f.write_str("the fiber was cancelled before it started"),
            JoinError::NoStack(error) => write!(f, "the fiber never started: {error}"),
            JoinError::Abandoned => f.write_str("the runtime shut down before the fiber ended"),
            JoinError::CallerCancelled => f.write_str("the joining fiber was cancelled while it waited"),
            JoinError::JoinedItself => f.write_str("a fiber cannot join itself: it would wait for ever"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::NoStack(error) => Some(error),
            _ => None,
        }
    }
}

/// The text of a panic, when it has one.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> Option<&str> {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Joins, cancels or wakes a fiber. Dropping it detaches the fiber, which goes on; a panic that nobody
/// joined then goes to the runtime's handler.
pub struct JoinHandle<T> {
    fiber: FiberRef,
    _outcome: PhantomData<fn() -> T>,
}

impl<T> JoinHandle<T> {
    /// # Safety
    /// `fiber` was made with the outcome type `T`, and this is its only handle.
    pub(super) unsafe fn new(fiber: FiberRef) -> Self {
        Self {
            fiber,
            _outcome: PhantomData,
        }
    }

    /// Waits for the end and returns what the fiber returned.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn join(self) -> Result<T, JoinError> {
        if super::current::fiber() == Some(self.fiber.as_ptr()) {
            return Err(JoinError::JoinedItself);
        }
        match wait_done(&self.fiber, None, true) {
            Ok(_) => self.take(),
            Err(Cancelled) => Err(JoinError::CallerCancelled),
        }
    }

    /// Waits for the end without taking the outcome.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    pub fn wait(&self) -> Result<(), Cancelled> {
        wait_done(&self.fiber, None, true).map(|_| ())
    }

    /// Waits for the end for at most `timeout`; true when it came.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Cancelled> {
        wait_done(&self.fiber, super::deadline_after(timeout), true)
    }

    /// Waits for the end for at most `timeout` (`None`: no limit); true when it came. On a plain thread it also returns,
    /// with false, after a [`PlainThread::unpark`](crate::PlainThread::unpark), and on Linux after a signal handler has
    /// run on the thread; and now and then for no reason.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    pub fn wait_interruptible(&self, timeout: Option<Duration>) -> Result<bool, Cancelled> {
        wait(&self.fiber, timeout.and_then(super::deadline_after), true, true)
    }

    /// Whether the fiber has ended.
    pub fn is_done(&self) -> bool {
        self.fiber.state.load().is_done()
    }

    /// Asks the fiber to stop: one that has not started never will; a started one gets an error from
    /// the waits it makes from now on. Does nothing to one that is done.
    pub fn cancel(&self) {
        cancel(&self.fiber);
    }

    /// Makes the fiber's current or next `park` return. Does nothing to one that is done.
    pub fn unpark(&self) {
        unpark(&self.fiber);
    }

    /// A means to cancel and unpark that does not keep the outcome from being joined.
    pub fn fiber(&self) -> Fiber {
        Fiber(self.fiber.clone())
    }

    /// The fiber's number.
    pub fn id(&self) -> FiberId {
        self.fiber.id
    }

    /// The fiber's name.
    pub fn name(&self) -> Option<&str> {
        self.fiber.name.as_deref()
    }

    fn take(self) -> Outcome<T> {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never used again, so the reference is moved out once.
        let fiber = unsafe { std::ptr::read(&this.fiber) };
        let mut outcome = MaybeUninit::<Outcome<T>>::uninit();
        let take = fiber.vtable.take;
        // SAFETY: the fiber is DONE, this was the only handle, and `T` is the type it was made with.
        unsafe { take(fiber.as_ptr(), NonNull::from(&mut outcome).cast()) };
        // SAFETY: `take` wrote it.
        unsafe { outcome.assume_init() }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        match self.fiber.state.transition_to_detached() {
            ToDetached::StillRunning => {}
            ToDetached::Done => dispose(&self.fiber),
        }
    }
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fiber.fmt(f)
    }
}

/// A fiber, known by reference: it can be asked about, cancelled and unparked, from anywhere.
#[derive(Clone)]
pub struct Fiber(pub(crate) FiberRef);

impl Fiber {
    /// See [`JoinHandle::cancel`].
    pub fn cancel(&self) {
        cancel(&self.0);
    }

    /// See [`JoinHandle::unpark`].
    pub fn unpark(&self) {
        unpark(&self.0);
    }

    /// Whether the fiber has ended.
    pub fn is_done(&self) -> bool {
        self.0.state.load().is_done()
    }

    /// The fiber's number.
    pub fn id(&self) -> FiberId {
        self.0.id
    }

    /// The fiber's name.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Waits for the end for at most `timeout` (`None`: for ever); true when it came.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is.
    ///
    /// # Panics
    /// In this very fiber.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, Cancelled> {
        wait_done(&self.0, timeout.and_then(super::deadline_after), true)
    }
}

impl std::fmt::Debug for Fiber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn cancel(fiber: &FiberRef) {
    if fiber.state.transition_to_cancelled() && !super::refuse(fiber, super::core::Refusal::Cancelled) {
        unpark(fiber);
    }
}

/// Blocks until the fiber is done; false when `deadline` came first.
pub(super) fn wait_done(
    fiber: &FiberRef,
    deadline: Option<Instant>,
    cancellable: bool,
) -> Result<bool, Cancelled> {
    wait(fiber, deadline, cancellable, false)
}

/// As [`wait_done`]; with `interruptible` a plain thread parks but once.
fn wait(
    fiber: &FiberRef,
    deadline: Option<Instant>,
    cancellable: bool,
    interruptible: bool,
) -> Result<bool, Cancelled> {
    if fiber.state.load().is_done() {
        return Ok(true);
    }
    let parker = Parker::current();
    if let Parker::Fiber(core) = parker {
        assert!(core != fiber.as_ptr(), "roving: a fiber waited for its own end");
    }
    if cancellable && parker.is_cancelled() {
        return Err(Cancelled);
    }
    super::claim_for_join(fiber, &parker);
    let node = std::pin::pin!(WaitNode::new(parker.unparker()));
    let node = NonNull::from(&*node);
    // SAFETY: the node stays pinned on this stack until it is out of the list, below.
    unsafe { fiber.waiters.lock().push_back(node) };
    let outcome = match fiber.state.transition_to_waited() {
        ToWaited::Done => Ok(true),
        ToWaited::Waiting => loop {
            let parked = parker.park(deadline, WaitReason::Join);
            if fiber.state.load().is_done() {
                break Ok(true);
            }
            if cancellable && parker.is_cancelled() {
                break Err(Cancelled);
            }
            if parked == Parked::TimedOut || (interruptible && matches!(parker, Parker::Thread(_))) {
                break Ok(false);
            }
        },
    };
    // SAFETY: the node is alive until here.
    if !unsafe { node.as_ref() }.is_released() {
        // SAFETY: the node is alive, and this is the only list it was pushed to.
        unsafe { fiber.waiters.lock().remove(node) };
    }
    outcome
}

/// Wakes everybody who waits for the end.
pub(super) fn wake_waiters(fiber: &FiberRef) {
    loop {
        let mut waiters = fiber.waiters.lock();
        let Some(node) = waiters.pop_front() else { return };
        // SAFETY: the waiter cannot leave before we release it, or it has had the list's lock, which we hold.
        let node = unsafe { node.as_ref() };
        // SAFETY: we hold the list's lock.
        let unparker = unsafe { node.take_unparker() };
        // Under the lock: see `Unparker`.
        let wake = unparker.map_or(Wake::Nothing, Unparker::begin);
        // Not before `begin`: the waiter, if it is awake already, may leave as soon as this is seen.
        node.release();
        // Who comes from now on finds the fiber done, and needs no wake.
        let last = waiters.is_empty();
        drop(waiters);
        wake.finish_joiner();
        if last {
            return;
        }
    }
}

/// Disposes of an outcome nobody will take, telling the runtime's handler of a panic.
pub(super) fn dispose(fiber: &FiberRef) {
    let dispose = fiber.vtable.dispose;
    // SAFETY: the fiber is DONE, and its one handle is gone.
    if let Some(payload) = unsafe { dispose(fiber.as_ptr()) } {
        super::report_unjoined(fiber, payload);
    }
}
