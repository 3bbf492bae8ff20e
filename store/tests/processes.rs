//! Several processes on one file: who dies, who is stopped, who hears of what.
#![allow(missing_docs)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::*;
use roving_store::*;

fn open(path: &Path) -> SqliteStore {
    SqliteOptions::new(path).open().unwrap()
}

/// A process that does what it is told, word by word: `register`, `claim`, `ack`, `enqueue`.
struct Other {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path) -> Self {
        let environment = [("ROVING_STORE_PATH", path.display().to_string())];
        let mut child = child("told", &environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, hear) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        Other { child, say, hear }
    }

    fn ask(&mut self, word: &str) -> String {
        writeln!(self.say, "{word}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        while !line.starts_with("> ") {
            line.clear();
            assert!(
                self.hear.read_line(&mut line).unwrap() > 0,
                "the other process ended"
            );
        }
        line[2..].trim().to_owned()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process is our child, and not waited for yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn told() {
    let Some(path) = is_child("told").then(|| variable::<String>("ROVING_STORE_PATH").unwrap()) else {
        return;
    };
    let store = open(Path::new(&path));
    let (mut worker, mut claimed) = (WorkerId(0), Vec::new());
    for word in std::io::stdin().lines() {
        let answer = match &*word.unwrap() {
            "register" => {
                worker = register(&store);
                worker.0.to_string()
            }
            "claim" => {
                claimed = wait(|done| {
                    store.claim(
                        Claim {
                            worker,
                            queues: vec![],
                            max: 9,
                        },
                        done,
                    );
                })
                .unwrap_or_default();
                claimed.len().to_string()
            }
            "ack" => format!("{:?}", claimed.pop().map(|job| succeed(&store, job.attempt))),
            _ => enqueue(&store, job("theirs")).to_string(),
        };
        println!("\n> {answer}");
    }
}

/// Waits for a change that fits.
fn hears(changes: &mpsc::Receiver<Change>, fits: impl Fn(&Change) -> bool) -> Duration {
    let begin = Instant::now();
    loop {
        let change = changes
            .recv_timeout(Duration::from_secs(10))
            .expect("nobody told of it");
        if fits(&change) {
            return begin.elapsed();
        }
    }
}

fn listen(store: &dyn Store) -> (mpsc::Receiver<Change>, Watch) {
    let (told, changes) = mpsc::channel();
    let watch = store.watch(std::sync::Arc::new(move |change: &Change| {
        drop(told.send(change.clone()));
    }));
    (changes, watch)
}

#[test]
fn a_killed_process_is_taken_over_by_those_that_live() {
    let folder = Folder::new("takeover");
    let path = folder.join("jobs.db");
    let store = open(&path);
    let (changes, _watch) = listen(&store);
    let mut other = Other::start(&path);
    other.ask("register");
    let id = enqueue(&store, job("a"));
    assert_eq!(other.ask("claim"), "1");
    assert_eq!(wait(|done| store.take_over(done)).unwrap(), TakenOver::default());
    let worker = register(&store);
    while changes.try_recv().is_ok() {}
    other.signal(libc::SIGKILL);
    let after = hears(&changes, |change| *change == Change::Ready);
    assert!(after < Duration::from_secs(5), "{after:?}");
    let again = claim(&store, worker, 1).remove(0).job;
    assert_eq!((again.id, again.deaths), (id, 1));
    assert_eq!(wait(|done| store.workers(done)).unwrap().len(), 1);
}

#[test]
fn a_stopped_process_keeps_its_jobs_until_it_is_given_up() {
    let folder = Folder::new("stopped");
    let path = folder.join("jobs.db");
    let store = open(&path);
    let mut other = Other::start(&path);
    let stopped: i64 = other.ask("register").parse().unwrap();
    enqueue(&store, job("a"));
    assert_eq!(other.ask("claim"), "1");
    let worker = register(&store);
    other.signal(libc::SIGSTOP);
    assert_eq!(wait(|done| store.take_over(done)).unwrap(), TakenOver::default());
    assert!(claim(&store, worker, 1).is_empty());
    assert_eq!(wait(|done| store.evict(WorkerId(stopped), done)).unwrap().jobs, 1);
    let again = claim(&store, worker, 1).remove(0);
    other.signal(libc::SIGCONT);
    assert_eq!(other.ask("ack"), "Some(Err(Stale))");
    assert_eq!(other.ask("claim"), "0");
    assert_eq!(succeed(&store, again.attempt), Ok(Status::Succeeded));
    // It registers again, and works.
    other.ask("register");
    enqueue(&store, job("b"));
    assert_eq!(other.ask("claim"), "1");
    assert_eq!(other.ask("ack"), "Some(Ok(Succeeded))");
}

#[test]
fn a_process_that_died_before_a_restart_is_taken_over_at_once() {
    let folder = Folder::new("restart");
    let path = folder.join("jobs.db");
    let mut other = Other::start(&path);
    let first = other.ask("register");
    other.ask("enqueue");
    other.ask("claim");
    other.signal(libc::SIGKILL);
    drop(other);
    // Somebody tidied up by hand: neither the worker's row nor the lock file are there.
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("DELETE FROM workers", ()).unwrap();
    drop(file);
    std::fs::remove_file(folder.join("jobs.db-workers")).unwrap();
    let mut next = Other::start(&path);
    let begin = Instant::now();
    assert_ne!(next.ask("register"), first, "an id was given twice");
    assert_eq!(next.ask("claim"), "1");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_deleted_lock_file_loses_nothing() {
    let folder = Folder::new("lockfile");
    let path = folder.join("jobs.db");
    let store = open(&path);
    let mut other = Other::start(&path);
    other.ask("register");
    enqueue(&store, job("a"));
    other.ask("claim");
    std::fs::remove_file(folder.join("jobs.db-workers")).unwrap();
    // To those who open it now the other seems dead, unless it noticed before: then its job runs again, and its own
    // acknowledgement is refused.
    let late = open(&path);
    let worker = register(&late);
    let again = claim(&late, worker, 1).pop();
    let theirs = other.ask("ack") == "Some(Ok(Succeeded))";
    let ours = again.is_some_and(|again| succeed(&late, again.attempt).is_ok());
    assert!(theirs != ours, "{theirs}, {ours}");
    other.ask("register");
    let worker = register(&store);
    assert_eq!(wait(|done| late.take_over(done)).unwrap(), TakenOver::default());
    enqueue(&late, job("b"));
    assert_eq!(
        claim(&store, worker, 1).len() as u64 + other.ask("claim").parse::<u64>().unwrap(),
        1
    );
}

#[test]
fn other_processes_enqueues_are_heard_of_soon() {
    let folder = Folder::new("heard");
    let path = folder.join("jobs.db");
    let store = open(&path);
    let (changes, _watch) = listen(&store);
    let mut other = Other::start(&path);
    other.ask("register");
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        while changes.try_recv().is_ok() {}
        let begin = Instant::now();
        other.ask("enqueue");
        hears(&changes, |change| *change == Change::Elsewhere);
        worst = worst.max(begin.elapsed());
    }
    println!("heard of within {worst:?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}

#[test]
fn a_job_of_another_process_is_cancelled() {
    let folder = Folder::new("cancel");
    let path = folder.join("jobs.db");
    let store = open(&path);
    let (changes, _watch) = listen(&store);
    let worker = register(&store);
    let id = enqueue(&store, job("a"));
    claim(&store, worker, 1);
    let elsewhere = open(&path);
    assert_eq!(wait(|done| elsewhere.cancel(id, done)), Ok(Cancelled::Requested));
    hears(&changes, |change| *change == Change::CancelRequested(vec![id]));
}

#[test]
fn due_jobs_and_limits_are_told_of() {
    let folder = Folder::new("due");
    let stores: [Box<dyn Store>; 2] = [
        Box::new(open(&folder.join("jobs.db"))),
        Box::new(MemoryStore::new(MemoryOptions::default())),
    ];
    for store in &stores {
        let store = &**store;
        let (changes, _watch) = listen(store);
        let worker = register(store);
        // Whoever claims whenever it is told to gets them.
        let claim_when_told = || {
            while claim(store, worker, 1).is_empty() {
                hears(&changes, |change| *change == Change::Ready);
            }
        };
        enqueue(
            store,
            NewJob {
                eta: Some(SystemClock.wall() + 50),
                ..job("later")
            },
        );
        claim_when_told();
        wait(|done| {
            store.set_rate(
                "slow",
                Some(Rate {
                    count: 20,
                    period: 1000,
                    burst: 1,
                }),
                done,
            );
        })
        .unwrap();
        for _ in 0..3 {
            enqueue(
                store,
                NewJob {
                    limit: Some("slow".into()),
                    ..job("limited")
                },
            );
        }
        let begin = Instant::now();
        (0..3).for_each(|_| claim_when_told());
        let took = begin.elapsed();
        assert!(
            (Duration::from_millis(90)..Duration::from_secs(2)).contains(&took),
            "{took:?}"
        );
    }
}

/// The system's clock, which does not pass a time before it may.
struct Held(AtomicI64);

impl Clock for Held {
    fn wall(&self) -> i64 {
        SystemClock.wall().min(self.0.load(Ordering::SeqCst))
    }

    fn steady(&self) -> i64 {
        SystemClock.steady()
    }

    fn moves(&self) -> bool {
        true
    }
}

/// Whoever claims whenever it is told to has both, even where the second gets due between the first's claim and the look
/// at what comes next.
#[test]
fn what_gets_due_while_others_are_told_is_told_of() {
    let folder = Folder::new("between");
    let first = SystemClock.wall() + 50;
    // Until both are there, however long that takes, neither is due.
    let clock = Arc::new(Held(AtomicI64::new(first - 1)));
    let options = SqliteOptions::new(folder.join("jobs.db")).clock(clock.clone());
    let store = Arc::new(options.open().unwrap());
    let worker = register(&*store);
    for eta in [first, first + 1] {
        let eta = Some(eta);
        enqueue(&*store, NewJob { eta, ..job("due") });
    }
    let (told, claimed) = mpsc::channel();
    let (theirs, time) = (Arc::downgrade(&store), Arc::clone(&clock));
    let _watch = store.watch(Arc::new(move |change: &Change| {
        let Some(store) = theirs.upgrade() else { return };
        if *change == Change::Ready {
            // The first is claimed at its time exactly; when that is done, it is past that of the second.
            let found = claim(&*store, worker, 9);
            if !found.is_empty() {
                time.0.store(i64::MAX, Ordering::SeqCst);
                while SystemClock.wall() <= first + 1 {
                    std::thread::yield_now();
                }
                told.send(found.len()).unwrap();
            }
        }
    }));
    clock.0.store(first, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(claimed.recv_timeout(Duration::from_secs(10)), Ok(1));
    }
}

#[test]
fn an_idle_store_uses_no_cpu() {
    let folder = Folder::new("idle");
    let mut other = Other::start(&folder.join("jobs.db"));
    other.ask("register");
    other.ask("enqueue");
    let spent = |child: &Child| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse().unwrap())
            .collect();
        let switches = std::fs::read_dir(format!("/proc/{}/task", child.id()))
            .unwrap()
            .map(|task| {
                let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
                let line = status
                    .lines()
                    .find(|line| line.starts_with("voluntary_ctxt_switches"))
                    .unwrap();
                line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()
            });
        (fields.iter().sum::<u64>(), switches.sum::<u64>())
    };
    // What it does after the last call takes as long as the machine lets it: then come two seconds of nothing.
    let mut seen = Vec::new();
    for _ in 0..10 {
        let before = spent(&other.child);
        std::thread::sleep(Duration::from_secs(2));
        let after = spent(&other.child);
        if after.1 - before.1 <= 2 && after.0 - before.0 <= 1 {
            return;
        }
        seen.push((before, after));
    }
    panic!("ticks and switches before and after two seconds: {seen:?}");
}

/// A forked child that lives on must neither keep its parent alive, nor use the store.
#[test]
fn a_forked_child_does_not_keep_its_parent_alive() {
    let Some(path) = is_child("a_forked_child_does_not_keep_its_parent_alive")
        .then(|| variable::<String>("ROVING_STORE_PATH").unwrap())
    else {
        return fork_seen_from_outside();
    };
    let store = open(Path::new(&path));
    let worker = register(&store);
    enqueue(&store, job("a"));
    assert_eq!(claim(&store, worker, 1).len(), 1);
    // SAFETY: the child calls only what allocates nothing, or dies of it: nobody else holds malloc's lock here for long.
    if unsafe { libc::fork() } == 0 {
        let refused = wait(|done| store.enqueue(vec![job("b")], done));
        // Numbers of descriptors that were the store's are free here, and are others' now.
        let ours: Vec<File> = (0..9).map(|_| File::open("/dev/null").unwrap()).collect();
        let registered = wait(|done| store.register("child", done));
        store.close();
        let open = ours.iter().all(|file| file.metadata().is_ok());
        println!("\n> {refused:?} {registered:?} {open}");
        std::mem::forget(store);
        loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        }
    }
    println!("\n> {}", std::process::id());
    loop {
        std::thread::park();
    }
}

fn fork_seen_from_outside() {
    let folder = Folder::new("fork");
    let path = folder.join("jobs.db");
    let environment = [("ROVING_STORE_PATH", path.display().to_string())];
    let mut command = child("a_forked_child_does_not_keep_its_parent_alive", &environment);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (say, hear) = (
        child.stdin.take().unwrap(),
        BufReader::new(child.stdout.take().unwrap()),
    );
    let mut other = Other { child, say, hear };
    let answers = [other.answer(), other.answer()];
    assert!(
        answers
            .iter()
            .any(|answer| answer == "Err(Forked) Err(Forked) true"),
        "{answers:?}"
    );
    let group = other.child.id() as i32;
    other.signal(libc::SIGKILL);
    let store = open(&path);
    let (changes, _watch) = listen(&store);
    let worker = register(&store);
    let begin = Instant::now();
    while claim(&store, worker, 1).is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "the child keeps the dead worker alive"
        );
        let _ = changes.recv_timeout(Duration::from_millis(200));
    }
    // SAFETY: the group is that of the processes started above.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}
