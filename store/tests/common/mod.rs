//! What the tests share.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use roving_store::{
    Ack, Attempt, Claim, Claimed, Enqueued, Job, JobId, NewJob, Outcome, Status, Store, WorkerId, wait,
};

/// A folder that is removed, unless the test failed.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("roving-store-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The seed of this run: `ROVING_SEED`, or another each time. Printed, for a run that fails.
pub fn seed() -> u64 {
    let given = std::env::var("ROVING_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed =
        given.unwrap_or_else(|| u64::from_le_bytes(JobId::new().as_bytes()[8..].try_into().unwrap()) >> 32);
    println!("ROVING_SEED={seed}");
    seed
}

pub fn job(task: &str) -> NewJob {
    NewJob::new(task, "q", *b"{}")
}

pub fn enqueue(store: &dyn Store, job: NewJob) -> JobId {
    match wait(|done| store.enqueue(vec![job], done))
        .unwrap()
        .remove(0)
        .unwrap()
    {
        Enqueued::New(id) => id,
        other => panic!("{other:?}"),
    }
}

pub fn register(store: &dyn Store) -> WorkerId {
    wait(|done| store.register("test", done)).unwrap()
}

pub fn claim(store: &dyn Store, worker: WorkerId, max: usize) -> Vec<Claimed> {
    wait(|done| {
        store.claim(
            Claim {
                worker,
                queues: Vec::new(),
                max,
            },
            done,
        );
    })
    .unwrap()
}

pub fn acknowledge(
    store: &dyn Store,
    attempt: Attempt,
    outcome: Outcome,
) -> Result<Status, roving_store::Error> {
    let ack = Ack {
        attempt,
        outcome,
        then: Vec::new(),
    };
    wait(|done| store.acknowledge(vec![ack], done)).unwrap().remove(0)
}

pub fn succeed(store: &dyn Store, attempt: Attempt) -> Result<Status, roving_store::Error> {
    acknowledge(store, attempt, Outcome::Succeeded { result: None })
}

pub fn fail(error: &str) -> Outcome {
    Outcome::Failed {
        error: error.into(),
        traceback: "there".into(),
    }
}

pub fn retry_at(at: i64) -> Outcome {
    Outcome::Retry {
        at,
        error: "again".into(),
        traceback: "there".into(),
    }
}

pub fn get(store: &dyn Store, id: JobId) -> Option<Job> {
    wait(|done| store.get(id, done)).unwrap()
}

pub fn status(store: &dyn Store, id: JobId) -> Status {
    get(store, id).expect("the job is there").status
}

/// Runs a test of this file in another process: there it finds `ROVING_STORE_CHILD` set.
pub fn child(test: &str, environment: &[(&str, String)]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("ROVING_STORE_CHILD", test);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Whether this process was started by [`child`].
pub fn is_child(test: &str) -> bool {
    std::env::var("ROVING_STORE_CHILD").is_ok_and(|child| child == test)
}

pub fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}
