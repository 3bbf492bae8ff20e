//! The benches short enough for criterion's statistics, with every peer beside every other.
//!
//! `ROVING_BENCH_WORKERS` is the worker count (the number of cores): `may` knows one a process.

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use roving_benches::{Peer, Settings, WorkerCounts, configure, find_case};
use std::time::{Duration, Instant};

const MICRO: &[&str] = &[
    "spawn_join",
    "spawn_batch",
    "switch",
    "pingpong",
    "channel_pingpong",
    "mutex_pingpong",
    "timer_arm_cancel",
];

fn micro(criterion: &mut Criterion) {
    let workers = match std::env::var("ROVING_BENCH_WORKERS") {
        Ok(workers) => workers.parse().expect("ROVING_BENCH_WORKERS is a number"),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    };
    configure(Settings {
        workers,
        quick: false,
        pin: false,
    });
    for bench in roving_benches::BENCHES
        .iter()
        .filter(|bench| MICRO.contains(&bench.name))
    {
        if workers > 1 && bench.workers == WorkerCounts::One {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("{}_{workers}w", bench.name));
        group.sampling_mode(SamplingMode::Flat);
        for peer in Peer::ALL {
            let Some(case) = find_case(bench.name, peer) else {
                continue;
            };
            group.bench_function(BenchmarkId::from_parameter(peer.name()), |bencher| {
                bencher.iter_custom(|rounds| {
                    let start = Instant::now();
                    let sample = (case.run)(rounds);
                    // One round is one operation to criterion, however many it holds.
                    let elapsed = Duration::from_nanos((sample.nanos_per_op() * rounds as f64) as u64);
                    assert!(
                        start.elapsed() < Duration::from_secs(120),
                        "a bench that takes this long hangs"
                    );
                    elapsed
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = micro
}
criterion_main!(benches);
