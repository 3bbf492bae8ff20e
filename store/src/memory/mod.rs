//! Jobs in memory: the meaning of the store in a file, without its durability. One lock, held for microseconds; every call
//! is done before it returns.

mod change;
mod life;
mod state;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::state::{Effects, State};
use crate::api::*;
use crate::change::{Change, Listener, Listeners, Watch};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::job::{Attempt, Claimed, Job, JobId, NewJob, Status, WorkerId, check_name};

/// How a store in memory is made.
#[derive(Clone)]
pub struct MemoryOptions {
    /// Another clock, for tests.
    pub clock: Arc<dyn Clock>,
    /// How many times a worker may be evicted from under a job before the job is quarantined.
    pub max_deaths: u32,
    /// How many bytes a payload or a result may have.
    pub max_payload: usize,
    /// For how long failed and quarantined jobs are kept; for ever where None.
    pub keep_failed: Option<Duration>,
    /// How many entries the log has at most.
    pub log_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            clock: Arc::new(SystemClock),
            max_deaths: 3,
            max_payload: 16 << 20,
            keep_failed: None,
            log_max: 10_000,
        }
    }
}

impl std::fmt::Debug for MemoryOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryOptions")
            .field("max_deaths", &self.max_deaths)
            .finish_non_exhaustive()
    }
}

/// Jobs in memory, for tests and for what may be lost with the process. Workers die with it as well; [`Store::evict`] plays
/// their deaths.
///
/// Its one thread starts with the first [`Store::watch`], and tells when something becomes due. [`Store::prune`] (which
/// every thousandth acknowledgement does as well) forgets what is over.
pub struct MemoryStore {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the store and its thread share.
struct Shared {
    state: Mutex<State>,
    /// Told when there is an earlier time to wait for, or the store is closed.
    sooner: Condvar,
    listeners: Arc<Listeners>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(options: MemoryOptions) -> Self {
        let shared = Shared {
            state: Mutex::new(State::new(options)),
            sooner: Condvar::new(),
            listeners: Arc::new(Listeners::default()),
        };
        MemoryStore {
            shared: Arc::new(shared),
            thread: Mutex::new(None),
        }
    }

    /// Makes a call, tells of what it changed, and says what came of it; without the lock.
    fn call<T>(&self, done: Done<T>, work: impl FnOnce(&mut State) -> Result<T, Error>) {
        let (outcome, effects) = {
            let mut state = self.shared.lock();
            if state.closed {
                (Err(Error::Closed), Effects::default())
            } else {
                state.look_at_clock();
                let outcome = work(&mut state);
                if state
                    .waited_for
                    .is_some_and(|until| state.next_time().is_some_and(|next| next < until))
                {
                    self.shared.sooner.notify_one();
                }
                (outcome, std::mem::take(&mut state.effects))
            }
        };
        self.shared.tell(effects);
        done(outcome);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work: tells of what is due, until the store is closed.
    fn keep_time(&self) {
        let mut state = self.lock();
        while !state.closed {
            state.look_at_clock();
            let next = state.next_time();
            let until = next.unwrap_or(i64::MAX);
            state.waited_for = Some(until);
            let rest = Duration::from_millis(until.saturating_sub(state.steady).max(0) as u64);
            // The wall clock may be set meanwhile: no wait is long.
            let rest = rest.min(Duration::from_secs(if next.is_some() { 1 } else { 3600 }));
            (state, _) = self
                .sooner
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner);
            state.look_at_clock();
            if state.steady >= until {
                state.told_until = state.now;
                drop(state);
                self.listeners.tell(&Change::Ready);
                state = self.lock();
            }
        }
    }

    fn tell(&self, effects: Effects) {
        if effects.ready {
            self.listeners.tell(&Change::Ready);
        }
        if !effects.finished.is_empty() && self.listeners.any() {
            self.listeners.tell(&Change::Finished(effects.finished));
        }
        if !effects.cancels.is_empty() {
            self.listeners.tell(&Change::CancelRequested(effects.cancels));
        }
    }
}

impl Store for MemoryStore {
    fn register(&self, name: &str, done: Done<WorkerId>) {
        self.call(done, |state| {
            check_name("name of a worker", name)?;
            Ok(state.register(name))
        });
    }

    fn retire(&self, worker: WorkerId, done: Done<()>) {
        self.call(done, |state| {
            state.give_back(worker, false);
            Ok(())
        });
    }

    fn evict(&self, worker: WorkerId, done: Done<TakenOver>) {
        self.call(done, |state| {
            let (jobs, quarantined) = state.give_back(worker, true);
            Ok(TakenOver {
                workers: vec![worker],
                jobs,
                quarantined,
            })
        });
    }

    fn take_over(&self, done: Done<TakenOver>) {
        self.call(done, |_| Ok(TakenOver::default()));
    }

    fn workers(&self, done: Done<Vec<WorkerInfo>>) {
        self.call(done, |state| Ok(state.workers()));
    }

    fn enqueue(&self, jobs: Vec<NewJob>, done: Done<Vec<Result<Enqueued, Error>>>) {
        self.call(done, |state| {
            Ok(jobs.into_iter().map(|job| state.enqueue(job)).collect())
        });
    }

    fn claim(&self, claim: Claim, done: Done<Vec<Claimed>>) {
        self.call(done, |state| state.claim(&claim));
    }

    fn acknowledge(&self, acks: Vec<Ack>, done: Done<Vec<Result<Status, Error>>>) {
        self.call(done, |state| {
            Ok(acks.into_iter().map(|ack| state.acknowledge(ack)).collect())
        });
    }

    fn extend(&self, attempts: Vec<Attempt>, done: Done<Vec<bool>>) {
        self.call(done, |state| {
            Ok(attempts.iter().map(|attempt| state.is_current(attempt)).collect())
        });
    }

    fn cancel(&self, id: JobId, done: Done<Cancelled>) {
        self.call(done, |state| state.cancel(id));
    }

    fn retry(&self, id: JobId, done: Done<()>) {
        self.call(done, |state| state.retry(id));
    }

    fn get(&self, id: JobId, done: Done<Option<Job>>) {
        self.call(done, |state| Ok(state.get(id)));
    }

    fn list(&self, filter: Filter, page: Page, done: Done<Vec<Job>>) {
        self.call(done, |state| Ok(state.list(&filter, page)));
    }

    fn stats(&self, done: Done<Stats>) {
        self.call(done, |state| Ok(state.stats()));
    }

    fn log(&self, limit: usize, done: Done<Vec<LogEntry>>) {
        self.call(done, |state| {
            Ok(state.log.iter().rev().take(limit).cloned().collect())
        });
    }

    fn purge(&self, filter: Filter, done: Done<Purged>) {
        self.call(done, |state| Ok(state.purge(&filter)));
    }

    fn prune(&self, done: Done<Purged>) {
        self.call(done, |state| Ok(state.prune()));
    }

    fn tick(&self, name: &str, at: i64, job: NewJob, done: Done<TickOutcome>) {
        self.call(done, |state| {
            check_name("name of a schedule", name)?;
            state.tick(name, at, job)
        });
    }

    fn ticks(&self, done: Done<Vec<Tick>>) {
        let tick = |(name, at): (&String, &i64)| Tick {
            name: name.clone(),
            at: *at,
        };
        self.call(done, |state| Ok(state.ticks.iter().map(tick).collect()));
    }

    fn once(&self, key: &str, value: Vec<u8>, keep: i64, done: Done<Once>) {
        self.call(done, |state| state.once(key, value, keep));
    }

    fn once_value(&self, key: &str, done: Done<Option<Vec<u8>>>) {
        self.call(done, |state| Ok(state.once_value(key)));
    }

    fn set_rate(&self, limit: &str, rate: Option<Rate>, done: Done<()>) {
        self.call(done, |state| state.set_rate(limit, rate));
    }

    fn set_queue(&self, queue: &str, settings: QueueSettings, done: Done<()>) {
        self.call(done, |state| {
            check_name("name of a queue", queue)?;
            state.queues.insert(queue.to_owned(), settings);
            state.effects.ready = true;
            Ok(())
        });
    }

    fn watch(&self, listener: Listener) -> Watch {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() && self.shared.lock().options.clock.moves() {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new()
                .name("store-watcher".into())
                .spawn(move || shared.keep_time());
            // Without it, what is due is claimed when somebody claims.
            *thread = started.ok();
        }
        self.shared.listeners.add(listener)
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.sooner.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A listener that drops the last handle of the store does so on that thread.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.close();
    }
}
