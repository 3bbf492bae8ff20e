//! A million started and parked fibers in one process, with the default map limit.

mod common;

use common::in_child;
use roving_runtime::{Runtime, park};
use std::time::{Duration, Instant};

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .expect("a field of the status");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number of KiB")
}

fn park_many(count: usize) {
    let runtime = Runtime::builder().build().expect("a runtime");
    let before = status("VmRSS:") + status("VmPTE:");
    let start = Instant::now();
    let fibers: Vec<_> = (0..count).map(|_| runtime.spawn(park)).collect();
    while runtime
        .handle()
        .metrics()
        .workers
        .iter()
        .map(|worker| worker.live)
        .sum::<usize>()
        < count
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let parked = start.elapsed();
    let each = (status("VmRSS:") + status("VmPTE:") - before) as f64 / count as f64;
    let metrics = runtime.handle().metrics();
    let largest = metrics
        .workers
        .iter()
        .map(|worker| worker.live)
        .max()
        .unwrap_or(0);
    let mappings = std::fs::read_to_string("/proc/self/maps")
        .expect("Linux")
        .lines()
        .count();
    for fiber in &fibers {
        fiber.unpark();
    }
    for fiber in fibers {
        fiber.join().expect("it ended").expect("nobody cancelled it");
    }
    eprintln!(
        "{count} fibers parked in {parked:.1?}, {each:.2} KiB each with page tables, {mappings} mappings, the largest share {:.1}%, all ended after {:.1?}",
        largest as f64 * 100.0 / count as f64,
        start.elapsed()
    );
    assert!(mappings < 5000);
    assert!(each < 8.0, "{each} KiB a fiber");
}

#[test]
#[cfg_attr(feature = "asan", ignore = "AddressSanitizer's shadow is memory too")]
fn fifty_thousand_parked_fibers_fit() {
    let Some(output) = in_child("fifty_thousand_parked_fibers_fit", || park_many(50_000)) else {
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "takes 6 GiB and half a minute"]
fn a_million_parked_fibers_fit() {
    let Some(output) = in_child("a_million_parked_fibers_fit", || park_many(1_000_000)) else {
        return;
    };
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}
