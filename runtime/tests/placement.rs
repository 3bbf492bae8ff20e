//! Who owns which fiber: counted, never timed.

mod common;

use common::steady_runtime as runtime;
use roving_runtime::{JoinHandle, Runtime, park, spawn};
use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::ThreadId;

/// Spawns `count` fibers in a row from a fiber; each reports its thread and parks. Returns how many each
/// worker owns, the largest share first.
fn shares(runtime: &Runtime, count: usize) -> Vec<usize> {
    let (report, reports) = channel();
    let burst = runtime.spawn(move || {
        let fibers: Vec<JoinHandle<_>> = (0..count).map(|_| spawn_parked(&report)).collect();
        for fiber in &fibers {
            let _ = fiber.wait();
        }
    });
    let mut owned: HashMap<ThreadId, usize> = HashMap::new();
    let mut parked = Vec::new();
    for (thread, fiber) in reports.iter().take(count) {
        *owned.entry(thread).or_default() += 1;
        parked.push(fiber);
    }
    for fiber in parked {
        fiber.unpark();
    }
    burst.join().unwrap();
    let mut shares: Vec<_> = owned.into_values().collect();
    shares.sort_unstable_by(|a, b| b.cmp(a));
    shares
}

fn spawn_parked(report: &Sender<(ThreadId, roving_runtime::Fiber)>) -> JoinHandle<()> {
    let report = report.clone();
    spawn(move || {
        report
            .send((
                std::thread::current().id(),
                roving_runtime::current_fiber().unwrap(),
            ))
            .unwrap();
        park().unwrap();
    })
}

#[test]
fn eight_fibers_that_park_are_split_evenly() {
    for _ in 0..20 {
        let shares = shares(&runtime(2), 8);
        assert!(shares[0] <= 5, "{shares:?}");
    }
}

#[test]
fn a_thousand_fibers_that_park_are_split_evenly() {
    for _ in 0..5 {
        let shares = shares(&runtime(2), 1000);
        assert!(shares[0] <= 550, "{shares:?}");
    }
}

#[test]
fn sixteen_workers_share_a_burst() {
    let shares = shares(&runtime(16), 1600);
    assert_eq!(shares.len(), 16, "{shares:?}");
    // A sixteenth above the average, and what was under way while the counts changed.
    assert!(shares[0] <= 150, "{shares:?}");
}

#[test]
fn spread_asks_for_it_outright() {
    let runtime = runtime(4);
    // All started before any parks: the barrier blocks the workers' threads.
    let barrier = Arc::new(Barrier::new(4));
    let fibers: Vec<_> = (0..4)
        .map(|_| {
            let barrier = barrier.clone();
            runtime
                .fiber()
                .spread()
                .spawn(move || {
                    barrier.wait();
                    std::thread::current().id()
                })
                .unwrap()
        })
        .collect();
    let mut threads: Vec<_> = fibers.into_iter().map(|fiber| fiber.join().unwrap()).collect();
    threads.sort_unstable_by_key(|id| format!("{id:?}"));
    threads.dedup();
    assert_eq!(threads.len(), 4);
}

#[test]
fn fibers_that_run_to_their_end_stay_where_they_were_spawned() {
    let runtime = runtime(2);
    let elsewhere = runtime
        .spawn(|| {
            let here = std::thread::current().id();
            (0..10_000)
                .filter(|_| spawn(|| std::thread::current().id()).join().unwrap() != here)
                .count()
        })
        .join()
        .unwrap();
    // The other worker may steal one before its joiner claims it, never make a habit of it.
    assert!(elsewhere < 5000, "{elsewhere} of 10,000 went elsewhere");
}
