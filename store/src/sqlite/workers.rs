//! Workers come, retire, die, and are given up; their jobs go back.

use super::finish::{Settled, settled};
use super::liveness::Liveness;
use super::transaction::Tx;
use crate::api::{TakenOver, WorkerInfo};
use crate::error::Error;
use crate::job::{JobId, Status, WorkerId};

/// Registers a worker. Its lock is held before the commit shows its row to anybody.
pub(super) fn register(
    tx: &mut Tx<'_>,
    liveness: &Liveness,
    name: &str,
) -> rusqlite::Result<Result<WorkerId, Error>> {
    loop {
        tx.execute(
            "INSERT INTO workers (name, pid, since) VALUES (?, ?, ?)",
            (name, std::process::id(), tx.now),
        )?;
        let worker = WorkerId(tx.connection.last_insert_rowid());
        match liveness.hold(worker) {
            Ok(true) => return Ok(Ok(worker)),
            // Somebody whose commit just failed still has it: the next one, then.
            Ok(false) => tx.execute("DELETE FROM workers WHERE id = ?", [worker.0])?,
            Err(error) => {
                tx.execute("DELETE FROM workers WHERE id = ?", [worker.0])?;
                return Ok(Err(error));
            }
        };
    }
}

/// Hands back what a worker has, and forgets it.
pub(super) fn retire(tx: &mut Tx<'_>, worker: WorkerId) -> rusqlite::Result<()> {
    give_back(tx, worker, false)?;
    forget(tx, worker)
}

/// Queues again what a dead worker had, and forgets it: in one transaction, so that nobody sees it half.
pub(super) fn bury(tx: &mut Tx<'_>, worker: WorkerId, taken: &mut TakenOver) -> rusqlite::Result<()> {
    let (jobs, quarantined) = give_back(tx, worker, true)?;
    forget(tx, worker)?;
    taken.workers.push(worker);
    taken.jobs += jobs;
    taken.quarantined += quarantined;
    Ok(())
}

fn forget(tx: &mut Tx<'_>, worker: WorkerId) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM workers WHERE id = ?", [worker.0])?;
    tx.workers.retain(|known| *known != worker);
    Ok(())
}

/// Takes over from all workers that are dead; not from `ours`, whose locks do not show to ourselves.
pub(super) fn take_over(
    tx: &mut Tx<'_>,
    liveness: &Liveness,
    ours: &[WorkerId],
) -> rusqlite::Result<TakenOver> {
    let mut taken = TakenOver::default();
    for worker in all(tx)? {
        if !ours.contains(&worker) && liveness.is_dead(worker) {
            bury(tx, worker, &mut taken)?;
        }
    }
    Ok(taken)
}

/// Workers with a row, and those with jobs: should somebody have deleted the row, the jobs still are not stranded.
const ALL: &str =
    "SELECT id FROM workers UNION SELECT worker FROM jobs INDEXED BY jobs_running WHERE status = 2";

fn all(tx: &Tx<'_>) -> rusqlite::Result<Vec<WorkerId>> {
    tx.rows(ALL, &[], |row| row.get(0).map(WorkerId))
}

/// Whether a look at the locks shows somebody dead, without writing; and whether there is anybody but ours.
pub(super) fn look(
    connection: &rusqlite::Connection,
    liveness: &Liveness,
    ours: &[WorkerId],
) -> rusqlite::Result<(bool, bool)> {
    let mut statement = connection.prepare_cached(ALL)?;
    let (mut dead, mut others) = (false, false);
    for worker in statement.query_map((), |row| row.get(0).map(WorkerId))? {
        let worker = worker?;
        if !ours.contains(&worker) {
            others = true;
            dead |= liveness.is_dead(worker);
        }
    }
    Ok((dead, others))
}

fn give_back(tx: &mut Tx<'_>, worker: WorkerId, died: bool) -> rusqlite::Result<(u64, u64)> {
    let jobs = tx.rows(
        "SELECT id, lane, group_id, keep, waits_for, seq, deaths, cancel FROM jobs INDEXED BY jobs_running
            WHERE status = 2 AND worker = ?",
        &[&worker.0],
        |row| {
            Ok((
                Settled::read(row, row.get(5)?, Status::Running)?,
                row.get::<_, u32>(6)?,
                row.get::<_, bool>(7)?,
            ))
        },
    )?;
    let mut quarantined = 0;
    let count = jobs.len() as u64;
    for (mut job, deaths, cancel) in jobs {
        let deaths = deaths + u32::from(died);
        job.status = if cancel {
            Status::Cancelled
        } else if died && deaths >= tx.settings.max_deaths {
            quarantined += 1;
            Status::Quarantined
        } else {
            Status::Queued
        };
        let error = died.then(|| format!("a worker died while it ran this job ({deaths})"));
        // A death is no attempt: a job that may be tried once, and whose process was killed, runs.
        tx.execute(
            "UPDATE jobs SET status = ?2, deaths = ?3, worker = NULL, cancel = 0, attempts = attempts - 1,
                error = ifnull(?4, error), finished_at = ?5, keep_until = ?6,
                unique_slot = CASE WHEN ?5 IS NULL THEN unique_slot END
                WHERE seq = ?1",
            rusqlite::params![
                job.seq,
                job.status.number(),
                deaths,
                error,
                job.status.is_finished().then_some(tx.now),
                super::finish::is_pruned(job.status).then(|| tx.now.saturating_add(job.keep)),
            ],
        )?;
        if job.status.is_finished() {
            settled(tx, &job)?;
        }
    }
    tx.effects.ready |= count > 0;
    Ok((count, quarantined))
}

/// What is known of the workers.
pub(super) fn list(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<WorkerInfo>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, pid, since,
            (SELECT count(*) FROM jobs INDEXED BY jobs_running WHERE status = 2 AND worker = workers.id)
            FROM workers ORDER BY id",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(WorkerInfo {
            id: WorkerId(row.get(0)?),
            name: row.get(1)?,
            pid: row.get(2)?,
            since: row.get(3)?,
            running: row.get::<_, i64>(4)? as u64,
        })
    };
    statement.query_map((), read)?.collect()
}

/// Which running jobs of these workers are to be cancelled.
pub(super) fn cancels(connection: &rusqlite::Connection, ours: &[WorkerId]) -> rusqlite::Result<Vec<JobId>> {
    let mut statement = connection.prepare_cached(
        "SELECT worker, id FROM jobs INDEXED BY jobs_running WHERE status = 2 AND cancel = 1",
    )?;
    let found = statement.query_map((), |row| {
        Ok((WorkerId(row.get(0)?), JobId::from_bytes(row.get(1)?)))
    })?;
    let mut asked = Vec::new();
    for row in found {
        let (worker, id) = row?;
        if ours.contains(&worker) {
            asked.push(id);
        }
    }
    Ok(asked)
}
