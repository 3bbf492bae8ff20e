//! A job's row and the job.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::transaction::Lanes;
use crate::job::{Job, JobId, Status, Unique, WorkerId};

/// A job's columns, in the order that [`job`] reads them. The lane is among them, not the queue.
pub(super) const COLUMNS: &str = "seq, id, status, lane, task, priority, codec, format, eta, expires, attempts, \
    max_attempts, deaths, unique_key, unique_until_started, parent, group_id, waits_for, keep, worker, cancel, \
    enqueued_at, started_at, finished_at, claims, error, payload, traceback, result";

/// The same without what is long, for lists.
pub(super) const SHORT: &str = "seq, id, status, lane, task, priority, codec, format, eta, expires, attempts, \
    max_attempts, deaths, unique_key, unique_until_started, parent, group_id, waits_for, keep, worker, cancel, \
    enqueued_at, started_at, finished_at, claims, error, NULL, NULL, NULL";

/// What a row has besides the job.
pub(super) struct Found {
    pub(super) job: Job,
    pub(super) seq: i64,
    pub(super) claims: u32,
    pub(super) lane: i64,
    /// Whether the payload has a row of its own, which was not read.
    pub(super) payload_elsewhere: bool,
}

/// An id for a column that may be empty.
pub(super) fn blob(id: Option<&JobId>) -> Option<&[u8; 16]> {
    id.map(JobId::as_bytes)
}

fn id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<JobId>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(JobId::from_bytes))
}

/// A status in a row.
pub(super) fn status(row: &Row<'_>, at: usize) -> rusqlite::Result<Status> {
    let number = row.get(at)?;
    Status::from_number(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, number))
}

/// The job of a row of [`COLUMNS`], but for its queue and limit.
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Found> {
    let payload: Option<Vec<u8>> = row.get(26)?;
    let key: Option<String> = row.get(13)?;
    let until_started = row.get(14)?;
    let missing = || rusqlite::Error::InvalidColumnType(1, "id".into(), Type::Null);
    Ok(Found {
        seq: row.get(0)?,
        claims: row.get(24)?,
        lane: row.get(3)?,
        payload_elsewhere: payload.is_none(),
        job: Job {
            id: id(row, 1)?.ok_or_else(missing)?,
            status: status(row, 2)?,
            task: row.get(4)?,
            queue: String::new(),
            priority: row.get(5)?,
            payload: payload.unwrap_or_default(),
            codec: row.get(6)?,
            format: row.get(7)?,
            eta: row.get(8)?,
            expires: row.get(9)?,
            attempts: row.get(10)?,
            max_attempts: row.get(11)?,
            deaths: row.get(12)?,
            unique: key.map(|key| Unique { key, until_started }),
            limit: None,
            parent: id(row, 15)?,
            group: id(row, 16)?,
            waits_for: id(row, 17)?,
            keep: row.get(18)?,
            worker: row.get::<_, Option<i64>>(19)?.map(WorkerId),
            cancel_requested: row.get(20)?,
            enqueued_at: row.get(21)?,
            started_at: row.get(22)?,
            finished_at: row.get(23)?,
            error: row.get(25)?,
            traceback: row.get(27)?,
            result: row.get(28)?,
        },
    })
}

impl Found {
    /// Adds the queue and the limit, and the payload where it is wanted.
    pub(super) fn complete(
        mut self,
        connection: &Connection,
        lanes: &mut Lanes,
        payload: bool,
    ) -> rusqlite::Result<Found> {
        let lane = lanes.get(connection, self.lane)?;
        self.job.queue = lane.queue.to_string();
        self.job.limit = lane.rate.as_deref().map(ToOwned::to_owned);
        if payload && self.payload_elsewhere {
            let mut read = connection.prepare_cached("SELECT payload FROM payloads WHERE seq = ?")?;
            self.job.payload = read
                .query_row([self.seq], |row| row.get(0))
                .optional()?
                .unwrap_or_default();
        }
        Ok(self)
    }
}
