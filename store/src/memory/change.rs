//! What people do to jobs, and what time does.

use super::state::State;
use crate::api::{Cancelled, Filter, LogEntry, Once, Page, Purged, Rate};
use crate::error::Error;
use crate::job::{Job, JobId, Status, check_name};

impl State {
    pub(super) fn cancel(&mut self, id: JobId) -> Result<Cancelled, Error> {
        let seq = *self.ids.get(&id).ok_or(Error::UnknownJob)?;
        let Some(entry) = self.jobs.get_mut(&seq) else {
            return Err(Error::UnknownJob);
        };
        match entry.job.status {
            Status::Running => {
                entry.job.cancel_requested = true;
                self.effects.cancels.push(id);
                Ok(Cancelled::Requested)
            }
            status if status.is_finished() => Ok(Cancelled::Finished(status)),
            _ => {
                self.move_to(seq, Status::Cancelled);
                self.finish(seq, Status::Cancelled);
                Ok(Cancelled::Now)
            }
        }
    }

    pub(super) fn retry(&mut self, id: JobId) -> Result<(), Error> {
        let seq = *self.ids.get(&id).ok_or(Error::UnknownJob)?;
        let Some(entry) = self.jobs.get(&seq) else {
            return Err(Error::UnknownJob);
        };
        let status = entry.job.status;
        if !status.is_finished() || status == Status::Succeeded {
            return Err(Error::WrongStatus(status));
        }
        let again = match entry.job.waits_for.and_then(|group| self.groups.get(&group)) {
            Some((open, _, _)) if *open > 0 => Status::Waiting,
            Some((_, failed, _)) if *failed > 0 => {
                return Err(Error::Invalid(crate::sqlite::RETRY_GROUP.into()));
            }
            _ => Status::Queued,
        };
        if let Some(unique) = &entry.job.unique {
            if let Some(holder) = self.keys.get(&unique.key) {
                let (key, holder) = (&unique.key, self.jobs[holder].job.id);
                return Err(Error::Invalid(format!(
                    "its unique key {key:?} has another job, {holder}"
                )));
            }
            self.keys.insert(unique.key.clone(), seq);
        }
        self.unindex(seq);
        if let Some(entry) = self.jobs.get_mut(&seq) {
            entry.has_key = entry.job.unique.is_some();
            let job = &mut entry.job;
            (job.attempts, job.deaths, job.eta, job.expires, job.finished_at) = (0, 0, None, None, None);
            if let Some(group) = job.group {
                self.revive(group);
            }
        }
        self.index(seq, again);
        Ok(())
    }

    /// Moves a finished job to the log.
    pub(super) fn retire(&mut self, seq: i64) {
        if let Some(entry) = self.jobs.get(&seq)
            && self.options.log_max > 0
        {
            let job = &entry.job;
            self.log.push_back(LogEntry {
                id: job.id,
                task: job.task.clone(),
                queue: job.queue.clone(),
                status: job.status,
                attempts: job.attempts,
                enqueued_at: job.enqueued_at,
                started_at: job.started_at,
                finished_at: job.finished_at.unwrap_or(self.now),
            });
            if self.log.len() > self.options.log_max {
                self.log.pop_front();
            }
        }
        self.delete(seq);
    }

    /// Deletes a job that is finished, or will be taken for it.
    fn delete(&mut self, seq: i64) {
        self.unindex(seq);
        self.free_key(seq);
        let Some(entry) = self.jobs.remove(&seq) else {
            return;
        };
        self.ids.remove(&entry.job.id);
        if let Some(group) = entry.job.group
            && let Some((_, _, there)) = self.groups.get_mut(&group)
        {
            *there -= 1;
        }
        if let Some(group) = entry.job.waits_for {
            if let Some(seqs) = self.dependents.get_mut(&group) {
                seqs.remove(&seq);
                if seqs.is_empty() {
                    self.dependents.remove(&group);
                }
            }
            self.release(group);
        }
        self.forget_groups(entry.job.group, entry.job.waits_for);
    }

    /// The last one to go takes the group along that it was of, or waited for.
    fn forget_groups(&mut self, group: Option<JobId>, waits_for: Option<JobId>) {
        for group in [group, waits_for].into_iter().flatten() {
            let waited_for = self
                .waiting
                .get(&group)
                .is_some_and(|waiting| !waiting.is_empty());
            if !waited_for
                && self
                    .groups
                    .get(&group)
                    .is_some_and(|(open, _, there)| *open == 0 && *there == 0)
            {
                self.groups.remove(&group);
                self.waiting.remove(&group);
            }
        }
    }

    pub(super) fn prune(&mut self) -> Purged {
        let mut jobs = 0;
        while let Some((_, seq)) = self.kept.first().copied().filter(|(until, _)| *until <= self.now) {
            self.retire(seq);
            jobs += 1;
        }
        let now = self.now;
        self.once.retain(|_, (_, until)| *until > now);
        Purged { jobs }
    }

    pub(super) fn purge(&mut self, filter: &Filter) -> Purged {
        let fits =
            |entry: &super::state::Entry| entry.job.status != Status::Running && fits(filter, &entry.job);
        let found = self
            .jobs
            .iter()
            .filter(|(_, entry)| fits(entry))
            .map(|(seq, _)| *seq);
        let found: Vec<i64> = found.collect();
        for &seq in &found {
            let Some(entry) = self.jobs.get(&seq) else {
                continue;
            };
            let (id, status, group, lane) = (entry.job.id, entry.job.status, entry.job.group, entry.lane);
            // First: where groups wait for one another, it may be among those that are to hear of its end.
            self.delete(seq);
            if status.is_finished() {
                continue;
            }
            self.lanes[lane].failed += 1;
            self.effects.finished.push(id);
            if let Some(group) = group {
                for (seq, status) in self.leave_group(group, Status::Cancelled) {
                    self.finish(seq, status);
                }
                self.forget_groups(Some(group), None);
            }
        }
        Purged {
            jobs: found.len() as u64,
        }
    }

    pub(super) fn get(&self, id: JobId) -> Option<Job> {
        Some(self.jobs.get(self.ids.get(&id)?)?.job.clone())
    }

    pub(super) fn list(&self, filter: &Filter, page: Page) -> Vec<Job> {
        let after = page.after.and_then(|after| self.ids.get(&after)).copied();
        let all: Box<dyn Iterator<Item = _>> = match (after, page.newest_first) {
            (Some(after), true) => Box::new(self.jobs.range(..after).rev()),
            (Some(after), false) => Box::new(self.jobs.range(after + 1..)),
            (None, true) => Box::new(self.jobs.iter().rev()),
            (None, false) => Box::new(self.jobs.iter()),
        };
        // A job that was pruned meanwhile: from its id's place in time.
        let pruned = page.after.filter(|_| after.is_none());
        let beyond =
            |id: JobId| pruned.is_none_or(|after| if page.newest_first { id < after } else { id > after });
        let jobs = all
            .map(|(_, entry)| &entry.job)
            .filter(|job| beyond(job.id) && fits(filter, job));
        let short = |job: &Job| Job {
            payload: Vec::new(),
            result: None,
            traceback: None,
            ..job.clone()
        };
        jobs.take(page.limit).map(short).collect()
    }

    pub(super) fn once(&mut self, key: &str, value: Vec<u8>, keep: i64) -> Result<Once, Error> {
        check_name("key", key)?;
        if value.len() > self.options.max_payload || keep < 1 {
            let length = value.len();
            return Err(Error::Invalid(format!(
                "once: a value of {length} bytes, to be kept for {keep} ms"
            )));
        }
        if let Some(value) = self.once_value(key) {
            return Ok(Once::Before(value));
        }
        self.once
            .insert(key.to_owned(), (value, self.now.saturating_add(keep)));
        Ok(Once::First)
    }

    pub(super) fn once_value(&self, key: &str) -> Option<Vec<u8>> {
        self.once
            .get(key)
            .filter(|(_, until)| *until > self.now)
            .map(|(value, _)| value.clone())
    }

    pub(super) fn set_rate(&mut self, limit: &str, rate: Option<Rate>) -> Result<(), Error> {
        check_name("name of a limit", limit)?;
        self.effects.ready = true;
        let Some(rate) = rate else {
            self.rates.remove(limit);
            return Ok(());
        };
        rate.check()?;
        let before = self.rates.get(limit).map_or(0, |(_, full_at)| *full_at);
        self.rates
            .insert(limit.to_owned(), (rate, rate.adopt(before, self.steady)));
        Ok(())
    }
}

fn fits(filter: &Filter, job: &Job) -> bool {
    (filter.statuses.is_empty() || filter.statuses.contains(&job.status))
        && filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && filter.task.as_ref().is_none_or(|task| *task == job.task)
        && filter.group.is_none_or(|group| Some(group) == job.group)
        && filter.parent.is_none_or(|parent| Some(parent) == job.parent)
}
