//! The storm as a whole: what all share, how it begins and how it ends.

use crate::channels::Channels;
use crate::common::{Rng, runtime};
use crate::connections::Sockets;
use crate::fibers::Ledger;
use crate::guests;
use crate::locks::Locks;
use crate::watch::{self, Watchdog};
use roving_runtime::{Fiber, Handle, sleep, yield_now};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many fibers can be woken and cancelled by others.
const KNOWN: usize = 512;

/// The panic the storm itself raises.
pub(crate) struct Expected;

/// What all share.
pub(crate) struct Storm {
    pub(crate) handle: Handle,
    pub(crate) until: Instant,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) channels: Channels,
    pub(crate) locks: Locks,
    pub(crate) sockets: Sockets,
    /// Plain threads keep the others' waits from lasting for ever, until all fibers have ended.
    pub(crate) over: AtomicBool,
    known: Mutex<Vec<Fiber>>,
}

impl Storm {
    /// From here on others may wake this fiber and cancel it.
    pub(crate) fn make_known(&self, fiber: Fiber, rng: &mut Rng) {
        let mut known = self.known.lock().unwrap();
        if known.len() < KNOWN {
            known.push(fiber);
        } else {
            known[rng.below(KNOWN as u64) as usize] = fiber;
        }
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<Fiber> {
        let known = self.known.lock().unwrap();
        let at = rng.below(known.len().max(1) as u64) as usize;
        known.get(at).cloned()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Counters that many write and one reads at the end.
pub(crate) type Count = AtomicU64;

pub(crate) fn add(count: &Count, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

pub(crate) fn total(count: &Count) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Takes up a little time, in one way or another; a cancellation shows soon enough elsewhere.
pub(crate) fn pass_time(rng: &mut Rng) {
    match rng.below(4) {
        0 => _ = sleep(Duration::from_micros(rng.below(300))),
        1 => {}
        _ => yield_now(),
    }
}

/// A timeout that is over at about the time when what it is for happens.
pub(crate) fn short(rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.below(400))
}

pub(crate) fn run(seconds: f64, workers: usize, seed: u64) {
    eprintln!("storm: {workers} workers, {seconds} s, ROVING_SEED={seed}");
    let begun = Instant::now();
    let runtime = runtime(workers);
    let limit = Duration::from_secs_f64(seconds + 60.0);
    let watchdog = Watchdog::new(limit, runtime.handle().clone());
    let mut rng = Rng(seed);
    let storm = Arc::new(Storm {
        handle: runtime.handle().clone(),
        until: begun + Duration::from_secs_f64(seconds),
        ledger: Arc::default(),
        channels: Channels::new(),
        locks: Locks::new(),
        sockets: Sockets::new(seed),
        over: AtomicBool::new(false),
        known: Mutex::default(),
    });
    let servers = storm.serve();
    let guests: Vec<_> = (0..2)
        .map(|_| {
            let (storm, seed) = (storm.clone(), rng.next());
            std::thread::spawn(move || guests::visit(&storm, Rng(seed)))
        })
        .collect();
    let pump = std::thread::spawn({
        let (storm, seed) = (storm.clone(), rng.next());
        move || guests::keep_going(&storm, Rng(seed))
    });
    storm.rage(&mut rng);
    for guest in guests {
        guest.join().expect("a plain thread that took part panicked");
    }
    storm.over.store(true, Ordering::Relaxed);
    pump.join().expect("the pump panicked");
    storm.end_serving(servers);
    // The last ones are joined before they have left their stacks.
    watch::until("every fiber has ended", || runtime.handle().dump().is_empty());
    watch::until("every stack is free", || {
        runtime.handle().metrics().stacks_live == 0
    });
    assert_eq!(runtime.handle().metrics().stacks_leaked, 0);
    drop(runtime);

    let storm = Arc::into_inner(storm).expect("whoever held it has ended");
    drop(storm.known);
    storm.ledger.balance();
    storm.channels.balance();
    storm.locks.balance();
    storm.sockets.balance();
    drop(watchdog);
    eprintln!("storm: over after {:.1?}", begun.elapsed());
}
