//! Attempts end.

use rusqlite::Connection;

use super::enqueue::enqueue;
use super::finish::{Settled, is_pruned, settled};
use super::transaction::Tx;
use crate::api::{Ack, Outcome};
use crate::error::Error;
use crate::job::{Attempt, Status};

/// Acknowledges attempts, each for itself.
pub(super) fn acknowledge(tx: &mut Tx<'_>, acks: &[Ack]) -> rusqlite::Result<Vec<Result<Status, Error>>> {
    acks.iter().map(|ack| acknowledge_one(tx, ack)).collect()
}

fn acknowledge_one(tx: &mut Tx<'_>, ack: &Ack) -> rusqlite::Result<Result<Status, Error>> {
    if let Err(error) = ack.check(tx.settings.max_payload) {
        return Ok(Err(error));
    }
    let status = match &ack.outcome {
        Outcome::Succeeded { result } => succeed(tx, &ack.attempt, result.as_deref())?,
        other => end(tx, &ack.attempt, other)?,
    };
    let Some(status) = status else {
        return Ok(Err(Error::Stale));
    };
    for refused in enqueue(tx, &ack.then)? {
        // They were checked above.
        debug_assert!(refused.is_ok(), "{refused:?}");
    }
    Ok(Ok(status))
}

/// The one way that has to be fast. None if the attempt is stale.
fn succeed(tx: &mut Tx<'_>, attempt: &Attempt, result: Option<&[u8]>) -> rusqlite::Result<Option<Status>> {
    let done = tx.first(
        "UPDATE jobs SET status = 3, result = ?5, finished_at = ?6, keep_until = ?6 + keep, worker = NULL,
            unique_slot = NULL, error = NULL, traceback = NULL, cancel = 0
            WHERE seq = ?1 AND id = ?2 AND claims = ?3 AND worker = ?4 AND status = 2
            RETURNING id, lane, group_id, keep, waits_for",
        rusqlite::params![
            attempt.seq,
            attempt.job.as_bytes(),
            attempt.number,
            attempt.worker.0,
            result,
            tx.now
        ],
        |row| Settled::read(row, attempt.seq, Status::Succeeded),
    )?;
    let Some(done) = done else { return Ok(None) };
    free_room(tx, done.lane)?;
    settled(tx, &done)?;
    Ok(Some(Status::Succeeded))
}

/// A queue with a limit has room for one more.
fn free_room(tx: &mut Tx<'_>, lane: i64) -> rusqlite::Result<()> {
    let queue = tx.cache.lanes.get(tx.connection, lane)?.queue.clone();
    let limited = tx
        .rules()?
        .queues
        .get(&*queue)
        .is_some_and(|settings| settings.concurrency.is_some());
    tx.effects.ready |= limited;
    Ok(())
}

/// A running job, as far as its end needs it.
struct Running {
    settled: Settled,
    attempts: u32,
    max_attempts: u32,
    cancel: bool,
}

fn end(tx: &mut Tx<'_>, attempt: &Attempt, outcome: &Outcome) -> rusqlite::Result<Option<Status>> {
    let found = tx.first(
        "SELECT id, lane, group_id, keep, waits_for, attempts, max_attempts, cancel FROM jobs
            WHERE seq = ?1 AND id = ?2 AND claims = ?3 AND worker = ?4 AND status = 2",
        (
            attempt.seq,
            attempt.job.as_bytes(),
            attempt.number,
            attempt.worker.0,
        ),
        |row| {
            let settled = Settled::read(row, attempt.seq, Status::Running)?;
            Ok(Running {
                settled,
                attempts: row.get(5)?,
                max_attempts: row.get(6)?,
                cancel: row.get(7)?,
            })
        },
    )?;
    let Some(mut running) = found else { return Ok(None) };
    let (status, eta, said) = match outcome {
        Outcome::Succeeded { .. } => (Status::Succeeded, None, None),
        Outcome::Failed { error, traceback } => (Status::Failed, None, Some((error, traceback))),
        Outcome::Cancelled => (Status::Cancelled, None, None),
        Outcome::HandBack if running.cancel => (Status::Cancelled, None, None),
        Outcome::HandBack => (Status::Queued, None, None),
        Outcome::Retry { error, traceback, .. } if running.cancel => {
            (Status::Cancelled, None, Some((error, traceback)))
        }
        Outcome::Retry { error, traceback, .. } if running.attempts >= running.max_attempts => {
            (Status::Failed, None, Some((error, traceback)))
        }
        Outcome::Retry { at, error, traceback } => {
            let status = if *at > tx.now {
                Status::Scheduled
            } else {
                Status::Queued
            };
            (status, Some(*at), Some((error, traceback)))
        }
    };
    let handed_back = matches!(outcome, Outcome::HandBack);
    let finished_at = status.is_finished().then_some(tx.now);
    let keep_until = is_pruned(status).then(|| tx.now.saturating_add(running.settled.keep));
    tx.execute(
        "UPDATE jobs SET status = ?2, attempts = attempts - ?3, eta = ifnull(?4, eta), error = ifnull(?5, error),
            traceback = ifnull(?6, traceback), finished_at = ?7, keep_until = ?8, worker = NULL, cancel = 0,
            unique_slot = CASE WHEN ?7 IS NULL THEN unique_slot END
            WHERE seq = ?1",
        rusqlite::params![
            attempt.seq,
            status.number(),
            handed_back,
            eta,
            said.map(|(error, _)| error),
            said.map(|(_, traceback)| traceback),
            finished_at,
            keep_until,
        ],
    )?;
    match status {
        Status::Queued => tx.effects.ready = true,
        Status::Scheduled => tx.effects.due_at(eta.unwrap_or(tx.now)),
        _ => {}
    }
    free_room(tx, running.settled.lane)?;
    if status.is_finished() {
        running.settled.status = status;
        settled(tx, &running.settled)?;
    }
    Ok(Some(status))
}

/// Which attempts are current.
pub(super) fn current(connection: &Connection, attempts: &[Attempt]) -> rusqlite::Result<Vec<bool>> {
    let mut look = connection.prepare_cached(
        "SELECT 1 FROM jobs WHERE seq = ?1 AND id = ?2 AND claims = ?3 AND worker = ?4 AND status = 2",
    )?;
    let current = |attempt: &Attempt| {
        look.exists((
            attempt.seq,
            attempt.job.as_bytes(),
            attempt.number,
            attempt.worker.0,
        ))
    };
    attempts.iter().map(current).collect()
}
