//! The monitor: a thread that looks at every worker from outside, and sleeps when all of them do.
//!
//! It samples each worker's turn counter. A worker that is awake and still in the same turn is *stuck* for
//! the others: placement passes it by, thieves may take what it was given, and after a while its poll and
//! timers are looked after in its place. It changes nothing else: a long turn is legal.

use crate::loom::sync::atomic::Ordering;
use crate::loom::sync::{Arc, Condvar, Mutex};
use crate::loom::thread;
use crate::scheduler::{Hub, Phase};
use std::time::{Duration, Instant};

/// Between two samples while workers run.
const PERIOD: Duration = Duration::from_millis(1);
/// A turn this long makes others poll for it.
const POLL_AFTER: Duration = Duration::from_millis(5);
/// Samples in a row with every worker asleep before the monitor sleeps too.
const IDLE_SAMPLES: u32 = 10;

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
    bell: Arc<Bell>,
}

/// What is remembered of a worker between samples.
#[derive(Clone, Copy)]
struct Seen {
    turns: u64,
    since: Instant,
}

impl Monitor {
    pub(super) fn start(hub: Arc<Hub>, name: &str, long_turn: Duration) -> std::io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let rung = bell.clone();
        hub.set_monitor_bell(Box::new(move || rung.ring()));
        let watch = Watch {
            long_turn,
            hub,
            bell: bell.clone(),
        };
        let thread = thread::Builder::new()
            .name(format!("{name}-monitor"))
            .spawn(move || watch.run())?;
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

impl Watch {
    fn run(&self) {
        let now = Instant::now();
        let mut seen = vec![Seen { turns: 0, since: now }; self.hub.remotes.len()];
        let mut idle_samples = 0;
        loop {
            let mut stop = self.bell.stop.lock();
            if *stop {
                return;
            }
            if idle_samples >= IDLE_SAMPLES {
                // From here on a worker that wakes rings the bell. One that woke before we said so is seen now.
                self.hub.monitor_sleeps(true);
                if self.hub.all_asleep() {
                    let _ = self.bell.rung.wait_until(&mut stop, None);
                }
                self.hub.monitor_sleeps(false);
                idle_samples = 0;
                continue;
            }
            if !self
                .bell
                .rung
                .wait_until(&mut stop, Instant::now().checked_add(PERIOD))
            {
                continue;
            }
            drop(stop);
            if self.hub.phase() >= Phase::Stopping || self.hub.all_asleep() {
                idle_samples += 1;
                continue;
            }
            idle_samples = 0;
            self.sample(&mut seen);
        }
    }

    fn sample(&self, seen: &mut [Seen]) {
        let now = Instant::now();
        for (index, (remote, seen)) in self.hub.remotes.iter().zip(seen).enumerate() {
            let turns = remote.counters.turns.get();
            if turns != seen.turns || self.hub.is_asleep(index) {
                *seen = Seen { turns, since: now };
                continue;
            }
            let age = now - seen.since;
            if age >= self.long_turn {
                remote.stuck.store(true, Ordering::Relaxed);
                // When its turn ends it should look outside first, and say that it is back.
                remote.look_now.store(true, Ordering::Relaxed);
                self.hub.rescue(index);
            }
            if age >= POLL_AFTER {
                remote.driver.poll();
            }
        }
    }
}
