//! What roving can do at present, in Rust: many fibers on few workers, and what it costs.

use roving_runtime::{Runtime, park, sleep, spawn, yield_now};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::new()?;
    let workers = runtime.handle().metrics().workers.len();
    println!("roving on {workers} workers\n");

    let start = Instant::now();
    let sum = runtime.spawn(|| tree(0, 1_000_000)).join()?;
    println!(
        "a tree of 1,111,111 fibers summed to {sum} in {:.2?}",
        start.elapsed()
    );

    let start = Instant::now();
    let sleepers: Vec<_> = (0..100_000)
        .map(|_| runtime.spawn(|| sleep(Duration::from_millis(200))))
        .collect();
    for sleeper in sleepers {
        sleeper.join()??;
    }
    println!(
        "100,000 fibers slept 200 ms each, all at once, in {:.2?}",
        start.elapsed()
    );

    let start = Instant::now();
    let turns = 2_000_000u32;
    let (mut left, mut right) = (
        runtime.spawn(move || turn(turns / 2)),
        runtime.spawn(move || turn(turns / 2)),
    );
    for fiber in [&mut left, &mut right] {
        fiber.wait()?;
    }
    println!(
        "two fibers took turns {turns} times, {:.0?} a turn",
        start.elapsed() / turns
    );

    let start = Instant::now();
    let parked: Vec<_> = (0..100_000).map(|_| runtime.spawn(park)).collect();
    while runtime
        .handle()
        .metrics()
        .workers
        .iter()
        .map(|worker| worker.live)
        .sum::<usize>()
        < parked.len()
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    let shares: Vec<_> = runtime
        .handle()
        .metrics()
        .workers
        .iter()
        .map(|worker| worker.live)
        .collect();
    println!(
        "100,000 fibers parked in {:.2?}; each worker owns {shares:?}",
        start.elapsed()
    );
    for fiber in parked {
        fiber.unpark();
        fiber.join()??;
    }
    Ok(())
}

/// Sums the leaves of a tree of fibers, ten branches a level.
fn tree(first: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return first;
    }
    let part = leaves / 10;
    let branches: Vec<_> = (0..10)
        .map(|n| spawn(move || tree(first + n * part, part)))
        .collect();
    branches
        .into_iter()
        .map(|branch| branch.join().expect("no leaf panics"))
        .sum()
}

fn turn(times: u32) {
    for _ in 0..times {
        yield_now();
    }
}
