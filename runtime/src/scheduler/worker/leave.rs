//! The end of a worker.

use super::{Next, Worker};
use crate::fiber::options::Class;
use crate::fiber::{self, FiberRef, Refusal};
use crate::loom::sync::atomic::{Ordering, fence};
use crate::scheduler::home::Owner;
use crate::scheduler::hooks::Hooks;

impl<H: Hooks> Worker<H> {
    /// The runtime stops: refuses what has not started, abandons what has.
    pub(super) fn leave(&mut self) {
        self.stop_searching();
        self.return_lots();
        let home = self.home.clone();
        let remote = &home.hub.remotes[home.index];
        fence(Ordering::SeqCst);
        for class in Class::ALL {
            while let Some(work) = self.pop_new(class) {
                drop(work);
            }
        }
        self.with_owner(Owner::clear_next);
        while let Some(Next::Resume(fiber)) = self
            .pop_ready(Class::Normal)
            .or_else(|| self.pop_ready(Class::Background))
        {
            // SAFETY: this is the home worker's loop.
            if unsafe { fiber.with_context(|context| context.is_none()) } {
                // SAFETY: claimed and never started.
                unsafe { fiber::refuse_claimed(&fiber, Refusal::Abandoned) };
            } else {
                // Started: it is listed, and abandoned below through its own reference.
                std::mem::forget(fiber);
            }
        }
        let listed: Vec<FiberRef> = remote.registry.lock().iter().collect();
        for fiber in listed {
            // SAFETY: this is the home worker's loop, which will not resume it any more.
            if let Some(context) = unsafe { fiber.with_context(Option::take) } {
                context.leak();
                home.hub.slabs.note_leaked();
            }
            // SAFETY: it never runs again.
            unsafe { fiber::abandon(fiber) };
        }
        // After the last fiber of this worker is done: those that still wait through it are others'.
        remote.driver().shut();
    }
}
