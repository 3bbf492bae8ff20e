//! The monitor: a thread that looks at every worker from outside, and sleeps when all of them do.
//!
//! It samples each worker's turn counter. A worker that is awake and still in the same turn is *stuck* for
//! the others: placement passes it by, thieves may take what it was given, and its poll and timers are looked
//! after in its place. One that is stuck and waits in a system call is *blocked*. One that spends its time in shorter
//! calls of that kind, as the embedder sees it, is *away*. While there are blocked workers and no other has time, or
//! workers are away and work waits, spares take their places (`scheduler/spare.rs`).
//!
//! It also gives memory of stacks back that a burst of fibers left behind.
//!
//! With a quantum set, it also tells the embedder of fibers that have had theirs while others wait (`quantum.rs`).

use super::lifecycle::StartWorker;
use super::quantum::Turn;
use crate::loom::sync::atomic::Ordering;
use crate::loom::sync::{Arc, Condvar, Mutex};
use crate::loom::thread;
use crate::reactor::PollDriver;
use crate::scheduler::{Hub, Phase, Remote, Role};
use std::time::{Duration, Instant};

/// Between two samples while workers run.
const PERIOD: Duration = Duration::from_millis(1);
/// A turn this long makes others poll for it.
const POLL_AFTER: Duration = Duration::from_millis(5);
/// Samples in a row with every worker asleep before the monitor sleeps too.
const IDLE_SAMPLES: u32 = 10;
/// A worker that was outside, or blocked, in so many of the last 32 samples is away. A third of them: one that does
/// nothing but calls a little longer than a long turn is found blocked for half of each.
const AWAY: u32 = 11;
/// The system is not asked about all workers that are gone more often than that, unless a spare comes of it.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// Between two epochs of the stacks that are kept for a next burst.
const EPOCH: Duration = Duration::from_secs(1);

/// The thread, until it is stopped.
pub(super) struct Monitor {
    bell: Arc<Bell>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Wakes the thread. Apart from the hub, which keeps it: it must not keep the hub.
#[derive(Default)]
struct Bell {
    stop: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        // Under the lock the thread decides to sleep: it hears what comes after.
        drop(self.stop.lock());
        self.rung.notify_all();
    }
}

struct Watch {
    /// A turn this long makes a worker stuck.
    long_turn: Duration,
    hub: Arc<Hub>,
    crew: Arc<dyn StartWorker>,
    bell: Arc<Bell>,
}

/// What is remembered of a worker between samples.
#[derive(Clone, Copy)]
struct Seen {
    turns: u64,
    since: Instant,
    /// Whether it was stuck and waiting at the last sample.
    waited: bool,
    /// One bit a sample, the last one lowest: whether it was outside, or blocked.
    outside: u32,
    turn: Turn,
}

/// What is remembered between samples.
struct Past {
    workers: Vec<Seen>,
    /// Whether unstarted work waited.
    work_waits: bool,
    /// When the system was last asked whether more spares would help, and they would not.
    asked: Instant,
}

impl Seen {
    fn is_away(&self) -> bool {
        self.outside.count_ones() >= AWAY
    }
}

impl Monitor {
    pub(super) fn start(
        hub: Arc<Hub>,
        crew: Arc<dyn StartWorker>,
        long_turn: Duration,
    ) -> std::io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let rung = bell.clone();
        hub.set_monitor_bell(Box::new(move || rung.ring()));
        let name = format!("{}-monitor", crew.name());
        let watch = Watch {
            long_turn,
            hub,
            crew,
            bell: bell.clone(),
        };
        let thread = thread::Builder::new().name(name).spawn(move || {
            watch.run();
            watch.crew.monitor_stop();
        })?;
        Ok(Self {
            bell,
            thread: Some(thread),
        })
    }

    pub(super) fn stop(&mut self) {
        *self.bell.stop.lock() = true;
        self.bell.rung.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Stacks that are kept without being needed are given up in slices of 0.1 ms, one a sample.
struct Epoch {
    since: Instant,
    trimming: bool,
}

impl Epoch {
    fn tidy(&mut self, hub: &Hub) {
        if self.since.elapsed() >= EPOCH {
            self.since = Instant::now();
            self.trimming = hub.slabs.end_epoch();
        }
        self.trimming = self.trimming && hub.slabs.trim();
    }
}

impl Watch {
    fn run(&self) {
        // The system may be 50 us late by default, about as long as the rest of a preemption takes.
        #[cfg(target_os = "linux")]
        // SAFETY: sets a number of this thread's.
        unsafe {
            libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong)
        };
        let now = Instant::now();
        let never = Seen {
            turns: 0,
            since: now,
            waited: false,
            outside: 0,
            turn: Turn::default(),
        };
        let mut past = Past {
            workers: vec![never; self.hub.remotes.len()],
            work_waits: false,
            asked: now,
        };
        // When the next quantum ends.
        let mut due = None;
        let mut idle_samples = 0;
        let mut epoch = Epoch {
            since: now,
            trimming: false,
        };
        loop {
            epoch.tidy(&self.hub);
            let mut stop = self.bell.stop.lock();
            if *stop {
                return;
            }
            if idle_samples >= IDLE_SAMPLES && !epoch.trimming {
                // From here on a worker that wakes rings the bell. One that woke before we said so is seen now.
                self.hub.monitor_sleeps(true);
                if self.hub.all_asleep() {
                    // Asked after they were found asleep: what they kept before that is seen.
                    let until = self.hub.slabs.keep_warm().then(|| epoch.since + EPOCH);
                    let timed_out = self.bell.rung.wait_until(&mut stop, until);
                    self.hub.monitor_sleeps(false);
                    if timed_out {
                        continue;
                    }
                }
                self.hub.monitor_sleeps(false);
                idle_samples = 0;
                continue;
            }
            if !self.bell.rung.wait_until(&mut stop, Some(self.next_sample(due))) {
                continue;
            }
            drop(stop);
            if self.hub.phase() >= Phase::Stopping || self.hub.all_asleep() {
                idle_samples += 1;
                due = None;
                continue;
            }
            idle_samples = 0;
            // A worker whose daemons keep it awake does not tell of the last fiber it ended.
            self.hub.announce_rest();
            due = self.sample(&mut past);
        }
    }

    fn next_sample(&self, due: Option<Instant>) -> Instant {
        let next = Instant::now() + self.hub.quantum().map_or(PERIOD, |quantum| quantum.min(PERIOD));
        due.map_or(next, |due| due.min(next))
    }

    /// Looks at all workers; returns when the next quantum ends, if one does soon.
    fn sample(&self, past: &mut Past) -> Option<Instant> {
        let now = Instant::now();
        let quantum = self.hub.quantum();
        let mut blocked = 0;
        let mut due: Option<Instant> = None;
        for (index, (remote, seen)) in self.hub.workers().iter().zip(past.workers.iter_mut()).enumerate() {
            let turns = remote.counters.turns.get();
            let at_rest = remote.role.get() == Role::Vacant || self.hub.is_asleep(index);
            if at_rest {
                seen.turn.rest(turns, now);
            } else if let Some(quantum) = quantum {
                let tell = || self.crew.overdue(index, turns);
                if let Some(at) = seen.turn.look(&self.hub, index, turns, now, quantum, tell) {
                    due = Some(due.map_or(at, |due| due.min(at)));
                }
            }
            let outside = !at_rest
                && remote.running.load(Ordering::Relaxed) != 0
                && (remote.blocked.load(Ordering::Relaxed) || self.crew.is_outside(index));
            seen.outside = seen.outside << 1 | u32::from(outside);
            if at_rest || turns != seen.turns {
                seen.turns = turns;
                seen.since = now;
                seen.waited = false;
                continue;
            }
            let age = now - seen.since;
            // In its own turns it does, and whose turn it is must not depend on how long they take.
            if age >= POLL_AFTER.min(self.long_turn) && !self.hub.is_by_chance() {
                remote.driver().poll();
            }
            if age < self.long_turn {
                continue;
            }
            remote.stuck.store(true, Ordering::Relaxed);
            // When its turn ends it should look outside first, and say that it is back.
            remote.look_now.store(true, Ordering::Relaxed);
            if self.is_blocked(index, remote, seen) {
                remote.blocked.store(true, Ordering::Relaxed);
            }
            if remote.blocked.load(Ordering::Relaxed) {
                self.crew.blocked(index, turns, age);
                blocked += usize::from(remote.role.get() == Role::Active);
            }
            self.hub.rescue(index);
        }
        let waited = std::mem::replace(&mut past.work_waits, self.hub.has_unstarted());
        let work_waits = waited && past.work_waits;
        self.adjust_spares(past, blocked, work_waits);
        due
    }

    /// Whether a stuck worker sits in a blocking call: the embedder may know; else it does if its thread waits in
    /// a system call, now and at the last sample.
    fn is_blocked(&self, index: usize, remote: &Remote, seen: &mut Seen) -> bool {
        if let Some(blocked) = self.crew.is_blocked(index) {
            return blocked;
        }
        let waits = remote.thread.waits().unwrap_or(false);
        waits && std::mem::replace(&mut seen.waited, waits)
    }

    /// As many active spares as there are blocked workers, as long as nobody else has time; and as many as are away, as
    /// long as work waits.
    fn adjust_spares(&self, past: &mut Past, blocked: usize, work_waits: bool) {
        let workers = self.hub.workers();
        let is_active = |index: &usize| workers[*index].role.get() == Role::Active;
        let spares = || (self.hub.regular..workers.len()).filter(is_active);
        let active = spares().count();
        let gone: Vec<_> = (0..workers.len())
            .filter(is_active)
            .filter(|&index| past.workers[index].is_away() || workers[index].blocked.load(Ordering::Relaxed))
            .collect();
        if active < gone.len() {
            let idle = (0..workers.len())
                .filter(is_active)
                .any(|index| self.hub.is_asleep(index));
            if idle || !(active < blocked || work_waits) || past.asked.elapsed() < ASK_AGAIN {
                return;
            }
            // A spare for one that calculates in its call only shares its core: one for each core, so that new work does
            // start, is enough.
            let waits = |&&index: &&usize| workers[index].thread.waits() != Some(false);
            let waiting = gone.iter().filter(waits).count();
            if active < waiting + (gone.len() - waiting).min(self.hub.regular) {
                self.add_spare();
            } else {
                past.asked = Instant::now();
            }
        } else if active > gone.len() {
            // The one with the least to do rests.
            let least = spares().min_by_key(|&index| workers[index].live.load(Ordering::Relaxed));
            if let Some(index) = least
                && workers[index].role.change(Role::Active, Role::Resting)
            {
                // Asleep it would not notice, and what it was given must go elsewhere.
                self.hub.wake_up(index);
            }
        }
    }

    fn add_spare(&self) {
        let workers = self.hub.workers();
        let resting = (self.hub.regular..workers.len())
            .find(|&index| workers[index].role.change(Role::Resting, Role::Active));
        if let Some(index) = resting {
            return self.hub.wake_up(index);
        }
        let Some(index) = self.hub.vacancy() else { return };
        let remote = &self.hub.remotes[index];
        // Out of descriptors or threads: the next sample tries again.
        if remote
            .equip(|| Ok(Box::new(PollDriver::new(self.hub.time.clone())?)))
            .is_err()
        {
            return;
        }
        self.hub.enlist(index);
        if self.crew.start(index).is_err() {
            self.hub.dismiss(index, Role::Active);
        }
    }
}
