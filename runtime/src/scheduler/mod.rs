//! The scheduler: workers that start stealable work and resume the fibers pinned to them.
//! The README beside this file holds the turn, the sleep protocol, and placement.

mod clock;
pub(crate) mod driver;
mod home;
mod hooks;
mod hub;
mod idle;
mod inbox;
mod placement;
mod ready;
mod registry;
mod work;
mod worker;

#[cfg(all(test, loom))]
mod loom_test;

pub(crate) use home::{current_hub, submit, with_current_hub};
pub use hooks::{FiberView, Hooks, NoHooks};
pub(crate) use hub::{Hub, Phase};
pub(crate) use work::{Runnable, Work};
pub(crate) use worker::Worker;

use crate::fiber::current;
use crate::loom::deque::{self, Steal};
use crate::loom::sync::Arc;
use crate::stack::{self, Slabs, StackClass, StackError};
use driver::Driver;
use home::WorkerHome;
use hub::Remote;

/// The hub of a new runtime and the loops of its workers, to be run on a thread each.
pub(crate) fn build<H: Hooks>(
    drivers: Vec<Box<dyn Driver>>,
    slabs: Arc<Slabs>,
    default_stack: StackClass,
    hooks: H,
) -> (Arc<Hub>, Vec<Worker<H>>) {
    let queues: Vec<[deque::Worker<Work>; 2]> =
        drivers.iter().map(|_| [deque::Worker::new_fifo(), deque::Worker::new_fifo()]).collect();
    let remotes = std::iter::zip(drivers, &queues)
        .map(|(driver, [normal, background])| Remote::new(driver, [normal.stealer(), background.stealer()]))
        .collect();
    let hub = Arc::new(Hub::new(remotes, slabs, default_stack));
    let hooks = Arc::new(hooks);
    let loops = queues.into_iter().enumerate().map(|(index, local)| {
        Worker::new(Arc::new(WorkerHome::new(hub.clone(), index, local)), hooks.clone())
    });
    let loops = loops.collect();
    (hub, loops)
}

/// Makes a stack overflow name the fiber.
pub(crate) fn install_overflow_report() -> Result<(), StackError> {
    stack::set_describe(|message| {
        if let Some(core) = current::fiber() {
            // SAFETY: the fiber that runs on this thread is alive.
            let core = unsafe { core.as_ref() };
            message.push_decimal(core.id.get());
            if let Some(name) = &core.name {
                message.push_str(" ");
                message.push_name(name);
            }
        }
    });
    stack::install_overflow_report()
}

/// Tries until a steal succeeds or finds nothing.
fn steal<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            // Another thief was faster, so somebody makes progress.
            Steal::Retry => crate::loom::hint::spin_loop(),
        }
    }
}
