//! Blocking: a fiber parks, a plain thread waits detached and looks after signals.
//!
//! All that blocks goes through [`block`]. What waits for a hand-over stands in a queue with a [`Waiter`]; its word decides
//! how the wait ends. It moves away from WAITING once: to CHOSEN by the one that hands over, under the lock of the queue, or
//! to ABORTED by the waiter, under the same lock; so exactly one of them happens. Who has chosen hands over under that
//! lock, and wakes after it: a wake that comes late finds nobody, and leaves a token by which some later park returns early,
//! which every loop here allows.
//!
//! Locks of queues are only ever held attached, for some tens of nanoseconds, with no call into Python and no park under
//! them: so no one who stops the world waits for a holder, and the collector finds what they guard at rest.

use crate::deadlock::Lookout;
use crate::{cancel, clock, deadlock, fork, shim, testing};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use roving_runtime::{Handle, JoinHandle, PlainThread};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the main thread waits, at most, before it looks whether Python has a signal for it. A signal whose handler runs
/// on the main thread ends its wait at once, and the system prefers that thread; this is for one that was handled elsewhere,
/// or came in the instant before the wait.
const NET: Duration = Duration::from_secs(1);
/// How often a wait for a descriptor, which nobody can end from outside, looks at the account of its thread.
const SLICE: Duration = Duration::from_millis(50);

/// Where the caller is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Fiber,
    /// A fiber, below C code that called back. It may hold locks of its own (of sqlite3's connection, of an SSL object), in
    /// the name of this thread: a neighbour would enter them, one of another worker would block it. So nothing parks here.
    Callback,
    Thread,
}

/// Where the caller is, if it may wait there for anything at all.
#[inline]
pub(crate) fn place() -> PyResult<Place> {
    match shim::place() {
        shim::Place::Fiber => Ok(Place::Fiber),
        shim::Place::Thread => Ok(Place::Thread),
        shim::Place::Callback => Ok(Place::Callback),
        shim::Place::Orphan => Err(fork::orphaned("wait")),
        // A destructor of something that was dropped when its fiber never ran.
        shim::Place::Between => Err(PyRuntimeError::new_err(
            "roving: cannot wait here: this runs between two fibers",
        )),
    }
}

/// Where the caller is, if it may wait there for other fibers.
#[inline]
pub(crate) fn place_for_others() -> PyResult<Place> {
    match place()? {
        Place::Callback => Err(PyRuntimeError::new_err(
            "roving: cannot wait here for other fibers: this runs in a callback of C code, which may hold locks",
        )),
        place => Ok(place),
    }
}

/// Somebody who can wait.
pub(crate) enum Who {
    Fiber(roving_runtime::Fiber),
    Thread(PlainThread),
    /// Code between two fibers, which must not: see [`place`].
    Nobody,
}

impl Who {
    /// Whoever runs here.
    #[inline]
    pub(crate) fn current() -> Self {
        match roving_runtime::current_fiber() {
            Some(fiber) => Who::Fiber(fiber),
            None if shim::is_worker() => Who::Nobody,
            None => Who::Thread(PlainThread::current()),
        }
    }

    #[inline]
    fn wake(&self) {
        match self {
            Who::Fiber(fiber) => fiber.unpark(),
            Who::Thread(thread) => thread.unpark(),
            Who::Nobody => {}
        }
    }

    /// Makes its wait, or the next one, look at its account.
    pub(crate) fn interrupt(&self) {
        match self {
            Who::Fiber(fiber) => fiber.cancel(),
            Who::Thread(thread) => {
                testing::disturb(thread);
                thread.unpark();
            }
            Who::Nobody => {}
        }
    }
}

const WAITING: u32 = 0;
const ABORTED: u32 = 1;
/// And with it, shifted by one, what the chooser had to say.
const CHOSEN: u32 = 2;

/// One wait: see the module's documentation.
pub(crate) struct Waiter {
    word: AtomicU32,
    who: Who,
}

impl Waiter {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(WAITING),
            who: Who::current(),
        }
    }

    /// Chooses it; false if it has given up, or was chosen. Under the lock of a queue it is in.
    #[inline]
    pub(crate) fn choose(&self, code: u32) -> bool {
        // Release pairs with the acquire of `chosen`: what is handed over before it is seen.
        self.word
            .compare_exchange(WAITING, code << 2 | CHOSEN, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives up; false if it was chosen. Under the lock of a queue it is in.
    pub(crate) fn abort(&self) -> bool {
        self.word
            .compare_exchange(WAITING, ABORTED, Ordering::Relaxed, Ordering::Acquire)
            .is_ok()
    }

    /// Whether nobody waits for it to be chosen any more.
    pub(crate) fn is_over(&self) -> bool {
        self.word.load(Ordering::Acquire) != WAITING
    }

    /// What its chooser said.
    #[inline]
    pub(crate) fn chosen(&self) -> Option<u32> {
        let word = self.word.load(Ordering::Acquire);
        (word & 3 == CHOSEN).then_some(word >> 2)
    }

    /// Wakes it, once it was chosen and its queue's lock let go of.
    #[inline]
    pub(crate) fn wake(&self) {
        self.who.wake();
        testing::may_switch();
    }

    /// Parks once.
    #[inline]
    fn park(&self, until: Option<Instant>) -> Step {
        if self.chosen().is_some() {
            return Step::Done;
        }
        let left = until.map(left);
        if left.is_some_and(|left| left.is_zero()) {
            return Step::TimedOut;
        }
        let parked = match left {
            None => roving_runtime::park(),
            Some(left) => roving_runtime::park_timeout(left),
        };
        match parked {
            _ if self.chosen().is_some() => Step::Done,
            Ok(()) => Step::Again,
            Err(roving_runtime::Cancelled) => Step::Interrupted,
        }
    }

    /// Waits until it is chosen; false when `deadline` came first. The caller then gives up, under the lock of its queue,
    /// as it does on an error.
    #[inline]
    pub(crate) fn wait(
        self: &Arc<Self>,
        py: Python<'_>,
        deadline: Option<Instant>,
        what: Why,
    ) -> PyResult<bool> {
        block(py, deadline, what, Target::Waiter(self), |until| self.park(until))
    }

    /// Waits until it is chosen, whatever else may come.
    pub(crate) fn wait_regardless(self: &Arc<Self>, py: Python<'_>, what: Why) -> PyResult<()> {
        block_regardless(py, what, Target::Waiter(self), |until| self.park(until))
    }
}

/// What ends a wait. Of a plain thread it is asked whether it has: see `testing`.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    Waiter(&'a Arc<Waiter>),
    Fiber(&'a JoinHandle<()>),
    /// The end of all fibers but daemons.
    All,
    /// Something that nobody here knows of.
    Outside,
}

/// How a park ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// What was waited for is there.
    Done,
    TimedOut,
    /// The runtime was asked to end the wait.
    Interrupted,
    /// For no reason.
    Again,
}

/// What a wait is for, in dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    Nothing = 0,
    Sleep,
    Join,
    Scope,
    Lock,
    Condition,
    Semaphore,
    Event,
    Send,
    Receive,
    Select,
    Blocking,
    Descriptor,
    /// One of CPython's: a thread that is none of ours may let go of it.
    ForeignLock,
    /// As with a lock, a thread that is none of ours may end them.
    Thread,
    Queue,
    /// SQLite's, of a database.
    Sqlite,
    /// That all others have parked.
    Quiet,
    /// A job store's threads.
    Store,
}

impl Why {
    pub(crate) fn of(code: u8) -> &'static str {
        const TEXTS: [&str; 19] = [
            "",
            "sleep",
            "join",
            "scope",
            "lock",
            "condition",
            "semaphore",
            "event",
            "send",
            "recv",
            "select",
            "blocking",
            "descriptor",
            "lock",
            "thread",
            "queue",
            "sqlite",
            "wait_all_parked",
            "job store",
        ];
        TEXTS[usize::from(code)]
    }

    /// Whether only another fiber, or thread, can end it.
    fn is_ours(self) -> bool {
        !matches!(
            self,
            Why::Nothing
                | Why::Sleep
                | Why::Blocking
                | Why::Descriptor
                | Why::ForeignLock
                | Why::Thread
                | Why::Queue
                | Why::Sqlite
                | Why::Quiet
                | Why::Store
        )
    }
}

/// Waits by `step`, which parks once and is called again until it says that it is done; false when `deadline` came first.
/// Raises what the account of the fiber, or thread, has to raise, and what signal handlers raise.
#[inline]
pub(crate) fn block(
    py: Python<'_>,
    deadline: Option<Instant>,
    what: Why,
    target: Target<'_>,
    mut step: impl FnMut(Option<Instant>) -> Step + Send,
) -> PyResult<bool> {
    let place = place_for_others()?;
    // Deadlocks are looked for where threads wait for fibers.
    let looks = place == Place::Thread && matches!(what, Why::Join | Why::Scope);
    let mut lookout = looks.then(Lookout::new);
    loop {
        let limit = cancel::before_park(py)?;
        let until = cancel::earlier(deadline, limit);
        let step = match place {
            Place::Thread => park_thread(py, what, until, target, lookout.as_mut(), &mut step)?,
            _ => park_fiber(what, until, &mut step),
        };
        match step {
            Step::Done => return Ok(true),
            Step::Interrupted => cancel::interrupted(),
            Step::TimedOut | Step::Again => {}
        }
        if deadline.is_some_and(|at| at <= clock::now()) {
            return Ok(false);
        }
    }
}

/// As [`block`], but nothing ends it, save a signal handler that raises.
pub(crate) fn block_regardless(
    py: Python<'_>,
    what: Why,
    target: Target<'_>,
    mut step: impl FnMut(Option<Instant>) -> Step + Send,
) -> PyResult<()> {
    let place = place_for_others()?;
    loop {
        let step = match place {
            Place::Thread => park_thread(py, what, None, target, None, &mut step)?,
            _ => park_fiber(what, None, &mut step),
        };
        match step {
            Step::Done => return Ok(()),
            // The account keeps what it was for until the next wait.
            Step::Interrupted => cancel::interrupted(),
            Step::TimedOut | Step::Again => {}
        }
    }
}

/// Waits for a lock of CPython's in the fiber that runs here: true once `wait` has it, false when `deadline` came first.
/// `shielded`: come what may.
///
/// Code that keeps the books of the standard library (`Semaphore.release`, the import system) waits for its locks come
/// what may, too: half done, its books would be wrong for ever.
pub(crate) fn for_lock(
    py: Python<'_>,
    shielded: bool,
    deadline: Option<Instant>,
    mut wait: impl FnMut(Option<Instant>) -> Result<bool, roving_runtime::Cancelled>,
) -> PyResult<bool> {
    loop {
        let quiet = cancel::is_quiet();
        let regardless = shielded || (!quiet && shim::in_bookkeeping());
        let limit = if quiet || regardless {
            None
        } else {
            cancel::before_park(py)?
        };
        let step = park_fiber(Why::ForeignLock, cancel::earlier(deadline, limit), &mut |until| {
            let waited = if regardless {
                roving_runtime::shield(|| wait(until))
            } else {
                wait(until)
            };
            match waited {
                Ok(true) => Step::Done,
                Ok(false) => Step::TimedOut,
                Err(roving_runtime::Cancelled) => Step::Interrupted,
            }
        });
        match step {
            Step::Done => return Ok(true),
            Step::Interrupted => cancel::interrupted(),
            Step::TimedOut | Step::Again => {}
        }
        if deadline.is_some_and(|at| at <= clock::now()) {
            return Ok(false);
        }
    }
}

#[inline]
fn park_fiber(what: Why, until: Option<Instant>, step: &mut impl FnMut(Option<Instant>) -> Step) -> Step {
    let fiber = cancel::fiber();
    let Some(fiber) = fiber else { return step(until) };
    let endless = until.is_none() && what.is_ours();
    fiber.set_why(what, endless);
    let step = step(until);
    fiber.set_why(Why::Nothing, false);
    step
}

/// Parks a plain thread, detached, and looks after what came meanwhile. It uses no CPU but for a look around each second.
fn park_thread(
    py: Python<'_>,
    what: Why,
    until: Option<Instant>,
    target: Target<'_>,
    lookout: Option<&mut Lookout>,
    step: &mut (impl FnMut(Option<Instant>) -> Step + Send),
) -> PyResult<Step> {
    clock::enlist_thread();
    let watched = testing::wait_of_thread(until, target);
    let endless = (until.is_none() && what.is_ours()).then(deadlock::ThreadWaits::new);
    let lookout = lookout.filter(|_| endless.is_some());
    let slice = if matches!(what, Why::Descriptor) && (cancel::is_in_scope() || clock::stands()) {
        Some(SLICE)
    } else if let Some(lookout) = &lookout {
        Some(lookout.pace())
    } else {
        // Only the main thread runs signal handlers.
        shim::is_main_thread().then_some(NET)
    };
    let slice = slice.map(|slice| clock::now() + slice);
    let until = until.map(clock::not_at_once);
    let ended = py.detach(|| {
        let ended = step(cancel::earlier(until, slice));
        // From here on it runs, be it in a signal handler; and as it may have to wait until it is attached, from here.
        drop(watched);
        ended
    });
    if ended != Step::Done {
        py.check_signals()?;
        if let Some(lookout) = lookout {
            lookout.look(py)?;
        }
    }
    drop(endless);
    Ok(ended)
}

/// Waits until a fiber is done; false when `deadline` came first.
#[inline]
pub(crate) fn join(py: Python<'_>, handle: &JoinHandle<()>, deadline: Option<Instant>) -> PyResult<bool> {
    if handle.is_done() {
        return Ok(true);
    }
    block(py, deadline, Why::Join, Target::Fiber(handle), |until| {
        join_step(handle, until)
    })
}

/// Waits until a fiber is done, whatever else may come.
pub(crate) fn join_regardless(py: Python<'_>, handle: &JoinHandle<()>) -> PyResult<()> {
    block_regardless(py, Why::Scope, Target::Fiber(handle), |until| {
        join_step(handle, until)
    })
}

/// As [`join`], for a scope that ends.
pub(crate) fn join_in_scope(py: Python<'_>, handle: &JoinHandle<()>) -> PyResult<bool> {
    block(py, None, Why::Scope, Target::Fiber(handle), |until| {
        join_step(handle, until)
    })
}

#[inline]
pub(crate) fn join_step(handle: &JoinHandle<()>, until: Option<Instant>) -> Step {
    let done = match until {
        None => handle.wait_interruptible(None),
        Some(at) => wait_until(handle, at),
    };
    match done {
        Ok(true) => Step::Done,
        // Or its time is over: the caller looks.
        Ok(false) => Step::Again,
        Err(roving_runtime::Cancelled) => Step::Interrupted,
    }
}

/// Apart from the join without an end, which is small.
#[inline(never)]
fn wait_until(handle: &JoinHandle<()>, at: Instant) -> Result<bool, roving_runtime::Cancelled> {
    handle.wait_interruptible(Some(left(at)))
}

/// Waits in a plain thread until all fibers but daemons have ended.
pub(crate) fn join_all(py: Python<'_>, handle: &Handle, regardless: bool) -> PyResult<()> {
    let step = |until: Option<Instant>| match handle.wait_idle(until.map(left)) {
        true => Step::Done,
        false => Step::Again,
    };
    if regardless {
        block_regardless(py, Why::Join, Target::All, step)
    } else {
        block(py, None, Why::Join, Target::All, step).map(drop)
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(clock::now())
}

/// Waits for so long.
pub(crate) fn sleep(py: Python<'_>, duration: Duration) -> PyResult<()> {
    let deadline = clock::now().checked_add(duration);
    let waiter = Arc::new(Waiter::new());
    if duration.is_zero() {
        return pause(py);
    }
    if place()? == Place::Callback {
        // As a thread would, and by the system's clock: this keeps the worker, and no other moves while one runs. Nor is
        // anybody cancelled here: C code would swallow it.
        py.detach(|| std::thread::sleep(duration));
        return Ok(());
    }
    block(py, deadline, Why::Sleep, Target::Waiter(&waiter), |until| {
        waiter.park(until)
    })
    .map(drop)
}

/// Lets others run, and looks at the account.
#[inline]
pub(crate) fn pause(py: Python<'_>) -> PyResult<()> {
    match place()? {
        Place::Fiber => roving_runtime::yield_now(),
        // To let others run is a favour, not a need.
        Place::Callback => return Ok(()),
        Place::Thread => {
            py.detach(std::thread::yield_now);
            py.check_signals()?;
        }
    }
    checkpoint(py)
}

/// Looks at the account.
#[inline]
pub(crate) fn checkpoint(py: Python<'_>) -> PyResult<()> {
    testing::may_switch();
    if roving_runtime::checkpoint().is_err() {
        cancel::interrupted();
    }
    cancel::before_park(py).map(drop)
}
