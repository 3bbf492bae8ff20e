//! Putting a runtime's parts together.

use super::Hooks;
use super::driver::Driver;
use super::home::WorkerHome;
use super::hub::{Hub, Remote};
use super::work::Work;
use super::worker::Worker;
use crate::fiber::current;
use crate::loom::deque;
use crate::loom::sync::Arc;
use crate::stack::{self, Slabs, StackClass, StackError};

/// The hub of a new runtime and the loops of its workers, to be run on a thread each.
pub(crate) fn build<H: Hooks>(
    drivers: Vec<Box<dyn Driver>>,
    slabs: Arc<Slabs>,
    default_stack: StackClass,
    hooks: H,
) -> (Arc<Hub>, Vec<Worker<H>>) {
    let queues: Vec<[deque::Worker<Work>; 2]> = drivers
        .iter()
        .map(|_| [deque::Worker::new_fifo(), deque::Worker::new_fifo()])
        .collect();
    let remotes = std::iter::zip(drivers, &queues)
        .map(|(driver, [normal, background])| Remote::new(driver, [normal.stealer(), background.stealer()]))
        .collect();
    let hub = Arc::new(Hub::new(remotes, slabs, default_stack));
    let hooks = Arc::new(hooks);
    let loops = queues.into_iter().enumerate().map(|(index, local)| {
        Worker::new(
            Arc::new(WorkerHome::new(hub.clone(), index, local)),
            hooks.clone(),
        )
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
                message.push_str(" \"");
                message.push_name(name);
                message.push_str("\"");
            }
        }
    });
    stack::install_overflow_report()
}
