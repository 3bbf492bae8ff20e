//! What people do to jobs, and what time does: cancel, retry, purge, prune; keys and limits.

use super::finish::{Settled, delete, forget_group, retire, revive, settled};
use super::read::{Condition, condition};
use super::row;
use super::transaction::Tx;
use crate::api::{Cancelled, Filter, Once, QueueSettings, Rate};
use crate::error::Error;
use crate::job::{JobId, Status, WorkerId};

pub(crate) const RETRY_GROUP: &str =
    "jobs of the group that it waits for did not succeed: retry those, and it goes on by itself";

/// So many jobs are deleted in one call at most.
const SLICE: i64 = 500;

pub(super) fn cancel(tx: &mut Tx<'_>, id: JobId) -> rusqlite::Result<Result<Cancelled, Error>> {
    let found = tx.first(
        "SELECT seq, status, worker FROM jobs WHERE id = ?",
        [id.as_bytes()],
        |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row::status(row, 1)?,
                row.get::<_, Option<i64>>(2)?,
            ))
        },
    )?;
    let Some((seq, status, worker)) = found else {
        return Ok(Err(Error::UnknownJob));
    };
    if status.is_finished() {
        return Ok(Ok(Cancelled::Finished(status)));
    }
    if status == Status::Running {
        tx.execute("UPDATE jobs SET cancel = 1 WHERE seq = ?", [seq])?;
        tx.effects
            .cancels
            .extend(worker.map(|worker| (WorkerId(worker), id)));
        return Ok(Ok(Cancelled::Requested));
    }
    let cancelled = tx.first(
        "UPDATE jobs SET status = 5, finished_at = ?2, keep_until = ?2 + keep, unique_slot = NULL WHERE seq = ?1
            RETURNING id, lane, group_id, keep, waits_for",
        (seq, tx.now),
        |row| Settled::read(row, seq, Status::Cancelled),
    )?;
    if let Some(cancelled) = cancelled {
        settled(tx, &cancelled)?;
    }
    Ok(Ok(Cancelled::Now))
}

pub(super) fn retry(tx: &mut Tx<'_>, id: JobId) -> rusqlite::Result<Result<(), Error>> {
    let found = tx.first(
        "SELECT jobs.seq, status, group_id, unique_key, job_groups.open, job_groups.failed FROM jobs
            LEFT JOIN job_groups ON job_groups.id = jobs.waits_for WHERE jobs.id = ?",
        [id.as_bytes()],
        |row| {
            let group: Option<[u8; 16]> = row.get(2)?;
            Ok((
                row.get::<_, i64>(0)?,
                row::status(row, 1)?,
                group,
                row.get::<_, Option<String>>(3)?,
                (row.get::<_, Option<i64>>(4)?, row.get::<_, Option<i64>>(5)?),
            ))
        },
    )?;
    let Some((seq, status, group, key, waits_for)) = found else {
        return Ok(Err(Error::UnknownJob));
    };
    if !status.is_finished() || status == Status::Succeeded {
        return Ok(Err(Error::WrongStatus(status)));
    }
    if let Some(key) = &key {
        let holder = tx.first("SELECT id FROM jobs WHERE unique_slot = ?", [key], |row| {
            row.get(0)
        })?;
        if let Some(holder) = holder {
            let holder = JobId::from_bytes(holder);
            return Ok(Err(Error::Invalid(format!(
                "its unique key {key:?} has another job, {holder}"
            ))));
        }
    }
    let again = match waits_for {
        (Some(open), _) if open > 0 => Status::Waiting,
        (_, Some(failed)) if failed > 0 => return Ok(Err(Error::Invalid(RETRY_GROUP.into()))),
        _ => Status::Queued,
    };
    tx.execute(
        "UPDATE jobs SET status = ?2, attempts = 0, deaths = 0, eta = NULL, expires = NULL, finished_at = NULL,
            keep_until = NULL, unique_slot = unique_key WHERE seq = ?1",
        (seq, again.number()),
    )?;
    if let Some(group) = group {
        revive(tx, JobId::from_bytes(group))?;
    }
    tx.effects.ready = true;
    Ok(Ok(()))
}

/// Where a purge stands.
pub(super) struct Slice {
    /// The last row it looked at; None at the end.
    pub(super) after: Option<i64>,
    pub(super) jobs: u64,
}

/// Deletes the jobs that fit, do not run, and come after a row; one slice of them.
pub(super) fn purge(tx: &mut Tx<'_>, filter: &Filter, after: i64) -> rusqlite::Result<Slice> {
    let Condition { sql, mut values } = condition(filter, &mut tx.cache.lanes, tx.connection)?;
    values.push(after.into());
    let sql = format!(
        "SELECT id, lane, group_id, keep, waits_for, seq, status FROM jobs WHERE {sql} AND status <> 2 AND seq > ? ORDER BY seq LIMIT {SLICE}"
    );
    let found = {
        let mut statement = tx.prepare(&sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
            Ok((
                Settled::read(row, row.get(5)?, Status::Cancelled)?,
                row::status(row, 6)?,
            ))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()?
    };
    let last = found.last().map(|(job, _)| job.seq);
    let full = found.len() as i64 == SLICE;
    let jobs = found.len() as u64;
    for (mut job, status) in found {
        // It may have ended since, with one of those before it.
        let ends = !status.is_finished() && is_open(tx, job.seq)?;
        delete(tx, job.seq)?;
        if ends {
            // Whoever waits for it, or for its group, hears of it. There is no row left to be kept or logged.
            job.keep = 1;
            settled(tx, &job)?;
            if let Some(group) = job.group {
                forget_group(tx, group)?;
            }
        }
    }
    Ok(Slice {
        after: last.filter(|_| full),
        jobs,
    })
}

fn is_open(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<bool> {
    let status = tx.first("SELECT status FROM jobs WHERE seq = ?", [seq], |row| {
        row::status(row, 0)
    })?;
    Ok(status.is_some_and(|status| !status.is_finished()))
}

/// Moves one slice of what is over to the log, and shortens the log. Says how many, and whether that was all.
pub(super) fn prune(tx: &mut Tx<'_>) -> rusqlite::Result<(u64, bool)> {
    let over = tx.rows(
        "SELECT seq FROM jobs WHERE keep_until <= ?1 ORDER BY keep_until LIMIT ?2",
        &[&tx.now, &SLICE],
        |row| row.get::<_, i64>(0),
    )?;
    for seq in &over {
        retire(tx, *seq)?;
    }
    let keys = tx.execute(
        "DELETE FROM once WHERE rowid IN (SELECT rowid FROM once WHERE keep_until <= ?1 ORDER BY keep_until LIMIT ?2)",
        (tx.now, SLICE),
    )? as i64;
    let entries = tx.execute(
        "DELETE FROM log WHERE entry IN (SELECT entry FROM log ORDER BY entry LIMIT ?3)
            AND (finished_at <= ?1 OR entry <= (SELECT max(entry) FROM log) - ?2)",
        (
            tx.now.saturating_sub(tx.settings.log_keep),
            tx.settings.log_max,
            2 * SLICE,
        ),
    )? as i64;
    let all = (over.len() as i64) < SLICE && keys < SLICE && entries < 2 * SLICE;
    shrink(tx)?;
    Ok((over.len() as u64, all))
}

/// Gives free pages at the file's end back to the file system, a few at a time, where there are more than a quarter. What
/// is kept saves the next jobs from growing the file again.
fn shrink(tx: &Tx<'_>) -> rusqlite::Result<()> {
    let number = |pragma: &str| tx.first(pragma, (), |row| row.get::<_, i64>(0));
    let free = number("PRAGMA freelist_count")?.unwrap_or(0);
    let all = number("PRAGMA page_count")?.unwrap_or(0);
    if free > 1000 && free * 4 > all {
        // A row a page, or so: it goes on as long as it is asked.
        let mut vacuum = tx.prepare("PRAGMA incremental_vacuum(500)")?;
        let mut steps = vacuum.query(())?;
        while steps.next()?.is_some() {}
    }
    Ok(())
}

pub(super) fn once(tx: &mut Tx<'_>, key: &str, value: &[u8], keep: i64) -> rusqlite::Result<Once> {
    let before = tx.first(
        "SELECT value FROM once WHERE key = ? AND keep_until > ?",
        (key, tx.now),
        |row| row.get(0),
    )?;
    if let Some(value) = before {
        return Ok(Once::Before(value));
    }
    let until = tx.now.saturating_add(keep);
    tx.execute(
        "INSERT OR REPLACE INTO once (key, value, keep_until) VALUES (?, ?, ?)",
        (key, value, until),
    )?;
    tx.effects.prune_at(until);
    Ok(Once::First)
}

pub(super) fn set_rate(tx: &mut Tx<'_>, limit: &str, rate: Option<Rate>) -> rusqlite::Result<()> {
    tx.effects.ready = true;
    let steady = tx.steady;
    let Some(rate) = rate else {
        tx.execute("DELETE FROM rates WHERE name = ?", [limit])?;
        tx.rules = None;
        return Ok(());
    };
    let before = tx.rules()?.rates.get(limit).map_or(0, |state| state.full_at);
    tx.execute(
        "INSERT OR REPLACE INTO rates (name, count, period, burst, full_at) VALUES (?, ?, ?, ?, ?)",
        (
            limit,
            rate.count,
            rate.period,
            rate.burst,
            rate.adopt(before, steady),
        ),
    )?;
    tx.rules = None;
    Ok(())
}

pub(super) fn set_queue(tx: &mut Tx<'_>, queue: &str, settings: QueueSettings) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO queues (queue, concurrency, paused) VALUES (?, ?, ?)",
        (queue, settings.concurrency, settings.paused),
    )?;
    tx.effects.ready = true;
    tx.rules = None;
    Ok(())
}
