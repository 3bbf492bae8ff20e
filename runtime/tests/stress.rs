//! A seeded storm: thousands of fibers that spawn, park, wake one another, sleep, cancel, panic, join, wait for
//! futures and call the blocking pool, on more workers than there are cores. Run with `make stress`
//! (`ROVING_STRESS_SECONDS`, `ROVING_SEED`); a minute's worth of it is a smoke test of the suite.

mod common;

use common::{Rng, runtime};
use roving_runtime::{
    Cancelled, Fiber, Handle, JoinError, JoinHandle, block_on, blocking, checkpoint, current_fiber,
    park_timeout, scope, shield, sleep, spawn, spawn_future, yield_now,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a storm has seen; every part must balance in the end.
#[derive(Default)]
struct Ledger {
    spawned: AtomicU64,
    returned: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
}

/// Counts that a closure, with all that it owns, was dropped exactly once.
struct Token(Arc<Ledger>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

struct Storm {
    ledger: Arc<Ledger>,
    /// Fibers that others may wake and cancel.
    known: Mutex<Vec<Fiber>>,
    until: Instant,
}

impl Storm {
    fn child(self: &Arc<Self>, seed: u64, depth: u32) -> JoinHandle<u64> {
        self.ledger.spawned.fetch_add(1, Ordering::Relaxed);
        let (storm, token) = (self.clone(), Token(self.ledger.clone()));
        let run = move || {
            let _token = token;
            storm.act(Rng(seed), depth)
        };
        let handle = Handle::current().expect("on a worker");
        let builder = handle.fiber();
        let builder = match seed % 16 {
            0 => builder.background(),
            1 => builder.spread(),
            2 => builder.stack_size(128 << 10),
            3 => builder.name(format!("storm-{seed}")),
            _ => return spawn(run),
        };
        builder
            .spawn(run)
            .map_err(|error| error.kind)
            .expect("the runtime runs")
    }

    fn settle(&self, outcome: Result<u64, JoinError>) {
        let counter = match outcome {
            Ok(_) => &self.ledger.returned,
            Err(JoinError::Panicked(payload)) => {
                assert!(
                    payload.downcast_ref::<Expected>().is_some(),
                    "a panic that nobody planned"
                );
                &self.ledger.panicked
            }
            Err(JoinError::Cancelled) => &self.ledger.cancelled,
            Err(other) => panic!("{other}"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Joins whatever happens to the joiner: its children must be accounted for.
    fn join(&self, child: JoinHandle<u64>) {
        shield(|| self.settle(child.join()));
    }

    fn act(self: &Arc<Self>, mut rng: Rng, depth: u32) -> u64 {
        let home = std::thread::current().id();
        let me = current_fiber().expect("in a fiber");
        {
            let mut known = self.known.lock().unwrap();
            if known.len() < 512 {
                known.push(me);
            } else {
                let at = rng.below(512) as usize;
                known[at] = me;
            }
        }
        let mut children = Vec::new();
        let mut steps = 0;
        for _ in 0..rng.below(24) {
            if Instant::now() >= self.until || checkpoint().is_err() {
                break;
            }
            steps += 1;
            let _: Result<(), Cancelled> = match rng.below(16) {
                0..=3 if depth > 0 => {
                    children.push(self.child(rng.next(), depth - 1));
                    Ok(())
                }
                4 => sleep(Duration::from_micros(rng.below(500))),
                5 => park_timeout(Duration::from_micros(rng.below(500))),
                6 | 7 => {
                    let other = self.pick(&mut rng);
                    other.unpark();
                    Ok(())
                }
                8 if rng.below(8) == 0 => {
                    self.pick(&mut rng).cancel();
                    Ok(())
                }
                9 => match children.pop() {
                    Some(child) => {
                        if rng.below(4) == 0 {
                            child.cancel();
                        }
                        self.join(child);
                        Ok(())
                    }
                    None => Ok(()),
                },
                10 => {
                    let n = rng.below(100);
                    block_on(async move { spawn_future(async move { n }).await })
                        .map(|value| assert_eq!(value.unwrap(), n))
                }
                11 if rng.below(8) == 0 => match blocking(std::thread::yield_now) {
                    Ok(()) => Ok(()),
                    Err(JoinError::CallerCancelled) => Err(Cancelled),
                    Err(other) => panic!("{other}"),
                },
                12 => {
                    let mut numbers = [1u64; 64];
                    let (left, right) = numbers.split_at_mut(32);
                    scope(|s| {
                        s.spawn(|| left.iter_mut().for_each(|n| *n += 1));
                        s.spawn(|| right.iter_mut().for_each(|n| *n += 1));
                    });
                    // A cancelled owner cancels its scope: then either half may not have run.
                    checkpoint().map(|()| assert_eq!(numbers.iter().sum::<u64>(), 128))
                }
                13 if rng.below(16) == 0 => {
                    for child in children {
                        self.join(child);
                    }
                    std::panic::resume_unwind(Box::new(Expected));
                }
                _ => {
                    yield_now();
                    Ok(())
                }
            };
            assert_eq!(std::thread::current().id(), home, "a started fiber never moves");
        }
        for child in children {
            self.join(child);
        }
        steps
    }

    fn pick(&self, rng: &mut Rng) -> Fiber {
        let known = self.known.lock().unwrap();
        known[rng.below(known.len() as u64) as usize].clone()
    }
}

/// The panic the storm itself raises.
struct Expected;

fn storm(seconds: f64, workers: usize, seed: u64) {
    eprintln!("storm: {workers} workers, {seconds} s, ROVING_SEED={seed}");
    let runtime = runtime(workers);
    let ledger = Arc::new(Ledger::default());
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let storm = Arc::new(Storm {
        ledger: ledger.clone(),
        known: Mutex::default(),
        until,
    });
    let mut rng = Rng(seed);
    while Instant::now() < until {
        let roots: Vec<_> = (0..32)
            .map(|_| {
                let (storm, seed) = (storm.clone(), rng.next());
                ledger.spawned.fetch_add(1, Ordering::Relaxed);
                let token = Token(ledger.clone());
                runtime.spawn(move || {
                    let _token = token;
                    storm.act(Rng(seed), 4)
                })
            })
            .collect();
        for root in roots {
            storm.settle(root.join());
        }
    }
    drop(storm);
    drop(runtime);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let ended = count(&ledger.returned) + count(&ledger.panicked) + count(&ledger.cancelled);
    assert_eq!(count(&ledger.spawned), ended, "every fiber has one end");
    assert_eq!(
        count(&ledger.spawned),
        count(&ledger.dropped),
        "every closure is dropped once"
    );
    eprintln!(
        "storm: {} fibers, {} panicked, {} cancelled before they started",
        ended,
        count(&ledger.panicked),
        count(&ledger.cancelled)
    );
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn fresh_seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64
}

#[test]
fn a_short_storm() {
    for workers in [1, 2, 4] {
        storm(0.5, workers, setting("ROVING_SEED", 1));
    }
}

#[test]
#[ignore = "runs for minutes: make stress"]
fn a_long_storm() {
    let seconds: f64 = setting("ROVING_STRESS_SECONDS", 120.0);
    let seed = setting("ROVING_SEED", fresh_seed());
    for workers in [1, 2, 3, 8] {
        storm(seconds / 4.0, workers, seed);
    }
}
