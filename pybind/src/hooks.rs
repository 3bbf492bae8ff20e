//! What a worker does around sleep and around every switch. `README.md` argues why it is safe.

use crate::blocked;
use crate::engine::Process;
use crate::shim::{self, RvFiber, WorkerState};
use roving_runtime::{FiberView, Hooks};
use std::time::Duration;

/// Room at the top of every stack: the fiber's record and the first chunk of its Python stack. A quarter of a page
/// more than four pages, so that the boundary to the C stack lies inside a page: parked under a few calls, a
/// fiber uses 2.0 to 2.4 KiB of its C stack, 0.7 KiB here, and all of that is in one page.
pub(crate) const ROOM: usize = (16 << 10) + (1 << 10);

/// The hooks of a process's runtime.
pub(crate) struct PythonHooks {
    pub(crate) process: &'static Process,
}

fn record(fiber: FiberView<'_>) -> *mut RvFiber {
    fiber.word().cast()
}

fn resumed(fiber: FiberView<'_>) {
    // SAFETY: the runtime calls it on the fiber's own stack, right after the switch.
    unsafe { shim::fiber_resumed(record(fiber)) };
}

impl Hooks for PythonHooks {
    const RESUMED: Option<fn(FiberView<'_>)> = Some(resumed);

    fn worker_start(&self, worker: usize) {
        shim::worker_start();
        self.process.worker_started(worker);
    }

    fn worker_stop(&self, worker: usize) {
        self.process.worker_stopped(worker);
        shim::worker_stop();
    }

    fn before_sleep(&self, _worker: usize) {
        shim::worker_detach();
    }

    fn after_sleep(&self, _worker: usize) {
        shim::worker_attach();
    }

    #[inline]
    fn before_resume(&self, fiber: FiberView<'_>, first: bool) {
        if first {
            let room = fiber
                .area()
                .expect("the runtime was built with room for the embedder");
            // SAFETY: the worker's base stack; the room is the fiber's as long as it has its stack.
            let made = unsafe { shim::fiber_first(room, fiber.stack_bounds(), fiber.id().get()) };
            fiber.set_word(made.cast());
        } else {
            // SAFETY: the worker's base stack, and the fiber was suspended through the hook below.
            unsafe { shim::fiber_resume(record(fiber)) };
        }
    }

    #[inline]
    fn after_suspend(&self, fiber: FiberView<'_>) {
        // SAFETY: the worker's base stack, right after the switch.
        unsafe { shim::fiber_suspend(record(fiber)) };
    }

    #[inline]
    fn fiber_end(&self, fiber: FiberView<'_>) {
        // SAFETY: the worker's base stack, right after the switch.
        unsafe { shim::fiber_end(record(fiber)) };
    }

    #[inline]
    fn turn(&self, _worker: usize) {
        shim::worker_turn();
    }

    fn is_blocked(&self, worker: usize) -> Option<bool> {
        if shim::gil_enabled() {
            // A worker that waits for the GIL looks like one in a blocking call, and a spare would wait as well.
            return Some(false);
        }
        match self.process.worker_state(worker) {
            // Whatever it does there, others could run.
            WorkerState::Detached => Some(true),
            // A collection holds everybody up: a spare would be one more to hold up.
            WorkerState::Suspended => Some(false),
            // It calculates, or waits and keeps the interpreter: ask the system.
            WorkerState::Attached | WorkerState::Unknown => None,
        }
    }

    fn is_outside(&self, worker: usize) -> bool {
        !shim::gil_enabled() && self.process.worker_state(worker) == WorkerState::Detached
    }

    fn blocked(&self, worker: usize, turn: u64, age: Duration) {
        blocked::note(self.process, worker, turn, age);
    }

    fn overdue(&self, worker: usize, turn: u64) {
        self.process.ask_to_give_way(worker, turn);
    }

    fn blocking_stop(&self) {
        crate::blocking::forget_state();
    }

    fn monitor_stop(&self) {
        // SAFETY: the monitor's thread, which is attached only while it sends.
        unsafe { shim::monitor_stop() };
    }
}
