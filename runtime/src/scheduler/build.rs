//! Putting a runtime's parts together.

use super::Hooks;
use super::driver::Driver;
use super::home::WorkerHome;
use super::hub::{Hub, Remote};
use super::lottery::Chance;
use super::work::Work;
use super::worker::Worker;
use crate::fiber::clock::TimeSource;
use crate::fiber::current;
use crate::loom::deque;
use crate::loom::sync::Arc;
use crate::stack::{self, Slabs, StackClass, StackError};

/// The workers of a runtime, and the places for spares: whoever holds it may run any of them, on a thread each.
pub(crate) struct Crew<H: Hooks> {
    homes: Vec<Arc<WorkerHome>>,
    hooks: Arc<H>,
}

impl<H: Hooks> Crew<H> {
    /// The loop of one worker.
    pub(crate) fn worker(&self, index: usize) -> Worker<H> {
        Worker::new(self.homes[index].clone(), self.hooks.clone())
    }

    /// The embedder's hooks.
    pub(crate) fn hooks(&self) -> &Arc<H> {
        &self.hooks
    }
}

/// The hub of a new runtime with a worker for each driver, and its crew.
pub(crate) fn build<H: Hooks>(
    drivers: Vec<Box<dyn Driver>>,
    spares: usize,
    slabs: Arc<Slabs>,
    default_stack: StackClass,
    time: Arc<TimeSource>,
    chance: Option<Chance>,
    hooks: H,
) -> (Arc<Hub>, Crew<H>) {
    let vacancies = std::iter::repeat_with(|| None).take(spares);
    let (remotes, locals): (Vec<_>, Vec<_>) = drivers
        .into_iter()
        .map(Some)
        .chain(vacancies)
        .map(|driver| {
            let local: [deque::Worker<Work>; 2] = [deque::Worker::new_fifo(), deque::Worker::new_fifo()];
            (
                Remote::new(driver, [local[0].stealer(), local[1].stealer()]),
                local,
            )
        })
        .unzip();
    let hub = Arc::new(Hub::new(remotes.into(), slabs, default_stack, time, chance));
    let homes = locals.into_iter().enumerate();
    let homes = homes
        .map(|(index, local)| Arc::new(WorkerHome::new(hub.clone(), index, local)))
        .collect();
    (
        hub,
        Crew {
            homes,
            hooks: Arc::new(hooks),
        },
    )
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
