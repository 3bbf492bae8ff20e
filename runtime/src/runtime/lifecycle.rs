//! A running runtime, and how it ends.

use super::blocking::{BlockingPool, blocking_for_net};
use super::builder::{BuildError, Builder, DropPolicy};
use super::handle::{FiberBuilder, Handle};
use super::monitor::Monitor;
use crate::fiber::JoinHandle;
use crate::fiber::clock::TimeSource;
use crate::loom::sync::{Arc, Mutex};
use crate::loom::thread;
use crate::reactor::PollDriver;
use crate::scheduler::driver::Driver;
use crate::scheduler::{self, Chance, Crew, Hooks, Phase};
use crate::stack::{Slabs, SlabsConfig, StackClass};
use std::time::{Duration, Instant};

/// Longer than anybody waits, and short enough to be added to any instant.
pub(super) const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Starts workers on threads, whatever the embedder's hooks are.
pub(super) trait StartWorker: Send + Sync {
    /// Starts the worker of this index on a thread of its own.
    fn start(&self, index: usize) -> std::io::Result<()>;
    /// What the embedder says of a worker: see `Hooks::is_blocked`.
    fn is_blocked(&self, index: usize) -> Option<bool>;
    /// See `Hooks::is_outside`.
    fn is_outside(&self, index: usize) -> bool;
    /// See `Hooks::blocked`.
    fn blocked(&self, index: usize, turn: u64, age: Duration);
    /// See `Hooks::overdue`.
    fn overdue(&self, index: usize, turn: u64);
    /// See `Hooks::monitor_stop`.
    fn monitor_stop(&self);
    /// Waits for all threads started.
    fn join(&self);
    /// What the threads are called, before a number.
    fn name(&self) -> &str;
}

struct ThreadedCrew<H: Hooks> {
    crew: Crew<H>,
    threads: Threads,
}

struct Threads {
    name: String,
    running: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl<H: Hooks> StartWorker for ThreadedCrew<H> {
    fn start(&self, index: usize) -> std::io::Result<()> {
        let worker = self.crew.worker(index);
        let name = format!("{}-{index}", self.threads.name);
        let thread = thread::Builder::new().name(name).spawn(move || worker.run())?;
        let mut running = self.threads.running.lock();
        // Retired spares have ended.
        running.retain(|thread| !thread.is_finished());
        running.push(thread);
        Ok(())
    }

    fn is_blocked(&self, index: usize) -> Option<bool> {
        self.crew.hooks().is_blocked(index)
    }

    fn is_outside(&self, index: usize) -> bool {
        self.crew.hooks().is_outside(index)
    }

    fn blocked(&self, index: usize, turn: u64, age: Duration) {
        self.crew.hooks().blocked(index, turn, age);
    }

    fn overdue(&self, index: usize, turn: u64) {
        self.crew.hooks().overdue(index, turn);
    }

    fn monitor_stop(&self) {
        self.crew.hooks().monitor_stop();
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.running.lock());
        for thread in threads {
            // A worker does not unwind: it would have aborted.
            let _ = thread.join();
        }
    }

    fn name(&self) -> &str {
        &self.threads.name
    }
}

/// Workers, and the fibers on them. Dropping it drains it, unless [`Builder::on_drop`] says otherwise.
pub struct Runtime {
    handle: Handle,
    crew: Arc<dyn StartWorker>,
    monitor: Monitor,
    on_drop: DropPolicy,
}

impl Runtime {
    /// Settings for a new runtime.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A runtime with the default settings.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    pub(super) fn start<H: Hooks>(builder: Builder<H>) -> Result<Self, BuildError> {
        let workers = builder.worker_count()?;
        let default_stack = StackClass::for_size(builder.stack_size).map_err(BuildError::Stack)?;
        let config = SlabsConfig {
            embedder_bytes: builder.embedder_area,
            ..SlabsConfig::default()
        };
        let slabs = Arc::new(Slabs::new(&config).map_err(BuildError::Stack)?);
        scheduler::install_overflow_report().map_err(BuildError::Stack)?;
        let time = Arc::new(TimeSource::new());
        let drivers = (0..workers)
            .map(|_| Ok(Box::new(PollDriver::new(time.clone())?) as Box<dyn Driver>))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(BuildError::System)?;
        let (hub, crew) = scheduler::build(
            drivers,
            if builder.seed.is_some() {
                0
            } else {
                builder.max_spares
            },
            slabs,
            default_stack,
            time,
            builder.seed.map(Chance::new),
            builder.hooks,
        );
        let hooks = crew.hooks().clone();
        let blocking = BlockingPool::new(
            builder.thread_name.clone(),
            builder.blocking_threads,
            {
                // The hub keeps the pool.
                let hub = Arc::downgrade(&hub);
                Box::new(move || {
                    if let Some(hub) = hub.upgrade() {
                        hub.tell_watchers();
                    }
                })
            },
            Box::new(move || hooks.blocking_stop()),
        );
        hub.set_companion(blocking.clone());
        crate::net::set_blocking(blocking_for_net);
        let threads = Threads {
            name: builder.thread_name,
            running: Mutex::default(),
        };
        let crew = Arc::new(ThreadedCrew { crew, threads });
        let monitor =
            Monitor::start(hub.clone(), crew.clone(), builder.long_turn).map_err(BuildError::System)?;
        // From here on, dropping the runtime stops what has been started.
        let runtime = Self {
            handle: Handle { hub, blocking },
            crew: crew.clone(),
            monitor,
            on_drop: builder.on_drop,
        };
        for index in 0..workers {
            crew.start(index).map_err(BuildError::System)?;
        }
        Ok(runtime)
    }

    /// A reference to spawn with from anywhere.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `closure` in a new fiber.
    #[track_caller]
    pub fn spawn<F, T>(&self, closure: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.handle.spawn(closure)
    }

    /// A fiber with options, not spawned yet.
    pub fn fiber(&self) -> FiberBuilder<'_> {
        self.handle.fiber()
    }

    /// Ends the runtime as `policy` says, and returns whether every fiber had ended by then.
    pub fn shutdown(mut self, policy: DropPolicy) -> bool {
        self.end(policy)
    }

    fn end(&mut self, policy: DropPolicy) -> bool {
        let hub = &self.handle.hub;
        if hub.phase() == Phase::Stopped {
            return true;
        }
        hub.advance(Phase::Draining);
        // A fiber that ends its own runtime cannot wait for itself.
        let from_inside = scheduler::current_hub().is_some_and(|here| here.id == hub.id);
        let deadline = match policy {
            DropPolicy::Drain => None,
            DropPolicy::Abandon(grace) => {
                hub.cancel_all();
                Some(Instant::now() + grace.min(FAR))
            }
        };
        let drained = !from_inside && hub.wait_drained(deadline);
        // Calls on the blocking pool may have fibers that wait for them, so it ends after those.
        let drained = drained & (from_inside || self.handle.blocking.shut(deadline));
        hub.advance(Phase::Stopping);
        if from_inside {
            // The workers leave when their current turns end, this fiber's included; nobody waits for them.
            return false;
        }
        // First the monitor: it starts no more spares.
        self.monitor.stop();
        self.crew.join();
        hub.advance(Phase::Stopped);
        hub.empty_queues();
        drained
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.end(self.on_drop);
    }
}
