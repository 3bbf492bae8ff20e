//! Processes that enqueue, claim, run, acknowledge and prune are killed at random moments, and started again: every
//! acknowledged enqueue runs, none is stranded, and what ran twice had a death between run and acknowledgement.
//!
//! `ROVING_STORE_KILL_SECONDS` makes it longer (5 at first), `ROVING_SEED` repeats the moments, as far as chance allows.
#![allow(missing_docs)]

mod common;

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::*;
use roving_store::{
    Clock, JobId, NewJob, Outcome, SqliteOptions, SqliteStore, Status, Store, SystemClock, wait,
};

fn open(path: &Path) -> SqliteStore {
    SqliteOptions::new(path)
        .max_deaths(1_000_000)
        .log(Duration::from_secs(3600), 10_000_000)
        .open()
        .unwrap()
}

/// What was seen, a line each, in the order it was seen: what was written survives the writer.
struct Journal(File);

impl Journal {
    fn open(path: &Path) -> Self {
        Journal(OpenOptions::new().append(true).create(true).open(path).unwrap())
    }

    fn note(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[test]
fn worked_on() {
    let Some(path) = is_child("worked_on").then(|| variable::<String>("ROVING_STORE_PATH").unwrap()) else {
        return;
    };
    let drain = variable::<bool>("ROVING_STORE_DRAIN").unwrap();
    let seed: u64 = variable("ROVING_SEED").unwrap();
    let store = Arc::new(open(Path::new(&path)));
    let journal = Arc::new(Journal::open(&Path::new(&path).with_extension("journal")));
    println!("opened");
    end_on_panic();
    let over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        if !drain {
            for number in 0..2 {
                let (store, journal) = (&store, &journal);
                scope.spawn(move || enqueue_on(&**store, journal, Random::new(seed ^ number)));
            }
        }
        for number in 10..13 {
            let (store, journal, over) = (&store, &journal, &over);
            scope.spawn(move || run_on(&**store, journal, Random::new(seed ^ number), over));
        }
        if drain {
            let begin = Instant::now();
            while live(&*store) > 0 {
                assert!(
                    begin.elapsed() < Duration::from_secs(60),
                    "stranded: {:?}",
                    wait(|done| store.stats(done))
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Ordering::Relaxed);
        } else {
            loop {
                wait(|done| store.prune(done)).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
}

/// Whatever goes wrong in a thread ends the process, and so is seen.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::exit(3);
    }));
}

fn live(store: &dyn Store) -> u64 {
    let stats = wait(|done| store.stats(done)).unwrap();
    stats
        .queues
        .iter()
        .map(|queue| queue.jobs[0] + queue.jobs[1] + queue.jobs[2] + queue.jobs[8])
        .sum()
}

fn enqueue_on(store: &dyn Store, journal: &Journal, mut random: Random) {
    loop {
        // What piles up would only have to be drained in the end.
        while random.below(10) == 0 && live(store) > 300 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let jobs: Vec<NewJob> = (0..1 + random.below(4))
            .map(|_| NewJob {
                keep: [0, 5, 3_600_000][random.below(3) as usize],
                max_attempts: 1000,
                eta: (random.below(4) == 0).then(|| SystemClock.wall() + random.below(30) as i64),
                payload: vec![b'x'; [2, 3000][random.below(2) as usize]],
                ..job("task")
            })
            .collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        assert!(
            wait(|done| store.enqueue(jobs, done))
                .unwrap()
                .iter()
                .all(Result::is_ok)
        );
        ids.iter().for_each(|id| journal.note(&format!("E {id}")));
        std::thread::sleep(Duration::from_micros(random.below(3000)));
    }
}

fn run_on(store: &dyn Store, journal: &Journal, mut random: Random, over: &AtomicBool) {
    let worker = register(store);
    while !over.load(Ordering::Relaxed) {
        let claimed = claim(store, worker, 1 + random.below(4) as usize);
        if claimed.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        }
        for job in claimed {
            let (id, number) = (job.job.id, job.attempt.number);
            journal.note(&format!("R {id} {number} {}", std::process::id()));
            let outcome = match random.below(20) {
                0 => retry_at(SystemClock.wall() + random.below(20) as i64),
                1 => Outcome::HandBack,
                2 => fail("it was to fail"),
                _ => Outcome::Succeeded {
                    result: Some(b"1".to_vec()),
                },
            };
            let status = acknowledge(store, job.attempt, outcome).unwrap();
            journal.note(&format!("A {id} {number} {status}"));
        }
    }
}

struct Worked {
    child: Child,
    _output: BufReader<std::process::ChildStdout>,
}

/// Starts a process, and waits until it has the store open.
fn start(path: &Path, drain: bool, seed: u64) -> Worked {
    let environment = [
        ("ROVING_STORE_PATH", path.display().to_string()),
        ("ROVING_STORE_DRAIN", drain.to_string()),
        ("ROVING_SEED", seed.to_string()),
    ];
    let mut child = child("worked_on", &environment)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("opened") {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "a process ended before it had the store open"
        );
    }
    Worked {
        child,
        _output: output,
    }
}

#[test]
fn nothing_is_lost_or_stranded_by_kills() {
    let seconds: f64 = variable("ROVING_STORE_KILL_SECONDS").unwrap_or(5.0);
    let mut random = Random::new(seed());
    let folder = Folder::new("kill");
    let path = folder.join("jobs.db");
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut killed = HashSet::new();
    let mut running: Vec<Worked> = (0..2).map(|_| start(&path, false, random.next())).collect();
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        // One, so that the other takes over, or both, so that the next do.
        for _ in 0..1 + random.below(2) {
            let mut victim = running.remove(0);
            assert!(
                victim.child.try_wait().unwrap().is_none(),
                "a process ended by itself"
            );
            killed.insert(victim.child.id());
            victim.child.kill().unwrap();
            victim.child.wait().unwrap();
        }
        while running.len() < 2 {
            running.push(start(&path, false, random.next()));
        }
    }
    for mut victim in running {
        killed.insert(victim.child.id());
        victim.child.kill().unwrap();
        victim.child.wait().unwrap();
    }
    let begin = Instant::now();
    assert!(
        start(&path, true, random.next()).child.wait().unwrap().success(),
        "the queue did not drain"
    );
    let drained = begin.elapsed();
    let counts = check(&path, &killed);
    println!("{} kills, {counts}, drained in {drained:?}", killed.len());
}

fn check(path: &Path, killed: &HashSet<u32>) -> String {
    #[derive(Default)]
    struct Seen {
        enqueued: bool,
        runs: Vec<(u32, u32)>,
        acknowledged: HashMap<u32, Status>,
    }
    let mut seen: HashMap<JobId, Seen> = HashMap::new();
    let lines = BufReader::new(File::open(path.with_extension("journal")).unwrap()).lines();
    for line in lines {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let job = seen.entry(words[1].parse().unwrap()).or_default();
        // What was noted last may have been done first, by another process: the attempts have the true order.
        match words[0] {
            "E" => job.enqueued = true,
            "R" => job
                .runs
                .push((words[2].parse().unwrap(), words[3].parse().unwrap())),
            _ => drop(
                job.acknowledged
                    .insert(words[2].parse().unwrap(), words[3].parse().unwrap()),
            ),
        }
    }
    for (id, job) in &mut seen {
        job.runs.sort_unstable();
        let numbers: HashSet<u32> = job.runs.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers.len(), job.runs.len(), "{id}: an attempt ran twice");
        let ends = job.acknowledged.iter().filter(|(_, status)| status.is_finished());
        for (number, status) in ends {
            let last = job.runs.last().map_or(0, |(last, _)| *last);
            assert!(
                *number >= last,
                "{id} was {status} by attempt {number}, and ran again as {last}"
            );
        }
    }
    let store = open(path);
    let (mut enqueued, mut again) = (0, 0);
    for (id, job) in &seen {
        enqueued += u64::from(job.enqueued);
        assert!(!job.runs.is_empty(), "{id} was enqueued and never ran");
        for (number, process) in &job.runs[..job.runs.len() - 1] {
            if !job.acknowledged.contains_key(number) {
                assert!(killed.contains(process), "{id} ran again although nobody died");
                again += 1;
            }
        }
        if let Some(found) = get(&store, *id) {
            assert!(found.status.is_finished(), "{id} is {}", found.status);
        }
    }
    assert!(enqueued > 100, "only {enqueued} jobs: that shows nothing");
    let log = wait(|done| store.log(usize::MAX, done)).unwrap();
    assert!(log.len() > 10 && log.iter().map(|entry| entry.id).collect::<HashSet<_>>().len() == log.len());
    let connection = rusqlite::Connection::open(path).unwrap();
    let sound: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    format!(
        "{enqueued} acknowledged enqueues, {} seen to run, {again} runs cut off by a kill",
        seen.len()
    )
}

#[test]
fn migrated() {
    let Some(path) = is_child("migrated").then(|| variable::<String>("ROVING_STORE_PATH").unwrap()) else {
        return;
    };
    println!("opened");
    drop(open(Path::new(&path)));
    println!("done");
}

#[test]
fn a_kill_in_a_migration_leaves_one_version_or_the_other() {
    let mut random = Random::new(seed());
    let folder = Folder::new("migrate");
    let (mut old, mut new) = (0, 0);
    let rounds = variable::<f64>("ROVING_STORE_KILL_SECONDS").unwrap_or(5.0) as u32 * 2;
    for round in 0..rounds {
        let path = folder.join(&format!("{round}.db"));
        // Every other file is as the first version left it, with jobs; the rest are not there yet.
        let ids: Vec<JobId> = (0..if round % 2 == 0 { 200 } else { 0 })
            .map(|_| JobId::new())
            .collect();
        if !ids.is_empty() {
            drop(SqliteOptions::new(&path).schema_version(1).open().unwrap());
            fill_first_version(&path, &ids);
        }
        let mut child = child("migrated", &[("ROVING_STORE_PATH", path.display().to_string())]);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("opened") {
            line.clear();
            output.read_line(&mut line).unwrap();
        }
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let version = rusqlite::Connection::open(&path).ok();
        let version = version.and_then(|file| {
            file.query_row("PRAGMA user_version", (), |row| row.get::<_, i64>(0))
                .ok()
        });
        *(if version == Some(3) { &mut new } else { &mut old }) += 1;
        let store = open(&path);
        let worker = register(&store);
        let claimed: HashSet<JobId> = claim(&store, worker, 1000).iter().map(|job| job.job.id).collect();
        assert_eq!(claimed, ids.into_iter().collect());
        let (group, first) = (JobId::new(), job("member"));
        let waits = NewJob {
            waits_for: Some(group),
            ..job("waits")
        };
        let waiting = waits.id;
        let jobs = vec![
            NewJob {
                group: Some(group),
                ..first
            },
            waits,
        ];
        wait(|done| store.enqueue(jobs, done)).unwrap();
        assert_eq!(status(&store, waiting), Status::Waiting);
    }
    println!("killed before: {old}, after: {new}");
}

/// Jobs as the first version has them.
fn fill_first_version(path: &Path, ids: &[JobId]) {
    let mut file = rusqlite::Connection::open(path).unwrap();
    let jobs = file.transaction().unwrap();
    jobs.execute("INSERT INTO lanes (id, queue) VALUES (1, 'q')", ())
        .unwrap();
    for id in ids {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis() as i64;
        jobs.execute(
            "INSERT INTO jobs (status, lane, priority, max_attempts, keep, enqueued_at, id, task, codec, format, payload)
                VALUES (0, 1, 0, 1, 1000, ?1, ?2, 'task', 'json', 1, x'7b7d')",
            (now, id.as_bytes()),
        )
        .unwrap();
    }
    jobs.commit().unwrap();
}
