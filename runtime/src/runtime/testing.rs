//! What tests ask of a runtime: whether anything moves in it, and another time.

use super::blocking::BlockingMetrics;
use super::handle::Handle;
use crate::scheduler::{Chance, Watch};
use std::time::Instant;

/// A plain thread that watches a runtime come to rest. Made by [`Handle::observe`].
pub struct Observer(Watch);

impl Observer {
    /// Blocks until the runtime may have come to rest since the last call: ask [`Handle::is_quiet`]. Returns at once the first
    /// time. False when `deadline`, by the system's clock, came first.
    pub fn wait(&mut self, deadline: Option<Instant>) -> bool {
        self.0.wait(deadline)
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Handle {
    /// Whether nothing moves: every fiber that has not ended is parked, and no work is queued. It stays so until something
    /// comes from outside: from a plain thread, a call on the blocking pool, a descriptor, a signal, or time.
    ///
    /// ```
    /// # let runtime = roving_runtime::Runtime::builder().workers(2).build()?;
    /// let handle = runtime.handle();
    /// let fiber = runtime.spawn(roving_runtime::park);
    /// let mut observer = handle.observe();
    /// while !handle.is_quiet() {
    ///     observer.wait(None);
    /// }
    /// assert!(!fiber.is_done());
    /// fiber.unpark();
    /// assert!(fiber.join()?.is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_quiet(&self) -> bool {
        self.hub.is_quiet()
    }

    /// Begins to watch for the moment at which the runtime is quiet.
    pub fn observe(&self) -> Observer {
        Observer(Watch::new(self.hub.clone()))
    }

    /// Makes all observers look again.
    pub fn call_observers(&self) {
        self.hub.call_watchers();
    }

    /// What time it is by this runtime's clock.
    pub fn now(&self) -> Instant {
        self.hub.time.now()
    }

    /// Stops the runtime's clock: deadlines of its fibers and futures come when [`Handle::advance_clock`] brings them. Plain
    /// threads wait by the system's clock as before. False if it stood already.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
    /// let handle = runtime.handle();
    /// assert!(handle.stop_clock());
    /// let fiber = runtime.spawn(|| roving_runtime::sleep(Duration::from_secs(3600)));
    /// let mut observer = handle.observe();
    /// while !handle.is_quiet() {
    ///     observer.wait(None);
    /// }
    /// handle.advance_clock(handle.next_deadline().expect("it sleeps"));
    /// assert!(fiber.join()?.is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_clock(&self) -> bool {
        let stopped = self.hub.time.stop();
        if stopped {
            self.hub.look_at_timers();
        }
        stopped
    }

    /// Goes by the system's clock again. What was to come by the other one comes when the system's gets there: let nothing
    /// wait any more. False if it did so already.
    pub fn release_clock(&self) -> bool {
        let stood = self.hub.time.go_on();
        if stood {
            self.hub.look_at_timers();
        }
        stood
    }

    /// Moves a stopped clock on to `to`, never back, and wakes whoever waited for that. A running clock it leaves alone.
    pub fn advance_clock(&self, to: Instant) {
        if self.hub.time.is_virtual() {
            self.hub.advance_time(to);
        }
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.hub.next_deadline()
    }

    /// Whether something other than time may wake a fiber: a descriptor that is waited for, or a call on the blocking pool.
    pub fn awaits_outside(&self) -> bool {
        let BlockingMetrics {
            threads,
            idle,
            queued,
            ..
        } = self.blocking.metrics();
        queued != 0 || threads != idle || self.hub.awaits_events()
    }

    /// Lets the generator of a runtime that was built with [`Builder::seed`](super::Builder::seed) begin anew; nothing else may
    /// be going on. False for another runtime.
    pub fn reseed(&self, seed: u64) -> bool {
        let chance = self.hub.chance.as_ref();
        chance.map(|chance: &Chance| chance.seed(seed)).is_some()
    }
}
