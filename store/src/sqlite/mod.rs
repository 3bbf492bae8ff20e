//! The store in a file. README.md has the schema, a job's life, and why nothing is lost.

mod acknowledge;
mod claim;
mod enqueue;
mod failure;
mod finish;
mod liveness;
mod manage;
mod open;
mod read;
mod row;
mod schema;
mod transaction;
mod watch;
mod workers;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use self::liveness::Liveness;
pub(crate) use self::manage::RETRY_GROUP;
pub use self::open::SqliteOptions;
use self::read::Reads;
use self::transaction::{Effects, Settings, Tx};
use self::watch::Bell;
use self::writer::Inbox;
use crate::api::*;
use crate::change::{Change, Listener, Listeners, Watch};
use crate::error::Error;
use crate::job::{Attempt, Claimed, Job, JobId, NewJob, Status, WorkerId, check_name};

/// What the store's threads and its callers share.
struct Shared {
    path: PathBuf,
    settings: Settings,
    inbox: Arc<Inbox>,
    reads: Arc<Reads>,
    listeners: Arc<Listeners>,
    bell: Bell,
    liveness: Mutex<Arc<Liveness>>,
    ours: Mutex<Vec<WorkerId>>,
    process: u32,
}

impl Shared {
    fn ours(&self) -> Vec<WorkerId> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_ours(&self, change: impl FnOnce(&mut Vec<WorkerId>)) {
        change(&mut self.ours.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn liveness(&self) -> Arc<Liveness> {
        Arc::clone(&self.liveness.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock file that is in place now. Should somebody have deleted the one that was, its locks say nothing to others,
    /// nor theirs to us: all of ours are taken in the new one as well, as long as they are not taken for dead.
    fn current_liveness(&self) -> Result<Arc<Liveness>, Error> {
        let mut liveness = self.liveness.lock().unwrap_or_else(PoisonError::into_inner);
        if !liveness.in_place() {
            let new = Liveness::open(&self.path)?;
            for worker in self.ours() {
                new.hold(worker)?;
            }
            *liveness = Arc::new(new);
        }
        Ok(Arc::clone(&liveness))
    }

    /// Tells of what a commit changed. On the writer's thread.
    fn committed(&self, effects: Effects) {
        let Effects {
            ready,
            finished,
            cancels,
            due,
            room,
            prune,
            elsewhere,
        } = effects;
        self.bell.committed(due, prune, room, elsewhere);
        if !self.listeners.any() {
            return;
        }
        if ready {
            self.listeners.tell(&Change::Ready);
        }
        if !finished.is_empty() {
            self.listeners.tell(&Change::Finished(finished));
        }
        if !cancels.is_empty() {
            let ours = self.ours();
            let asked = cancels
                .into_iter()
                .filter(|(worker, _)| ours.contains(worker))
                .map(|(_, id)| id);
            let asked: Vec<JobId> = asked.collect();
            if !asked.is_empty() {
                self.listeners.tell(&Change::CancelRequested(asked));
            }
        }
    }

    fn take_over(self: &Arc<Self>, done: Done<TakenOver>) {
        let shared = Arc::clone(self);
        let work = move |tx: &mut Tx<'_>| match shared.current_liveness() {
            Ok(liveness) => workers::take_over(tx, &liveness, &shared.ours()).map(Ok),
            Err(error) => Ok(Err(error)),
        };
        self.inbox.submit(work, done);
    }

    fn prune(self: &Arc<Self>, done: Done<Purged>) {
        self.prune_on(Purged::default(), done);
    }

    fn prune_on(self: &Arc<Self>, so_far: Purged, done: Done<Purged>) {
        let shared = Arc::clone(self);
        let next: Done<(u64, bool)> = Box::new(move |slice| match slice {
            Ok((jobs, all)) => {
                let so_far = Purged {
                    jobs: so_far.jobs + jobs,
                };
                if all {
                    done(Ok(so_far));
                } else {
                    shared.prune_on(so_far, done);
                }
            }
            Err(error) => done(Err(error)),
        });
        self.inbox.submit(|tx| manage::prune(tx).map(Ok), next);
    }

    fn purge_on(self: &Arc<Self>, filter: Filter, after: i64, so_far: u64, done: Done<Purged>) {
        let shared = Arc::clone(self);
        let again = filter.clone();
        let next: Done<manage::Slice> = Box::new(move |slice| match slice {
            Ok(slice) => {
                let jobs = so_far + slice.jobs;
                match slice.after {
                    Some(after) => shared.purge_on(again, after, jobs, done),
                    None => done(Ok(Purged { jobs })),
                }
            }
            Err(error) => done(Err(error)),
        });
        self.inbox
            .submit(move |tx| manage::purge(tx, &filter, after).map(Ok), next);
    }
}

/// Jobs in an SQLite file, which several processes share. See [`SqliteOptions`] for how to open one.
pub struct SqliteStore {
    shared: Arc<Shared>,
    /// Each ends with its connection.
    threads: Mutex<Vec<JoinHandle<Connection>>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Hands the writer a call, unless this process is a fork of the one that has the writer.
    fn write<T: Send + 'static>(
        &self,
        done: Done<T>,
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<Result<T, Error>> + Send + 'static,
    ) {
        if std::process::id() == self.shared.process {
            self.shared.inbox.submit(work, done);
        } else {
            done(Err(Error::Forked));
        }
    }

    fn read<T: Send + 'static>(
        &self,
        done: Done<T>,
        work: impl FnOnce(&Connection, &mut transaction::Lanes) -> rusqlite::Result<T> + Send + 'static,
    ) {
        if std::process::id() == self.shared.process {
            self.shared.reads.submit(work, done);
        } else {
            done(Err(Error::Forked));
        }
    }
}

/// Goes on where a name is one, and says so where not.
macro_rules! named {
    ($what:literal, $name:expr, $done:expr) => {
        if let Err(error) = check_name($what, $name) {
            return $done(Err(error));
        }
    };
}

impl Store for SqliteStore {
    fn register(&self, name: &str, done: Done<WorkerId>) {
        named!("name of a worker", name, done);
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        // Counted among ours before the commit: whoever looks for the dead right after it sees no lock of our own.
        let held = Arc::new(AtomicI64::new(-1));
        let (theirs, work) = (Arc::clone(&held), Arc::clone(&shared));
        let give_up = move |shared: &Shared, held: &AtomicI64| {
            let worker = WorkerId(held.swap(-1, Ordering::Relaxed));
            if worker.0 >= 0 {
                shared.change_ours(|ours| ours.retain(|known| *known != worker));
                shared.liveness().release(worker);
            }
        };
        let told: Done<WorkerId> = Box::new(move |outcome| {
            if outcome.is_err() {
                give_up(&shared, &held);
            }
            done(outcome);
        });
        self.write(told, move |tx| {
            // Of a transaction that was taken back.
            give_up(&work, &theirs);
            // The file that is in place now: a lock in another says nothing to anybody. And not on the caller's thread, which
            // may be that of a forked child, whose descriptors are not its own.
            let liveness = match work.current_liveness() {
                Ok(liveness) => liveness,
                Err(error) => return Ok(Err(error)),
            };
            let registered = workers::register(tx, &liveness, &name)?;
            if let Ok(worker) = &registered {
                theirs.store(worker.0, Ordering::Relaxed);
                work.change_ours(|ours| ours.push(*worker));
            }
            Ok(registered)
        });
    }

    fn retire(&self, worker: WorkerId, done: Done<()>) {
        let shared = Arc::clone(&self.shared);
        let told: Done<()> = Box::new(move |outcome| {
            if outcome.is_ok() {
                // Only now: until the commit its jobs are its own.
                shared.change_ours(|ours| ours.retain(|known| *known != worker));
                shared.liveness().release(worker);
            }
            done(outcome);
        });
        self.write(told, move |tx| workers::retire(tx, worker).map(Ok));
    }

    fn evict(&self, worker: WorkerId, done: Done<TakenOver>) {
        self.write(done, move |tx| {
            let mut taken = TakenOver::default();
            workers::bury(tx, worker, &mut taken)?;
            Ok(Ok(taken))
        });
    }

    fn take_over(&self, done: Done<TakenOver>) {
        if std::process::id() == self.shared.process {
            self.shared.take_over(done);
        } else {
            done(Err(Error::Forked));
        }
    }

    fn workers(&self, done: Done<Vec<WorkerInfo>>) {
        self.read(done, |connection, _| workers::list(connection));
    }

    fn enqueue(&self, jobs: Vec<NewJob>, done: Done<Vec<Result<Enqueued, Error>>>) {
        self.write(done, move |tx| enqueue::enqueue(tx, &jobs).map(Ok));
    }

    fn claim(&self, claim: Claim, done: Done<Vec<Claimed>>) {
        self.write(done, move |tx| claim::claim(tx, &claim));
    }

    fn acknowledge(&self, acks: Vec<Ack>, done: Done<Vec<Result<Status, Error>>>) {
        self.write(done, move |tx| acknowledge::acknowledge(tx, &acks).map(Ok));
    }

    fn extend(&self, attempts: Vec<Attempt>, done: Done<Vec<bool>>) {
        self.read(done, move |connection, _| {
            acknowledge::current(connection, &attempts)
        });
    }

    fn cancel(&self, id: JobId, done: Done<Cancelled>) {
        self.write(done, move |tx| manage::cancel(tx, id));
    }

    fn retry(&self, id: JobId, done: Done<()>) {
        self.write(done, move |tx| manage::retry(tx, id));
    }

    fn get(&self, id: JobId, done: Done<Option<Job>>) {
        self.read(done, move |connection, lanes| read::get(connection, lanes, id));
    }

    fn list(&self, filter: Filter, page: Page, done: Done<Vec<Job>>) {
        self.read(done, move |connection, lanes| {
            read::list(connection, lanes, &filter, page)
        });
    }

    fn stats(&self, done: Done<Stats>) {
        self.read(done, |connection, _| read::stats(connection));
    }

    fn log(&self, limit: usize, done: Done<Vec<LogEntry>>) {
        self.read(done, move |connection, _| read::log(connection, limit));
    }

    fn purge(&self, filter: Filter, done: Done<Purged>) {
        if std::process::id() == self.shared.process {
            self.shared.purge_on(filter, i64::MIN, 0, done);
        } else {
            done(Err(Error::Forked));
        }
    }

    fn prune(&self, done: Done<Purged>) {
        if std::process::id() == self.shared.process {
            self.shared.prune(done);
        } else {
            done(Err(Error::Forked));
        }
    }

    fn tick(&self, name: &str, at: i64, job: NewJob, done: Done<TickOutcome>) {
        named!("name of a schedule", name, done);
        let name = name.to_owned();
        self.write(done, move |tx| enqueue::tick(tx, &name, at, &job));
    }

    fn ticks(&self, done: Done<Vec<Tick>>) {
        self.read(done, |connection, _| read::ticks(connection));
    }

    fn once(&self, key: &str, value: Vec<u8>, keep: i64, done: Done<Once>) {
        named!("key", key, done);
        if value.len() > self.shared.settings.max_payload || keep < 1 {
            let length = value.len();
            return done(Err(Error::Invalid(format!(
                "once: a value of {length} bytes, to be kept for {keep} ms"
            ))));
        }
        let key = key.to_owned();
        self.write(done, move |tx| manage::once(tx, &key, &value, keep).map(Ok));
    }

    fn once_value(&self, key: &str, done: Done<Option<Vec<u8>>>) {
        let (key, now) = (key.to_owned(), self.shared.settings.clock.wall());
        self.read(done, move |connection, _| read::once_value(connection, &key, now));
    }

    fn set_rate(&self, limit: &str, rate: Option<Rate>, done: Done<()>) {
        named!("name of a limit", limit, done);
        if let Some(Err(error)) = rate.as_ref().map(Rate::check) {
            return done(Err(error));
        }
        let limit = limit.to_owned();
        self.write(done, move |tx| manage::set_rate(tx, &limit, rate).map(Ok));
    }

    fn set_queue(&self, queue: &str, settings: QueueSettings, done: Done<()>) {
        named!("name of a queue", queue, done);
        let queue = queue.to_owned();
        self.write(done, move |tx| manage::set_queue(tx, &queue, settings).map(Ok));
    }

    fn watch(&self, listener: Listener) -> Watch {
        self.shared.listeners.add(listener)
    }

    fn close(&self) {
        if std::process::id() != self.shared.process {
            // The threads are the other process's, and so are the connections: SQLite's must not even be closed here.
            std::mem::forget(Arc::clone(&self.shared));
            return;
        }
        self.shared.inbox.close();
        self.shared.reads.close();
        self.shared.bell.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A `Done` that drops the last handle of the store does so on one of them.
        let others = threads
            .into_iter()
            .filter(|thread| thread.thread().id() != std::thread::current().id());
        let connections: Vec<_> = others.map(JoinHandle::join).collect();
        // One after another: the last one merges the log into the file, and of two that close at once each would take the
        // other for one that goes on.
        connections.into_iter().for_each(drop);
        let ours = self.shared.ours();
        self.shared.change_ours(Vec::clear);
        for worker in ours {
            self.shared.liveness().release(worker);
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}
