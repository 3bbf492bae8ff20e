//! The one runtime of a process: started at the first spawn, stopped when the interpreter exits.

use crate::blocked::Blocked;
use crate::errors::Cancelled;
use crate::fork;
use crate::hooks::{PythonHooks, ROOM};
use crate::shim::{self, RvWorker, WorkerState};
use crate::{gil, preempt};
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

/// What there is once in a process. A child of a fork begins with one of its own.
struct Process {
    engine: OnceLock<Engine>,
    starting: Mutex<()>,
    stopping: AtomicBool,
    blocked: Mutex<Blocked>,
    /// The workers there are. Each enters and leaves its own record, which lives as long as it stands here.
    workers: Mutex<Vec<Worker>>,
}

impl Process {
    const fn new() -> Self {
        Self {
            engine: OnceLock::new(),
            starting: Mutex::new(()),
            stopping: AtomicBool::new(false),
            blocked: Mutex::new(Blocked::new()),
            workers: Mutex::new(Vec::new()),
        }
    }
}

static FIRST: Process = Process::new();
static PROCESS: AtomicPtr<Process> = AtomicPtr::new((&raw const FIRST).cast_mut());

#[inline]
fn process() -> &'static Process {
    // Relaxed: only changed in a child that has one thread yet.
    // SAFETY: never freed.
    unsafe { &*PROCESS.load(Ordering::Relaxed) }
}

/// Forgets the parent's runtime. Called in the child of a fork, which has one thread and none of the others' locks.
pub(crate) fn forget() {
    PROCESS.store(Box::into_raw(Box::new(Process::new())), Ordering::Relaxed);
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
    process().stopping.load(Ordering::Relaxed)
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
    let settings = crate::config::start();
    py.detach(|| {
        let _starting = lock(&process().starting);
        if process().engine.get().is_some() {
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
        let runtime = builder.hooks(PythonHooks).build()?;
        runtime.handle().set_preemption(preempt::quantum());
        let engine = Engine {
            handle: runtime.handle().clone(),
            workers: runtime.handle().metrics().workers.len(),
            runtime: Mutex::new(Some(runtime)),
        };
        if process().engine.set(engine).is_err() {
            unreachable!("starting is under a lock");
        }
        Ok::<_, roving_runtime::BuildError>(())
    })
    .map_err(|error| PyRuntimeError::new_err(format!("the runtime cannot start: {error}")))?;
    // More than once if several threads came here at once: stopping again does nothing.
    let stop = py.import("roving._roving")?.getattr("_stop")?;
    py.import("atexit")?.call_method1("register", (stop,))?;
    Ok(process().engine.get().expect("it has just been started"))
}

/// A worker's thread has begun. Called on it, attached.
pub(crate) fn worker_started(index: usize) {
    // SAFETY: asks which thread this is.
    let thread = unsafe { ffi::PyThread_get_thread_ident() };
    let record = shim::this_worker();
    lock(&process().workers).push(Worker {
        index,
        thread,
        record,
    });
}

/// A worker's thread ends. Called on it, attached.
pub(crate) fn worker_stopped(index: usize) {
    lock(&process().workers).retain(|worker| worker.index != index);
}

/// What a worker's thread is to the interpreter now. Called by the monitor.
pub(crate) fn worker_state(index: usize) -> WorkerState {
    let workers = lock(&process().workers);
    let found = workers.iter().find(|worker| worker.index == index);
    found.map_or(WorkerState::Unknown, |worker| {
        // SAFETY: it stands in the list, whose lock we hold.
        unsafe { shim::worker_state(worker.record) }
    })
}

/// A worker's record, which may be gone at any time: for comparing.
pub(crate) fn worker_record(index: usize) -> Option<*mut RvWorker> {
    let workers = lock(&process().workers);
    let found = workers.iter().find(|worker| worker.index == index);
    found.map(|worker| worker.record)
}

/// Calls `f`, which calls nothing of Python's, with what is known of blocking calls.
pub(crate) fn with_blocked<R>(f: impl FnOnce(&mut Blocked) -> R) -> R {
    f(&mut lock(&process().blocked))
}

/// Whether the thread that Python knows by this number is a worker.
pub(crate) fn is_worker_thread(thread: u64) -> bool {
    lock(&process().workers)
        .iter()
        .any(|worker| worker.thread == thread)
}

/// Asks the fiber that runs on a worker in this turn to give way. Called by the monitor.
pub(crate) fn ask_to_give_way(index: usize, turn: u64) {
    if is_stopping() {
        return;
    }
    let workers = lock(&process().workers);
    let found = workers.iter().find(|worker| worker.index == index);
    // SAFETY: it stands in the list, whose lock we hold.
    let token = found.and_then(|worker| unsafe { shim::claim_token(worker.record, turn) });
    // Sending attaches, and may wait for a worker that waits for this lock.
    drop(workers);
    if let Some(token) = token {
        // SAFETY: claimed, and not sent yet. This is the monitor's thread, detached, and no lock is held.
        unsafe { shim::send_token(token) };
    }
}

/// Stop the runtime: called by atexit, and of no use to anybody else.
///
/// Fibers are cancelled, and have a moment to clean up. What then still runs Python code is interrupted; what
/// cannot be interrupted is left behind, and stops for good when it next needs the interpreter.
#[pyfunction(name = "_stop")]
pub(crate) fn stop(py: Python<'_>) {
    let Some(engine) = process().engine.get() else {
        return;
    };
    process().stopping.store(true, Ordering::Relaxed);
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
                interrupt(py, *worker);
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
fn interrupt(py: Python<'_>, worker: usize) {
    let workers = lock(&process().workers);
    let found = workers.iter().find(|found| found.index == worker).copied();
    drop(workers);
    if let Some(Worker { thread, .. }) = found {
        let cancelled = py.get_type::<Cancelled>();
        // SAFETY: attached; a thread that is gone is not found.
        unsafe { ffi::PyThreadState_SetAsyncExc(thread as _, cancelled.as_ptr()) };
    }
}
