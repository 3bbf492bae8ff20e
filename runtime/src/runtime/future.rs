//! Stackless futures on the workers, and waiting for them.
//!
//! A future needs no stack: it is polled on a worker's base stack and may be polled by another worker the
//! next time. So it must not block: `Parker::current` panics there, and the panic is carried to its handle.

use super::handle::Handle;
use crate::fiber::options::Class;
use crate::fiber::parker::{self, Parker, ThreadParker};
use crate::fiber::{Cancelled, FiberRef, JoinError, WaitReason};
use crate::loom::sync::Arc;
use crate::scheduler::{self, Hub, Runnable, Work};
use async_task::FallibleTask;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::ptr::NonNull;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

/// A handle to a spawned future. Dropping it detaches the future, which goes on.
#[must_use = "dropping the handle detaches the future; use `detach` to say so"]
pub struct FutureHandle<T>(Option<FallibleTask<T, Class>>);

impl<T> FutureHandle<T> {
    /// Waits for the end and returns what the future returned. In a fiber this parks it, on a plain thread it
    /// blocks; inside a future, await the handle.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn join(self) -> Result<T, JoinError> {
        block_on(self).unwrap_or(Err(JoinError::CallerCancelled))
    }

    /// Lets the future go on without a handle.
    pub fn detach(self) {}

    /// Drops the future at its next suspension, or at once if it is suspended.
    pub fn cancel(mut self) {
        // Dropping async-task's own handle cancels.
        drop(self.0.take());
    }

    /// Whether the future has ended.
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(FallibleTask::is_finished)
    }
}

impl<T> Drop for FutureHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<T> Future for FutureHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self
            .0
            .as_mut()
            .expect("a handle is not polled after it was ready");
        // async-task raises the future's panic from the poll that would have returned its value.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(task).poll(context)));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(value))) => Ok(value),
            Ok(Poll::Ready(None)) => Err(JoinError::Abandoned),
            Err(payload) => Err(JoinError::Panicked(payload)),
        };
        Poll::Ready(outcome)
    }
}

impl<T> std::fmt::Debug for FutureHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FutureHandle")
            .field("done", &self.is_done())
            .finish()
    }
}

impl Handle {
    /// Runs a stackless future on the workers.
    ///
    /// ```
    /// let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
    /// let answer = runtime.handle().spawn_future(async { 6 * 7 });
    /// assert_eq!(answer.join()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_future<F>(&self, future: F) -> FutureHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_on(&self.hub, future, Class::Normal)
    }
}

/// Runs a stackless future on the current runtime.
///
/// # Panics
/// Outside a runtime's workers: there, use [`Handle::spawn_future`].
pub fn spawn_future<F>(future: F) -> FutureHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let hub = scheduler::current_hub()
        .expect("roving: spawn_future was called outside a runtime: use Handle::spawn_future");
    spawn_on(&hub, future, Class::Normal)
}

fn spawn_on<F>(hub: &Arc<Hub>, future: F, class: Class) -> FutureHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    // Counted from here to its end, so that draining waits for futures that wait.
    let outstanding = scheduler::Outstanding::new(hub);
    // Weak: wakers kept by the runtime's own drivers must not keep the runtime.
    let hub = Arc::downgrade(hub);
    let schedule = move |runnable: Runnable| {
        if let Some(hub) = hub.upgrade() {
            let class = *runnable.metadata();
            // Refused only when the workers leave: dropping the work cancels the future.
            drop(scheduler::resubmit(&hub, Work::future(runnable), class));
        }
    };
    let (runnable, task) = async_task::Builder::new()
        .metadata(class)
        .propagate_panic(true)
        .spawn(
            move |_| async move {
                let _outstanding = outstanding;
                future.await
            },
            schedule,
        );
    runnable.schedule();
    FutureHandle(Some(task.fallible()))
}

/// Waits for a future: parks the calling fiber, or blocks the calling thread.
///
/// # Errors
/// [`Cancelled`] when the calling fiber is; the future is dropped.
///
/// # Panics
/// Inside another future that a worker polls.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Cancelled> {
    let parker = Parker::current();
    let waker = match &parker {
        Parker::Fiber(_) => fiber_waker(crate::fiber::current::fiber_ref().expect("a fiber runs here")),
        Parker::Thread(thread) => Waker::from(Arc::new(ThreadWaker(thread.clone()))),
    };
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if parker.is_cancelled() {
            return Err(Cancelled);
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        // A wake that comes between the poll and here leaves its token.
        let _ = parker.park(None, WaitReason::Future);
    }
}

struct ThreadWaker(Arc<ThreadParker>);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that unparks a fiber, whose reference it counts.
fn fiber_waker(fiber: FiberRef) -> Waker {
    let raw = RawWaker::new(fiber.into_raw().as_ptr().cast_const().cast(), &FIBER_WAKER);
    // SAFETY: the functions below keep the contract: the data pointer is one counted reference, cloned by
    // `clone`, consumed by `wake` and `drop`, borrowed by `wake_by_ref`; a FiberRef is Send and Sync.
    unsafe { Waker::from_raw(raw) }
}

static FIBER_WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the waker's own count stays with it.
        let fiber = std::mem::ManuallyDrop::new(unsafe { counted(data) });
        RawWaker::new(
            (*fiber).clone().into_raw().as_ptr().cast_const().cast(),
            &FIBER_WAKER,
        )
    },
    |data| {
        // SAFETY: `wake` consumes the waker's count.
        parker::unpark(&unsafe { counted(data) });
    },
    |data| {
        // SAFETY: the waker's own count stays with it.
        parker::unpark(&std::mem::ManuallyDrop::new(unsafe { counted(data) }));
    },
    |data| {
        // SAFETY: `drop` consumes the waker's count.
        drop(unsafe { counted(data) });
    },
);

/// # Safety
/// `data` was made by [`fiber_waker`], and the caller owns its count or forgets the result.
unsafe fn counted(data: *const ()) -> FiberRef {
    let core = NonNull::new(data.cast_mut().cast()).expect("made from a reference");
    // SAFETY: passed on to the caller.
    unsafe { FiberRef::from_raw(core) }
}
