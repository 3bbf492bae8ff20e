//! Workers that sit in blocking calls, and the spares that take their place.

mod common;

use common::{Gate, runtime};
use roving_runtime::{DropPolicy, Runtime, sleep, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Blocks every worker's thread until fibers that can only run on spares have run.
#[test]
fn new_fibers_start_while_every_worker_is_blocked() {
    let runtime = runtime(2);
    let gate = Gate::default();
    // Both workers are blocked before anything else is spawned: what starts on one earlier would wait with it.
    let entered = Arc::new(std::sync::Barrier::new(3));
    let blockers: Vec<_> = (0..2)
        .map(|_| {
            let (gate, entered) = (gate.clone(), entered.clone());
            runtime.spawn(move || {
                entered.wait();
                gate.wait();
            })
        })
        .collect();
    entered.wait();
    let done = Arc::new(AtomicUsize::new(0));
    let fibers: Vec<_> = (0..100)
        .map(|_| {
            let (done, gate) = (done.clone(), gate.clone());
            runtime.spawn(move || {
                // Timers and joins work on spares too.
                sleep(Duration::from_micros(100)).unwrap();
                spawn(|| ()).join().unwrap();
                if done.fetch_add(1, Ordering::Relaxed) == 99 {
                    gate.open();
                }
            })
        })
        .collect();
    for fiber in fibers.into_iter().chain(blockers) {
        fiber.join().unwrap();
    }
    assert!(runtime.handle().metrics().workers.len() > 2);
}

#[test]
fn spares_may_block_too_up_to_their_limit() {
    let runtime = Runtime::builder()
        .workers(1)
        .max_spares(3)
        .on_drop(DropPolicy::Abandon(Duration::from_secs(10)))
        .build()
        .unwrap();
    // One worker and three spares: four fibers that block until all four run, and a fifth after them.
    let barrier = Arc::new(std::sync::Barrier::new(4));
    let fibers: Vec<_> = (0..5)
        .map(|n| {
            let barrier = barrier.clone();
            runtime.spawn(move || {
                if n < 4 {
                    barrier.wait();
                }
            })
        })
        .collect();
    for fiber in fibers {
        fiber.join().unwrap();
    }
    assert!(runtime.handle().metrics().workers.len() <= 4);
}

#[test]
fn spares_rest_when_the_blocked_are_back() {
    let runtime = runtime(1);
    for _ in 0..20 {
        let gate = Gate::default();
        let held = gate.clone();
        let blocker = runtime.spawn(move || held.wait());
        runtime.spawn(move || gate.open()).join().unwrap();
        blocker.join().unwrap();
        // The worker's next look says that it is back, the monitor's next sample that the spare may rest.
        let resting = || {
            runtime.handle().metrics().workers[1..]
                .iter()
                .all(|worker| worker.resting)
        };
        while !resting() {
            runtime.spawn(|| ()).join().unwrap();
            std::thread::yield_now();
        }
        // On a loaded machine one that is not given a core may pass for blocked, and get a spare too.
        assert!(
            runtime.handle().metrics().workers.len() <= 5,
            "a resting spare is used again"
        );
    }
}

#[test]
fn without_spares_the_blocked_are_waited_for() {
    let runtime = Runtime::builder().workers(1).max_spares(0).build().unwrap();
    let gate = Gate::default();
    let held = gate.clone();
    let blocker = runtime.spawn(move || held.wait());
    let other = runtime.spawn(|| 7);
    while !runtime.handle().metrics().workers[0].blocked {
        std::thread::yield_now();
    }
    assert!(!other.is_done());
    gate.open();
    blocker.join().unwrap();
    assert_eq!(other.join().unwrap(), 7);
    assert_eq!(runtime.handle().metrics().workers.len(), 1);
}

#[test]
fn a_spinning_worker_is_stuck_but_not_blocked() {
    let runtime = runtime(1);
    let stop = Gate::default();
    let seen = stop.clone();
    let spinner = runtime.spawn(move || {
        while !seen.is_open() {
            std::hint::spin_loop();
        }
    });
    let worker = || runtime.handle().metrics().workers[0];
    while !worker().stuck {
        std::thread::yield_now();
    }
    stop.open();
    spinner.join().unwrap();
}
