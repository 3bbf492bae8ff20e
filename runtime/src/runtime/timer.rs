//! A timer that futures await.

use super::handle::Handle;
use crate::fiber::TimerId;
use crate::fiber::parker::Unparker;
use crate::loom::sync::Arc;
use crate::scheduler::{self, Hub};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A future that is ready from a moment on. Made by [`Handle::sleep_until`] and [`sleep_future`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    deadline: Instant,
    hub: Arc<Hub>,
    armed: Option<Armed>,
}

/// A timer in some worker's queue. Futures move between workers; their timers stay where they were armed.
struct Armed {
    worker: usize,
    timer: TimerId,
    waker: Waker,
}

impl Sleep {
    /// When it is ready.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Makes it ready at another moment.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        // Armed anew, with its waker, at the next poll; until then the old timer may wake for nothing, unless
        // the new moment comes first: so wake now.
        if let Some(armed) = self.disarm() {
            armed.waker.wake();
        }
    }

    fn disarm(&mut self) -> Option<Armed> {
        let armed = self.armed.take()?;
        self.hub.remotes[armed.worker].driver().disarm(armed.timer);
        Some(armed)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.hub.time.now() >= self.deadline {
            self.disarm();
            return Poll::Ready(());
        }
        if self
            .armed
            .as_ref()
            .is_some_and(|armed| armed.waker.will_wake(context.waker()))
        {
            return Poll::Pending;
        }
        self.disarm();
        // On a thread that is no worker of this runtime any of them will do.
        let worker = scheduler::worker_of(&self.hub).unwrap_or(0);
        let waker = context.waker().clone();
        let timer = self.hub.remotes[worker]
            .driver()
            .arm(self.deadline, Unparker::Future(waker.clone()));
        self.armed = Some(Armed { worker, timer, waker });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// A future that is ready at `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep {
            deadline,
            hub: self.hub.clone(),
            armed: None,
        }
    }
}

/// A future that is ready after `duration`, on the current runtime. Fibers use `sleep`.
///
/// # Panics
/// Outside a runtime's workers: there, use [`Handle::sleep_until`].
///
/// ```
/// # use std::time::Duration;
/// let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
/// runtime.handle().spawn_future(async { roving_runtime::sleep_future(Duration::from_millis(1)).await }).join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sleep_future(duration: Duration) -> Sleep {
    let hub = scheduler::current_hub()
        .expect("roving: sleep_future was called outside a runtime: use Handle::sleep_until");
    let now = hub.time.now();
    // Later than the clock can say is a century from now: nobody waits that long.
    let deadline = now
        .checked_add(duration)
        .unwrap_or_else(|| now + super::lifecycle::FAR);
    Sleep {
        deadline,
        hub,
        armed: None,
    }
}
