//! Disks that are full, files that are locked, damaged or not to be written: clear errors, nothing lost, and the store
//! works again afterwards.
#![allow(missing_docs)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use roving_store::*;

fn open(path: &Path) -> SqliteStore {
    SqliteOptions::new(path).open().unwrap()
}

fn page() -> Page {
    Page {
        after: None,
        limit: usize::MAX,
        newest_first: false,
    }
}

fn listed(store: &dyn Store) -> Vec<JobId> {
    wait(|done| store.list(Filter::default(), page(), done))
        .unwrap()
        .iter()
        .map(|job| job.id)
        .collect()
}

#[test]
fn files_are_private() {
    let folder = Folder::new("private");
    let store = open(&folder.join("jobs.db"));
    enqueue(&store, job("a"));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["jobs.db", "jobs.db-shm", "jobs.db-wal", "jobs.db-workers"]
    );
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = Folder::new("open");
    let fails = |path: &Path| SqliteOptions::new(path).open().expect_err("it was opened");
    let no_folder = fails(&folder.join("none/jobs.db"));
    assert!(
        matches!(&no_folder, Error::Open(said) if said.contains("no folder")),
        "{no_folder}"
    );
    assert!(matches!(fails(folder.path()), Error::Open(_)));
    let text = folder.join("text");
    fs::write(
        &text,
        "no database, but quite a long text, that is longer than any header. ".repeat(100),
    )
    .unwrap();
    assert!(matches!(fails(&text), Error::Corrupt(_)));
    let foreign = folder.join("foreign.db");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE mine (x)")
        .unwrap();
    assert!(matches!(fails(&foreign), Error::Corrupt(said) if said.contains("another program")));
    let newer = folder.join("newer.db");
    drop(open(&newer));
    rusqlite::Connection::open(&newer)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    assert_eq!(
        fails(&newer),
        Error::NewerSchema {
            path: newer.canonicalize().unwrap(),
            found: 99,
            known: 3
        }
    );
}

#[test]
fn a_full_database_refuses_and_recovers() {
    let folder = Folder::new("full");
    let path = folder.join("jobs.db");
    let mut accepted = Vec::new();
    {
        let store = SqliteOptions::new(&path).max_pages(100).open().unwrap();
        let worker = register(&store);
        let full = loop {
            let new = NewJob {
                payload: vec![1; 20_000],
                ..job("big")
            };
            let id = new.id;
            match wait(|done| store.enqueue(vec![new], done)) {
                Ok(_) => accepted.push(id),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Error::Full(_)), "{full}");
        assert!(accepted.len() > 3);
        assert_eq!(listed(&store), accepted);
        // What makes room goes on: claims, acknowledgements, prunes.
        let claimed = claim(&store, worker, 1).remove(0);
        assert_eq!(succeed(&store, claimed.attempt), Ok(Status::Succeeded));
        accepted.retain(|id| *id != claimed.job.id);
        wait(|done| {
            store.purge(
                Filter {
                    statuses: vec![Status::Succeeded],
                    ..Filter::default()
                },
                done,
            );
        })
        .unwrap();
        accepted.push(enqueue(
            &store,
            NewJob {
                payload: vec![1; 15_000],
                ..job("fits again")
            },
        ));
    }
    assert_eq!(listed(&open(&path)), accepted);
}

/// One job too large for what is left does not fail those that share its commit.
#[test]
fn a_job_without_room_fails_alone() {
    let folder = Folder::new("alone");
    let store = SqliteOptions::new(folder.join("jobs.db"))
        .max_pages(200)
        .open()
        .unwrap();
    let (told, hears) = mpsc::channel();
    for number in 0..40 {
        let payload = vec![1; if number % 10 == 5 { 3_000_000 } else { 10 }];
        let told = told.clone();
        let done: Done<Vec<Result<Enqueued, Error>>> =
            Box::new(move |outcome| told.send((number, outcome)).unwrap());
        store.enqueue(vec![NewJob { payload, ..job("a") }], done);
    }
    drop(told);
    for (number, outcome) in hears {
        assert_eq!(
            matches!(outcome, Err(Error::Full(_))),
            number % 10 == 5,
            "{number}: {outcome:?}"
        );
    }
    assert_eq!(listed(&store).len(), 36);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let mount = Path::new("/dev/shm");
    let folder = Folder::new("tmpfs");
    let small = folder.join("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&small)
        .status();
    if !mount.exists() || !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let store = open(&small.join("jobs.db"));
        let filler = small.join("filler");
        let mut accepted = vec![enqueue(&store, job("before"))];
        let mut bytes = 0;
        while fs::write(&filler, vec![0; bytes + 4096]).is_ok() {
            bytes += 4096;
        }
        let refused = wait(|done| {
            store.enqueue(
                vec![NewJob {
                    payload: vec![1; 1 << 20],
                    ..job("no room")
                }],
                done,
            );
        });
        assert!(
            matches!(refused, Err(Error::Full(_) | Error::Io(_))),
            "{refused:?}"
        );
        assert_eq!(listed(&store), accepted);
        fs::remove_file(&filler).unwrap();
        accepted.push(enqueue(&store, job("after")));
        drop(store);
        assert_eq!(listed(&open(&small.join("jobs.db"))), accepted);
    });
    let unmounted = std::process::Command::new("umount").arg(&small).status().unwrap();
    assert!(unmounted.success());
    outcome.unwrap();
}

#[test]
fn a_locked_file_is_waited_for_and_then_refused() {
    let folder = Folder::new("locked");
    let path = folder.join("jobs.db");
    let store = SqliteOptions::new(&path)
        .busy_timeout(Duration::from_millis(200))
        .open()
        .unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = wait(|done| store.enqueue(vec![job("a")], done));
    assert!(matches!(refused, Err(Error::Locked(_))), "{refused:?}");
    // Reads go on meanwhile.
    assert!(listed(&store).is_empty());
    other.execute_batch("COMMIT").unwrap();
    let id = enqueue(&store, job("b"));
    assert_eq!(listed(&store), [id]);
}

#[test]
fn a_file_that_may_not_be_written_says_so() {
    let folder = Folder::new("readonly");
    let path = folder.join("jobs.db");
    let id = enqueue(&open(&path), job("a"));
    // SAFETY: no memory is involved.
    if unsafe { libc::geteuid() } == 0 {
        // Root may write whatever it likes, but for a mount that is for reading only.
        let bind = |options: &[&str]| {
            let mount = std::process::Command::new("mount")
                .args(options)
                .arg(folder.path())
                .arg(folder.path())
                .status();
            mount.is_ok_and(|status| status.success())
        };
        if !bind(&["--bind"]) {
            eprintln!("skipped: nothing can be mounted here, and root may write to all else");
            return;
        }
        let refused = bind(&["-o", "remount,bind,ro"]).then(|| SqliteOptions::new(&path).open().map(drop));
        let unmounted = std::process::Command::new("umount")
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(unmounted.success());
        let refused = refused.expect("the mount was made for reading only");
        assert!(
            matches!(refused, Err(Error::ReadOnly(_) | Error::Open(_))),
            "{refused:?}"
        );
    } else {
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        let refused = SqliteOptions::new(&path).open().map(drop);
        assert!(matches!(refused, Err(Error::ReadOnly(_))), "{refused:?}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(listed(&open(&path)), [id]);
}

#[test]
fn a_damaged_file_says_so() {
    let folder = Folder::new("damaged");
    let path = folder.join("jobs.db");
    {
        let store = open(&path);
        wait(|done| store.enqueue((0..3000).map(|_| job("a")).collect(), done)).unwrap();
    }
    let mut bytes = fs::read(&path).unwrap();
    // Pages past the schema's; those are what a job is read from.
    for page in (20..bytes.len() / 4096).step_by(2) {
        bytes[page * 4096..page * 4096 + 200].fill(0xa5);
    }
    fs::write(&path, bytes).unwrap();
    let outcome = SqliteOptions::new(&path).open().and_then(|store| {
        let worker = wait(|done| store.register("test", done))?;
        loop {
            let claim = Claim {
                worker,
                queues: Vec::new(),
                max: 100,
            };
            if wait(|done| store.claim(claim, done))?.is_empty() {
                return Ok(());
            }
        }
    });
    assert!(matches!(outcome, Err(Error::Corrupt(_))), "{outcome:?}");
}

/// The file grows with what is in it, and shrinks again.
#[test]
fn pruned_jobs_give_their_room_back() {
    let folder = Folder::new("shrink");
    let path = folder.join("jobs.db");
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let store = SqliteOptions::new(&path)
        .clock(clock.clone())
        .log(Duration::from_secs(10), 1000)
        .open()
        .unwrap();
    let worker = register(&store);
    let big = |n: usize| NewJob {
        payload: vec![n as u8; 5000],
        keep: 1000,
        ..job("big")
    };
    wait(|done| store.enqueue((0..4000).map(big).collect(), done)).unwrap();
    for claimed in claim(&store, worker, 4000).chunks(500) {
        let ack = |job: &Claimed| Ack {
            attempt: job.attempt,
            outcome: Outcome::Succeeded { result: None },
            then: vec![],
        };
        wait(|done| store.acknowledge(claimed.iter().map(ack).collect(), done)).unwrap();
    }
    let pages = || {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.query_row("PRAGMA page_count", (), |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let full = pages();
    clock.advance(1000);
    assert_eq!(wait(|done| store.prune(done)).unwrap().jobs, 4000);
    for _ in 0..20 {
        wait(|done| store.prune(done)).unwrap();
    }
    let log = wait(|done| store.log(usize::MAX, done)).unwrap().len();
    assert!(
        full > 4000 && pages() < full / 4 && log == 1000,
        "{full} pages, then {}; {log} entries",
        pages()
    );
}
