//! Starting, resuming and ending fibers; polling futures.

use super::Worker;
use crate::context::{StackMemory, Switched};
use crate::fiber::state::ToActive;
use crate::fiber::{self, Core, Directive, FiberRef, Home, Refusal, current};
use crate::loom::sync::atomic::Ordering;
use crate::scheduler::hooks::{FiberView, Hooks};
use crate::scheduler::work::{Runnable, Unpacked, Work};
use std::ptr::NonNull;

impl<H: Hooks> Worker<H> {
    /// Polls a future; gives a fiber a stack. What is to be switched to, and whether for the first time.
    pub(super) fn start(&mut self, work: Work) -> Option<(FiberRef, bool)> {
        match work.unpack() {
            Unpacked::Fiber(fiber) => match fiber.state.transition_to_active() {
                ToActive::Claimed => return self.with_stack(fiber),
                ToActive::Taken => self.count_finished(&fiber),
            },
            Unpacked::Future(runnable) => self.poll_future(runnable),
        }
        None
    }

    fn poll_future(&mut self, runnable: Runnable) {
        // A panic in the future is carried to its handle by the task itself.
        runnable.run();
        self.remote().counters.finished.add(1);
    }

    fn with_stack(&mut self, fiber: FiberRef) -> Option<(FiberRef, bool)> {
        let class = fiber.stack.unwrap_or(self.hub().default_stack);
        let stack = match self.pool.take(class) {
            Ok(stack) => stack,
            Err(error) => {
                // SAFETY: the right to start it is ours.
                unsafe { fiber::refuse_claimed(&fiber, Refusal::NoStack(error)) };
                self.count_finished(&fiber);
                return None;
            }
        };
        let area = stack.embedder_area();
        let bounds = (stack.usable_limit(), stack.base());
        // SAFETY: this worker is its home from here on, and the fiber does not run yet.
        unsafe {
            fiber.with_owned(|owned| {
                owned.area = (!area.is_empty()).then_some(area);
                owned.bounds = bounds;
            });
        }
        // SAFETY: the right to start it is ours, and it is only resumed here.
        let context = unsafe { fiber::mount(&fiber, stack) };
        // SAFETY: this is the home worker's loop.
        unsafe { fiber.with_context(|slot| *slot = Some(context)) };
        self.remote().counters.started.add(1);
        Some((fiber, true))
    }

    #[inline]
    pub(super) fn ready_to_resume(&mut self, fiber: FiberRef) -> Option<(FiberRef, bool)> {
        if let Some((probed, since)) = self.probe
            && probed == fiber.id
        {
            self.probe = None;
            let delay = self.clock.read().saturating_sub(since);
            self.remote().counters.ready_delay.store(delay, Ordering::Relaxed);
        }
        // SAFETY: this is the home worker's loop.
        if unsafe { fiber.with_context(|context| context.is_none()) } {
            return self.with_stack(fiber);
        }
        // SAFETY: this is the home worker's thread.
        unsafe {
            fiber.with_owned(|owned| {
                if !owned.counted {
                    owned.counted = true;
                    self.home.change_live(1);
                }
            });
        }
        Some((fiber, false))
    }

    /// Runs a fiber until it suspends or ends. Always inlined, as what calls it: the processor mispredicts each return to
    /// a frame that was left by a switch, so there should be few.
    #[inline(always)]
    pub(super) fn switch_to(&mut self, fiber: FiberRef, first: bool) {
        let core = fiber.as_ptr();
        self.hooks.before_resume(FiberView::new(&fiber), first);
        current::set_fiber(Some(core));
        self.remote().running.store(fiber.id.get(), Ordering::Relaxed);
        // SAFETY: this is the home worker's loop, on its base stack.
        let switched = unsafe {
            fiber.with_context(|context| context.as_mut().expect("a started fiber has a context").resume())
        };
        current::set_fiber(None);
        self.remote().running.store(0, Ordering::Relaxed);
        match switched {
            Switched::Suspended(directive) => {
                self.hooks.after_suspend(FiberView::new(&fiber));
                self.suspended(fiber, directive);
            }
            Switched::Finished => self.finished(fiber),
        }
    }

    #[inline]
    fn suspended(&mut self, fiber: FiberRef, directive: Directive) {
        let counts = directive == Directive::Yield || !fiber.reason().is_for_children();
        // SAFETY: this is the home worker's thread. The fiber may have been made runnable by another
        // thread meanwhile, but only this one can resume it.
        unsafe {
            fiber.with_owned(|owned| {
                if owned.counted != counts {
                    owned.counted = counts;
                    self.home.change_live(if counts { 1 } else { -1 });
                }
            });
        }
        fiber.since.store(self.clock.coarse(), Ordering::Relaxed);
        match directive {
            Directive::Yield => self.home.schedule_here(fiber),
            // The count now belongs to whoever moves it from PARKED to ACTIVE.
            Directive::Park => {
                let _ = fiber.into_raw();
            }
        }
    }

    fn finished(&mut self, fiber: FiberRef) {
        self.hooks.fiber_end(FiberView::new(&fiber));
        // SAFETY: this is the home worker's loop.
        let context = unsafe { fiber.with_context(Option::take) };
        self.pool.give(context.expect("it has just run").into_stack());
        // SAFETY: this is the home worker's thread.
        let enrolled = unsafe {
            fiber.with_owned(|owned| {
                if std::mem::take(&mut owned.counted) {
                    self.home.change_live(-1);
                }
                owned.area = None;
                owned.bounds = (0, 0);
                owned.enrolled.take()
            })
        };
        if let Some(place) = enrolled {
            self.remote().registry.lock().remove(place);
        }
        self.count_finished(&fiber);
    }

    #[inline]
    fn count_finished(&self, fiber: &FiberRef) {
        if fiber.daemon {
            self.hub().daemon_ends();
        }
        self.remote().counters.finished.add(1);
    }
}

/// What [`Hooks::RESUMED`] is called through, on the fiber's stack.
pub(super) fn resumed<H: Hooks>(core: NonNull<Core>) {
    if let Some(hook) = H::RESUMED {
        // SAFETY: called by the fiber itself, which is alive.
        hook(FiberView::new(unsafe { core.as_ref() }));
    }
}
