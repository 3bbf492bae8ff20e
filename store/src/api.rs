//! The interface of a store, and what its calls take and give.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::change::{Listener, Watch};
use crate::error::Error;
use crate::job::{Attempt, Claimed, Job, JobId, NewJob, Status, WorkerId};

/// Is called once with what came of a call: after the commit is on disk where the call changed something. It is called
/// from a thread of the store's and must not block it; a fiber is woken by it, a plain thread waits in [`wait`]. Should
/// the store be dropped, it is called with [`Error::Closed`].
pub type Done<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// Makes a call of a store and blocks the thread until it is done.
///
/// # Errors
///
/// What the call came to.
///
/// ```
/// use roving_store::{MemoryOptions, MemoryStore, NewJob, Store, wait};
/// let store = MemoryStore::new(MemoryOptions::default());
/// let enqueued = wait(|done| store.enqueue(vec![NewJob::new("shop.send", "mail", "{}")], done)).unwrap();
/// assert!(enqueued[0].is_ok());
/// ```
pub fn wait<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Result<T, Error> {
    let slot = Arc::new((Mutex::new(None), Condvar::new()));
    let filled = Arc::clone(&slot);
    call(Box::new(move |outcome| {
        *filled.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        filled.1.notify_one();
    }));
    let mut outcome = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(outcome) = outcome.take() {
            return outcome;
        }
        outcome = slot.1.wait(outcome).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What came of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// The job is in the store.
    New(JobId),
    /// It was already: its id is known, so this is the repetition of an enqueue.
    Known(JobId),
    /// Another job, this one, has its unique key. Nothing was enqueued.
    Duplicate(JobId),
}

/// Which jobs to claim, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who will run them.
    pub worker: WorkerId,
    /// From these queues; from all where empty. Among all that may run now, higher priorities go first, then earlier ones.
    pub queues: Vec<String>,
    /// At most as many.
    pub max: usize,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Succeeded {
        /// What it gave, as the codec wrote it; None keeps none.
        result: Option<Vec<u8>>,
    },
    /// With an error, and no further attempt.
    Failed {
        /// In a line.
        error: String,
        /// Where.
        traceback: String,
    },
    /// With an error, to be tried again; it fails where no attempt is left.
    Retry {
        /// Not before, in milliseconds since 1970; at once where that is past.
        at: i64,
        /// In a line.
        error: String,
        /// Where.
        traceback: String,
    },
    /// It was not run, or not to its end through no fault of its own: back to its place in the queue, and the attempt
    /// does not count.
    HandBack,
    /// It was stopped because somebody cancelled it.
    Cancelled,
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Of this attempt.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
    /// Enqueued in the same commit: both happen or neither does. Not enqueued where the attempt is stale.
    pub then: Vec<NewJob>,
}

impl Ack {
    /// Whether everything in it can be written: half an acknowledgement there is not.
    pub(crate) fn check(&self, max_payload: usize) -> Result<(), Error> {
        if let Outcome::Succeeded { result: Some(result) } = &self.outcome
            && result.len() > max_payload
        {
            let length = result.len();
            return Err(Error::Invalid(format!(
                "the result has {length} bytes, and at most {max_payload} are taken"
            )));
        }
        self.then.iter().try_for_each(|job| job.check(max_payload))
    }
}

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not begun, and will not.
    Now,
    /// It runs; its worker is asked to stop it.
    Requested,
    /// It was finished before.
    Finished(Status),
}

/// Picks jobs. Every part that is given has to fit; [`Filter::default`] picks all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these; any where empty.
    pub statuses: Vec<Status>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this task.
    pub task: Option<String>,
    /// Of this group.
    pub group: Option<JobId>,
    /// Enqueued by this job.
    pub parent: Option<JobId>,
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// After this job: the last one of the page before. From the beginning where None.
    pub after: Option<JobId>,
    /// At most as many.
    pub limit: usize,
    /// Whether those enqueued last come first.
    pub newest_first: bool,
}

/// What came of a purge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Jobs deleted.
    pub jobs: u64,
}

/// What came of a look for dead workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The dead workers; their jobs are queued again.
    pub workers: Vec<WorkerId>,
    /// How many jobs they had.
    pub jobs: u64,
    /// How many of those are quarantined now.
    pub quarantined: u64,
}

/// A rate limit, across all processes: `count` in `period`, evenly, and up to `burst` at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many, at least 1.
    pub count: u32,
    /// In so many milliseconds, at least 1, at most a year.
    pub period: i64,
    /// How many may start at once, at least 1.
    pub burst: u32,
}

impl Rate {
    pub(crate) fn check(&self) -> Result<(), Error> {
        const YEAR: i64 = 366 * 24 * 3600 * 1000;
        if self.count == 0 || self.burst == 0 || !(1..=YEAR).contains(&self.period) {
            return Err(Error::Invalid(format!(
                "{self:?}: count and burst are at least 1, period 1 ms to a year"
            )));
        }
        Ok(())
    }
}

/// What holds for a queue, across all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// How many of its jobs may run at a time; any number where None.
    pub concurrency: Option<u32>,
    /// Whether nothing of it is claimed.
    pub paused: bool,
}

/// What came of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickOutcome {
    /// This call was the first with this tick: here is what came of its enqueue.
    Enqueued(Enqueued),
    /// There was this tick before, the same or a later one.
    Past(i64),
}

/// The last tick of a periodic task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The schedule's name.
    pub name: String,
    /// Its last tick, in milliseconds since 1970.
    pub at: i64,
}

/// What came of `once`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// The key is new; the value is kept with it.
    First,
    /// The key was there, with this value.
    Before(Vec<u8>),
}

/// A worker that the store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its id.
    pub id: WorkerId,
    /// The name it gave.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// When it registered, in milliseconds since 1970.
    pub since: i64,
    /// How many jobs it has.
    pub running: u64,
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// The queue.
    pub queue: String,
    /// How many jobs it has of each status, by [`Status::number`].
    pub jobs: [u64; 9],
    /// When the earliest of those queued was enqueued.
    pub oldest: Option<i64>,
    /// How many succeeded since the store was made, pruned ones too.
    pub succeeded: u64,
    /// How many failed, expired, were cancelled or quarantined since the store was made.
    pub failed: u64,
    /// What holds for it.
    pub settings: QueueSettings,
}

/// How the store stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// By queue, in the order of their names.
    pub queues: Vec<QueueStats>,
}

/// What remains of a finished job once it is pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its id.
    pub id: JobId,
    /// Its task.
    pub task: String,
    /// Its queue.
    pub queue: String,
    /// How it ended.
    pub status: Status,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was enqueued.
    pub enqueued_at: i64,
    /// When its last attempt began.
    pub started_at: Option<i64>,
    /// When it finished.
    pub finished_at: i64,
}

/// A store of jobs. All calls return at once and say later, through [`Done`], what came of them.
pub trait Store: Send + Sync {
    /// Registers a worker. Jobs that it claims are its own until it acknowledges them, retires, or dies, which the store
    /// finds out without a clock.
    fn register(&self, name: &str, done: Done<WorkerId>);
    /// Ends a worker: jobs that it still has are handed back.
    fn retire(&self, worker: WorkerId, done: Done<()>);
    /// Takes a worker's jobs away although it lives (a stopped or hung process): they count as jobs of a dead one. The
    /// worker's acknowledgements are refused as stale from here on, and its claims with [`Error::UnknownWorker`].
    fn evict(&self, worker: WorkerId, done: Done<TakenOver>);
    /// Queues the jobs of dead workers again. The store does so by itself as well.
    fn take_over(&self, done: Done<TakenOver>);
    /// The workers.
    fn workers(&self, done: Done<Vec<WorkerInfo>>);

    /// Enqueues jobs, in one commit. What comes of each is at its place; one that is refused ([`Error::Invalid`]) does
    /// not keep the others.
    fn enqueue(&self, jobs: Vec<NewJob>, done: Done<Vec<Result<Enqueued, Error>>>);
    /// Claims jobs; none where none may run now: [`Change::Ready`](crate::Change::Ready) says when to claim again.
    fn claim(&self, claim: Claim, done: Done<Vec<Claimed>>);
    /// Acknowledges attempts, in one commit, and says what status each job has now, or [`Error::Stale`].
    fn acknowledge(&self, acks: Vec<Ack>, done: Done<Vec<Result<Status, Error>>>);
    /// Says which of these attempts are still their jobs' current ones: false once one was taken over. Where workers hold
    /// leases (not here), this extends them.
    fn extend(&self, attempts: Vec<Attempt>, done: Done<Vec<bool>>);
    /// Cancels a job.
    fn cancel(&self, id: JobId, done: Done<Cancelled>);
    /// Queues a failed, quarantined, cancelled or expired job again, with all of its attempts, and without its expiry.
    /// [`Error::WrongStatus`] otherwise. Where its unique key has another job by now, [`Error::Invalid`].
    fn retry(&self, id: JobId, done: Done<()>);

    /// A job.
    fn get(&self, id: JobId, done: Done<Option<Job>>);
    /// Jobs, in the order of their enqueueing, without payloads, results and tracebacks.
    fn list(&self, filter: Filter, page: Page, done: Done<Vec<Job>>);
    /// How the queues stand.
    fn stats(&self, done: Done<Stats>);
    /// Pruned jobs, those that finished last first.
    fn log(&self, limit: usize, done: Done<Vec<LogEntry>>);

    /// Deletes the jobs that fit and do not run, in slices: others get their turn in between.
    fn purge(&self, filter: Filter, done: Done<Purged>);
    /// Moves finished jobs whose time is over to the log, and shortens the log. The store does so by itself as well.
    fn prune(&self, done: Done<Purged>);

    /// Enqueues the job of a periodic task's tick, unless there was this tick, or a later one: one job per tick however
    /// many processes ask. A later one that is more than a day ahead of the clock does not count.
    fn tick(&self, name: &str, at: i64, job: NewJob, done: Done<TickOutcome>);
    /// The last tick of every schedule.
    fn ticks(&self, done: Done<Vec<Tick>>);
    /// Keeps a value with a key for `keep` milliseconds, if the key is new.
    fn once(&self, key: &str, value: Vec<u8>, keep: i64, done: Done<Once>);
    /// The value of a key.
    fn once_value(&self, key: &str, done: Done<Option<Vec<u8>>>);
    /// Sets, or with None lifts, a rate limit.
    fn set_rate(&self, limit: &str, rate: Option<Rate>, done: Done<()>);
    /// Sets what holds for a queue.
    fn set_queue(&self, queue: &str, settings: QueueSettings, done: Done<()>);

    /// Has the listener told of changes while the watch lives.
    fn watch(&self, listener: Listener) -> Watch;
    /// Finishes what was begun, and then refuses all calls with [`Error::Closed`]. Blocks until the store's threads have
    /// ended. Workers that did not retire count as dead. Dropping a store does the same.
    fn close(&self);
}
