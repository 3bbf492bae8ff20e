//! What follows when a job has finished: counts, those who wait for it, its group, and its end.

use rusqlite::Row;

use super::transaction::Tx;
use crate::job::{GROUP_FAILED, JobId, Status};

/// `keep_until` of a finished job whose result somebody waits for: a time that does not come.
pub(super) const HELD: i64 = crate::job::MAX_TIME;

/// A job whose row says that it is finished.
pub(super) struct Settled {
    pub(super) seq: i64,
    pub(super) id: JobId,
    pub(super) lane: i64,
    pub(super) group: Option<JobId>,
    pub(super) status: Status,
    pub(super) keep: i64,
    pub(super) waits_for: Option<JobId>,
}

impl Settled {
    /// Reads `RETURNING id, lane, group_id, keep, waits_for`.
    pub(super) fn read(row: &Row<'_>, seq: i64, status: Status) -> rusqlite::Result<Settled> {
        Ok(Settled {
            seq,
            id: JobId::from_bytes(row.get(0)?),
            lane: row.get(1)?,
            group: row.get::<_, Option<[u8; 16]>>(2)?.map(JobId::from_bytes),
            status,
            keep: row.get(3)?,
            waits_for: row.get::<_, Option<[u8; 16]>>(4)?.map(JobId::from_bytes),
        })
    }
}

/// Whether a finished job of this status is pruned after its own time to be kept.
pub(super) fn is_pruned(status: Status) -> bool {
    matches!(status, Status::Succeeded | Status::Cancelled | Status::Expired)
}

/// Does what follows.
pub(super) fn settled(tx: &mut Tx<'_>, job: &Settled) -> rusqlite::Result<()> {
    let mut waiting = settle_one(tx, job)?;
    // A chord within a chord: those that fail here may be what others wait for.
    while let Some(job) = waiting.pop() {
        waiting.extend(settle_one(tx, &job)?);
    }
    Ok(())
}

/// Does what follows for the job itself, and gives back those that failed because of it.
fn settle_one(tx: &mut Tx<'_>, job: &Settled) -> rusqlite::Result<Vec<Settled>> {
    tx.count(job.lane, job.status);
    tx.effects.finished.push(job.id);
    let failed = match job.group {
        Some(group) => leave_group(tx, group, job.status)?,
        None => Vec::new(),
    };
    if !is_pruned(job.status) {
        if let Some(keep) = tx.settings.keep_failed {
            tx.execute(
                "UPDATE jobs SET keep_until = ?2 WHERE seq = ?1",
                (job.seq, tx.now.saturating_add(keep)),
            )?;
            tx.effects.prune_at(tx.now.saturating_add(keep));
        }
    } else if job.group.map_or(Ok(false), |group| is_held(tx, group))? {
        tx.execute("UPDATE jobs SET keep_until = ?2 WHERE seq = ?1", (job.seq, HELD))?;
    } else if job.keep == 0 {
        retire(tx, job.seq)?;
    } else {
        tx.effects.prune_at(tx.now.saturating_add(job.keep));
    }
    if is_pruned(job.status)
        && let Some(group) = job.waits_for
    {
        release(tx, group)?;
    }
    Ok(failed)
}

/// Whether somebody waits for the group who will want its results: now, or once it is retried.
fn is_held(tx: &Tx<'_>, group: JobId) -> rusqlite::Result<bool> {
    let holder = "SELECT 1 FROM jobs WHERE waits_for = ? AND status IN (0, 1, 2, 4, 7, 8) LIMIT 1";
    Ok(tx.first(holder, [group.as_bytes()], |_| Ok(()))?.is_some())
}

/// Lets the results of a group go, unless somebody else holds them: they are kept as long as they would be if they had
/// finished now.
fn release(tx: &mut Tx<'_>, group: JobId) -> rusqlite::Result<()> {
    if is_held(tx, group)? {
        return Ok(());
    }
    let times = tx.rows(
        "UPDATE jobs SET keep_until = ?2 + keep WHERE group_id = ?1 AND keep_until = ?3 RETURNING keep_until",
        &[&group.as_bytes(), &tx.now, &HELD],
        |row| row.get::<_, i64>(0),
    )?;
    if let Some(first) = times.into_iter().min() {
        tx.effects.prune_at(first);
    }
    Ok(())
}

/// Has those wait again that failed for this group's sake, as one of its jobs is tried again; and those that failed for
/// theirs.
pub(super) fn revive(tx: &mut Tx<'_>, group: JobId) -> rusqlite::Result<()> {
    let mut groups = vec![group];
    while let Some(group) = groups.pop() {
        tx.execute(
            "UPDATE job_groups SET open = open + 1, failed = failed - 1 WHERE id = ?",
            [group.as_bytes()],
        )?;
        // One whose unique key has another job by now stays as it is.
        let waiting = tx.rows(
            "UPDATE OR IGNORE jobs SET status = 8, finished_at = NULL, keep_until = NULL, error = NULL,
                unique_slot = unique_key WHERE waits_for = ?1 AND status = 4 AND error = ?2 RETURNING group_id",
            &[&group.as_bytes(), &GROUP_FAILED],
            |row| row.get::<_, Option<[u8; 16]>>(0),
        )?;
        groups.extend(waiting.into_iter().flatten().map(JobId::from_bytes));
    }
    Ok(())
}

fn leave_group(tx: &mut Tx<'_>, group: JobId, status: Status) -> rusqlite::Result<Vec<Settled>> {
    let failed = i64::from(status != Status::Succeeded);
    let state = tx.first(
        "UPDATE job_groups SET open = open - 1, failed = failed + ?2 WHERE id = ?1 RETURNING open, failed",
        (group.as_bytes(), failed),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    )?;
    match state {
        Some((0, 0)) => {
            let etas = tx.rows(
                "UPDATE jobs SET status = CASE WHEN eta > ?2 THEN 1 ELSE 0 END WHERE status = 8 AND waits_for = ?1
                    RETURNING CASE WHEN status = 1 THEN eta END",
                &[&group.as_bytes(), &tx.now],
                |row| row.get::<_, Option<i64>>(0),
            )?;
            for eta in etas {
                match eta {
                    Some(eta) => tx.effects.due_at(eta),
                    None => tx.effects.ready = true,
                }
            }
            Ok(Vec::new())
        }
        Some((0, _)) => tx.rows(
            "UPDATE jobs SET status = 4, finished_at = ?2, unique_slot = NULL, error = ?3 WHERE status = 8 AND waits_for = ?1
                RETURNING id, lane, group_id, keep, waits_for, seq",
            &[&group.as_bytes(), &tx.now, &GROUP_FAILED],
            |row| Settled::read(row, row.get(5)?, Status::Failed),
        ),
        _ => Ok(Vec::new()),
    }
}

/// Moves a finished job to the log.
pub(super) fn retire(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    if tx.settings.log_max > 0 {
        tx.execute(
            "INSERT INTO log (id, task, lane, status, attempts, enqueued_at, started_at, finished_at)
                SELECT id, task, lane, status, attempts, enqueued_at, started_at, ifnull(finished_at, ?2)
                FROM jobs WHERE seq = ?1",
            (seq, tx.now),
        )?;
    }
    delete(tx, seq)
}

/// Deletes a job, whatever it is.
pub(super) fn delete(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let deleted = tx.first(
        "DELETE FROM jobs WHERE seq = ? RETURNING payload IS NULL, group_id, waits_for",
        [seq],
        |row| {
            Ok((
                row.get(0)?,
                row.get::<_, Option<[u8; 16]>>(1)?,
                row.get::<_, Option<[u8; 16]>>(2)?,
            ))
        },
    )?;
    let Some((elsewhere, group, waits_for)) = deleted else {
        return Ok(());
    };
    if elsewhere {
        tx.execute("DELETE FROM payloads WHERE seq = ?", [seq])?;
    }
    for group in [group, waits_for].into_iter().flatten() {
        forget_group(tx, JobId::from_bytes(group))?;
    }
    if let Some(group) = waits_for {
        release(tx, JobId::from_bytes(group))?;
    }
    Ok(())
}

/// The last job to go takes the group along that it was of, or waited for.
pub(super) fn forget_group(tx: &Tx<'_>, group: JobId) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM job_groups WHERE id = ?1 AND open = 0
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE group_id = ?1)
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE status = 8 AND waits_for = ?1)",
        [group.as_bytes()],
    )?;
    Ok(())
}
