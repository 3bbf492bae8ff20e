//! A job's life: in, to a worker, back, over.

use super::state::{Entry, State};
use crate::api::{Ack, Claim, Enqueued, Outcome, TickOutcome};
use crate::error::Error;
use crate::job::{Attempt, Claimed, GROUP_FAILED, Job, JobId, NewJob, Status, WorkerId};

/// `keep_until` of a finished job whose result somebody waits for: a time that does not come.
const HELD: i64 = crate::job::MAX_TIME;

impl State {
    pub(super) fn enqueue(&mut self, new: NewJob) -> Result<Enqueued, Error> {
        new.check(self.options.max_payload)?;
        if self.ids.contains_key(&new.id) {
            return Ok(Enqueued::Known(new.id));
        }
        if let Some(holder) = new.unique.as_ref().and_then(|unique| self.keys.get(&unique.key)) {
            return Ok(Enqueued::Duplicate(self.jobs[holder].job.id));
        }
        let lane = self.lane(&new.queue, new.limit.as_deref());
        self.last_seq += 1;
        let (seq, id) = (self.last_seq, new.id);
        let scheduled = new.eta.is_some_and(|eta| eta > self.now);
        let ready = if scheduled {
            Status::Scheduled
        } else {
            Status::Queued
        };
        let (status, error) = match new.waits_for.map(|group| self.groups.get(&group)) {
            None | Some(Some((0, 0, _))) => (ready, None),
            Some(Some((0, _, _))) => (Status::Failed, Some(GROUP_FAILED.to_owned())),
            Some(_) => (Status::Waiting, None),
        };
        if let Some(unique) = &new.unique {
            self.keys.insert(unique.key.clone(), seq);
        }
        if let Some(group) = new.group {
            let (open, _, there) = self.groups.entry(group).or_default();
            *open += 1;
            *there += 1;
        }
        if let Some(group) = new.waits_for {
            self.dependents.entry(group).or_default().insert(seq);
        }
        let job = Job {
            id,
            status,
            task: new.task,
            queue: new.queue,
            priority: new.priority,
            payload: new.payload,
            codec: new.codec,
            format: new.format,
            eta: new.eta,
            expires: new.expires,
            attempts: 0,
            max_attempts: new.max_attempts,
            deaths: 0,
            limit: new.limit,
            parent: new.parent,
            group: new.group,
            waits_for: new.waits_for,
            keep: new.keep,
            worker: None,
            cancel_requested: false,
            enqueued_at: self.now,
            started_at: None,
            finished_at: None,
            result: None,
            error,
            traceback: None,
            unique: new.unique,
        };
        let has_key = job.unique.is_some();
        self.jobs.insert(
            seq,
            Entry {
                job,
                claims: 0,
                lane,
                keep_until: None,
                has_key,
            },
        );
        self.ids.insert(id, seq);
        self.index(seq, status);
        if status.is_finished() {
            self.finish(seq, status);
        }
        Ok(Enqueued::New(id))
    }

    pub(super) fn tick(&mut self, name: &str, at: i64, job: NewJob) -> Result<TickOutcome, Error> {
        job.check(self.options.max_payload)?;
        let stands = |last: &i64| *last >= at && crate::job::may_have_been(*last, self.now);
        if let Some(last) = self.ticks.get(name).filter(|last| stands(last)) {
            return Ok(TickOutcome::Past(*last));
        }
        self.ticks.insert(name.to_owned(), at);
        Ok(TickOutcome::Enqueued(self.enqueue(job)?))
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, Error> {
        if !self.workers.contains_key(&claim.worker) {
            return Err(Error::UnknownWorker);
        }
        while let Some((eta, seq)) = self
            .scheduled
            .first()
            .copied()
            .filter(|(eta, _)| *eta <= self.now)
        {
            self.scheduled.remove(&(eta, seq));
            self.index(seq, Status::Queued);
        }
        self.effects.ready = false;
        let mut claimed = Vec::new();
        while claimed.len() < claim.max {
            let Some((lane, seq)) = self.pick(&claim.queues) else {
                break;
            };
            let Some(job) = self.begin(seq, claim.worker) else {
                continue;
            };
            if let Some((rate, full_at)) = self.lanes[lane]
                .rate
                .as_ref()
                .and_then(|name| self.rates.get_mut(name))
            {
                *full_at = rate.take(*full_at, self.steady, 1);
            }
            claimed.push(job);
        }
        Ok(claimed)
    }

    /// The job that is next among those that may run now.
    fn pick(&self, queues: &[String]) -> Option<(usize, i64)> {
        let open = self.lanes.iter().enumerate().filter(|(_, lane)| {
            if !queues.is_empty() && !queues.contains(&lane.queue) {
                return false;
            }
            let settings = self.queues.get(&lane.queue).copied().unwrap_or_default();
            let limit = lane.rate.as_ref().and_then(|name| self.rates.get(name));
            let same = self.lanes.iter().filter(|other| other.queue == lane.queue);
            !settings.paused
                && limit.is_none_or(|(rate, full_at)| rate.tokens(*full_at, self.steady) > 0)
                && settings
                    .concurrency
                    .is_none_or(|most| same.map(|lane| lane.running).sum::<usize>() < most as usize)
        });
        let heads = open.filter_map(|(at, lane)| lane.queued.first().map(|head| (*head, at)));
        heads.min().map(|((_, seq), at)| (at, seq))
    }

    /// Begins an attempt; None if the job has expired instead.
    fn begin(&mut self, seq: i64, worker: WorkerId) -> Option<Claimed> {
        self.unindex(seq);
        let entry = self.jobs.get_mut(&seq)?;
        if entry.job.expires.is_some_and(|expires| expires <= self.now) {
            entry.job.error = Some("expired".into());
            self.index(seq, Status::Expired);
            self.finish(seq, Status::Expired);
            return None;
        }
        entry.claims += 1;
        entry.job.attempts += 1;
        entry.job.started_at = Some(self.now);
        entry.job.worker = Some(worker);
        if entry
            .job
            .unique
            .as_ref()
            .is_some_and(|unique| unique.until_started)
        {
            self.free_key(seq);
        }
        self.index(seq, Status::Running);
        if let Some((_, jobs)) = self.workers.get_mut(&worker) {
            jobs.insert(seq);
        }
        let entry = self.jobs.get(&seq)?;
        let attempt = Attempt {
            job: entry.job.id,
            worker,
            number: entry.claims,
            seq,
        };
        Some(Claimed {
            job: entry.job.clone(),
            attempt,
        })
    }

    pub(super) fn is_current(&self, attempt: &Attempt) -> bool {
        self.jobs.get(&attempt.seq).is_some_and(|entry| {
            entry.job.id == attempt.job
                && entry.claims == attempt.number
                && entry.job.worker == Some(attempt.worker)
                && entry.job.status == Status::Running
        })
    }

    pub(super) fn acknowledge(&mut self, ack: Ack) -> Result<Status, Error> {
        ack.check(self.options.max_payload)?;
        if !self.is_current(&ack.attempt) {
            return Err(Error::Stale);
        }
        let (seq, now) = (ack.attempt.seq, self.now);
        self.unindex(seq);
        let Some(entry) = self.jobs.get_mut(&seq) else {
            return Err(Error::Stale);
        };
        let job = &mut entry.job;
        let cancel = std::mem::take(&mut job.cancel_requested);
        let exhausted = job.attempts >= job.max_attempts;
        let mut said = |error, traceback| (job.error, job.traceback) = (Some(error), Some(traceback));
        let status = match ack.outcome {
            Outcome::Succeeded { result } => {
                (job.result, job.error, job.traceback) = (result, None, None);
                Status::Succeeded
            }
            Outcome::Failed { error, traceback } => {
                said(error, traceback);
                Status::Failed
            }
            Outcome::Cancelled => Status::Cancelled,
            Outcome::HandBack => {
                job.attempts -= 1;
                if cancel { Status::Cancelled } else { Status::Queued }
            }
            Outcome::Retry { at, error, traceback } => {
                said(error, traceback);
                if cancel {
                    Status::Cancelled
                } else if exhausted {
                    Status::Failed
                } else {
                    job.eta = Some(at);
                    if at > now {
                        Status::Scheduled
                    } else {
                        Status::Queued
                    }
                }
            }
        };
        self.index(seq, status);
        if status.is_finished() {
            self.finish(seq, status);
        }
        // A queue with a limit has room for one more.
        self.effects.ready = true;
        for job in ack.then {
            self.enqueue(job)?;
        }
        self.acknowledged += 1;
        if self.acknowledged.is_multiple_of(1000) {
            self.prune();
        }
        Ok(status)
    }

    /// Ends a worker.
    pub(super) fn give_back(&mut self, worker: WorkerId, died: bool) -> (u64, u64) {
        let Some((_, jobs)) = self.workers.remove(&worker) else {
            return (0, 0);
        };
        let mut quarantined = 0;
        for &seq in &jobs {
            self.unindex(seq);
            let Some(entry) = self.jobs.get_mut(&seq) else {
                continue;
            };
            let job = &mut entry.job;
            job.attempts -= 1;
            if died {
                job.deaths += 1;
                job.error = Some(format!("a worker died while it ran this job ({})", job.deaths));
            }
            let status = if std::mem::take(&mut job.cancel_requested) {
                Status::Cancelled
            } else if died && job.deaths >= self.options.max_deaths {
                quarantined += 1;
                Status::Quarantined
            } else {
                Status::Queued
            };
            self.index(seq, status);
            if status.is_finished() {
                self.finish(seq, status);
            }
        }
        (jobs.len() as u64, quarantined)
    }

    pub(super) fn free_key(&mut self, seq: i64) {
        let Some(entry) = self.jobs.get_mut(&seq) else {
            return;
        };
        if std::mem::take(&mut entry.has_key)
            && let Some(unique) = &entry.job.unique
        {
            self.keys.remove(&unique.key);
        }
    }

    /// What follows when a job has a status that finishes it.
    pub(super) fn finish(&mut self, seq: i64, status: Status) {
        let mut finished = vec![(seq, status)];
        while let Some((seq, status)) = finished.pop() {
            self.free_key(seq);
            let Some(entry) = self.jobs.get_mut(&seq) else {
                continue;
            };
            entry.job.finished_at = Some(self.now);
            let lane = &mut self.lanes[entry.lane];
            *(if status == Status::Succeeded {
                &mut lane.succeeded
            } else {
                &mut lane.failed
            }) += 1;
            self.effects.finished.push(entry.job.id);
            let keep = match status {
                Status::Succeeded | Status::Cancelled | Status::Expired => Some(entry.job.keep),
                _ => self.options.keep_failed.map(|keep| keep.as_millis() as i64),
            };
            let (group, waits_for) = (entry.job.group, entry.job.waits_for);
            let lets_go = !holds(status);
            if let Some(group) = group {
                finished.extend(self.leave_group(group, status));
            }
            let held = lets_go && group.is_some_and(|group| self.is_held(group));
            if let Some(entry) = self.jobs.get_mut(&seq) {
                let until = keep.map(|keep| self.now.saturating_add(keep));
                entry.keep_until = if held { Some(HELD) } else { until };
                self.kept.extend(entry.keep_until.map(|until| (until, seq)));
            }
            if keep == Some(0) && !held {
                self.retire(seq);
            }
            if let Some(group) = waits_for.filter(|_| lets_go) {
                self.release(group);
            }
        }
    }

    /// Whether somebody waits for the group who will want its results: now, or once it is retried.
    fn is_held(&self, group: JobId) -> bool {
        self.dependents.get(&group).is_some_and(|seqs| {
            let mut there = seqs.iter().filter_map(|seq| self.jobs.get(seq));
            there.any(|entry| holds(entry.job.status))
        })
    }

    /// Lets the results of a group go, unless somebody else holds them.
    pub(super) fn release(&mut self, group: JobId) {
        if self.is_held(group) {
            return;
        }
        let held: Vec<i64> = self.kept.range((HELD, i64::MIN)..).map(|(_, seq)| *seq).collect();
        for seq in held {
            let Some(entry) = self
                .jobs
                .get_mut(&seq)
                .filter(|entry| entry.job.group == Some(group))
            else {
                continue;
            };
            let until = self.now.saturating_add(entry.job.keep);
            entry.keep_until = Some(until);
            self.kept.remove(&(HELD, seq));
            self.kept.insert((until, seq));
        }
    }

    /// Has those wait again that failed for this group's sake, as one of its jobs is tried again; and those that failed for
    /// theirs.
    pub(super) fn revive(&mut self, group: JobId) {
        let mut groups = vec![group];
        while let Some(group) = groups.pop() {
            if let Some((open, failed, _)) = self.groups.get_mut(&group) {
                *open += 1;
                *failed -= 1;
            }
            for seq in self.dependents.get(&group).cloned().unwrap_or_default() {
                let Some(entry) = self.jobs.get_mut(&seq) else {
                    continue;
                };
                let job = &mut entry.job;
                if job.status != Status::Failed || job.error.as_deref() != Some(GROUP_FAILED) {
                    continue;
                }
                if let Some(unique) = &job.unique {
                    // One whose unique key has another job by now stays as it is.
                    if self.keys.contains_key(&unique.key) {
                        continue;
                    }
                    self.keys.insert(unique.key.clone(), seq);
                    entry.has_key = true;
                }
                (job.error, job.finished_at) = (None, None);
                groups.extend(job.group);
                self.move_to(seq, Status::Waiting);
            }
        }
    }

    pub(super) fn leave_group(&mut self, group: JobId, status: Status) -> Vec<(i64, Status)> {
        let Some((open, failed, _)) = self.groups.get_mut(&group) else {
            return Vec::new();
        };
        *open -= 1;
        *failed += i64::from(status != Status::Succeeded);
        if *open > 0 {
            return Vec::new();
        }
        let succeeded = *failed == 0;
        let waiting = self.waiting.remove(&group).unwrap_or_default();
        let mut over = Vec::new();
        for seq in waiting {
            let Some(entry) = self.jobs.get_mut(&seq) else {
                continue;
            };
            if !succeeded {
                entry.job.error = Some(GROUP_FAILED.to_owned());
                self.index(seq, Status::Failed);
                over.push((seq, Status::Failed));
            } else if entry.job.eta.is_some_and(|eta| eta > self.now) {
                self.index(seq, Status::Scheduled);
            } else {
                self.index(seq, Status::Queued);
            }
        }
        over
    }
}

/// Whether a job of this status has use, now or once it is retried, for the results of the group that it waits for.
fn holds(status: Status) -> bool {
    !matches!(status, Status::Succeeded | Status::Cancelled | Status::Expired)
}
