//! What an embedder (the Python layer) does around sleep and around every switch.

use crate::fiber::{Core, FiberId};
use std::ptr::NonNull;
use std::time::Duration;

/// A fiber, as the hooks see it: on its home worker's thread, for the length of one call.
#[derive(Clone, Copy)]
pub struct FiberView<'a> {
    core: &'a Core,
}

impl<'a> FiberView<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core }
    }

    /// The fiber's number.
    pub fn id(self) -> FiberId {
        self.core.id
    }

    /// The fiber's name.
    pub fn name(self) -> Option<&'a str> {
        self.core.name.as_deref()
    }

    /// The embedder's word; null until it is set.
    pub fn word(self) -> *mut () {
        // SAFETY: a view exists on the home worker's thread only, and this borrows for the one read.
        unsafe { self.core.with_owned(|owned| owned.embedder) }
    }

    /// Sets the embedder's word.
    pub fn set_word(self, word: *mut ()) {
        // SAFETY: as for `word`.
        unsafe { self.core.with_owned(|owned| owned.embedder = word) };
    }

    /// The addresses of the fiber's C stack: it may use everything from the first up to the second, from which
    /// it grows down. Zero when it does not run yet, or has ended.
    pub fn stack_bounds(self) -> (usize, usize) {
        // SAFETY: as for `word`.
        unsafe { self.core.with_owned(|owned| owned.bounds) }
    }

    /// The room at the top of the fiber's stack that `Builder::embedder_area` asked for, or `None` when
    /// it asked for none. Its contents are whatever the last fiber of that stack left.
    pub fn area(self) -> Option<NonNull<[u8]>> {
        // SAFETY: as for `word`.
        unsafe { self.core.with_owned(|owned| owned.area) }
    }
}

/// The embedder's hooks, dispatched statically: a hook left at its default costs nothing.
///
/// All run on a worker's thread and base stack, except `resumed`. None may park, spawn a runtime or
/// panic: a panic in a hook aborts the process, since the scheduler could not go on.
pub trait Hooks: Send + Sync + 'static {
    /// Runs on the fiber's own stack each time it is back on it after a suspension, with the worker's
    /// state as `before_resume` left it. It may block the thread; it may not suspend the fiber.
    /// `None` costs one load and one branch a switch.
    const RESUMED: Option<fn(FiberView<'_>)> = None;

    /// A worker thread begins, before it runs anything. `worker` is its index.
    fn worker_start(&self, worker: usize) {
        let _ = worker;
    }

    /// A worker thread ends, after it has run its last fiber.
    fn worker_stop(&self, worker: usize) {
        let _ = worker;
    }

    /// The worker is about to sleep: nothing of it runs until `after_sleep`.
    fn before_sleep(&self, worker: usize) {
        let _ = worker;
    }

    /// The worker has slept.
    fn after_sleep(&self, worker: usize) {
        let _ = worker;
    }

    /// The worker is about to switch to this fiber, `first` for the first time.
    fn before_resume(&self, fiber: FiberView<'_>, first: bool) {
        let _ = (fiber, first);
    }

    /// The fiber has switched back and will be resumed later.
    fn after_suspend(&self, fiber: FiberView<'_>) {
        let _ = fiber;
    }

    /// The fiber has ended; its stack is about to be reused.
    fn fiber_end(&self, fiber: FiberView<'_>) {
        let _ = fiber;
    }

    /// After every turn and every poll of a future, and every other microsecond while the worker looks on for work: a
    /// safe point.
    fn turn(&self, worker: usize) {
        let _ = worker;
    }

    /// Asked by the monitor's thread about a worker that has been in one turn for a while: does it sit
    /// in a blocking call? `None`: ask the operating system whether its thread waits.
    fn is_blocked(&self, worker: usize) -> Option<bool> {
        let _ = worker;
        None
    }

    /// Asked by the monitor's thread about every worker that runs something, each millisecond: is it in a call that
    /// may block now, however short? Must be cheap. A worker of which this is often true while work waits counts as
    /// blocked, though none of its turns is long.
    fn is_outside(&self, worker: usize) -> bool {
        let _ = worker;
        false
    }

    /// Called by the monitor's thread each millisecond while a worker sits in a blocking call: for how long it has been
    /// in this turn. The call may be over by now. Holds up the monitor.
    fn blocked(&self, worker: usize, turn: u64, age: Duration) {
        let _ = (worker, turn, age);
    }

    /// Called by the monitor's thread: the fiber on this worker has run for a whole quantum
    /// (`Handle::set_preemption`), and others of that worker wait. Some code in the fiber, on its own stack, should soon call
    /// `preempt(turn)`; the core cannot make it do so. Called again, about every millisecond, until the turn is over
    /// or a call of `preempt` finds nobody who waits. May block; holds up the monitor meanwhile.
    fn overdue(&self, worker: usize, turn: u64) {
        let _ = (worker, turn);
    }

    /// The monitor's thread ends, after its last call of the hooks above.
    fn monitor_stop(&self) {}

    /// A thread of the blocking pool ends, after its last call, and before the runtime takes it for gone. Called on it.
    fn blocking_stop(&self) {}
}

/// No embedder.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
