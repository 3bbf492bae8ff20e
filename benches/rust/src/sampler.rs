//! From cases to samples: how many rounds to do, and what to do with a case that does not end.

use crate::table::{Case, Rounds};
use crate::{Peer, Sample};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Takes samples, and remembers for each case how many rounds fill one.
pub struct Sampler {
    length: Duration,
    rounds: HashMap<(&'static str, Peer), u64>,
}

impl Sampler {
    /// Samples of about `length` each.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            rounds: HashMap::new(),
        }
    }

    /// One sample. The first of a case warms it up too: it finds out how many rounds to do. A case may become
    /// much faster or slower later, and is calibrated again then.
    pub fn sample(&mut self, case: &Case) -> Sample {
        if case.rounds == Rounds::One {
            return (case.run)(1);
        }
        let length = self.length;
        let rounds = self
            .rounds
            .entry((case.bench, case.peer))
            .or_insert_with(|| calibrate(case, 1, length));
        let start = Instant::now();
        let sample = (case.run)(*rounds);
        let took = start.elapsed();
        if took > 4 * length {
            *rounds = (*rounds / 4).max(1);
        } else if took < length / 2 {
            *rounds = calibrate(case, *rounds, length);
            return (case.run)(*rounds);
        }
        sample
    }
}

/// How many rounds take about `length`, found by growing steps that warm up caches, pools and workers.
fn calibrate(case: &Case, mut rounds: u64, length: Duration) -> u64 {
    loop {
        let start = Instant::now();
        (case.run)(rounds);
        // The whole run, not what it says: some measure only a part of what they do.
        let took = start.elapsed();
        let wanted = length.as_secs_f64() / took.as_secs_f64().max(1e-9);
        if wanted < 1.5 {
            return rounds.max((rounds as f64 * wanted) as u64);
        }
        rounds = (rounds as f64 * wanted.min(10.0)).ceil() as u64;
    }
}

/// Ends the process when a sample takes too long: nobody may wait for a bench for ever.
pub struct Watchdog {
    /// When to bite, in milliseconds since `origin`; 0 while nothing runs.
    deadline: Arc<AtomicU64>,
    origin: Instant,
    limit: Duration,
}

impl Watchdog {
    /// One that allows `limit` for each sample. What it calls before it ends the process, with `EXIT`,
    /// is `bark`.
    pub fn new(limit: Duration, bark: impl Fn() + Send + 'static) -> Self {
        let deadline = Arc::new(AtomicU64::new(0));
        let origin = Instant::now();
        let watched = deadline.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(250));
                let deadline = watched.load(Ordering::Relaxed);
                if deadline != 0 && origin.elapsed() > Duration::from_millis(deadline) {
                    bark();
                    // SAFETY: ends the process without running anything of it, which hangs.
                    unsafe { libc::_exit(Self::EXIT) };
                }
            }
        });
        Self {
            deadline,
            origin,
            limit,
        }
    }

    /// What the process ends with.
    pub const EXIT: i32 = 3;

    /// Runs `f` under the limit.
    pub fn watch<T>(&self, f: impl FnOnce() -> T) -> T {
        let deadline = (self.origin.elapsed() + self.limit).as_millis() as u64;
        self.deadline.store(deadline.max(1), Ordering::Relaxed);
        let result = f();
        self.deadline.store(0, Ordering::Relaxed);
        result
    }
}
