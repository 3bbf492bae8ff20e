//! What the calls of one transaction share.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row, ToSql};

use crate::api::{QueueSettings, Rate};
use crate::clock::Clock;
use crate::job::{JobId, Status, WorkerId};

/// What holds for all transactions of a store.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_deaths: u32,
    pub(super) max_payload: usize,
    pub(super) keep_failed: Option<i64>,
    pub(super) log_keep: i64,
    pub(super) log_max: i64,
}

/// What a commit changed, for those who wait for it.
#[derive(Default)]
pub(super) struct Effects {
    /// Jobs may be there to be claimed.
    pub(super) ready: bool,
    /// These finished.
    pub(super) finished: Vec<JobId>,
    /// These are to be cancelled, by their workers.
    pub(super) cancels: Vec<(WorkerId, JobId)>,
    /// When the next job is due, by the wall clock, as far as this transaction knows.
    pub(super) due: Option<i64>,
    /// When a limit has room again, by the steady clock.
    pub(super) room: Option<i64>,
    /// When a finished job is to be pruned, by the wall clock.
    pub(super) prune: Option<i64>,
    /// Another process committed since the transaction before.
    pub(super) elsewhere: bool,
}

impl Effects {
    pub(super) fn due_at(&mut self, at: i64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn room_at(&mut self, at: i64) {
        self.room = Some(self.room.map_or(at, |room| room.min(at)));
    }

    pub(super) fn prune_at(&mut self, at: i64) {
        self.prune = Some(self.prune.map_or(at, |prune| prune.min(at)));
    }
}

/// A queue's jobs of one rate limit (or none): what is claimed in order of priority. So a limit that has no room is passed
/// over at once, however many jobs wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) id: i64,
    pub(super) queue: Arc<str>,
    pub(super) rate: Option<Arc<str>>,
}

/// The lanes, which are only ever added to.
#[derive(Default)]
pub(super) struct Lanes {
    pub(super) all: Vec<Lane>,
}

impl Lanes {
    /// Reads what other connections added.
    pub(super) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let last = self.all.last().map_or(0, |lane| lane.id);
        let mut newer =
            connection.prepare_cached("SELECT id, queue, rate FROM lanes WHERE id > ? ORDER BY id")?;
        for lane in newer.query_map([last], |row| {
            let (queue, rate): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok(Lane {
                id: row.get(0)?,
                queue: queue.into(),
                rate: rate.map(Into::into),
            })
        })? {
            self.all.push(lane?);
        }
        Ok(())
    }

    /// The lane of an id, which the database has.
    pub(super) fn get(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<&Lane> {
        if self.find(id).is_none() {
            self.refresh(connection)?;
        }
        let at = self.find(id).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(&self.all[at])
    }

    fn find(&self, id: i64) -> Option<usize> {
        self.all.binary_search_by_key(&id, |lane| lane.id).ok()
    }
}

/// What the writer remembers between transactions: nothing of it may outlive one that was taken back.
#[derive(Default)]
pub(super) struct TxCache {
    pub(super) lanes: Lanes,
    /// What SQLite counts other connections' commits by, at the transaction before.
    pub(super) version: Option<i64>,
}

/// A rate limit as the transaction has it.
pub(super) struct RateState {
    pub(super) rate: Rate,
    pub(super) full_at: i64,
}

/// The rules that claims go by, as of this transaction.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) queues: HashMap<String, QueueSettings>,
    pub(super) rates: HashMap<String, RateState>,
}

/// A transaction under way.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a Settings,
    pub(super) cache: &'a mut TxCache,
    /// The wall clock at its beginning.
    pub(super) now: i64,
    /// The steady clock at its beginning.
    pub(super) steady: i64,
    pub(super) effects: Effects,
    pub(super) rules: Option<Rules>,
    /// Whether due jobs were queued already.
    pub(super) promoted: bool,
    /// Workers that are known to be registered.
    pub(super) workers: Vec<WorkerId>,
    /// By lane, how many succeeded and failed.
    counts: HashMap<i64, (i64, i64)>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection, settings: &'a Settings, cache: &'a mut TxCache) -> Self {
        Tx {
            now: settings.clock.wall(),
            steady: settings.clock.steady(),
            connection,
            settings,
            cache,
            effects: Effects::default(),
            rules: None,
            promoted: false,
            workers: Vec::new(),
            counts: HashMap::new(),
        }
    }

    /// Looks whether other processes committed. Commits of this connection do not count, and no other of this store's writes.
    /// At the first time it cannot know, and says so: somebody may have read before, and wait for what came since.
    pub(super) fn look_elsewhere(&mut self) -> rusqlite::Result<()> {
        let version = self.first("PRAGMA data_version", (), |row| row.get(0))?;
        let before = std::mem::replace(&mut self.cache.version, version);
        self.effects.elsewhere = before != version;
        Ok(())
    }

    /// The last writes, before the commit.
    pub(super) fn finish(self) -> rusqlite::Result<Effects> {
        for (lane, (succeeded, failed)) in self.counts {
            let mut count = self.connection.prepare_cached(
                "UPDATE lanes SET succeeded = succeeded + ?2, failed = failed + ?3 WHERE id = ?1",
            )?;
            count.execute((lane, succeeded, failed))?;
        }
        Ok(self.effects)
    }

    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    /// Runs a statement, and says how many rows it changed.
    pub(super) fn execute(&self, sql: &str, parameters: impl Params) -> rusqlite::Result<usize> {
        self.prepare(sql)?.execute(parameters)
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.prepare(sql)?.query_row(parameters, read).optional()
    }

    /// All rows.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(parameters, read)?;
        rows.collect()
    }

    /// The lane of a queue and a limit, made if need be.
    pub(super) fn lane(&mut self, queue: &str, rate: Option<&str>) -> rusqlite::Result<i64> {
        let named = |lane: &&Lane| &*lane.queue == queue && lane.rate.as_deref() == rate;
        if let Some(lane) = self.cache.lanes.all.iter().find(named) {
            return Ok(lane.id);
        }
        self.cache.lanes.refresh(self.connection)?;
        if let Some(lane) = self.cache.lanes.all.iter().find(named) {
            return Ok(lane.id);
        }
        self.execute("INSERT INTO lanes (queue, rate) VALUES (?, ?)", (queue, rate))?;
        let id = self.connection.last_insert_rowid();
        self.cache.lanes.refresh(self.connection)?;
        Ok(id)
    }

    /// Counts a finished job.
    pub(super) fn count(&mut self, lane: i64, status: Status) {
        let (succeeded, failed) = self.counts.entry(lane).or_default();
        *(if status == Status::Succeeded {
            succeeded
        } else {
            failed
        }) += 1;
    }

    /// Whether the worker is registered: whoever is not would have its jobs stranded.
    pub(super) fn is_registered(&mut self, worker: WorkerId) -> rusqlite::Result<bool> {
        if self.workers.contains(&worker) {
            return Ok(true);
        }
        let known = self
            .first("SELECT 1 FROM workers WHERE id = ?", [worker.0], |_| Ok(()))?
            .is_some();
        if known {
            self.workers.push(worker);
        }
        Ok(known)
    }

    /// The rules, read once in a transaction.
    pub(super) fn rules(&mut self) -> rusqlite::Result<&mut Rules> {
        if self.rules.is_none() {
            let queues = self.rows("SELECT queue, concurrency, paused FROM queues", &[], |row| {
                Ok((
                    row.get(0)?,
                    QueueSettings {
                        concurrency: row.get(1)?,
                        paused: row.get(2)?,
                    },
                ))
            })?;
            let rates = self.rows(
                "SELECT name, count, period, burst, full_at FROM rates",
                &[],
                |row| {
                    let rate = Rate {
                        count: row.get(1)?,
                        period: row.get(2)?,
                        burst: row.get(3)?,
                    };
                    Ok((
                        row.get(0)?,
                        RateState {
                            rate,
                            full_at: row.get(4)?,
                        },
                    ))
                },
            )?;
            self.rules = Some(Rules {
                queues: queues.into_iter().collect(),
                rates: rates.into_iter().collect(),
            });
        }
        Ok(self.rules.get_or_insert_default())
    }
}
