//! Spawning.

use super::blocking::BlockingPool;
use crate::fiber::options::{Class, FiberOptions};
use crate::fiber::parker::Parker;
use crate::fiber::{self, FiberRef, JoinHandle, Refusal};
use crate::loom::sync::Arc;
use crate::scheduler::{self, Hub, Phase, Work};
use crate::stack::{StackClass, StackError};
use std::panic::Location;
use std::time::Duration;

/// A reference to a runtime, to spawn on it from anywhere. Does not keep it running.
#[derive(Clone)]
pub struct Handle {
    pub(super) hub: Arc<Hub>,
    pub(super) blocking: Arc<BlockingPool>,
}

/// Why a fiber could not be spawned, with the closure it would have run.
pub struct SpawnError<F> {
    /// What it would have run.
    pub closure: F,
    /// Why it does not.
    pub kind: SpawnErrorKind,
}

/// See [`SpawnError`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnErrorKind {
    /// The runtime is shutting down, or has.
    ShutDown,
    /// The stack size is zero or too large.
    Stack(StackError),
}

impl<F> std::fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpawnError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<F> std::fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            SpawnErrorKind::ShutDown => f.write_str("the runtime has been shut down and starts nothing new"),
            SpawnErrorKind::Stack(error) => error.fmt(f),
        }
    }
}

impl<F> std::error::Error for SpawnError<F> {}

impl Handle {
    /// The runtime of the worker this thread is.
    pub fn current() -> Option<Self> {
        let hub = scheduler::current_hub()?;
        let blocking = hub.companion()?;
        Some(Self { hub, blocking })
    }

    /// Runs `closure` in a new fiber.
    ///
    /// # Panics
    /// When the runtime has been shut down; [`Handle::fiber`] gives an error instead.
    #[track_caller]
    pub fn spawn<F, T>(&self, closure: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match spawn_on(&self.hub, closure, FiberOptions::default(), Location::caller()) {
            Ok(handle) => handle,
            Err(error) => panic!("roving: {error}"),
        }
    }

    /// How long a fiber may run while others wait for its worker, before the monitor calls `Hooks::overdue`; `None`,
    /// as at first, for ever. Without an embedder that answers that call nothing comes of it.
    pub fn set_preemption(&self, quantum: Option<Duration>) {
        self.hub.set_quantum(quantum);
    }

    /// Waits until every fiber and future has ended but [daemons](FiberBuilder::daemon), for at most `timeout` (`None`: no
    /// limit); true when they have. Like [`JoinHandle::wait_interruptible`] it also returns, with false, after a
    /// [`PlainThread::unpark`](crate::PlainThread::unpark), and on Linux after a signal handler has run on the thread; and
    /// now and then for no reason.
    ///
    /// For plain threads: a fiber would wait for its own end.
    ///
    /// ```
    /// # let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
    /// let daemon = runtime.fiber().daemon().spawn(roving_runtime::park).map_err(|e| e.kind).unwrap();
    /// let fiber = runtime.spawn(|| "done");
    /// while !runtime.handle().wait_idle(None) {}
    /// assert!(fiber.is_done() && !daemon.is_done());
    /// # daemon.cancel();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// On a worker's thread.
    pub fn wait_idle(&self, timeout: Option<Duration>) -> bool {
        let Parker::Thread(parker) = Parker::current() else {
            panic!("roving: a fiber waited for the end of all fibers, itself among them");
        };
        self.hub
            .wait_rest(&parker, timeout.and_then(fiber::deadline_after))
    }

    /// A fiber with options, not spawned yet.
    pub fn fiber(&self) -> FiberBuilder<'_> {
        FiberBuilder {
            hub: &self.hub,
            options: FiberOptions::default(),
            stack_size: None,
        }
    }
}

/// Runs `closure` in a new fiber of the current runtime.
///
/// # Panics
/// Outside a runtime's workers: there, use [`Handle::spawn`] or `Runtime::spawn`.
#[track_caller]
pub fn spawn<F, T>(closure: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let site = Location::caller();
    let spawned = scheduler::with_current_hub(|hub| spawn_on(hub, closure, FiberOptions::default(), site));
    match spawned {
        Some(Ok(handle)) => handle,
        Some(Err(error)) => panic!("roving: {error}"),
        None => panic!("roving: spawn was called outside a runtime: use Runtime::spawn or Handle::spawn"),
    }
}

/// Options of one fiber.
///
/// ```
/// # let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
/// let fiber = runtime.fiber().name("resize").stack_size(2 << 20).spawn(|| "done").map_err(|e| e.kind);
/// assert_eq!(fiber.unwrap().join()?, "done");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is spawned before `spawn`"]
pub struct FiberBuilder<'a> {
    pub(super) hub: &'a Hub,
    pub(super) options: FiberOptions,
    pub(super) stack_size: Option<usize>,
}

impl FiberBuilder<'_> {
    /// Names the fiber, for dumps and reports.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// The stack's size in bytes, rounded up to a power of two from 128 KiB to 8 MiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts it on the worker with the fewest live fibers, whatever its spawner's worker does.
    pub fn spread(mut self) -> Self {
        self.options.spread = true;
        self
    }

    /// Makes it background work: it runs when there is no normal work, and at least one turn in sixteen.
    pub fn background(mut self) -> Self {
        self.options.class = Class::Background;
        self
    }

    /// Makes it one that [`Handle::wait_idle`] does not wait for.
    pub fn daemon(mut self) -> Self {
        self.options.daemon = true;
        self
    }

    /// Spawns the fiber.
    ///
    /// # Errors
    /// See [`SpawnErrorKind`]; the closure comes back.
    #[track_caller]
    pub fn spawn<F, T>(self, closure: F) -> Result<JoinHandle<T>, SpawnError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let site = Location::caller();
        match self.checked() {
            Ok((hub, options)) => spawn_on(hub, closure, options, site),
            Err(kind) => Err(SpawnError { closure, kind }),
        }
    }
}

impl<'a> FiberBuilder<'a> {
    /// Makes the fiber and its handle, to be started by [`Prepared::start`]: for an embedder that must put the
    /// handle where the closure finds it before the closure can run.
    ///
    /// ```
    /// # let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
    /// let (prepared, handle) = runtime.fiber().prepare(|| "ran").map_err(|e| e.kind).unwrap();
    /// assert!(!handle.is_done());
    /// prepared.start();
    /// assert_eq!(handle.join()?, "ran");
    ///
    /// let (prepared, handle) = runtime.fiber().prepare(|| "ran").map_err(|e| e.kind).unwrap();
    /// drop(prepared);
    /// assert!(handle.join().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`SpawnErrorKind`]; the closure comes back.
    #[track_caller]
    pub fn prepare<F, T>(self, closure: F) -> Result<(Prepared<'a>, JoinHandle<T>), SpawnError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let site = Location::caller();
        match self.checked() {
            // SAFETY: nothing is borrowed.
            Ok((hub, options)) => unsafe { prepare_unchecked(hub, closure, options, site) },
            Err(kind) => Err(SpawnError { closure, kind }),
        }
    }

    pub(super) fn checked(self) -> Result<(&'a Hub, FiberOptions), SpawnErrorKind> {
        let mut options = self.options;
        if let Some(bytes) = self.stack_size {
            options.stack = Some(StackClass::for_size(bytes).map_err(SpawnErrorKind::Stack)?);
        }
        Ok((self.hub, options))
    }
}

#[inline]
fn spawn_on<F, T>(
    hub: &Hub,
    closure: F,
    options: FiberOptions,
    site: &'static Location<'static>,
) -> Result<JoinHandle<T>, SpawnError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing is borrowed.
    unsafe { spawn_unchecked(hub, closure, options, site) }
}

/// A fiber that has a handle and has not been started. Dropped, it never runs, and its handle says abandoned.
#[must_use = "a prepared fiber runs only once it is started"]
pub struct Prepared<'a> {
    hub: &'a Hub,
    /// `None` once it has been started.
    fiber: Option<FiberRef>,
    class: Class,
    spread: bool,
    daemon: bool,
}

impl Prepared<'_> {
    /// Starts it.
    #[inline]
    pub fn start(mut self) {
        let fiber = self.fiber.take().expect("a fiber is started once");
        // Work that is refused here, since the runtime shut down meanwhile, ends as abandoned: its handle says so.
        let submitted = scheduler::submit(self.hub, Work::fiber(fiber), self.class, self.spread);
        if self.daemon && submitted.is_ok() {
            self.hub.daemon_begun();
        }
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(fiber) = self.fiber.take() {
            fiber::refuse(&fiber, Refusal::Abandoned);
        }
    }
}

/// # Safety
/// What `closure` and its result borrow must outlive the fiber's end and the handle.
#[inline]
pub(super) unsafe fn spawn_unchecked<F, T>(
    hub: &Hub,
    closure: F,
    options: FiberOptions,
    site: &'static Location<'static>,
) -> Result<JoinHandle<T>, SpawnError<F>>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: passed on to the caller.
    let (prepared, handle) = unsafe { prepare_unchecked(hub, closure, options, site) }?;
    prepared.start();
    Ok(handle)
}

/// # Safety
/// As [`spawn_unchecked`].
#[inline]
unsafe fn prepare_unchecked<'a, F, T>(
    hub: &'a Hub,
    closure: F,
    options: FiberOptions,
    site: &'static Location<'static>,
) -> Result<(Prepared<'a>, JoinHandle<T>), SpawnError<F>>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let closed = match hub.phase() {
        Phase::Running => false,
        // Its own fibers may still need others to come to an end.
        Phase::Draining => scheduler::worker_of(hub).is_none(),
        Phase::Stopping | Phase::Stopped => true,
    };
    if closed {
        return Err(SpawnError {
            closure,
            kind: SpawnErrorKind::ShutDown,
        });
    }
    let (class, spread, daemon) = (options.class, options.spread, options.daemon);
    // SAFETY: passed on to the caller.
    let (fiber, handle) = unsafe { fiber::create(closure, options, hub.id, site) };
    let prepared = Prepared {
        hub,
        fiber: Some(fiber),
        class,
        spread,
        daemon,
    };
    Ok((prepared, handle))
}
