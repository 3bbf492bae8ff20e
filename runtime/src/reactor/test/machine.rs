//! Workers without a runtime: fibers start where a test says, and it sees what they wait for.

use crate::fiber::clock::TimeSource;
use crate::fiber::options::{Class, FiberOptions};
use crate::fiber::{self, JoinHandle, WaitReason};
use crate::reactor::PollDriver;
use crate::reactor::record::Registrar;
use crate::scheduler::driver::Driver;
use crate::scheduler::{self, Hub, NoHooks, Phase, Work};
use crate::stack::{Slabs, SlabsConfig, StackClass};
use std::any::Any;
use std::panic::Location;
use std::sync::Arc;
use std::thread;

pub(super) struct Machine {
    pub(super) hub: Arc<Hub>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Machine {
    pub(super) fn new(workers: usize) -> Self {
        let drivers = (0..workers)
            .map(|_| {
                Box::new(PollDriver::new(Arc::new(TimeSource::new())).expect("a poll")) as Box<dyn Driver>
            })
            .collect();
        let slabs = Arc::new(Slabs::new(&SlabsConfig::default()).expect("a configuration that will do"));
        let (hub, crew) = scheduler::build(
            drivers,
            0,
            slabs,
            StackClass::DEFAULT,
            Arc::new(TimeSource::new()),
            None,
            NoHooks,
        );
        let threads = (0..workers)
            .map(|index| crew.worker(index))
            .map(|worker| thread::spawn(move || worker.run()))
            .collect();
        Self { hub, threads }
    }

    /// Starts a fiber on one worker.
    pub(super) fn spawn_on<T: Send + 'static>(
        &self,
        worker: usize,
        closure: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (options, site) = (FiberOptions::default(), Location::caller());
        // SAFETY: nothing is borrowed.
        let (fiber, handle) = unsafe { fiber::create(closure, options, self.hub.id, site) };
        self.hub.count_from_outside();
        self.hub.hand_to(worker, Work::fiber(fiber), Class::Normal);
        handle
    }

    pub(super) fn registrar(&self, worker: usize) -> &Registrar {
        let driver: &dyn Any = self.hub.remotes[worker].driver();
        driver
            .downcast_ref::<PollDriver>()
            .expect("it is ours")
            .registrar()
    }

    pub(super) fn poll(&self, worker: usize) {
        self.hub.remotes[worker].driver().poll();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.hub.advance(Phase::Draining);
        self.hub.wait_drained(None);
        self.hub.advance(Phase::Stopping);
        for thread in self.threads.drain(..) {
            thread.join().expect("a worker does not panic");
        }
        self.hub.advance(Phase::Stopped);
        self.hub.empty_queues();
    }
}

/// Returns once the fiber is parked for `reason`.
pub(super) fn wait_parked<T>(handle: &JoinHandle<T>, reason: WaitReason) {
    let fiber = handle.fiber().0;
    while !(fiber.state.load().is_parked() && fiber.reason() == reason) {
        assert!(!handle.is_done(), "it ended instead");
        thread::yield_now();
    }
}
