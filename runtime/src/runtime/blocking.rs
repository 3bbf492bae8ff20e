//! The blocking pool: threads for calls with no readiness (files, name resolution, C code that blocks).
//! It grows when every thread is busy and shrinks when they have nothing to do.

use super::handle::Handle;
use crate::fiber::options::FiberOptions;
use crate::fiber::{self, Cancelled, FiberRef, JoinError, JoinHandle, Refusal};
use crate::loom::sync::{Arc, Condvar, Mutex};
use crate::loom::thread;
use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a thread waits for more to do before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) struct BlockingPool {
    name: String,
    limit: usize,
    /// Called on each thread at its end, and when it has nothing to do.
    thread_stop: Box<dyn Fn() + Send + Sync>,
    thread_idle: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    /// Work came, or the end.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<FiberRef>,
    threads: usize,
    idle: usize,
    shut: bool,
}

/// A count of the blocking pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockingMetrics {
    /// Threads there are.
    pub threads: usize,
    /// Those of them that have nothing to do.
    pub idle: usize,
    /// Calls that wait for a thread.
    pub queued: usize,
}

impl BlockingPool {
    /// Each thread calls `thread_idle` when it has nothing to do, and `thread_stop` when it ends.
    pub(super) fn new(
        name: String,
        limit: usize,
        thread_idle: Box<dyn Fn() + Send + Sync>,
        thread_stop: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            limit,
            thread_idle,
            thread_stop,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            ended: Condvar::new(),
        })
    }

    fn submit(self: &Arc<Self>, call: FiberRef) {
        let mut state = self.state.lock();
        if state.shut {
            drop(state);
            fiber::refuse(&call, Refusal::Abandoned);
            return;
        }
        state.queue.push_back(call);
        if state.idle >= state.queue.len() {
            drop(state);
            self.work.notify_one();
            return;
        }
        if state.threads < self.limit {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    fn start_thread(self: &Arc<Self>) {
        let pool = self.clone();
        let started = thread::Builder::new()
            .name(format!("{}-blocking", self.name))
            .spawn(move || pool.serve());
        if started.is_err() {
            // The system has no more threads: those there are will get to it. Without any, nobody will.
            let mut state = self.state.lock();
            state.threads -= 1;
            let stranded = if state.threads == 0 {
                std::mem::take(&mut state.queue)
            } else {
                VecDeque::new()
            };
            drop(state);
            self.ended.notify_all();
            for call in stranded {
                fiber::refuse(&call, Refusal::Abandoned);
            }
        }
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            while let Some(call) = state.queue.pop_front() {
                drop(state);
                // False for a call that was cancelled before it started.
                fiber::run_in_place(&call);
                drop(call);
                state = self.state.lock();
            }
            if state.shut {
                break;
            }
            state.idle += 1;
            // The fiber that waited for the call has gone on, and may have come to rest, before this thread was idle again.
            drop(state);
            (self.thread_idle)();
            state = self.state.lock();
            if state.shut || !state.queue.is_empty() {
                state.idle -= 1;
                continue;
            }
            let timed_out = self
                .work
                .wait_until(&mut state, Instant::now().checked_add(KEEP_ALIVE));
            state.idle -= 1;
            if timed_out && state.queue.is_empty() {
                drop(state);
                // It may take its time, and it may fill the queue.
                (self.thread_stop)();
                state = self.state.lock();
                if state.queue.is_empty() {
                    break;
                }
                continue;
            }
        }
        if state.shut {
            drop(state);
            (self.thread_stop)();
            state = self.state.lock();
        }
        state.threads -= 1;
        drop(state);
        self.ended.notify_all();
    }

    /// Takes no more calls; those taken are finished. Waits for them until `deadline`.
    pub(super) fn shut(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        state.shut = true;
        self.work.notify_all();
        while state.threads > 0 {
            if self.ended.wait_until(&mut state, deadline) {
                return state.threads == 0;
            }
        }
        true
    }

    pub(super) fn metrics(&self) -> BlockingMetrics {
        let state = self.state.lock();
        BlockingMetrics {
            threads: state.threads,
            idle: state.idle,
            queued: state.queue.len(),
        }
    }
}

impl Handle {
    /// Runs `call`, which may block, on a thread of the blocking pool. The handle is a fiber's in all but
    /// this: the call runs on a plain thread, and cancelling it has no effect once it has started.
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, call: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // No runtime has the number zero: a joiner does not claim it for its worker.
        // SAFETY: nothing is borrowed.
        let (fiber, handle) = unsafe { fiber::create(call, FiberOptions::default(), 0, Location::caller()) };
        self.blocking.submit(fiber);
        handle
    }
}

/// [`blocking`], as the sockets' look-up of names asks for it. Called in a fiber.
pub(super) fn blocking_for_net(call: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    blocking(call).map_err(|error| match error {
        JoinError::CallerCancelled => io::Error::other(Cancelled),
        error => io::Error::other(error.to_string()),
    })
}

/// Runs `call`, which may block, on the blocking pool, and waits for it.
///
/// # Errors
/// As `JoinHandle::join`. When the calling fiber is cancelled, the call goes on and its outcome is dropped.
///
/// # Panics
/// Outside a runtime's workers: a plain thread may as well make the call itself.
///
/// ```
/// let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
/// let fiber = runtime.spawn(|| roving_runtime::blocking(|| std::fs::read_to_string("/dev/null")));
/// assert_eq!(fiber.join()??.unwrap(), "");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn blocking<F, T>(call: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let handle = Handle::current().expect("roving: blocking was called outside a runtime: call it directly");
    handle.spawn_blocking(call).join()
}
