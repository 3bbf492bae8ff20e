//! Jobs come in.

use super::row;
use super::transaction::Tx;
use crate::api::{Enqueued, TickOutcome};
use crate::error::Error;
use crate::job::{GROUP_FAILED, JobId, NewJob, Status};

/// Payloads above this have a row of their own: every change of a job's status writes the job's row anew.
pub(super) const INLINE: usize = 1024;

const INSERT: &str = "
    INSERT INTO jobs (status, lane, priority, max_attempts, eta, expires, keep, enqueued_at, id, parent, group_id, waits_for,
        unique_key, unique_until_started, unique_slot, task, codec, format, error, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?13, ?15, ?16, ?17, ?18, ?19)
    ON CONFLICT (id) DO NOTHING";

/// Enqueues jobs, each for itself.
pub(super) fn enqueue(tx: &mut Tx<'_>, jobs: &[NewJob]) -> rusqlite::Result<Vec<Result<Enqueued, Error>>> {
    jobs.iter()
        .map(|job| match job.check(tx.settings.max_payload) {
            Ok(()) => enqueue_one(tx, job).map(Ok),
            Err(error) => Ok(Err(error)),
        })
        .collect()
}

fn enqueue_one(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<Enqueued> {
    if let Some(unique) = &job.unique {
        if tx
            .first("SELECT 1 FROM jobs WHERE id = ?", [job.id.as_bytes()], |_| Ok(()))?
            .is_some()
        {
            return Ok(Enqueued::Known(job.id));
        }
        let holder = tx.first(
            "SELECT id FROM jobs WHERE unique_slot = ?",
            [&unique.key],
            |row| row.get(0),
        )?;
        if let Some(holder) = holder {
            return Ok(Enqueued::Duplicate(JobId::from_bytes(holder)));
        }
    }
    let lane = tx.lane(&job.queue, job.limit.as_deref())?;
    let (status, error) = first_status(tx, job)?;
    let inline = job.payload.len() <= INLINE;
    let inserted = tx.execute(
        INSERT,
        rusqlite::params![
            status.number(),
            lane,
            job.priority,
            job.max_attempts,
            job.eta,
            job.expires,
            job.keep,
            tx.now,
            job.id.as_bytes(),
            row::blob(job.parent.as_ref()),
            row::blob(job.group.as_ref()),
            row::blob(job.waits_for.as_ref()),
            job.unique.as_ref().map(|unique| &unique.key),
            job.unique.as_ref().is_some_and(|unique| unique.until_started),
            job.task,
            job.codec,
            job.format,
            error,
            inline.then_some(&job.payload),
        ],
    )?;
    if inserted == 0 {
        return Ok(Enqueued::Known(job.id));
    }
    let seq = tx.connection.last_insert_rowid();
    if !inline {
        tx.execute(
            "INSERT INTO payloads (seq, payload) VALUES (?, ?)",
            (seq, &job.payload),
        )?;
    }
    if let Some(group) = job.group {
        tx.execute(
            "INSERT INTO job_groups (id, open, failed) VALUES (?, 1, 0) ON CONFLICT (id) DO UPDATE SET open = open + 1",
            [group.as_bytes()],
        )?;
    }
    match status {
        Status::Queued => tx.effects.ready = true,
        Status::Scheduled => tx.effects.due_at(job.eta.unwrap_or(tx.now)),
        _ => {}
    }
    if status.is_finished() {
        super::finish::settled(
            tx,
            &super::finish::Settled {
                seq,
                id: job.id,
                lane,
                group: job.group,
                status,
                keep: job.keep,
                waits_for: job.waits_for,
            },
        )?;
    }
    Ok(Enqueued::New(job.id))
}

/// Where a new job begins, and why it failed, if it does so at once.
fn first_status(tx: &Tx<'_>, job: &NewJob) -> rusqlite::Result<(Status, Option<&'static str>)> {
    if let Some(group) = job.waits_for {
        let state = tx.first(
            "SELECT open, failed FROM job_groups WHERE id = ?",
            [group.as_bytes()],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        match state {
            Some((0, 0)) => {}
            Some((0, _)) => return Ok((Status::Failed, Some(GROUP_FAILED))),
            _ => return Ok((Status::Waiting, None)),
        }
    }
    Ok(if job.eta.is_some_and(|eta| eta > tx.now) {
        (Status::Scheduled, None)
    } else {
        (Status::Queued, None)
    })
}

/// Enqueues a tick's job, if the tick is new.
pub(super) fn tick(
    tx: &mut Tx<'_>,
    name: &str,
    at: i64,
    job: &NewJob,
) -> rusqlite::Result<Result<TickOutcome, Error>> {
    if let Err(error) = job.check(tx.settings.max_payload) {
        return Ok(Err(error));
    }
    let last: Option<i64> = tx.first("SELECT at FROM ticks WHERE name = ?", [name], |row| row.get(0))?;
    if let Some(last) = last.filter(|last| *last >= at && crate::job::may_have_been(*last, tx.now)) {
        return Ok(Ok(TickOutcome::Past(last)));
    }
    tx.execute(
        "INSERT INTO ticks (name, at) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET at = ?2",
        (name, at),
    )?;
    Ok(Ok(TickOutcome::Enqueued(enqueue_one(tx, job)?)))
}
