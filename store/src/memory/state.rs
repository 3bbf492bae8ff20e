//! What a store in memory has, and the indexes that make it fast: those of the schema in SQL.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::MemoryOptions;
use crate::api::{LogEntry, QueueSettings, QueueStats, Rate, Stats, WorkerInfo};
use crate::job::{Job, JobId, Status, WorkerId};

/// What a call changed.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) ready: bool,
    pub(super) finished: Vec<JobId>,
    pub(super) cancels: Vec<JobId>,
}

/// A job, and what is known of it besides.
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) claims: u32,
    pub(super) lane: usize,
    pub(super) keep_until: Option<i64>,
    /// Whether it has its unique key.
    pub(super) has_key: bool,
}

/// A queue's jobs of one rate limit.
pub(super) struct Lane {
    pub(super) queue: String,
    pub(super) rate: Option<String>,
    pub(super) queued: BTreeSet<(Reverse<i32>, i64)>,
    pub(super) running: usize,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

/// All of it.
pub(super) struct State {
    pub(super) options: MemoryOptions,
    pub(super) closed: bool,
    /// The wall clock at the beginning of the call.
    pub(super) now: i64,
    /// The steady clock at the beginning of the call.
    pub(super) steady: i64,
    pub(super) effects: Effects,
    pub(super) last_seq: i64,
    last_worker: i64,
    pub(super) jobs: BTreeMap<i64, Entry>,
    pub(super) ids: HashMap<JobId, i64>,
    pub(super) lanes: Vec<Lane>,
    pub(super) scheduled: BTreeSet<(i64, i64)>,
    pub(super) kept: BTreeSet<(i64, i64)>,
    pub(super) keys: HashMap<String, i64>,
    pub(super) waiting: HashMap<JobId, BTreeSet<i64>>,
    /// By group: those that wait for it, or did, as long as they are there.
    pub(super) dependents: HashMap<JobId, BTreeSet<i64>>,
    /// By group: how many are not finished, how many did not succeed, how many are there.
    pub(super) groups: HashMap<JobId, (i64, i64, i64)>,
    pub(super) workers: BTreeMap<WorkerId, (WorkerInfo, BTreeSet<i64>)>,
    pub(super) queues: BTreeMap<String, QueueSettings>,
    pub(super) rates: HashMap<String, (Rate, i64)>,
    pub(super) ticks: BTreeMap<String, i64>,
    pub(super) once: HashMap<String, (Vec<u8>, i64)>,
    pub(super) log: VecDeque<LogEntry>,
    pub(super) acknowledged: u64,
    /// What the thread waits for, by the steady clock.
    pub(super) waited_for: Option<i64>,
    /// Up to which time of day the thread told of what is due.
    pub(super) told_until: i64,
}

impl State {
    pub(super) fn new(options: MemoryOptions) -> Self {
        State {
            options,
            closed: false,
            now: 0,
            steady: 0,
            effects: Effects::default(),
            last_seq: 0,
            last_worker: 0,
            jobs: BTreeMap::new(),
            ids: HashMap::new(),
            lanes: Vec::new(),
            scheduled: BTreeSet::new(),
            kept: BTreeSet::new(),
            keys: HashMap::new(),
            waiting: HashMap::new(),
            dependents: HashMap::new(),
            groups: HashMap::new(),
            workers: BTreeMap::new(),
            queues: BTreeMap::new(),
            rates: HashMap::new(),
            ticks: BTreeMap::new(),
            once: HashMap::new(),
            log: VecDeque::new(),
            acknowledged: 0,
            waited_for: None,
            told_until: 0,
        }
    }

    pub(super) fn look_at_clock(&mut self) {
        (self.now, self.steady) = (self.options.clock.wall(), self.options.clock.steady());
        // A clock that was set back makes what is due later than now again.
        self.told_until = self.told_until.min(self.now);
    }

    pub(super) fn lane(&mut self, queue: &str, rate: Option<&str>) -> usize {
        let known = self
            .lanes
            .iter()
            .position(|lane| lane.queue == queue && lane.rate.as_deref() == rate);
        known.unwrap_or_else(|| {
            self.lanes.push(Lane {
                queue: queue.to_owned(),
                rate: rate.map(ToOwned::to_owned),
                queued: BTreeSet::new(),
                running: 0,
                succeeded: 0,
                failed: 0,
            });
            self.lanes.len() - 1
        })
    }

    /// Takes a job out of the indexes of its status.
    pub(super) fn unindex(&mut self, seq: i64) {
        let Some(entry) = self.jobs.get_mut(&seq) else {
            return;
        };
        let job = &mut entry.job;
        match job.status {
            Status::Queued => drop(
                self.lanes[entry.lane]
                    .queued
                    .remove(&(Reverse(job.priority), seq)),
            ),
            Status::Scheduled => drop(self.scheduled.remove(&(job.eta.unwrap_or(0), seq))),
            Status::Running => {
                self.lanes[entry.lane].running -= 1;
                if let Some((_, jobs)) = job.worker.take().and_then(|worker| self.workers.get_mut(&worker)) {
                    jobs.remove(&seq);
                }
            }
            Status::Waiting => {
                if let Some(waiting) = job.waits_for.and_then(|group| self.waiting.get_mut(&group)) {
                    waiting.remove(&seq);
                }
            }
            _ => {}
        }
        if let Some(until) = entry.keep_until.take() {
            self.kept.remove(&(until, seq));
        }
    }

    /// Gives a job another status. Its worker and its eta, where they matter to it, were set before.
    pub(super) fn move_to(&mut self, seq: i64, status: Status) {
        self.unindex(seq);
        self.index(seq, status);
    }

    /// Puts a job that is in no index into those of a status.
    pub(super) fn index(&mut self, seq: i64, status: Status) {
        let Some(entry) = self.jobs.get_mut(&seq) else {
            return;
        };
        let job = &mut entry.job;
        job.status = status;
        match status {
            Status::Queued => {
                self.lanes[entry.lane].queued.insert((Reverse(job.priority), seq));
                self.effects.ready = true;
            }
            Status::Scheduled => {
                self.scheduled.insert((job.eta.unwrap_or(0), seq));
                // Whoever waits for a time may have to wait less long.
                self.effects.ready = true;
            }
            Status::Running => self.lanes[entry.lane].running += 1,
            Status::Waiting => {
                if let Some(group) = job.waits_for {
                    self.waiting.entry(group).or_default().insert(seq);
                }
            }
            _ => {}
        }
    }

    pub(super) fn register(&mut self, name: &str) -> WorkerId {
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        let info = WorkerInfo {
            id,
            name: name.to_owned(),
            pid: std::process::id(),
            since: self.now,
            running: 0,
        };
        self.workers.insert(id, (info, BTreeSet::new()));
        id
    }

    pub(super) fn workers(&self) -> Vec<WorkerInfo> {
        let info = |(info, jobs): &(WorkerInfo, BTreeSet<i64>)| WorkerInfo {
            running: jobs.len() as u64,
            ..info.clone()
        };
        self.workers.values().map(info).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let mut queues: BTreeMap<&str, QueueStats> = BTreeMap::new();
        for lane in &self.lanes {
            let stats = queues.entry(&lane.queue).or_default();
            stats.succeeded += lane.succeeded;
            stats.failed += lane.failed;
        }
        for entry in self.jobs.values() {
            let stats = queues.entry(&entry.job.queue).or_default();
            stats.jobs[entry.job.status.number() as usize] += 1;
            if entry.job.status == Status::Queued {
                let at = entry.job.enqueued_at;
                stats.oldest = Some(stats.oldest.map_or(at, |oldest| oldest.min(at)));
            }
        }
        for (queue, settings) in &self.queues {
            queues.entry(queue).or_default().settings = *settings;
        }
        let named = queues.into_iter().map(|(queue, stats)| QueueStats {
            queue: queue.to_owned(),
            ..stats
        });
        Stats {
            queues: named.collect(),
        }
    }

    /// When something may be claimed that may not be now, if nothing else happens; by the steady clock.
    pub(super) fn next_time(&self) -> Option<i64> {
        // What was told of and not claimed waits for whoever claims next.
        let due = self
            .scheduled
            .range((self.told_until.saturating_add(1), i64::MIN)..)
            .next();
        let due = due.map(|(eta, _)| self.steady + (eta - self.now).max(0));
        let room = self
            .lanes
            .iter()
            .filter(|lane| !lane.queued.is_empty())
            .filter_map(|lane| {
                let (rate, full_at) = self.rates.get(lane.rate.as_ref()?)?;
                Some(rate.next(*full_at, self.steady)).filter(|next| *next > self.steady)
            });
        room.chain(due).min()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::job::NewJob;

    #[test]
    fn a_clock_set_back_does_not_silence_what_is_due_before_the_old_time() {
        let clock = Arc::new(ManualClock::new(5000));
        let mut state = State::new(MemoryOptions {
            clock: clock.clone(),
            ..MemoryOptions::default()
        });
        state.look_at_clock();
        state.told_until = state.now;
        clock.set_wall(1000);
        state.look_at_clock();
        let eta = Some(2000);
        state
            .enqueue(NewJob {
                eta,
                ..NewJob::new("a", "q", "")
            })
            .unwrap();
        assert_eq!(state.next_time(), Some(state.steady + 1000));
    }
}
