//! The one runtime of a process: started at the first spawn, stopped when the interpreter exits.

use crate::blocked::Blocked;
use crate::errors::Cancelled;
use crate::fork;
use crate::hooks::{PythonHooks, ROOM};
use crate::shim::{self, RvWorker, WorkerState};
use crate::{gil, preempt, testing};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use roving_runtime::{DropPolicy, Handle, Runtime};
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long fibers have to end when the interpreter exits, after they were cancelled.
const GRACE: Duration = Duration::from_millis(500);
/// How long their workers have after that.
const LEAVE: Duration = Duration::from_millis(500);
/// How often a worker that does not come back is interrupted meanwhile.
const NUDGE: Duration = Duration::from_millis(50);

struct Engine {
    handle: Handle,
    workers: usize,
    /// `None` once it is being stopped.
    runtime: Mutex<Option<Runtime>>,
}

/// What there is once in a process. A child of a fork begins with one of its own. `roving.testing.run` has another, whose
/// place is taken while it runs: see `testing::seeded`.
pub(crate) struct Process {
    engine: OnceLock<Engine>,
    starting: Mutex<()>,
    stopping: AtomicBool,
    blocked: Mutex<Blocked>,
    /// The workers there are. Each enters and leaves its own record, which lives as long as it stands here.
    workers: Mutex<Vec<Worker>>,
    /// Whether its runtime schedules by chance.
    seeded: bool,
    pub(crate) testing: testing::State,
}

impl Process {
    const fn new(seeded: bool) -> Self {
        Self {
            engine: OnceLock::new(),
            starting: Mutex::new(()),
            stopping: AtomicBool::new(false),
            blocked: Mutex::new(Blocked::new()),
            workers: Mutex::new(Vec::new()),
            seeded,
            testing: testing::State::new(),
        }
    }
}

static FIRST: Process = Process::new(false);
static PROCESS: AtomicPtr<Process> = AtomicPtr::new((&raw const FIRST).cast_mut());
/// The other one, once there is one.
static SEEDED: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

#[inline]
pub(crate) fn process() -> &'static Process {
    // Relaxed: changed in a child that has one thread yet, and by `change_places`, whose caller starts what sees it.
    // SAFETY: never freed.
    unsafe { &*PROCESS.load(Ordering::Relaxed) }
}

/// Forgets the parent's runtime. Called in the child of a fork, which has one thread and none of the others' locks.
pub(crate) fn forget() {
    SEEDED.store(std::ptr::null_mut(), Ordering::Relaxed);
    PROCESS.store(Box::into_raw(Box::new(Process::new(false))), Ordering::Relaxed);
}

impl Process {
    /// The handle of its runtime, if that has been started.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.engine.get().map(|engine| &engine.handle)
    }

    /// Whether its runtime schedules by chance.
    pub(crate) fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// Whether the interpreter is on its way out.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The process whose runtime schedules by chance; made when there is none.
pub(crate) fn seeded() -> &'static Process {
    if SEEDED.load(Ordering::Acquire).is_null() {
        let made = Box::into_raw(Box::new(Process::new(true)));
        let none = std::ptr::null_mut();
        if SEEDED
            .compare_exchange(none, made, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // SAFETY: just made, and nobody else has seen it.
            drop(unsafe { Box::from_raw(made) });
        }
    }
    // SAFETY: never freed.
    unsafe { &*SEEDED.load(Ordering::Acquire) }
}

/// Puts another process in the place of this one; returns which it was.
pub(crate) fn change_places(with: &'static Process) -> &'static Process {
    let before = PROCESS.swap(std::ptr::from_ref(with).cast_mut(), Ordering::AcqRel);
    // SAFETY: never freed.
    unsafe { &*before }
}

/// Gives up the seeded process, with fibers left in it that do not end. Whoever wants one next gets a new one.
pub(crate) fn give_up(py: Python<'_>, process: &'static Process) {
    SEEDED.store(std::ptr::null_mut(), Ordering::Release);
    stop_one(py, process);
}

#[derive(Clone, Copy)]
struct Worker {
    index: usize,
    /// The number Python knows its thread by.
    thread: c_ulong,
    record: *mut RvWorker,
}

// SAFETY: the record is only looked at under the lock of the list, by functions that any thread may call.
unsafe impl Send for Worker {}

/// None of these locks is held across a call into Python.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where to spawn; starts the runtime at the first call.
#[inline]
pub(crate) fn handle(py: Python<'_>) -> PyResult<&'static Handle> {
    match process().engine.get() {
        Some(engine) => Ok(&engine.handle),
        None => start(py, None).map(|engine| &engine.handle),
    }
}

/// The runtime's handle, if it has been started.
pub(crate) fn started() -> Option<&'static Handle> {
    process().engine.get().map(|engine| &engine.handle)
}

/// Whether the interpreter is on its way out.
pub(crate) fn is_stopping() -> bool {
    process().is_stopping()
}

/// Starts the runtime with so many workers, unless it runs with as many already.
pub(crate) fn start_with(py: Python<'_>, workers: usize) -> PyResult<()> {
    let engine = match process().engine.get() {
        Some(engine) => engine,
        None => start(py, Some(workers))?,
    };
    if engine.workers == workers {
        Ok(())
    } else {
        Err(PyRuntimeError::new_err(format!(
            "the runtime has {} workers already and cannot be given {workers}",
            engine.workers
        )))
    }
}

#[cold]
fn start(py: Python<'_>, workers: Option<usize>) -> PyResult<&'static Engine> {
    if fork::is_orphan() {
        return Err(fork::orphaned("spawn"));
    }
    if is_stopping() {
        return Err(PyRuntimeError::new_err(
            "cannot spawn: the interpreter is exiting",
        ));
    }
    shim::install(py)?;
    fork::watch(py)?;
    gil::check(py)?;
    // With a GIL two workers would only wait for one another.
    let gil = shim::gil_enabled();
    let workers = if gil { Some(1) } else { workers };
    let process = process();
    let settings = crate::config::start();
    py.detach(|| {
        let _starting = lock(&process.starting);
        if process.engine.get().is_some() {
            return Ok(());
        }
        let mut builder = Runtime::builder().embedder_area(ROOM);
        if gil {
            // A worker that waits for the GIL looks like one that sits in a blocking call.
            builder = builder.max_spares(0);
        } else if let Some(spares) = settings.max_spares {
            builder = builder.max_spares(spares);
        }
        if let Some(workers) = workers.or(settings.workers) {
            builder = builder.workers(workers);
        }
        if let Some(bytes) = settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        if let Some(threads) = settings.blocking_threads {
            builder = builder.blocking_threads(threads);
        }
        if process.seeded {
            builder = builder.seed(0);
        }
        let runtime = builder.hooks(PythonHooks { process }).build()?;
        if !process.seeded {
            runtime.handle().set_preemption(preempt::quantum());
        }
        let engine = Engine {
            handle: runtime.handle().clone(),
            workers: runtime.handle().metrics().workers.len(),
            runtime: Mutex::new(Some(runtime)),
        };
        if process.engine.set(engine).is_err() {
            unreachable!("starting is under a lock");
        }
        Ok::<_, roving_runtime::BuildError>(())
    })
    .map_err(|error| PyRuntimeError::new_err(format!("the runtime cannot start: {error}")))?;
    // More than once if several threads came here at once: stopping again does nothing.
    let stop = py.import("roving._roving")?.getattr("_stop")?;
    py.import("atexit")?.call_method1("register", (stop,))?;
    Ok(process.engine.get().expect("it has just been started"))
}

impl Process {
    /// A worker's thread has begun. Called on it, attached.
    pub(crate) fn worker_started(&self, index: usize) {
        // SAFETY: asks which thread this is.
        let thread = unsafe { ffi::PyThread_get_thread_ident() };
        let record = shim::this_worker();
        lock(&self.workers).push(Worker {
            index,
            thread,
            record,
        });
    }

    /// A worker's thread ends. Called on it, attached.
    pub(crate) fn worker_stopped(&self, index: usize) {
        lock(&self.workers).retain(|worker| worker.index != index);
    }

    /// What a worker's thread is to the interpreter now. Called by the monitor.
    pub(crate) fn worker_state(&self, index: usize) -> WorkerState {
        let workers = lock(&self.workers);
        let found = workers.iter().find(|worker| worker.index == index);
        found.map_or(WorkerState::Unknown, |worker| {
            // SAFETY: it stands in the list, whose lock we hold.
            unsafe { shim::worker_state(worker.record) }
        })
    }

    /// A worker's record, which may be gone at any time: for comparing.
    pub(crate) fn worker_record(&self, index: usize) -> Option<*mut RvWorker> {
        let workers = lock(&self.workers);
        let found = workers.iter().find(|worker| worker.index == index);
        found.map(|worker| worker.record)
    }

    /// Calls `f`, which calls nothing of Python's, with what is known of blocking calls.
    pub(crate) fn with_blocked<R>(&self, f: impl FnOnce(&mut Blocked) -> R) -> R {
        f(&mut lock(&self.blocked))
    }

    /// Asks the fiber that runs on a worker in this turn to give way. Called by the monitor.
    pub(crate) fn ask_to_give_way(&self, index: usize, turn: u64) {
        if self.is_stopping() {
            return;
        }
        let workers = lock(&self.workers);
        let found = workers.iter().find(|worker| worker.index == index);
        // SAFETY: it stands in the list, whose lock we hold.
        let token = found.and_then(|worker| unsafe { shim::claim_token(worker.record, turn, 0) });
        // Sending attaches, and may wait for a worker that waits for this lock.
        drop(workers);
        if let Some(token) = token {
            // SAFETY: claimed, and not sent yet. This is the monitor's thread, detached, and no lock is held.
            unsafe { shim::send_token(token) };
        }
    }
}

impl Process {
    /// Has a fiber look at what it is to be interrupted with, if it runs at this moment, on another thread. Attached.
    pub(crate) fn nudge(&self, fiber: u64) {
        let Some(handle) = self.handle() else { return };
        if self.is_stopping() {
            return;
        }
        let mut all = handle.metrics().workers.into_iter();
        let Some(index) = all.position(|worker| worker.running == Some(fiber)) else {
            return;
        };
        let workers = lock(&self.workers);
        let found = workers.iter().find(|worker| worker.index == index);
        let token = found
            .filter(|worker| worker.record != shim::this_worker())
            // SAFETY: it stands in the list, whose lock we hold.
            .and_then(|worker| unsafe { shim::claim_token(worker.record, 0, fiber) });
        drop(workers);
        if let Some(token) = token {
            // SAFETY: claimed, not sent yet, and another thread's; attached, with no lock held.
            unsafe { shim::send_token_attached(token) };
        }
    }
}

/// Whether the thread that Python knows by this number is a worker.
pub(crate) fn is_worker_thread(thread: u64) -> bool {
    lock(&process().workers)
        .iter()
        .any(|worker| worker.thread == thread)
}

/// Stop the runtime: called by atexit, and of no use to anybody else.
///
/// Fibers are cancelled, and have a moment to clean up. What then still runs Python code is interrupted; what
/// cannot be interrupted is left behind, and stops for good when it next needs the interpreter.
#[pyfunction(name = "_stop")]
pub(crate) fn stop(py: Python<'_>) {
    let seeded = SEEDED.load(Ordering::Acquire);
    // SAFETY: never freed.
    if let Some(seeded) = unsafe { seeded.as_ref() } {
        stop_one(py, seeded);
    }
    stop_one(py, process());
}

fn stop_one(py: Python<'_>, process: &Process) {
    let Some(engine) = process.engine.get() else {
        return;
    };
    process.stopping.store(true, Ordering::Relaxed);
    // Its fibers have no use for virtual time any more: clean-up that waits must end.
    engine.handle.release_clock();
    let Some(runtime) = lock(&engine.runtime).take() else {
        return;
    };
    let (ended, wait) = mpsc::channel();
    // On a thread of its own, which never attaches: a worker that does not come back would keep it for ever.
    let stopper = std::thread::Builder::new()
        .name("roving-stop".to_owned())
        .spawn(move || {
            runtime.shutdown(DropPolicy::Abandon(GRACE));
            // Nobody listens any more if it took too long.
            let _ = ended.send(());
        });
    if stopper.is_err() {
        return;
    }
    // Locked by this thread alone: it makes the receiver one that a detached closure may use.
    let wait = Mutex::new(wait);
    let deadline = Instant::now() + GRACE + LEAVE;
    let mut running = busy(&engine.handle);
    loop {
        let ended = py.detach(|| lock(&wait).recv_timeout(NUDGE));
        if ended != Err(mpsc::RecvTimeoutError::Timeout) || Instant::now() >= deadline {
            return;
        }
        let now = busy(&engine.handle);
        for (worker, fiber) in &now {
            // The same fiber, all that time: it does not wait, so it has not heard that it was cancelled.
            if running.contains(&(*worker, *fiber)) {
                interrupt(py, process, *worker);
            }
        }
        running = now;
    }
}

/// Which fibers run, and on which workers.
fn busy(handle: &Handle) -> Vec<(usize, u64)> {
    let workers = handle.metrics().workers;
    let running = workers.iter().enumerate();
    running
        .filter_map(|(index, worker)| Some((index, worker.running?)))
        .collect()
}

/// Raises Cancelled in whatever Python code a worker runs.
fn interrupt(py: Python<'_>, process: &Process, worker: usize) {
    let workers = lock(&process.workers);
    let found = workers.iter().find(|found| found.index == worker).copied();
    drop(workers);
    if let Some(Worker { thread, .. }) = found {
        let cancelled = py.get_type::<Cancelled>();
        // SAFETY: attached; a thread that is gone is not found.
        unsafe { ffi::PyThreadState_SetAsyncExc(thread as _, cancelled.as_ptr()) };
    }
}
