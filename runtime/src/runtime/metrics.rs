//! Counters, and a list of all fibers.

use super::blocking::BlockingMetrics;
use super::handle::Handle;
use crate::fiber::{FiberId, WaitReason};
use crate::loom::sync::atomic::Ordering;
use crate::scheduler::Role;
use std::panic::Location;
use std::time::Duration;

/// What one worker has done since it started. The counters are read while it runs: each is right by itself,
/// and together they may be off by a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Times it ran something.
    pub turns: u64,
    /// Fibers and wakes of futures it queued.
    pub spawned: u64,
    /// Fibers it started.
    pub started: u64,
    /// Fibers and polls it finished.
    pub finished: u64,
    /// Times it took work from another worker.
    pub stolen: u64,
    /// Fibers it handed to a worker with fewer.
    pub handed_over: u64,
    /// Times it slept.
    pub slept: u64,
    /// Times it looked at timers, I/O and the injector out of turn.
    pub looks: u64,
    /// Times a fiber was suspended at the end of its quantum.
    pub preempted: u64,
    /// Started fibers that will want it again.
    pub live: usize,
    /// How long a fiber waited in its ready queue, when last measured.
    pub ready_delay: Duration,
    /// The longest that one of its started fibers can have waited because another's turn took milliseconds.
    pub held_up: Duration,
    /// Whether it has been in one turn for milliseconds.
    pub stuck: bool,
    /// Whether it sits in a blocking call, as far as can be seen from outside.
    pub blocked: bool,
    /// Whether it is a spare that no longer starts fibers, or has ended.
    pub resting: bool,
    /// Whether it was a spare and has ended: a place for the next.
    pub vacant: bool,
    /// The fiber it runs.
    pub running: Option<u64>,
}

/// What a runtime has done since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// One entry a worker.
    pub workers: Vec<WorkerMetrics>,
    /// Workers that sleep.
    pub sleeping: usize,
    /// Whether all of them do, those at rest included.
    pub asleep: bool,
    /// Fibers, futures and wakes that have not ended.
    pub outstanding: u64,
    /// Those of them that [`Handle::wait_idle`] waits for. Exact when it says zero.
    pub awaited: u64,
    /// Stacks that fibers hold.
    pub stacks_live: usize,
    /// Stacks kept warm.
    pub stacks_cached: usize,
    /// Stacks lost to abandoned fibers.
    pub stacks_leaked: usize,
    /// Address space of all stacks, in bytes.
    pub stacks_mapped: usize,
    /// The blocking pool.
    pub blocking: BlockingMetrics,
}

/// What a listed fiber is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FiberState {
    /// On a worker, or in its queue.
    Active,
    /// Waiting.
    Parked(WaitReason),
}

/// One fiber of a dump.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FiberInfo {
    /// Its number.
    pub id: FiberId,
    /// Its name.
    pub name: Option<Box<str>>,
    /// The worker it is pinned to.
    pub worker: usize,
    /// What it does.
    pub state: FiberState,
    /// How long ago it was suspended last, to within a look of its worker (some 200 us).
    pub since: Duration,
    /// Where it was spawned.
    pub site: &'static Location<'static>,
    /// Whether it has been asked to stop.
    pub cancelled: bool,
}

impl std::fmt::Display for FiberInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fiber {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        match self.state {
            FiberState::Active => write!(f, " active")?,
            FiberState::Parked(reason) => write!(f, " parked in {reason:?} for {:.1?}", self.since)?,
        }
        write!(f, " on worker {}, spawned at {}", self.worker, self.site)?;
        if self.cancelled {
            f.write_str(", cancelled")
        } else {
            Ok(())
        }
    }
}

impl Handle {
    /// The runtime's counters.
    pub fn metrics(&self) -> Metrics {
        let hub = &self.hub;
        let workers = hub.workers().iter().map(|remote| {
            let counters = &remote.counters;
            WorkerMetrics {
                turns: counters.turns.get(),
                spawned: counters.spawned.get(),
                started: counters.started.get(),
                finished: counters.finished.get(),
                stolen: counters.stolen.get(),
                handed_over: counters.handed_over.get(),
                slept: counters.slept.get(),
                looks: counters.looks.get(),
                preempted: counters.preempted.get(),
                live: remote.live.load(Ordering::Relaxed),
                ready_delay: Duration::from_nanos(counters.ready_delay.load(Ordering::Relaxed)),
                held_up: Duration::from_nanos(counters.held_up.load(Ordering::Relaxed)),
                stuck: remote.stuck.load(Ordering::Relaxed),
                blocked: remote.blocked.load(Ordering::Relaxed),
                resting: remote.role.get() != Role::Active,
                vacant: remote.role.get() == Role::Vacant,
                running: Some(remote.running.load(Ordering::Relaxed)).filter(|&id| id != 0),
            }
        });
        let stacks = hub.slabs.stats();
        Metrics {
            workers: workers.collect(),
            sleeping: hub.sleeping(),
            asleep: hub.all_asleep(),
            outstanding: hub.outstanding(),
            awaited: hub.outstanding_but_daemons(),
            stacks_live: stacks.live,
            stacks_cached: stacks.cached,
            stacks_leaked: stacks.leaked,
            stacks_mapped: stacks.mapped_bytes,
            blocking: self.blocking.metrics(),
        }
    }

    /// Every fiber that has been suspended at least once and has not ended, oldest first. Fibers that have
    /// not started, or are in their first turn, are only counted, in [`Handle::metrics`]: listing them would
    /// slow every spawn down.
    pub fn dump(&self) -> Vec<FiberInfo> {
        let now = self.hub.now();
        let mut fibers = Vec::new();
        for (worker, remote) in self.hub.workers().iter().enumerate() {
            let registry = remote.registry.lock();
            fibers.reserve(registry.len());
            fibers.extend(registry.iter().map(|fiber| {
                let snapshot = fiber.state.load();
                let state = if snapshot.is_parked() {
                    FiberState::Parked(fiber.reason())
                } else {
                    FiberState::Active
                };
                FiberInfo {
                    id: fiber.id,
                    name: fiber.name.clone(),
                    worker,
                    state,
                    since: Duration::from_nanos(now.saturating_sub(fiber.since.load(Ordering::Relaxed))),
                    site: fiber.site,
                    cancelled: snapshot.is_cancelled(),
                }
            }));
        }
        fibers.sort_unstable_by_key(|fiber| fiber.id);
        fibers
    }
}
