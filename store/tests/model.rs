//! Stores against a model that a child could read: a list of jobs, looked through from the beginning. Random calls, the same
//! to all, have to be answered the same. `ROVING_SEED` repeats a run, `ROVING_STORE_MODEL_RUNS` makes more of them.
#![allow(missing_docs)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::*;
use roving_store::*;

const NOON: i64 = 1_800_000_000_000;

#[derive(Clone)]
struct Row {
    new: NewJob,
    status: Status,
    eta: Option<i64>,
    expires: Option<i64>,
    attempts: u32,
    claims: u32,
    deaths: u32,
    worker: Option<usize>,
    cancel: bool,
    holds_key: bool,
    gone_at: Option<i64>,
}

#[derive(Default)]
struct Model {
    now: i64,
    rows: Vec<Row>,
    workers: Vec<bool>,
    queues: HashMap<String, QueueSettings>,
}

impl Model {
    fn find(&mut self, id: JobId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.new.id == id)
    }

    fn finish(&mut self, id: JobId, status: Status) {
        let now = self.now;
        let row = self.find(id).unwrap();
        row.status = status;
        row.holds_key = false;
        row.worker = None;
        row.cancel = false;
        if matches!(status, Status::Succeeded | Status::Cancelled | Status::Expired) {
            row.gone_at = Some(now + row.new.keep);
            if row.new.keep == 0 {
                self.rows.retain(|row| row.new.id != id);
            }
        }
    }

    fn enqueue(&mut self, new: &NewJob) -> Enqueued {
        if self.find(new.id).is_some() {
            return Enqueued::Known(new.id);
        }
        let key = new.unique.as_ref().map(|unique| &unique.key);
        let holds = |row: &&Row| row.holds_key && row.new.unique.as_ref().map(|unique| &unique.key) == key;
        if key.is_some()
            && let Some(holder) = self.rows.iter().find(holds)
        {
            return Enqueued::Duplicate(holder.new.id);
        }
        let status = if new.eta.is_some_and(|eta| eta > self.now) {
            Status::Scheduled
        } else {
            Status::Queued
        };
        self.rows.push(Row {
            new: new.clone(),
            status,
            eta: new.eta,
            expires: new.expires,
            attempts: 0,
            claims: 0,
            deaths: 0,
            worker: None,
            cancel: false,
            holds_key: new.unique.is_some(),
            gone_at: None,
        });
        Enqueued::New(new.id)
    }

    fn claim(&mut self, worker: usize, queues: &[String], max: usize) -> Option<Vec<JobId>> {
        if !self.workers[worker] {
            return None;
        }
        let now = self.now;
        for row in &mut self.rows {
            if row.status == Status::Scheduled && row.eta.unwrap() <= now {
                row.status = Status::Queued;
            }
        }
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let room = |queue: &str| {
                let settings = self.queues.get(queue).copied().unwrap_or_default();
                let running = |row: &&Row| row.status == Status::Running && row.new.queue == queue;
                let running = self.rows.iter().filter(running).count();
                !settings.paused && settings.concurrency.is_none_or(|most| running < most as usize)
            };
            let may = |row: &&Row| {
                let asked = queues.is_empty() || queues.contains(&row.new.queue);
                row.status == Status::Queued && asked && room(&row.new.queue)
            };
            // The first of those with the highest priority.
            let next = self
                .rows
                .iter()
                .filter(may)
                .rev()
                .max_by_key(|row| row.new.priority);
            let Some(id) = next.map(|row| row.new.id) else {
                break;
            };
            let row = self.find(id).unwrap();
            if row.expires.is_some_and(|expires| expires <= now) {
                self.finish(id, Status::Expired);
                continue;
            }
            row.status = Status::Running;
            row.worker = Some(worker);
            row.attempts += 1;
            row.claims += 1;
            if row.new.unique.as_ref().is_some_and(|unique| unique.until_started) {
                row.holds_key = false;
            }
            claimed.push(id);
        }
        Some(claimed)
    }

    fn acknowledge(&mut self, held: &Held, outcome: &Outcome) -> Result<Status, Error> {
        let now = self.now;
        let Some(row) = self.find(held.attempt.job) else {
            return Err(Error::Stale);
        };
        let current = row.status == Status::Running
            && row.worker == Some(held.worker)
            && row.claims == held.attempt.number;
        if !current {
            return Err(Error::Stale);
        }
        let status = match outcome {
            Outcome::Succeeded { .. } => Status::Succeeded,
            Outcome::Failed { .. } => Status::Failed,
            Outcome::Cancelled => Status::Cancelled,
            Outcome::HandBack => {
                row.attempts -= 1;
                if row.cancel {
                    Status::Cancelled
                } else {
                    Status::Queued
                }
            }
            Outcome::Retry { .. } if row.cancel => Status::Cancelled,
            Outcome::Retry { .. } if row.attempts >= row.new.max_attempts => Status::Failed,
            Outcome::Retry { at, .. } => {
                row.eta = Some(*at);
                if *at > now {
                    Status::Scheduled
                } else {
                    Status::Queued
                }
            }
        };
        row.status = status;
        row.worker = None;
        row.cancel = false;
        if status.is_finished() {
            self.finish(held.attempt.job, status);
        }
        Ok(status)
    }

    fn evict(&mut self, worker: usize) -> u64 {
        self.workers[worker] = false;
        let theirs = self
            .rows
            .iter()
            .filter(|row| row.worker == Some(worker) && row.status == Status::Running);
        let theirs: Vec<JobId> = theirs.map(|row| row.new.id).collect();
        for &id in &theirs {
            let row = self.find(id).unwrap();
            row.attempts -= 1;
            row.deaths += 1;
            row.worker = None;
            row.status = Status::Queued;
            if row.cancel {
                self.finish(id, Status::Cancelled);
            } else if row.deaths >= 3 {
                self.finish(id, Status::Quarantined);
            }
        }
        theirs.len() as u64
    }

    fn cancel(&mut self, id: JobId) -> Result<Cancelled, Error> {
        let Some(row) = self.find(id) else {
            return Err(Error::UnknownJob);
        };
        if row.status == Status::Running {
            row.cancel = true;
            return Ok(Cancelled::Requested);
        }
        if row.status.is_finished() {
            return Ok(Cancelled::Finished(row.status));
        }
        self.finish(id, Status::Cancelled);
        Ok(Cancelled::Now)
    }

    fn retry(&mut self, id: JobId) -> Result<(), Error> {
        let Some(row) = self.find(id).cloned() else {
            return Err(Error::UnknownJob);
        };
        if !row.status.is_finished() || row.status == Status::Succeeded {
            return Err(Error::WrongStatus(row.status));
        }
        if let Some(unique) = &row.new.unique {
            let same = |other: &Row| {
                other.holds_key && other.new.unique.as_ref().map(|unique| &unique.key) == Some(&unique.key)
            };
            if self.rows.iter().any(same) {
                return Err(Error::Invalid(String::new()));
            }
        }
        let row = self.find(id).unwrap();
        (
            row.status,
            row.attempts,
            row.deaths,
            row.eta,
            row.expires,
            row.gone_at,
        ) = (Status::Queued, 0, 0, None, None, None);
        row.holds_key = row.new.unique.is_some();
        Ok(())
    }

    fn prune(&mut self) {
        let now = self.now;
        self.rows.retain(|row| row.gone_at.is_none_or(|at| at > now));
    }

    fn purge(&mut self, status: Status, queue: &str) -> u64 {
        let before = self.rows.len();
        self.rows
            .retain(|row| row.status != status || row.new.queue != queue);
        (before - self.rows.len()) as u64
    }
}

#[derive(Clone)]
struct Held {
    worker: usize,
    attempt: Attempt,
}

struct Run {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    model: Model,
    random: Random,
    workers: Vec<WorkerId>,
    held: Vec<Held>,
    ids: Vec<JobId>,
}

impl Run {
    fn pick_id(&mut self) -> JobId {
        match self.ids.len() as u64 {
            0 => JobId::new(),
            count => self.ids[self.random.below(count) as usize],
        }
    }

    fn new_job(&mut self) -> NewJob {
        let random = &mut self.random;
        let chance = |random: &mut Random, n| random.below(n) == 0;
        NewJob {
            queue: ["a", "b", "c"][random.below(3) as usize].into(),
            priority: random.below(3) as i32,
            eta: chance(random, 4).then(|| NOON + random.below(3000) as i64),
            expires: chance(random, 6).then(|| NOON + random.below(3000) as i64),
            max_attempts: 1 + random.below(3) as u32,
            keep: [0, 100, 1000][random.below(3) as usize],
            unique: chance(random, 3).then(|| Unique {
                key: ["x", "y"][random.below(2) as usize].into(),
                until_started: chance(random, 2),
            }),
            payload: vec![7; [1, 2000][random.below(2) as usize]],
            ..job("task")
        }
    }

    fn step(&mut self) {
        let store = Arc::clone(&self.store);
        match self.random.below(20) {
            0..=5 => {
                let jobs: Vec<NewJob> = (0..1 + self.random.below(3)).map(|_| self.new_job()).collect();
                self.ids.extend(jobs.iter().map(|job| job.id));
                let expected: Vec<_> = jobs.iter().map(|job| Ok(self.model.enqueue(job))).collect();
                assert_eq!(wait(|done| store.enqueue(jobs, done)).unwrap(), expected);
            }
            6..=9 => {
                let worker = self.random.below(self.workers.len() as u64) as usize;
                let queues: &[&str] = [&[][..], &["a"], &["b", "c"]][self.random.below(3) as usize];
                let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
                let max = 1 + self.random.below(4) as usize;
                let expected = self.model.claim(worker, &queues, max);
                let claimed = wait(|done| {
                    store.claim(
                        Claim {
                            worker: self.workers[worker],
                            queues,
                            max,
                        },
                        done,
                    );
                });
                let Some(expected) = expected else {
                    return assert_eq!(claimed, Err(Error::UnknownWorker));
                };
                let claimed = claimed.unwrap();
                assert_eq!(claimed.iter().map(|job| job.job.id).collect::<Vec<_>>(), expected);
                self.held.extend(claimed.iter().map(|job| Held {
                    worker,
                    attempt: job.attempt,
                }));
            }
            10..=13 if !self.held.is_empty() => {
                let at = self.random.below(self.held.len() as u64) as usize;
                // Some are kept, to be acknowledged once more.
                let held = if self.random.below(5) == 0 {
                    self.held[at].clone()
                } else {
                    self.held.swap_remove(at)
                };
                let outcome = match self.random.below(6) {
                    0 => retry_at(NOON + self.random.below(3000) as i64),
                    1 => Outcome::HandBack,
                    2 => fail("no"),
                    3 => Outcome::Cancelled,
                    _ => Outcome::Succeeded { result: None },
                };
                let expected = self.model.acknowledge(&held, &outcome);
                assert_eq!(acknowledge(&*store, held.attempt, outcome), expected);
            }
            14 => {
                let time = self.random.below(200) as i64;
                self.clock.advance(time);
                self.model.now += time;
            }
            15 => {
                let id = self.pick_id();
                assert_eq!(wait(|done| store.cancel(id, done)), self.model.cancel(id));
            }
            16 => {
                let id = self.pick_id();
                let blank = |outcome: Result<(), Error>| match outcome {
                    Err(Error::Invalid(_)) => Err(Error::Invalid(String::new())),
                    other => other,
                };
                assert_eq!(blank(wait(|done| store.retry(id, done))), self.model.retry(id));
            }
            17 if self.random.below(3) == 0 => {
                let worker = self.random.below(self.workers.len() as u64) as usize;
                let taken = wait(|done| store.evict(self.workers[worker], done)).unwrap();
                assert_eq!(taken.jobs, self.model.evict(worker));
                self.workers.push(register(&*store));
                self.model.workers.push(true);
            }
            18 => {
                wait(|done| store.prune(done)).unwrap();
                self.model.prune();
                let queue = ["a", "b"][self.random.below(2) as usize];
                let concurrency = [None, Some(1), Some(3)][self.random.below(3) as usize];
                let settings = QueueSettings {
                    concurrency,
                    paused: self.random.below(4) == 0,
                };
                wait(|done| store.set_queue(queue, settings, done)).unwrap();
                self.model.queues.insert(queue.into(), settings);
            }
            19 if self.random.below(5) == 0 => {
                let status =
                    [Status::Failed, Status::Queued, Status::Scheduled][self.random.below(3) as usize];
                let filter = Filter {
                    statuses: vec![status],
                    queue: Some("a".into()),
                    ..Filter::default()
                };
                let purged = wait(|done| store.purge(filter, done)).unwrap();
                assert_eq!(purged.jobs, self.model.purge(status, "a"));
            }
            _ => {}
        }
    }

    fn compare(&self) {
        let page = Page {
            after: None,
            limit: usize::MAX,
            newest_first: false,
        };
        let listed = wait(|done| self.store.list(Filter::default(), page, done)).unwrap();
        let seen = listed.iter().map(|job| {
            let worker = job
                .worker
                .map(|worker| self.workers.iter().position(|known| *known == worker).unwrap());
            (
                job.id,
                job.status,
                job.attempts,
                job.deaths,
                worker,
                job.cancel_requested,
            )
        });
        let rows = self.model.rows.iter();
        let expected = rows.map(|row| {
            (
                row.new.id,
                row.status,
                row.attempts,
                row.deaths,
                row.worker,
                row.cancel,
            )
        });
        assert_eq!(seen.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let mut counts = HashMap::new();
        for row in &self.model.rows {
            counts.entry(row.new.queue.clone()).or_insert([0; 9])[row.status.number() as usize] += 1;
        }
        for queue in wait(|done| self.store.stats(done)).unwrap().queues {
            assert_eq!(
                queue.jobs,
                counts.get(&queue.queue).copied().unwrap_or_default(),
                "{}",
                queue.queue
            );
        }
    }
}

fn run(seed: u64, clock: &Arc<ManualClock>, store: Arc<dyn Store>) {
    let mut run = Run {
        clock: Arc::clone(clock),
        model: Model {
            now: NOON,
            ..Model::default()
        },
        random: Random::new(seed),
        workers: Vec::new(),
        held: Vec::new(),
        ids: Vec::new(),
        store,
    };
    for _ in 0..2 {
        run.workers.push(register(&*run.store));
        run.model.workers.push(true);
    }
    for step in 0..400 {
        run.step();
        if step % 20 == 0 {
            run.compare();
        }
    }
    run.compare();
}

fn runs(usual: u64) -> u64 {
    variable("ROVING_STORE_MODEL_RUNS").unwrap_or(usual)
}

#[test]
fn memory_does_what_the_model_does() {
    let seed = seed();
    for n in 0..runs(100) {
        let clock = Arc::new(ManualClock::new(NOON));
        let store = MemoryStore::new(MemoryOptions {
            clock: clock.clone(),
            ..MemoryOptions::default()
        });
        run(seed + n, &clock, Arc::new(store));
    }
}

#[test]
fn sqlite_does_what_the_model_does() {
    let seed = seed();
    for n in 0..runs(8) {
        let (folder, clock) = (Folder::new("model"), Arc::new(ManualClock::new(NOON)));
        let store = SqliteOptions::new(folder.join("jobs.db"))
            .clock(clock.clone())
            .open()
            .unwrap();
        run(seed + n, &clock, Arc::new(store));
    }
}
