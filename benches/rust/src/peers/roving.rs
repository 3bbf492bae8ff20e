//! roving's side.

use crate::shared::{
    BATCH, BUSY_GAP, CHUNKS, CUT, FIB, FIB_CUT, IDLE_GAP, NEVER, Sample, Turn, WakeLatency, chunk, fib_alone,
    fib_spawns, pin_worker, settings, skynet_leaves, skynet_spawns, timers,
};
use crate::table::{Case, Peer, once, timed};
use roving_runtime::{
    Fiber, Hooks, JoinHandle, Runtime, current_fiber, park, park_timeout, sleep, spawn, yield_now,
};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case] = &[
    timed("spawn_join", Peer::Roving, spawn_join),
    timed("spawn_batch", Peer::Roving, spawn_batch),
    timed("spawn_join_main", Peer::Roving, spawn_join_main),
    timed("spawn_batch_main", Peer::Roving, spawn_batch_main),
    timed("switch", Peer::Roving, switch),
    timed("pingpong", Peer::Roving, pingpong),
    timed("pingpong_across", Peer::Roving, pingpong_across),
    timed("wake_idle", Peer::Roving, wake_idle),
    timed("wake_loaded", Peer::Roving, wake_loaded),
    timed("skynet", Peer::Roving, skynet),
    timed("fib", Peer::Roving, fib),
    timed("fib_cutoff", Peer::Roving, fib_cutoff),
    timed("forkjoin", Peer::Roving, forkjoin),
    timed("timer_arm_cancel", Peer::Roving, timer_arm_cancel),
    timed("timers_cancel", Peer::Roving, timers_cancel),
    once("timers_fire", Peer::Roving, timers_fire),
];

/// Each worker on a core of its own.
struct Pinned;

impl Hooks for Pinned {
    fn worker_start(&self, worker: usize) {
        pin_worker(worker);
    }
}

pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let builder = Runtime::builder().workers(settings().workers);
        let built = if settings().pin {
            builder.hooks(Pinned).build()
        } else {
            builder.build()
        };
        built.expect("a runtime for the benches")
    })
}

pub(super) fn join<T>(handle: JoinHandle<T>) -> T {
    handle
        .join()
        .expect("nothing panics in a bench, and nothing is cancelled")
}

/// Runs `f` in a fiber.
pub(super) fn inside<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    join(runtime().spawn(f))
}

fn wait() {
    park().expect("nothing is cancelled in a bench");
}

fn spawn_join(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        for i in 0..rounds {
            black_box(join(spawn(move || i)));
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn spawn_batch(rounds: u64) -> Sample {
    inside(move || {
        let mut handles = Vec::with_capacity(BATCH as usize);
        let start = Instant::now();
        for _ in 0..rounds {
            handles.extend((0..BATCH).map(|i| spawn(move || i)));
            for handle in handles.drain(..) {
                black_box(join(handle));
            }
        }
        Sample::new(start.elapsed(), rounds * BATCH)
    })
}

fn spawn_join_main(rounds: u64) -> Sample {
    let runtime = runtime();
    let start = Instant::now();
    for i in 0..rounds {
        black_box(join(runtime.spawn(move || i)));
    }
    Sample::new(start.elapsed(), rounds)
}

fn spawn_batch_main(rounds: u64) -> Sample {
    let runtime = runtime();
    let mut handles = Vec::with_capacity(BATCH as usize);
    let start = Instant::now();
    for _ in 0..rounds {
        handles.extend((0..BATCH).map(|i| runtime.spawn(move || i)));
        for handle in handles.drain(..) {
            black_box(join(handle));
        }
    }
    Sample::new(start.elapsed(), rounds * BATCH)
}

fn switch(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        let other = spawn(move || (0..rounds).for_each(|_| yield_now()));
        (0..rounds).for_each(|_| yield_now());
        join(other);
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

/// `ours` is 0 for the one that begins.
fn play(turn: &Turn, ours: u64, rounds: u64, other: &Fiber) {
    for round in 0..rounds {
        while !turn.is(2 * round + ours) {
            wait();
        }
        turn.pass();
        other.unpark();
    }
}

fn pingpong(rounds: u64) -> Sample {
    inside(move || {
        let turn = Arc::new(Turn::new());
        let first = current_fiber().expect("inside a fiber");
        let second = spawn({
            let turn = turn.clone();
            move || play(&turn, 1, rounds, &first)
        });
        let start = Instant::now();
        play(&turn, 0, rounds, &second.fiber());
        join(second);
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

/// Two fibers on two workers: runs `first` with the second's reference, and the reverse.
fn on_two_workers<T: Send + 'static>(
    first: impl FnOnce(&Fiber) -> T + Send + 'static,
    second: impl FnOnce(&Fiber) + Send + 'static,
) -> T {
    type Seat = OnceLock<(Fiber, ThreadId)>;
    assert!(settings().workers > 1, "this bench needs two workers");
    let me = || {
        (
            current_fiber().expect("inside a fiber"),
            std::thread::current().id(),
        )
    };
    let seats: Arc<[Seat; 2]> = Arc::default();
    let seen = seats.clone();
    let start_first = move || {
        seen[0].set(me()).expect("set once");
        // Yielding keeps it runnable, so that placement counts it.
        while seen[1].get().is_none() {
            yield_now();
        }
        let (other, _) = seen[1].get().expect("set just now");
        first(other)
    };
    let one = runtime()
        .fiber()
        .spread()
        .spawn(start_first)
        .expect("the runtime runs");
    let second = Arc::new(Mutex::new(Some(second)));
    // Placement may be a moment behind: until it has counted the first, the second may land beside it.
    loop {
        let (seats, second) = (seats.clone(), second.clone());
        let start_second = move || {
            let (other, thread) = seats[0].get()?;
            if *thread == std::thread::current().id() {
                return None;
            }
            seats[1].set(me()).ok()?;
            let second = second.lock().expect("not poisoned").take()?;
            second(other);
            Some(())
        };
        let two = runtime()
            .fiber()
            .spread()
            .spawn(start_second)
            .expect("the runtime runs");
        if join(two).is_some() {
            return join(one);
        }
        std::thread::yield_now();
    }
}

fn pingpong_across(rounds: u64) -> Sample {
    let turn = Arc::new(Turn::new());
    let theirs = turn.clone();
    on_two_workers(
        move |other| {
            let start = Instant::now();
            play(&turn, 0, rounds, other);
            while !turn.is(2 * rounds) {
                wait();
            }
            Sample::new(start.elapsed(), 2 * rounds)
        },
        move |other| play(&theirs, 1, rounds, other),
    )
}

fn wake_idle(rounds: u64) -> Sample {
    let latency = Arc::new(WakeLatency::new());
    let theirs = latency.clone();
    on_two_workers(
        move |other| latency.drive(rounds, IDLE_GAP, || other.unpark()),
        move |_| {
            for round in 1..=rounds {
                while !theirs.answer(round) {
                    wait();
                }
            }
        },
    )
}

fn wake_loaded(rounds: u64) -> Sample {
    let latency = Arc::new(WakeLatency::new());
    let theirs = latency.clone();
    on_two_workers(
        move |other| latency.drive(rounds, BUSY_GAP, || other.unpark()),
        move |_| {
            let stop = Arc::new(AtomicBool::new(false));
            let seen = stop.clone();
            let load = spawn(move || {
                while !seen.load(Ordering::Relaxed) {
                    yield_now();
                }
            });
            // Started here: the waker's worker always has the waker to run, so it steals nothing.
            yield_now();
            for round in 1..=rounds {
                while !theirs.answer(round) {
                    wait();
                }
            }
            stop.store(true, Ordering::Relaxed);
            join(load);
        },
    )
}

fn tree(leaves: u64, number: u64) -> u64 {
    if leaves == 1 {
        return number;
    }
    let part = leaves / 10;
    let children: [_; 10] = std::array::from_fn(|i| {
        let number = number + i as u64 * part;
        spawn(move || tree(part, number))
    });
    children.into_iter().map(join).sum()
}

fn skynet(rounds: u64) -> Sample {
    let leaves = skynet_leaves();
    inside(move || {
        let start = Instant::now();
        for _ in 0..rounds {
            assert_eq!(tree(leaves, 0), leaves * (leaves - 1) / 2);
        }
        Sample::new(start.elapsed(), rounds * skynet_spawns(leaves))
    })
}

fn forked_fib(n: u64, cut: u64) -> u64 {
    if n <= cut {
        return fib_alone(n);
    }
    let left = spawn(move || forked_fib(n - 1, cut));
    let right = forked_fib(n - 2, cut);
    join(left) + right
}

fn fib(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(forked_fib(black_box(FIB), 1));
        }
        Sample::new(start.elapsed(), rounds * fib_spawns(FIB, 1))
    })
}

fn fib_cutoff(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(forked_fib(black_box(FIB_CUT), CUT));
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn chunks(from: u64, count: u64) -> u64 {
    if count == 1 {
        return chunk(from);
    }
    let half = count / 2;
    let left = spawn(move || chunks(from, half));
    let right = chunks(from + half, count - half);
    join(left) ^ right
}

fn forkjoin(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        for round in 0..rounds {
            black_box(chunks(round, CHUNKS));
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn timer_arm_cancel(rounds: u64) -> Sample {
    inside(move || {
        let me = current_fiber().expect("inside a fiber");
        let start = Instant::now();
        for _ in 0..rounds {
            // The token makes the park return when the timer has been armed.
            me.unpark();
            park_timeout(NEVER).expect("nothing is cancelled in a bench");
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn timers_cancel(rounds: u64) -> Sample {
    let count = timers();
    inside(move || {
        let begun = Arc::new(AtomicU64::new(0));
        let mut sleepers = Vec::with_capacity(count as usize);
        let start = Instant::now();
        for round in 1..=rounds {
            sleepers.extend((0..count).map(|_| {
                let begun = begun.clone();
                spawn(move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    park_timeout(NEVER)
                })
            }));
            // An unpark of a fiber that has not started is lost.
            while begun.load(Ordering::Relaxed) < round * count {
                yield_now();
            }
            sleepers.iter().for_each(JoinHandle::unpark);
            for sleeper in sleepers.drain(..) {
                join(sleeper).expect("nothing is cancelled in a bench");
            }
        }
        Sample::new(start.elapsed(), rounds * count)
    })
}

fn timers_fire(_: u64) -> Sample {
    let count = timers();
    inside(move || {
        let lead = Duration::from_millis(100) + Duration::from_micros(5) * count as u32;
        let deadline = Instant::now() + lead;
        let sleepers: Vec<_> = (0..count)
            .map(|_| spawn(move || sleep(deadline.saturating_duration_since(Instant::now()))))
            .collect();
        for sleeper in sleepers {
            join(sleeper).expect("nothing is cancelled in a bench");
        }
        Sample::new(deadline.elapsed(), count)
    })
}
