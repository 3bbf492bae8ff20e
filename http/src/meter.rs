//! What is counted at every request, in cells that each thread has of its own: summed only when somebody asks.
//!
//! A request costs two looks at the clock and three additions to a cache line that no other thread writes.

use http::{Method, StatusCode};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// More threads than that share a cell, which costs time and loses nothing.
const SHARDS: usize = 64;

/// The methods that are told apart.
pub(crate) const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "other",
];

/// The classes of status that are told apart; the first has no response at all, since the client or the server went.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The upper bounds of a latency's buckets, in microseconds.
pub(crate) const BOUNDS: [u64; 17] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// One request that is being counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    began: Instant,
    method: u8,
    class: u8,
}

impl Tally {
    pub(crate) fn new(method: &Method) -> Self {
        let known = METHODS.iter().position(|known| *known == method.as_str());
        Self {
            began: Instant::now(),
            method: known.unwrap_or(METHODS.len() - 1) as u8,
            class: 0,
        }
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.class = (status.as_u16() / 100).min(5) as u8;
    }
}

/// Law: written by any thread that records, each in the cell it was given; read by whoever sums up. Nothing is ordered by
/// them, hence Relaxed: a sum is of moments that lie close together.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Shard {
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    latencies: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    connections: AtomicU64,
}

/// Counts requests, bytes and connections.
#[derive(Debug)]
pub(crate) struct Meter {
    shards: Box<[Shard]>,
}

/// What a [`Meter`] has counted.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) requests: [[u64; CLASSES.len()]; METHODS.len()],
    /// How many were in each bucket alone; the last one has no bound.
    pub(crate) latencies: [u64; BOUNDS.len() + 1],
    pub(crate) time: Duration,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) connections: u64,
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    fn shard(&self) -> &Shard {
        let index = SHARD.with(|shard| {
            if shard.get() == usize::MAX {
                shard.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
            }
            shard.get()
        });
        &self.shards[index]
    }

    /// A request is over.
    pub(crate) fn record(&self, tally: Tally) {
        let took = tally.began.elapsed();
        let shard = self.shard();
        shard.requests[usize::from(tally.method)][usize::from(tally.class)].fetch_add(1, Relaxed);
        // Rounded up: a bucket has what is not longer than its bound.
        let micros = u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        shard.latencies[bucket].fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        shard.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.shard().received.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.shard().sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.shard().connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for shard in &self.shards {
            for (sums, cells) in sums.requests.iter_mut().zip(&shard.requests) {
                add(sums, cells);
            }
            add(&mut sums.latencies, &shard.latencies);
            sums.time += Duration::from_nanos(shard.nanoseconds.load(Relaxed));
            sums.received += shard.received.load(Relaxed);
            sums.sent += shard.sent.load(Relaxed);
            sums.connections += shard.connections.load(Relaxed);
        }
        sums
    }
}

fn add(sums: &mut [u64], cells: &[AtomicU64]) {
    for (sum, cell) in sums.iter_mut().zip(cells) {
        *sum += cell.load(Relaxed);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn threads_lose_nothing() {
        let meter = Meter::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let mut tally = Tally::new(&Method::POST);
                        tally.set_status(StatusCode::NOT_FOUND);
                        meter.record(tally);
                        meter.received(3);
                        meter.sent(5);
                    }
                });
            }
        });
        let sums = meter.sums();
        assert_eq!(sums.requests[2][4], 8000);
        assert_eq!(sums.requests.iter().flatten().sum::<u64>(), 8000);
        assert_eq!(sums.latencies.iter().sum::<u64>(), 8000);
        assert_eq!((sums.received, sums.sent), (24_000, 40_000));
    }

    #[test]
    fn buckets_have_what_is_not_longer_than_their_bound() {
        let meter = Meter::new();
        let mut tally = Tally::new(&Method::from_bytes(b"PROPFIND").unwrap());
        tally.began = Instant::now() - Duration::from_secs(61);
        meter.record(tally);
        tally.began = Instant::now() - Duration::from_millis(40);
        meter.record(tally);
        let sums = meter.sums();
        assert_eq!(sums.latencies[BOUNDS.len()], 1);
        assert_eq!(
            sums.latencies[BOUNDS.iter().position(|bound| *bound == 50_000).unwrap()],
            1
        );
        // No response, and a method that is not told apart.
        assert_eq!(sums.requests[8][0], 2);
        assert!(sums.time > Duration::from_secs(61));
    }

    /// Prints what counting costs a request: run it alone, in a release build, with `--ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn what_a_request_costs() {
        const TIMES: u32 = 10_000_000;
        let meter = Meter::new();
        let began = Instant::now();
        for _ in 0..TIMES {
            let mut tally = std::hint::black_box(Tally::new(&Method::GET));
            tally.set_status(StatusCode::OK);
            meter.record(std::hint::black_box(tally));
            meter.received(100);
            meter.sent(100);
        }
        let counted = began.elapsed() / TIMES;
        let began = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(std::hint::black_box(Instant::now()).elapsed());
        }
        let clock = began.elapsed() / TIMES;
        println!("{counted:?} a request, of which {clock:?} for the clock");
    }
}
