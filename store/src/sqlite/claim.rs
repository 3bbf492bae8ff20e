//! Jobs go to workers.

use super::finish::{Settled, settled};
use super::row::{self, Found};
use super::transaction::{Lane, Tx};
use crate::api::Claim;
use crate::error::Error;
use crate::job::{Attempt, Claimed, Status, WorkerId};

/// So many due or expired jobs are dealt with in one call at most; the next goes on.
const SLICE: usize = 1000;

/// Claims jobs.
pub(super) fn claim(tx: &mut Tx<'_>, claim: &Claim) -> rusqlite::Result<Result<Vec<Claimed>, Error>> {
    if !tx.is_registered(claim.worker)? {
        return Ok(Err(Error::UnknownWorker));
    }
    promote(tx)?;
    let mut claimed = Vec::new();
    let mut passed = 0;
    while claimed.len() < claim.max && passed < SLICE {
        match pick(tx, claim, claim.max - claimed.len())? {
            // Those that have expired first, so that they take nobody's place, room or token.
            Picked::Expired(expired) => {
                passed += expired.len();
                expired.into_iter().try_for_each(|seq| expire(tx, seq))?;
            }
            Picked::Next(next) if next.is_empty() => break,
            Picked::Next(next) => {
                for seq in next {
                    claimed.extend(begin(tx, seq, claim.worker)?);
                }
            }
        }
    }
    // So many had expired that it was left at those: there may be more.
    tx.effects.ready |= passed >= SLICE;
    Ok(Ok(claimed))
}

/// What a look at the heads of the lanes gave.
enum Picked {
    /// These are to be begun, in this order.
    Next(Vec<i64>),
    /// These have expired: look again without them.
    Expired(Vec<i64>),
}

/// Queues what is due.
pub(super) fn promote(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    if std::mem::replace(&mut tx.promoted, true) {
        return Ok(());
    }
    let due = tx.rows(
        "SELECT seq FROM jobs WHERE status = 1 AND eta <= ?1 ORDER BY eta LIMIT ?2",
        &[&tx.now, &(SLICE as i64)],
        |row| row.get::<_, i64>(0),
    )?;
    for seq in &due {
        tx.execute("UPDATE jobs SET status = 0 WHERE seq = ?", [seq])?;
    }
    tx.effects.ready |= due.len() == SLICE;
    Ok(())
}

/// The jobs that are next, at most `wanted`, in their order. Tokens of their limits are taken.
fn pick(tx: &mut Tx<'_>, claim: &Claim, wanted: usize) -> rusqlite::Result<Picked> {
    let lanes = open_lanes(tx, claim, wanted)?;
    let mut heads: Vec<(i64, i64, usize, bool)> = Vec::new();
    let mut expired = Vec::new();
    let now = tx.now;
    for (at, open) in lanes.iter().enumerate() {
        let most = open.room.min(open.tokens).min(wanted);
        let read = |row: &rusqlite::Row<'_>| {
            let expires: Option<i64> = row.get(2)?;
            let is_over = expires.is_some_and(|expires| expires <= now);
            Ok((-row.get::<_, i64>(1)?, row.get::<_, i64>(0)?, at, is_over))
        };
        // One more than the limit gives, to know whether there is somebody to wake when it has room again.
        let look = if open.lane.rate.is_some() { most + 1 } else { most };
        let found = tx.rows(
            "SELECT seq, priority, expires FROM jobs INDEXED BY jobs_queued WHERE status = 0 AND lane = ?1
                ORDER BY priority DESC, seq LIMIT ?2",
            &[&open.lane.id, &(look as i64)],
            read,
        )?;
        let steady = tx.steady;
        if found.len() > open.tokens
            && let Some(name) = &open.lane.rate
            && let Some(state) = tx.rules()?.rates.get(&**name)
        {
            let next = state.rate.next(state.full_at, steady).max(steady + 1);
            tx.effects.room_at(next);
        }
        heads.extend(found.into_iter().take(most));
    }
    if lanes.len() > 1 {
        heads.sort_unstable();
    }
    // Lanes share their queue's room and their limit's tokens.
    let mut picked = Vec::new();
    let mut expired_in = None;
    let mut spent: Vec<(&Lane, usize)> = Vec::new();
    for (_, seq, at, is_over) in heads {
        if picked.len() == wanted {
            break;
        }
        let open = &lanes[at];
        let used = |same: &dyn Fn(&Lane) -> bool| {
            spent
                .iter()
                .filter(|(lane, _)| same(lane))
                .map(|(_, n)| n)
                .sum::<usize>()
        };
        if used(&|lane| lane.queue == open.lane.queue) >= open.room
            || (open.lane.rate.is_some() && used(&|lane| lane.rate == open.lane.rate) >= open.tokens)
        {
            continue;
        }
        // What comes after an expired one may be another of its lane, of which more had to be read: so only those that
        // follow it in its lane at once are known to be next.
        if expired_in.is_some_and(|lane| lane != at || !is_over) {
            break;
        }
        if is_over {
            expired_in = Some(at);
            expired.push(seq);
            continue;
        }
        match spent.iter_mut().find(|(lane, _)| lane.id == open.lane.id) {
            Some((_, n)) => *n += 1,
            None => spent.push((&open.lane, 1)),
        }
        picked.push(seq);
    }
    if !expired.is_empty() {
        return Ok(Picked::Expired(expired));
    }
    for (lane, tokens) in spent {
        if let Some(name) = &lane.rate {
            take_tokens(tx, name, tokens)?;
        }
    }
    Ok(Picked::Next(picked))
}

fn take_tokens(tx: &mut Tx<'_>, name: &str, tokens: usize) -> rusqlite::Result<()> {
    let now = tx.steady;
    let Some(state) = tx.rules()?.rates.get_mut(name) else {
        return Ok(());
    };
    state.full_at = state.rate.take(state.full_at, now, tokens);
    let full_at = state.full_at;
    tx.execute("UPDATE rates SET full_at = ?2 WHERE name = ?1", (name, full_at))?;
    Ok(())
}

/// A lane of which something may be claimed now.
struct OpenLane {
    lane: Lane,
    /// How many more of its queue may run.
    room: usize,
    /// How many more its limit lets start.
    tokens: usize,
}

fn open_lanes(tx: &mut Tx<'_>, claim: &Claim, wanted: usize) -> rusqlite::Result<Vec<OpenLane>> {
    tx.cache.lanes.refresh(tx.connection)?;
    let asked =
        |lane: &&Lane| claim.queues.is_empty() || claim.queues.iter().any(|queue| **queue == *lane.queue);
    let lanes: Vec<Lane> = tx.cache.lanes.all.iter().filter(asked).cloned().collect();
    let mut open = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let steady = tx.steady;
        let rules = tx.rules()?;
        let tokens = lane.rate.as_ref().and_then(|name| rules.rates.get(&**name));
        let tokens = tokens.map_or(usize::MAX - 1, |state| state.rate.tokens(state.full_at, steady));
        let settings = rules.queues.get(&*lane.queue).copied().unwrap_or_default();
        if settings.paused {
            continue;
        }
        let room = match settings.concurrency {
            None => wanted,
            Some(most) => (most as usize).saturating_sub(running(tx, &lane.queue)?),
        };
        if room > 0 {
            open.push(OpenLane { lane, room, tokens });
        }
    }
    Ok(open)
}

fn running(tx: &Tx<'_>, queue: &str) -> rusqlite::Result<usize> {
    let lanes = tx.cache.lanes.all.iter().filter(|lane| &*lane.queue == queue);
    let mut running = 0;
    for lane in lanes {
        let count = "SELECT count(*) FROM jobs INDEXED BY jobs_running WHERE status = 2 AND lane = ?";
        running += tx
            .first(count, [lane.id], |row| row.get::<_, i64>(0))?
            .unwrap_or(0) as usize;
    }
    Ok(running)
}

/// Begins an attempt.
fn begin(tx: &mut Tx<'_>, seq: i64, worker: WorkerId) -> rusqlite::Result<Option<Claimed>> {
    const BEGIN: &str = "
        UPDATE jobs SET status = 2, worker = ?2, claims = claims + 1, attempts = attempts + 1, started_at = ?3,
            unique_slot = CASE WHEN unique_until_started THEN NULL ELSE unique_slot END
        WHERE seq = ?1
        RETURNING ";
    thread_local! {
        static SQL: String = format!("{BEGIN}{}", row::COLUMNS);
    }
    let found = SQL.with(|sql| tx.first(sql, (seq, worker.0, tx.now), row::job))?;
    let Some(found) = found else { return Ok(None) };
    let Found { job, claims, .. } = found.complete(tx.connection, &mut tx.cache.lanes, true)?;
    let attempt = Attempt {
        job: job.id,
        worker,
        number: claims,
        seq,
    };
    Ok(Some(Claimed { job, attempt }))
}

fn expire(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let expired = tx.first(
        "UPDATE jobs SET status = 6, finished_at = ?2, keep_until = ?2 + keep, unique_slot = NULL, error = 'expired'
            WHERE seq = ?1 RETURNING id, lane, group_id, keep, waits_for",
        (seq, tx.now),
        |row| Settled::read(row, seq, Status::Expired),
    )?;
    expired.map_or(Ok(()), |expired| settled(tx, &expired))
}
