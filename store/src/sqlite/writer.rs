//! The one thread that writes, and group commit: whatever calls wait when a transaction begins share it, and its fsync.
//!
//! A call that fails in the middle takes the transaction back, and then every call of the batch has one of its own: what
//! is wrong with one is not the others' trouble, and no savepoint has to be paid for by all. A commit that fails is told
//! to all that were in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::failure::{from_sqlite, internal};
use super::transaction::{Effects, Settings, Tx, TxCache};
use crate::api::Done;
use crate::error::Error;

/// So many calls share a commit at most: what comes after them should not wait for ever.
const BATCH: usize = 1024;

/// A call of the store's that writes.
pub(super) trait Call: Send {
    /// Does it. May be done again, after the transaction was taken back.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Says what came of it: what `run` found, if the commit succeeded.
    fn finish(self: Box<Self>, commit: Result<(), Error>);
}

struct Typed<T, F> {
    work: F,
    reply: Option<Result<T, Error>>,
    done: Done<T>,
}

impl<T: Send, F> Call for Typed<T, F>
where
    F: FnMut(&mut Tx<'_>) -> rusqlite::Result<Result<T, Error>> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.reply = Some((self.work)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, commit: Result<(), Error>) {
        let reply = self.reply.unwrap_or_else(|| Err(internal("a call was not made")));
        let outcome = commit.and(reply);
        let done = self.done;
        // Whoever waits is not of this crate, and must not end its thread.
        let _ = catch_unwind(AssertUnwindSafe(move || done(outcome)));
    }
}

#[derive(Default)]
struct Waiting {
    calls: Vec<Box<dyn Call>>,
    asleep: bool,
    closed: bool,
}

/// Where calls wait for the writer.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a call to the writer.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<Result<T, Error>> + Send + 'static,
        done: Done<T>,
    ) {
        let mut waiting = self.lock();
        if waiting.closed {
            drop(waiting);
            return done(Err(Error::Closed));
        }
        waiting.calls.push(Box::new(Typed {
            work,
            reply: None,
            done,
        }));
        // Told only when it sleeps: to tell costs a system call.
        let asleep = std::mem::replace(&mut waiting.asleep, false);
        drop(waiting);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// No more calls; the writer ends after those that wait.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// The calls of the next batch; None at the end.
    fn next(&self) -> Option<Vec<Box<dyn Call>>> {
        let mut waiting = self.lock();
        while waiting.calls.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.asleep = true;
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.asleep = false;
        if waiting.calls.len() <= BATCH {
            return Some(std::mem::take(&mut waiting.calls));
        }
        let rest = waiting.calls.split_off(BATCH);
        Some(std::mem::replace(&mut waiting.calls, rest))
    }
}

/// What the writer's thread has.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) inbox: Arc<Inbox>,
    pub(super) settings: Settings,
    /// Is told what a commit changed, before those are that waited for it.
    pub(super) told: Box<dyn FnMut(Effects) + Send>,
}

impl Writer {
    /// The thread's work, until the store is closed.
    pub(super) fn run(mut self) -> Connection {
        let mut cache = TxCache::default();
        while let Some(mut calls) = self.inbox.next() {
            match self.attempt(&mut calls, &mut cache) {
                Ok(()) => calls.into_iter().for_each(|call| call.finish(Ok(()))),
                Err(Failure::Call(error)) if calls.len() == 1 => {
                    calls.into_iter().for_each(|call| call.finish(Err(error.clone())));
                }
                Err(Failure::Call(_)) => {
                    for mut call in calls {
                        let outcome = self.attempt(std::slice::from_mut(&mut call), &mut cache);
                        call.finish(outcome.map_err(Failure::error));
                    }
                }
                Err(Failure::Commit(error)) => {
                    calls.into_iter().for_each(|call| call.finish(Err(error.clone())));
                }
            }
        }
        self.connection
    }

    /// Makes calls in one transaction.
    fn attempt(&mut self, calls: &mut [Box<dyn Call>], cache: &mut TxCache) -> Result<(), Failure> {
        if !self.connection.is_autocommit() {
            // An earlier rollback failed: the disk may be back.
            let again = self.connection.execute_batch("ROLLBACK");
            again.map_err(|error| Failure::Commit(from_sqlite(&error, &self.path)))?;
        }
        let begun = self
            .connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute(()));
        begun.map_err(|error| Failure::Commit(from_sqlite(&error, &self.path)))?;
        let version = cache.version;
        let mut tx = Tx::new(&self.connection, &self.settings, cache);
        let made = catch_unwind(AssertUnwindSafe(|| {
            tx.look_elsewhere()?;
            for call in calls.iter_mut() {
                call.run(&mut tx)?;
            }
            tx.finish()
        }));
        let failure = match made {
            Ok(Ok(effects)) => {
                let committed = self
                    .connection
                    .prepare_cached("COMMIT")
                    .and_then(|mut commit| commit.execute(()));
                match committed {
                    Ok(_) => {
                        (self.told)(effects);
                        return Ok(());
                    }
                    Err(error) => Failure::Commit(from_sqlite(&error, &self.path)),
                }
            }
            Ok(Err(error)) => Failure::Call(from_sqlite(&error, &self.path)),
            Err(_) => Failure::Call(internal("a call panicked")),
        };
        // Lanes that it made are not there, and nobody was told of others' commits that it saw.
        *cache = TxCache {
            version,
            ..TxCache::default()
        };
        if !self.connection.is_autocommit() {
            // Should that fail too (the disk is gone), the next transaction tries once more before it begins.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        Err(failure)
    }
}

/// What failed.
enum Failure {
    /// A call: the others may succeed without it.
    Call(Error),
    /// The beginning or the end: everybody's.
    Commit(Error),
}

impl Failure {
    fn error(self) -> Error {
        match self {
            Failure::Call(error) | Failure::Commit(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::sqlite::schema::{MIGRATIONS, migrate};

    fn call(
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<Result<(), Error>> + Send + 'static,
    ) -> Box<dyn Call> {
        Box::new(Typed {
            work,
            reply: None,
            done: Box::new(drop),
        })
    }

    #[test]
    fn others_commits_are_told_of_though_the_transaction_that_saw_them_failed() {
        let path = std::env::temp_dir().join(format!("roving-store-writer-{}", std::process::id()));
        let connect = || Connection::open(&path).unwrap();
        let (mut connection, other) = (connect(), connect());
        migrate(&mut connection, &path, MIGRATIONS.len()).unwrap();
        let (told, effects) = mpsc::channel();
        let mut writer = Writer {
            connection,
            path: path.clone(),
            inbox: Arc::default(),
            settings: Settings {
                clock: Arc::new(SystemClock),
                max_deaths: 1,
                max_payload: 1,
                keep_failed: None,
                log_keep: 0,
                log_max: 0,
            },
            told: Box::new(move |effects| told.send(effects.elsewhere).unwrap()),
        };
        let mut cache = TxCache::default();
        let mut attempt = |call| writer.attempt(&mut [call], &mut cache).is_ok();
        let heard = || effects.recv_timeout(Duration::from_secs(10)).unwrap();
        // What came between a reader's look and the first transaction is not known.
        assert!(attempt(call(|_| Ok(Ok(())))) && heard());
        assert!(attempt(call(|_| Ok(Ok(())))) && !heard());
        other
            .execute("INSERT INTO ticks VALUES ('other', 1)", ())
            .unwrap();
        assert!(!attempt(call(|tx| tx.execute("nonsense", ()).map(|_| Ok(())))));
        assert!(attempt(call(|_| Ok(Ok(())))) && heard());
        assert!(attempt(call(|_| Ok(Ok(())))) && !heard());
        std::fs::remove_file(path).unwrap();
    }
}
