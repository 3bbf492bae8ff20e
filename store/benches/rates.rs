//! Rates of a store: jobs enqueued, claimed and acknowledged, each call durable, by 1 to 256 callers at once; and the cost
//! of a call with up to a million jobs queued.
//!
//! `cargo bench -p roving-store -- [--folder F] [--seconds S] [--only NAME]...`, with the names `disk`, `sqlite`, `memory`
//! and `curve`. The folder has to be on the disk that is meant; it is made, and removed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roving_store::{
    Ack, Claim, MemoryOptions, MemoryStore, NewJob, Outcome, QueueSettings, SqliteOptions, Status, Store,
    WorkerId, wait,
};

struct Options {
    folder: PathBuf,
    seconds: f64,
    only: Vec<String>,
}

fn options() -> Options {
    let mut options = Options {
        folder: std::env::temp_dir().join(format!("roving-store-bench-{}", std::process::id())),
        seconds: 3.0,
        only: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--folder" => options.folder = words.next().expect("--folder FOLDER").into(),
            "--seconds" => {
                options.seconds = words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .expect("--seconds NUMBER");
            }
            "--only" => options.only.push(words.next().expect("--only NAME")),
            // What cargo bench says.
            "--bench" => {}
            other => panic!("{other}: no such option"),
        }
    }
    options
}

fn no_op() -> NewJob {
    NewJob {
        keep: 60_000,
        ..NewJob::new("bench.no_op", "default", r#"{"args":[1,2],"kwargs":{}}"#)
    }
}

fn main() {
    let options = options();
    std::fs::create_dir_all(&options.folder).unwrap();
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    if wanted("disk") {
        disk(&options.folder);
    }
    for callers in [1, 16, 256] {
        if wanted("sqlite") {
            let store = open(&options.folder, "rates.db");
            rates("sqlite", &store, callers, options.seconds);
            batches("sqlite", &store, options.seconds.min(2.0));
        }
        if wanted("memory") {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(MemoryOptions::default()));
            rates("memory", &store, callers, options.seconds);
            batches("memory", &store, options.seconds.min(2.0));
        }
    }
    if wanted("curve") {
        curve("sqlite", &open(&options.folder, "curve.db"));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(MemoryOptions::default()));
        curve("memory", &store);
    }
    std::fs::remove_dir_all(&options.folder).unwrap();
}

fn open(folder: &Path, name: &str) -> Arc<dyn Store> {
    for suffix in ["", "-wal", "-shm", "-workers"] {
        let _ = std::fs::remove_file(folder.join(format!("{name}{suffix}")));
    }
    Arc::new(SqliteOptions::new(folder.join(name)).open().unwrap())
}

/// What one fdatasync costs, after writes as a commit makes them.
fn disk(folder: &Path) {
    for bytes in [4 << 10, 64 << 10, 256 << 10] {
        let path = folder.join("disk");
        let mut file = File::create(&path).unwrap();
        let block = vec![0; bytes];
        let rounds = 200;
        let begin = Instant::now();
        for _ in 0..rounds {
            file.write_all(&block).unwrap();
            file.sync_data().unwrap();
        }
        println!(
            "disk: {} KiB and fdatasync: {:.3} ms",
            bytes >> 10,
            begin.elapsed().as_secs_f64() * 1000.0 / f64::from(rounds)
        );
        std::fs::remove_file(path).unwrap();
    }
}

fn register(store: &Arc<dyn Store>) -> WorkerId {
    wait(|done| store.register("bench", done)).unwrap()
}

fn one_life(store: &Arc<dyn Store>, worker: WorkerId) -> bool {
    let enqueued = wait(|done| store.enqueue(vec![no_op()], done)).unwrap();
    assert!(enqueued[0].is_ok());
    let claim = Claim {
        worker,
        queues: vec!["default".into()],
        max: 1,
    };
    let Some(claimed) = wait(|done| store.claim(claim, done)).unwrap().pop() else {
        return false;
    };
    let ack = Ack {
        attempt: claimed.attempt,
        outcome: Outcome::Succeeded { result: None },
        then: Vec::new(),
    };
    let acked = wait(|done| store.acknowledge(vec![ack], done)).unwrap();
    assert_eq!(acked, [Ok(Status::Succeeded)]);
    true
}

/// Jobs that each caller enqueues, claims and acknowledges one by one: three calls that wait for the disk.
fn rates(name: &str, store: &Arc<dyn Store>, callers: usize, seconds: f64) {
    let lives = AtomicU64::new(0);
    let workers: Vec<WorkerId> = (0..callers).map(|_| register(store)).collect();
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for worker in workers {
            let lives = &lives;
            scope.spawn(move || {
                while Instant::now() < end {
                    lives.fetch_add(u64::from(one_life(store, worker)), Ordering::Relaxed);
                }
            });
        }
    });
    let rate = lives.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{name}: {callers} callers, one job at a time: {rate:.0} jobs/s, {:.0} calls/s",
        rate * 3.0
    );
}

/// The same by calls that each take 64 jobs, with 8 threads that keep calling: what a busy server comes to.
fn batches(name: &str, store: &Arc<dyn Store>, seconds: f64) {
    const AT_ONCE: usize = 64;
    let lives = AtomicU64::new(0);
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (lives, worker) = (&lives, register(store));
            scope.spawn(move || {
                while Instant::now() < end {
                    let jobs = (0..AT_ONCE).map(|_| no_op()).collect();
                    wait(|done| store.enqueue(jobs, done)).unwrap();
                    let claim = Claim {
                        worker,
                        queues: Vec::new(),
                        max: AT_ONCE,
                    };
                    let claimed = wait(|done| store.claim(claim, done)).unwrap();
                    let succeeded = || Outcome::Succeeded { result: None };
                    let acks = claimed.iter().map(|job| Ack {
                        attempt: job.attempt,
                        outcome: succeeded(),
                        then: Vec::new(),
                    });
                    let acks: Vec<Ack> = acks.collect();
                    let count = acks.len() as u64;
                    wait(|done| store.acknowledge(acks, done)).unwrap();
                    lives.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = lives.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    println!("{name}: 8 callers, {AT_ONCE} jobs a call: {rate:.0} jobs/s");
}

/// The cost of a call, by how many jobs are queued.
fn curve(name: &str, store: &Arc<dyn Store>) {
    wait(|done| store.set_queue("default", QueueSettings::default(), done)).unwrap();
    let worker = register(store);
    let mut queued = 0;
    for target in [0, 1000, 10_000, 100_000, 300_000, 1_000_000] {
        while queued < target {
            let slice = (target - queued).min(2000);
            wait(|done| store.enqueue((0..slice).map(|_| no_op()).collect(), done)).unwrap();
            queued += slice;
        }
        // 20 rounds of 100 jobs each: long enough that the disk's moods do not show most.
        let (mut enqueue, mut claim, mut acknowledge) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut single = Duration::ZERO;
        for _ in 0..20 {
            let begin = Instant::now();
            wait(|done| store.enqueue((0..100).map(|_| no_op()).collect(), done)).unwrap();
            enqueue += begin.elapsed();
            let begin = Instant::now();
            let claimed = wait(|done| {
                store.claim(
                    Claim {
                        worker,
                        queues: vec![],
                        max: 100,
                    },
                    done,
                );
            })
            .unwrap();
            claim += begin.elapsed();
            assert_eq!(claimed.len(), 100);
            let succeeded = || Outcome::Succeeded { result: None };
            let acks = claimed.iter().map(|job| Ack {
                attempt: job.attempt,
                outcome: succeeded(),
                then: Vec::new(),
            });
            let acks = acks.collect();
            let begin = Instant::now();
            wait(|done| store.acknowledge(acks, done)).unwrap();
            acknowledge += begin.elapsed();
            let begin = Instant::now();
            assert!(one_life(store, worker));
            single += begin.elapsed();
        }
        let each = |all: Duration| all.as_secs_f64() * 1e6 / 2000.0;
        println!(
            "{name}: {target} queued: us a job, 100 a call: enqueue {:.1}, claim {:.1}, acknowledge {:.1}; one job alone {:.0}",
            each(enqueue),
            each(claim),
            each(acknowledge),
            single.as_secs_f64() * 1e6 / 20.0,
        );
    }
}
