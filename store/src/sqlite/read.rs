//! Readers: threads with connections of their own, which the writer never waits for.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::failure::{from_sqlite, internal};
use super::row;
use super::transaction::Lanes;
use crate::api::{Done, Filter, LogEntry, Page, QueueSettings, QueueStats, Stats, Tick};
use crate::error::Error;
use crate::job::{Job, JobId, Status};

type Read = Box<dyn FnOnce(&Reader, &mut Lanes) + Send>;

/// Where reads wait.
#[derive(Default)]
pub(super) struct Reads {
    waiting: Mutex<(VecDeque<Read>, bool)>,
    wake: Condvar,
}

impl Reads {
    /// Hands a read to the readers.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Lanes) -> rusqlite::Result<T> + Send + 'static,
        done: Done<T>,
    ) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.1 {
            drop(waiting);
            return done(Err(Error::Closed));
        }
        waiting.0.push_back(Box::new(move |reader, lanes| {
            let found = catch_unwind(AssertUnwindSafe(|| work(&reader.connection, lanes)));
            let outcome = match found {
                Ok(found) => found.map_err(|error| from_sqlite(&error, &reader.path)),
                Err(_) => Err(internal("a read panicked")),
            };
            let _ = catch_unwind(AssertUnwindSafe(move || done(outcome)));
        }));
        drop(waiting);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.wake.notify_all();
    }

    fn next(&self) -> Option<Read> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(read) = waiting.0.pop_front() {
                return Some(read);
            }
            if waiting.1 {
                return None;
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a reader's thread has.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) reads: Arc<Reads>,
}

impl Reader {
    /// The thread's work, until the store is closed.
    pub(super) fn run(self) -> Connection {
        let mut lanes = Lanes::default();
        while let Some(read) = self.reads.next() {
            read(&self, &mut lanes);
        }
        self.connection
    }
}

/// A job.
pub(super) fn get(connection: &Connection, lanes: &mut Lanes, id: JobId) -> rusqlite::Result<Option<Job>> {
    let sql = format!("SELECT {} FROM jobs WHERE id = ?", row::COLUMNS);
    // The payload may have a row of its own: both are of one moment.
    let moment = connection.unchecked_transaction()?;
    let found = connection
        .prepare_cached(&sql)?
        .query_row([id.as_bytes()], row::job)
        .optional()?;
    let found = found
        .map(|found| found.complete(connection, lanes, true))
        .transpose()?;
    moment.finish()?;
    Ok(found.map(|found| found.job))
}

/// A filter in SQL.
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

pub(super) fn condition(
    filter: &Filter,
    lanes: &mut Lanes,
    connection: &Connection,
) -> rusqlite::Result<Condition> {
    let mut parts = vec!["1".to_owned()];
    let mut values = Vec::new();
    if !filter.statuses.is_empty() {
        // Written as numbers: an index of some statuses is used only where these are seen to be among them.
        let numbers: Vec<String> = filter
            .statuses
            .iter()
            .map(|status| status.number().to_string())
            .collect();
        parts.push(match &numbers[..] {
            [one] => format!("status = {one}"),
            several => format!("status IN ({})", several.join(", ")),
        });
    }
    if let Some(queue) = &filter.queue {
        lanes.refresh(connection)?;
        let ids = lanes
            .all
            .iter()
            .filter(|lane| *lane.queue == **queue)
            .map(|lane| lane.id.to_string());
        // With a plus: in the order of enqueueing, not lane by lane, which would have to be sorted.
        parts.push(format!("+lane IN ({})", ids.collect::<Vec<_>>().join(", ")));
    }
    if let Some(task) = &filter.task {
        parts.push("task = ?".into());
        values.push(task.clone().into());
    }
    for (column, id) in [("group_id", filter.group), ("parent", filter.parent)] {
        if let Some(id) = id {
            parts.push(format!("{column} = ?"));
            values.push(id.as_bytes().to_vec().into());
        }
    }
    Ok(Condition {
        sql: parts.join(" AND "),
        values,
    })
}

/// A page of jobs.
pub(super) fn list(
    connection: &Connection,
    lanes: &mut Lanes,
    filter: &Filter,
    page: Page,
) -> rusqlite::Result<Vec<Job>> {
    let Condition { mut sql, mut values } = condition(filter, lanes, connection)?;
    let mut order = "seq";
    if page.newest_first {
        order = "seq DESC";
    }
    if let Some(after) = page.after {
        // Ids are in order only as far as the clocks of those who made them: the row decides. A job that was pruned
        // meanwhile has no row, and the page begins at the id's place in time.
        let seq = connection.prepare_cached("SELECT seq FROM jobs WHERE id = ?")?;
        let seq: Option<i64> = { seq }
            .query_row([after.as_bytes()], |row| row.get(0))
            .optional()?;
        let (column, value) = match seq {
            Some(seq) => ("seq", Value::from(seq)),
            None => ("id", Value::from(after.as_bytes().to_vec())),
        };
        let sign = if page.newest_first { "<" } else { ">" };
        sql.push_str(&format!(" AND {column} {sign} ?"));
        values.push(value);
    }
    values.push(Value::from(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT {} FROM jobs WHERE {sql} ORDER BY {order} LIMIT ?",
        row::SHORT
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement
        .query_map(params_from_iter(values), row::job)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let complete = |found: row::Found| Ok(found.complete(connection, lanes, false)?.job);
    found.into_iter().map(complete).collect()
}

/// How the queues stand.
pub(super) fn stats(connection: &Connection) -> rusqlite::Result<Stats> {
    let moment = connection.unchecked_transaction()?;
    let mut queues: BTreeMap<String, QueueStats> = BTreeMap::new();
    let mut names: BTreeMap<i64, String> = BTreeMap::new();
    let mut lanes = connection.prepare_cached("SELECT id, queue, succeeded, failed FROM lanes")?;
    let mut rows = lanes.query(())?;
    while let Some(row) = rows.next()? {
        let queue: String = row.get(1)?;
        let stats = queues.entry(queue.clone()).or_default();
        stats.succeeded += row.get::<_, i64>(2)? as u64;
        stats.failed += row.get::<_, i64>(3)? as u64;
        names.insert(row.get(0)?, queue);
    }
    // Each of these reads one index and no job.
    let counts = [
        "SELECT lane, 0, count(*) FROM jobs INDEXED BY jobs_queued WHERE status = 0 GROUP BY lane",
        "SELECT lane, 1, count(*) FROM jobs INDEXED BY jobs_scheduled WHERE status = 1 GROUP BY lane",
        "SELECT lane, 2, count(*) FROM jobs INDEXED BY jobs_running WHERE status = 2 GROUP BY lane",
        "SELECT lane, status, count(*) FROM jobs INDEXED BY jobs_unsuccessful WHERE status > 3 GROUP BY lane, status",
        "SELECT lane, 3, count(*) FROM jobs INDEXED BY jobs_kept WHERE keep_until IS NOT NULL AND status = 3 GROUP BY lane",
    ];
    for sql in counts {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (lane, status, count): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if let Some(stats) = names.get(&lane).and_then(|name| queues.get_mut(name)) {
                stats.jobs[status as usize] += count as u64;
            }
        }
    }
    // The earliest of a lane is the first of one of its priorities.
    let mut oldest = connection.prepare_cached(
        "SELECT lane, min(seq) FROM jobs INDEXED BY jobs_queued WHERE status = 0 GROUP BY lane, priority",
    )?;
    let mut enqueued = connection.prepare_cached("SELECT enqueued_at FROM jobs WHERE seq = ?")?;
    let mut rows = oldest.query(())?;
    while let Some(row) = rows.next()? {
        let (lane, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        let at: i64 = enqueued.query_row([seq], |row| row.get(0))?;
        if let Some(stats) = names.get(&lane).and_then(|name| queues.get_mut(name)) {
            stats.oldest = Some(stats.oldest.map_or(at, |oldest| oldest.min(at)));
        }
    }
    let mut settings = connection.prepare_cached("SELECT queue, concurrency, paused FROM queues")?;
    let mut rows = settings.query(())?;
    while let Some(row) = rows.next()? {
        queues.entry(row.get(0)?).or_default().settings = QueueSettings {
            concurrency: row.get(1)?,
            paused: row.get(2)?,
        };
    }
    moment.finish()?;
    let named = queues
        .into_iter()
        .map(|(queue, stats)| QueueStats { queue, ..stats });
    Ok(Stats {
        queues: named.collect(),
    })
}

/// Pruned jobs, the last ones first.
pub(super) fn log(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<LogEntry>> {
    let mut statement = connection.prepare_cached(
        "SELECT log.id, task, queue, status, attempts, enqueued_at, started_at, finished_at
            FROM log JOIN lanes ON lanes.id = lane ORDER BY entry DESC LIMIT ?",
    )?;
    let read = |row: &Row<'_>| {
        Ok(LogEntry {
            id: JobId::from_bytes(row.get(0)?),
            task: row.get(1)?,
            queue: row.get(2)?,
            status: row::status(row, 3).unwrap_or(Status::Failed),
            attempts: row.get(4)?,
            enqueued_at: row.get(5)?,
            started_at: row.get(6)?,
            finished_at: row.get(7)?,
        })
    };
    statement
        .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], read)?
        .collect()
}

/// The last ticks.
pub(super) fn ticks(connection: &Connection) -> rusqlite::Result<Vec<Tick>> {
    let mut statement = connection.prepare_cached("SELECT name, at FROM ticks ORDER BY name")?;
    statement
        .query_map((), |row| {
            Ok(Tick {
                name: row.get(0)?,
                at: row.get(1)?,
            })
        })?
        .collect()
}

/// The value of a key.
pub(super) fn once_value(connection: &Connection, key: &str, now: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement =
        connection.prepare_cached("SELECT value FROM once WHERE key = ? AND keep_until > ?")?;
    statement.query_row((key, now), |row| row.get(0)).optional()
}
